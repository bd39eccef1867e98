"""A witness: it cosigns each log's newest tree head once it extends the last one (tlog-witness).

    witness = Witness(Path("witness"), clock=lambda: int(time.time()))
    lines = witness.add_checkpoint(body)        # cosignature lines, or WitnessError with a status

A request is unverified bytes, and is held against these rules in this order; `decide` is the pure
part, and the first rule that is broken names the answer:

1. the request is well formed (400);
2. its origin is one of the logs that this witness knows (404);
3. a key of that log signed the checkpoint (403);
4. the old size is not beyond the new one (400);
5. the old size is the one that this witness cosigned last (409, with that size);
6. at equal size the root is the same one (409; else the fork proof is kept, `ledger.fork`);
7. the consistency proof leads from the old root to the new one (422).

Then the new head is made durable, *and only then* cosigned: a crash in between costs an answer and
never a second root. Reading, deciding and writing happen under one lock for each log, which holds
between processes too.

Below the witness's folder: `cosigner.key` and `cosigner-mldsa.key` (0600, one or both), `logs/`
with the verifier keys of each log it knows, `state/` with the head it cosigned last, and `forks/`.
A folder restored from a backup has forgotten what it cosigned since: make a new witness instead.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ledger import checkpoint as checkpoints
from ledger import durable
from ledger.checkpoint import Checkpoint
from ledger.cosignature import MAX_TIME, cosign, verify_cosignature
from ledger.encoding import b64decode, b64encode
from ledger.errors import (
    EncodingError,
    InvalidKeyError,
    LedgerError,
    NoteError,
    ProofError,
    WitnessError,
)
from ledger.fork import compare
from ledger.keys import (
    COSIGNATURE_ED25519,
    COSIGNATURE_MLDSA,
    CosignatureKey,
    CosigningKey,
    VerifyKey,
)
from ledger.merkle import EMPTY_ROOT, HASH_BYTES, MAX_SIZE, verify_consistency
from ledger.note import split_unverified

PATH = "/add-checkpoint"
"""Where a witness is asked, below its address."""

SIZE_TYPE = "text/x.tlog.size"
"""Media type of the size that comes with status 409."""

MAX_REQUEST = 1 << 16
"""Longest request, bytes; one of 63 hashes and a checkpoint with some twenty signatures fits."""

MAX_PROOF = 63
KEY_FILES = {COSIGNATURE_ED25519: "cosigner.key", COSIGNATURE_MLDSA: "cosigner-mldsa.key"}

_STATE = "rongshu/witness-state/v1"
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")
_TIME = re.compile(r"0|[1-9][0-9]{0,18}")
# Only the log's own key makes another one of these; still, a disk is not filled for it.
_MOST_FORKS = 16

LogKey = VerifyKey | CosignatureKey
"""A key that a log signs its checkpoints with: Ed25519, or ML-DSA-44 under the log's origin."""


@dataclass(frozen=True)
class Request:
    """A submitted checkpoint, nothing of it verified.

    Attributes:
        old: size that the log believes this witness cosigned last.
        proof: consistency proof from that size.
        signed: the checkpoint, a signed note.
    """

    old: int
    proof: tuple[bytes, ...]
    signed: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> Request:
        """Read the body of an `add-checkpoint` request.

        Raises:
            WitnessError: 400, it is outside the format.
        """
        head, separator, signed = data.partition(b"\n\n")
        if len(data) > MAX_REQUEST or not separator:
            raise WitnessError(400, "no old size, proof, blank line and checkpoint of a usual size")
        first, *lines = head.split(b"\n")
        found = _OLD.fullmatch(first.decode("ascii", "replace"))
        if found is None or int(found[1]) > MAX_SIZE:
            raise WitnessError(400, "line 1 does not read `old`, a space and a size")
        if len(lines) > MAX_PROOF:
            raise WitnessError(400, f"{len(lines)} lines of proof, more than {MAX_PROOF}")
        return cls(int(found[1]), tuple(_hash(line) for line in lines), signed)

    def to_bytes(self) -> bytes:
        """Write the body of an `add-checkpoint` request."""
        lines = [f"old {self.old}", *(b64encode(each) for each in self.proof), "", ""]
        return "\n".join(lines).encode() + self.signed


@dataclass(frozen=True)
class Seen:
    """What a witness cosigned last of one log.

    Attributes:
        head: the tree head; None before the first one.
        signed: its note, as the log signed it.
        time: Unix seconds of the last cosignature.
    """

    head: Checkpoint | None = None
    signed: bytes = b""
    time: int = 0

    @property
    def size(self) -> int:
        """Number of entries, 0 before the first checkpoint."""
        return self.head.size if self.head else 0

    @property
    def root(self) -> bytes:
        """Root of the tree of that size."""
        return self.head.root if self.head else EMPTY_ROOT

    def to_bytes(self) -> bytes:
        """Write the file that rests in `state/`."""
        return f"{_STATE}\n{self.time}\n".encode() + self.signed


