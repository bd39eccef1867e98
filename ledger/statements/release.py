"""`release`: what the researcher gets, and which contributions it is the sum of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ledger.errors import StatementError
from ledger.record import (
    Record,
    distinct,
    hex_digest,
    identifier,
    not_empty,
    not_negative,
    one_line,
    one_of,
    positive,
)
from ledger.statements.statement import Author, Statement


@dataclass(frozen=True)
class Summand(Record):
    """One contribution that entered the result."""

    receipt: Annotated[str, identifier("receipt")]
    round: Annotated[int, positive]
    reply: Annotated[str, hex_digest]


@dataclass(frozen=True)
class Release(Statement):
    """The output gate's decision: this result, from exactly these contributions.

    Attributes:
        result: digest of the released document's canonical bytes.
        checks: names of the checks that the gate made.
    """

    kind: ClassVar[str] = "release"

    job: Annotated[str, identifier("job")]
    receipts: Annotated[tuple[Annotated[str, identifier("receipt")], ...], not_empty, distinct]
    contributions: Annotated[tuple[Summand, ...], not_empty]
    result: Annotated[str, hex_digest]
    decision: Annotated[str, one_of("automatic", "reviewed")]
    checks: Annotated[tuple[Annotated[str, one_line], ...], not_empty]
    issued: Annotated[int, not_negative]

    def references(self) -> tuple[str | None, ...]:  # noqa: D102
        return (self.job, *self.receipts)

    def authors(self) -> tuple[Author, ...]:  # noqa: D102
        return (Author("operator"),)

    def parties(self) -> tuple[str, ...]:  # noqa: D102
        return (self.job,)

    def check(self, where: str) -> None:  # noqa: D102
        if {item.receipt for item in self.contributions} != set(self.receipts):
            raise StatementError(f"{where}.contributions: not those of the listed receipts")
