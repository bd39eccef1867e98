"""`settlement`: who pays whom for a released job, in integer cents, double entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ledger.errors import StatementError
from ledger.record import Record, identifier, not_empty, not_negative, one_line
from ledger.statements.statement import Author, Statement


@dataclass(frozen=True)
class Line(Record):
    """The price of one agreement's use, parted into the operator's fee and the provider's share."""

    agreement: Annotated[str, identifier("agreement")]
    provider: Annotated[str, identifier("participant")]
    price_cents: Annotated[int, not_negative]
    fee_cents: Annotated[int, not_negative]
    share_cents: Annotated[int, not_negative]

    def check(self, where: str) -> None:  # noqa: D102
        if self.fee_cents + self.share_cents != self.price_cents:
            raise StatementError(f"{where}: fee and share do not add up to the price")


@dataclass(frozen=True)
class Posting(Record):
    """One side of a double entry: positive is credited to the account, negative is owed by it."""

    account: Annotated[str, one_line]
    amount_cents: int


@dataclass(frozen=True)
class Settlement(Statement):
    """The bill of one release.

    Attributes:
        postings: `postings(researcher, lines)`; that they are is a rule of the log.
    """

    kind: ClassVar[str] = "settlement"

    job: Annotated[str, identifier("job")]
    release: Annotated[str, identifier("release")]
    researcher: Annotated[str, identifier("participant")]
    lines: Annotated[tuple[Line, ...], not_empty]
    total_cents: Annotated[int, not_negative]
    postings: Annotated[tuple[Posting, ...], not_empty]
    issued: Annotated[int, not_negative]

    def references(self) -> tuple[str | None, ...]:  # noqa: D102
        return (self.job, self.release, *(line.agreement for line in self.lines))

    def authors(self) -> tuple[Author, ...]:  # noqa: D102
        return (Author("operator"),)

    def parties(self) -> tuple[str, ...]:  # noqa: D102
        return (self.job,)

    def check(self, where: str) -> None:  # noqa: D102
        if sum(line.price_cents for line in self.lines) != self.total_cents:
            raise StatementError(f"{where}.total_cents: is not the sum of the lines")


def postings(researcher: str, lines: tuple[Line, ...]) -> tuple[Posting, ...]:
    """Return the double entry for a bill: the researcher owes what providers and operator get.

    The amounts add up to zero by construction; accounts are `kind/participant`.
    """
    shares: dict[str, int] = {}
    for line in lines:
        shares[line.provider] = shares.get(line.provider, 0) + line.share_cents
    return (
        Posting(f"payable/{researcher}", -sum(line.price_cents for line in lines)),
        *(Posting(f"receivable/{provider}", cents) for provider, cents in sorted(shares.items())),
        Posting("fees/operator", sum(line.fee_cents for line in lines)),
    )
