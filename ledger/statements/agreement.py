"""`agreement`: terms that provider and researcher both signed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from ledger.errors import StatementError
from ledger.record import PPM, identifier, not_negative, parts_per_million, positive
from ledger.statements.statement import Author, Statement
from ledger.terms import Terms


@dataclass(frozen=True)
class Agreement(Statement):
    """The end of a negotiation: who may do what with which asset, at which price.

    Attributes:
        preparation: the row selection and preparation that every job under it must use; fixed
            here because many exact answers over varied rows recover the rows.
        price_cents: price of one use, in cents.
        fee_ppm: the operator's part of that price, in parts per million, rounded down.
    """

    kind: ClassVar[str] = "agreement"

    provider: Annotated[str, identifier("participant")]
    researcher: Annotated[str, identifier("participant")]
    asset: Annotated[str, identifier("asset")]
    offer: Annotated[str, identifier("offer")]
    terms: Terms
    preparation: dict[str, Any]
    price_cents: Annotated[int, not_negative]
    fee_ppm: Annotated[int, parts_per_million]
    issued: Annotated[int, not_negative]

    def references(self) -> tuple[str | None, ...]:  # noqa: D102
        return (self.provider, self.researcher, self.asset, self.offer)

    def authors(self) -> tuple[Author, ...]:  # noqa: D102
        return (Author("participant", self.provider), Author("participant", self.researcher))

    def parties(self) -> tuple[str, ...]:  # noqa: D102
        return (self.provider, self.researcher)

    @property
    def fee_cents(self) -> int:
        """The operator's part of one use's price, in cents."""
        return self.price_cents * self.fee_ppm // PPM

    def check(self, where: str) -> None:  # noqa: D102
        if self.provider == self.researcher:
            raise StatementError(f"{where}.researcher: nobody agrees with itself")


@dataclass(frozen=True)
class BudgetedAgreement(Agreement):
    """An agreement on answers with noise, version 2: what they tell in all is bounded.

    Attributes:
        budget_micro: most privacy loss of all jobs under it together, in millionths of the unit
            that the task's mechanism is accounted in (rho of zero-concentrated differential
            privacy, arXiv:1605.02065); receipts name what each spent.
    """

    version: ClassVar[int] = 2

    budget_micro: Annotated[int, positive]

    def check(self, where: str) -> None:  # noqa: D102
        super().check(where)
        if self.terms.exact:
            raise StatementError(f"{where}.terms.exact: no budget bounds what exact answers tell")
