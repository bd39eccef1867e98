"""`revocation`: ends a key, an asset, an offer, an agreement, a grant or a job from an index on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ledger.record import identifier, not_negative, one_line
from ledger.statements.statement import Author, Statement


@dataclass(frozen=True)
class Revocation(Statement):
    """From its own index on the target is void; what stands before it stays valid.

    Attributes:
        target: a participant (ends its key), asset (ends its node's key too), offer, agreement,
            grant, or job: nothing of it will be released, and it uses up nothing.
        cause: why, in words.
    """

    kind: ClassVar[str] = "revocation"

    issuer: Annotated[str, identifier("participant")]
    target: Annotated[str, identifier("participant", "asset", "offer", "agreement", "grant", "job")]
    cause: Annotated[str, one_line]
    issued: Annotated[int, not_negative]

    def references(self) -> tuple[str | None, ...]:  # noqa: D102
        return (self.issuer, self.target)

    def authors(self) -> tuple[Author, ...]:  # noqa: D102
        return (Author("participant", self.issuer),)

    def parties(self) -> tuple[str, ...]:  # noqa: D102
        return ("*",)
