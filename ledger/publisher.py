"""Signs checkpoints of a log, and keeps on disk what was signed last.

Decides whether a database may go on: it must hold everything that was ever signed, with the same
root. Decides what readers are shown: the newest checkpoint that is on disk and, where a quorum of
witnesses is required, cosigned by it.
Does not decide which entries there are, nor when to publish: `ledger.log` does.

A checkpoint goes to disk before anybody sees it. So the file never lags behind what was shown, and
a database restored from an older backup is found out at the start.

    with only_writer(folder):                    # nobody else signs into this folder meanwhile
        log = Log(engine, key, folder, clock)
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ledger import checkpoint as checkpoints
from ledger import durable, note
from ledger.checkpoint import Checkpoint
from ledger.errors import CosigningError, LedgerError, LogError, NoteError
from ledger.keys import SigningKey, VerifyKey
from ledger.manifest import SUCCESSION, numbered_path
from ledger.merkle import Tree
from ledger.succession import Succession, Tenure, lineage, signer, split_unverified

CHECKPOINT_FILE = "checkpoint"
# The newest checkpoint with its cosignatures; kept where a quorum is required.
COSIGNED_FILE = "cosigned"
LOCK_FILE = "lock"

Cosign = Callable[[bytes, Tree], bytes]


class Publisher:
    """What a log shows.

    Args:
        key: the log's key; its name is the log's origin.
        folder: where the newest signed checkpoint is kept, apart from the database; and the
            successions of the log's key, in `succession/NNN`.
        cosign: see `ledger.log.Log`.

    Attributes:
        checkpoint: the shown checkpoint; empty before the first one.
        size: number of entries that it covers.
        trouble: why the newest checkpoint is not cosigned; None where it is.
        successions: every change of the log's key, signed.

    Raises:
        LogError: the key was retired, or a succession is damaged.
    """

    def __init__(self, key: SigningKey, folder: Path, cosign: Cosign | None) -> None:
        self._key = key
        self._cosign = cosign
        self._slots = durable.Slots(folder / CHECKPOINT_FILE)
        self._cosigned = folder / COSIGNED_FILE
        self.checkpoint = b""
        self.size = 0
        self.trouble: str | None = None
        self._folder = folder
        self._retired = False
        self.successions = kept_successions(folder)
        try:
            self._keys = lineage(key.verify_key, self.successions)
        except LedgerError as error:
            raise LogError(f"{folder / SUCCESSION}: {error}") from error

    @property
    def is_cosigned(self) -> bool:
        """Whether what is shown needs the quorum of witnesses."""
        return self._cosign is not None

    def resume(self, tree: Tree) -> None:
        """Take up what was signed before.

        Raises:
            LogError: the database is older than that, or does not match it.
        """
        self._refuse_rollback(tree)
        for tenure in self._keys:
            if tenure.last is not None:
                self._refuse_other(tenure.last, tree, self._folder / SUCCESSION)
        if self._cosign is not None and self._cosigned.exists():
            # Witnesses may be silent now; they were not when this one was shown.
            data = self._cosigned.read_bytes()
            shown = _opened(data, self._cosigned, self._keys)
            self._refuse_other(shown, tree, self._cosigned)
            self.checkpoint, self.size = data, shown.size

    def publish(self, tree: Tree, size: int) -> None:
        """Sign and show the first `size` entries of the tree, all of which must be durable.

        Without its quorum the older checkpoint stays: `trouble` says why.

        Raises:
            OSError: the disk refuses; nothing new was shown.
            LogError: the key was retired.
        """
        if self._retired:
            raise LogError("this key was retired: start the log anew with the next one")
        current = Checkpoint(self._key.name, size, tree.root(size))
        signed = checkpoints.sign(current, self._key)
        self._slots.write(signed)
        # A crash here is harmless: nobody has seen this checkpoint, and the next start signs the
        # same size and root again.
        if self._cosign is not None:
            try:
                signed = self._cosign(signed, tree)
            except CosigningError as error:
                # Harmless: the entries are durable, and readers keep the older checkpoint.
                self.trouble = str(error)
                return
            # Kept, so that a restart while witnesses are silent has something to show.
            durable.replace(self._cosigned, signed)
            self.trouble = None
        self.checkpoint, self.size = signed, current.size

    def hand_over(self, new: SigningKey) -> bytes:
        """Name the log's next key and sign nothing more; return the succession.

        Raises:
            NoteError: the new key is not of this log, or the same.
            LogError: nothing was signed yet, or the key was retired before.
            OSError: the disk refuses; the key stays in office.
        """
        texts = self._slots.read()
        if self._retired or not texts:
            raise LogError("only a key that signs, and has signed, can name its successor")
        _, head = _newest(texts, self._slots.path, self._keys)
        succession = Succession(head, self._key.verify_key, new.verify_key)
        signed = succession.sign(new, self._key)
        _keep_succession(self._folder, signed, len(self.successions))
        self._retired = True
        self.successions += (signed,)
        return signed

    def _refuse_rollback(self, tree: Tree) -> None:
        path, texts = self._slots.path, self._slots.read()
        if not texts:
            if tree.size == 0:
                return
            # A log signs its empty tree before its first entry, so the file was there once.
            raise LogError(
                f"the database has {tree.size} entries, but {path} is missing, so nobody "
                "can tell whether the database is the newest. Put the newest checkpoint there: "
                "every reader of the log has a copy"
            )
        newest, signed = _newest(texts, path, self._keys)
        self._refuse_other(signed, tree, path)
        self._slots.keep(newest)

    def _refuse_other(self, signed: Checkpoint, tree: Tree, path: Path) -> None:
        if signed.size > tree.size:
            raise LogError(
                f"the database has {tree.size} entries, but {signed.size} were signed "
                f"({path}): it was restored from an older backup. Restore the newest one; "
                "signing again would make a second history"
            )
        if tree.root(signed.size) != signed.root:
            raise LogError(f"the database does not match the checkpoint signed in {path}")


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder of a log, so that no other process signs for the log or changes its key.

    Raises:
        LogError: another one holds it.
        OSError: the folder cannot be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise LogError(
            f"another process writes to the log of {folder}; stop one of them and start again"
        ) from error
    finally:
        os.close(descriptor)


def kept_successions(folder: Path) -> tuple[bytes, ...]:
    """Return every change of the key of the log in a folder, signed; none of them is verified."""
    found: list[bytes] = []
    while (path := folder / numbered_path(SUCCESSION, len(found))).is_file():
        found.append(path.read_bytes())
    return tuple(found)


def succession_of(folder: Path, old: VerifyKey) -> Succession | None:
    """Return the change that retired a key of the log in a folder; None while it signs.

    Raises:
        NoteError: a succession is damaged.
    """
    found = (split_unverified(data) for data in kept_successions(folder))
    return next((item for item in found if item.old == old), None)


def recover(folder: Path, old: VerifyKey, new: SigningKey, by: Sequence[SigningKey]) -> bytes:
    """Name the next key of a log that stands still, by its recovery key; return the succession.

    It goes on from the newest checkpoint in the folder, which the old key signed.

    Args:
        folder: see `Publisher`; the caller holds it (`only_writer`).
        old: the key that is lost or stolen.
        new: the next one.
        by: the recovery key and, where it is at hand, the old one.

    Raises:
        LogError: the key was retired before, or signed no checkpoint in this folder.
        NoteError: a key is not of this log, or the new one signs for itself.
        OSError: the disk refuses; nothing changed.
    """
    for key in by:
        if key.name != old.name:
            raise NoteError(
                f"a recovery key bears its log's name, {old.name[:80]!r}, and this one's is "
                f"{key.name[:80]!r}"
            )
    notes = kept_successions(folder)
    slots = durable.Slots(folder / CHECKPOINT_FILE)
    try:
        known = lineage(old, notes)
    except LedgerError as error:
        raise LogError(f"{folder / SUCCESSION}: {error}") from error
    texts = slots.read()
    if not texts:
        raise LogError(f"{slots.path} is missing: only a log that has signed changes its key")
    _, head = _newest(texts, slots.path, known)
    signed = Succession(head, old, new.verify_key).sign(new, *by)
    _keep_succession(folder, signed, len(notes))
    return signed


def _keep_succession(folder: Path, signed: bytes, number: int) -> None:
    # From here on the old key signs nothing, whoever starts the log with it.
    durable.replace(folder / numbered_path(SUCCESSION, number), signed)


def _newest(
    texts: Sequence[bytes], path: Path, known: Sequence[Tenure]
) -> tuple[bytes, Checkpoint]:
    """Return the newest text that the log signed.

    One of two may be torn: the power went out before it was shown to anybody.
    """
    found: list[tuple[int, bytes, Checkpoint]] = []
    problem: LogError | None = None
    for text in texts:
        try:
            signed = _opened(text, path, known)
        except LogError as error:
            # Said of what is there rather than of a place that was never written.
            problem = error if text or problem is None else problem
        else:
            found.append((signed.size, text, signed))
    if not found:
        raise problem or LogError
    _, text, signed = max(found, key=lambda item: item[0])
    return text, signed


def _opened(data: bytes, path: Path, known: Sequence[Tenure]) -> Checkpoint:
    try:
        opened = note.open_note(data, [tenure.key for tenure in known])
        found = checkpoints.parse(opened.text)
        signer(found, opened.verified, known)
    except LedgerError as error:
        raise LogError(f"{path} is not a checkpoint of this log's key: {error}") from error
    return found
