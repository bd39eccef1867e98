"""One attempt at one job: who takes part, and the ways in which it can end.

outcome = run_job(session, grid)
match outcome:
    case Completed(): ...       # result, or aggregate ciphertexts for the buyer
    case Refused(): ...         # {asset: reason}
    case Failed(): ...          # {asset: reason}, or the task's own error
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from federated.errors import FederatedError, GridError, TaskError
from federated.plan import Plan
from federated.rounds import Record
from federated.tasks import AnyTask
from ledger.keys import VerifyKey
from privacy.paillier import PublicKey
from privacy.recovery import MIN_SURVIVORS
from privacy.shamir import recovery_threshold


@dataclass(frozen=True)
class Member:
    """One node of the cohort.

    Attributes:
        node_id: Flower's number for it.
        key: the node's key, from its asset statement.
        evidence: where this node finds the proofs of its agreement, job and grant.
        provider: whose it is; its own where empty.
    """

    node_id: int
    key: VerifyKey
    evidence: Mapping[str, Any] = field(default_factory=dict)
    provider: str = ""


class Watch(Protocol):
    """Who hears of nodes besides their replies."""

    def of(self, asset: str) -> str:
        """Return `alive`, `lost`, or `never` where nothing was heard since the operator began."""

    def boot(self, asset: str) -> str:
        """Return what tells one process of a node from the next; empty while nothing was heard."""


Departures = Mapping[tuple[int, int, str], Mapping[str, str]]
"""Attempt, round and step to who was gone in that exchange, by asset, and the word for it.

A coordinator that takes a job over repeats the conversation, and the nodes their replies; with
what it knows of departures it comes to the very requests that were sent before.
"""


@dataclass(frozen=True)
class Progress:
    """One node did one thing, for a progress bar.

    Attributes:
        round: 0 for the exchange of keys.
        step: `keys`, the question's step, or `finish`.
        asset: which node.
        state: `answered`, `refused`, `failed`, `lost`, or `waiting` for one that came back.
    """

    round: int
    step: str
    asset: str
    state: str


@dataclass(frozen=True)
class Completed:
    """Every node that stayed answered every round of the result and receipted that.

    Attributes:
        result: what the task computed; None where only the buyer can decrypt.
        ciphertexts: the sum, encrypted; None where there is a result.
        rounds: each round's question, request, contributions and opened secrets.
        receipts: by asset, the signed receipt.
        dropped: by asset, why a node is not in the result.
    """

    result: dict[str, Any] | None
    ciphertexts: tuple[bytes, ...] | None
    rounds: tuple[Record, ...]
    receipts: Mapping[str, bytes]
    dropped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Refused:
    """At least one node will not compute.

    Attributes:
        reasons: by asset, the node's word.
        receipts: by asset, refusals and the receipts of nodes that then closed the job.
        failures: by asset, nodes that failed in the same exchange.
    """

    reasons: Mapping[str, str]
    receipts: Mapping[str, bytes]
    failures: Mapping[str, str]


@dataclass(frozen=True)
class Failed:
    """The job could not be finished.

    Attributes:
        reasons: by asset, one word; empty where the task itself failed.
        error: the task's error or the sum's, with its own message; None where nodes failed.
        rounds: rounds completed until then.
        receipts: by asset, from the nodes that closed the job.
    """

    reasons: Mapping[str, str]
    error: FederatedError | None
    rounds: tuple[Record, ...]
    receipts: Mapping[str, bytes]


Outcome = Completed | Refused | Failed


def no_checkpoint() -> bytes | None:
    """Send none along: each node asks the log."""
    return None


def no_lease(_attempt: int, _run: int) -> bytes | None:
    """Send none along; no node of ours answers without one."""
    return None


SignLease = Callable[[int, int], bytes | None]
"""Given an attempt and Flower's number for a run, the signed lease under which they are driven."""


Leaves = Callable[[int, int, str, Mapping[str, str]], None]


def _no_progress(_: Progress) -> None:
    pass


def keep_nothing(_attempt: int, _round: int, _step: str, _gone: Mapping[str, str]) -> None:
    """Forget who left: whoever took the job over would not know."""


@dataclass(frozen=True)
class Session:
    """One attempt at one job.

    Attributes:
        job: id of the job statement.
        attempt: number of the first; each node that comes back without its secrets adds one.
        plan: the fixed parameters, from the signed job and the data cards.
        task: whose questions are asked, or whose parcels are carried.
        members: by asset id, the whole cohort.
        encryption_key: the buyer's public key for an encrypted task; None for others.
        timeout: seconds that one exchange may take; no limit where None.
        minimum: fewest providers whose contributions may be summed, by their grants; every node is
            needed where 0.
        departed: who was gone before this coordinator took the job over.
        leaves: called with attempt, round, step and who is gone, before anything rests on it.
        watch: hears of nodes; without it, only the timeout says that one is gone.
        checkpoint: returns the log's newest, signed, for nodes to verify; None where they ask.
        lease: called once for each attempt; a node answers no request without its lease.
        rejoin: seconds for which an exchange waits for a node that is lost.
        deliver: called once, with the outcome.
        progress: called for each node and exchange.

    Raises:
        TaskError: an encrypted task without a key (the sum would be open to the operator), or a
            key for a task that does not encrypt.
        GridError: one node for two assets.
    """

    job: str
    attempt: int
    plan: Plan
    task: AnyTask
    members: Mapping[str, Member]
    deliver: Callable[[Outcome], None]
    encryption_key: PublicKey | None = None
    timeout: float | None = None
    minimum: int = 0
    departed: Departures = field(default_factory=dict)
    leaves: Leaves = keep_nothing
    watch: Watch | None = None
    rejoin: float = 0.0
    checkpoint: Callable[[], bytes | None] = no_checkpoint
    lease: SignLease = no_lease
    progress: Callable[[Progress], None] = _no_progress

    def __post_init__(self) -> None:
        if self.task.encrypted != (self.encryption_key is not None):
            has = "needs" if self.task.encrypted else "has no use for"
            raise TaskError(
                "bad_parameter", f"task {self.task.name} {has} an encryption key; change the job"
            )
        if len({member.node_id for member in self.members.values()}) != len(self.members):
            raise GridError("two assets of the cohort have the same node")

    @property
    def cohort(self) -> tuple[str, ...]:
        """Ids of all assets, ascending."""
        return tuple(sorted(self.members))

    def are_enough(self, assets: Collection[str]) -> bool:
        """Whether the job goes on with these nodes alone.

        Two assets of one provider hide nothing from each other, so terms count providers.
        """
        least = max(recovery_threshold(len(self.members)), MIN_SURVIVORS)
        if not self.minimum:
            least = len(self.members)
        providers = {self.members[asset].provider or asset for asset in assets}
        return len(assets) >= least and len(providers) >= self.minimum
