"""Intersects ids with another party's through the sidecar: RR22, semi-honest, two parties.

What it decides: what is handed to the sidecar's program, which address may be used, how long it may
take, and what its answer means. What it does not: who may intersect with whom, how often, and how
small a set may be; that stands in signed terms, since an intersection answers guesses.

The program never sees an id. Each one goes through SHA-256 under the context, cut to 144 bits, and
the set is handed over in the order of these digests, so that no place in it tells of a row. One
random element is added: SPU sends a hash of the whole set to the other party to see whether both
are equal, and without it a small set could be guessed from that hash.

    sidecar = Sidecar(SidecarSettings.load())
    own = LinkKey.make(now=datetime.now(UTC))         # its certificate goes to the other party
    meeting = Meeting(rank=0, addresses=("127.0.0.1:7001", "127.0.0.1:7002"), context=b"job:…")
    found = sidecar.intersect(ids, meeting, own, their_certificate)
    [ids[place] for place in found.places]

Source: Raghuraman and Rindal, "Blazing Fast PSI from Improved OKVS and Subfield VOLE", CCS 2022.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from base64 import urlsafe_b64encode
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from federated.errors import (
    IdsError,
    PeerDisagreesError,
    PeerMissingError,
    SidecarError,
    SidecarVersionError,
    WorkerDiedError,
)
from federated.sidecar.installation import WORKER, Installation
from federated.sidecar.link_key import LinkKey, read_certificate
from federated.sidecar.lock import Lock
from federated.sidecar.process import WorkerProcess
from federated.sidecar.settings import SidecarSettings
from privacy.secure_random import random_bytes

NAMESPACE: Final = b"rongshu/sidecar/intersection/v1"
DIGEST_BYTES: Final = 18
"""A multiple of three, so that base64 needs no padding. SPU itself goes on with 128 bits of it."""

_TEXT_BYTES: Final = 24

MOST_IDS: Final = 100_000_000
_GRACE_SECONDS: Final = 5
_PORTS: Final = range(1024, 65536)
# SPU hands this path to a shell, unquoted.
_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9/._-]+")

Receivers = Literal["both", 0, 1]
Digests = NDArray[np.uint8]


@dataclass(frozen=True)
class Meeting:
    """What both parties must mean alike, and which of the two this one is.

    Attributes:
        rank: 0 or 1.
        addresses: IPv4 address and port of either party's sidecar, in the order of ranks.
        context: names the intersection, e.g. the job's id; digests of another one never match.
        receivers: who learns the intersection: both, or the party of one rank.

    Raises:
        SidecarError: a value that cannot be meant.
    """

    rank: int
    addresses: tuple[str, str]
    context: bytes
    receivers: Receivers = "both"

    def __post_init__(self) -> None:
        if self.rank not in (0, 1) or self.receivers not in ("both", 0, 1):
            raise SidecarError("an intersection has the two parties 0 and 1")
        if len(self.addresses) != 2 or self.addresses[0] == self.addresses[1]:
            raise SidecarError("an intersection needs the addresses of its two parties")
        for address in self.addresses:
            port = address.rpartition(":")[2]
            if not (port.isascii() and port.isdigit() and len(port) < 6 and int(port) in _PORTS):
                raise SidecarError(f"{address[:60]!r} has no port from 1024 to 65535")

    @property
    def receives(self) -> bool:
        """Whether this party learns the intersection."""
        return self.receivers in ("both", self.rank)


@dataclass(frozen=True)
class Intersection:
    """What came of it.

    Attributes:
        places: which of this party's ids the other one has too, ascending; None where this party
            does not receive it.
        ids: how many this party had.
        peer_ids: how many the other party says that it had.
        version: of SPU.
    """

    places: tuple[int, ...] | None = field(repr=False)
    ids: int
    peer_ids: int
    version: str


@dataclass(frozen=True)
class Sidecar:
    """SPU in its own environment, as one node uses it."""

    settings: SidecarSettings

    def available(self) -> str | None:
        """Return SPU's version where the sidecar is ready to work, None where it is not."""
        try:
            return self._installation().version()
        except SidecarError:
            return None

    def intersect(
        self, ids: Sequence[str], meeting: Meeting, own: LinkKey, peer_certificate: bytes
    ) -> Intersection:
        """Intersect with the other party, which does the same at the same time.

        Args:
            ids: this party's set, in any order.
            meeting: what both mean alike.
            own: a fresh key; the other party has its certificate.
            peer_certificate: the other party's, from a channel that is authentic.

        Raises:
            IdsError: no set; nothing was started.
            SidecarMissingError: the sidecar is not installed.
            SidecarVersionError: it, or the other party's, is another version.
            PeerMissingError: the other party is not there, left, or is somebody else.
            PeerDisagreesError: it means another intersection.
            SidecarTimeoutError: it takes longer than the settings allow.
            WorkerDiedError: the program ended, perhaps for lack of memory.
            SidecarError: an address that the settings do not name.
        """
        check_ids(ids)
        for address in meeting.addresses:
            if address.rpartition(":")[0] not in self.settings.hosts:
                raise SidecarError(
                    f"{address} is not at an address that this node's operator named "
                    "(RONGSHU_SIDECAR_HOSTS)"
                )
        peer = read_certificate(peer_certificate)
        if peer == own.certificate:
            raise SidecarError("the other party's certificate is this party's own")
        version = self._installation().version()
        with _private_folder() as folder:
            for name, data in (("own.pem", own.certificate), ("peer.pem", peer)):
                _write(folder / name, data)
            _write(folder / "own.key", own.private)
            return self._run(folder, ids, meeting, version)

    def _installation(self) -> Installation:
        return Installation(self.settings.folder, Lock.shipped())

    def _run(
        self, folder: Path, ids: Sequence[str], meeting: Meeting, version: str
    ) -> Intersection:
        settings = self.settings
        command = [str(self._installation().python), "-I", str(WORKER)]
        with WorkerProcess(command, folder, seconds=settings.seconds) as worker:
            worker.write(_task(meeting, ids=len(ids), settings=settings))
            # While the two programs find each other, the ids are made ready.
            digests = digest_ids(ids, meeting.context)
            _write(folder / "ids.csv", as_csv(digests))
            _expect(worker.read(settings.peer_seconds, PeerMissingError), "linked")
            worker.write("go")
            last = worker.read()
            received = meeting.receives and last.get("event") == "done"
            places = read_places(digests, _read(folder / "found.csv")) if received else None
            # Whatever the outcome: the other party's program may still need the last words of
            # this one, and would wait for them until its time is over.
            worker.finish(_GRACE_SECONDS)
        done = _expect(last, "done")
        return Intersection(places, len(ids), _count(done), version)