def decide(request: Request, head: Checkpoint, seen: Seen) -> None:
    """Return only if a witness that saw `seen` may cosign `head`: rules 4 to 7.

    Args:
        request: old size and proof.
        head: the request's tree head, signed by the log's key.
        seen: what was cosigned last of the same origin.

    Raises:
        WitnessError: it may not; its status is the answer.
    """
    if request.old > head.size:
        raise WitnessError(400, f"old size {request.old} is beyond the checkpoint's {head.size}")
    if request.old != seen.size:
        raise WitnessError(409, f"cosigned last: {seen.size}", seen.size)
    if is_fork(head, seen):
        raise WitnessError(409, f"another root was cosigned for size {seen.size}", seen.size)
    if request.old == 0:
        if request.proof:
            raise WitnessError(422, "the consistency proof from the empty tree must be empty")
        return
    try:
        verify_consistency(request.old, head.size, request.proof, seen.root, head.root)
    except ProofError as error:
        raise WitnessError(422, str(error)) from None


def is_fork(head: Checkpoint, seen: Seen) -> bool:
    """Whether the log signed two roots for one size."""
    return seen.head is not None and head.size == seen.size and head.root != seen.root


def open_head(signed: bytes, keys: Sequence[LogKey]) -> Checkpoint:
    """Return the tree head only if one of the log's keys signed it.

    Raises:
        WitnessError: 403, none of them did.
        NoteError: the bytes are no checkpoint.
    """
    text, lines = split_unverified(signed)
    head = checkpoints.parse(text)
    for key in keys:
        for line in lines:
            if (line.name, line.key_id, key.name) == (key.name, key.key_id, head.origin):
                with suppress(LedgerError):
                    if isinstance(key, VerifyKey):
                        key.verify(text.encode(), line.signature)
                    else:
                        verify_cosignature(text, line, key)
                    return head
    raise WitnessError(403, "no key that is known of this log signed the checkpoint")


