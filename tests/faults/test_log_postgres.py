"""The log on PostgreSQL: one writer, connections that die, and databases from an older backup."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import sqlalchemy as sa

from ledger import store
from ledger.errors import LogError
from tests.drafts import Party, key_of
from tests.world import World


@pytest.fixture(name="world")
def _world(tmp_path: Path, postgres_log: sa.Engine) -> Iterator[World]:
    world = World(tmp_path / "world", 1, engine=postgres_log)
    yield world
    world.log.stop()


def newcomer(world: World, name: str) -> bytes:
    party = Party(name, key_of(name))
    return world.participant(party, "auditor").sign(party.key)


def submit(world: World, envelope: bytes) -> str:
    with world.engine.begin() as connection:
        return world.log.submit(connection, envelope)


def end_connections(world: World) -> int:
    """Do to the log's connections what a restart of the server does."""
    query = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with world.engine.begin() as connection:
        return int(connection.exec_driver_sql(query).scalar_one())


def test_of_two_processes_one_writes(world: World):
    world.put(newcomer(world, "first.example"))
    second = world.open_log()
    with pytest.raises(LogError, match="another process writes to this log; stop one of them"):
        second.start()
    with pytest.raises(LogError, match="another process writes"):
        second.sequence()
    world.put(newcomer(world, "second.example"))
    # The twin: when the first has stopped the second writes, and knows what was written meanwhile.
    world.log.stop()
    world.log = second
    world.put(newcomer(world, "third.example"))
    assert world.audit().status == "sound"


def test_without_the_lock_the_second_still_makes_no_fork(world: World):
    second = world.open_log()
    world.put(newcomer(world, "first.example"))
    size, shown = world.log.size, world.log.checkpoint()
    submit(world, newcomer(world, "second.example"))
    with (
        patch.object(store.Writer, "acquire", return_value=False),
        pytest.raises(LogError, match="another process writes"),
    ):
        second.sequence()
    assert world.log.checkpoint() == shown
    assert world.log.sequence() == 1
    assert world.log.size == size + 1
    assert world.audit().status == "sound"


def test_a_connection_that_died_is_made_again(world: World):
    name = submit(world, newcomer(world, "first.example"))
    ticket = world.log.enqueue(newcomer(world, "appended.example"))
    assert end_connections(world)
    with pytest.raises(sa.exc.OperationalError):
        world.log.sequence()
    assert world.log.sequence() == 2
    assert ticket.wait(0) == world.log.index_of(name) - 1
    assert world.audit().status == "sound"


@pytest.mark.parametrize("persisted", [False, True], ids=["lost", "persisted"])
def test_a_connection_that_died_at_the_commit_leaves_no_doubt(world: World, *, persisted: bool):
    """Nobody says whether the transaction was committed; the next try looks."""
    ticket = world.log.enqueue(newcomer(world, "first.example"))
    size = world.log.size
    step = "remove_pending"

    def dies(connection: sa.Connection, _sequences: object) -> None:
        if persisted:
            connection.exec_driver_sql("COMMIT")
        end_connections(world)
        connection.exec_driver_sql("SELECT 1")

    with patch.object(store, step, dies), pytest.raises(sa.exc.DBAPIError):
        world.log.sequence()
    assert world.log.size == size
    world.log.sequence()
    assert ticket.wait(0) == size
    assert world.audit().status == "sound"


@patch("ledger.log.RETRY", 0.01)
def test_the_sequencer_goes_on_after_the_server_came_back(world: World):
    world.log.start()
    for number in range(3):
        world.log.append(newcomer(world, f"n{number}.example"))
        assert end_connections(world)
    world.log.append(newcomer(world, "last.example"))
    world.log.stop()
    assert world.audit().status == "sound"


def test_a_database_from_an_older_backup_refuses_to_start(world: World):
    with world.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE backup AS TABLE log_entry")
    world.put(newcomer(world, "later.example"))
    world.log.stop()
    with world.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE log_entry RENAME TO newest")
        connection.exec_driver_sql("ALTER TABLE backup RENAME TO log_entry")
    with pytest.raises(LogError, match=r"older backup.*Restore the newest"):
        world.open_log()
    # The twin: the newest one starts.
    with world.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE log_entry RENAME TO backup")
        connection.exec_driver_sql("ALTER TABLE newest RENAME TO log_entry")
    assert world.open_log().size == world.log.size


def test_a_statement_that_moves_while_it_is_looked_for_is_found(world: World):
    """Between two looks of a business transaction the sequencer makes it an entry."""
    envelope = newcomer(world, "first.example")
    name = submit(world, envelope)
    waiting, logged = store._LOOKS

    def then_moved(*asked: Any) -> set[str]:
        found = waiting(*asked)
        world.log.sequence()
        return found

    with world.engine.begin() as connection, patch.object(store, "_LOOKS", (then_moved, logged)):
        assert world.log.submit(connection, envelope) == name
    assert world.log.sequence() == 0
    # The twin: who looks among the entries first finds it nowhere, and stores it again.
    name = submit(world, envelope := newcomer(world, "second.example"))

    def moved_then(*asked: Any) -> set[str]:
        found = logged(*asked)
        world.log.sequence()
        return found

    with world.engine.begin() as connection, patch.object(store, "_LOOKS", (moved_then, waiting)):
        world.log.submit(connection, envelope)
    with world.engine.begin() as connection:
        assert [row.statement_id for row in store.waiting(connection, 9)] == [name]
    # Even that makes no second entry.
    assert world.log.sequence() == 0
    assert world.audit().status == "sound"
