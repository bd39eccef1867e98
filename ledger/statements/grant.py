"""`grant`: one provider's permission for one job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ledger.errors import StatementError
from ledger.record import distinct, identifier, not_empty, not_negative, positive
from ledger.statements.statement import Author, Statement


@dataclass(frozen=True)
class Grant(Statement):
    """Permission for exactly this job, with exactly these parties, until a moment.

    Attributes:
        cohort: assets whose contributions are summed together; nobody may be added or left out.
        minimum_parties: fewest contributions that may be summed.
        rounds: most rounds that the node will answer.
        until: end of validity, Unix milliseconds.
    """

    kind: ClassVar[str] = "grant"

    provider: Annotated[str, identifier("participant")]
    asset: Annotated[str, identifier("asset")]
    agreement: Annotated[str, identifier("agreement")]
    job: Annotated[str, identifier("job")]
    cohort: Annotated[tuple[Annotated[str, identifier("asset")], ...], not_empty, distinct]
    minimum_parties: Annotated[int, positive]
    rounds: Annotated[int, positive]
    until: Annotated[int, not_negative]
    issued: Annotated[int, not_negative]

    def references(self) -> tuple[str | None, ...]:  # noqa: D102
        return (self.provider, self.asset, self.agreement, self.job)

    def authors(self) -> tuple[Author, ...]:  # noqa: D102
        return (Author("participant", self.provider),)

    def parties(self) -> tuple[str, ...]:  # noqa: D102
        return (self.provider, *self.cohort, self.job)

    def check(self, where: str) -> None:  # noqa: D102
        if self.asset not in self.cohort:
            raise StatementError(f"{where}.cohort: lacks the granted asset")
        if self.minimum_parties > len(self.cohort):
            raise StatementError(f"{where}.minimum_parties: more than the cohort has")
