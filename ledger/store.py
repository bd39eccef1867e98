"""The log's tables: statements that wait, and entries made of them.

A feature stores its business rows and the signed statement in *one* transaction of its own:
`submit(connection, envelope, now=…)`. So neither exists without the other. Only `ledger.log` turns
what waits into entries.
"""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from ledger.entry import MAX_REFERENCES, SALT_BYTES
from ledger.errors import LogError
from ledger.statements import Receipt, Statement, read

READ_ONLY = "read_only"
"""Execution option of a connection that never writes: the engine may begin it without the lock."""

metadata = sa.MetaData()

pending = sa.Table(
    "log_pending",
    metadata,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("statement_id", sa.String(128), nullable=False, unique=True),
    sa.Column("envelope", sa.LargeBinary, nullable=False),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("received", sa.BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

entries = sa.Table(
    "log_entry",
    metadata,
    sa.Column("index", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("statement_id", sa.String(128), nullable=False, unique=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
    # Both are null once the statement was shredded: entry, proofs and counts stay.
    sa.Column("envelope", sa.LargeBinary, nullable=True),
    sa.Column("salt", sa.LargeBinary, nullable=True),
)


def submit(connection: sa.Connection, envelope: bytes, *, now: int) -> str:
    """Store a signed statement as pending, in the caller's transaction.

    The caller has verified it. The same envelope again changes nothing.

    Args:
        connection: inside a transaction that the caller commits.
        envelope: the signed statement.
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
    if _stored(connection, unverified.id):
        return unverified.id
    for reference in _needed(unverified.statement):
        if not _stored(connection, reference):
            raise LogError(f"{unverified.statement.kind} refers to a statement that is not logged")
    connection.execute(
        pending.insert().values(
            statement_id=unverified.id,
            envelope=envelope,
            # The salt hides short statements from a dictionary; it must not be guessable.
            salt=secrets.token_bytes(SALT_BYTES),
            received=now,
        )
    )
    return unverified.id


def _stored(connection: sa.Connection, statement_id: str) -> bool:
    for table in (entries, pending):
        found = connection.execute(
            sa.select(table.c.statement_id).where(table.c.statement_id == statement_id)
        ).first()
        if found is not None:
            return True
    return False


def _needed(statement: Statement) -> list[str]:
    named = [reference for reference in statement.references() if reference is not None]
    if isinstance(statement, Receipt) and statement.state != "completed":
        # A refusal may name a job that was never logged: that is what it says.
        return [statement.asset]
    return named
