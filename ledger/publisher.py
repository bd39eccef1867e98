"""Signs checkpoints of a log, and keeps on disk what was signed last.

Decides whether a database may go on: it must hold everything that was ever signed, with the same
root. Decides what readers are shown: the newest checkpoint that is on disk and, where a quorum of
witnesses is required, cosigned by it.
Does not decide which entries there are, nor when to publish: `ledger.log` does.

A checkpoint goes to disk before anybody sees it. So the file never lags behind what was shown, and
a database restored from an older backup is found out at the start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ledger import checkpoint as checkpoints
from ledger import durable, note
from ledger.checkpoint import Checkpoint
from ledger.errors import CosigningError, LedgerError, LogError
from ledger.keys import SigningKey
from ledger.manifest import SUCCESSION, numbered_path
from ledger.merkle import Tree
from ledger.succession import Succession, lineage, signer

CHECKPOINT_FILE = "checkpoint"
# The newest checkpoint with its cosignatures; kept where a quorum is required.
COSIGNED_FILE = "cosigned"

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
        self.successions = _kept_successions(folder)
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
            shown = self._open(data, self._cosigned)
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
        _, head = self._newest(texts)
        succession = Succession(head, self._key.verify_key, new.verify_key)
        signed = succession.sign(new, self._key)
        # From here on the old key signs nothing, whoever starts the log with it.
        path = self._folder / numbered_path(SUCCESSION, len(self.successions))
        durable.replace(path, signed)
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
        newest, signed = self._newest(texts)
        self._refuse_other(signed, tree, path)
        self._slots.keep(newest)

    def _newest(self, texts: Sequence[bytes]) -> tuple[bytes, Checkpoint]:
        """Return the newest text that the log signed.

        One of two may be torn: the power went out before it was shown to anybody.
        """
        found: list[tuple[int, bytes, Checkpoint]] = []
        problem: LogError | None = None
        for text in texts:
            try:
                signed = self._open(text, self._slots.path)
            except LogError as error:
                # Said of what is there rather than of a place that was never written.
                problem = error if text or problem is None else problem
            else:
                found.append((signed.size, text, signed))
        if not found:
            raise problem or LogError
        _, text, signed = max(found, key=lambda item: item[0])
        return text, signed

    def _open(self, data: bytes, path: Path) -> Checkpoint:
        try:
            opened = note.open_note(data, [tenure.key for tenure in self._keys])
            found = checkpoints.parse(opened.text)
            signer(found, opened.verified, self._keys)
        except LedgerError as error:
            raise LogError(f"{path} is not a checkpoint of this log's key: {error}") from error
        return found

    def _refuse_other(self, signed: Checkpoint, tree: Tree, path: Path) -> None:
        if signed.size > tree.size:
            raise LogError(
                f"the database has {tree.size} entries, but {signed.size} were signed "
                f"({path}): it was restored from an older backup. Restore the newest one; "
                "signing again would make a second history"
            )
        if tree.root(signed.size) != signed.root:
            raise LogError(f"the database does not match the checkpoint signed in {path}")


def _kept_successions(folder: Path) -> tuple[bytes, ...]:
    found: list[bytes] = []
    while (path := folder / numbered_path(SUCCESSION, len(found))).is_file():
        found.append(path.read_bytes())
    return tuple(found)