class Witness:
    """One cosigner over one folder; any number of threads and processes may share it.

    Args:
        folder: made by `create`.
        clock: returns Unix seconds.

    Raises:
        InvalidKeyError: a key file is missing or must not be used.
        WitnessError: the folder holds no witness.
    """

    def __init__(self, folder: Path, clock: Callable[[], int]) -> None:
        self._folder = folder
        self._clock = clock
        found = [folder / name for name in KEY_FILES.values() if (folder / name).exists()]
        if not found:
            raise WitnessError(500, f"{folder} holds no witness; `witness init` makes one")
        self._keys = tuple(CosigningKey.load(path) for path in found)

    @classmethod
    def create(cls, folder: Path, keys: Sequence[CosigningKey]) -> None:
        """Make the folder of a new witness.

        Raises:
            InvalidKeyError: there is a witness in it already, or it cannot be written.
        """
        if any((folder / name).exists() for name in KEY_FILES.values()):
            raise InvalidKeyError(f"{folder} holds a witness already; choose another folder")
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise InvalidKeyError(f"{folder} cannot be made: {error.strerror}") from None
        for key in keys:
            key.save(folder / KEY_FILES[key.algorithm])

    @property
    def keys(self) -> tuple[CosignatureKey, ...]:
        """The public keys that cosign, to be handed on."""
        return tuple(key.verify_key for key in self._keys)

    def trust(self, key: LogKey) -> None:
        """Cosign the log of this key from now on; a known log's further key is added to its first.

        Raises:
            WitnessError: the folder cannot be written.
        """
        path = self._path("logs", key.name)
        with self._locked(key.name):
            known = self.log_keys(key.name)
            if key in known:
                return
            # The state comes first: a known log without one would be taken for a lost one.
            state = self._path("state", key.name)
            if not known and not state.exists():
                self._replace(state, Seen().to_bytes())
            text = "".join(f"{each.text}\n" for each in (*known, key))
            self._replace(path, text.encode())

    def log_keys(self, origin: str) -> tuple[LogKey, ...]:
        """Return the keys that are known of a log; none when it is not known.

        Raises:
            WitnessError: 500, the file that holds them is damaged.
        """
        path = self._path("logs", origin)
        try:
            return tuple(read_log_key(line) for line in path.read_text().splitlines())
        except FileNotFoundError:
            return ()
        except (InvalidKeyError, ValueError) as error:
            raise WitnessError(500, f"{path}: {error}") from None

    def origins(self) -> list[str]:
        """Return the origins of all logs that are known, sorted."""
        names = set()
        for path in sorted((self._folder / "logs").glob("*.vkeys")):
            names |= {line.partition("+")[0] for line in path.read_text().splitlines()}
        return sorted(names)

    def seen(self, origin: str) -> Seen:
        """Return what was cosigned last of a known log.

        Raises:
            WitnessError: 500, its state is missing or damaged.
        """
        path = self._path("state", origin)
        try:
            return _read_state(path.read_bytes(), self.log_keys(origin))
        except (OSError, LedgerError) as error:
            # Taking this for a log never seen would cosign a second history.
            raise WitnessError(
                500, f"{path} is missing or damaged ({error}): make a new witness with a new key"
            ) from None

    def add_checkpoint(self, data: bytes) -> bytes:
        """Answer one request: return the cosignature lines, one for each key.

        Raises:
            WitnessError: nothing was cosigned; its status says why.
        """
        request = Request.from_bytes(data)
        try:
            origin = checkpoints.parse(split_unverified(request.signed)[0]).origin
            keys = self.log_keys(origin)
            if not keys:
                raise WitnessError(404, "this witness does not know the checkpoint's log")
            head = open_head(request.signed, keys)
        except NoteError as error:
            raise WitnessError(400, str(error)) from None
        with self._locked(origin):
            seen = self.seen(origin)
            if is_fork(head, seen):
                self._keep_fork(head, seen, request)
            decide(request, head, seen)
            # Not before the last one: at that moment a smaller tree was the newest.
            time = min(max(self._clock(), seen.time), MAX_TIME)
            self._replace(self._path("state", origin), Seen(head, request.signed, time).to_bytes())
        # From here the head is durable. A crash now costs the answer; asked again, it is given.
        try:
            return b"".join(cosign(request.signed, key, time) for key in self._keys)
        except NoteError as error:
            raise WitnessError(500, str(error)) from None

    def _keep_fork(self, head: Checkpoint, seen: Seen, request: Request) -> None:
        fork = compare((seen.signed, None), (request.signed, None))
        folder = self._folder / "forks"
        # The refusal stands, whatever the disk says to its proof.
        with suppress(OSError):
            folder.mkdir(exist_ok=True)
            if fork is not None and len(list(folder.iterdir())) < _MOST_FORKS:
                name = f"{_digest(head.origin)}-{head.size}-{head.root.hex()[:16]}.fork"
                durable.replace(folder / name, fork.to_bytes())

    def _path(self, kind: str, origin: str) -> Path:
        ending = {"logs": "vkeys", "state": "state", "lock": "lock"}[kind]
        folder = "state" if kind == "lock" else kind
        return self._folder / folder / f"{_digest(origin)}.{ending}"

    @contextmanager
    def _locked(self, origin: str) -> Iterator[None]:
        path = self._path("lock", origin)
        try:
            path.parent.mkdir(exist_ok=True)
            # Opened anew each time: the lock then holds between threads as between processes.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise WitnessError(500, f"{path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _replace(self, path: Path, data: bytes) -> None:
        try:
            durable.replace(path, data)
        except OSError as error:
            raise WitnessError(500, f"{path} cannot be written: {error.strerror}") from error


def read_log_key(text: str) -> LogKey:
    """Read a log's verifier key of either kind.

    Raises:
        InvalidKeyError: it is neither.
    """
    try:
        return VerifyKey.from_text(text)
    except InvalidKeyError as error:
        try:
            return CosignatureKey.from_text(text)
        except InvalidKeyError:
            raise error from None


def _read_state(data: bytes, keys: Sequence[LogKey]) -> Seen:
    heading, first, rest = data.partition(b"\n")
    time, second, signed = rest.partition(b"\n")
    written = time.decode("ascii", "replace")
    if heading != _STATE.encode() or not (first and second) or not _TIME.fullmatch(written):
        raise NoteError("not the state of a witness")
    return Seen(open_head(signed, keys) if signed else None, signed, int(written))


def _hash(line: bytes) -> bytes:
    try:
        found = b64decode(line.decode("ascii"))
    except (EncodingError, UnicodeDecodeError):
        found = b""
    if len(found) != HASH_BYTES:
        raise WitnessError(400, "a line of proof is not the base64 of 32 bytes")
    return found


def _digest(origin: str) -> str:
    # An origin is anybody's text; its hash is a file's name wherever it is written.
    return hashlib.sha256(origin.encode()).hexdigest()
