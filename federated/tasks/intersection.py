"""Task `intersection`: which people two providers have in common, how many, or a sum over them.

Two parties, a receiver and a sender, mask their identifiers with secret exponents
(`privacy.intersection`); how rows become identifiers, and how small sets and results may be, is
fixed in the agreements (`federated.matching`). Both nodes learn the size. Beyond that,

    size    nobody learns anything
    one     the receiver's provider learns which of its own rows are in common
    both    so does the sender's
    sum     the sender learns the sum of its own column `value` over them, and reports it

The researcher gets sizes and sum; lists of rows stay at the nodes that learned them.

Result: {"size": n, "sizes": {"receiver": n, "sender": n}}, and {"sum": n} where one was asked for.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from federated.errors import TaskError, suggestion
from federated.plan import Party, Plan
from federated.tasks import parameters as read
from federated.tasks.alignment import identifiers, matching_of
from federated.tasks.joint import (
    Faster,
    JointTask,
    Part,
    Place,
    Talk,
    frames,
    nothing,
    only,
    read_frames,
    within,
)
from federated.tasks.question import PreparedRows
from privacy.errors import SmallIntersectionError
from privacy.identifiers import Identifiers
from privacy.intersection import Agreement, Intersection, Outcome, Receiver, Sender
from privacy.intersection_sum import ValueScale, add_matched, encrypt_values, open_sum
from privacy.paillier import PublicKey, SecretKey, ciphertexts_from_bytes, ciphertexts_to_bytes
from privacy.workers import Workers

FASTER_FROM = 10_000
"""Smallest set for which two sidecars meet: setting up their connection takes seconds."""

OUTCOMES = tuple(str(outcome) for outcome in Outcome)
RECEIVERS = ("first", "second")
_SIZE_BYTES = 8


class IntersectionTask(JointTask):
    """The task `intersection`."""

    name: ClassVar[str] = "intersection"
    version: ClassVar[int] = 1
    most_rounds: ClassVar[int] = 8

    def parse_parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns {"outcome": …, "receiver": "first", "value": null, "rows": "all"}.

        Raises:
            TaskError: unknown_parameter or bad_parameter.
        """
        read.known_keys(self.name, given, ("outcome", "receiver", "value", "rows"))
        outcome, receiver = given.get("outcome", "size"), given.get("receiver", "first")
        if outcome not in OUTCOMES:
            raise TaskError(
                "bad_parameter", f"outcome: {outcome!r} is none{suggestion(str(outcome), OUTCOMES)}"
            )
        if receiver not in RECEIVERS:
            raise TaskError(
                "bad_parameter", "receiver: first or second, by the order of the assets"
            )
        value = given.get("value")
        if (outcome == Outcome.SUM) != (isinstance(value, str) and bool(value)):
            raise TaskError(
                "bad_parameter", "value: the column to add up, for the outcome sum and no other"
            )
        return {
            "outcome": str(outcome),
            "receiver": receiver,
            "value": value,
            "rows": read.row_choice(given),
        }

    def check_plan(self, plan: Plan) -> None:
        """Checks parties, agreed identifiers and columns against the data cards.

        Raises:
            TaskError: bad_parameter, unknown_column, too_few or not_whole.
        """
        matching = matching_of(plan)
        if len(plan.cohort) != 2:
            raise TaskError(
                "bad_parameter",
                f"an intersection is of two assets, and the job names {len(plan.cohort)}",
            )
        for column in matching.columns:
            plan.facts(column)
        for party in plan.cohort:
            if party.rows < matching.minimum_size:
                raise TaskError(
                    "too_few",
                    f"{party.name} has {party.rows} rows, and {matching.minimum_size} are agreed",
                )
        value = plan.parameters["value"]
        if value is None:
            return
        _, sender = _roles(plan)
        if value not in sender.columns:
            raise TaskError(
                "unknown_column",
                f"{sender.name}, the sender, has no column "
                f"{value!r}{suggestion(value, sender.columns)}",
            )
        if sender.columns[value].type != "integer" or matching.rules.collapse:
            raise TaskError(
                "bad_parameter",
                f"{value!r} must hold whole numbers, one for each identifier: a sum needs an "
                "integer column, and identifiers that are not collapsed",
            )

    def row_choices(self, plan: Plan) -> tuple[str, ...]:
        """Returns which rows take part."""
        return (str(plan.parameters["rows"]),)

    def check_rows(self, plan: Plan, asset: str, rows: PreparedRows) -> None:
        """Checks that a party's rows give enough identifiers.

        Raises:
            IdentifierError: as `identify`.
            SetSizeError: too few.
        """
        names = identifiers(plan, rows, plan.parameters["rows"])
        sizes = [
            len(names.members) if party.asset_id == asset else party.rows for party in plan.cohort
        ]
        _agreement(plan, bytes(32), sizes)

    def take_part(self, plan: Plan, place: Place, rows: PreparedRows) -> Talk:
        """Runs this node's side; see `privacy.intersection` for the steps.

        Raises:
            TaskError: out_of_order: a parcel is missing or malformed.
            IntersectionError: what the peer sent does not fit, or too few are in common.
        """
        names = identifiers(plan, rows, plan.parameters["rows"])
        (peer,) = [each.asset_id for each in plan.cohort if each.asset_id != place.asset]
        faster = place.faster if _may_be_faster(plan) else None
        offer = b"" if faster is None else faster.offer()
        with Workers(place.processes) as workers:
            size = len(names.members).to_bytes(_SIZE_BYTES, "big")
            incoming = yield {peer: frames([size, offer])}
            announced, their_offer = read_frames(only(incoming, peer), 2)
            theirs = int.from_bytes(announced, "big")
            sizes = [
                len(names.members) if each.asset_id == place.asset else theirs
                for each in plan.cohort
            ]
            agreement = _agreement(plan, place.binding, sizes)
            large = min(sizes) >= FASTER_FROM
            if faster is not None and large and faster.meets(their_offer):
                return (yield from _meet(agreement, names, place, faster, their_offer))
            if place.asset == agreement.receiver:
                return (yield from _receive(plan, agreement, names, workers))
            return (yield from _send(plan, agreement, names, rows, workers))

    def conclude(self, plan: Plan, reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Returns what both report, if they agree.

        Raises:
            TaskError: reports_differ.
        """
        asked, other = _roles(plan)
        receiver, sender = (dict(reports.get(each.asset_id, {})) for each in (asked, other))
        summed = {"sum": sender.pop("sum", None)} if plan.parameters["value"] else {}
        if receiver != sender or not _can_be(receiver, asked, other):
            raise TaskError("reports_differ", "the two nodes do not report the same intersection")
        if summed and type(summed["sum"]) is not int:
            raise TaskError("reports_differ", "the sender reports no sum")
        return receiver | summed


def _can_be(report: Mapping[str, Any], receiver: Party, sender: Party) -> bool:
    """Says whether a report is of two sets that the data cards allow."""
    sizes = report.get("sizes")
    if set(report) != {"size", "sizes"} or not isinstance(sizes, Mapping):
        return False
    if set(sizes) != {"receiver", "sender"}:
        return False
    first, second = sizes["receiver"], sizes["sender"]
    if not within(first, 0, receiver.rows) or not within(second, 0, sender.rows):
        return False
    return within(report["size"], 0, min(first, second))


def _roles(plan: Plan) -> tuple[Party, Party]:
    """Returns receiver and sender."""
    first, second = plan.cohort
    return (first, second) if plan.parameters["receiver"] == "first" else (second, first)


def _agreement(plan: Plan, binding: bytes, sizes: list[int]) -> Agreement:
    """Returns what both agreed on, given how many identifiers each party has, in plan order."""
    matching, (receiver, sender) = matching_of(plan), _roles(plan)
    by_asset = {party.asset_id: size for party, size in zip(plan.cohort, sizes, strict=True)}
    return Agreement(
        job=binding.hex(),
        attempt=0,
        outcome=Outcome(plan.parameters["outcome"]),
        rules=matching.rules.digest,
        receiver=receiver.asset_id,
        sender=sender.asset_id,
        receiver_size=by_asset[receiver.asset_id],
        sender_size=by_asset[sender.asset_id],
        minimum_size=matching.minimum_size,
        minimum_intersection=matching.minimum_intersection,
    )


def _may_be_faster(plan: Plan) -> bool:
    """Whether the sidecar tells no more than was asked for, and the agreements permit it."""
    telling = plan.parameters["outcome"] in (Outcome.ONE, Outcome.BOTH)
    return telling and matching_of(plan).sidecar


def _meet(
    agreement: Agreement, names: Identifiers, place: Place, faster: Faster, offer: bytes
) -> Talk:
    """Either side's part, through the sidecar: the receiver then tells the sender the size."""
    rank = 0 if place.asset == agreement.receiver else 1
    peer = agreement.sender if rank == 0 else agreement.receiver
    ids = [name.hex() for name in names.members]
    receivers: Literal["both", 0] = "both" if agreement.outcome is Outcome.BOTH else 0
    # Each says that it is about to begin: a sidecar waits for the other a minute at most.
    only((yield {peer: b"begin"}), peer)
    places = faster.intersect(ids, rank, offer, place.binding, receivers)
    if rank == 0 and places is None:
        raise TaskError("out_of_order", "the sidecar kept back what this node was to learn")
    found = len(places) if rank == 0 and places is not None else 0
    size = found.to_bytes(_SIZE_BYTES, "big")
    incoming = yield {peer: size} if rank == 0 else {}
    told = found if rank == 0 else int.from_bytes(only(incoming, peer), "big")
    if told < agreement.minimum_intersection:
        raise SmallIntersectionError(
            f"fewer than {agreement.minimum_intersection} names are in common; nothing is kept"
        )
    return _part(agreement, Intersection(told, places), names)


def _receive(plan: Plan, agreement: Agreement, names: Identifiers, workers: Workers) -> Talk:
    """The receiver's side, from its offer on."""
    party, peer = Receiver(agreement, names.members, workers), agreement.sender
    wanted = 3 if plan.parameters["value"] else 1
    incoming = yield {peer: party.offer()}
    offer, *encrypted = read_frames(only(incoming, peer), wanted)
    incoming = yield {peer: party.answer(offer)}
    nothing(incoming)
    found = party.finish(only((yield {}), peer))
    if agreement.outcome is Outcome.BOTH:
        nothing((yield {peer: party.return_matches()}))
    if encrypted:
        public = PublicKey(int.from_bytes(encrypted[0], "big"))
        cells = ciphertexts_from_bytes(public, encrypted[1])
        total = add_matched(party, cells, public)
        nothing((yield {peer: ciphertexts_to_bytes(public, [total])}))
    return _part(agreement, found, names)


def _send(
    plan: Plan, agreement: Agreement, names: Identifiers, rows: PreparedRows, workers: Workers
) -> Talk:
    """The sender's side, from its offer on."""
    party, peer, value = Sender(agreement, names.members, workers), agreement.receiver, None
    offer = [party.offer()]
    if plan.parameters["value"]:
        value = _Values(plan, agreement)
        offer += value.encrypted(party, rows)
    party.double(only((yield {peer: frames(offer)}), peer))
    reply = party.reply(only((yield {}), peer))
    nothing((yield {peer: reply}))
    found = Intersection(party.size or 0, None)
    if agreement.outcome is Outcome.BOTH:
        found = party.finish(only((yield {}), peer))
    if value is not None:
        total = only((yield {}), peer)
        return _part(agreement, found, names, {"sum": value.opened(total, found.size)})
    return _part(agreement, found, names)


class _Values:
    """The sender's column and the key that its sum is under, for one job."""

    def __init__(self, plan: Plan, agreement: Agreement) -> None:
        _, sender = _roles(plan)
        self._column: str = plan.parameters["value"]
        self._rows: str = plan.parameters["rows"]
        magnitude = sender.columns[self._column].magnitude
        bound = 1 << max(0, magnitude or 0)
        self._scale = ValueScale.plan(agreement, bound=bound)
        self._secret = SecretKey.generate()

    def encrypted(self, party: Sender, rows: PreparedRows) -> list[bytes]:
        """Returns the public key's n, and one ciphertext for each point of the offer."""
        cells = rows.column(self._column, self._rows)
        if np.isnan(cells).any():
            raise TaskError("bad_parameter", f"column {self._column!r} has missing values")
        public = self._secret.public
        values = [int(cell) for cell in cells]
        ciphertexts = encrypt_values(party, values, self._scale, public)
        n = public.n.to_bytes((public.bits + 7) // 8, "big")
        return [n, ciphertexts_to_bytes(public, ciphertexts)]

    def opened(self, total: bytes, size: int) -> int:
        """Returns the sum over `size` identifiers."""
        (ciphertext,) = ciphertexts_from_bytes(self._secret.public, total)
        return open_sum(self._secret, ciphertext, size=size, scale=self._scale)


def _part(
    agreement: Agreement,
    found: Intersection,
    names: Identifiers,
    more: Mapping[str, Any] | None = None,
) -> Part:
    sizes = {"receiver": agreement.receiver_size, "sender": agreement.sender_size}
    kept = None
    if found.matches is not None:
        kept = np.array([names.rows[at] for at in found.matches], dtype=np.int64)
    return Part({"size": found.size, "sizes": sizes, **(more or {})}, kept)
