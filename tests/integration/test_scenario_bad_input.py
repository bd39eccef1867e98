"""Bad input: one clear line, exit 1, nothing changed, no traceback and no cell of the data."""

import datetime as dt
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marketplace.embedded import Embedded
from marketplace.errors import NewerDatabaseError
from tests.scenarios import (
    Scenario,
    csv_text,
    run,
    small_rows,
    statistics_of,
    to_toml,
    write_scenario,
)

Change = Callable[[Scenario], object]

# Stands in the data of every case, and in no message.
SECRET = "7731954.25"
GOOD = csv_text(small_rows(1))


def with_line(line: str, at: int = 5) -> str:
    lines = GOOD.splitlines()
    lines[at - 1] = line
    return "\n".join(lines) + "\n"


def nothing(_: Scenario) -> None:
    pass


def job(**values: Any) -> Change:
    return lambda it: it["job"][0].update(values)


def terms(**values: Any) -> Change:
    return lambda it: it["terms"].update(values)


def prepare(**values: Any) -> Change:
    return lambda it: it["prepare"].update(values)


def without_ridge(it: Scenario) -> None:
    del it["job"][0]["ridge"]


def rows_like(change: Callable[[list[str]], list[str]]) -> dict[str, str]:
    return {f"p{n}.csv": csv_text([change(row) for row in small_rows(n)]) for n in (1, 2)}


BAD_DATA: dict[str, tuple[Change, dict[str, str | bytes], tuple[str, ...]]] = {
    "truncated": (nothing, {"p1.csv": GOOD + f"{SECRET},3"}, ("p1.csv, line 26", "cut off")),
    "too many cells": (
        nothing,
        {"p1.csv": with_line(f"{SECRET},1,a,1,9")},
        ("p1.csv, line 5", "5 cells instead of 4"),
    ),
    "too few cells": (
        nothing,
        {"p1.csv": with_line(f"{SECRET},1,a")},
        ("p1.csv, line 5", "3 cells instead of 4"),
    ),
    "open quote": (
        nothing,
        {"p1.csv": with_line(f'"{SECRET},1,a,1')},
        ("p1.csv, line 5", "quotation mark"),
    ),
    "not UTF-8": (
        nothing,
        {"p1.csv": with_line(f"{SECRET},1,a,1").encode() + b"50,1,\xff\xfe,1\n"},
        ("p1.csv, line 26", "not UTF-8"),
    ),
    "empty file": (nothing, {"p1.csv": ""}, ("p1.csv", "empty")),
    "header alone": (nothing, {"p1.csv": "x,y,group,outcome\n"}, ("p1.csv", "no rows")),
    "a column twice": (
        nothing,
        {"p1.csv": GOOD.replace("x,y,", "x,x,", 1)},
        ("p1.csv, line 1", "stands twice"),
    ),
    "a column that is not there": (
        job(columns=["x", "yy"]),
        {},
        ("fit", "P1", "no column 'yy'", "did you mean"),
    ),
    "a column that one party lacks": (
        nothing,
        {"p2.csv": GOOD.replace("x,y,", "x,z,", 1)},
        ("fit", "P2", "no column 'y'"),
    ),
    "a label that is not there": (
        prepare(label={"column": "outcom", "above": 0}),
        {},
        ("P1", "p1.csv", "'outcom'", "did you mean 'outcome'"),
    ),
    "a dropped column that is not there": (prepare(drop=["w"]), {}, ("p1.csv", "'w'")),
    "a dropped column that is asked for": (prepare(drop=["y"]), {}, ("fit", "drops column 'y'")),
    "a cell that is no number": (
        nothing,
        {"p1.csv": with_line(f"about {SECRET},1,a,1")},
        ("p1.csv", "'x'", "first at line 5"),
    ),
    "an infinite number": (
        nothing,
        {"p1.csv": with_line("inf,1,a,1")},
        ("p1.csv, line 5", "column 'x'", "infinite"),
    ),
    "an undeclared level": (
        nothing,
        {"p1.csv": with_line(f"50,1,{SECRET},1")},
        ("p1.csv, line 5", "'group'", "does not declare"),
    ),
    "a missing file": (
        lambda it: it["provider"][1].update(file="p3.csv"),
        {},
        ("P2", "p3.csv", "No such file"),
    ),
    "a folder as file": (
        lambda it: it["provider"][1].update(file="."),
        {},
        ("P2", "s a directory"),
    ),
    "no Parquet": (
        lambda it: it["provider"][1].update(data={"format": "parquet"}),
        {},
        ("P2", "p2.csv", "not a Parquet file"),
    ),
    "one class over all": (
        nothing,
        rows_like(lambda row: [*row[:3], "0"]),
        ("fit", "one class", "outcome"),
    ),
    "a constant column over all": (
        nothing,
        rows_like(lambda row: ["3.5", *row[1:]]),
        ("fit", "constant", "x"),
    ),
    "collinear columns without ridge": (
        without_ridge,
        rows_like(lambda row: [str(2 * int(row[1]) + 1), *row[1:]]),
        ("fit", "determine each other", "x, y", "ridge"),
    ),
    "missing values in a fit": (
        prepare(complete_rows=False),
        {"p1.csv": with_line(",1,a,1")},
        ("fit", "P1", "'x'", "missing values", "complete_rows"),
    ),
    "no row left": (
        nothing,
        {f"p{n}.csv": GOOD.split("\n")[0] + "\n50,,a,1\n,3,b,0\n" for n in (1, 2)},
        ("fit", "0 training rows"),
    ),
    "nearly the same rows twice": (
        lambda it: it["job"].insert(0, statistics_of("x")),
        {"p1.csv": with_line(",1,a,1")},
        ("fit", "P1", "row_selection_not_allowed", "rows"),
    ),
}

