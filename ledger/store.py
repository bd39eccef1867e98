"""The log's tables: statements that wait, and entries made of them.

A feature stores its business rows and the signed statement in *one* transaction of its own:
`log.submit(connection, envelope)`. So neither exists without the other. Only `ledger.log` turns
what waits into entries, through the one `Writer` of a database.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ledger.entry import MAX_REFERENCES, SALT_BYTES, Opening
from ledger.errors import LogError
from ledger.statements import Receipt, Statement, read

READ_ONLY = "read_only"
"""Execution option of a connection that never writes: the engine may begin it without the lock."""

LOG_WRITER = "log_writer"
"""Execution option of the log's own connection: business transactions need not wait for it."""

metadata = sa.MetaData()

pending = sa.Table(
    "log_pending",
    metadata,
    # SQLite counts up by itself only in a column that is called INTEGER; its integers are as wide.
    sa.Column(
        "sequence",
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    sa.Column("statement_id", sa.String(128), nullable=False, unique=True),
    sa.Column("envelope", sa.LargeBinary, nullable=False),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("received", sa.BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

entries = sa.Table(
    "log_entry",
    metadata,
    # SQLite: the row's own number, and no second tree beside the table (see `pending`).
    sa.Column(
        "index",
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    # Without an index: ids are hashes, so each entry would write one more page of it. The log has
    # them all in memory, and hands them to whoever looks for one (`submit`).
    sa.Column("statement_id", sa.String(128), nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
    # Both are null once the statement was shredded: entry, proofs and counts stay.
    sa.Column("envelope", sa.LargeBinary, nullable=True),
    sa.Column("salt", sa.LargeBinary, nullable=True),
)


def submit(
    connection: sa.Connection, envelope: bytes, places: Mapping[str, int], *, now: int
) -> str:
    """Store a signed statement as pending, in the caller's transaction; see `Log.submit`.

    The caller has verified it. The same envelope again changes nothing.

    Args:
        connection: inside a transaction that the caller commits.
        envelope: the signed statement.
        places: where to look for the entries of statements, by their ids; an entry that is named
            here and not stored does not count.
        now: Unix milliseconds.

    Returns:
        The statement's id.

    Raises:
        StatementError: the envelope is malformed.
        LogError: it refers to a statement that is neither in the log nor waiting for it, or to
            more statements than an entry can hold.
    """
    unverified = read(envelope)
    if len(unverified.statement.references()) > MAX_REFERENCES:
        # Accepted, it would stand in the sequencer's way for ever: no entry can hold it.
        raise LogError(
            f"{unverified.statement.kind} refers to more than {MAX_REFERENCES} statements; "
            "name fewer assets or receipts"
        )
    needed = set(_needed(unverified.statement))
    known = _known(connection, needed | {unverified.id}, places)
    if unverified.id in known:
        return unverified.id
    if not needed <= known:
        raise LogError(f"{unverified.statement.kind} refers to a statement that is not logged")
    row = {
        "statement_id": unverified.id,
        "envelope": envelope,
        "salt": new_salt(),
        "received": now,
    }
    connection.execute(_INSERT_PENDING, row)
    return unverified.id


def new_salt() -> bytes:
    """Draw a salt: it hides short statements from a dictionary and must not be guessable."""
    return secrets.token_bytes(SALT_BYTES)


def new_salts(count: int) -> list[bytes]:
    """Draw many salts in one call of the system."""
    drawn = secrets.token_bytes(SALT_BYTES * count)
    return [drawn[start : start + SALT_BYTES] for start in range(0, len(drawn), SALT_BYTES)]


# The statements of the sequencer are written out: it runs them for every batch.
_WAITING = "SELECT sequence, statement_id, envelope, salt FROM log_pending ORDER BY sequence LIMIT "
_INSERT = 'INSERT INTO log_entry ("index", statement_id, data, envelope, salt) VALUES '
# On SQLite up to so many rows in one statement: between two statements the driver lets every other
# thread go first. There are few sizes, so each is prepared once (the driver keeps 128 statements).
_ROWS = 64
# On PostgreSQL all rows in one statement: a round trip for each would cost more than the entries.
# In binary (%b): as text each byte is written as two digits, which takes three times as long.
_INSERT_ARRAYS = """INSERT INTO log_entry ("index", statement_id, data, envelope, salt)
    SELECT * FROM unnest(%b::bigint[], %b::varchar[], %b::bytea[], %b::bytea[], %b::bytea[])"""


def waiting(connection: sa.Connection, limit: int) -> Sequence[Any]:
    """Return pending rows, oldest first: sequence, statement id, envelope and salt."""
    return connection.exec_driver_sql(f"{_WAITING}{limit:d}").all()


def insert_entries(connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Store entries: index, statement id, data, envelope and salt of each.

    Raises:
        sqlalchemy.exc.IntegrityError: one of the indexes is stored already.
    """
    if connection.dialect.name == "postgresql":
        columns = tuple(list(column) for column in zip(*rows, strict=True))
        connection.exec_driver_sql(_INSERT_ARRAYS, columns)
    else:
        for start in range(0, len(rows), _ROWS):
            chunk = rows[start : start + _ROWS]
            values = tuple(itertools.chain.from_iterable(chunk))
            connection.exec_driver_sql(_insert_rows(len(chunk)), values)


@functools.cache
def _insert_rows(count: int) -> str:
    return _INSERT + ", ".join(["(?, ?, ?, ?, ?)"] * count)


def remove_pending(connection: sa.Connection, sequences: Sequence[int]) -> None:
    """Remove pending rows that became entries."""
    if sequences:
        # Whole numbers that came from the database: nothing to quote, and no limit of parameters.
        listed = ",".join(f"{number:d}" for number in sequences)
        connection.exec_driver_sql(f"DELETE FROM log_pending WHERE sequence IN ({listed})")  # noqa: S608


def entries_from(connection: sa.Connection, start: int, limit: int) -> Sequence[Any]:
    """Return entries from an index on: index, statement id, data, envelope and salt."""
    table = entries.c
    query = sa.select(table.index, table.statement_id, table.data, table.envelope, table.salt)
    query = query.where(table.index >= start).order_by(table.index).limit(limit)
    return connection.execute(query).all()


def data(connection: sa.Connection, start: int, stop: int) -> Sequence[bytes]:
    """Return the bytes of entries `start` to `stop`, exclusive."""
    table = entries.c
    query = sa.select(table.data).where(table.index >= start, table.index < stop)
    return connection.execute(query.order_by(table.index)).scalars().all()


def openings(connection: sa.Connection, start: int, stop: int) -> list[Opening]:
    """Return the openings of entries `start` to `stop`, exclusive, that were not erased."""
    table = entries.c
    query = sa.select(table.index, table.salt, table.envelope).where(
        table.index >= start, table.index < stop, table.envelope.is_not(None)
    )
    found = connection.execute(query.order_by(table.index))
    return [Opening(index, salt, envelope) for index, salt, envelope in found]


class Writer:
    """The one connection through which a log's entries are written.

    On PostgreSQL it holds an advisory lock for as long as it lives, so that a second process cannot
    write to the same log. The lock ends with the connection: whoever opens it again must look at
    what was written meanwhile. SQLite's file lock is taken by each transaction; there the primary
    key alone refuses a second writer.
    """

    # "rongshu" and a number, as the 64-bit name of the lock in this database.
    LOCK = int.from_bytes(b"rongshu\x01", "big", signed=True)

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._held: sa.Connection | None = None

    def acquire(self) -> bool:
        """Make sure that this process may write; return whether others may have until now.

        Raises:
            LogError: another process writes to this log.
        """
        if self._engine.dialect.name != "postgresql" or self._held is not None:
            return False
        connection = self._engine.connect().execution_options(**{LOG_WRITER: True})
        try:
            got = connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({self.LOCK})").scalar()
            connection.commit()
        except BaseException:
            connection.close()
            raise
        if not got:
            connection.close()
            raise LogError("another process writes to this log; stop one of them and start again")
        self._held = connection
        return True

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Run one transaction: durable at its end, or nothing."""
        if self._held is None:
            with self._engine.begin() as connection:
                yield connection
            return
        try:
            with self._held.begin():
                yield self._held
        except sa.exc.DBAPIError as error:
            if error.connection_invalidated:
                # The lock is gone with the connection.
                self.close()
            raise

    def close(self) -> None:
        """Give the lock and the connection back."""
        held, self._held = self._held, None
        if held is not None:
            # Not returned to the pool: a session-level lock would go on living there.
            held.invalidate()
            held.close()


# Built once: building such a query takes longer than the database takes to answer it.
_INSERT_PENDING = pending.insert()
_SELECT_PENDING = sa.select(pending.c.statement_id).where(
    pending.c.statement_id.in_(sa.bindparam("names", expanding=True))
)
_SELECT_ENTRIES = sa.select(entries.c.statement_id).where(
    entries.c.index.in_(sa.bindparam("indexes", expanding=True))
)


def _waiting(connection: sa.Connection, names: set[str], _places: Mapping[str, int]) -> set[str]:
    return set(connection.execute(_SELECT_PENDING, {"names": list(names)}).scalars())


def _logged(connection: sa.Connection, names: set[str], places: Mapping[str, int]) -> set[str]:
    indexes = [places[name] for name in names if name in places]
    found = connection.execute(_SELECT_ENTRIES, {"indexes": indexes}).scalars()
    # A place may be that of an entry that is not stored yet.
    return names.intersection(found)


# Waiting first: a statement that moves between the two looks is an entry afterwards, and it had
# its place before it moved.
_LOOKS = (_waiting, _logged)


def _known(connection: sa.Connection, names: set[str], places: Mapping[str, int]) -> set[str]:
    """Return those of these statements that wait or are entries."""
    found: set[str] = set()
    for look in _LOOKS:
        rest = names - found
        if rest:
            found |= look(connection, rest, places)
    return found


def _needed(statement: Statement) -> list[str]:
    named = [reference for reference in statement.references() if reference is not None]
    if isinstance(statement, Receipt) and statement.state != "completed":
        # A refusal may name a job that was never logged: that is what it says.
        return [statement.asset]
    return named