def check_ids(ids: Sequence[str]) -> None:
    """Refuse what is no set of ids; a message names a place and never an id.

    Raises:
        IdsError: no id, too many, an empty one, one of several lines, or one that occurs twice.
    """
    if not 0 < len(ids) <= MOST_IDS:
        raise IdsError(f"{len(ids)} ids: an intersection needs from 1 to {MOST_IDS}")
    if not (all(ids) and all(map(str.isprintable, ids))):
        for place, each in enumerate(ids):
            if not each or "\n" in each or "\r" in each:
                raise IdsError(f"the id in place {place} is empty or has more than one line")
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        for place, each in enumerate(ids):
            if each in seen:
                raise IdsError(f"the id in place {place} occurs twice")
            seen.add(each)


def digest_ids(ids: Sequence[str], context: bytes) -> Digests:
    """Return the digest of each id under the context, in the ids' order.

    Returns:
        Bytes, shape (ids, DIGEST_BYTES).

    Raises:
        IdsError: an id that is no text; the message names its place.
    """
    start = hashlib.sha256(NAMESPACE + hashlib.sha256(context).digest()).digest()
    sha256 = hashlib.sha256
    try:
        whole = b"".join([sha256(start + each.encode()).digest() for each in ids])
    except UnicodeEncodeError:
        place = next(place for place, each in enumerate(ids) if not _is_text(each))
        raise IdsError(f"the id in place {place} is no text that can be written") from None
    return np.frombuffer(whole, np.uint8).reshape(len(ids), -1)[:, :DIGEST_BYTES].copy()


