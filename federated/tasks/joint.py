"""What a joint task is: a computation in which the nodes talk to each other.

The tasks of `federated.tasks.question` ask, and add up the answers; here the parties of a job send
each other parcels, which the coordinator carries sealed (`federated.channel`), until each says what
came of it. Every node runs `take_part`, a generator: it yields what it sends in a round, by
receiver, and is sent what it received of the others' in the round before.

    talk = task.take_part(plan, place, rows)
    outgoing = next(talk)                    # {peer: b"…"}
    outgoing = talk.send(incoming)           # … until StopIteration carries the node's `Part`

The reports of all nodes together are the result: coordinator and buyer both call `conclude` on
them, and the receipts hold the digest of each.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from federated.errors import TaskError
from federated.plan import Plan
from federated.tasks.question import PreparedRows
from privacy.derivation import prefixed

Parcels = Mapping[str, bytes]
"""By asset, what goes to it, or came from it."""

Positions = npt.NDArray[np.int64]


class Faster(Protocol):
    """A faster way for two nodes to intersect, where both have it; made for one meeting."""

    def offer(self) -> bytes:
        """Returns what the other node must know; empty where this one does not have it."""

    def meets(self, offer: bytes) -> bool:
        """Says whether the two can meet, given what the other node told."""

    def intersect(
        self,
        ids: Sequence[str],
        rank: int,
        offer: bytes,
        binding: bytes,
        receivers: Literal["both", 0, 1],
    ) -> tuple[int, ...] | None:
        """Returns which of `ids` the other has too, None where this node is not to learn it."""


@dataclass(frozen=True)
class Place:
    """Where a node stands in a joint computation.

    Attributes:
        asset: this node's; the others are those of the plan's cohort.
        binding: 32 bytes that name job, attempt and cohort, the same at every party of them and at
            no other: what is computed for one job is useless in another.
        processes: how many the computation may use.
        faster: this node's end of a faster way, if it has one.
        fetch: returns what the researcher handed in for this job, by its digest ("sha256:…"), and
            raises InputError where it is not to be had; the bytes are not verified. None where a
            task takes no input.
    """

    asset: str
    binding: bytes
    processes: int = 1
    faster: Faster | None = None
    fetch: Callable[[str], bytes] | None = None


@dataclass(frozen=True)
class Part:
    """What came of one node's part.

    Attributes:
        report: plain JSON for coordinator and buyer.
        kept: positions, among the rows of the task's one row choice, that stay with this node's
            provider as a result; None where the provider learns nothing.
    """

    report: Mapping[str, Any]
    kept: Positions | None = None


Talk = Generator[Parcels, Parcels, Part]


def within(value: Any, least: int, most: int) -> bool:
    """Says whether a report's value is a whole number in a range; a boolean is none."""
    return type(value) is int and least <= value <= most


def frames(parts: Sequence[bytes]) -> bytes:
    """Joins parts into one parcel, each preceded by its length as eight big-endian bytes."""
    return prefixed(parts)


def read_frames(parcel: bytes, count: int) -> list[bytes]:
    """Reads what `frames` wrote.

    Raises:
        TaskError: out_of_order: not exactly so many parts.
    """
    parts: list[bytes] = []
    at = 0
    while at < len(parcel) and len(parts) < count:
        end = at + 8 + int.from_bytes(parcel[at : at + 8], "big")
        parts.append(parcel[at + 8 : end])
        at = end
    if len(parts) != count or at != len(parcel):
        raise TaskError("out_of_order", f"a parcel has not the {count} parts that it must have")
    return parts


def only(incoming: Parcels, peer: str) -> bytes:
    """Returns the one parcel of a round.

    Raises:
        TaskError: out_of_order: it is missing, or others came.
    """
    if set(incoming) != {peer}:
        raise TaskError("out_of_order", "the other party's parcel is missing")
    return incoming[peer]


def nothing(incoming: Parcels) -> None:
    """Checks that a round brought no parcel.

    Raises:
        TaskError: out_of_order.
    """
    if incoming:
        raise TaskError("out_of_order", "the other party spoke out of turn")


class JointTask(ABC):
    """A named, versioned computation among nodes; without I/O of its own and without Flower."""

    name: ClassVar[str]
    version: ClassVar[int]
    encrypted: ClassVar[bool] = False
    """Whether the job carries the buyer's encryption key."""
    most_rounds: ClassVar[int]
    """How many rounds one job may take."""

    @abstractmethod
    def parse_parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns canonical parameters without floats, or raises TaskError."""

    @abstractmethod
    def check_plan(self, plan: Plan) -> None:
        """Raises TaskError if the cards already show that the plan cannot be computed."""

    @abstractmethod
    def row_choices(self, plan: Plan) -> tuple[str, ...]:
        """Returns which of `ROW_CHOICES` the computation covers."""

    def has_rows(self, plan: Plan, asset: str) -> bool:
        """Says whether a party's rows take part; not those of a party that only computes."""
        return any(party.asset_id == asset for party in plan.cohort)

    def inputs(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        """Returns the digests of what the researcher hands in before the job; most tasks: none.

        Args:
            parameters: of a signed job, not yet parsed.
        """
        del parameters
        return ()

    def billed_rows(self, plan: Plan) -> int | None:
        """Returns how many rows a receipt counts; None: those of the asset that were used."""
        del plan
        return None

    @abstractmethod
    def check_rows(self, plan: Plan, asset: str, rows: PreparedRows) -> None:
        """Raises TaskError if a party's rows cannot take part, before anything is sent."""

    @abstractmethod
    def take_part(self, plan: Plan, place: Place, rows: PreparedRows) -> Talk:
        """Sends, is sent parcels, and returns this node's part; raises TaskError."""

    @abstractmethod
    def conclude(self, plan: Plan, reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Returns the result of all nodes' reports, by asset, or raises TaskError."""
