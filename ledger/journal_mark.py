"""How far a node's journal was found to tell the log's story, so that it is not read again.

    mark = Mark.of(listed)                    # nothing yet
    mark.is_of(data)                          # do the journal's bytes begin with what was read?
    mark.advance(…)                           # by `ledger.journal_check`, where all is well

Decides what is remembered of lines that agree with the log, and how it is written down. A mark is
set at the end of a close that is due, and only where nothing at all was found; what was still open
then is remembered line by line. What a line means is decided in `ledger.journal_check`, which
begins at the first line again whenever something touches what lies before the mark.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger.journal import FINISH, LAUNCH, JournalLine, Place, beginning


@dataclass
class Mark:
    """What was read of one journal, up to a place.

    Attributes:
        listed: entry of the asset.
        place: where the lines end that need not be read again.
        digest: of the journal's bytes up to there, hex.
        launched: the jobs launched there.
        starts: how many of them by agreement.
        uncounted: those that have no agreement in the log.
        unknown: launches of jobs that the log does not have.
        running: launches that had not ended there.
        refused: jobs that ended there without a launch.
        ends: by receipt, ends of which the log does not have the receipt.
        heads: for each of those ends, the head before its line.
        receipts: how many of the asset's receipts were looked at.
        pending: entries of those among them whose end does not stand there.
        closes: how many closes, from the first, end there.
    """

    listed: int
    place: Place = field(default_factory=beginning)
    digest: str = ""
    launched: set[str] = field(default_factory=set)
    starts: Counter[str] = field(default_factory=Counter)
    uncounted: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    unknown: dict[str, JournalLine] = field(default_factory=dict)
    running: dict[str, JournalLine] = field(default_factory=dict)
    ends: dict[str, JournalLine] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    receipts: int = 0
    pending: list[int] = field(default_factory=list)
    closes: int = 0

    def is_of(self, data: bytes) -> bool:
        """Whether a journal begins with the bytes that were read."""
        return not self.place.sequence or digest_of(data, self.place.length) == self.digest

    def facts(self, reference: Callable[[str], int | str]) -> list[Any]:
        """Return everything as JSON values.

        Args:
            reference: gives a shorter name of an id, see `Tally`.
        """
        return [
            self.listed,
            [self.place.sequence, self.place.head, self.place.length],
            self.digest,
            [reference(job) for job in sorted(self.launched)],
            [[reference(name), count] for name, count in sorted(self.starts.items())],
            sorted(self.uncounted),
            [reference(job) for job in sorted(self.refused)],
            *(_lines(lines) for lines in (self.unknown, self.running, self.ends)),
            self.heads,
            self.receipts,
            self.pending,
            self.closes,
        ]

    @classmethod
    def recall(cls, facts: Sequence[Any], name: Callable[[int | str], str]) -> Mark:
        """Return what `facts` wrote down.

        Raises:
            LookupError, TypeError, ValueError: these are no such facts.
        """
        listed, place, digest, launched, starts, uncounted, refused, *rest = facts
        *lines, heads, receipts, pending, closes = rest
        unknown, running, ends = (_read(item) for item in lines)
        return cls(
            listed,
            Place(*place),
            digest,
            {name(job) for job in launched},
            Counter({name(agreement): count for agreement, count in starts}),
            set(uncounted),
            {name(job) for job in refused},
            unknown,
            running,
            ends,
            dict(heads),
            receipts,
            list(pending),
            closes,
        )


def digest_of(data: bytes, length: int) -> str:
    """Return the digest of the first bytes of a journal, hex."""
    return hashlib.sha256(memoryview(data)[:length]).hexdigest()


def launches(lines: Iterable[JournalLine]) -> dict[str, JournalLine]:
    """Return the first launch of each job."""
    found: dict[str, JournalLine] = {}
    for line in lines:
        if line.kind == LAUNCH:
            found.setdefault(str(line.body.get("job")), line)
    return found


def endings(lines: Iterable[JournalLine]) -> dict[str, JournalLine]:
    """Return the last end that names each receipt."""
    return {str(line.body.get("receipt")): line for line in lines if line.kind == FINISH}


def _lines(lines: dict[str, JournalLine]) -> list[Any]:
    return [
        [name, line.sequence, line.time, line.kind, line.body, line.head]
        for name, line in lines.items()
    ]


def _read(rows: Iterable[Any]) -> dict[str, JournalLine]:
    return {name: JournalLine(*row) for name, *row in rows}
