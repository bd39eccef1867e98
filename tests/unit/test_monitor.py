from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger import checkpoint as checkpoints
from ledger.checkpoint import Checkpoint
from ledger.cosignature import attach, cosign
from ledger.errors import FetchError, TrustError
from ledger.fork import open_fork
from ledger.keys import CosigningKey, SigningKey
from ledger.merkle import Tree, leaf_hash
from ledger.mirror import Mirror
from ledger.monitor import Monitor, Plan
from ledger.reconcile import reconcile
from ledger.source import FolderSource
from ledger.standing import standing
from ledger.succession import Succession
from ledger.tiles import Tile, encode_bundle
from ledger.trust import Group, Policy, Witness
from tests.drafts import key_of
from tests.forgery import insecure_export
from tests.looks import LogSource, codes, grown, look, policy
from tests.world import World

NOW = 1_767_225_700


@pytest.fixture(scope="module", name="grown")
def _grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, bytes]:
    return grown(tmp_path_factory.mktemp("world"))


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
