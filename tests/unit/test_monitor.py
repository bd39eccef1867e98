import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger import checkpoint as checkpoints
from ledger.checkpoint import Checkpoint
from ledger.cosignature import attach, cosign
from ledger.entry import Entry
from ledger.errors import FetchError, StateError, TrustError
from ledger.fork import open_fork
from ledger.history import History, Logged
from ledger.keys import CosigningKey, SigningKey
from ledger.log import Log
from ledger.merkle import Tree, leaf_hash
from ledger.mirror import Mirror
from ledger.monitor import Monitor, Plan
from ledger.recall import facts_of, recall
from ledger.reconcile import reconcile
from ledger.source import FolderSource
from ledger.standing import standing
from ledger.statements import KINDS, JournalPosition
from ledger.succession import Succession
from ledger.tiles import Tile, encode_bundle
from ledger.trust import Group, Policy, Witness
from tests.world import World, insecure_export, key_of

NOW = 1_767_225_700


class LogSource:
    """A log in memory, as a monitor reads it; every part of it can be made to lie."""

    def __init__(self, log: Log, signed: bytes | None = None) -> None:
        self.log = log
        self.signed = log.checkpoint() if signed is None else signed
        self.notes: Sequence[bytes] = ()
        self.hidden: set[int] = set()
        self.said_open: set[int] = set()
        self.changed: dict[str, bytes] = {}
        self.asked: list[str] = []

    def successions(self) -> Sequence[bytes]:
        return self.notes

    def checkpoint(self) -> bytes:
        return self.signed

    def tile(self, tile: Tile) -> bytes:
        self.asked.append(tile.path)
        return self.changed.get(tile.path) or self.log.tile(tile.path)

    def openings(self, start: int, stop: int) -> dict[int, bytes]:
        found = self.log.openings(start, stop)
        return {item.index: item.to_bytes() for item in found if item.index not in self.hidden}

    def sealed(self, _start: int, _stop: int) -> dict[int, bytes]:
        return {}

    def declared(self, start: int, stop: int) -> set[int]:
        return self.said_open & set(range(start, stop))

    def attachments(self, _name: str) -> dict[str, bytes]:
        return {}


@pytest.fixture(scope="module", name="grown")
def _grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, bytes]:
    """A log of every kind, and a checkpoint of when it was shorter."""
    world = World(tmp_path_factory.mktemp("world"), 2)
    early = world.log.checkpoint()
    world.put(world.schedule())
    world.one_use()
    return world, early


def policy(world: World) -> Policy:
    return Policy.of(world.log.vkey)


def look(state: Path, world: World, source: Any = None, **plan: Any) -> tuple[Monitor, Any]:
    with Mirror(state) as mirror:
        monitor = Monitor(mirror, policy(world), Plan(**plan))
        report = monitor.look(LogSource(world.log) if source is None else source)
        for logged in monitor.history.by_index.values():
            assert logged.statement, logged.time  # read before the mirror closes
        return monitor, report


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


def codes(items: Sequence[Any]) -> list[str]:
    return [item.code for item in items]


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


def test_going_on_reads_only_what_is_new(tmp_path: Path, grown: tuple[World, bytes]):
    world, early = grown
    first, report = look(tmp_path, world, LogSource(world.log, early))
    assert (first.size, report.findings) == (
        checkpoints.parse(early.decode().split("\n\n")[0] + "\n").size,
        [],
    )
    source = LogSource(world.log)
    with Mirror(tmp_path) as mirror:
        monitor = Monitor(mirror, policy(world))
        known = set(monitor.history.by_index)
        assert monitor.look(source).findings == []
        assert set(monitor.history.by_index) - known == set(range(first.size, world.log.size))
        assert mirror.replayed == monitor.size == world.log.size
        verdict = standing(monitor, reconcile(monitor.history))
        assert (verdict.status, verdict.checked["entries"]) == ("sound", world.log.size)
        assert verdict.checked["signatures"] == world.log.history.checked["signatures"]
    # A third look has nothing to read.
    source = LogSource(world.log)
    look(tmp_path, world, source)
    assert source.asked == []
    assert (tmp_path / "checkpoint").read_bytes() == world.log.checkpoint()


def test_findings_stay_and_are_proven(tmp_path: Path, grown: tuple[World, bytes]):
    world = grown[0].copy(tmp_path / "world")
    look(tmp_path / "state", world)
    world.insecure_put(world.schedule())
    _, report = look(tmp_path / "state", world)
    assert [(item.code, item.entries) for item in report.findings] == [
        ("second_schedule", (world.log.size - 1,))
    ]
    monitor, report = look(tmp_path / "state", world)
    assert codes(report.findings) == []
    assert codes(monitor.findings) == ["second_schedule"]
    assert standing(monitor).status == "tampered"