BAD_SCENARIO: dict[str, tuple[Change, tuple[str, ...]]] = {
    "one provider": (lambda it: it["provider"].pop(), ("provider", "1 given, 2 to 40 needed")),
    "no provider": (lambda it: it.pop("provider"), ("provider", "0 given")),
    "no job": (lambda it: it.pop("job"), ("job", "at least one")),
    "an unknown task": (job(task="logistics"), ("'logistics'", "did you mean 'logistic'")),
    "a permitted task that is unknown": (
        terms(tasks=["statistic"]),
        ("terms", "'statistic'", "did you mean 'statistics'"),
    ),
    "two providers of one name": (
        lambda it: it["provider"][1].update(name="P1"),
        ("provider", "'P1'", "twice"),
    ),
    "two names for one folder": (
        lambda it: it["provider"][1].update(name="p1!"),
        ("'p1!'", "too like 'P1'"),
    ),
    "a reserved name": (lambda it: it["provider"][0].update(name="Auditor"), ("'Auditor'",)),
    "two jobs of one name": (
        lambda it: it["job"].append(dict(it["job"][0])),
        ("job", "'fit'", "twice"),
    ),
    "an expectation of no job": (
        lambda it: it.update(expect=[{"job": "fitt", "path": "rows", "equals": 1}]),
        ("expect 1", "'fitt'", "did you mean 'fit'"),
    ),
    "an expectation of nothing": (
        lambda it: it.update(expect=[{"job": "fit", "path": "rows"}]),
        ("expect 1", "equals, at_least and at_most"),
    ),
    "no end of a job": (
        lambda it: it.update(expect=[{"job": "fit", "path": "state", "equals": "fail"}]),
        ("expect 1", "did you mean 'failed'"),
    ),
    "an unknown reason": (
        lambda it: it.update(refuse=[{"what": "x", "reason": "revokd"}]),
        ("refuse 1", "did you mean 'revoked'"),
    ),
    "a level twice": (prepare(one_hot={"group": ["a", "a"]}), ("one_hot.group", "twice")),
    "a split without seed": (prepare(split={"train": 0.5}), ("split.seed", "missing")),
    "a label without column": (prepare(label={"above": 1}), ("label.column", "missing")),
    "a ridge below zero": (job(ridge=-1.0), ("fit", "ridge")),
    "rows for a regression": (job(rows="all"), ("fit", "no parameter 'rows'")),
    "no purpose": (lambda it: it["job"][0].pop("purpose"), ("job", "purpose is missing")),
    "another purpose": (job(purpose="fun"), ("fit", "P1", "purpose_not_allowed")),
    "a task outside the terms": (terms(tasks=["statistics"]), ("fit", "P1", "task logistic")),
    "too few providers": (terms(minimum_parties=3), ("fit", "P1", "fewer than 3 parties")),
    "no use": (terms(uses=0), ("fit", "P1", "quota_used_up")),
    "more jobs than uses": (
        lambda it: (it["terms"].update(uses=1), it["job"].append(it["job"][0] | {"name": "b"})),
        ("'b'", "P1", "quota_used_up"),
    ),
    "terms that have ended": (
        terms(until=dt.date(2020, 1, 1)),
        ("fit", "P1", "agreement_expired"),
    ),
    "terms without exact answers": (terms(exact=False), ("fit", "P1", "exact")),
    "terms without purposes": (lambda it: it["terms"].pop("purposes"), ("purposes is missing",)),
}

