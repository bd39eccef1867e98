"""Two registers and a node that compares: who learns what, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federated.errors import PreparationError, RowsError, TaskError
from federated.preparation import Preparation
from federated.tasks import JointTask, find_task
from federated.tasks.joint import frames, read_frames
from privacy.errors import LinkageError
from tests.joint import converse, csv_text, staged
from tests.unit.test_linkage import misspelled, people, shuffled

FEBRL = Path(__file__).resolve().parents[3] / "shared" / "data" / "febrl4"
A, B, C = "asset:a", "asset:b", "asset:c"
NAMES = ("given", "surname", "born", "town")
LINK = {
    "columns": {"given": 200, "surname": 200, "born": 200, "town": 100},
    "minimum_size": 2,
    "minimum_links": 2,
}
COUNT = 60
CLEAN = people(COUNT)
DIRTY, ORDER = shuffled(misspelled(CLEAN))
OTHER = csv_text([{"seat": at} for at in range(5)])


def table(columns: list[list[str]]) -> str:
    return csv_text([dict(zip(NAMES, row, strict=True)) for row in zip(*columns, strict=True)])


def task() -> JointTask:
    found = find_task("linkage")
    assert isinstance(found, JointTask)
    return found


def ready(tables: Any = None, link: Any = LINK, **parameters: Any) -> Any:
    given = tables or {A: table(CLEAN), B: table(DIRTY), C: OTHER}
    plan, rows = staged(task(), given, {"link": link}, **parameters)
    task().check_plan(plan)
    return plan, rows


def result(plan: Any, parts: Any) -> dict[str, Any]:
    return task().conclude(plan, {asset: part.report for asset, part in parts.items()})


@pytest.mark.parametrize("learns", ["none", "first", "second", "both"])
def test_dirty_rows_are_linked_and_only_who_should_learns_which(learns: str):
    plan, rows = ready(learns=learns)
    parts = converse(task(), plan, rows)
    assert result(plan, parts) == {"links": COUNT, "sizes": [COUNT, COUNT]}
    assert parts[C].kept is None
    for asset, name in ((A, "first"), (B, "second")):
        assert (parts[asset].kept is not None) == (learns in ("both", name))
    if learns == "both":
        # Row k of both lists is pair k.
        assert parts[A].kept.tolist() == ORDER[parts[B].kept].tolist()


def test_any_of_the_three_may_compare():
    tables = {A: OTHER, B: table(CLEAN), C: table(DIRTY)}
    plan, rows = ready(tables, compares="first", learns="both")
    parts = converse(task(), plan, rows)
    assert parts[B].kept.tolist() == ORDER[parts[C].kept].tolist()
    assert [task().has_rows(plan, asset) for asset in (A, B, C)] == [False, True, True]


@pytest.mark.slow
@pytest.mark.skipif(not FEBRL.is_dir(), reason="the febrl registers are not here")
def test_febrls_registers_are_linked_as_published():
    names = {"given_name": 200, "surname": 200, "date_of_birth": 200}
    others = ["street_number", "address_1", "address_2", "suburb", "postcode", "state"]
    link = {"columns": names | dict.fromkeys(others, 100)}
    tables, people_of = {}, []
    for asset, file in ((A, "dataset4a.csv"), (B, "dataset4b.csv")):
        with (FEBRL / file).open() as lines:
            records = [
                {name.strip(): cell.strip() for name, cell in row.items()}
                for row in csv.DictReader(lines, skipinitialspace=True)
            ]
        people_of.append(np.array([row["rec_id"].split("-")[1] for row in records]))
        tables[asset] = csv_text([{name: row[name] for name in link["columns"]} for row in records])
    plan, rows = ready({**tables, C: OTHER}, link, learns="both")
    parts = converse(task(), plan, rows)
    right = people_of[0][parts[A].kept] == people_of[1][parts[B].kept]
    assert right.all()
    assert len(right) >= 0.99 * 5000


def test_the_comparing_node_gets_rows_in_an_order_of_chance_and_no_key():
    plan, rows = ready()
    first: list[bytes] = []
    again: list[bytes] = []
    converse(task(), plan, rows, heard=first)
    converse(task(), plan, rows, heard=again)
    keys = [data for seen in (first, again) for data in seen if len(data) == 32]
    assert len(set(keys)) == 2
    sent = [read_frames(data, 2)[1] for seen in (first, again) for data in seen if len(data) > 9999]
    assert len(set(sent)) == 4


def test_fewer_pairs_than_agreed_tell_nothing():
    strangers = people(COUNT, seed=99)
    plan, rows = ready({A: table(CLEAN), B: table(strangers), C: OTHER})
    with pytest.raises(TaskError, match="fewer pairs than agreed") as refused:
        converse(task(), plan, rows)
    assert refused.value.reason == "too_few"


def changed(number: int, asset: str, peer: str, data: bytes) -> Any:
    def meddle(at: int, receiver: str, parcels: dict[str, bytes]) -> dict[str, bytes]:
        return {**parcels, peer: data} if (at, receiver) == (number, asset) else parcels

    return meddle


TOLD = b"".join(number.to_bytes(8, "big") for number in (COUNT, COUNT, COUNT))
TWICE = np.zeros(COUNT, "<u4").tobytes()
BEYOND = np.arange(1, COUNT + 1).astype("<u4").tobytes()


@pytest.mark.parametrize(
    ("number", "asset", "peer", "data", "error"),
    [
        (2, B, A, b"short", LinkageError),
        (3, C, A, frames([b"\1", bytes(64)]), TaskError),
        (3, C, A, frames([(60).to_bytes(8, "big"), bytes(64)]), LinkageError),
        (3, C, A, b"", TaskError),
        (4, A, C, frames([TOLD, TWICE]), LinkageError),
        (4, A, C, frames([TOLD, BEYOND]), LinkageError),
        (4, A, C, frames([TOLD, b""]), LinkageError),
        (4, A, C, frames([b"", b""]), TaskError),
    ],
)
def test_a_parcel_that_does_not_fit_ends_the_job(
    number: int, asset: str, peer: str, data: bytes, error: type[Exception]
):
    plan, rows = ready(learns="both")
    with pytest.raises(error):
        converse(task(), plan, rows, changed(number, asset, peer, data))


def test_reports_that_differ_are_no_result():
    plan, rows = ready()
    reports = {asset: part.report for asset, part in converse(task(), plan, rows).items()}
    for asset in (A, B, C):
        with pytest.raises(TaskError, match="do not report the same"):
            task().conclude(plan, {**reports, asset: {"links": 1, "sizes": [COUNT, COUNT]}})


@pytest.mark.parametrize(
    "report",
    [
        {"links": "60", "sizes": [COUNT, COUNT]},
        {"links": COUNT + 1, "sizes": [COUNT, COUNT]},
        {"links": 1, "sizes": [COUNT]},
        {"links": 1, "sizes": [COUNT, COUNT + 1]},
        {"links": 1, "sizes": [COUNT, COUNT], "names": ["Ann"]},
    ],
)
def test_a_report_that_all_make_and_that_cannot_be_is_no_result(report: dict[str, Any]):
    plan, _ = ready()
    with pytest.raises(TaskError, match="do not report the same"):
        task().conclude(plan, dict.fromkeys((A, B, C), report))


@pytest.mark.parametrize(
    ("tables", "link", "says"),
    [
        ({A: table(CLEAN), B: table(DIRTY)}, LINK, "names 2"),
        ({A: OTHER, B: table(DIRTY), C: table(CLEAN)}, LINK, "asset:a has no column 'born'"),
        (None, LINK | {"minimum_size": COUNT + 1}, "asset:a has 60 rows"),
        (None, None, "fix no `link`"),
    ],
)
def test_what_cannot_be_linked_is_refused_by_the_cards(tables: Any, link: Any, says: str):
    with pytest.raises(TaskError, match=says):
        ready(tables, link)


def test_rows_are_looked_at_before_anything_is_sent():
    empty = [[*cells[:-1], ""] for cells in CLEAN]
    plan, rows = ready({A: table(empty), B: table(DIRTY), C: OTHER})
    with pytest.raises(LinkageError, match="row 59"):
        task().check_rows(plan, A, rows[A])
    task().check_rows(plan, C, rows[C])
    numbers = [[*cells[:-1], "x"] for cells in CLEAN[:3]] + [["0.5"] * COUNT]
    plan, rows = ready({A: table(numbers), B: table(DIRTY), C: OTHER})
    with pytest.raises(RowsError, match="'town' holds numbers that are not whole"):
        task().check_rows(plan, A, rows[A])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"compares": "fourth"}, "compares"),
        ({"learns": "all"}, "learns"),
        ({"outcome": "size"}, "no parameter 'outcome'"),
    ],
)
def test_bad_parameters_are_refused(given: dict[str, Any], says: str):
    with pytest.raises(TaskError, match=says):
        task().parse_parameters(given)


@pytest.mark.parametrize(
    ("link", "says"),
    [
        ({}, "link.columns: a table"),
        ({"columns": {"a": 0}}, "link.columns: a field sets 1 to 512"),
        ({"columns": {"a": 9}, "treshold": 1}, "did you mean 'threshold'"),
        ({"columns": {"a": 9}, "threshold": 1001}, "1000 at most"),
        ({"columns": {"a": 9}, "threshold": 0}, "link.threshold: a whole number from 1"),
        ({"columns": {"a": 9}, "minimum_links": 1}, "link.minimum_links: a whole number from 2"),
        ([], "link: a table"),
    ],
)
def test_an_agreement_that_cannot_be_meant_is_refused(link: Any, says: str):
    with pytest.raises(PreparationError, match=says):
        Preparation.parse({"link": link})


def test_an_agreement_reads_back_and_the_stricter_month_counts():
    agreed = Preparation.parse(
        {"link": {"columns": {"b": 9, "a": 8}, "monthly": 3}, "match": {"columns": {"a": []}}}
    )
    assert agreed.link is not None
    assert agreed.link.columns == ("a", "b")
    assert Preparation.parse(agreed.to_json()) == agreed
    assert (agreed.monthly, Preparation().monthly) == (3, None)
