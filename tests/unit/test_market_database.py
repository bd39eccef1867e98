"""The database: its revisions, how transactions begin, and which files are refused."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import OperationalError
from sqlmodel import select

from marketplace import database
from marketplace.database import make_engine, open_database, reading, writing
from marketplace.errors import BusyError, ConflictError, ForeignDatabaseError, NewerDatabaseError
from marketplace.migrations.models import all_metadata
from marketplace.participants.tables import Enrolment


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "rongshu.db"


def enrolment(code: str = "a") -> Enrolment:
    return Enrolment(code_hash=code, roles="provider", note="", expires=1)


def test_models_and_migrations_agree(path: Path):
    engine = open_database(path)
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, all_metadata()) == []
    engine.dispose()


def test_a_table_that_no_migration_makes_is_noticed(path: Path):
    engine = open_database(path)
    extra = sa.MetaData()
    sa.Table("surprise", extra, sa.Column("id", sa.Integer, primary_key=True))
    with engine.begin() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, [*all_metadata(), extra])
    engine.dispose()


def test_every_revision_can_be_undone(path: Path):
    engine = open_database(path)
    with engine.begin() as connection:
        command.downgrade(database._alembic(connection), "base")
    with engine.begin() as connection:
        assert sa.inspect(connection).get_table_names() == ["alembic_version"]
        command.upgrade(database._alembic(connection), "head")
    engine.dispose()


def insert(engine: sa.Engine, statement: str) -> None:
    with writing(engine) as session:
        session.connection().exec_driver_sql(statement)


def test_check_constraints_are_in_the_database(path: Path):
    engine = open_database(path)
    insert(engine, "INSERT INTO enrolment VALUES ('a', 'provider', '', 1, NULL, NULL)")
    statement = "INSERT INTO agreement_use VALUES ('a', 'j', 'x', 'elsewhere', 0)"
    with pytest.raises(ConflictError) as raised:
        insert(engine, statement)
    assert "ck_use_state" in str(raised.value.__cause__)
    engine.dispose()


def test_foreign_keys_hold(path: Path):
    engine = open_database(path)
    statement = "INSERT INTO enrolment VALUES ('a', 'provider', '', 1, NULL, 'nobody')"
    with pytest.raises(ConflictError) as raised:
        insert(engine, statement)
    assert "FOREIGN KEY" in str(raised.value.__cause__)
    engine.dispose()


def test_opening_twice_changes_nothing(path: Path):
    open_database(path).dispose()
    before = path.read_bytes()
    open_database(path).dispose()
    assert path.read_bytes() == before


def test_a_newer_database_is_refused_and_left_alone(path: Path):
    open_database(path).dispose()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(NewerDatabaseError, match=r"rongshu\.db.*9999.*install"):
        open_database(path)
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_left_alone(path: Path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE songs (title)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ForeignDatabaseError, match=r"rongshu\.db"):
        open_database(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path):
    path.write_bytes(b"not a database, but long enough to be looked at as one" * 100)
    before = path.read_bytes()
    with pytest.raises(ForeignDatabaseError, match=r"rongshu\.db"):
        open_database(path)
    assert path.read_bytes() == before


def add_and_fail(engine: sa.Engine) -> None:
    with writing(engine) as session:
        session.add(enrolment())
        session.flush()
        raise ZeroDivisionError


def test_what_fails_halfway_leaves_nothing(path: Path):
    engine = open_database(path)
    with pytest.raises(ZeroDivisionError):
        add_and_fail(engine)
    with reading(engine) as session:
        assert session.exec(select(Enrolment)).all() == []
    engine.dispose()


def test_a_second_writer_waits_and_then_gives_up(path: Path):
    engine, impatient = open_database(path), make_engine(path, busy_seconds=0)
    with writing(engine) as session:
        session.add(enrolment())
        with pytest.raises(BusyError), writing(impatient):
            pass
        with reading(impatient) as other:
            assert other.exec(select(Enrolment)).all() == []
    engine.dispose()
    impatient.dispose()


def test_read_then_write_is_never_interleaved(path: Path):
    engine = open_database(path)

    def count_then_add(_: int) -> None:
        with writing(engine) as session:
            session.add(enrolment(str(len(session.exec(select(Enrolment)).all()))))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count_then_add, range(24)))
    with reading(engine) as session:
        found = {row.code_hash for row in session.exec(select(Enrolment)).all()}
    assert found == {str(number) for number in range(24)}
    engine.dispose()


def test_without_the_early_lock_a_later_write_fails(path: Path):
    """The twin: what begins by reading loses its write when somebody else wrote meanwhile."""
    engine = open_database(path)
    with reading(engine) as session:
        assert session.exec(select(Enrolment)).all() == []
        with writing(engine) as other:
            other.add(enrolment())
        session.add(enrolment("b"))
        with pytest.raises(OperationalError, match="locked"):
            session.commit()
    engine.dispose()
