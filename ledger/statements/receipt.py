"""`receipt`: a node's signed account of one job; a refusal is a receipt that says why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ledger.errors import StatementError
from ledger.record import (
    Record,
    hex_digest,
    identifier,
    not_negative,
    one_of,
    positive,
)
from ledger.statements.statement import Author, Statement

JOB_REASONS = (
    "purpose_not_allowed",
    "quota_used_up",
    "agreement_expired",
    "code_unknown",
    "grant_mismatch",
    "not_proven",
    "revoked",
    "row_selection_not_allowed",
)
"""What can be wrong with a job and what it rests on."""

LOG_REASONS = ("log_split", "log_stale", "log_rolled_back")
"""What can be wrong with the log that should prove it."""

REFUSAL_REASONS = (*JOB_REASONS, *LOG_REASONS)
FAILURE_REASONS = (
    "bad_data",
    "cancelled",
    "data_changed",
    "internal",
    "isolating_parameters",
    "out_of_bounds",
    "task_error",
)


@dataclass(frozen=True)
class Contribution(Record):
    """What a node was asked and what it sent in one round, by digest of the exact bytes."""

    round: Annotated[int, positive]
    request: Annotated[str, hex_digest]
    reply: Annotated[str, hex_digest]


@dataclass(frozen=True)
class JournalPosition(Record):
    """Where the node's own journal stood when it signed."""

    sequence: Annotated[int, not_negative]
    head: Annotated[str, hex_digest]


@dataclass(frozen=True)
class Receipt(Statement):
    """What a node did for a job, or why it did not.

    Attributes:
        job: the job it was asked for; it need not be in the log when the reason is `not_proven`.
        grant: the permission it acted under; a refusal may have none.
        log_size: size of the checkpoint under which the node acted; it had read every entry below.
        rows: rows that entered the computation.
        contributions: one for each round that it answered, in order.
    """

    kind: ClassVar[str] = "receipt"

    asset: Annotated[str, identifier("asset")]
    job: Annotated[str, identifier("job")]
    grant: Annotated[str, identifier("grant")] | None
    state: Annotated[str, one_of("completed", "refused", "failed")]
    reason: Annotated[str, one_of(*REFUSAL_REASONS, *FAILURE_REASONS)] | None
    code_digest: Annotated[str, hex_digest]
    log_size: Annotated[int, not_negative]
    rows: Annotated[int, not_negative]
    contributions: tuple[Contribution, ...]
    journal: JournalPosition
    issued: Annotated[int, not_negative]

    def references(self) -> tuple[str | None, ...]:  # noqa: D102
        return (self.asset, self.job, self.grant)

    def authors(self) -> tuple[Author, ...]:  # noqa: D102
        return (Author("node", self.asset),)

    def parties(self) -> tuple[str, ...]:  # noqa: D102
        return (self.asset, self.job)

    def check(self, where: str) -> None:  # noqa: D102
        if (self.state == "completed") != (self.reason is None):
            raise StatementError(f"{where}.reason: exactly a receipt that is not completed has one")
        if self.state == "refused" and self.reason not in REFUSAL_REASONS:
            raise StatementError(f"{where}.reason: {self.reason!r} is no reason to refuse")
        if self.state == "failed" and self.reason not in FAILURE_REASONS:
            raise StatementError(f"{where}.reason: {self.reason!r} is no failure")
        if self.state == "refused" and self.contributions:
            raise StatementError(f"{where}.contributions: a refusal sends none")
        if self.state == "completed" and not (self.grant and self.contributions):
            raise StatementError(f"{where}: a completed job has a grant and contributions")
        rounds = [item.round for item in self.contributions]
        if rounds != sorted(set(rounds)):
            raise StatementError(f"{where}.contributions: rounds are not in ascending order")


@dataclass(frozen=True)
class MeteredReceipt(Receipt):
    """A receipt under a privacy budget, version 2.

    Attributes:
        spent_micro: privacy loss of what was sent, as `BudgetedAgreement.budget_micro`; what was
            sent is spent, also where the job failed afterwards.
    """

    version: ClassVar[int] = 2

    spent_micro: Annotated[int, not_negative]

    def check(self, where: str) -> None:  # noqa: D102
        super().check(where)
        if self.spent_micro and not self.contributions:
            raise StatementError(f"{where}.spent_micro: nothing was sent")
