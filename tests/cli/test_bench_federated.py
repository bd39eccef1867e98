"""The federated bench: what it takes for a round, and that both its sides compute the same."""

import json
import sys
import time
from pathlib import Path

import pytest
from flwr.app import RecordDict
from flwr.common.serde import recorddict_to_proto
from flwr.proto.message_pb2 import Message, Metadata

from bench import __main__ as harness
from bench import federated as bench
from bench import federated_market as market
from bench.federated_market import hospitals, plain_of, simulated
from bench.federated_stock import StockError, train_exchange
from bench.federated_trace import Tap
from federated.grid import TO_NODE, TO_SERVER
from federated.records import pack

NAMES = {
    "embedded round governed": "s",
    "embedded round small": "s",
    "stock train exchange": "s",
    "deployed round": "s",
    "bytes per round": "bytes",
    "job overhead": "s",
    "round of 2 nodes": "s",
    "round of 4 nodes": "s",
}


def message(group: int, body: bytes) -> bytes:
    content: RecordDict = pack(body)
    proto = Message(metadata=Metadata(group_id=str(group)), content=recorddict_to_proto(content))
    return proto.SerializeToString()


def tapped(*crossings: tuple[float, str, int, bytes]) -> Tap:
    times = iter([at for at, _, _, _ in crossings])
    tap = Tap(lambda: next(times))
    tap.start(2)
    for _, way, group, body in crossings:
        tap(way, 2, message(group, body))
    return tap


FIRST = (
    (1.0, TO_NODE, 0, b'{"type":"keys-request/v1"}'),
    (2.0, TO_SERVER, 0, b'{"type":"keys-reply/v1"}'),
    (3.0, TO_NODE, 1, b"question"),
    (4.0, TO_SERVER, 1, b"answer"),
)
END = (
    (10.0, TO_NODE, 1, b'{"type":"finish-request/v1"}'),
    (11.0, TO_SERVER, 1, b'{"type":"finish-reply/v1"}'),
    (12.0, TO_SERVER, 1, b'{"type":"finish-reply/v1"}'),
)


def test_a_round_lasts_from_its_first_message_to_its_last_reply():
    (found,) = tapped(*FIRST, *END).rounds()
    assert (found.number, found.seconds, found.whole) == (1, 1.0, 7.0)
    assert found.to_nodes == len(message(1, b"question"))
    assert found.to_server == len(message(1, b"answer"))


def test_every_exchange_of_a_round_belongs_to_it():
    more = [(5.0, TO_NODE, 1, b"who is there"), (7.0, TO_SERVER, 1, b"all of us")]
    tap = tapped(*FIRST, *more, *END)
    (found,) = tap.rounds()
    assert (found.seconds, found.whole) == (4.0, 7.0)
    assert found.to_server == len(message(1, b"answer")) + len(message(1, b"all of us"))
    assert tap.conversation() == 7.0


def test_a_round_ends_for_good_where_the_next_begins():
    second = [(6.0, TO_NODE, 2, b"another"), (8.0, TO_SERVER, 2, b"one more")]
    tap = tapped(*FIRST, *second)
    assert [(each.seconds, each.whole) for each in tap.rounds()] == [(1.0, 3.0), (2.0, None)]
    # Nothing ends a job that is not governed.
    assert tap.conversation() == 5.0


def test_a_job_is_over_once_every_node_gave_its_receipt():
    assert not tapped(*FIRST, *END[:2]).wait(0)
    assert tapped(*FIRST, *END).wait(0)


@pytest.mark.slow
def test_both_sides_compute_the_same_over_the_hospitals(tmp_path: Path):
    costs = bench.measure(tmp_path / "market", hospitals(), 1, "hospitals")
    assert len(costs.updates) == len(costs.plain_updates) >= 5
    row = costs.row("x")
    assert row.value is not None
    assert row.ratio is not None
    assert row.ratio > 1
    assert 0 < costs.overhead < costs.governed[0].seconds
    for update in (*costs.updates, *costs.plain_updates):
        assert update.whole is not None
        assert 0 < update.seconds < update.whole