def as_csv(digests: Digests) -> bytes:
    """One column, in the order of digests, with one random element that hides the whole set."""
    blind = np.frombuffer(random_bytes(DIGEST_BYTES), np.uint8)
    rows = np.concatenate([digests, blind[np.newaxis]])
    rows = rows[np.argsort(_beginnings(rows))]
    text = np.frombuffer(b2a_base64(rows.tobytes(), newline=False), np.uint8)
    lines = np.full((len(rows), _TEXT_BYTES + 1), ord("\n"), np.uint8)
    lines[:, :-1] = text.reshape(len(rows), _TEXT_BYTES)
    return b"id\n" + lines.tobytes()


def read_places(digests: Digests, found: bytes) -> tuple[int, ...]:
    """Read from the program's answer which digests it found.

    Returns:
        Their places, ascending.

    Raises:
        WorkerDiedError: its answer is no part of what it was asked.
    """
    header, _, body = found.replace(b'"', b"").partition(b"\n")
    lines = body.split()
    if header != b"id" or any(len(line) != _TEXT_BYTES for line in lines):
        raise WorkerDiedError("the sidecar's answer cannot be read")
    try:
        raw = a2b_base64(b"".join(lines), strict_mode=bool(lines))
    except ValueError as error:
        raise WorkerDiedError from error
    matched = np.frombuffer(raw, np.uint8).reshape(-1, DIGEST_BYTES)
    places = np.flatnonzero(np.isin(_beginnings(digests), _beginnings(matched)))
    if len(places) != len(matched):
        # Two ids of one beginning, about once in 2^20 sets of a million: the whole decides.
        wanted = {bytes(row) for row in matched}
        places = np.array([n for n, row in enumerate(digests) if bytes(row) in wanted], np.int64)
    if len(places) != len(matched):
        raise WorkerDiedError("the sidecar's answer is not a part of the ids that it was given")
    return tuple(places.tolist())


def _beginnings(digests: Digests) -> NDArray[np.uint64]:
    return np.ascontiguousarray(digests[:, :8]).view(np.uint64).ravel()


def _is_text(each: str) -> bool:
    try:
        each.encode()
    except UnicodeEncodeError:
        return False
    return True


def _task(meeting: Meeting, *, ids: int, settings: SidecarSettings) -> dict[str, object]:
    context = urlsafe_b64encode(hashlib.sha256(meeting.context).digest()).decode()
    return {
        "rank": meeting.rank,
        "addresses": list(meeting.addresses),
        "receiver": 0 if meeting.receivers == "both" else meeting.receivers,
        "both": meeting.receivers == "both",
        "context": context,
        "ids": ids,
        "seconds": settings.seconds,
        "memory_mb": settings.memory_mb,
    }


def _expect(event: dict[str, object], wanted: str) -> dict[str, object]:
    """Return the event that is due.

    Raises:
        SidecarError: another one came; its kind says why.
    """
    if event.get("event") == wanted:
        return event
    reasons = {
        "peer_missing": PeerMissingError,
        "peer_lost": PeerMissingError,
        "peer_disagrees": PeerDisagreesError,
        "other_version": SidecarVersionError,
    }
    raise reasons.get(str(event.get("reason")), WorkerDiedError)


def _count(done: dict[str, object]) -> int:
    count = done.get("peer_ids")
    if type(count) is not int or not 0 < count <= MOST_IDS:
        raise PeerDisagreesError("the other party says no number of ids that can be meant")
    return count


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WorkerDiedError("the sidecar says that it is done, and left no answer") from error


def _write(path: Path, data: bytes) -> None:
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(data)


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Make a folder of our own and remove it with everything in it, whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix="rongshu-sidecar-"))
    try:
        if not _PLAIN_PATH.fullmatch(str(folder)):
            raise SidecarError(
                "the folder for temporary files has a name that SPU cannot use: set TMPDIR to one "
                "of letters, digits and . _ - alone"
            )
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
