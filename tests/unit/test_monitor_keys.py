"""A monitor of a log that changed its key: from the first look on, and from the right tree."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from ledger import checkpoint as checkpoints
from ledger.checkpoint import Checkpoint
from ledger.finding import Report
from ledger.keys import SigningKey
from ledger.log import Log
from ledger.manifest import CHECKPOINT
from ledger.merkle import leaf_hash, root
from ledger.mirror import Mirror
from ledger.monitor import Monitor
from ledger.succession import Succession
from ledger.tiles import Tile
from ledger.trust import Policy
from tests.world import LOG_NAME, World

NEW = SigningKey.from_seed(LOG_NAME, b"n" * 32)


class Renewed:
    """A log whose newest checkpoint the next key signed, with the successions that lead there."""

    def __init__(self, log: Log, *notes: bytes) -> None:
        self.log, self.notes = log, notes

    def successions(self) -> Sequence[bytes]:
        return self.notes

    def checkpoint(self) -> bytes:
        newest = checkpoints.open_checkpoint(self.log.checkpoint(), self.log.vkey)
        return checkpoints.sign(newest, NEW)

    def tile(self, tile: Tile) -> bytes:
        return self.log.tile(tile.path)

    def openings(self, start: int, stop: int) -> dict[int, bytes]:
        return {item.index: item.to_bytes() for item in self.log.openings(start, stop)}

    def declared(self, start: int, stop: int) -> set[int]:
        return set(range(start, stop))

    def attachments(self, _name: str) -> dict[str, bytes]:
        return {}

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"), 1)


def succession(world: World, size: int, at: bytes | None = None) -> bytes:
    leaves = [leaf_hash(item) for item in world.log.entry_bytes(0, size)]
    head = Checkpoint(LOG_NAME, size, at or root(leaves))
    return Succession(head, world.log.vkey, NEW.verify_key).sign(NEW, world.log_key)


def look(state: Path, world: World, *notes: bytes) -> tuple[Monitor, Report]:
    with Mirror(state) as mirror:
        monitor = Monitor(mirror, Policy.of(world.log.vkey))
        return monitor, monitor.look(Renewed(world.log, *notes))


def test_a_first_look_may_begin_with_a_later_key(world: World, tmp_path: Path):
    monitor, report = look(tmp_path / "state", world, succession(world, 3))
    assert (report.findings, report.missing, monitor.size) == ([], [], world.log.size)
    assert monitor.trusted is not None
    assert monitor.trusted.key == NEW.verify_key
    # The twin: without the succession the later key is a stranger's.
    monitor, report = look(tmp_path / "other", world)
    assert [item.code for item in report.missing] == ["untrusted"]
    assert monitor.size == 0


def test_the_next_key_took_office_in_the_same_history(world: World, tmp_path: Path):
    _, report = look(tmp_path / "state", world, succession(world, 3, bytes(32)))
    assert [(item.code, item.where) for item in report.findings] == [("split_view", CHECKPOINT)]
