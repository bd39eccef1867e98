"""The page and the bars: what a person reads, for every kind of outcome."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ledger.verify import Verdict
from marketplace.scenario.bars import Bars
from marketplace.scenario.expectations import Checked
from marketplace.scenario.page import as_text
from marketplace.scenario.parts import Scenario
from marketplace.scenario.play import Outcome, Played
from marketplace.scenario.refusals import Tried
from marketplace.scenario.report import as_json
from marketplace.scenario.spec import load
from tests.scenarios import write_scenario

KEY = "rongshu.local/log+0123abcd+AAAA="


def small(tmp_path: Path) -> Scenario:
    return load(write_scenario(tmp_path, lambda it: it["provider"][0].update(name="蓉城 医院")))


def outcome(tmp_path: Path, *, held: bool) -> Outcome:
    error = {"error": {"reason": "separation", "message": "give a ridge"}}
    receipts = tuple(
        {"provider": name, "state": "failed", "reason": "cancelled"} for name in ("蓉城 医院", "P2")
    )
    fit = Played("fit", "logistic", "failed", 1.0, error, receipts, held=held)
    sums = {"x": {"count": 1234, "missing": 0, "mean": 1.5, "variance": None}}
    return Outcome(
        scenario=small(tmp_path),
        folder=tmp_path / "my out",
        rows=(24, 12345),
        jobs=(fit, Played("s", "statistics", "released", 0.5, sums, (), held=True)),
        expectations=(Checked("an expectation", held=held, detail="is 3"),),
        refusals=(Tried("r", "a thing", "revoked", held=held, detail="P2: not refused"),),
        comparisons=(),
        verdict=Verdict(status="sound", size=7, root="00"),
        log_key=KEY,
        seconds=2.0,
    )


def test_the_page_says_what_did_not_hold(tmp_path: Path):
    page = as_text(outcome(tmp_path, held=False))
    assert "fit (logistic): failed in 1.0 s  <- NOT as it should be" in page
    assert "  give a ridge" in page
    assert "  P2: cancelled" in page
    assert "NO   an expectation" in page
    assert "NO   a thing" in page
    assert "instead: P2: not refused" in page
    assert "Not everything held" in page


def test_its_twin_that_held_says_so(tmp_path: Path):
    page = as_text(outcome(tmp_path, held=True))
    assert "NO " not in page
    assert "NOT" not in page
    assert "yes  an expectation" in page
    assert "12,345" in page
    assert "1,234" in page


def test_lines_fit_a_terminal_and_have_no_blank_ends(tmp_path: Path):
    lines = as_text(outcome(tmp_path, held=False)).splitlines()
    wide = [line for line in lines if len(line) > 90 and "rongshu " not in line]
    assert wide == []
    assert all(line == line.rstrip() for line in lines)


def test_columns_stand_in_line_also_beside_wide_characters(tmp_path: Path):
    lines = as_text(outcome(tmp_path, held=True)).splitlines()
    at = next(number for number, line in enumerate(lines) if "price of a use" in line)
    assert lines[at + 1] == "  蓉城 医院      24            1.00"
    assert lines[at + 2] == "  P2         12,345            1.00"


def test_commands_are_quoted_for_the_shell(tmp_path: Path):
    page = as_text(outcome(tmp_path, held=True), "./run rongshu", "examples/own/scenario.toml")
    assert f"./run rongshu audit verify '{tmp_path}/my out/export' --key {KEY}" in page
    assert "./run rongshu scenario run examples/own/scenario.toml" in page
    assert "scenario run" not in as_text(outcome(tmp_path, held=True))


def test_the_object_says_the_same(tmp_path: Path):
    found = as_json(outcome(tmp_path, held=False))
    assert found["held"] is False
    assert found["jobs"][0]["result"]["error"]["reason"] == "separation"
    assert "detail" not in found["refusals"][0]


@pytest.mark.parametrize("shown", [True, False])
def test_bars_show_rounds_and_end_full(shown: bool):  # noqa: FBT001
    text = StringIO()
    console = Console(file=text, force_terminal=True, width=100, height=20)
    with Bars(shown=shown, console=console) as bars:
        bars.step("Providers enrol", 2)
        bars.done("P1")
        bars.done("P2")
        bars.step("Job 'fit'", 1)
        bars.running("fit", {"state": "granted", "progress": None})
        bars.running("fit", {"state": "running", "progress": {"round": 3, "step": "newton"}})
        bars.done("released")
    assert ("Providers enrol" in text.getvalue()) is shown
    assert ("✓" in text.getvalue()) is shown


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        (None, "  strongest coefficients, on columns as scaled (standard): debt -2.500"),
        ({"auc": 0.72431}, "  area under the ROC curve on these rows 0.7243"),
        ({"r2": 0.5, "rmse": 3.0}, "  explains a share of 0.5000 of the label's variance"),
    ],
)
def test_the_page_shows_a_vertical_fit(tmp_path: Path, metrics: object, says: str):
    fit = {
        "model": "logistic",
        "coefficients": {"age": 0.5, "debt": -2.5},
        "intercept": 0.0,
        "scaling": "standard",
        "rows": 30000,
        "iterations": 20,
        "last_step": 0.001,
        "metrics": metrics,
    }
    job = Played("fit", "vertical", "released", 1.0, fit, (), held=True)
    page = as_text(replace(outcome(tmp_path, held=True), jobs=(job,)))
    assert "  logistic model, fitted on 30,000 rows in common in 20 steps" in page
    words = " ".join(page.split())
    assert says.strip() in words
    assert "debt -2.500, age +0.500" in words
