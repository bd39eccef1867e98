import json
from pathlib import Path

import pytest

from bench import __main__ as harness
from bench import table

ROOT = Path(__file__).resolve().parents[2]
ROWS = [table.Row("hash", 123456.0, "1/s", 246912.0), table.Row("size", 0.5, "bytes")]


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


def test_a_rate_counts_units_of_work():
    calls = []
    assert table.rate(lambda: calls.append(1), count=10, seconds=0.01) > 0
    assert len(calls) > 5


def test_a_real_bench_prints_json(capsys: pytest.CaptureFixture[str]):
    assert harness.main(["primitives", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["bench"] == "primitives"
    assert all(row["value"] > 0 for row in shown["rows"])


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
