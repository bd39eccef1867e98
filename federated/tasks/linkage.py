"""Task `linkage`: which rows of two registers with dirty names are of the same person.

Three parties: two registers, and a node that compares. The registers share a key and send encodings
of their rows in an order of chance; the comparing node, which lacks the key, finds which are alike
(`privacy.linkage`) and tells each register which of its own rows are in a pair. What is compared,
how much each column counts and how few pairs may be told is fixed in the agreements
(`federated.linking`).

    compares   which asset only compares: "first", "second" or "third" in the order of the job
    learns     which register gets the list of its own rows: "none", "first", "second" or "both", in
               the order of the two that are left. Row k of both lists is pair k.

Result: {"links": n, "sizes": [n, n]}, the registers in the order of the job.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from federated.errors import TaskError, suggestion
from federated.linking import Linking
from federated.plan import Party, Plan
from federated.tasks import parameters as read
from federated.tasks.joint import (
    JointTask,
    Part,
    Place,
    Positions,
    Talk,
    frames,
    nothing,
    only,
    read_frames,
    within,
)
from federated.tasks.question import PreparedRows
from privacy.errors import LinkageError
from privacy.linkage import Encodings, LinkageKey, encode, link
from privacy.secure_random import random_bytes

COMPARES = ("first", "second", "third")
LEARNS = ("none", "first", "second", "both")
MOST_ROWS = 90_000
"""Encodings of more do not fit one message."""

_ORDER_BYTES = 16
_NUMBER_BYTES = 8


class Linkage(JointTask):
    """The task `linkage`."""

    name: ClassVar[str] = "linkage"
    version: ClassVar[int] = 1
    most_rounds: ClassVar[int] = 6

    def parse_parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns {"compares": "third", "learns": "none", "rows": "all"}.

        Raises:
            TaskError: unknown_parameter or bad_parameter.
        """
        read.known_keys(self.name, given, ("compares", "learns", "rows"))
        chosen = {"compares": given.get("compares", "third"), "learns": given.get("learns", "none")}
        for name, known in (("compares", COMPARES), ("learns", LEARNS)):
            if chosen[name] not in known:
                near = suggestion(str(chosen[name]), known)
                raise TaskError("bad_parameter", f"{name}: {chosen[name]!r} is none{near}")
        return {**chosen, "rows": read.row_choice(given)}

    def check_plan(self, plan: Plan) -> None:
        """Checks parties and columns against the data cards.

        Raises:
            TaskError: bad_parameter, unknown_column or too_few.
        """
        linking = _linking(plan)
        if len(plan.cohort) != len(COMPARES):
            raise TaskError(
                "bad_parameter",
                f"a linkage is of three assets, two registers and a node that compares; the job "
                f"names {len(plan.cohort)}",
            )
        for party in _registers(plan):
            for column in linking.columns:
                if column not in party.columns:
                    near = suggestion(column, party.columns)
                    raise TaskError(
                        "unknown_column", f"{party.name} has no column {column!r}{near}"
                    )
            if not linking.minimum_size <= party.rows <= MOST_ROWS:
                raise TaskError(
                    "too_few",
                    f"{party.name} has {party.rows} rows; from {linking.minimum_size} to "
                    f"{MOST_ROWS} can be linked",
                )

    def row_choices(self, plan: Plan) -> tuple[str, ...]:
        """Returns which rows of the registers take part."""
        return (str(plan.parameters["rows"]),)

    def has_rows(self, plan: Plan, asset: str) -> bool:
        """Says whether an asset is a register."""
        return any(party.asset_id == asset for party in _registers(plan))

    def check_rows(self, plan: Plan, asset: str, rows: PreparedRows) -> None:
        """Checks that a register's rows can be encoded.

        Raises:
            LinkageError: as `encode`.
            TaskError: too_few.
        """
        if self.has_rows(plan, asset):
            _encoded(plan, rows, LinkageKey.generate())

    def take_part(self, plan: Plan, place: Place, rows: PreparedRows) -> Talk:
        """Runs this node's side.

        Raises:
            TaskError: out_of_order: a parcel is missing or malformed; too_few.
            LinkageError: rows or encodings that are none.
        """
        if self.has_rows(plan, place.asset):
            return (yield from _register(plan, place, rows))
        return (yield from _compare(plan))

    def conclude(self, plan: Plan, reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Returns what all three report, if they agree.

        Raises:
            TaskError: reports_differ.
        """
        found = [dict(reports.get(party.asset_id, {})) for party in plan.cohort]
        if found.count(found[0]) != len(found) or not _can_be(found[0], _registers(plan)):
            raise TaskError("reports_differ", "the three nodes do not report the same links")
        return found[0]


def _can_be(report: Mapping[str, Any], registers: tuple[Party, Party]) -> bool:
    """Says whether a report is of two registers that the data cards allow."""
    sizes = report.get("sizes")
    if set(report) != {"links", "sizes"} or not isinstance(sizes, list) or len(sizes) != 2:
        return False
    if not all(within(n, 0, each.rows) for n, each in zip(sizes, registers, strict=True)):
        return False
    return within(report["links"], 0, min(sizes))


def _linking(plan: Plan) -> Linking:
    if plan.preparation.link is None:
        raise TaskError(
            "bad_parameter", "the agreements fix no `link`: which columns are compared, and how"
        )
    return plan.preparation.link


def _comparing(plan: Plan) -> Party:
    return plan.cohort[COMPARES.index(plan.parameters["compares"])]


def _registers(plan: Plan) -> tuple[Party, Party]:
    first, second = (party for party in plan.cohort if party is not _comparing(plan))
    return first, second


def _encoded(plan: Plan, rows: PreparedRows, key: LinkageKey) -> Encodings:
    """Encodes the agreed columns; a missing cell sets no bits."""
    linking, which = _linking(plan), plan.parameters["rows"]
    if rows.count(which) < linking.minimum_size:
        raise TaskError("too_few", f"fewer than {linking.minimum_size} rows are left to link")
    columns = [rows.texts(name, which, gaps=True) for name in linking.columns]
    return encode(columns, linking.schema, key)


def _register(plan: Plan, place: Place, rows: PreparedRows) -> Talk:
    """A register's side: the first of the two draws the key."""
    first, second = _registers(plan)
    compares = _comparing(plan).asset_id
    leads = place.asset == first.asset_id
    peer = second.asset_id if leads else first.asset_id
    if leads:
        key = LinkageKey.generate()
        nothing((yield {peer: key.raw_secret_bytes()}))
    else:
        key = LinkageKey.from_secret(only((yield {}), peer))
    encodings = _encoded(plan, rows, key)
    # In an order of chance: a place tells nothing of a row.
    order = sorted(range(len(encodings.words)), key=lambda _: random_bytes(_ORDER_BYTES))
    sent = Encodings(encodings.words[order])
    count = len(order).to_bytes(_NUMBER_BYTES, "big")
    nothing((yield {compares: frames([count, sent.to_bytes()])}))
    told, places = read_frames(only((yield {}), compares), 2)
    report = _report(told)
    if report["links"] < _linking(plan).minimum_links:
        raise TaskError("too_few", "fewer pairs than agreed were found; nothing more is told")
    kept = None
    if plan.parameters["learns"] in ("both", "first" if leads else "second"):
        kept = np.array(order, dtype=np.int64)[_positions(places, report["links"], len(order))]
    return Part(report, kept)


def _compare(plan: Plan) -> Talk:
    """The comparing node's side."""
    linking, (first, second) = _linking(plan), _registers(plan)
    nothing((yield {}))
    incoming = yield {}
    if set(incoming) != {first.asset_id, second.asset_id}:
        raise TaskError("out_of_order", "the encodings of a register are missing")
    sides = []
    for party in (first, second):
        count, data = read_frames(incoming[party.asset_id], 2)
        size = int.from_bytes(count, "big")
        if not linking.minimum_size <= size <= party.rows:
            raise TaskError("too_few", f"{party.name} sends another number of rows than it may")
        sides.append(Encodings.from_bytes(data, count=size, schema=linking.schema))
    links = link(sides[0], sides[1], threshold=linking.threshold)
    sizes = [len(side.words) for side in sides]
    told = b"".join(number.to_bytes(_NUMBER_BYTES, "big") for number in (len(links.first), *sizes))
    enough = len(links.first) >= linking.minimum_links
    empty = np.zeros(0, dtype=np.int64)
    yield {
        party.asset_id: frames([told, (places if enough else empty).astype("<u4").tobytes()])
        for party, places in ((first, links.first), (second, links.second))
    }
    if not enough:
        raise TaskError("too_few", "fewer pairs than agreed were found; nothing more is told")
    return Part(_report(told))


def _report(told: bytes) -> dict[str, Any]:
    if len(told) != 3 * _NUMBER_BYTES:
        raise TaskError("out_of_order", "the comparing node tells other numbers than it must")
    links, *sizes = (
        int.from_bytes(told[at : at + _NUMBER_BYTES], "big")
        for at in range(0, len(told), _NUMBER_BYTES)
    )
    return {"links": links, "sizes": sizes}


def _positions(data: bytes, count: int, rows: int) -> Positions:
    """Reads places among `rows`, each once.

    Raises:
        LinkageError: they are none.
    """
    if len(data) != 4 * count:
        raise LinkageError("the comparing node tells another number of places than of pairs")
    places = np.frombuffer(data, "<u4").astype(np.int64)
    if len(np.unique(places)) != count or (count and int(places.max()) >= rows):
        raise LinkageError("the comparing node tells places that are none, or one twice")
    return places