@pytest.mark.slow
def test_a_baseline_that_computes_something_else_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scenario = simulated(tmp_path / "data", 2, 40)
    other = plain_of(simulated(tmp_path / "other", 2, 41))
    monkeypatch.setattr(bench, "plain_of", lambda _: other)
    with pytest.raises(RuntimeError, match="results differ"):
        bench.measure(tmp_path / "market", scenario, 0, "other rows")


def test_the_plain_side_alone_asks_every_step(tmp_path: Path):
    scenario = simulated(tmp_path / "data", 3, 60)
    run, steps = plain_of(scenario).run()
    assert steps[:3] == ("moments", "spread", bench.UPDATE)
    assert [each.number for each in run.rounds] == [*range(1, len(steps) + 1)]
    assert run.result["rows"] == 180
    assert set(run.result["coefficients"]) == {f"x{n}" for n in range(1, market.COLUMNS + 1)}


# --- stock Flower that does not start


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    folder.mkdir()
    for name, text in scripts.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))


def test_a_program_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    programs(tmp_path / "bin", monkeypatch)
    with pytest.raises(StockError, match="flower-superlink cannot be started"):
        train_exchange()


def test_a_program_that_ends_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    programs(tmp_path / "bin", monkeypatch, flower_superlink="echo no such flag; exit 3")
    with pytest.raises(StockError, match=r"flower-superlink ended with 3.*no such flag"):
        train_exchange()


def test_a_superlink_that_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    programs(tmp_path / "bin", monkeypatch, flower_superlink="echo thinking; exec sleep 60")
    monkeypatch.setattr("bench.federated_stock.START_SECONDS", 0.3)
    said: list[str] = []
    with pytest.raises(StockError, match=r"not ready in 0\.3 s"):
        train_exchange(say=said.append)
    assert said == ["stock Flower: SuperLink starts"]


def test_what_a_program_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Apps ran on, each in a session of its own, after the SuperLink that started them."""
    child = tmp_path / "child"
    script = f"setsid sleep 60 & echo $! > {child}; exec sleep 60"
    programs(tmp_path / "bin", monkeypatch, flower_superlink=script)
    monkeypatch.setattr("bench.federated_stock.START_SECONDS", 0.5)
    with pytest.raises(StockError):
        train_exchange()
    until = time.monotonic() + 10
    while _is_running(int(child.read_text())):
        assert time.monotonic() < until


def _is_running(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_the_other_rows_stand_without_stock_flower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    programs(tmp_path / "bin", monkeypatch)
    row = bench.stock_row(2)
    assert (row.name, row.value) == ("stock train exchange", None)
    assert "flower-superlink" in str(row.details["not available"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_federated_bench_has_every_row(capsys: pytest.CaptureFixture[str]):
    assert harness.main(["federated", "--json", "--quick"]) == 0
    captured = capsys.readouterr()
    assert "the four hospitals: job 1 of 2" in captured.err
    rows = {row["name"]: row for row in json.loads(captured.out)["rows"]}
    assert {name: row["unit"] for name, row in rows.items()} == NAMES
    assert all(row["value"] > 0 for row in rows.values())
    # Nothing stands beside these, or something that is slower.
    alone = ("stock train exchange", "deployed round", "job overhead")
    beside = [row for name, row in rows.items() if name not in alone]
    assert all(row["ratio"] > 1 for row in beside)
    # Far above any noise: stock Flower looks for replies every three seconds.
    assert rows["stock train exchange"]["value"] > 1


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        harness.main(["--help"])
    assert "./run bench federated --quick" in capsys.readouterr().out


def test_a_bench_that_has_no_short_form_says_so(capsys: pytest.CaptureFixture[str]):
    assert harness.main(["primitives", "--quick"]) == 2
    assert "no size to choose" in capsys.readouterr().err
