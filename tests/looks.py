"""A monitor's looks at a log in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ledger.log import Log
from ledger.mirror import Mirror
from ledger.monitor import Monitor, Plan
from ledger.tiles import Tile
from ledger.trust import Policy
from tests.world import World


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


def grown(folder: Path) -> tuple[World, bytes]:
    """A log with a schedule and one use, and a checkpoint of when it was shorter."""
    world = World(folder, 2)
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


def codes(items: Sequence[Any]) -> list[str]:
    return [item.code for item in items]
