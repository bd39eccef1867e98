"""Which rows of two or three providers are of the same people, and in which common order.

The first part of a task over columns of several providers. Two owners intersect their identifiers
(`privacy.intersection`, outcome both), so each learns which of its rows the other has as well. A
third owner then meets the second, which brings what it has in common with the first, and the
second tells the first which of those are left: **first and second also learn whom they two have
in common without the third**. A node that only computes learns the number of rows.

    aligned = yield from align(plan, place, owners, identifiers)
    rows[aligned.positions]                  # the same people, in the same order, at every owner

The order is that of the identifiers, which every owner has of these rows.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from federated.errors import TaskError
from federated.matching import SMALLEST, Matching
from federated.plan import Plan
from federated.tasks.joint import Parcels, Place, Positions, nothing, only
from federated.tasks.question import PreparedRows
from privacy.errors import IntersectionError
from privacy.identifiers import Identifiers, identify
from privacy.intersection import Agreement, Outcome, Receiver, Sender
from privacy.workers import Workers

MEETING_ROUNDS = 5
"""Rounds in which two owners meet; whoever has no part in it waits so long."""

MOST_ROUNDS = 2 * MEETING_ROUNDS + 1

_COUNT_BYTES = 8

Meeting = Generator[Parcels, Parcels, list[bytes]]


@dataclass(frozen=True)
class Aligned:
    """The rows in common.

    Attributes:
        count: How many there are.
        positions: int64[count], which of this owner's rows they are, in the common order; None at
            a node that only computes.
    """

    count: int
    positions: Positions | None = field(repr=False)


def matching_of(plan: Plan) -> Matching:
    """Returns what the agreements fix about identifiers.

    Raises:
        TaskError: bad_parameter: nothing.
    """
    if plan.preparation.match is None:
        raise TaskError(
            "bad_parameter", "the agreements fix no `match`: which columns identify a row, and how"
        )
    return plan.preparation.match


def identifiers(plan: Plan, rows: PreparedRows, which: str) -> Identifiers:
    """Returns the identifiers of an owner's rows.

    Raises:
        RowsError: As `PreparedRows.texts`.
        IdentifierError: As `identify`.
    """
    matching = matching_of(plan)
    return identify([rows.texts(name, which) for name in matching.columns], matching.rules)


def align(
    plan: Plan, place: Place, owners: Sequence[str], names: Identifiers | None
) -> Generator[Parcels, Parcels, Aligned]:
    """Finds the rows in common.

    Args:
        plan: Of the job.
        place: This node's.
        owners: Two or three assets, in the plan's order; the third asset of two owners computes.
        names: This owner's, None at a node that only computes.

    Raises:
        TaskError: out_of_order: a parcel is missing or malformed.
        IntersectionError: What a peer sent does not fit, or too few are in common.
    """
    if names is None:
        return (yield from _counted(owners))
    met = yield from _met(plan, place, owners, list(names.members))
    at = dict(zip(names.members, names.rows, strict=True))
    if len(owners) == 2:
        (node,) = [each.asset_id for each in plan.cohort if each.asset_id not in owners]
        nothing((yield {node: len(met).to_bytes(_COUNT_BYTES, "big")}))
    positions = np.array([at[name] for name in met], dtype=np.int64)
    return Aligned(len(met), positions)


def _counted(owners: Sequence[str]) -> Generator[Parcels, Parcels, Aligned]:
    """What a node does that only computes: it waits, and is told the number by both owners."""
    yield from _idle(MEETING_ROUNDS)
    told = yield {}
    counts = {only({peer: told[peer]}, peer) for peer in owners if peer in told}
    if set(told) != set(owners) or len(counts) != 1 or len(min(counts)) != _COUNT_BYTES:
        raise TaskError("out_of_order", "the owners do not tell one number of rows")
    return Aligned(int.from_bytes(counts.pop(), "big"), None)


def _idle(rounds: int) -> Generator[Parcels, Parcels, None]:
    for _ in range(rounds):
        nothing((yield {}))


def _met(plan: Plan, place: Place, owners: Sequence[str], members: list[bytes]) -> Meeting:
    """Returns the members that all owners have, ascending."""
    matching, (first, second, *others) = matching_of(plan), owners
    with Workers(place.processes) as workers:
        if place.asset in (first, second):
            meeting = _meet(plan, place, (first, second), members, workers, matching.minimum_size)
            members = yield from meeting
        else:
            yield from _idle(MEETING_ROUNDS)
        if not others:
            return members
        if place.asset == first:
            yield from _idle(MEETING_ROUNDS)
            return _left(members, only((yield {}), second))
        # The second brings only those whom the first meeting left.
        least = max(SMALLEST, matching.minimum_intersection)
        everywhere = yield from _meet(plan, place, (second, others[0]), members, workers, least)
        kept = set(everywhere)
        flags = {first: bytes(name in kept for name in members)}
        nothing((yield flags if place.asset == second else {}))
        return everywhere


def _left(members: list[bytes], flags: bytes) -> list[bytes]:
    """Returns the members whose byte is 1."""
    if len(flags) != len(members) or not set(flags) <= {0, 1}:
        raise TaskError("out_of_order", "the rows that are left are not those that were met")
    return [name for name, flag in zip(members, flags, strict=True) if flag]


def _meet(
    plan: Plan,
    place: Place,
    pair: tuple[str, str],
    members: list[bytes],
    workers: Workers,
    least: int,
) -> Meeting:
    """Returns the members that both of a pair have, ascending: `MEETING_ROUNDS` rounds."""
    (peer,) = set(pair) - {place.asset}
    incoming = yield {peer: len(members).to_bytes(_COUNT_BYTES, "big")}
    sizes = {
        place.asset: len(members),
        peer: int.from_bytes(only(incoming, peer), "big"),
    }
    agreement = _agreement(plan, place, pair, sizes, least)
    if place.asset == agreement.receiver:
        receiver = Receiver(agreement, members, workers)
        offer = only((yield {peer: receiver.offer()}), peer)
        nothing((yield {peer: receiver.answer(offer)}))
        found = receiver.finish(only((yield {}), peer))
        nothing((yield {peer: receiver.return_matches()}))
    else:
        sender = Sender(agreement, members, workers)
        sender.double(only((yield {peer: sender.offer()}), peer))
        nothing((yield {peer: sender.reply(only((yield {}), peer))}))
        found = sender.finish(only((yield {}), peer))
    if found.matches is None:  # pragma: no cover - both learn
        raise IntersectionError
    return sorted(members[at] for at in found.matches)


def _agreement(
    plan: Plan, place: Place, pair: tuple[str, str], sizes: Mapping[str, int], least: int
) -> Agreement:
    """Returns what a pair agreed on: the receiver, then the sender."""
    matching, (receiver, sender) = matching_of(plan), pair
    return Agreement(
        job=place.binding.hex(),
        attempt=0,
        outcome=Outcome.BOTH,
        rules=matching.rules.digest,
        receiver=receiver,
        sender=sender,
        receiver_size=sizes[receiver],
        sender_size=sizes[sender],
        minimum_size=least,
        minimum_intersection=matching.minimum_intersection,
    )
