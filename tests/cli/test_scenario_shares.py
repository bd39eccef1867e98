"""A scenario file in which providers compare numbers that they show to nobody."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.scenarios import run

SCENARIO = """
title = "Sealed bids"

[terms]
tasks = ["order_statistic", "auction"]
purposes = ["price finding"]
uses = 9
until = 2099-12-31
exact = true

[[provider]]
name = "Alder"
file = "alder.csv"

[[provider]]
name = "Birch"
file = "birch.csv"

[[provider]]
name = "Cedar"
file = "cedar.csv"

[[job]]
name = "who has more"
task = "order_statistic"
statistic = "comparison"
column = "yuan"
computing_only = [3]
purpose = "price finding"

[[job]]
name = "the price"
task = "auction"
form = "uniform_price"
column = "yuan"
quantity = "units"
prices = [4, 4.5, 5.0]
decimals = 1
computing_only = [3]
purpose = "price finding"

[[expect]]
job = "the price"
path = "price"
equals = 4.5
"""
TABLES = {
    "alder": "yuan,units\n4.5,10\n2,1\n",
    "birch": "yuan,units\n4.5,-7\n5,-9\n",
    "cedar": "other\n1\n2\n",
}


@pytest.mark.slow
def test_a_page_says_what_was_opened_and_the_others_are_told_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name, text in TABLES.items():
        (tmp_path / f"{name}.csv").write_text(text)
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    code, page, _ = run(capsys, tmp_path / "scenario.toml", tmp_path / "out")
    assert code == 0, page
    assert "  more: Birch\n  opened out of 2 secret numbers, in " in page
    assert "  price: 4.5\n  quantity: 7\n  opened out of 12 secret numbers, in " in page
    assert "a number that was not opened" in page
    # The command line has no options for these parameters, so none are suggested.
    assert "job submit" not in page
    # The twin: what is expected is held against what came out.
    (tmp_path / "scenario.toml").write_text(SCENARIO.replace("equals = 4.5", "equals = 4"))
    code, said, _ = run(capsys, tmp_path / "scenario.toml", tmp_path / "other", "--json")
    result = json.loads(said)
    assert code == 1
    assert [one["held"] for one in result["expectations"]] == [False]
    assert result["jobs"][1]["result"]["price"] == 4.5
