"""What may wait for the log, and in whose transaction."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import sqlalchemy as sa

from ledger import store
from ledger.errors import LogError, StatementError
from ledger.statements import read
from tests.drafts import key_of
from tests.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, 1)


def submit(world: World, envelope: bytes) -> str:
    with world.engine.begin() as connection:
        return world.log.submit(connection, envelope)


def waiting(world: World) -> list[str]:
    query = sa.select(store.pending.c.statement_id).order_by(store.pending.c.sequence)
    with world.engine.connect() as connection:
        return list(connection.execute(query).scalars())


def test_a_statement_waits_once_and_is_named(world: World):
    envelope = world.sign(world.job())
    name = submit(world, envelope)
    assert name == read(envelope).id == submit(world, envelope)
    assert waiting(world) == [name]
    world.log.sequence()
    assert waiting(world) == []
    # In the log already: not again.
    assert submit(world, envelope) == name
    assert waiting(world) == []


def test_it_rests_on_what_is_logged_or_waits_too(world: World):
    job = submit(world, world.sign(world.job()))
    grant = submit(world, world.sign(world.grant(world.providers[0], job)))
    assert waiting(world) == [job, grant]
    ghost = "job:" + "0" * 64
    with pytest.raises(LogError, match="grant refers to a statement that is not logged"):
        submit(world, world.sign(world.grant(world.providers[0], ghost)))
    assert waiting(world) == [job, grant]


def test_a_place_in_memory_is_no_entry_until_it_is_stored(world: World):
    """What was made and not stored may never be: nothing that lasts may rest on it."""
    job = world.sign(world.job())
    name = read(job).id
    places = world.log._state.indexes
    grant = world.sign(world.grant(world.providers[0], name))
    for place in (world.log.size, world.log.size - 1):
        places[name] = place
        with pytest.raises(LogError, match="grant refers to a statement that is not logged"):
            submit(world, grant)
    # The twin: stored, it may.
    del places[name]
    submit(world, job)
    world.log.sequence()
    assert places[name] == world.log.size - 1
    submit(world, grant)


def test_a_refusal_may_name_a_job_that_was_never_logged(world: World):
    ghost = "job:" + "0" * 64
    first = world.providers[0]
    refusal = world.receipt(first, ghost, None, state="refused", reason="not_proven")
    submit(world, world.sign(refusal))
    # Its asset must be there, and a completed receipt needs all.
    world.keys["asset:" + "0" * 64] = key_of("x.example")
    for unfounded in (
        replace(refusal, asset="asset:" + "0" * 64),
        world.receipt(first, ghost, "grant:" + "0" * 64),
    ):
        with pytest.raises(LogError):
            submit(world, world.sign(unfounded))


def test_a_rolled_back_transaction_leaves_nothing(world: World):
    def business(connection: sa.Connection) -> None:
        world.log.submit(connection, world.sign(world.job()))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), world.engine.begin() as connection:
        business(connection)
    assert waiting(world) == []


def test_what_is_no_statement_does_not_wait(world: World):
    for data in (b"", b"{}", world.sign(world.job())[:-1]):
        with pytest.raises(StatementError):
            submit(world, data)
    assert waiting(world) == []


def test_more_references_than_an_entry_can_hold_are_refused_at_the_door(world: World):
    envelope = world.sign(world.job())
    with patch.object(store, "MAX_REFERENCES", 2), pytest.raises(LogError, match="more than 2"):
        submit(world, envelope)
    with patch.object(store, "MAX_REFERENCES", 3):
        submit(world, envelope)


def test_every_salt_is_drawn_anew(world: World):
    for _ in range(5):
        submit(world, world.sign(world.job()))
    with world.engine.connect() as connection:
        salts = connection.execute(sa.select(store.pending.c.salt)).scalars().all()
    assert len({*salts, *(item.salt for item in world.openings())}) == 5 + world.log.size
    assert {len(salt) for salt in salts} == {32}
