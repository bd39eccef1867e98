"""A user's own data: what comes out, in every form in which data may come."""

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from tests.scenarios import Scenario, csv_text, run, small_rows, statistics_of, write_scenario

JOB_KEYS = ["name", "task", "state", "seconds", "result", "receipts"]
FIT_KEYS = {
    "coefficients",
    "intercept",
    "scaling",
    "coefficients_original",
    "rows",
    "iterations",
    "metrics",
}


def played(capsys: Any, file: Path, code: int = 0) -> dict[str, Any]:
    """Play with --json and return the object, which must be all that standard output holds."""
    found, out, _ = run(capsys, file, file.parent / "out", "--json")
    assert found == code, out
    assert out.count("\n") == 1
    document = json.loads(out)
    assert isinstance(document, dict)
    return document


def numbers(*seeds: int, column: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([float(row[column]) for seed in seeds for row in small_rows(seed)])


def only_statistics(*columns: str) -> Any:
    def change(it: Scenario) -> None:
        it["job"] = [statistics_of(*columns)]
        it["prepare"] = {}

    return change


def test_the_object_has_the_fields_that_are_promised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def change(it: Scenario) -> None:
        it["job"] += [
            statistics_of("x", "y") | {"rows": "complete"},
            {"name": "sum", "task": "encrypted_sum", "columns": ["x", "y"], "rows": "complete"}
            | {"purpose": "tests"},
        ]
        it["expect"] = [
            {"job": "fit", "path": "rows", "equals": 48},
            {"name": "mean", "job": "s", "path": "x.mean", "at_least": 40, "at_most": 60},
            {"job": "sum", "path": "sums.y", "equals": int(numbers(1, 2, column=1).sum())},
            {"job": "fit", "path": "state", "equals": "released"},
        ]
        it["refuse"] = [{"name": "r", "what": "other rows", "reason": "row_selection_not_allowed"}]

    found = played(capsys, write_scenario(tmp_path, change))
    assert list(found) == ["scenario", "held", "jobs", "expectations", "refusals", "ledger"]
    assert (found["scenario"], found["held"]) == ("Small", True)
    assert [list(job) for job in found["jobs"]] == [JOB_KEYS] * 3
    for job in found["jobs"]:
        assert job["state"] == "released"
        assert 0 < job["seconds"] < 60
        assert job["receipts"] == [
            {"provider": name, "state": "completed", "reason": None} for name in ("P1", "P2")
        ]
    fit, statistics, sums = (job["result"] for job in found["jobs"])
    assert set(fit) == FIT_KEYS
    assert set(fit["coefficients"]) == {"x", "y", "group_b", "group_c"} == set(fit["scaling"])
    assert all(set(row) == {"mean", "sd"} for row in fit["scaling"].values())
    assert {"accuracy", "correct", "rows"} <= set(fit["metrics"])
    assert all(list(row) == ["count", "missing", "mean", "variance"] for row in statistics.values())
    assert list(sums) == ["sums"]
    assert all(list(each) == ["name", "held", "detail"] for each in found["expectations"])
    assert [each["name"] for each in found["expectations"]][:2] == ["fit: rows", "mean"]
    assert found["refusals"] == [{"name": "r", "reason": "row_selection_not_allowed", "held": True}]
    assert list(found["ledger"]) == ["size", "root", "export", "vkey"]
    assert found["ledger"]["export"] == str(tmp_path / "out" / "export")
    assert isinstance(found["ledger"]["size"], int)


def test_an_expectation_that_fails_makes_the_run_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def change(it: Scenario) -> None:
        only_statistics("x")(it)
        it["expect"] = [{"job": "s", "path": "x.count", "equals": 47}]

    found = played(capsys, write_scenario(tmp_path, change), code=1)
    assert found["held"] is False
    assert found["expectations"] == [
        {"name": "s: x.count", "held": False, "detail": "is 48; not 47"}
    ]


def separated() -> dict[str, str]:
    return {
        f"p{n}.csv": csv_text([[*row[:3], str(int(float(row[0]) > 50))] for row in small_rows(n)])
        for n in (1, 2)
    }


@pytest.mark.parametrize("expected", [True, False])
def test_a_job_may_be_expected_to_fail(
    expected: bool,  # noqa: FBT001
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    def change(it: Scenario) -> None:
        del it["job"][0]["ridge"]
        if expected:
            it["expect"] = [
                {"job": "fit", "path": "state", "equals": "failed"},
                {"job": "fit", "path": "error.reason", "equals": "separation"},
            ]

    found = played(capsys, write_scenario(tmp_path, change, separated()), code=int(not expected))
    assert found["held"] is expected
    (job,) = found["jobs"]
    assert job["state"] == "failed"
    assert set(job["result"]) == {"error"}
    assert job["result"]["error"]["reason"] == "separation"
    assert "ridge" in job["result"]["error"]["message"]


def test_a_job_may_be_expected_to_be_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def change(it: Scenario) -> None:
        it["job"][0]["purpose"] = "fun"
        it["expect"] = [
            {"job": "fit", "path": "state", "equals": "refused"},
            {"job": "fit", "path": "error.reason", "equals": "purpose_not_allowed"},
        ]

    found = played(capsys, write_scenario(tmp_path, change))
    assert found["held"] is True
    assert found["jobs"][0]["receipts"] == []


def test_a_party_of_one_class_and_a_constant_column_is_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """What is wrong for one party alone is fine for the sum; Switzerland is both."""
    alike = [[row[0], "7", row[2], "1"] for row in small_rows(2)]
    file = write_scenario(tmp_path, files={"p2.csv": csv_text(alike)})
    (job,) = played(capsys, file)["jobs"]
    assert job["state"] == "released"
    assert job["result"]["rows"] == 48


def test_delimiters_missing_markers_and_headers_differ_by_provider(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def change(it: Scenario) -> None:
        only_statistics("x", "y")(it)
        it["data"] = {"delimiter": ";"}
        it["provider"][1]["data"] = {
            "delimiter": "\t",
            "header": False,
            "columns": ["x", "y", "group", "outcome"],
            "missing": ["?"],
        }
        it["provider"][1]["terms"] = {"uses": 1}
        it["provider"][1]["price"] = 3

    second = csv_text(small_rows(2), "\t").partition("\n")[2] + "?\t3\ta\t0\n"
    files = {"p1.csv": csv_text(small_rows(1), ";"), "p2.csv": second}
    result = played(capsys, write_scenario(tmp_path, change, files))["jobs"][0]["result"]
    assert (result["x"]["count"], result["x"]["missing"]) == (48, 1)
    assert result["x"]["mean"] == pytest.approx(numbers(1, 2).mean(), rel=1e-12)
    assert result["x"]["variance"] == pytest.approx(numbers(1, 2).var(ddof=1), rel=1e-12)
    assert result["y"]["count"] == 49


def test_parquet_is_read_like_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def change(it: Scenario) -> None:
        only_statistics("x", "y")(it)
        it["provider"][1]["file"] = "p2.parquet"

    file = write_scenario(tmp_path, change)
    connection = duckdb.connect()
    connection.execute(
        f"copy (select * from read_csv('{tmp_path / 'p2.csv'}')) "  # noqa: S608
        f"to '{tmp_path / 'p2.parquet'}' (format parquet)"
    )
    connection.close()
    (tmp_path / "p2.csv").unlink()
    result = played(capsys, file)["jobs"][0]["result"]
    assert result["x"]["mean"] == pytest.approx(numbers(1, 2).mean(), rel=1e-12)
    assert result["y"]["count"] == 48


@pytest.mark.parametrize("factor", [1e12, 1e-9])
def test_large_and_tiny_values_keep_their_digits(
    factor: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    files = {
        f"p{n}.csv": csv_text([[repr(float(r[0]) * factor), *r[1:]] for r in small_rows(n)])
        for n in (1, 2)
    }

    def change(it: Scenario) -> None:
        it["job"].append(statistics_of("x") | {"rows": "complete"})

    plain, statistics = played(capsys, write_scenario(tmp_path, change, files))["jobs"]
    values = numbers(1, 2) * factor
    assert statistics["result"]["x"]["mean"] == pytest.approx(values.mean(), rel=1e-12)
    assert statistics["result"]["x"]["variance"] == pytest.approx(values.var(ddof=1), rel=1e-10)
    assert plain["state"] == "released"
    assert plain["result"]["scaling"]["x"]["sd"] == pytest.approx(values.std(ddof=1), rel=1e-10)


@pytest.mark.slow
def test_forty_providers_play(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def change(it: Scenario) -> None:
        it["job"].append(statistics_of("x", "y") | {"rows": "complete"})

    found = played(capsys, write_scenario(tmp_path, change, providers=40))
    seeds = range(1, 41)
    assert found["jobs"][0]["result"]["rows"] == 40 * 24
    assert found["jobs"][1]["result"]["x"]["mean"] == pytest.approx(numbers(*seeds).mean())
    assert len(found["jobs"][1]["receipts"]) == 40
