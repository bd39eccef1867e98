import json
from pathlib import Path

import pytest

from bench import __main__ as harness
from bench import table
from bench.checks import check
from bench.structure import ClosedLog
from ledger.export import export

ROOT = Path(__file__).resolve().parents[2]
ROWS = [table.Row("hash", 123456.0, "1/s", 246912.0), table.Row("size", 0.5, "bytes")]
MORE = table.Row("audit", None, "1/s", 5.0, {"p50 ms": 1.23456, "not available": "nobody here"})


def test_json_is_one_object_of_the_agreed_shape():
    shown = json.loads(table.as_json("x", "here", ROWS))
    assert shown == {
        "bench": "x",
        "machine": "here",
        "rows": [
            {"name": "hash", "value": 123500, "unit": "1/s", "baseline": 246900, "ratio": 0.5},
            {"name": "size", "value": 0.5, "unit": "bytes", "baseline": None, "ratio": None},
        ],
    }


def test_the_table_lines_up():
    title, head, first, second = table.as_text("x", "here", ROWS).splitlines()
    assert title == "x (here)"
    assert len({len(line) for line in (head, first, second)}) == 1
    assert first.split() == ["hash", "123,500", "1/s", "246,900", "0.5"]
    assert second.split() == ["size", "0.5", "bytes", "-", "-"]


def test_details_stand_behind_their_row():
    *_, line = table.as_text("x", "here", [*ROWS, MORE]).splitlines()
    assert " ".join(line.split()) == "audit - 1/s 5 - p50 ms: 1.235, not available: nobody here"
    shown = json.loads(table.as_json("x", "here", [MORE]))["rows"][0]
    assert shown["details"] == {"p50 ms": 1.235, "not available": "nobody here"}
    assert shown["value"] is shown["ratio"] is None


def test_a_rate_counts_units_of_work():
    calls = []
    assert table.rate(lambda: calls.append(1), count=10, seconds=0.01) > 0
    assert len(calls) > 5


def test_a_real_bench_prints_json(capsys: pytest.CaptureFixture[str]):
    assert harness.main(["primitives", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["bench"] == "primitives"
    assert all(row["value"] > 0 for row in shown["rows"])


@pytest.mark.slow
def test_the_ledger_bench_has_every_row(capsys: pytest.CaptureFixture[str]):
    assert harness.main(["ledger", "--json", "--entries", "200"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert {name: row["unit"] for name, row in rows.items()} == {
        "raw fdatasync": "1/s",
        "append sqlite 1 producer": "1/s",
        "append sqlite 64 producers": "1/s",
        "append postgresql 64 producers": "1/s",
        "prove": "1/s",
        "verify proof": "1/s",
        "restart": "s",
        "structure check": "s",
        "full audit": "1/s",
        "peak memory": "MB",
        "bytes per entry": "bytes",
        "resume": "s",
    }
    appended = [row for name, row in rows.items() if name.startswith("append")]
    assert all(row["details"].keys() & {"verifying", "not available"} for row in appended)
    there = [row for row in rows.values() if "not available" not in row.get("details", {})]
    assert all(row["value"] > 0 for row in there)
    assert len(there) >= 10


def test_the_structure_bench_has_every_row(capsys: pytest.CaptureFixture[str]):
    assert harness.main(["structure", "--json", "--entries", "700"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert set(rows) == {"structure check", "peak memory", "bytes per entry"}
    assert all(row["value"] > 0 for row in rows.values())
    assert rows["structure check"]["details"]["entries"] == 700


def test_an_export_that_is_not_sound_is_not_measured(tmp_path: Path):
    log = ClosedLog(300)
    export(log, log.key, tmp_path, opened=(), scope="test", now=0)
    assert check(tmp_path, log.vkey.text, "structure", 1).peak > 0
    tile = next(tmp_path.glob("tile/entries/000"))
    tile.write_bytes(tile.read_bytes()[:-1] + b"x")
    with pytest.raises(RuntimeError, match="tampered"):
        check(tmp_path, log.vkey.text, "structure", 1)


@pytest.mark.slow
def test_without_postgresql_the_bench_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RONGSHU_TEST_POSTGRES", "postgresql://127.0.0.1:1/nothing")
    assert harness.main(["ledger", "--json", "--entries", "200"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    missing = rows["append postgresql 64 producers"]
    assert missing["value"] is None
    assert "RONGSHU_TEST_POSTGRES" in missing["details"]["not available"]


@pytest.mark.parametrize("entries", ["0", "-1", "x", "99999999"])
def test_a_size_that_cannot_be_meant_is_refused(entries: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        harness.main(["ledger", "--entries", entries])
    assert "is not a number from 1" in capsys.readouterr().err


def test_a_bench_without_a_size_says_so(capsys: pytest.CaptureFixture[str]):
    assert harness.main(["primitives", "--entries", "5"]) == 2
    assert "no size to choose" in capsys.readouterr().err


def test_without_a_name_benches_are_listed(capsys: pytest.CaptureFixture[str]):
    assert harness.main([]) == 0
    assert "primitives" in capsys.readouterr().out


def test_an_unknown_bench_is_refused(capsys: pytest.CaptureFixture[str]):
    assert harness.main(["nope"]) == 2
    told = capsys.readouterr().err
    assert all(name in told for name in harness.find_benches())


@pytest.mark.parametrize("name", sorted(harness.find_benches()))
def test_every_bench_says_what_it_measures(name: str):
    assert harness.find_benches()[name]
