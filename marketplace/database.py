"""The service's database: how it is opened, which revision it may have, how transactions begin.

Decides: a SQLite file by default, in WAL with foreign keys, or a PostgreSQL database. On both, a
transaction that may write takes a lock before it reads anything, so that writers come one after the
other and see what the one before them did: two jobs cannot both count the last permitted use, and
nobody fails halfway. SQLite has that lock (BEGIN IMMEDIATE); on PostgreSQL it is an advisory lock
until the end of the transaction, and every statement after it sees all that is committed. A
database written by a newer version, or by something else, is refused; an older one is brought up to
date.
Does not decide what is stored: each feature's `tables.py` does.

    engine = open_database(Path("data/rongshu.db"))
    engine = open_database("postgresql://rongshu@localhost/rongshu")
    with writing(engine) as session:      # commits at the end, or changes nothing
        session.add(row)
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DatabaseError as SqlDatabaseError
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlmodel import Session

from ledger.store import LOG_WRITER, READ_ONLY
from marketplace.errors import BusyError, ConflictError, ForeignDatabaseError, NewerDatabaseError

MIGRATIONS = Path(__file__).parent / "migrations"
MAX_SQL_INTEGER = (1 << 63) - 1
POSTGRESQL = ("postgresql", "postgres", "postgresql+psycopg")
# "rongshu" and a number: the advisory lock of whoever writes; the log has one of its own.
WRITE_LOCK = int.from_bytes(b"rongshu\x02", "big", signed=True)
# Mark of a connection that holds its process's turn to write.
_TURN = "turn"
# What PostgreSQL says when a lock could not be had in time, or a deadlock was broken.
_BUSY_STATES = ("55P03", "40P01", "40001")


def open_database(where: Path | str, busy_seconds: int = 30) -> sa.Engine:
    """Open or create the database and bring it to this version's revision.

    Args:
        where: the SQLite file, or the URL of a PostgreSQL database that exists.
        busy_seconds: longest wait for the write lock.

    Raises:
        NewerDatabaseError: a newer version wrote it; nothing was changed.
        ForeignDatabaseError: it is no database of Rongshu, or nobody answers there; nothing was
            changed.
    """
    if isinstance(where, Path):
        where.parent.mkdir(parents=True, exist_ok=True)
    _check_revision(where)
    engine = make_engine(where, busy_seconds)
    with engine.begin() as connection:
        command.upgrade(_alembic(connection), "head")
    return engine


def make_engine(where: Path | str, busy_seconds: int = 30) -> sa.Engine:
    """Return an engine for a database, without looking at its contents."""
    if isinstance(where, Path):
        return _sqlite(where, busy_seconds)
    return _postgresql(where, busy_seconds)


def _sqlite(path: Path, busy_seconds: int) -> sa.Engine:
    turn = threading.Lock()
    engine = sa.create_engine(
        f"sqlite:///{path}",
        pool_size=16,
        max_overflow=48,
        # An error would print the row that could not be written: statements, salts, keys.
        hide_parameters=True,
        connect_args={"timeout": busy_seconds},
    )

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: Any) -> None:
        # The driver must not begin transactions by itself: it would begin them without the lock.
        connection.isolation_level = None
        cursor = connection.cursor()
        # Of a new file only. A page of 4096 bytes holds two entries of the log and half a third.
        cursor.execute("PRAGMA page_size = 8192")
        cursor.execute("PRAGMA journal_mode = WAL")
        # FULL: what was acknowledged survives a power cut; WAL's default may lose it.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(f"PRAGMA busy_timeout = {busy_seconds * 1000}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        if connection.get_execution_options().get(READ_ONLY, False):
            connection.exec_driver_sql("BEGIN")
            return
        # SQLite lets writers ask again after ever longer pauses, and whoever asks first gets the
        # lock: the writers of this process queue instead. Those of others are waited for below.
        if _TURN not in connection.info and turn.acquire(timeout=busy_seconds):
            connection.info[_TURN] = True
        # A transaction that reads first and writes later can fail at the write when another one
        # committed between; taking the lock first makes it wait at the beginning instead.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    @sa.event.listens_for(engine, "checkin")
    def _checkin(_connection: Any, record: Any) -> None:
        # Given back however the transaction ended. Whoever never got it in time has none to give.
        if record.info.pop(_TURN, False):
            turn.release()

    return engine


def _postgresql(url: str, busy_seconds: int) -> sa.Engine:
    engine = sa.create_engine(
        postgresql_url(url),
        pool_size=16,
        max_overflow=48,
        pool_pre_ping=True,
        hide_parameters=True,
        # Each statement sees what is committed when it begins; with a higher level the snapshot
        # would be older than the lock that is waited for.
        isolation_level="READ COMMITTED",
        connect_args={
            "connect_timeout": max(busy_seconds, 2),
            # 0 would wait for ever.
            "options": f"-c lock_timeout={max(busy_seconds * 1000, 1)}",
        },
    )

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            if cursor.fetchone() == ("off",):
                # What was acknowledged survives a power cut, whatever the server does by default.
                cursor.execute("SET synchronous_commit = on")
        connection.commit()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        options = connection.get_execution_options()
        if options.get(READ_ONLY, False):
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        elif not options.get(LOG_WRITER, False):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")

    return engine


def postgresql_url(text: str) -> sa.URL:
    """Read the URL of a PostgreSQL database.

    Raises:
        ForeignDatabaseError: it is none; the message does not repeat it, for it may hold a
            password.
    """
    try:
        url = sa.make_url(text)
    except sa.exc.ArgumentError as error:
        raise ForeignDatabaseError("the database's URL is malformed") from error
    if url.drivername not in POSTGRESQL:
        raise ForeignDatabaseError(
            f"the database's URL begins with {url.drivername}://; postgresql:// is expected"
        )
    return url.set(drivername="postgresql+psycopg")


@contextlib.contextmanager
def writing(engine: sa.Engine) -> Iterator[Session]:
    """Run one writing transaction: committed at the end, rolled back on any error.

    Raises:
        ConflictError: a uniqueness rule of the database was broken.
        BusyError: the write lock could not be had in time.
    """
    try:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            session.connection()  # takes the lock now, not at the first statement
            yield session
    except IntegrityError as error:
        raise ConflictError("something with the same identity is stored already") from error
    except OperationalError as error:
        if "locked" in str(error.orig) or getattr(error.orig, "sqlstate", "") in _BUSY_STATES:
            raise BusyError from error
        raise


@contextlib.contextmanager
def reading(engine: sa.Engine) -> Iterator[Session]:
    """Run one reading transaction: one consistent state, no lock."""
    with Session(engine.execution_options(**{READ_ONLY: True})) as session:
        yield session


def _alembic(connection: sa.Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _check_revision(where: Path | str) -> None:
    # Looked at read-only, before anything else: opening in WAL mode alone would change the file.
    if isinstance(where, Path):
        if not where.exists() or where.stat().st_size == 0:
            return
        name = str(where)
        engine = sa.create_engine(f"sqlite:///file:{where}?mode=ro&uri=true")
    else:
        url = postgresql_url(where)
        name = url.render_as_string(hide_password=True)
        engine = sa.create_engine(url, connect_args={"connect_timeout": 10})
    try:
        with engine.connect() as connection:
            revision = MigrationContext.configure(connection).get_current_revision()
            tables = sa.inspect(connection).get_table_names()
    except OperationalError as error:
        if isinstance(where, Path):
            raise ForeignDatabaseError(_not_a_database(name)) from error
        raise ForeignDatabaseError(
            f"{name} does not answer: is the server started, does the database exist, and are "
            "user and password right?"
        ) from error
    except SqlDatabaseError as error:
        raise ForeignDatabaseError(_not_a_database(name)) from error
    finally:
        engine.dispose()
    _refuse_foreign(name, revision, tables)


def _not_a_database(name: str) -> str:
    return f"{name} is not a database: choose another data folder"


def _refuse_foreign(name: str, revision: str | None, tables: list[str]) -> None:
    if revision is None and tables:
        raise ForeignDatabaseError(
            f"{name} is a database of something else: choose another data folder or database"
        )
    known = {script.revision for script in ScriptDirectory.from_config(_alembic()).walk_revisions()}
    if revision is not None and revision not in known:
        raise NewerDatabaseError(
            f"{name} was written by a newer version of Rongshu (revision {revision}): install that "
            "version or a later one, or restore a backup made before the upgrade"
        )