def test_an_older_state_of_the_log_is_noticed(tmp_path: Path, grown: tuple[World, bytes]):
    world, early = grown
    look(tmp_path, world)
    monitor, report = look(tmp_path, world, LogSource(world.log, early))
    assert codes(report.findings) == ["rolled_back"]
    assert monitor.size == world.log.size
    monitor, _ = look(tmp_path, world)
    assert codes(monitor.findings) == ["rolled_back"]
    # The twin: without a memory the older state is as good as any.
    _, report = look(tmp_path / "new", world, LogSource(world.log, early))
    assert report.findings == []


def fork_of(world: World, folder: Path, entries: int) -> World:
    """The same log with another end."""
    twin = world.copy(folder)
    twin.clock.advance(99_000)
    for _ in range(entries):
        twin.put(twin.job(name="another"))
    return twin


@pytest.mark.parametrize("more", [1, 2, 3])
def test_a_second_history_is_proven_in_a_file(
    tmp_path: Path, grown: tuple[World, bytes], more: int
):
    world = grown[0].copy(tmp_path / "world")
    twin = fork_of(world, tmp_path / "twin", more)
    world.put(world.job())
    if more == 3:
        world.put(world.job())
    look(tmp_path / "state", world)
    before, report = look(tmp_path / "state", twin)
    if twin.log.size < world.log.size:
        raise AssertionError
    assert codes(report.findings) == ["split_view"]
    (proof,) = (tmp_path / "state" / "forks").iterdir()
    forked = open_fork(proof.read_bytes(), world.log.vkey)
    assert {head.size for head in forked.heads} == {world.log.size, twin.log.size}
    assert before.size == world.log.size
    # The true log goes on, and what was seen is not forgotten.
    world.put(world.job())
    monitor, report = look(tmp_path / "state", world)
    assert (monitor.size, report.findings) == (world.log.size, [])
    assert codes(monitor.findings) == ["split_view"]


def test_an_older_second_history_is_noticed_too(tmp_path: Path, grown: tuple[World, bytes]):
    world = grown[0].copy(tmp_path / "world")
    twin = fork_of(world, tmp_path / "twin", 1)
    for _ in range(3):
        world.put(world.job())
    look(tmp_path / "state", world)
    _, report = look(tmp_path / "state", twin)
    assert codes(report.findings) == ["split_view"]


def test_entries_that_are_not_the_signed_ones_are_refused(
    tmp_path: Path, grown: tuple[World, bytes]
):
    world, early = grown
    size = world.log.size
    raw = [*world.log.entry_bytes(0, size - 1), world.log.entry_bytes(0, 1)[0]]
    path = Tile(None, 0, size).path
    source = LogSource(world.log)
    source.changed = {path: encode_bundle(raw)}
    monitor, report = look(tmp_path, world, source)
    assert (monitor.size, codes(report.findings)) == (0, ["wrong_root"])
    # After some were verified, the tiles say that the log does extend them.
    look(tmp_path, world, LogSource(world.log, early))
    _, report = look(tmp_path, world, source)
    assert codes(report.findings) == ["wrong_root"]
    source.changed = {path: encode_bundle(raw)[:-1]}
    _, report = look(tmp_path, world, source)
    assert codes(report.findings) == ["damaged"]
    source.changed = {path: encode_bundle(raw), Tile(0, 0, size).path: b"short"}
    _, report = look(tmp_path, world, source)
    assert codes(report.findings) == ["split_view"]
    assert "No proof for others" in report.findings[0].message
    monitor, report = look(tmp_path, world)
    assert (monitor.size, report.findings) == (size, [])


@pytest.mark.parametrize("processes", [1, 2])
def test_a_malformed_entry_ends_the_replay(
    tmp_path: Path, grown: tuple[World, bytes], processes: int
):
    world = grown[0].copy(tmp_path / "world")
    entries: list[Any] = [*world.entries()[:-1], b"{}"]
    folder = insecure_export(tmp_path / "export", world.log_key, entries, world.openings()[:-1])
    source = FolderSource(folder, policy(world))
    monitor, report = look(tmp_path / "state", world, source, processes=processes)
    assert codes(report.findings) == ["malformed_entry"]
    assert monitor.history.size == len(entries) - 1
    _, report = look(tmp_path / "state", world, source)
    assert report.findings == []
    source.close()


def test_statements_that_stay_closed_are_counted(tmp_path: Path, grown: tuple[World, bytes]):
    world, _ = grown
    source = LogSource(world.log)
    source.hidden = {4, 5}
    source.said_open = {4}
    monitor, report = look(tmp_path, world, source)
    assert [item.where for item in report.missing if item.code == "missing_opening"] == ["entry 4"]
    assert monitor.history.checked["sealed"] == 2
    assert monitor.unchecked > 0
    assert standing(monitor).status == "incomplete"


