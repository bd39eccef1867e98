"""The SQLite file of a node's journal: its tables, and how an older file is brought up to date.

Version 2 says in its lines what version 1 kept beside them (launches, rows answered, decisions,
ids of receipts), and remembers which signed statements the log has taken. An older file keeps its
lines as they are: what they left out is written down anew, after a line `upgrade`.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from federated.errors import FederatedError, JournalError
from federated.messages import FinishReply
from ledger.encoding import canonical, digest, parse, sha256_text
from ledger.ids import statement_id
from ledger.journal import JournalLine, first_head, next_head
from ledger.statements import JournalPosition

VERSION = 2
ROWS_NAMESPACE = "rongshu/journal-rows/v1"
SALT_BYTES = 32
FINISH_STEP = "finish"
# Lines of this node's own, besides those that `ledger.journal` names.
UPGRADE, DECIDE, ROWS, FAILURE = "upgrade", "decide", "rows", "failure"

_FIRST_SCHEMA = """
CREATE TABLE IF NOT EXISTS line (
    sequence INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    head TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS use (
    job TEXT NOT NULL,
    asset TEXT NOT NULL,
    agreement TEXT NOT NULL,
    preparation BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'completed', 'ended')),
    answered INTEGER NOT NULL DEFAULT 0,
    rows INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job, asset)
) STRICT;
CREATE TABLE IF NOT EXISTS reply (
    job TEXT NOT NULL,
    asset TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    step TEXT NOT NULL,
    request TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (job, asset, attempt, step)
) STRICT;
CREATE TABLE IF NOT EXISTS row_set (
    asset TEXT NOT NULL,
    bitmap BLOB NOT NULL,
    PRIMARY KEY (asset, bitmap)
) STRICT;
CREATE TABLE IF NOT EXISTS decision (
    job TEXT NOT NULL,
    asset TEXT NOT NULL,
    verdict TEXT NOT NULL,
    statement BLOB NOT NULL,
    PRIMARY KEY (job, asset)
) STRICT;
"""
_SECOND_SCHEMA = """
ALTER TABLE row_set ADD COLUMN salt BLOB;
CREATE TABLE signed (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('receipt', 'epoch')),
    asset TEXT NOT NULL,
    line INTEGER NOT NULL,
    statement BLOB NOT NULL,
    taken INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX signed_waiting ON signed (taken, line);
"""


def prepare(connection: sqlite3.Connection, path: Path, clock: Callable[[], int]) -> None:
    """Set the file up for this version.

    Raises:
        JournalError: a newer version wrote it; it was left unchanged.
        sqlite3.DatabaseError: it is no database, or the disk refuses.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION or version < 0:
        raise JournalError(f"{path} was written by a newer version ({version}); update this node")
    connection.execute("PRAGMA journal_mode=WAL")
    # A reservation that the disk forgets would be a use that nobody counted.
    connection.execute("PRAGMA synchronous=FULL")
    if version == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Asked again under the lock: another process may have been faster.
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            _run(connection, _FIRST_SCHEMA)
        if version < VERSION:
            _run(connection, _SECOND_SCHEMA)
        if version == 1:
            _write_down_what_was_left_out(connection, clock)
        connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _run(connection: sqlite3.Connection, script: str) -> None:
    # Not `executescript`, which would commit first.
    for statement in script.split(";"):
        if statement.strip():
            connection.execute(statement.strip())


def position(connection: sqlite3.Connection) -> JournalPosition:
    """Return the number of the last line, and the hash that covers all lines."""
    row = connection.execute(
        "SELECT sequence, head FROM line ORDER BY sequence DESC LIMIT 1"
    ).fetchone()
    return JournalPosition(0, first_head()) if row is None else JournalPosition(*row)


def lines_since(connection: sqlite3.Connection, first: int) -> list[JournalLine]:
    """Return the lines from number `first` on; their chain is not checked.

    Raises:
        EncodingError: a line's content cannot be read.
        JournalError: it is no JSON object.
    """
    rows = connection.execute(
        "SELECT sequence, time, kind, body, head FROM line WHERE sequence >= ? ORDER BY 1", (first,)
    )
    found = []
    for sequence, time, kind, content, head in rows:
        body = parse(content)
        if not isinstance(body, dict):
            raise JournalError(f"line {sequence} of the journal is no object")
        found.append(JournalLine(sequence, time, kind, body, head))
    return found


