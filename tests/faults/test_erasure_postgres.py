"""Erasing on PostgreSQL: rows, tables' files, and what its write-ahead log still holds."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from ledger.sealing import ViewKeys, finish_erasure, log_erasure, plan, under
from ledger.verify import SOUND
from tests.world import World


@pytest.fixture(name="world")
def _world(tmp_path: Path, postgres_log: sa.Engine) -> Iterator[World]:
    world = World(tmp_path / "world", 2, engine=postgres_log)
    world.use = world.one_use()
    for provider in world.providers:
        world.put(world.revoke(provider, provider.agreement))
    yield world
    world.log.stop()


def tables(world: World) -> bytes | None:
    """The bytes of all tables' files, as the server's disk has them; None if the role may not."""
    query = """SELECT pg_read_binary_file(pg_relation_filepath(oid)) FROM pg_class
        WHERE relkind IN ('r', 't') AND (relname LIKE 'log_%' OR relname LIKE 'pg_toast_%')
        AND pg_relation_size(oid) > 0"""
    try:
        with world.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("CHECKPOINT")
            return b"".join(connection.exec_driver_sql(query.replace("%", "%%")).scalars())
    except sa.exc.DBAPIError:
        return None


def file_of(world: World) -> int:
    """Number of the file that holds the entries: a table that is written anew gets another."""
    with world.engine.connect() as connection:
        number = connection.exec_driver_sql("SELECT pg_relation_filenode('log_entry')").scalar_one()
    return int(number)


def test_tables_forget_what_was_erased_and_the_log_goes_on(world: World):
    asked = under(world.log.history, world.log.index_of(world.providers[0].agreement))
    gone = [item.salt for item in world.openings() if item.index in asked]
    ViewKeys(world.engine).views(world.log)
    before, there = tables(world), file_of(world)
    assert before is None or all(salt in before for salt in gone)
    found = plan(world.log.history, asked, world.clock())
    log_erasure(world.log, world.engine, found, world.operator.key, "over", world.clock())
    marker = world.folder / "erasing"
    assert finish_erasure(world.log, world.engine, marker) == len(asked)
    after = tables(world)
    if after is not None:
        assert [salt for salt in gone if salt in after] == []
        assert all(item.salt in after for item in world.openings())
    assert set(asked).isdisjoint(item.index for item in world.openings())
    assert file_of(world) != there
    world.log.stop()
    world.log = world.open_log()
    assert world.log.findings == []
    world.put(world.offer(world.providers[1]))
    opened = {item.index for item in world.openings()}
    assert world.audit(opened).status == SOUND
