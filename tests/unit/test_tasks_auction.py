"""The task `auction`: prices out of sealed bids, as open bids would give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from federated.errors import TaskError
from federated.node.profile import measure
from federated.node.table import ReadingSpec
from federated.node.vault import Listing, Vault
from federated.tasks import JointTask, find_task
from privacy.secure_random import random_bytes
from tests.joint import converse, csv_text, staged

A, B, C, D = (f"asset:{letter}" for letter in "abcd")
BIDS = {A: [{"bid": 10.25}], B: [{"bid": 12}], C: [{"bid": -3}], D: [{"bid": 11.5}]}
SEALED = {"column": "bid", "decimals": 2}

# Limits and quantities, bought above zero and sold below.
ORDERS = {
    A: [{"limit": 5.5, "units": 10}, {"limit": 3, "units": 4}],
    B: [{"limit": 2, "units": -5}, {"limit": 4, "units": -6}],
    C: [{"other": "text"}],
    D: [{"limit": 4.5, "units": 2}, {"limit": 1.5, "units": -1}],
}
CURVES = {
    "form": "uniform_price",
    "column": "limit",
    "quantity": "units",
    "prices": [2, "2.5", 3, 3.5, 4, 4.5, 5],
    "decimals": 1,
    "computing_only": [3],
}


def task() -> JointTask:
    found = find_task("auction")
    assert isinstance(found, JointTask)
    return found


def ready(tables: Any, **parameters: Any) -> Any:
    texts = {asset: csv_text(rows) for asset, rows in tables.items()}
    plan, rows = staged(task(), texts, {}, **parameters)
    task().check_plan(plan)
    for asset, prepared in rows.items():
        task().check_rows(plan, asset, prepared)
    return plan, rows


def result(tables: Any, **parameters: Any) -> dict[str, Any]:
    plan, rows = ready(tables, **parameters)
    parts = converse(task(), plan, rows)
    found = task().conclude(plan, {asset: part.report for asset, part in parts.items()})
    assert 8 < found.pop("rounds") < task().most_rounds / 2
    return found


def test_the_highest_bid_wins_and_pays_the_second_highest():
    winner = {"asset": B, "name": B}
    assert result(BIDS, **SEALED) == {"winner": winner, "price": 11.5, "numbers": 4}


@pytest.mark.slow
def test_the_lowest_bid_wins_and_is_paid_the_second_lowest():
    found = result(BIDS, **SEALED, award="lowest", computing_only=[3])
    assert found == {"winner": {"asset": A, "name": A}, "price": 11.5, "numbers": 3}


@pytest.mark.slow
def test_of_equal_bids_the_earlier_assets_wins_and_pays_its_own():
    bids = {A: [{"bid": 1}], B: [{"bid": 7}], C: [{"bid": 9}, {"bid": -2}]}
    found = result(bids, column="bid")
    assert found == {"winner": {"asset": B, "name": B}, "price": 7, "numbers": 3}


def plain_price() -> tuple[float, int]:
    """The last price at which demand covers supply, and supply there."""
    orders = [(row["limit"], row["units"]) for asset in (A, B, D) for row in ORDERS[asset]]
    found = (0.0, 0)
    for price in map(float, CURVES["prices"]):
        demand = sum(units for limit, units in orders if units > 0 and limit >= price)
        supply = -sum(units for limit, units in orders if units < 0 and limit <= price)
        if demand >= supply:
            found = price, supply
    return found


def test_a_uniform_price_is_that_of_open_orders():
    price, quantity = plain_price()
    assert (price, quantity) == (4.5, 12)
    assert result(ORDERS, **CURVES) == {"price": 4.5, "quantity": 12, "numbers": 42}


@pytest.mark.slow
def test_without_demand_there_is_no_price():
    changed = CURVES | {"prices": [1.5, 5.6], "computing_only": [3]}
    few = ORDERS | {A: [{"limit": 1, "units": 1}], D: ORDERS[D]}
    assert result(few, **(changed | {"prices": [5, 5.6]}))["price"] is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"form": "dutch"}, "is none"),
        ({"award": "highst"}, "did you mean 'highest'"),
        ({"quantity": "units"}, "uniform price"),
        ({"prices": [1]}, "uniform price"),
        (CURVES | {"award": "lowest"}, "second price"),
        (CURVES | {"prices": []}, "1 to 64"),
        (CURVES | {"prices": list(range(65))}, "1 to 64"),
        (CURVES | {"prices": [1, 1]}, "above the one before"),
        (CURVES | {"prices": [2, 1]}, "above the one before"),
        (CURVES | {"prices": [1.25]}, "at most 1 decimals"),
        (CURVES | {"prices": [float("nan")]}, "finite"),
        (CURVES | {"prices": ["much"]}, "decimal"),
        (CURVES | {"quantity": ""}, "quantity"),
        ({"column": None}, "column"),
    ],
)
def test_bad_parameters_are_refused(given: dict[str, Any], says: str):
    with pytest.raises(TaskError, match=says) as refused:
        task().parse_parameters(SEALED | given)
    assert refused.value.reason == "bad_parameter"


@pytest.mark.parametrize("given", [CURVES, SEALED, SEALED | {"award": "lowest"}])
def test_canonical_parameters_stay_as_they_are(given: dict[str, Any]):
    parsed = task().parse_parameters(given)
    assert task().parse_parameters(parsed) == parsed
    assert parsed["prices"] in (None, ["2", "2.5", "3", "3.5", "4", "4.5", "5"])


@pytest.mark.parametrize(
    ("tables", "given", "reason"),
    [
        ({A: BIDS[A], B: BIDS[B]}, SEALED, "bad_parameter"),
        (BIDS, SEALED | {"computing_only": [1, 2, 3]}, "bad_parameter"),
        (BIDS, SEALED | {"column": "offer"}, "unknown_column"),
        (ORDERS, CURVES | {"computing_only": []}, "unknown_column"),
        (ORDERS, CURVES | {"quantity": "limit"}, "bad_parameter"),
        (BIDS | {A: [{"bid": 1e15}]}, SEALED, "overflow"),
    ],
)
def test_plans_that_cannot_be_computed_are_refused(tables: Any, given: dict[str, Any], reason: str):
    with pytest.raises(TaskError) as refused:
        ready(tables, **given)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    "opened", [["1"], ["1", "1150", "2"], ["4", "1150"], ["-1", "1150"], ["x", "1"], []]
)
def test_reports_that_hold_something_else_are_refused(opened: list[str]):
    plan, _ = ready(BIDS, **SEALED)
    right = {"opened": ["1", "1150"], "numbers": 4, "rounds": 15}
    assert task().conclude(plan, dict.fromkeys(BIDS, right))["price"] == 11.5
    with pytest.raises(TaskError) as refused:
        task().conclude(plan, dict.fromkeys(BIDS, right | {"opened": opened}))
    assert refused.value.reason == "reports_differ"


@pytest.mark.parametrize("opened", [["8", "1"], ["0", "1"], ["3"], ["-1"]])
def test_a_reported_price_off_the_grid_is_refused(opened: list[str]):
    plan, _ = ready(ORDERS, **CURVES)
    right = {"opened": ["6", "12"], "numbers": 42, "rounds": 11}
    assert task().conclude(plan, dict.fromkeys(ORDERS, right))["price"] == 4.5
    with pytest.raises(TaskError) as refused:
        task().conclude(plan, dict.fromkeys(ORDERS, right | {"opened": opened}))
    assert refused.value.reason == "reports_differ"


# --- what CLAIMS.md says of data cards


def card(folder: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What a node measures of a table, which everybody sees."""
    file = folder / "bid.csv"
    file.write_text(csv_text(rows))
    table, digest = Vault({"bid": Listing(file, ReadingSpec())}).table("bid")
    return measure(table, digest)


def guessed(folder: Path, seen: dict[str, Any], more: dict[str, Any]) -> list[int]:
    """Which of some bids, alone in a file, would have the card that is seen."""
    return [bid for bid in range(990, 1010) if card(folder, [{"bid": bid} | more]) == seen]


def test_a_bid_alone_in_its_file_is_guessed_from_the_card_and_beside_a_random_text_is_not(
    tmp_path: Path,
):
    assert guessed(tmp_path, card(tmp_path, [{"bid": 1001}]), {}) == [1001]
    salted = card(tmp_path, [{"bid": 1001, "salt": random_bytes(16).hex()}])
    assert guessed(tmp_path, salted, {"salt": random_bytes(16).hex()}) == []


def test_a_card_tells_a_bids_power_of_two_unless_larger_rows_add_up_to_it(tmp_path: Path):
    def told(bid: int, *, hidden: int) -> Any:
        rows = [{"bid": bid + hidden}, {"bid": -hidden}] if hidden else [{"bid": bid}]
        return card(tmp_path, rows)["columns"][0]["magnitude"]

    assert told(700, hidden=0) != told(70, hidden=0)
    assert told(700, hidden=1 << 20) == told(70, hidden=1 << 20)