TYPOS: dict[str, tuple[Change, str, str]] = {
    "": (lambda it: it.update(titel="x"), "titel", "title"),
    "provider": (lambda it: it["provider"][0].update(prise=3), "prise", "price"),
    "terms": (terms(purpose=["x"]), "purpose", "purposes"),
    "provider terms": (lambda it: it["provider"][0].update(terms={"usess": 1}), "usess", "uses"),
    "data": (lambda it: it.update(data={"headers": True}), "headers", "header"),
    "provider data": (lambda it: it["provider"][0].update(data={"delim": ";"}), "delim", "delimi"),
    "prepare": (prepare(complete_row=True), "complete_row", "complete_rows"),
    "label": (prepare(label={"colum": "outcome"}), "label.colum", "column"),
    "split": (prepare(split={"train": 0.5, "sed": 1}), "split.sed", "seed"),
    "job": (job(column=["x"]), "column", "columns"),
    "expect": (
        lambda it: it.update(expect=[{"job": "fit", "path": "rows", "equal": 1}]),
        "equal",
        "equals",
    ),
    "refuse": (lambda it: it.update(refuse=[{"reasons": "revoked"}]), "reasons", "reason"),
    "compare": (lambda it: it.update(compare=[{"titl": "x"}]), "titl", "title"),
}

WRONG_TYPES: dict[str, tuple[Change, str]] = {
    "title": (lambda it: it.update(title=3), "title is a text"),
    "provider": (lambda it: it.update(provider={"name": "x"}), "[[provider]]"),
    "name": (lambda it: it["provider"][0].update(name=3), "name is a text"),
    "two lines": (lambda it: it["provider"][0].update(name="a\nb"), "one line"),
    "file": (lambda it: it["provider"][0].update(file=["p1.csv"]), "file is a text"),
    "price": (lambda it: it["provider"][0].update(price=1.5), "whole number of cents"),
    "cost": (lambda it: it["provider"][0].update(cost=-1), "whole number of cents"),
    "terms": (lambda it: it.update(terms=3), "a table is needed"),
    "uses": (terms(uses="4"), "uses is a whole number"),
    "too many uses": (terms(uses=1 << 60), "uses is a whole number"),
    "true uses": (terms(uses=True), "uses is a whole number"),
    "until": (terms(until="next year"), "until is a date"),
    "exact": (terms(exact="yes"), "exact"),
    "minimum_parties": (terms(minimum_parties=1), "minimum_parties"),
    "purposes": (terms(purposes="tests"), "purposes is a list"),
    "a purpose": (terms(purposes=[3]), "purposes is a list"),
    "a purpose twice": (terms(purposes=["a", "a"]), "purposes"),
    "data": (lambda it: it.update(data=["x"]), "a table is needed"),
    "header": (lambda it: it.update(data={"header": "no"}), "header"),
    "delimiter": (lambda it: it.update(data={"delimiter": "::"}), "delimiter"),
    "format": (lambda it: it.update(data={"format": "xlsx"}), "format"),
    "no column names": (lambda it: it.update(data={"header": False}), "columns"),
    "missing": (lambda it: it.update(data={"missing": "?"}), "missing"),
    "prepare": (lambda it: it.update(prepare=[1]), "a table is needed"),
    "drop": (prepare(drop="x"), "drop"),
    "complete_rows": (prepare(complete_rows=1), "complete_rows"),
    "one_hot": (prepare(one_hot=["group"]), "one_hot"),
    "levels": (prepare(one_hot={"group": ["a", 1]}), "one_hot.group"),
    "above": (prepare(label={"column": "outcome", "above": "much"}), "label.above"),
    "train": (prepare(split={"train": 1.5, "seed": 1}), "split.train"),
    "columns": (job(columns="x"), "columns"),
    "ridge": (job(ridge="strong"), "ridge"),
    "tolerance": (
        lambda it: it.update(expect=[{"job": "fit", "path": "a", "equals": 1, "tolerance": "x"}]),
        "tolerance is a number",
    ),
    "values": (
        lambda it: it.update(
            compare=[{"job": "fit", "path": "a", "title": "t", "values": {"b": "x"}}]
        ),
        "values.b is a number",
    ),
}


