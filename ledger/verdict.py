"""The verdict on an export: one word, and all that it rests on.

Decides which word follows from what was found, missed and checked. `sound` is said only under a key
that came from outside the folder, and never after nothing was checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger.entry import Entry
from ledger.finding import Finding
from ledger.succession import Tenure

SOUND, TAMPERED, INCOMPLETE, UNTRUSTED = "sound", "tampered", "incomplete", "untrusted"
STRUCTURE = "structure"
"""Hashes, tiles, root and chain hold; no statement, signature or rule was looked at."""
EXIT_CODES = {SOUND: 0, STRUCTURE: 0, TAMPERED: 1, INCOMPLETE: 2, UNTRUSTED: 3}

NOT_FRESH = "nothing here shows that this is the newest state"


@dataclass
class Verdict:
    """What an auditor may conclude from a folder.

    Attributes:
        status: sound, tampered, incomplete (evidence is missing), untrusted (nobody trusted from
            outside the folder vouches for it) or structure (only the structure was asked for, and
            it holds).
        version: of the export's format.
        created: when the export was made, Unix milliseconds, as its maker says.
        checked: how many of each thing were checked.
        sealed: entries whose statements stayed closed; those with an encrypted opening and those
            that were erased among them.
        enclosed: entries whose opening is there, encrypted.
        erased: entries whose statement was destroyed.
        erased_kinds: how many of each kind were.
        unchecked: open entries of which some rule could not be checked, because it needs a sealed
            one; their signatures were.
        witnesses: name and time (Unix seconds) of each known witness that cosigned the checkpoint.
        witnessed_at: Unix seconds since when a quorum vouches for it; None where none was asked.
        key_changes: every change of the log's key on the way from a trusted one to the one that
            signed: `size` of the tree, `time` of its last entry (Unix milliseconds; None where the
            entries were not read), fingerprints `old` and `new`, and `by`: `key`, the old one, or
            `recovery`, a recovery key in its place.
        retained: sizes of the checkpoints kept from before that the export was compared with.
    """

    status: str = UNTRUSTED
    origin: str = ""
    size: int = 0
    root: str = ""
    scope: str = ""
    version: int = 0
    created: int = 0
    key_fingerprint: str = ""
    key_given: bool = False
    participants: list[dict[str, Any]] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)
    sealed: int = 0
    enclosed: int = 0
    erased: int = 0
    erased_kinds: dict[str, int] = field(default_factory=dict)
    unchecked: int = 0
    witnesses: list[dict[str, Any]] = field(default_factory=list)
    witnessed_at: int | None = None
    key_changes: list[dict[str, Any]] = field(default_factory=list)
    retained: list[int] = field(default_factory=list)
    freshness: str = NOT_FRESH
    findings: list[Finding] = field(default_factory=list)
    missing: list[Finding] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 sound or structure, 1 tampered, 2 incomplete, 3 untrusted."""
        return EXIT_CODES[self.status]


def changes_of_key(retired: Sequence[Tenure], entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return `Verdict.key_changes`.

    Args:
        retired: the keys that led to the one that signed (`ledger.succession.changes`).
        entries: those that were read, from the first.
    """
    return [
        {
            "size": item.last.size,
            "time": entries[item.last.size - 1].time
            if 0 < item.last.size <= len(entries)
            else None,
            "old": item.key.fingerprint,
            "new": item.successor.fingerprint,
            "by": "recovery" if item.recovered else "key",
        }
        for item in retired
        if item.last is not None and item.successor is not None
    ]
