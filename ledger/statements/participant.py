"""`participant`: an organisation enrols with a key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ledger.errors import InvalidKeyError, StatementError
from ledger.keys import VerifyKey
from ledger.record import distinct, not_empty, not_negative, one_line, one_of
from ledger.statements.statement import Author, Statement

ROLES = ("provider", "researcher", "auditor", "operator")


def verify_key(value: str, where: str) -> None:
    """Refuse what is not the text of a sound Ed25519 verifier key."""
    try:
        VerifyKey.from_text(value)
    except InvalidKeyError as error:
        raise StatementError(f"{where}: {error}") from error


@dataclass(frozen=True)
class Participant(Statement):
    """Who takes part, in which roles, and with which key it signs.

    Signed by that very key: whoever enrols shows that it holds it.
    """

    kind: ClassVar[str] = "participant"

    name: Annotated[str, one_line]
    roles: Annotated[tuple[Annotated[str, one_of(*ROLES)], ...], not_empty, distinct]
    key: Annotated[str, verify_key]
    recovery_key: Annotated[str, verify_key] | None
    issued: Annotated[int, not_negative]

    def references(self) -> tuple[str | None, ...]:  # noqa: D102
        return ()

    def authors(self) -> tuple[Author, ...]:  # noqa: D102
        return (Author("key", self.key),)

    def parties(self) -> tuple[str, ...]:  # noqa: D102
        return ("*",)

    def check(self, where: str) -> None:  # noqa: D102
        if "operator" in self.roles and len(self.roles) > 1:
            raise StatementError(f"{where}.roles: the operator has no other role")
        if self.recovery_key == self.key:
            raise StatementError(f"{where}.recovery_key: equals the key it is meant to recover")