def test_nothing_open_is_never_sound(tmp_path: Path, grown: tuple[World, bytes]):
    world, _ = grown
    source = LogSource(world.log)
    source.hidden = set(range(world.log.size))
    monitor, report = look(tmp_path, world, source)
    verdict = standing(monitor, look=report)
    assert (verdict.status, codes(verdict.missing)) == ("incomplete", ["nothing_checked"])


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (FetchError("no answer"), "unreadable", "incomplete"),
        (TrustError("nobody"), "untrusted", "untrusted"),
        (FileNotFoundError(2, "no such file", "tile"), "missing_file", "incomplete"),
    ],
)
def test_what_cannot_be_read_now_is_missing_for_now(
    tmp_path: Path, grown: tuple[World, bytes], error: Exception, code: str, status: str
):
    world, _ = grown
    look(tmp_path, world)
    source = LogSource(world.log)

    def fail() -> bytes:
        raise error

    source.checkpoint = fail  # type: ignore[method-assign]
    monitor, report = look(tmp_path, world, source)
    assert codes(report.missing) == [code]
    assert standing(monitor, look=report).status == status
    monitor, report = look(tmp_path, world)
    assert standing(monitor, look=report).status == "sound"


def test_another_log_or_key_is_not_followed(tmp_path: Path, grown: tuple[World, bytes]):
    world, _ = grown
    other = key_of("other.example/log")
    tree = Tree.from_leaf_hashes([leaf_hash(b"x")])
    signed = checkpoints.sign(Checkpoint(other.name, 1, tree.root()), other)
    _, report = look(tmp_path, world, LogSource(world.log, signed))
    assert codes(report.missing) == ["untrusted"]
    look(tmp_path, world)
    both = Policy.of(world.log.vkey, other.verify_key)
    with Mirror(tmp_path) as mirror:
        report = Monitor(mirror, both).look(LogSource(world.log, signed))
        assert codes(report.missing) == ["untrusted"]
    with Mirror(tmp_path) as mirror, pytest.raises(TrustError):
        Monitor(mirror, Policy.of(other.verify_key))
    huge = checkpoints.sign(Checkpoint(world.log_key.name, 1 << 40, tree.root()), world.log_key)
    _, report = look(tmp_path, world, LogSource(world.log, huge))
    assert codes(report.findings) == ["damaged"]


def test_a_quorum_is_asked_for_and_its_age(tmp_path: Path, grown: tuple[World, bytes]):
    world, _ = grown
    north = CosigningKey.from_seed("witness.example/north", bytes(32))
    needed = Policy(
        (world.log.vkey,),
        (Witness("north", north.verify_key),),
        (Group("all", 1, ("north",)),),
        "all",
    )

    def seen(state: Path, at: int | None, trust: Policy = needed, **plan: Any) -> Any:
        signed = world.log.checkpoint()
        if at is not None:
            signed = attach(signed, [cosign(signed, north, at)])
        with Mirror(state) as mirror:
            monitor = Monitor(mirror, trust, Plan(now=lambda: NOW, **plan))
            return monitor.look(LogSource(world.log, signed)), monitor

    report, _ = seen(tmp_path, None)
    assert codes(report.missing) == ["untrusted"]
    report, monitor = seen(tmp_path, NOW - 10, max_age=60)
    assert (report.missing, monitor.checked["fresh_checkpoints"]) == ([], 1)
    report, monitor = seen(tmp_path, NOW - 61, max_age=60)
    assert codes(report.missing) == ["stale"]
    assert monitor.missing == []
    report, _ = seen(tmp_path / "bare", None, policy(world), max_age=60)
    assert codes(report.missing) == ["stale"]


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


def test_many_findings_are_read_past(tmp_path: Path, grown: tuple[World, bytes]):
    world = grown[0].copy(tmp_path / "world")
    for _ in range(120):
        world.insecure_put(replace(world.schedule(), issued=world.clock()))
    monitor, _ = look(tmp_path / "state", world)
    assert monitor.history.size == world.log.size
    assert len(monitor.findings) == 120


def test_progress_is_told(tmp_path: Path, grown: tuple[World, bytes]):
    told: list[tuple[int, int]] = []
    look(tmp_path, grown[0], progress=lambda done, size: told.append((done, size)))
    assert told == [(grown[0].log.size, grown[0].log.size)]


def test_a_log_that_changed_its_key_is_followed(tmp_path: Path, grown: tuple[World, bytes]):
    world, early = grown
    new = SigningKey.from_seed(world.log_key.name, bytes(range(32)))
    head = checkpoints.open_checkpoint(early, world.log.vkey)
    note = Succession(head, world.log.vkey, new.verify_key).sign(new, world.log_key)
    newest = checkpoints.open_checkpoint(world.log.checkpoint(), world.log.vkey)
    look(tmp_path, world, LogSource(world.log, early))
    source = LogSource(world.log, checkpoints.sign(newest, new))
    _, report = look(tmp_path, world, source)
    assert codes(report.missing) == ["untrusted"]
    source.notes = [note]
    monitor, report = look(tmp_path, world, source)
    assert (report.findings, report.missing, monitor.size) == ([], [], world.log.size)
    # From then on the state knows the new key by itself.
    source.notes = []
    monitor, report = look(tmp_path, world, source)
    assert (report.missing, monitor.trusted and monitor.trusted.key) == ([], new.verify_key)


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
