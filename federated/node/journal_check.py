"""Checks a journal: the chain of its lines, and its tables, which decide, against the lines.

Each part has a function that derives from the lines what the table must hold. Where a line of an
older version did not say something, a line after `upgrade` does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from federated.node.journal_file import DECIDE, ROWS, UPGRADE, rows_digest
from ledger.encoding import sha256_text
from ledger.ids import statement_id
from ledger.journal import (
    CLOSE,
    FINISH,
    REPLY,
    RESERVE,
    JournalLine,
    first_head,
    next_head,
)


def first_broken(lines: Sequence[JournalLine]) -> int:
    """Return the number of the first line that is missing or was changed; 0 where none is."""
    head = first_head()
    for expected, line in enumerate(lines, start=1):
        head = next_head(head, line.sequence, line.time, line.kind, line.body)
        if line.sequence != expected or line.head != head:
            return expected
    return 0


def compare(connection: sqlite3.Connection, lines: Sequence[JournalLine]) -> str:
    """Return in words what differs between a journal's tables and its lines; empty if nothing."""
    try:
        for words, check in _CHECKS.items():
            if not check(connection, lines):
                return words
    except (KeyError, TypeError, AttributeError):
        # A line of a known kind without its fields: no version of this program wrote it.
        return "tables"
    return ""


def _uses(connection: sqlite3.Connection, lines: Sequence[JournalLine]) -> bool:
    expected: dict[tuple[str, str], list[Any]] = {}
    for line in lines:
        body = line.body
        place = (body.get("job", ""), body.get("asset", ""))
        if line.kind == RESERVE:
            expected[place] = [body["agreement"], "open", 0, 0]
        elif line.kind == FINISH and place in expected and expected[place][1] == "open":
            expected[place][1] = "completed" if body["state"] == "completed" else "ended"
        elif line.kind == ROWS and place in expected:
            expected[place][2:] = [1, body["rows"]]
    rows = connection.execute("SELECT job, asset, agreement, state, answered, rows FROM use")
    return {(job, asset): rest for job, asset, *rest in rows} == expected


def _replies(connection: sqlite3.Connection, lines: Sequence[JournalLine]) -> bool:
    names = ("job", "asset", "attempt", "step", "request", "reply")
    expected = {tuple(line.body[name] for name in names) for line in lines if line.kind == REPLY}
    rows = connection.execute("SELECT job, asset, attempt, step, request, body FROM reply")
    return {(*row[:5], sha256_text(row[5])) for row in rows} == expected


def _row_sets(connection: sqlite3.Connection, lines: Sequence[JournalLine]) -> bool:
    expected = {
        (line.body["asset"], name)
        for line in lines
        if line.kind == ROWS
        for name in line.body["sets"]
    }
    rows = connection.execute("SELECT asset, salt, bitmap FROM row_set").fetchall()
    return {(asset, rows_digest(salt, bitmap)) for asset, salt, bitmap in rows} == expected


def _decisions(connection: sqlite3.Connection, lines: Sequence[JournalLine]) -> bool:
    upgraded = max((line.sequence for line in lines if line.kind == UPGRADE), default=0)
    expected = {
        (line.body["job"], line.body["asset"]): (line.body["verdict"], line.body["statement"])
        for line in lines
        if line.kind == DECIDE and line.sequence > upgraded
    }
    rows = connection.execute("SELECT job, asset, verdict, statement FROM decision")
    found = {(job, asset): (verdict, sha256_text(data)) for job, asset, verdict, data in rows}
    return found == expected


def _signed(connection: sqlite3.Connection, lines: Sequence[JournalLine]) -> bool:
    expected = set()
    for line in lines:
        if line.kind == FINISH and "receipt" in line.body:
            expected.add((line.body["receipt"], line.sequence))
        elif line.kind == CLOSE:
            expected.add((line.body["epoch"], line.sequence))
    rows = connection.execute("SELECT id, kind, line, statement FROM signed WHERE line > 0")
    found = [(name, line, statement_id(kind, data)) for name, kind, line, data in rows]
    return {(name, line) for name, line, _ in found} == expected and all(
        name == computed for name, _, computed in found
    )


_CHECKS: dict[str, Callable[[sqlite3.Connection, Sequence[JournalLine]], bool]] = {
    "uses": _uses,
    "replies": _replies,
    "answered rows": _row_sets,
    "decisions": _decisions,
    "signed statements": _signed,
}