def append(connection: sqlite3.Connection, time: int, kind: str, body: dict[str, Any]) -> int:
    """Write the next line; return its number."""
    last = position(connection)
    sequence = last.sequence + 1
    head = next_head(last.head, sequence, time, kind, body)
    connection.execute(
        "INSERT INTO line (sequence, time, kind, body, head) VALUES (?, ?, ?, ?, ?)",
        (sequence, time, kind, canonical(body), head),
    )
    return sequence


def keep_rows(connection: sqlite3.Connection, asset: str, bitmaps: list[bytes]) -> list[str]:
    """Remember row sets, each once; return the digests by which lines name them.

    A digest of the bitmap alone would tell an auditor who guesses which rows lack a cell; the salt
    stays in this file.
    """
    digests = []
    for bitmap in bitmaps:
        connection.execute(
            "INSERT OR IGNORE INTO row_set (asset, bitmap, salt) VALUES (?, ?, ?)",
            (asset, bitmap, secrets.token_bytes(SALT_BYTES)),
        )
        (salt,) = connection.execute(
            "SELECT salt FROM row_set WHERE asset = ? AND bitmap = ?", (asset, bitmap)
        ).fetchone()
        digests.append(rows_digest(salt, bitmap))
    return digests


def rows_digest(salt: bytes, bitmap: bytes) -> str:
    """Return the salted digest of a row set."""
    return "sha256:" + digest(ROWS_NAMESPACE, salt + bitmap).hex()


def _write_down_what_was_left_out(connection: sqlite3.Connection, clock: Callable[[], int]) -> None:
    now = clock()
    append(connection, now, UPGRADE, {"version": VERSION})
    for asset, bitmap in connection.execute("SELECT asset, bitmap FROM row_set").fetchall():
        connection.execute(
            "UPDATE row_set SET salt = ? WHERE asset = ? AND bitmap = ?",
            (secrets.token_bytes(SALT_BYTES), asset, bitmap),
        )
    seen: set[str] = set()
    used = connection.execute("SELECT job, asset, rows FROM use WHERE answered = 1 ORDER BY rowid")
    for job, asset, rows in used.fetchall():
        # Version 1 did not say which job a row set was answered for: all stand in the first line.
        sets = [] if asset in seen else _sets(connection, asset)
        append(connection, now, ROWS, {"asset": asset, "job": job, "rows": rows, "sets": sets})
        seen.add(asset)
    decided = connection.execute("SELECT job, asset, verdict, statement FROM decision")
    for job, asset, verdict, statement in decided.fetchall():
        line = {"asset": asset, "job": job, "verdict": verdict}
        append(connection, now, DECIDE, line | {"statement": sha256_text(statement)})
        if verdict != "granted":
            _keep_receipt(connection, asset, statement)
    replied = connection.execute("SELECT asset, body FROM reply WHERE step = ?", (FINISH_STEP,))
    for asset, body in replied.fetchall():
        try:
            _keep_receipt(connection, asset, FinishReply.from_bytes(body).receipt)
        except FederatedError as error:
            raise JournalError(f"a stored receipt cannot be read: {error}") from error


def _sets(connection: sqlite3.Connection, asset: str) -> list[str]:
    rows = connection.execute("SELECT salt, bitmap FROM row_set WHERE asset = ?", (asset,))
    return [rows_digest(salt, bitmap) for salt, bitmap in rows.fetchall()]


def _keep_receipt(connection: sqlite3.Connection, asset: str, receipt: bytes) -> None:
    # Line 0: no line of version 1 names it. Nobody knows whether it arrived; the log will tell.
    connection.execute(
        "INSERT OR IGNORE INTO signed (id, kind, asset, line, statement) VALUES (?, ?, ?, 0, ?)",
        (statement_id("receipt", receipt), "receipt", asset, receipt),
    )
