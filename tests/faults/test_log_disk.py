"""The log against what really happens to processes and disks: kill -9, no room, torn writes.

Children are forked, run the product's own log, and tell each acknowledgement through a pipe; then
they are killed. What they were told is looked up in the log that starts afterwards.
"""

import itertools
import json
import os
import random
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import sqlalchemy as sa

from ledger import checkpoint, store
from ledger.checkpoint import open_checkpoint
from ledger.durable import SLOT
from ledger.errors import LogError
from ledger.log import Log
from ledger.publisher import Publisher
from ledger.sequencer import State
from ledger.statements import read
from ledger.verify import verify
from marketplace.database import make_engine
from tests.drafts import Party, key_of
from tests.world import World

STEPS: list[tuple[str, Any, str]] = [
    ("make an entry", State, "enter"),
    ("take pending", Log, "_take_pending"),
    ("insert", store, "insert_entries"),
    ("remove pending", store, "remove_pending"),
    ("commit", Log, "_store"),
    ("sign", checkpoint, "sign"),
    ("write the checkpoint", os, "pwrite"),
    ("flush it", os, "fdatasync"),
    ("publish", Publisher, "publish"),
    ("acknowledge", Log, "_acknowledge"),
]
PRODUCERS = 4


@pytest.fixture(name="world")
def _world(tmp_path: Path) -> World:
    """A world on a file that is opened as the service opens it."""
    folder = tmp_path / "world"
    folder.mkdir()
    engine = make_engine(folder / "log.sqlite")
    store.metadata.create_all(engine)
    return World(folder, 1, engine=engine)


def newcomer(world: World, name: str) -> bytes:
    party = Party(name, key_of(name))
    return world.participant(party, "auditor").sign(party.key)


