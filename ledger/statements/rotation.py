"""`rotation`: a participant or a node signs with a new key from a log index on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ledger.errors import StatementError
from ledger.ids import parse_id
from ledger.record import identifier, not_negative, one_of
from ledger.statements.participant import verify_key
from ledger.statements.statement import Author, Statement


@dataclass(frozen=True)
class Rotation(Statement):
    """From its own index on the new key signs for the subject; what stands before stays valid.

    The new key signs too, so nobody enrols a key that another holds.

    Attributes:
        issuer: the participant; of a node, its provider.
        subject: the participant itself, or the asset whose node gets a new key.
        new_key: verifier key.
        by: `key`: the subject's present key signs. `recovery`: a participant's recovery key
            signs; for a node, its provider does.
        recovery_key: a participant's new recovery key; none leaves it as it is. Only the recovery
            key may name another: a thief of the first key must not lock its owner out.
    """

    kind: ClassVar[str] = "rotation"

    issuer: Annotated[str, identifier("participant")]
    subject: Annotated[str, identifier("participant", "asset")]
    new_key: Annotated[str, verify_key]
    by: Annotated[str, one_of("key", "recovery")]
    recovery_key: Annotated[str, verify_key] | None
    issued: Annotated[int, not_negative]

    @property
    def of_node(self) -> bool:
        """Whether a node's key is replaced."""
        return parse_id(self.subject)[0] == "asset"

    def references(self) -> tuple[str | None, ...]:  # noqa: D102
        return (self.issuer, self.subject) if self.of_node else (self.issuer,)

    def authors(self) -> tuple[Author, ...]:  # noqa: D102
        if self.of_node:
            signer = Author("node", self.subject)
            owner = Author("participant", self.issuer)
        else:
            signer = Author("participant", self.issuer)
            owner = Author("recovery", self.issuer)
        return (signer if self.by == "key" else owner, Author("key", self.new_key))

    def parties(self) -> tuple[str, ...]:  # noqa: D102
        return ("*",)

    def check(self, where: str) -> None:  # noqa: D102
        if not self.of_node and self.subject != self.issuer:
            raise StatementError(f"{where}.subject: a participant replaces its own key")
        if self.recovery_key is not None and (self.of_node or self.by != "recovery"):
            raise StatementError(f"{where}.recovery_key: only a recovery key names another")
        if self.recovery_key == self.new_key:
            raise StatementError(f"{where}.recovery_key: equals the key it is meant to recover")
