"""`shred`: statements of one kind were erased; their entries stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ledger.errors import StatementError
from ledger.record import distinct, not_empty, not_negative, one_line, one_of
from ledger.statements.statement import Author, Statement

SHREDDABLE = ("agreement", "job", "grant", "receipt", "release", "settlement")
"""Kinds that may be erased. Whoever checks later entries needs all others: keys, assets, offers,
revocations, closes."""


@dataclass(frozen=True)
class Shred(Statement):
    """Salt and text of these entries' statements were destroyed; proofs and counts stay valid.

    Entries are named by index: the id of a statement is an unsalted hash of it.

    Attributes:
        entries: indexes, ascending.
        erased_kind: the kind of all of them.
        cause: why, in words.
    """

    kind: ClassVar[str] = "shred"

    entries: Annotated[tuple[Annotated[int, not_negative], ...], not_empty, distinct]
    erased_kind: Annotated[str, one_of(*SHREDDABLE)]
    cause: Annotated[str, one_line]
    issued: Annotated[int, not_negative]

    def references(self) -> tuple[str | None, ...]:  # noqa: D102
        return ()

    def authors(self) -> tuple[Author, ...]:  # noqa: D102
        return (Author("operator"),)

    def parties(self) -> tuple[str, ...]:  # noqa: D102
        return ("*",)

    def check(self, where: str) -> None:  # noqa: D102
        if list(self.entries) != sorted(self.entries):
            raise StatementError(f"{where}.entries: not in ascending order")
