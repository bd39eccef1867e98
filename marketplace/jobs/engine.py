"""What the worker needs of whatever computes: one method, and the ways it can end.

The composition root hands in an engine; it may drive nodes in this process or far away. The worker
knows nothing else of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ledger.statements import Job


@dataclass(frozen=True)
class CohortMember:
    """One asset of the cohort, with where its proofs stand in the log.

    Attributes:
        name: the asset's name.
        node_key: verifier key of the node that guards it.
        asset_index: log index of the asset's statement; likewise for agreement and grant.
    """

    asset: str
    name: str
    provider: str
    node_key: str
    asset_index: int
    agreement: str
    agreement_index: int
    grant: str
    grant_index: int


@dataclass(frozen=True)
class JobRequest:
    """One job to run.

    Attributes:
        id: id of the job statement.
        index: its log index.
        statement: what the researcher signed.
        attempt: number of the first; a worker that takes the job over begins with the same.
        plan: the plan as JSON (`federated.plan.Plan.from_json` reads it).
        minimum_parties: fewest providers that every grant permits.
        cohort: in the job's order.
        checkpoint: returns the log's newest signed checkpoint.
        lease: returns the lease, signed by the operator, under which an attempt is driven in a
            Flower run, given both numbers; it goes with every request to a node.
        departed: who was gone when an earlier worker ran the job: (attempt, round, step) to assets
            and words.
        leaves: to be called with attempt, round, step and who is gone, before anything rests on
            it; it raises as `progress` does.
    """

    id: str
    index: int
    statement: Job
    attempt: int
    plan: Mapping[str, Any]
    minimum_parties: int
    cohort: tuple[CohortMember, ...]
    checkpoint: Callable[[], bytes]
    lease: Callable[[int, int], bytes]
    departed: Mapping[tuple[int, int, str], Mapping[str, str]] = field(default_factory=dict)
    leaves: Callable[[int, int, str, Mapping[str, str]], None] | None = None


@dataclass(frozen=True)
class Progress:
    """How far a job is: `done` of `of` parties have answered `step` of round `round`.

    Attributes:
        round: 0 for the exchange of keys.
        nodes: by asset, how its node stands in this exchange: `waiting` (asked, and not heard yet),
            `answered`, `refused`, `failed`, `lost` (it went away, and the others may go on without
            it) or `rejoining`. Empty where an engine does not tell.
    """

    round: int
    done: int
    of: int
    step: str = ""
    nodes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contribution:
    """One request to a node and its reply; rounds count from 1.

    Attributes:
        asset: whose node.
        round: when.
        request: digest of the exact bytes, as receipts list it.
        reply: the same of the reply.
        bodies: the bytes of both; None where nothing of the result can be seen in them.
    """

    asset: str
    round: int
    request: str
    reply: str
    bodies: tuple[bytes, bytes] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Opening:
    """The secrets that took the masks off one round's sum, as JSON; they open nothing else."""

    round: int
    secrets: Mapping[str, Any]


@dataclass(frozen=True)
class Completed:
    """Every node of the result answered every round and signed its receipt.

    Attributes:
        result: the document that the researcher gets: JSON with finite numbers.
        contributions: of every asset in the result, every round.
        openings: of every round.
        receipts: by asset, the id of its node's receipt, which the node submitted or is submitting.
        dropped: by asset, why a party is not in the result.
    """

    result: Mapping[str, Any]
    contributions: tuple[Contribution, ...]
    receipts: Mapping[str, str]
    openings: tuple[Opening, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Refused:
    """At least one node will not compute: a reason word by asset."""

    reasons: Mapping[str, str]


@dataclass(frozen=True)
class Failed:
    """The job could not be finished.

    Attributes:
        reasons: a word by asset; empty where the task itself failed.
        task_reason: the task's own word, such as `separation`.
        message: for people; names column or party and what to do.
    """

    reasons: Mapping[str, str]
    task_reason: str
    message: str


Outcome = Completed | Refused | Failed


class JobEngine(Protocol):
    """Runs one job across its nodes."""

    def run(self, request: JobRequest, progress: Callable[[Progress], None]) -> Outcome:
        """Run a job to its end; blocks.

        Args:
            request: the job.
            progress: to be called after each step. It raises when the job was cancelled or taken
                over; the engine must let that pass, telling its nodes that the job is over.
        """