@contextmanager
def killed_at(target: Any, step: str, *, after: bool, calls: int) -> Iterator[None]:
    """Kill this very process at a step, before or after it was done for the last time."""
    original: Callable[..., Any] = getattr(target, step)
    left = [calls]

    def deadly(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = original(*args, **kwargs)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    with patch.object(target, step, deadly):
        yield


def live_and_die(
    world: World,
    envelopes: list[bytes],
    death: Callable[[], AbstractContextManager[Any]] = nullcontext,
    *,
    heard: int | None = None,
) -> dict[str, int]:
    """Log statements in a child until it dies; return what was acknowledged by then.

    Args:
        world: its log is ended first; it stays the parent's.
        envelopes: what the child logs.
        death: kills the child at a step.
        heard: kill it once so many acknowledgements were heard.
    """
    world.log.stop()
    world.engine.dispose()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _live(world, envelopes, death, writing)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        lines = [] if heard is None else list(itertools.islice(pipe, heard))
        if heard is not None:
            os.kill(child, signal.SIGKILL)
        # What it said before it died counts, heard or not.
        lines += pipe
    os.waitpid(child, 0)
    return dict(json.loads(line) for line in lines)


def _live(
    world: World,
    envelopes: list[bytes],
    death: Callable[[], AbstractContextManager[Any]],
    pipe: int,
) -> None:
    log = world.open_log()
    with death():
        log.start()

        def produce(mine: list[bytes]) -> None:
            for number, envelope in enumerate(mine):
                if number % 2:
                    index = log.append(envelope)
                else:
                    with world.engine.begin() as connection:
                        name = world.log.submit(connection, envelope)
                    index = log.wait_for(name)
                # One write below the size of a pipe's buffer is never torn.
                os.write(pipe, json.dumps([read(envelope).id, index]).encode() + b"\n")

        threads = [
            threading.Thread(target=produce, args=(envelopes[start::PRODUCERS],))
            for start in range(PRODUCERS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def check(world: World, shown: list[bytes], acknowledged: dict[str, int]) -> None:
    """Nothing acknowledged is lost, no checkpoint contradicted, and the whole log is sound."""
    world.log = world.open_log()
    for name, index in acknowledged.items():
        assert world.log.index_of(name) == index
    for signed in shown:
        older = open_checkpoint(signed, world.log.vkey)
        assert world.log._state.tree.root(older.size) == older.root
    shown.append(world.log.checkpoint())
    folder = world.folder / f"export {len(shown)}"
    assert verify(world.export(folder), world.log.vkey).status == "sound"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("target", "step"), [step[1:] for step in STEPS], ids=[step[0] for step in STEPS]
)
def test_kill_9_at_a_step_loses_nothing(world: World, target: Any, step: str, *, after: bool):
    envelopes = [newcomer(world, f"n{number}.example") for number in range(24)]
    shown, told = [world.log.checkpoint()], {}
    for calls in (1, 3):
        deadly = lambda calls=calls: killed_at(target, step, after=after, calls=calls)  # noqa: E731
        told |= live_and_die(world, envelopes, deadly)
        check(world, shown, told)
    # The twin: without death all of it is logged, each once.
    told |= live_and_die(world, envelopes)
    assert set(told) == {read(envelope).id for envelope in envelopes}
    check(world, shown, told)
    assert len(set(told.values())) == len(envelopes)


@pytest.mark.parametrize("tries", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_kill_9_at_any_moment_loses_nothing(world: World, tries: int):
    draw = random.Random(tries)
    shown, told = [world.log.checkpoint()], {}
    for number in range(tries):
        envelopes = [newcomer(world, f"n{number}-{each}.example") for each in range(40)]
        told |= live_and_die(world, envelopes, heard=draw.randrange(40))
        check(world, shown, told)
    assert len(told) >= tries


def test_an_acknowledgement_before_the_disk_has_it_would_be_noticed(world: World):
    """The twin: a log that tells producers what it did not store."""
    envelope = newcomer(world, "lost.example")
    with patch.object(Log, "_store"):
        ticket = world.log.enqueue(envelope)
        world.log.sequence()
    told = {read(envelope).id: ticket.wait(0)}
    with pytest.raises(LogError, match="older backup"):
        check(world, [], told)


# No room.


def test_a_full_database_is_overcome_without_a_restart(world: World):
    """SQLite itself says that the disk is full."""
    world.put(newcomer(world, "before.example"))
    size, full = world.log.size, [True]

    @sa.event.listens_for(world.engine, "begin")
    def _limit(connection: sa.Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages if full[0] else 1 << 30}")

    tickets = [world.log.enqueue(newcomer(world, f"n{number}.example")) for number in range(40)]
    for _ in range(2):
        with pytest.raises(sa.exc.OperationalError, match="full"):
            world.log.sequence()
        with pytest.raises(LogError, match="it may still come"):
            tickets[0].wait(0)
        assert world.log.size == size
    full[0] = False
    assert world.log.sequence() == 40
    assert [ticket.wait(0) for ticket in tickets] == list(range(size, size + 40))
    check(world, [], {})


def test_the_operator_is_told_once_that_nothing_can_be_stored(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """With the disk's words alone: an error of the database once held the rows, salts and all."""
    original, refusals = store.insert_entries, [3]

    def insert(connection: sa.Connection, rows: Any) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        limit = pages if refusals[0] > 0 else 1 << 30
        refusals[0] -= 1
        connection.exec_driver_sql(f"PRAGMA max_page_count = {limit}")
        original(connection, rows)

    monkeypatch.setattr(store, "insert_entries", insert)
    monkeypatch.setattr("ledger.log.RETRY", 0.01)
    world.log.start()
    tickets = [world.log.enqueue(newcomer(world, f"n{number}.example")) for number in range(40)]
    for ticket in tickets:
        ticket.wait(30)
    world.log.stop()
    assert refusals[0] < 0
    assert caplog.messages == [
        "the log cannot store entries: database or disk is full",
        "the log stores entries again",
    ]


def test_whoever_appends_to_a_log_that_cannot_store_is_told(world: World):
    with patch("ledger.log.BACKLOG", 3):
        for number in range(3):
            world.log.enqueue(newcomer(world, f"n{number}.example"))
        with pytest.raises(LogError, match="3 statements behind"):
            world.log.enqueue(newcomer(world, "late.example"))
        world.log.sequence()
        world.log.enqueue(newcomer(world, "late.example"))


@contextmanager
def no_file_grows_beyond(size: int) -> Iterator[None]:
    """What a full disk does to every file of this process: it lets none of them grow."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    yield


def test_a_disk_without_room_for_the_next_page_loses_nothing(world: World):
    """The write-ahead log stops in the middle of a page, and the process is killed then."""
    envelopes = [newcomer(world, f"n{number}.example") for number in range(64)]
    shown, told = [world.log.checkpoint()], {}

    @contextmanager
    def crowded() -> Iterator[None]:
        room = max(file.stat().st_size for file in world.folder.iterdir()) + 250_001
        with no_file_grows_beyond(room), patch("ledger.log.RETRY", 0.0):
            retry = patch.object(Log, "_acquire", _die_at_the_fifth_trouble(Log._acquire))
            with retry:
                yield

    told |= live_and_die(world, envelopes, crowded)
    assert 0 < len(told) < len(envelopes)
    check(world, shown, told)
    told |= live_and_die(world, envelopes)
    check(world, shown, told)
    assert len(told) == len(envelopes)


def _die_at_the_fifth_trouble(original: Callable[[Log], None]) -> Callable[[Log], None]:
    troubles = [0]

    def acquire(log: Log) -> None:
        troubles[0] += bool(log.trouble)
        if troubles[0] == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        original(log)

    return acquire


# Torn writes.


def torn_world(world: World) -> tuple[Path, dict[str, int]]:
    """Kill a process in the middle of its work, so that its write-ahead log stays."""
    envelopes = [newcomer(world, f"n{number}.example") for number in range(8)]
    told = live_and_die(world, envelopes, heard=5)
    wal = world.folder / "log.sqlite-wal"
    assert wal.stat().st_size > 0
    return wal, told


@pytest.mark.parametrize("tail", [b"\0" * 5000, b"garbage" * 1000, b"x"])
def test_a_torn_end_of_the_write_ahead_log_loses_nothing(world: World, tail: bytes):
    """The transaction that was being written when the power went out."""
    wal, told = torn_world(world)
    with wal.open("ab") as file:
        file.write(tail)
    check(world, [], told)


def test_a_disk_that_lost_what_it_had_confirmed_makes_no_second_history(world: World):
    """Cut below what was signed, the log does not start: it would sign other entries there."""
    wal, told = torn_world(world)
    data = wal.read_bytes()
    signed = world.folder / "checkpoints" / "checkpoint"
    kept = signed.read_bytes()
    wal.write_bytes(data[: len(data) // 8])
    with pytest.raises(LogError, match=r"older backup.*Restore the newest"):
        world.open_log()
    assert signed.read_bytes() == kept
    # The twin: whole, it starts.
    world.engine.dispose()
    for name in ("log.sqlite-wal", "log.sqlite-shm"):
        (world.folder / name).unlink(missing_ok=True)
    wal.write_bytes(data)
    check(world, [], told)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("damage", ["torn", "zeros", "garbage"])
def test_one_torn_checkpoint_of_two_is_overcome(world: World, place: int, damage: str):
    """The newer one may be torn: nobody saw it. Then the older one still guards the database."""
    told = {}
    for number in range(3):
        envelope = newcomer(world, f"n{number}.example")
        told[read(envelope).id] = world.log.size
        world.put(envelope)
    path = world.folder / "checkpoints" / "checkpoint"
    data = bytearray(path.read_bytes())
    assert len(data) == 2 * SLOT
    text = bytes(data[place * SLOT : (place + 1) * SLOT]).rstrip(b"\0")
    broken = {"torn": text[:70], "zeros": b"", "garbage": b"garbage"}[damage]
    data[place * SLOT : (place + 1) * SLOT] = broken.ljust(SLOT, b"\0")
    path.write_bytes(data)
    shown = [world.log.checkpoint()]
    world.log.stop()
    check(world, shown, told)
    assert world.log.checkpoint() == shown[0]
    # The twin: both of them torn is damage that nobody can explain away.
    path.write_bytes(broken.ljust(2 * SLOT, b"\0"))
    with pytest.raises(LogError, match="is not a checkpoint of this log's key"):
        world.open_log()
