"""What a monitor remembers: recalled whole, replayed where older, never used where damaged."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger.entry import Entry
from ledger.errors import StateError
from ledger.history import History, Logged
from ledger.merkle import Tree, leaf_hash
from ledger.mirror import Mirror
from ledger.monitor import Monitor
from ledger.recall import facts_of, recall
from ledger.reconcile import reconcile
from ledger.statements import KINDS, JournalPosition
from tests.looks import LogSource, codes, grown, look, policy
from tests.world import World


@pytest.fixture(scope="module", name="grown")
def _grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, bytes]:
    return grown(tmp_path_factory.mktemp("world"))


def shown(history: History) -> dict[str, Any]:
    """Everything that a history knows, comparable between one recalled and one read."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        if hasattr(value, "statement"):
            return (value.index, value.time, value.id, value.statement)
        if isinstance(value, Entry):
            return value.to_bytes()
        return value

    # Signers are looked up anew by whoever asks.
    told = {name: item for name, item in vars(history).items() if name != "signers"}
    return {name: plain(item) for name, item in told.items()}


def test_what_is_recalled_is_what_was_read(tmp_path: Path):
    world = World.with_every_kind(tmp_path / "world")
    with Mirror(tmp_path / "state") as mirror:
        monitor = Monitor(mirror, policy(world))
        report = monitor.look(LogSource(world.log))
        assert not report.findings
        assert not report.missing
        read = shown(monitor.history)
    with Mirror(tmp_path / "state") as mirror:
        again = Monitor(mirror, policy(world))
        assert (
            shown(again.history) == read == shown(world.log.history) | {"checked": read["checked"]}
        )
        assert set(KINDS) <= set(again.history.checked)
        assert again.trusted is not None
        assert again.trusted.checkpoint.size == world.log.size


def test_an_optional_record_can_be_recalled():
    from ledger import recall as recalling

    build = recalling._builder(JournalPosition | None)
    assert build is not None
    assert (build(None), build({"sequence": 1, "head": "h"})) == (None, JournalPosition(1, "h"))


def test_a_state_of_another_version_is_replayed_from_its_own_copy(
    tmp_path: Path, grown: tuple[World, bytes]
):
    world, _ = grown
    look(tmp_path, world)
    with Mirror(tmp_path) as mirror:
        remembered = mirror.remembered
        remembered["facts"]["something"] = None
        mirror.commit(remembered)
    with Mirror(tmp_path) as mirror:
        assert Monitor(mirror, policy(world)).history.size == mirror.replayed == 0
    source = LogSource(world.log)
    monitor, report = look(tmp_path, world, source)
    assert (report.findings, source.asked) == ([], [])
    assert monitor.history.checked == world.log.history.checked
    with Mirror(tmp_path) as mirror:
        assert Monitor(mirror, policy(world)).history.size == world.log.size


def test_what_older_rules_said_is_said_again_or_not(tmp_path: Path, grown: tuple[World, bytes]):
    world = grown[0].copy(tmp_path / "world")
    world.insecure_put(replace(world.schedule(), issued=world.clock()))
    look(tmp_path / "state", world)
    with Mirror(tmp_path / "state") as mirror:
        remembered = mirror.remembered | {"rules": 1}
        for code, where in (("wrong_index", "entry 7"), ("split_view", "checkpoint")):
            found = {"code": code, "where": where, "message": "", "entries": [7]}
            remembered["findings"].append(found)
        mirror.commit(remembered)
    monitor, _ = look(tmp_path / "state", world)
    assert sorted(codes(monitor.findings)) == ["second_schedule", "split_view"]
    monitor, _ = look(tmp_path / "state", world)
    assert sorted(codes(monitor.findings)) == ["second_schedule", "split_view"]


def test_a_history_that_cannot_be_written_down_is_refused():
    history = History()
    history.something = object()  # type: ignore[attr-defined]
    with pytest.raises(StateError, match="cannot be remembered"):
        facts_of(history)


def test_a_damaged_state_is_not_used(tmp_path: Path, grown: tuple[World, bytes]):
    world, _ = grown
    look(tmp_path, world)
    with Mirror(tmp_path) as mirror:
        good = mirror.remembered
        mirror.commit(good | {"size": 1})
    with Mirror(tmp_path) as mirror, pytest.raises(StateError, match="not written by this"):
        Monitor(mirror, policy(world))
    with Mirror(tmp_path) as mirror:
        tree = Tree.from_leaf_hashes([leaf_hash(b"x")])
        mirror.commit(good | {"range": [tree.root().hex()], "size": 1})
    with Mirror(tmp_path) as mirror, pytest.raises(StateError, match="not that of its entries"):
        Monitor(mirror, policy(world))
    with Mirror(tmp_path) as mirror:
        mirror.commit(good)
    data = bytearray((tmp_path / "openings").read_bytes())
    data[100] ^= 1
    (tmp_path / "openings").write_bytes(data)
    with Mirror(tmp_path) as mirror:
        monitor = Monitor(mirror, policy(world))
        with pytest.raises(StateError, match="entry 0 is not what was written"):
            reconcile(monitor.history)
        with pytest.raises(AttributeError):
            _ = monitor.history.entries[0].nothing  # type: ignore[attr-defined]
        with pytest.raises(AttributeError):
            _ = monitor.history.by_index[0].nothing  # type: ignore[attr-defined]


def test_a_damaged_state_that_is_met_while_looking_ends_the_look(
    tmp_path: Path, grown: tuple[World, bytes]
):
    world, early = grown
    look(tmp_path, world, LogSource(world.log, early))
    data = bytearray((tmp_path / "entries").read_bytes())
    data[100] ^= 1
    (tmp_path / "entries").write_bytes(data)
    with Mirror(tmp_path) as mirror:
        monitor = Monitor(mirror, policy(world))
        with pytest.raises(StateError):
            monitor.look(LogSource(world.log))


