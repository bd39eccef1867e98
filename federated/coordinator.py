"""The coordinator's side of a job: the only door through which the marketplace runs one.

    outcome = run(grid, Assignment(job_id, 1, plan, seats, encryption_key), progress=show)
    if isinstance(outcome, Completed):
        released = document(outcome)

Decides nothing: the conversation is in `federated.server_app`, the sums in `federated.rounds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.serverapp import Grid

from federated.errors import FederatedError
from federated.plan import Plan
from federated.rounds import RoundRecord
from federated.server_app import make_server_app, run_in_process
from federated.session import (
    Completed,
    Departures,
    Failed,
    Leaves,
    Member,
    Outcome,
    Progress,
    Refused,
    Session,
    SignLease,
    Watch,
    keep_nothing,
    no_checkpoint,
    no_lease,
)
from federated.tasks import find_task
from ledger.encoding import b64encode
from ledger.keys import VerifyKey
from privacy.paillier import public_half

__all__ = [
    "Assignment",
    "Completed",
    "Departures",
    "Failed",
    "Grid",
    "Leaves",
    "Outcome",
    "Progress",
    "Refused",
    "RoundRecord",
    "Seat",
    "SignLease",
    "Watch",
    "document",
    "run",
]


@dataclass(frozen=True)
class Seat:
    """One node's place in a job: Flower's number for it, its key, its grant, and whose it is.

    Without a provider it counts as its own.
    """

    node_id: int
    key: VerifyKey
    grant: str
    provider: str = ""


@dataclass(frozen=True)
class Assignment:
    """One attempt at one job.

    Attributes:
        seats: by asset id, the whole cohort.
        encryption_key: the researcher's public key as the signed job carries it, or None.
        timeout: seconds that one exchange may take.
        minimum: fewest providers that every grant permits; every node is needed where 0.
        departed: who was gone before, where another coordinator began; see `Session`.
        leaves: called when somebody is gone; see `Session`.
        watch: who hears of nodes besides their replies.
        checkpoint: returns the log's newest signed checkpoint; see `Session`.
        lease: returns the signed lease of an attempt in a run; see `Session`.
        rejoin: seconds for which a node that is lost is waited for.
    """

    job: str
    attempt: int
    plan: Plan
    seats: Mapping[str, Seat]
    encryption_key: Mapping[str, Any] | None = None
    timeout: float | None = None
    minimum: int = 0
    departed: Departures = field(default_factory=dict)
    leaves: Leaves | None = None
    watch: Watch | None = None
    rejoin: float = 0.0
    checkpoint: Callable[[], bytes | None] = no_checkpoint
    lease: SignLease = no_lease


def run(grid: Grid, assignment: Assignment, progress: Callable[[Progress], None]) -> Outcome:
    """Drive a job to its outcome over a Flower Grid; blocks.

    What `progress` raises ends the job at the nodes and comes out here.

    Raises:
        FederatedError: the task is unknown.
        PrivacyError: the encryption key is none.
    """
    outcomes: list[Outcome] = []
    task = find_task(assignment.plan.task)
    if task.encrypted != (assignment.encryption_key is not None):
        raise FederatedError(f"task {task.name}: exactly an encrypted task has an encryption key")
    key = assignment.encryption_key
    session = Session(
        job=assignment.job,
        attempt=assignment.attempt,
        plan=assignment.plan,
        task=task,
        members={
            asset: Member(seat.node_id, seat.key, {"grant": seat.grant}, seat.provider)
            for asset, seat in assignment.seats.items()
        },
        deliver=outcomes.append,
        encryption_key=None if key is None else public_half(key),
        timeout=assignment.timeout,
        minimum=assignment.minimum,
        departed=assignment.departed,
        leaves=assignment.leaves or keep_nothing,
        watch=assignment.watch,
        rejoin=assignment.rejoin,
        checkpoint=assignment.checkpoint,
        lease=assignment.lease,
        progress=progress,
    )
    run_in_process(make_server_app(session), grid)
    return outcomes[0]


def document(outcome: Completed) -> dict[str, Any]:
    """Return what is released: the result, or the encrypted sum that only the buyer can open."""
    if outcome.result is not None:
        return outcome.result
    return {"ciphertexts": [b64encode(each) for each in outcome.ciphertexts or ()]}
