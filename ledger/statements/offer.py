"""`offer`: the terms under which a provider lets an asset be used, and its price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ledger.record import identifier, not_negative
from ledger.statements.statement import Author, Statement
from ledger.terms import Terms


@dataclass(frozen=True)
class Offer(Statement):
    """An ODRL offer on one asset: the assigner's terms, open to any recipient they name.

    Attributes:
        price_cents: price of one use, in cents.
    """

    kind: ClassVar[str] = "offer"

    provider: Annotated[str, identifier("participant")]
    asset: Annotated[str, identifier("asset")]
    terms: Terms
    price_cents: Annotated[int, not_negative]
    issued: Annotated[int, not_negative]

    def references(self) -> tuple[str | None, ...]:  # noqa: D102
        return (self.provider, self.asset)

    def authors(self) -> tuple[Author, ...]:  # noqa: D102
        return (Author("participant", self.provider),)

    def parties(self) -> tuple[str, ...]:  # noqa: D102
        return ("*",)
