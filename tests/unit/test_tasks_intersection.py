"""Two parties' intersection as a task: every outcome against plain sets, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated.errors import PreparationError, RowsError, TaskError
from federated.preparation import Preparation
from federated.tasks import JointTask, find_task, intersection
from federated.tasks.alignment import identifiers
from federated.tasks.joint import frames, read_frames
from privacy.errors import IdentifierError, PointError, SetSizeError, SmallIntersectionError
from tests.joint import converse, csv_text, staged

MATCH = {"columns": {"id": ["strip"]}, "minimum_size": 2, "minimum_intersection": 2, "monthly": 4}
A, B = "asset:a", "asset:b"
NORTH = [{"id": f"p{at}", "days": at * at} for at in range(12)]
SOUTH = [{"id": f" p{at} ", "days": 1000 - 3 * at} for at in range(7, 25)]
COMMON = 5
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "psi_ids"


def task() -> JointTask:
    found = find_task("intersection")
    assert isinstance(found, JointTask)
    return found


def ready(north: Any = NORTH, south: Any = SOUTH, match: Any = MATCH, **parameters: Any) -> Any:
    tables = {A: csv_text(north), B: csv_text(south)}
    plan, rows = staged(task(), tables, {"match": match}, **parameters)
    task().check_plan(plan)
    return plan, rows


def result(plan: Any, parts: Any) -> dict[str, Any]:
    return task().conclude(plan, {asset: part.report for asset, part in parts.items()})


@pytest.mark.parametrize("receiver", ["first", "second"])
@pytest.mark.parametrize("outcome", ["size", "one", "both"])
def test_each_outcome_tells_what_it_says_and_no_more(outcome: str, receiver: str):
    plan, rows = ready(outcome=outcome, receiver=receiver)
    parts = converse(task(), plan, rows)
    sizes = (12, 18) if receiver == "first" else (18, 12)
    assert result(plan, parts) == {
        "size": COMMON,
        "sizes": {"receiver": sizes[0], "sender": sizes[1]},
    }
    asked, other = (A, B) if receiver == "first" else (B, A)
    in_common = {A: [7, 8, 9, 10, 11], B: [0, 1, 2, 3, 4]}
    learns = {"size": (), "one": (asked,), "both": (asked, other)}[outcome]
    for asset, part in parts.items():
        kept = None if part.kept is None else part.kept.tolist()
        assert kept == (in_common[asset] if asset in learns else None)


@pytest.mark.parametrize(("receiver", "summed"), [("second", "north"), ("first", "south")])
def test_the_sum_is_that_of_the_senders_column(receiver: str, summed: str):
    plan, rows = ready(outcome="sum", receiver=receiver, value="days")
    parts = converse(task(), plan, rows)
    expected = {"north": sum(at * at for at in range(7, 12)), "south": 5000 - 3 * 45}
    assert result(plan, parts)["sum"] == expected[summed]
    assert all(part.kept is None for part in parts.values())
    asking = {"first": A, "second": B}[receiver]
    assert "sum" not in parts[asking].report


@settings(max_examples=15, deadline=None)
@given(
    st.sets(st.integers(0, 40), min_size=2, max_size=30),
    st.sets(st.integers(0, 40), min_size=2, max_size=30),
)
def test_any_two_sets_meet_as_plain_sets_do(first: set[int], second: set[int]):
    plan, rows = ready(
        [{"id": f"p{at}"} for at in sorted(first)],
        [{"id": f"p{at}"} for at in sorted(second, reverse=True)],
        outcome="both",
    )
    if len(first & second) < 2:
        with pytest.raises(SmallIntersectionError, match="fewer than 2 names"):
            converse(task(), plan, rows)
        return
    parts = converse(task(), plan, rows)
    found = [sorted(first)[at] for at in parts[A].kept]
    assert found == sorted(first & second)
    assert {sorted(second, reverse=True)[at] for at in parts[B].kept} == first & second


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published identifiers are not here")
def test_the_published_identifiers_meet_in_500():
    tables = [(SHARED / f"psi_{at}.csv").read_text() for at in (1, 2)]
    plan, rows = staged(
        task(), dict(zip((A, B), tables, strict=True)), {"match": MATCH}, outcome="one"
    )
    parts = converse(task(), plan, rows)
    names = [text.split()[1:] for text in tables]
    assert {names[0][at] for at in parts[A].kept} == set(names[0]) & set(names[1])
    assert result(plan, parts)["size"] == 500


def test_under_another_binding_the_points_are_others():
    plan, rows = ready()
    first: list[bytes] = []
    again: list[bytes] = []
    converse(task(), plan, rows, heard=first)
    converse(task(), plan, rows, heard=again)
    points = [
        {data[at : at + 32] for data in seen for at in range(0, len(data), 32)}
        for seen in (first, again)
    ]
    # Only what announces the sizes is alike: exponents are fresh.
    assert {len(point) for point in points[0] & points[1]} == {24}


def test_a_smaller_set_than_agreed_is_refused_before_anything_is_sent():
    with pytest.raises(TaskError, match="asset:a has 12 rows, and 13 are agreed") as refused:
        ready(match=MATCH | {"minimum_size": 13})
    assert refused.value.reason == "too_few"


def test_rows_that_collapse_below_the_minimum_are_refused():
    north = [{"id": f"p{at % 3}"} for at in range(12)]
    plan, rows = ready(north, match=MATCH | {"minimum_size": 4, "collapse": True})
    with pytest.raises(SetSizeError, match="has 3 names; from 4"):
        task().check_rows(plan, A, rows[A])
    with pytest.raises(SetSizeError, match="has 3 names; from 4"):
        converse(task(), plan, rows)


def test_repeated_identifiers_are_refused_unless_they_collapse():
    north = [*NORTH, NORTH[3]]
    plan, rows = ready(north)
    with pytest.raises(IdentifierError, match="1 of 13 rows repeat"):
        task().check_rows(plan, A, rows[A])
    plan, rows = ready(north, match=MATCH | {"collapse": True})
    assert result(plan, converse(task(), plan, rows))["size"] == COMMON


def test_missing_and_fractional_identifiers_are_refused_naming_the_column():
    plan, rows = ready([*NORTH, {"id": "", "days": 1}])
    with pytest.raises(RowsError, match="'id' has missing values"):
        task().check_rows(plan, A, rows[A])
    plan, rows = ready(
        match=MATCH | {"columns": {"days": []}}, north=[{"id": "a", "days": 0.5}] * 3
    )
    with pytest.raises(RowsError, match="'days' holds numbers that are not whole") as refused:
        task().check_rows(plan, A, rows[A])
    assert refused.value.reason == "not_whole"


def test_whole_numbers_are_the_same_in_a_column_where_another_cell_is_none():
    plan, rows = ready(
        [{"id": text, "days": 1} for text in ("007", "008", "9")],
        [{"id": text, "days": 1} for text in ("007", "8", "A-12")],
        outcome="one",
    )
    assert converse(task(), plan, rows)[A].kept.tolist() == [0, 1]


def test_whole_numbers_are_compared_by_their_digits_however_they_are_written():
    plan, rows = ready(
        [{"id": at, "days": 1} for at in (7, 8, 9)],
        [{"id": text, "days": 1} for text in ("007", "+8", "10")],
        outcome="one",
    )
    assert converse(task(), plan, rows)[A].kept.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"outcome": "sise"}, "did you mean 'size'"),
        ({"receiver": "third"}, "first or second"),
        ({"outcome": "sum"}, "value: the column"),
        ({"outcome": "one", "value": "days"}, "value: the column"),
        ({"rows": "trane"}, "did you mean 'train'"),
    ],
)
def test_bad_parameters_are_refused(given: dict[str, Any], says: str):
    with pytest.raises(TaskError, match=says) as refused:
        task().parse_parameters(given)
    assert refused.value.reason == "bad_parameter"


def test_an_unknown_parameter_is_refused():
    with pytest.raises(TaskError, match="no parameter 'colums'"):
        task().parse_parameters({"colums": ["id"]})


def test_without_agreed_identifiers_there_is_no_intersection():
    tables = {A: csv_text(NORTH), B: csv_text(SOUTH)}
    plan, _ = staged(task(), tables, {})
    with pytest.raises(TaskError, match="the agreements fix no `match`"):
        task().check_plan(plan)


def test_three_parties_are_refused():
    tables = {A: csv_text(NORTH), B: csv_text(SOUTH), "asset:c": csv_text(SOUTH)}
    plan, _ = staged(task(), tables, {"match": MATCH})
    with pytest.raises(TaskError, match="of two assets, and the job names 3"):
        task().check_plan(plan)


@pytest.mark.parametrize(
    ("south", "match", "value", "says"),
    [
        (SOUTH, MATCH | {"columns": {"name": []}}, "days", "has no column 'name'"),
        ([{"id": "p8"}] * 3, MATCH, "days", "asset:b, the sender, has no column 'days'"),
        ([{"id": "p8", "days": 0.5}] * 3, MATCH, "days", "whole numbers, one for each"),
        (SOUTH, MATCH | {"collapse": True}, "days", "not collapsed"),
    ],
)
def test_columns_that_do_not_serve_are_refused(south: Any, match: Any, value: str, says: str):
    with pytest.raises(TaskError, match=says):
        ready(south=south, match=match, outcome="sum", value=value)


def test_a_sum_over_missing_values_is_refused():
    south = [*SOUTH, {"id": "p90", "days": ""}]
    plan, rows = ready(south=south, outcome="sum", value="days")
    with pytest.raises(TaskError, match="'days' has missing values"):
        converse(task(), plan, rows)


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_a_parcel_that_is_missing_ends_the_part(number: int):
    plan, rows = ready(outcome="both")

    def without(at: int, _asset: str, parcels: dict[str, bytes]) -> dict[str, bytes]:
        return {} if at == number else parcels

    with pytest.raises(TaskError, match="parcel is missing") as refused:
        converse(task(), plan, rows, without)
    assert refused.value.reason == "out_of_order"


def test_a_parcel_out_of_turn_ends_the_part():
    plan, rows = ready(outcome="one")

    def more(at: int, asset: str, parcels: dict[str, bytes]) -> dict[str, bytes]:
        return {B: b"hello"} if (at, asset) == (4, A) else parcels

    with pytest.raises(TaskError, match="spoke out of turn"):
        converse(task(), plan, rows, more)


def test_points_of_small_order_in_an_offer_are_refused():
    plan, rows = ready(outcome="one")

    def zero(at: int, asset: str, parcels: dict[str, bytes]) -> dict[str, bytes]:
        if (at, asset) != (3, A):
            return parcels
        (offer,) = read_frames(parcels[B], 1)
        return {B: frames([bytes(32) + offer[32:]])}

    with pytest.raises(PointError):
        converse(task(), plan, rows, zero)


def test_a_set_of_another_size_than_announced_is_refused():
    plan, rows = ready(outcome="one")

    def fewer(at: int, asset: str, parcels: dict[str, bytes]) -> dict[str, bytes]:
        return {A: parcels[A][32:]} if (at, asset) == (3, B) else parcels

    with pytest.raises(SetSizeError):
        converse(task(), plan, rows, fewer)


@pytest.mark.parametrize("report", [{}, {"size": 6, "sizes": {"receiver": 12, "sender": 18}}])
def test_reports_that_differ_are_no_result(report: dict[str, Any]):
    plan, rows = ready()
    reports = {asset: part.report for asset, part in converse(task(), plan, rows).items()}
    with pytest.raises(TaskError, match="do not report the same") as refused:
        task().conclude(plan, reports | {B: report})
    assert refused.value.reason == "reports_differ"


@pytest.mark.parametrize(
    "report",
    [
        {"size": None, "sizes": None},
        {"size": "5", "sizes": {"receiver": 12, "sender": 18}},
        {"size": True, "sizes": {"receiver": 12, "sender": 18}},
        {"size": 13, "sizes": {"receiver": 12, "sender": 18}},
        {"size": 5, "sizes": {"receiver": 12, "sender": 19}},
        {"size": 5, "sizes": {"receiver": 12}},
        {"size": 5, "sizes": {"receiver": 12, "sender": 18}, "cells": ["p1", "p2"]},
    ],
)
def test_a_report_that_both_make_and_that_cannot_be_is_no_result(report: dict[str, Any]):
    plan, _ = ready()
    with pytest.raises(TaskError, match="do not report the same"):
        task().conclude(plan, {A: report, B: report})
    fit = {"size": 5, "sizes": {"receiver": 12, "sender": 18}}
    assert task().conclude(plan, {A: fit, B: fit}) == fit
    summing, _ = ready(outcome="sum", value="days")
    with pytest.raises(TaskError, match="reports no sum"):
        task().conclude(summing, {A: fit, B: {**fit, "sum": "much"}})


@pytest.mark.parametrize("parcel", [b"", b"\0" * 7, frames([b"a"]) + b"x", frames([b"a", b"b"])])
def test_frames_are_read_whole_or_refused(parcel: bytes):
    assert read_frames(frames([b"a", b""]), 2) == [b"a", b""]
    with pytest.raises(TaskError, match="has not the 1 parts"):
        read_frames(parcel, 1)


@pytest.mark.parametrize(
    ("match", "says"),
    [
        ({}, "match.columns: a table"),
        ({"columns": {}}, "match.columns: a table"),
        ({"columns": {"id": ["stripp"]}}, "does not exist"),
        ({"columns": {"id": "strip"}}, "list of steps"),
        ({"columns": {"id": []}, "monthy": 3}, "did you mean 'monthly'"),
        ({"columns": {"id": []}, "minimum_size": 1}, "minimum_size: a whole number from 2"),
        ({"columns": {"id": []}, "minimum_intersection": True}, "minimum_intersection: a whole"),
        ({"columns": {"id": []}, "monthly": -1}, "monthly: a whole number from 0"),
        ("id", "match: a table"),
    ],
)
def test_an_agreement_on_identifiers_that_cannot_be_meant_is_refused(match: Any, says: str):
    with pytest.raises(PreparationError, match=says):
        Preparation.parse({"match": match})


def test_an_agreement_on_identifiers_reads_back_and_changes_the_digest():
    agreed = Preparation.parse({"match": {"columns": {"b": ["strip"], "a": []}}})
    assert agreed.match is not None
    assert agreed.match.columns == ("a", "b")
    assert Preparation.parse(agreed.to_json()) == agreed
    assert (agreed.match.minimum_size, agreed.match.minimum_intersection) == (100, 10)
    assert agreed.digest() != Preparation().digest()
    # Agreements from before have no such key, and keep their digests.
    assert "match" not in Preparation().to_json()


class Meeting:
    """Two ends of a faster way, in one process: what a sidecar does, without one."""

    def __init__(self, version: bytes = b"1") -> None:
        self.version, self.sets, self.met = version, {}, []

    def offer(self) -> bytes:
        return self.version

    def meets(self, offer: bytes) -> bool:
        return bool(self.version) and offer == self.version

    def intersect(
        self, ids: Any, rank: int, offer: bytes, binding: bytes, receivers: Any
    ) -> tuple[int, ...] | None:
        del offer, binding
        self.met.append((rank, receivers))
        theirs = {0: self.sets[B], 1: self.sets[A]}[rank]
        places = tuple(at for at, each in enumerate(ids) if each in theirs)
        return places if receivers in ("both", rank) else None


def through(faster: Meeting, monkeypatch: Any, **parameters: Any) -> Any:
    """An intersection whose nodes have a faster way, however few rows they have."""
    monkeypatch.setattr(intersection, "FASTER_FROM", 2)
    plan, rows = ready(match=MATCH | {"sidecar": True}, **parameters)
    for asset in (A, B):
        names = identifiers(plan, rows[asset], "all")
        faster.sets[asset] = {name.hex() for name in names.members}
    return plan, converse(task(), plan, rows, faster=faster)


@pytest.mark.parametrize("outcome", ["one", "both"])
def test_a_faster_way_comes_to_the_same(outcome: str, monkeypatch: pytest.MonkeyPatch):
    faster = Meeting()
    plan, parts = through(faster, monkeypatch, outcome=outcome)
    plain, rows = ready(outcome=outcome)
    expected = converse(task(), plain, rows)
    assert result(plan, parts) == result(plain, expected)
    for asset in (A, B):
        kept, wanted = parts[asset].kept, expected[asset].kept
        assert (None if kept is None else kept.tolist()) == (
            None if wanted is None else wanted.tolist()
        )
    assert sorted(faster.met) == [(0, "both" if outcome == "both" else 0), (1, faster.met[0][1])]


def test_a_faster_way_is_not_taken_where_it_tells_too_much_or_is_not_agreed(
    monkeypatch: pytest.MonkeyPatch,
):
    for parameters in ({"outcome": "size"}, {"outcome": "sum", "value": "days"}):
        faster = Meeting()
        through(faster, monkeypatch, **parameters)
        assert faster.met == []
    faster = Meeting()
    monkeypatch.setattr(intersection, "FASTER_FROM", 2)
    plan, rows = ready(outcome="one")
    converse(task(), plan, rows, faster=faster)
    assert faster.met == []


def test_a_faster_way_that_only_one_has_or_that_is_too_small_for_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
):
    faster = Meeting(version=b"")
    through(faster, monkeypatch, outcome="one")
    assert faster.met == []
    plan, rows = ready(match=MATCH | {"sidecar": True}, outcome="one")
    monkeypatch.setattr(intersection, "FASTER_FROM", 13)
    other = Meeting()
    converse(task(), plan, rows, faster=other)
    assert other.met == []


def test_too_few_in_common_are_not_kept_after_a_faster_way(monkeypatch: pytest.MonkeyPatch):
    few = MATCH | {"sidecar": True, "minimum_intersection": COMMON + 1}
    monkeypatch.setattr(intersection, "FASTER_FROM", 2)
    plan, rows = ready(match=few, outcome="both")
    faster = Meeting()
    for asset in (A, B):
        names = identifiers(plan, rows[asset], "all")
        faster.sets[asset] = {name.hex() for name in names.members}
    with pytest.raises(SmallIntersectionError, match="nothing is kept"):
        converse(task(), plan, rows, faster=faster)
