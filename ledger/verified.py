"""How far a log verified its own statements, kept so that a restart need not do it again.

    record = Record(folder, key)
    record.note(tree, size, broken)       # all signatures of the first `size` entries were verified
    known = record.read()                 # at the next start
    known.check(tree)                     # once the entries were read: they are the same

The record stands beside the newest checkpoint and bears the log's signature. So whoever can write
to the database, or restores a part of it, cannot have a statement believed that nobody verified.
An older record only lets more be verified again; so does none, and one of another key.

Text of the signed note, in `verified`:

    rongshu/verified/v1
    rongshu.local/log
    1024
    7lLw0XRq…=
    17 403

That is the heading; origin, size and root as in a checkpoint; and, where there are any, the indexes
of entries that break a rule, in order: these are looked at anew at every start.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ledger import checkpoint as checkpoints
from ledger import durable, note
from ledger.checkpoint import Checkpoint
from ledger.errors import LedgerError, LogError
from ledger.keys import SigningKey
from ledger.merkle import Tree

FILE = "verified"
HEADING = "rongshu/verified/v1"
MAX_BROKEN = 10_000
"""Most findings that are noted; a log with more of them verifies again what came after."""

_TEXT = re.compile(rf"{HEADING}\n((?:[^\n]+\n){{3}})(?:([0-9]+(?: [0-9]+)*)\n)?")


@dataclass(frozen=True)
class Verified:
    """What a log knows of its own entries.

    Attributes:
        head: the tree whose entries were verified; None where nothing is known.
        broken: indexes of those that break a rule.
    """

    head: Checkpoint | None = None
    broken: frozenset[int] = frozenset()

    @property
    def size(self) -> int:
        """How many entries were verified."""
        return 0 if self.head is None else self.head.size

    def vouches_for(self, index: int) -> bool:
        """Whether the signatures of an entry were verified and found right."""
        return index < self.size and index not in self.broken

    def check(self, tree: Tree) -> None:
        """Return only if the tree begins with the entries that were verified.

        Raises:
            LogError: it does not.
        """
        if self.head is None:
            return
        if self.size > tree.size or tree.root(self.size) != self.head.root:
            raise LogError(
                f"the database does not match the {self.size} entries that this log verified: it "
                "was changed, or restored from an older backup. Restore the newest one"
            )


class Record:
    """The newest note of a log about itself.

    Args:
        folder: where the log keeps its checkpoint.
        key: the log's.
    """

    def __init__(self, folder: Path, key: SigningKey) -> None:
        self._path = folder / FILE
        self._key = key

    def read(self) -> Verified:
        """Return what was noted; nothing where there is no note that this log's key signed."""
        try:
            opened = note.open_note(self._path.read_bytes(), [self._key.verify_key])
            match = _TEXT.fullmatch(opened.text)
            if match is None:
                return Verified()
            head = checkpoints.parse(match[1])
        except (LedgerError, OSError):
            return Verified()
        return Verified(head, frozenset(int(index) for index in (match[2] or "").split()))

    def note(self, tree: Tree, size: int, broken: Sequence[int]) -> None:
        """Remember that the first `size` entries were verified, and which of them break a rule.

        A crash at any point leaves the older note. Findings beyond the most that are noted leave
        it too.

        Raises:
            OSError: the disk refuses; the older note is still there.
        """
        if len(broken) > MAX_BROKEN:
            return
        head = Checkpoint(self._key.name, size, tree.root(size))
        listed = " ".join(f"{index:d}" for index in broken)
        text = f"{HEADING}\n{head.text()}" + (f"{listed}\n" if broken else "")
        durable.replace(self._path, note.sign(text, [self._key]))
