"""A log with two uses whose statements can be sealed and erased."""

from pathlib import Path

from ledger.export import Extras
from ledger.sealing import SealedOpenings, ViewKeys, finish_erasure, log_erasure, plan, public
from tests.world import World

CAUSE = "retention period over"


def two_uses(folder: Path) -> World:
    """Two uses; everything closed and indexed; the agreements revoked."""
    world = World(folder, providers=2)
    world.put(world.schedule(epoch_entries=16))
    world.one_use()
    world.use = world.one_use()
    while world.log.size % 16:
        world.put(world.revoke(world.providers[0], world.providers[0].offer))
    world.close_epochs()
    for provider in world.providers:
        world.put(world.revoke(provider, provider.agreement))
    return world


def sealed_export(world: World, path: Path, opened: list[int] | None = None) -> Path:
    """What is not opened is sealed; what was erased is marked."""
    erased = [index for index in world.log.history.shredded if index < world.log.size]
    shown = [i for i in public(world.log.history) if opened is None or i in opened]
    rest = set(range(world.log.size)) - set(shown) - set(erased)
    lines = SealedOpenings(world.log, ViewKeys(world.engine), rest)
    return world.export(path, shown, extras=Extras(sealed=lines, erased=erased))


def agreement(world: World, number: int = 0) -> int:
    return world.log.index_of(world.providers[number].agreement)


def erase(world: World, indexes: list[int]) -> list[int]:
    found = plan(world.log.history, indexes, world.clock())
    world.clock.advance()
    now = world.clock()
    logged = log_erasure(world.log, world.engine, found, world.operator.key, CAUSE, now)
    finish_erasure(world.log, world.engine, world.folder / "erasing")
    return logged
