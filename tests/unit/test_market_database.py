"""The database: its revisions, how transactions begin, and which files are refused."""

import contextlib
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import (
    InternalError,
    OperationalError,
    PendingRollbackError,
    ResourceClosedError,
)
from sqlmodel import select

from ledger.store import LOG_WRITER, entries, insert_entries
from marketplace import database
from marketplace.database import make_engine, open_database, reading, writing
from marketplace.errors import BusyError, ConflictError, ForeignDatabaseError, NewerDatabaseError
from marketplace.migrations.models import all_metadata
from marketplace.participants.tables import Enrolment
from tests.postgres import drop_database, new_database


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "rongshu.db"


@pytest.fixture(name="where", params=["sqlite", "postgresql"])
def _where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    """A new database, on each of the two kinds."""
    if request.param == "sqlite":
        yield tmp_path / "rongshu.db"
        return
    url = new_database()
    yield url
    drop_database(url)


def enrolment(code: str = "a") -> Enrolment:
    return Enrolment(code_hash=code, roles="provider", note="", expires=1)


def test_models_and_migrations_agree(where: Path | str):
    engine = open_database(where)
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, all_metadata()) == []
    engine.dispose()


def test_a_table_that_no_migration_makes_is_noticed(where: Path | str):
    engine = open_database(where)
    extra = sa.MetaData()
    sa.Table("surprise", extra, sa.Column("id", sa.Integer, primary_key=True))
    with engine.begin() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, [*all_metadata(), extra])
    engine.dispose()


def test_every_revision_can_be_undone(where: Path | str):
    engine = open_database(where)
    with engine.begin() as connection:
        command.downgrade(database._alembic(connection), "base")
    with engine.begin() as connection:
        assert sa.inspect(connection).get_table_names() == ["alembic_version"]
        command.upgrade(database._alembic(connection), "head")
    engine.dispose()


def test_entries_outlive_the_index_of_their_ids(where: Path | str):
    engine = open_database(where)
    row = (0, "job:" + "0" * 64, b"data", b"envelope", b"salt")
    for revision in ("0005", "head", "0005"):
        with engine.begin() as connection:
            change = command.upgrade if revision == "head" else command.downgrade
            change(database._alembic(connection), revision)
            if connection.execute(sa.select(sa.func.count()).select_from(entries)).scalar() == 0:
                insert_entries(connection, [row])
            assert connection.execute(sa.select(entries)).all() == [row]
            unique = sa.inspect(connection).get_unique_constraints("log_entry")
            assert bool(unique) == (revision == "0005")
    engine.dispose()


def test_entries_come_back_as_they_were_stored(where: Path | str):
    engine = open_database(where)
    every = bytes(range(256))
    # Numbers on both sides of 16 and 32 bits, and more rows than one statement takes on SQLite.
    indexes = [*range(100), 2**15 - 1, 2**15, 2**31 - 1, 2**31, 2**53]
    rows = [(i, f"job:{i:064d}", every + b"%d" % i, every * 9, every[:32]) for i in indexes]
    with engine.begin() as connection:
        insert_entries(connection, rows)
        query = sa.select(entries).order_by(entries.c.index)
        assert connection.execute(query).all() == rows
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
        insert_entries(connection, [(2**53 + 1, "job", b"", b"", b""), rows[-1]])
    with engine.begin() as connection:
        assert connection.execute(query).all() == rows
    engine.dispose()


def insert(engine: sa.Engine, statement: str) -> None:
    with writing(engine) as session:
        session.connection().exec_driver_sql(statement)


def test_check_constraints_are_in_the_database(where: Path | str):
    engine = open_database(where)
    insert(engine, "INSERT INTO enrolment VALUES ('a', 'provider', '', 1, NULL, NULL)")
    statement = "INSERT INTO agreement_use VALUES ('a', 'j', 'x', 'elsewhere', 0)"
    with pytest.raises(ConflictError) as raised:
        insert(engine, statement)
    assert "ck_use_state" in str(raised.value.__cause__)
    engine.dispose()


def test_foreign_keys_hold(where: Path | str):
    engine = open_database(where)
    statement = "INSERT INTO enrolment VALUES ('a', 'provider', '', 1, NULL, 'nobody')"
    with pytest.raises(ConflictError) as raised:
        insert(engine, statement)
    assert "foreign key" in str(raised.value.__cause__).lower()
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


def test_what_fails_halfway_leaves_nothing(where: Path | str):
    engine = open_database(where)
    with pytest.raises(ZeroDivisionError):
        add_and_fail(engine)
    with reading(engine) as session:
        assert session.exec(select(Enrolment)).all() == []
    engine.dispose()