def test_rarer_things_are_remembered_too(tmp_path: Path, grown: tuple[World, bytes]):
    world, _ = grown
    with Mirror(tmp_path) as mirror:
        monitor = Monitor(mirror, policy(world))
        monitor.look(LogSource(world.log))
        history = monitor.history
        known = history.by_index[0]
        other = Logged(5, known.time, "offer:" + "0" * 64, history.by_index[5].statement)
        values = {
            "entry": history.entries[3],
            "logged": known,
            "other": other,
            "mixed": [known, other, "text", None, True],
            "sets": (frozenset({1}), {"a"}, b"bytes", world.log.vkey),
        }
        history.checked = values  # type: ignore[assignment]
        facts = json.loads(json.dumps(facts_of(history)))
        again = recall(mirror, facts)
        found: Any = again.checked
        assert found["entry"].to_bytes() == values["entry"].to_bytes()
        assert found["logged"] is again.by_index[0]
        assert (found["other"].index, found["other"].id) == (5, other.id)
        assert [item for item in found["mixed"] if not hasattr(item, "id")] == ["text", None, True]
        assert found["sets"] == values["sets"]


def test_a_state_that_was_rewritten_is_no_python_error(tmp_path: Path, grown: tuple[World, bytes]):
    world, _ = grown
    with Mirror(tmp_path) as mirror:
        mirror.append(b"no entry", leaf_hash(b"no entry"), b"no opening")
        mirror.record("offer:" + "0" * 64)
        mirror.commit({})
        history = recall(mirror, facts_of(History()))
        with pytest.raises(StateError, match="entry 0 of the state folder"):
            _ = history.entries[0].kind
        with pytest.raises(StateError, match="its opening is unreadable"):
            _ = history.by_index[0].statement
    assert world


KILLED = """
import sys
from pathlib import Path
from ledger import durable, mirror
from ledger.keys import VerifyKey
from ledger.mirror import Mirror
from ledger import monitor
from ledger.source import FolderSource
from ledger.trust import Policy
import os, signal
left = int(sys.argv[1])
def die(name, real):
    def call(*args, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **named)
    return call
mirror.os.fsync = die("fsync", os.fsync)
durable.os.fsync = mirror.os.fsync
Mirror.append = die("append", Mirror.append)
Mirror.record = die("record", Mirror.record)
monitor.BUNDLES_A_COMMIT = 1
policy = Policy.of(VerifyKey.from_text(sys.argv[4]))
with Mirror(Path(sys.argv[2])) as state:
    found = monitor.Monitor(state, policy).look(FolderSource(Path(sys.argv[3]), policy))
    sys.exit(1 if found.findings or found.missing else 0)
"""


def test_killed_at_any_moment_it_goes_on(tmp_path: Path, grown: tuple[World, bytes]):
    world = grown[0].copy(tmp_path / "world")
    folder = world.export(tmp_path / "export")
    arguments = [str(tmp_path / "state"), str(folder), world.log.vkey.text]
    kills = 0
    for left in (1, 9, 18, 20, 22, 23, 24, 1, 9, 17, 19, 21, 90):
        ran = subprocess.run(
            [sys.executable, "-c", KILLED, str(left), *arguments],
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        )
        if ran.returncode == 0:
            break
        assert ran.returncode == -signal.SIGKILL
        kills += 1
    assert kills == 12
    monitor, report = look(tmp_path / "state", world)
    assert (report.findings, report.missing, monitor.size) == ([], [], world.log.size)
    assert monitor.history.checked == world.log.history.checked


def counted(state: Path, world: World) -> tuple[Any, ...]:
    """What a monitor that was just started says, and how many statements it reads for that."""
    with Mirror(state) as mirror:
        reads: list[int] = []
        read = mirror.read
        mirror.read = lambda index: reads.append(index) or read(index)  # type: ignore[method-assign,func-returns-value]
        monitor = Monitor(mirror, policy(world))
        result = reconcile(monitor.history, tally=monitor.tally)
        told = (result.findings, result.accounts.totals, result.epochs, dict(result.checked))
        return told, len(reads)


def test_what_was_counted_is_not_read_again(tmp_path: Path, grown: tuple[World, bytes]):
    world = grown[0].copy(tmp_path / "world")
    look(tmp_path / "few", world)
    for _ in range(2):
        world.one_use()
    look(tmp_path / "many", world)
    (_, few), (told, many) = (counted(tmp_path / name, world) for name in ("few", "many"))
    assert few == many < 10
    fresh = reconcile(world.log.history)
    assert told[:2] == (fresh.findings, fresh.accounts.totals)


@pytest.mark.parametrize(
    "change",
    [
        lambda tally: tally | {"version": 0},
        lambda tally: tally | {"accounts": tally["accounts"] | {"size": 3}},
        lambda tally: tally | {"lines": None},
        lambda tally: tally | {"accounts": tally["accounts"] | {"jobs": [100_000]}},
        lambda _: None,
        lambda _: [],
    ],
)
def test_a_tally_of_another_version_is_counted_anew(
    tmp_path: Path, grown: tuple[World, bytes], change: Any
):
    world, _ = grown
    look(tmp_path, world)
    expected, few = counted(tmp_path, world)
    with Mirror(tmp_path) as mirror:
        remembered = mirror.remembered
        remembered["tally"] = change(remembered["tally"])
        mirror.commit(remembered)
    found, many = counted(tmp_path, world)
    assert found == expected
    assert many > few + 10
