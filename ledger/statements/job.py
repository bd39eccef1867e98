"""`job`: a researcher's request to run a task under its agreements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from ledger.errors import StatementError
from ledger.record import (
    distinct,
    hex_digest,
    identifier,
    not_empty,
    not_negative,
    one_line,
    positive,
)
from ledger.statements.statement import Author, Statement


@dataclass(frozen=True)
class Job(Statement):
    """What is to be computed, by which code, on which assets, and for which purpose.

    Attributes:
        agreements: the agreement for each asset, in the same order.
        encryption_key: public key to encrypt contributions under, for a task that needs one.
        nonce: makes two requests for the same thing two statements.
    """

    kind: ClassVar[str] = "job"

    researcher: Annotated[str, identifier("participant")]
    name: Annotated[str, one_line]
    task: Annotated[str, one_line]
    task_version: Annotated[int, positive]
    code_digest: Annotated[str, hex_digest]
    parameters: dict[str, Any]
    preparation: dict[str, Any]
    purpose: Annotated[str, one_line]
    assets: Annotated[tuple[Annotated[str, identifier("asset")], ...], not_empty, distinct]
    agreements: Annotated[tuple[Annotated[str, identifier("agreement")], ...], not_empty, distinct]
    encryption_key: dict[str, Any] | None
    nonce: Annotated[str, one_line]
    issued: Annotated[int, not_negative]

    def references(self) -> tuple[str | None, ...]:  # noqa: D102
        return (self.researcher, *self.assets, *self.agreements)

    def authors(self) -> tuple[Author, ...]:  # noqa: D102
        return (Author("participant", self.researcher),)

    def parties(self) -> tuple[str, ...]:  # noqa: D102
        return (self.researcher, *self.assets)

    def check(self, where: str) -> None:  # noqa: D102
        if len(self.assets) != len(self.agreements):
            raise StatementError(f"{where}.agreements: one for each asset, in the same order")
