"""The task `order_statistic`: its parameters, its plan, and tables against plain Python."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import pytest

from federated.errors import TaskError
from federated.tasks import JointTask, find_task
from federated.tasks.joint import Place
from privacy.errors import ChildDiedError, PeersError
from privacy.mpc.party import Party
from tests.joint import BINDING, converse, csv_text, staged

A, B, C, D = (f"asset:{letter}" for letter in "abcd")
CELLS = {A: [1.5, 2.25, -8.0], B: [3.1, 4.0], C: [0.75], D: [9.5, -7.25, 4.0]}
PLAIN = {"statistic": "maximum", "column": "x"}


def task() -> JointTask:
    found = find_task("order_statistic")
    assert isinstance(found, JointTask)
    return found


def tables(cells: dict[str, list[Any]]) -> dict[str, str]:
    return {asset: csv_text([{"x": cell} for cell in some]) for asset, some in cells.items()}


def ready(cells: Any = CELLS, **parameters: Any) -> Any:
    plan, rows = staged(task(), tables(cells), {}, **(PLAIN | {"decimals": 2} | parameters))
    task().check_plan(plan)
    for asset, prepared in rows.items():
        task().check_rows(plan, asset, prepared)
    return plan, rows


def result(cells: Any = CELLS, **parameters: Any) -> dict[str, Any]:
    plan, rows = ready(cells, **parameters)
    parts = converse(task(), plan, rows)
    found = task().conclude(plan, {asset: part.report for asset, part in parts.items()})
    assert 8 < found.pop("rounds") < task().most_rounds / 2
    return found


def party(asset: str) -> dict[str, str]:
    return {"asset": asset, "name": asset}


@pytest.mark.slow
def test_the_largest_total_and_whose_it_is():
    assert result(who=True) == {"value": 7.1, "who": party(B), "numbers": 4}


@pytest.mark.slow
def test_the_smallest_cell_of_all_rows_takes_one_number_of_each_party():
    assert result(statistic="minimum", of="rows") == {"value": -8.0, "numbers": 4}


@pytest.mark.slow
def test_the_largest_cells_and_whose_they_are_earlier_parties_first_among_equals():
    found = result(statistic="top", k=3, of="rows", who=True)
    assert found == {
        "values": [9.5, 4.0, 4.0],
        "who": [party(D), party(B), party(D)],
        "numbers": 9,
    }


def test_the_median_of_all_rows_is_the_plain_one():
    every = [cell for some in CELLS.values() for cell in some]
    assert result(statistic="median", of="rows") == {
        "value": statistics.median(every),
        "numbers": 9,
    }


@pytest.mark.slow
def test_a_median_of_means_is_that_of_rounded_means_of_those_who_put_numbers_in():
    cells = {A: [1, 2], B: [2, 3], C: ["text"], D: [-5]}
    found = result(cells, statistic="median", of="mean", decimals=0, computing_only=[3])
    # 1.5 and 2.5 are rounded half to even: 2, 2 and -5.
    assert found == {"value": 2, "numbers": 3}


@pytest.mark.slow
def test_an_even_median_of_whole_numbers_may_be_a_half():
    cells = {A: [1], B: [5], C: [9], D: [2]}
    assert result(cells, statistic="median", decimals=0) == {"value": 3.5, "numbers": 4}


def test_of_two_totals_only_which_is_more_is_told():
    found = result(statistic="comparison", computing_only=[2, 4])
    assert found == {"more": party(C), "numbers": 2}
    report = {"opened": ["0"], "numbers": 2, "rounds": 15}
    reports = dict.fromkeys((A, B, C, D), report)
    plan, _ = ready(statistic="comparison", computing_only=[2, 4])
    assert task().conclude(plan, reports)["more"] is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"statistic": "maximun"}, "did you mean 'maximum'"),
        ({"column": 7}, "column"),
        ({"statistic": "top"}, "k: how many"),
        ({"statistic": "top", "k": 17}, "from 1 to 16"),
        ({"statistic": "top", "k": True}, "k: how many"),
        ({"k": 2}, "for top and nothing else"),
        ({"statistic": "median", "who": True}, "nobody's"),
        ({"who": 1}, "true or false"),
        ({"statistic": "comparison", "of": "rows"}, "two totals or means"),
        ({"of": "total of rows"}, "of"),
        ({"decimals": 10}, "from 0 to 9"),
        ({"decimals": -1}, "from 0 to 9"),
        ({"computing_only": [0]}, "places"),
        ({"computing_only": [8]}, "places"),
        ({"computing_only": [3, 3]}, "places"),
        ({"computing_only": 3}, "places"),
        ({"rows": "every"}, "rows"),
    ],
)
def test_bad_parameters_are_refused(given: dict[str, Any], says: str):
    with pytest.raises(TaskError, match=says) as refused:
        task().parse_parameters(PLAIN | given)
    assert refused.value.reason == "bad_parameter"


def test_parameters_are_canonical_and_unknown_ones_are_refused():
    given = {"statistic": "top", "column": "x", "k": 16, "decimals": 9, "computing_only": [7, 1]}
    assert task().parse_parameters(given) == {
        "statistic": "top",
        "column": "x",
        "of": "total",
        "k": 16,
        "who": False,
        "decimals": 9,
        "rows": "all",
        "computing_only": [1, 7],
    }
    for known in (given, PLAIN):
        parsed = task().parse_parameters(known)
        assert task().parse_parameters(parsed) == parsed
    with pytest.raises(TaskError, match="did you mean 'statistic'"):
        task().parse_parameters(PLAIN | {"statistics": "top"})


@pytest.mark.parametrize(
    ("cells", "given", "reason", "says"),
    [
        ({A: [1], B: [2]}, {}, "bad_parameter", "fewer than three parties"),
        ({A: [1], B: [2], C: [3]}, {"computing_only": [4]}, "bad_parameter", "no place 4"),
        ({A: [1], B: [2], C: [3]}, {"computing_only": [1, 2]}, "too_few", "of 1 numbers"),
        ({A: [1], B: [2], C: [3]}, {"statistic": "comparison"}, "bad_parameter", "two parties"),
        ({A: [1], B: [2], C: [3]}, {"column": "y"}, "unknown_column", "asset:a"),
        ({A: [1], B: ["b"], C: [3]}, {}, "not_numeric", "asset:b"),
        ({A: [1e14], B: [2], C: [3]}, {}, "overflow", "2\\^53"),
        (
            {A: [1] * 70, B: [2], C: [3]},
            {"statistic": "median", "of": "rows"},
            "bad_parameter",
            "64",
        ),
        (
            {A: [1], B: [2], C: [3]},
            {"statistic": "top", "k": 3, "of": "rows"},
            "too_few",
            "of 3 numbers",
        ),
    ],
)
def test_plans_that_cannot_be_computed_are_refused_before_anything_is_reserved(
    cells: Any, given: dict[str, Any], reason: str, says: str
):
    with pytest.raises(TaskError, match=says) as refused:
        ready(cells, **given)
    assert refused.value.reason == reason


def test_one_number_less_than_there_are_may_be_asked_for():
    ready({A: [1], B: [2], C: [3]}, statistic="top", k=2, of="rows")


def test_the_largest_number_that_the_cards_allow_passes_and_twice_it_does_not():
    edge = float(1 << 52)
    ready({A: [edge], B: [2], C: [3]}, decimals=0)
    with pytest.raises(TaskError, match="2\\^53"):
        ready({A: [2 * edge], B: [2], C: [3]}, decimals=0)


@pytest.mark.parametrize("cell", [np.nan, np.inf, -np.inf, 8.5])
def test_cells_beyond_the_card_name_the_column_and_no_value(
    cell: float, monkeypatch: pytest.MonkeyPatch
):
    plan, rows = ready({A: [8], B: [2], C: [3]})
    monkeypatch.setattr(type(rows[A]), "column", lambda *_: np.array([1.0, cell]))
    for refusing in (
        lambda: task().check_rows(plan, A, rows[A]),
        lambda: next(task().take_part(plan, Place(A, BINDING), rows[A])),
    ):
        with pytest.raises(TaskError, match="column 'x'") as refused:
            refusing()
        assert refused.value.reason == "out_of_bounds"
        assert "8.5" not in str(refused.value)


@pytest.mark.slow
def test_where_rows_drop_out_the_nodes_and_not_the_cards_say_how_many_count():
    cells: dict[str, list[Any]] = {A: ["NA"] * 69 + [1], B: ["NA", 2], C: [3, 4]}
    chosen = {"statistic": "median", "of": "rows", "rows": "complete"}
    assert result(cells, **chosen) == {"value": 2.5, "numbers": 4}
    with pytest.raises(TaskError, match="74 numbers"):
        ready(cells, **(chosen | {"rows": "all"}))


def test_as_many_rows_as_are_compared_pass_and_one_more_does_not():
    chosen = {"statistic": "median", "of": "rows"}
    ready({A: [1] * 60, B: [2] * 3, C: [3]}, **chosen)
    with pytest.raises(TaskError, match="65 numbers"):
        ready({A: [1] * 60, B: [2] * 3, C: [3] * 2}, **chosen)


def test_a_missing_or_early_parcel_ends_in_a_typed_error():
    plan, rows = ready()

    def lost(number: int, asset: str, parcels: dict[str, bytes]) -> dict[str, bytes]:
        return {} if (number, asset) == (3, B) else parcels

    with pytest.raises(TaskError, match="is missing") as refused:
        converse(task(), plan, rows, meddle=lost)
    assert refused.value.reason == "out_of_order"


@pytest.mark.slow
def test_a_malformed_count_or_parcel_ends_in_a_typed_error():
    plan, rows = ready()

    def short(number: int, _asset: str, parcels: dict[str, bytes]) -> dict[str, bytes]:
        return {peer: box[:-1] for peer, box in parcels.items()} if number == 2 else parcels

    with pytest.raises(TaskError, match="how many numbers"):
        converse(task(), plan, rows, meddle=short)

    def foreign(number: int, asset: str, parcels: dict[str, bytes]) -> dict[str, bytes]:
        return dict.fromkeys(parcels, bytes(100)) if (number, asset) == (3, D) else parcels

    with pytest.raises(PeersError):
        converse(task(), plan, rows, meddle=foreign)


@pytest.mark.slow
def test_a_node_whose_child_dies_ends_in_a_typed_error_and_so_does_the_talk(
    monkeypatch: pytest.MonkeyPatch,
):
    plan, rows = ready()
    hear, heard = Party.hear, []

    def dying(self: Party, parcels: Any) -> Any:
        heard.append(self)
        if len(heard) == 10:
            self._child._process.kill()
        return hear(self, parcels)

    monkeypatch.setattr(Party, "hear", dying)
    with pytest.raises(ChildDiedError, match="Killed"):
        converse(task(), plan, rows)


REPORT = {"opened": ["710", "1"], "numbers": 4, "rounds": 15}


@pytest.mark.parametrize(
    "changes",
    [
        {"opened": ["711", "1"]},
        {"opened": ["710"]},
        {"opened": ["710", "4"]},
        {"opened": ["710", "-1"]},
        {"opened": [710, 1]},
        {"opened": ["0710", "1"]},
        {"opened": "710"},
        {"numbers": 5},
        {"rounds": 0},
        {"rounds": True},
        {"more": 1},
    ],
)
@pytest.mark.parametrize("everybody", [True, False])
def test_reports_that_differ_or_hold_something_else_are_refused(
    changes: dict[str, Any], *, everybody: bool
):
    plan, _ = ready(who=True)
    reports: dict[str, Any] = dict.fromkeys(CELLS, REPORT)
    assert task().conclude(plan, reports)["value"] == 7.1
    whole = {"opened": ["711", "1"]}, {"numbers": 5}
    if everybody and changes in whole:
        return  # What all nodes say is their word.
    changed = REPORT | changes
    reports = dict.fromkeys(CELLS, changed) if everybody else reports | {C: changed}
    with pytest.raises(TaskError) as refused:
        task().conclude(plan, reports)
    assert refused.value.reason == "reports_differ"


def test_a_party_that_only_computes_cannot_be_named_as_the_owner():
    plan, _ = ready(who=True, computing_only=[2])
    with pytest.raises(TaskError, match="put no number in"):
        task().conclude(plan, dict.fromkeys(CELLS, REPORT))