def refused(capsys: Any, file: Path) -> str:
    """Run a scenario that cannot be meant; return the one line it ends with."""
    before = sorted(file.parent.rglob("*"))
    code, out, err = run(capsys, file, file.parent / "out")
    assert code == 1
    assert out == ""
    assert err.startswith("rongshu: ")
    assert err.count("\n") == 1
    assert SECRET not in err
    assert sorted(file.parent.rglob("*")) == before
    return err


@pytest.mark.parametrize("case", BAD_DATA)
def test_data_that_cannot_be_used_are_named(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    change, files, words = BAD_DATA[case]
    message = refused(capsys, write_scenario(tmp_path, change, files))
    assert all(word in message for word in words), message


@pytest.mark.parametrize("case", BAD_SCENARIO)
def test_a_scenario_that_cannot_be_meant_is_named(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    change, words = BAD_SCENARIO[case]
    message = refused(capsys, write_scenario(tmp_path, change))
    assert all(word in message for word in words), message


@pytest.mark.parametrize("case", TYPOS)
def test_a_typo_gets_the_nearest_key(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    change, typo, meant = TYPOS[case]
    message = refused(capsys, write_scenario(tmp_path, change))
    assert typo in message
    assert f"did you mean '{meant}" in message


@pytest.mark.parametrize("case", WRONG_TYPES)
def test_a_wrong_type_is_named(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    change, words = WRONG_TYPES[case]
    message = refused(capsys, write_scenario(tmp_path, change))
    assert "scenario.toml" in message
    assert words in message, message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title = \n", "line 1"),
        ("title = 'a'\ntitle = 'b'\n", "line 2"),
        ("uses = " + "9" * 5000, "not TOML"),
        ("a = " + "[" * 100_000, "not TOML"),
        ("", "provider"),
    ],
)
def test_what_is_no_toml_is_named(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    message = refused(capsys, file)
    assert "scenario.toml" in message
    assert words in message


def test_a_scenario_that_is_not_text_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "scenario.toml"
    file.write_bytes(b"title = '\xff'")
    assert "not UTF-8" in refused(capsys, file)


def test_a_scenario_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "No such file" in refused(capsys, tmp_path / "scenario.toml")


def test_a_folder_that_exists_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    out.mkdir()
    (out / "kept").write_text("kept")
    assert "exists" in refused(capsys, write_scenario(tmp_path))
    assert [path.name for path in out.iterdir()] == ["kept"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = write_scenario(tmp_path)
    (tmp_path / "taken").write_text("a file")
    code, out, err = run(capsys, file, tmp_path / "taken" / "out")
    assert (code, out) == (1, "")
    assert "cannot be made" in err


def test_the_program_ends_the_same_way(tmp_path: Path):
    """In a real process: nothing that another module prints joins the message."""
    file = write_scenario(tmp_path, files={"p1.csv": with_line(f"{SECRET},1,a")})
    start = (
        "import sys; from tests.scenarios import SCENARIO; from ledger.cli import run_command;"
        "sys.exit(run_command(SCENARIO, sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", start, "run", str(file), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "p1.csv, line 5: 3 cells instead of 4" in done.stderr
    assert not (tmp_path / "out").exists()


def test_separation_without_ridge_ends_as_a_failed_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Only the whole fit shows it, so the job fails, with the task's own words."""
    files = {
        f"p{n}.csv": csv_text([[*row[:3], str(int(float(row[0]) > 50))] for row in small_rows(n)])
        for n in (1, 2)
    }
    file = write_scenario(tmp_path, without_ridge, files)
    code, out, err = run(capsys, file, tmp_path / "out")
    assert code == 1
    assert "fit (logistic): failed" in out
    assert "no unpenalised fit" in " ".join(out.split())
    assert "Traceback" not in err


def test_a_database_of_a_newer_version_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    code, _, _ = run(capsys, write_scenario(tmp_path), tmp_path / "out", "--json")
    assert code == 0
    database = tmp_path / "out" / "market" / "service" / "rongshu.db"
    connection = sqlite3.connect(database)
    connection.execute("UPDATE alembic_version SET version_num = 'r9999'")
    connection.commit()
    connection.close()
    before = database.read_bytes()
    with pytest.raises(NewerDatabaseError, match="newer version"):
        Embedded(tmp_path / "out" / "market").__enter__()
    assert database.read_bytes() == before


def test_the_small_scenario_itself_is_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The twin of every case above: unchanged, the same files play."""
    file = write_scenario(tmp_path)
    assert "[[provider]]" in to_toml({"provider": [{}]})
    code, out, err = run(capsys, file, tmp_path / "out")
    assert (code, err) == (0, "")
    assert "Everything held" in out
