"""The service's database: how it is opened, which revision it may have, how transactions begin.

Decides: SQLite in WAL with foreign keys; every transaction that may write begins IMMEDIATE, so that
the database decides races and nobody fails halfway; a file written by a newer version, or by
something else, is refused; an older one is brought up to date.
Does not decide what is stored: each feature's `tables.py` does.

    engine = open_database(Path("data/rongshu.db"))
    with writing(engine) as session:      # commits at the end, or changes nothing
        session.add(row)
"""

from __future__ import annotations

import contextlib
import sqlite3
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

from ledger.store import READ_ONLY
from marketplace.errors import BusyError, ConflictError, ForeignDatabaseError, NewerDatabaseError

MIGRATIONS = Path(__file__).parent / "migrations"
MAX_SQL_INTEGER = (1 << 63) - 1


def open_database(path: Path, busy_seconds: int = 30) -> sa.Engine:
    """Open or create the database and bring it to this version's revision.

    Args:
        path: the SQLite file.
        busy_seconds: longest wait for the write lock.

    Raises:
        NewerDatabaseError: a newer version wrote it; nothing was changed.
        ForeignDatabaseError: it is no database of Rongshu; nothing was changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _check_revision(path)
    engine = make_engine(path, busy_seconds)
    with engine.begin() as connection:
        command.upgrade(_alembic(connection), "head")
    return engine


def make_engine(path: Path, busy_seconds: int = 30) -> sa.Engine:
    """Return an engine for a SQLite file, without looking at its contents."""
    engine = sa.create_engine(
        f"sqlite:///{path}", pool_size=16, max_overflow=48, connect_args={"timeout": busy_seconds}
    )

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: Any) -> None:
        # The driver must not begin transactions by itself: it would begin them without the lock.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        # FULL: what was acknowledged survives a power cut; WAL's default may lose it.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(f"PRAGMA busy_timeout = {busy_seconds * 1000}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A transaction that reads first and writes later can fail at the write when another one
        # committed between; taking the lock first makes it wait at the beginning instead.
        read_only = connection.get_execution_options().get(READ_ONLY, False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


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
        if "locked" in str(error.orig):
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


def _check_revision(path: Path) -> None:
    # Looked at read-only, before anything else: opening in WAL mode alone would change the file.
    if not path.exists() or path.stat().st_size == 0:
        return
    engine = sa.create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
    try:
        with engine.connect() as connection:
            revision = MigrationContext.configure(connection).get_current_revision()
            tables = sa.inspect(connection).get_table_names()
    except SqlDatabaseError as error:
        raise ForeignDatabaseError(
            f"{path} is not a database: choose another data folder"
        ) from error
    finally:
        engine.dispose()
    if revision is None and tables:
        raise ForeignDatabaseError(
            f"{path} is a database of something else: choose another data folder"
        )
    known = {script.revision for script in ScriptDirectory.from_config(_alembic()).walk_revisions()}
    if revision is not None and revision not in known:
        raise NewerDatabaseError(
            f"{path} was written by a newer version of Rongshu (revision {revision}): install that "
            "version or a later one, or restore a backup made before the upgrade"
        )
