"""The log's write path, crashed at every step, with what it did persisted or lost.

The story of `ledger.log`: make a batch of entries, store it in one transaction, sign, write the
checkpoint, show it. A crash is an exception after which the object is thrown away and another
starts from what is on the disk. After every crash: nothing that was ever acknowledged is lost, no
checkpoint ever shown is contradicted, and the log goes on.
"""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import sqlalchemy as sa

from ledger import checkpoint, durable, store
from ledger.checkpoint import open_checkpoint
from ledger.errors import LogError
from ledger.log import Log
from ledger.merkle import leaf_hash, root
from ledger.publisher import Publisher
from ledger.sequencer import State
from ledger.statements import read
from ledger.verify import verify
from tests.drafts import Party, key_of
from tests.world import LOG_NAME, World

Function = Callable[..., Any]


class CrashError(BaseException):
    """The power went out."""


class Shown:
    """Every checkpoint that anybody saw, and every statement that was acknowledged."""

    def __init__(self) -> None:
        self.checkpoints: list[bytes] = []
        self.acknowledged: dict[str, int] = {}

    def look(self, log: Log) -> None:
        self.checkpoints.append(log.checkpoint())

    def check(self, world: World) -> None:
        """One history: each checkpoint is that of the first entries of the log as it is now."""
        log = world.log
        leaves = [leaf_hash(data) for data in log.entry_bytes(0, log.size)]
        for signed in [*self.checkpoints, log.checkpoint()]:
            head = open_checkpoint(signed, log.vkey)
            assert head.size <= len(leaves)
            assert head.root == root(leaves[: head.size])
        for statement_id, index in self.acknowledged.items():
            assert log.index_of(statement_id) == index


@contextmanager
def failing(target: Any, name: str, error: BaseException, *, persisted: bool) -> Iterator[None]:
    """Fail when a function is called: before it did anything, or after it did everything."""
    original: Function = getattr(target, name)

    def broken(*args: Any, **kwargs: Any) -> Any:
        if persisted:
            original(*args, **kwargs)
        raise error

    with patch.object(target, name, broken):
        yield


def crash(target: Any, name: str, *, persisted: bool) -> AbstractContextManager[None]:
    """Lose power at a step."""
    return failing(target, name, CrashError(name), persisted=persisted)


# Each step of `Log.sequence`, in order; the transaction ends inside `_store`.
STEPS: list[tuple[str, Any, str]] = [
    ("take what waits", Log, "_take_pending"),
    ("make an entry", State, "append"),
    ("admit it", State, "_admit"),
    ("insert", store, "insert_entries"),
    ("remove pending", store, "remove_pending"),
    ("commit", Log, "_store"),
    ("publish", Publisher, "publish"),
    ("sign", checkpoint, "sign"),
    ("write the checkpoint", durable.Slots, "write"),
    ("write its bytes", os, "pwrite"),
    ("flush them", os, "fdatasync"),
    ("acknowledge", Log, "_acknowledge"),
]


def submit(world: World, envelope: bytes) -> str:
    world.clock.advance()
    with world.engine.begin() as connection:
        return world.log.submit(connection, envelope)


def newcomer(world: World, name: str) -> bytes:
    party = Party(name, key_of(name))
    return world.participant(party, "auditor").sign(party.key)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world", providers=1)


