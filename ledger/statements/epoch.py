"""`epoch`: a node closes its journal for one epoch of the log, also when nothing happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ledger.errors import StatementError
from ledger.record import Record, hex_digest, identifier, not_negative, positive
from ledger.statements.statement import Author, Statement, check_span


@dataclass(frozen=True)
class JournalSpan(Record):
    """Lines `first` to `last` of a node's journal, and the hash that covers all lines to `last`.

    `last` is `first` - 1 where no line was written.
    """

    first: Annotated[int, positive]
    last: Annotated[int, not_negative]
    head: Annotated[str, hex_digest]

    def check(self, where: str) -> None:  # noqa: D102
        if self.last < self.first - 1:
            raise StatementError(f"{where}.last: before the line that it begins with")


@dataclass(frozen=True)
class Counts(Record):
    """How many jobs a node's journal says were launched, and how many ended in which way."""

    launched: Annotated[int, not_negative]
    completed: Annotated[int, not_negative]
    failed: Annotated[int, not_negative]
    refused: Annotated[int, not_negative]

    @property
    def ended(self) -> int:
        """Receipts that the node signed."""
        return self.completed + self.failed + self.refused


@dataclass(frozen=True)
class Epoch(Statement):
    """One node's account of one epoch.

    Attributes:
        number: which epoch; it covers the log's entries `start` to `stop`, exclusive.
        previous: the node's close of the epoch before; none for its first.
        journal: the lines written since that close.
        counts: what those lines say.
        uses: receipts of this asset, with contributions, that the node read in the log between
            `start` and `stop`.
    """

    kind: ClassVar[str] = "epoch"

    asset: Annotated[str, identifier("asset")]
    number: Annotated[int, not_negative]
    start: Annotated[int, not_negative]
    stop: Annotated[int, positive]
    previous: Annotated[str, identifier("epoch")] | None
    journal: JournalSpan
    counts: Counts
    uses: Annotated[int, not_negative]
    issued: Annotated[int, not_negative]

    def references(self) -> tuple[str | None, ...]:  # noqa: D102
        return (self.asset,) if self.previous is None else (self.asset, self.previous)

    def authors(self) -> tuple[Author, ...]:  # noqa: D102
        return (Author("node", self.asset),)

    def parties(self) -> tuple[str, ...]:  # noqa: D102
        return (self.asset,)

    def check(self, where: str) -> None:  # noqa: D102
        check_span(self.start, self.stop, where)
        lines = self.journal.last - self.journal.first + 1
        if self.counts.launched + self.counts.ended > lines:
            raise StatementError(f"{where}.counts: more than the journal has lines")