def test_an_error_of_the_database_names_no_value(where: Path | str):
    """It may be a salt, a statement or the digest of a key, and errors end in log files."""
    engine = open_database(where)
    row = "INSERT INTO log_pending (statement_id, envelope) VALUES (:id, :envelope)"
    with pytest.raises(sa.exc.IntegrityError, match="log_pending") as raised, engine.begin() as to:
        to.execute(sa.text(row), {"id": "a", "envelope": b"secret"})
    assert "secret" not in str(raised.value)
    engine.dispose()


def test_every_writer_of_a_process_gives_its_turn_back(path: Path):
    """A turn that was kept would let the next writer wait for nothing, for as long as it may."""
    open_database(path).dispose()
    engine = make_engine(path, busy_seconds=0)

    def lose_the_connection() -> None:
        lost = contextlib.suppress(ResourceClosedError, PendingRollbackError)
        with lost, writing(engine) as session:
            session.connection().invalidate()

    def break_a_rule() -> None:
        with pytest.raises(ConflictError):
            insert(engine, "INSERT INTO enrolment VALUES ('a', 'provider', '', 1, NULL, 'nobody')")

    def fail() -> None:
        with pytest.raises(ZeroDivisionError):
            add_and_fail(engine)

    def write() -> None:
        with writing(engine) as session:
            assert session.connection().info.get(database._TURN)

    for end in (write, fail, break_a_rule, lose_the_connection, write):
        end()
        with writing(engine) as session:
            assert session.connection().info.get(database._TURN), end.__name__
            # The twin: whoever comes meanwhile has none.
            with pytest.raises(BusyError), writing(engine):
                pass
    engine.dispose()


def test_a_second_writer_waits_and_then_gives_up(where: Path | str):
    engine, impatient = open_database(where), make_engine(where, busy_seconds=0)
    with writing(engine) as session:
        session.add(enrolment())
        with pytest.raises(BusyError), writing(impatient):
            pass
        with reading(impatient) as other:
            assert other.exec(select(Enrolment)).all() == []
    engine.dispose()
    impatient.dispose()


def test_read_then_write_is_never_interleaved(where: Path | str):
    engine = open_database(where)

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


# PostgreSQL alone.


def test_without_the_lock_two_writers_count_the_same(postgres: str):
    """The twin of `test_read_then_write_is_never_interleaved`: neither sees the other's row."""
    engine = open_database(postgres)
    unlocked = engine.execution_options(**{LOG_WRITER: True})
    with writing(unlocked) as one, writing(unlocked) as two:
        for session, code in ((one, "a"), (two, "b")):
            assert session.exec(select(Enrolment)).all() == []
            session.add(enrolment(code))
    with reading(engine) as session:
        assert len(session.exec(select(Enrolment)).all()) == 2
    engine.dispose()


def test_a_reader_sees_one_state_and_writes_nothing(postgres: str):
    engine = open_database(postgres)
    with reading(engine) as session:
        assert session.exec(select(Enrolment)).all() == []
        with writing(engine) as other:
            other.add(enrolment())
        assert session.exec(select(Enrolment)).all() == []
        session.add(enrolment("b"))
        with pytest.raises(InternalError, match="read-only"):
            session.commit()
    engine.dispose()


def test_a_newer_or_foreign_postgresql_database_is_refused_and_left_alone(postgres: str):
    engine = make_engine(postgres)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE songs (title text)")
    with pytest.raises(ForeignDatabaseError, match="database of something else"):
        open_database(postgres)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE songs")
    open_database(postgres).dispose()
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(NewerDatabaseError, match=r"9999.*install"):
        open_database(postgres)
    with engine.begin() as connection:
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    assert found == "9999"
    engine.dispose()


def test_a_server_that_does_not_answer_is_named_without_its_password():
    url = "postgresql://somebody:hunter2@127.0.0.1:1/nothing"
    with pytest.raises(
        ForeignDatabaseError, match=r"127\.0\.0\.1:1/nothing does not answer"
    ) as raised:
        open_database(url)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("url", ["mysql://x/y", "postgresql", "", "sqlite:///x"])
def test_a_url_of_anything_else_is_refused(url: str):
    with pytest.raises(ForeignDatabaseError, match="URL"):
        make_engine(url)


def test_what_is_acknowledged_is_durable_whatever_the_server_does(postgres: str):
    engine = make_engine(postgres)
    with engine.begin() as connection:
        name = sa.make_url(postgres).database
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET synchronous_commit = off")
    engine.dispose()
    engine = make_engine(postgres)
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    engine.dispose()