@pytest.fixture(name="stored", params=["sqlite", "postgresql"])
def _stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world on each kind of database."""
    if request.param == "sqlite":
        yield World(tmp_path / "world", providers=1)
        return
    world = World(tmp_path / "world", 1, engine=request.getfixturevalue("postgres_log"))
    yield world
    world.log.stop()


def restart(world: World) -> None:
    """End the log as the end of its process does, and start another."""
    world.log.stop()
    world.log = world.open_log()


@pytest.mark.parametrize("persisted", [False, True], ids=["lost", "persisted"])
@pytest.mark.parametrize(
    ("target", "step"), [step[1:] for step in STEPS], ids=[s[0] for s in STEPS]
)
@pytest.mark.parametrize("again", [0, 2], ids=["recovers", "crashes again"])
def test_a_crash_loses_nothing_and_forks_nothing(
    stored: World, target: Any, step: str, *, persisted: bool, again: int
):
    world, shown = stored, Shown()
    for statement_id in world.statements:
        shown.acknowledged[statement_id] = world.log.index_of(statement_id)
    shown.look(world.log)
    first = submit(world, newcomer(world, "first.example"))
    envelope = newcomer(world, "appended.example")
    ticket = world.log.enqueue(envelope)
    with crash(target, step, persisted=persisted), pytest.raises(CrashError):
        world.log.sequence()
    # Readers go on reading the old process until the new one is there.
    shown.look(world.log)
    with suppress(LogError):
        shown.acknowledged[read(envelope).id] = ticket.wait(0)
    world.log.stop()
    for _ in range(again):
        with crash(target, step, persisted=persisted):
            restart_into_a_crash(world)
    world.log = world.open_log()
    shown.check(world)
    shown.look(world.log)
    if world.log.size:
        assert verify(world.export(world.folder / "after"), world.log.vkey).status == "sound"

    # What was not acknowledged is sent again, and is in the log once either way.
    appended = world.log.enqueue(envelope)
    second = submit(world, newcomer(world, "second.example"))
    world.log.sequence()
    indexes = {appended.wait(0), *(world.log.index_of(name) for name in (first, second))}
    assert len(indexes) == 3
    assert max(indexes) == world.log.size - 1
    assert appended.wait(0) == world.log.index_of(read(envelope).id)
    shown.check(world)
    assert verify(world.export(world.folder / "export"), world.log.vkey).status == "sound"


def restart_into_a_crash(world: World) -> None:
    """Start while a step crashes; only steps that recovery takes can fail."""
    with suppress(CrashError):
        world.log = world.open_log()
        world.log.sequence()
    world.log.stop()


@pytest.mark.parametrize("persisted", [False, True], ids=["lost", "persisted"])
@pytest.mark.parametrize(
    ("target", "step"),
    [step[1:] for step in STEPS[3:]],
    ids=[step[0] for step in STEPS[3:]],
)
def test_what_the_disk_refuses_is_tried_again_without_a_restart(
    stored: World, target: Any, step: str, *, persisted: bool
):
    world = stored
    size = world.log.size
    name = submit(world, newcomer(world, "first.example"))
    ticket = world.log.enqueue(newcomer(world, "appended.example"))
    full = OSError(errno.ENOSPC, "No space left on device")
    with failing(target, step, full, persisted=persisted):
        with pytest.raises(OSError, match="space"):
            world.log.sequence()
        with suppress(OSError):
            world.log.sequence()
    assert world.log.size in (size, size + 2)
    later = submit(world, newcomer(world, "later.example"))
    world.log.sequence()
    world.log.sequence()
    # What is appended has its place at once; pending rows follow.
    assert ticket.wait(0) == size
    assert world.log.index_of(name) == size + 1
    assert world.log.index_of(later) == size + 2
    assert world.audit().status == "sound"
    newest = world.log.checkpoint()
    restart(world)
    assert world.log.checkpoint() == newest


# Older copies.


def test_a_database_from_an_older_backup_refuses_to_start(world: World):
    database = world.folder / "log.sqlite"
    backup = database.read_bytes()
    world.put(newcomer(world, "later.example"))
    newest = database.read_bytes()
    world.engine.dispose()
    database.write_bytes(backup)
    with pytest.raises(LogError, match=r"older backup.*Restore the newest"):
        world.open_log()
    # The twin: the newest one starts.
    world.engine.dispose()
    database.write_bytes(newest)
    assert world.open_log().size == world.log.size


def test_a_database_with_another_history_refuses_to_start(world: World, tmp_path: Path):
    other = World(tmp_path / "other", providers=1)
    for place, name in ((world, "one.example"), (other, "another.example")):
        place.put(newcomer(place, name))
    other.engine.dispose()
    (other.folder / "log.sqlite").write_bytes((world.folder / "log.sqlite").read_bytes())
    with pytest.raises(LogError, match="does not match the checkpoint"):
        other.open_log()


def test_a_lost_checkpoint_refuses_to_start_and_an_empty_log_does_not(world: World, tmp_path: Path):
    checkpoint = world.folder / "checkpoints" / "checkpoint"
    kept = checkpoint.read_bytes()
    checkpoint.unlink()
    with pytest.raises(LogError, match="Put the newest checkpoint there"):
        world.open_log()
    checkpoint.write_bytes(kept)
    assert world.open_log().size == world.log.size

    empty = World(tmp_path / "empty", enrolled=False)
    (empty.folder / "checkpoints" / "checkpoint").unlink()
    assert empty.open_log().size == 0


@pytest.mark.parametrize("damage", [b"", b"garbage", b"another"])
def test_a_damaged_checkpoint_is_named(world: World, tmp_path: Path, damage: bytes):
    checkpoint = world.folder / "checkpoints" / "checkpoint"
    if damage == b"another":
        other = World(tmp_path / "other", enrolled=False)
        other.log_key = key_of("other.example/log")
        (other.folder / "checkpoints" / "checkpoint").unlink()
        damage = other.open_log().checkpoint()
    checkpoint.write_bytes(damage)
    with pytest.raises(LogError, match="checkpoint is not a checkpoint of this log's key"):
        world.open_log()


def test_two_processes_on_one_file_do_not_fork_it(world: World):
    shown = Shown()
    second = world.open_log()
    world.put(newcomer(world, "first.example"))
    shown.look(world.log)
    submit(world, newcomer(world, "second.example"))
    with pytest.raises(LogError, match="another process writes"):
        second.sequence()
    assert world.log.sequence() == 1
    shown.check(world)


@pytest.mark.parametrize(
    "values",
    [{"data": b"{}"}, {"salt": bytes(32)}, {"envelope": b"{}"}, {"envelope": "another"}],
    ids=["entry", "salt", "statement", "another statement"],
)
def test_a_changed_database_is_found_at_the_start(world: World, values: dict[str, Any]):
    if values.get("envelope") == "another":
        values = {"envelope": newcomer(world, "another.example")}
    column = store.entries.c.index
    with world.engine.begin() as connection:
        connection.execute(sa.update(store.entries).where(column == 0).values(**values))
    with pytest.raises(LogError, match=r"database is damaged at entry 0.*Restore"):
        world.open_log()


# Submitting.


def test_the_same_envelope_twice_is_one_entry(world: World):
    envelope = newcomer(world, "twice.example")
    size = world.log.size
    assert submit(world, envelope) == submit(world, envelope)
    assert world.log.sequence() == 1
    name = submit(world, envelope)
    assert world.log.sequence() == 0
    assert world.log.index_of(name) == size == world.log.size - 1


def test_what_is_rolled_back_is_not_logged(world: World):
    with world.engine.connect() as connection:
        world.log.submit(connection, newcomer(world, "never.example"))
        connection.rollback()
    assert world.log.sequence() == 0


def test_waiting_ends_in_time_and_in_a_message(world: World):
    name = submit(world, newcomer(world, "slow.example"))
    with pytest.raises(LogError, match=r"not in the log after 0.01 s"):
        world.log.wait_for(name, timeout=0.01)
    world.log.sequence()
    assert world.log.wait_for(name, timeout=0.01) == world.log.size - 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_whoever_waits_hears_that_the_log_has_stopped(world: World):
    with crash(Publisher, "publish", persisted=False):
        name = submit(world, newcomer(world, "first.example"))
        world.log.start()
        with pytest.raises(LogError, match="stopped"):
            world.log.wait_for(name)
    world.log.stop()
    world.log = world.open_log()
    assert world.log.index_of(name) == world.log.size - 1


def test_many_at_once_get_consecutive_entries(world: World):
    names: list[str] = []
    failures: list[BaseException] = []
    size = world.log.size
    envelopes = [newcomer(world, f"n{number}.example") for number in range(16)]
    world.log.start()

    def one(envelope: bytes) -> None:
        try:
            with world.engine.begin() as connection:
                name = world.log.submit(connection, envelope)
            world.log.wait_for(name)
            names.append(name)
        except BaseException as error:  # noqa: BLE001 - a thread's failure must reach the test
            failures.append(error)

    threads = [threading.Thread(target=one, args=(envelope,)) for envelope in envelopes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.log.stop()
    assert failures == []
    indexes = sorted(world.log.index_of(name) for name in names)
    assert indexes == list(range(size, size + 16))
    assert {read(item).id for item in envelopes} == set(names)
    assert world.audit().status == "sound"


def test_the_name_of_the_log_is_that_of_its_key(world: World):
    assert open_checkpoint(world.log.checkpoint(), world.log.vkey).origin == LOG_NAME
