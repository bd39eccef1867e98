"""Which line of its node's journal each receipt names, and which closes agree with that.

    lines = ReceiptLines()
    lines.take(history.receipts[asset_index])       # those that are new
    closes = Closes()
    closes.take(history, asset, lines)

Decides whether a close counts exactly the receipts in the log, and remembers that it does, so that
neither is read again. What is said of those that do not is decided in `ledger.completeness`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger.history import History, Logged
from ledger.statements import Epoch, Receipt

STATES = ("completed", "failed", "refused")


@dataclass
class ReceiptLines:
    """The receipts of one asset, by the line of their end in its node's journal.

    Attributes:
        lines: in order; receipts that name the same line stand in the order of the log.
        indexes: the entry of each.
        states: the state of each, as its place in `STATES`.
        forks: pairs of entries that name one line, the earlier first, in the order of the log.
        lowest: the first line that was taken since `Closes.take` looked; None where none was.
    """

    lines: list[int] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    states: list[int] = field(default_factory=list)
    forks: list[tuple[int, int]] = field(default_factory=list)
    lowest: int | None = None

    def take(self, receipts: Sequence[Logged]) -> None:
        """Take those of a growing list that are new."""
        for logged in receipts[len(self.lines) :]:
            receipt = logged.read_as(Receipt)
            self._add(line_of(receipt), logged.index, STATES.index(receipt.state))

    def _add(self, line: int, index: int, state: int) -> None:
        place = bisect_right(self.lines, line)
        first = bisect_left(self.lines, line)
        if first < place:
            self.forks.append((self.indexes[first], index))
        for column, value in ((self.lines, line), (self.indexes, index), (self.states, state)):
            column.insert(place, value)
        self.lowest = line if self.lowest is None else min(self.lowest, line)

    def between(self, first: int, last: int) -> range:
        """Return the places of the receipts that name lines `first` to `last`."""
        return range(bisect_left(self.lines, first), bisect_left(self.lines, last + 1))

    def counts(self, places: range) -> Counter[str]:
        """Return how many of them ended in which state."""
        return Counter(STATES[state] for state in self.states[places.start : places.stop])

    def in_state(self, places: range, state: str) -> Iterator[int]:
        """Yield the entries of those that ended in a state."""
        return (self.indexes[i] for i in places if STATES[self.states[i]] == state)

    def facts(self) -> list[Any]:
        """Return everything as JSON values."""
        return [[*self.lines], [*self.indexes], [*self.states], [[*pair] for pair in self.forks]]

    @classmethod
    def recall(cls, facts: Sequence[Any]) -> ReceiptLines:
        """Return what `facts` wrote down.

        Raises:
            TypeError, ValueError: these are no such facts.
        """
        lines, indexes, states, forks = facts
        pairs = [(earlier, later) for earlier, later in forks]
        return cls(list(lines), list(indexes), list(states), pairs)


@dataclass
class Closes:
    """The closes of one asset's node.

    Attributes:
        listed: entry of the asset when they were compared.
        closed: numbers of the epochs that are closed, as ranges in order.
        taken: how many closes are counted there.
        compared: how many, from the first, were due and were compared.
        unlike: places of those among them that do not count exactly the receipts in the log.
        top: the last line whose receipt could change what was compared.
    """

    listed: int = -1
    closed: list[range] = field(default_factory=list)
    taken: int = 0
    compared: int = 0
    unlike: list[int] = field(default_factory=list)
    top: int = -1

    def take(self, history: History, asset: str, lines: ReceiptLines) -> None:
        """Take closes and receipts that are new, and compare what is due."""
        closes = history.closes[asset]
        for logged in closes[self.taken :]:
            self._count(logged.read_as(Epoch).number)
        self.taken = len(closes)
        listed = history.by_id.get(asset)
        place = -1 if listed is None else listed.index
        if place != self.listed or (lines.lowest is not None and lines.lowest <= self.top):
            # What was compared is another comparison now.
            self.listed, self.compared, self.top = place, 0, -1
            self.unlike = []
        lines.lowest = None
        while self.compared < len(closes) and matured(history, closes[self.compared]):
            close = closes[self.compared].read_as(Epoch)
            if not _agrees(history, close, lines):
                self.unlike.append(self.compared)
            self.compared += 1
            self.top = max(self.top, close.journal.last + 1)

    def _count(self, number: int) -> None:
        if self.closed and self.closed[-1].stop == number:
            self.closed[-1] = range(self.closed[-1].start, number + 1)
        else:
            self.closed.append(range(number, number + 1))

    def missing(self, first: int, due: int) -> list[int]:
        """Return the numbers from `first` to `due`, exclusive, that are not closed."""
        found: list[int] = []
        for closed in self.closed:
            found.extend(range(first, min(closed.start, due)))
            first = max(first, closed.stop)
        return [*found, *range(first, due)]

    def facts(self) -> list[Any]:
        """Return everything as JSON values."""
        spans = [[item.start, item.stop] for item in self.closed]
        return [self.listed, spans, self.taken, self.compared, [*self.unlike], self.top]

    @classmethod
    def recall(cls, facts: Sequence[Any]) -> Closes:
        """Return what `facts` wrote down.

        Raises:
            TypeError, ValueError: these are no such facts.
        """
        listed, spans, taken, compared, unlike, top = facts
        return cls(listed, [range(*span) for span in spans], taken, compared, list(unlike), top)


def other_heads(history: History, close: Epoch, lines: ReceiptLines) -> Iterator[Logged]:
    """Yield the receipts that name the place where a close ended, and another head of it."""
    # The receipt that was signed next names the very place where the close ended.
    for place in lines.between(close.journal.last + 1, close.journal.last + 1):
        logged = history.by_index[lines.indexes[place]]
        if logged.read_as(Receipt).journal.head != close.journal.head:
            yield logged


def line_of(receipt: Receipt) -> int:
    """Return the line of a receipt's end in its node's journal."""
    return receipt.journal.sequence + 1


def matured(history: History, logged: Logged) -> bool:
    """Whether what an entry counts must be in the log by now."""
    schedule = history.schedule
    return schedule is not None and logged.index + schedule.grace_entries <= history.size


def _agrees(history: History, close: Epoch, lines: ReceiptLines) -> bool:
    there = lines.counts(lines.between(close.journal.first, close.journal.last))
    same = all(there[state] == getattr(close.counts, state) for state in STATES)
    return same and not any(other_heads(history, close, lines))
