"""The node's own durable record: what it reserved, answered, refused and finished.

Every write is one SQLite transaction, synced to disk before it returns, and one more line of a
hash chain, so that nothing can be taken out later without the head changing. Two processes on one
journal are ordered by the database's write lock: of two that want the last use, one gets it.

    with journal.write() as book:
        permit = decide(…, book.spent(asset, job), …)
        book.reserve(job, asset, permit)      # counted from here on, whatever happens next

Crash rules: a reservation without a receipt stays open and keeps counting as a use; a reply that
was recorded is sent again, byte for byte, to the same request; another request for that round is
refused.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from federated.errors import JournalError
from federated.messages import FinishRequest, KeysRequest, Request
from federated.node.guard import Spent
from federated.preparation import Preparation
from ledger.encoding import canonical, digest, parse, sha256_text
from ledger.statements import Contribution, Grant, JournalPosition, read

NAMESPACE = "rongshu/journal/v1"
VERSION = 1
KEYS = "keys"
FINISH = "finish"
_BUSY_SECONDS = 30.0

_SCHEMA = """
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


class Journal:
    """One node's journal in one file.

    Args:
        path: the file; made when there is none.
        clock: returns Unix milliseconds.

    Raises:
        JournalError: the file is no journal of this version, or its chain is broken.
    """

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise JournalError(f"{path}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def write(self) -> Iterator[Book]:
        """Open one transaction; everything in it is durable when the block ends, or nothing is.

        Raises:
            JournalError: the disk refuses.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield Book(self._connection, self._clock)
                    self._connection.execute("COMMIT")
                except BaseException:
                    # A full disk may have ended the transaction already; else it must end here, or
                    # no later one could begin.
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
            except sqlite3.DatabaseError as error:
                raise JournalError(f"{self._path}: {error}") from error

    def verify(self) -> JournalPosition:
        """Recompute the whole chain and return where it stands.

        Raises:
            JournalError: a line is missing or was changed, and names it; or uses and replies are
                not what the lines say.
        """
        with self._lock:
            rows = self._connection.execute(
                "SELECT sequence, time, kind, body, head FROM line ORDER BY sequence"
            ).fetchall()
        head = _first_head()
        for expected, (sequence, time, kind, body, stored) in enumerate(rows, start=1):
            head = _next_head(head, sequence, time, kind, body)
            if sequence != expected or stored != head:
                raise JournalError(f"{self._path}: line {expected} is missing or was changed")
        self._compare([(kind, parse(body)) for _, _, kind, body, _ in rows])
        return JournalPosition(len(rows), head)

    def _compare(self, lines: list[tuple[str, Any]]) -> None:
        """Hold the tables, which decide, against the chain, which cannot be changed unseen.

        Raises:
            JournalError: they differ.
        """
        uses: dict[tuple[str, str], tuple[str, str]] = {}
        replies = {}
        for kind, line in lines:
            place = (line["job"], line["asset"])
            if kind == "reserve":
                uses[place] = (line["agreement"], "open")
            elif kind == "finish" and place in uses:
                uses[place] = (uses[place][0], line["state"])
            elif kind == "reply":
                replies[(*place, line["attempt"], line["step"])] = (line["request"], line["reply"])
        with self._lock:
            use = self._connection.execute("SELECT job, asset, agreement, state FROM use")
            found = {(job, asset): (agreed, state) for job, asset, agreed, state in use}
            reply = self._connection.execute(
                "SELECT job, asset, attempt, step, request, body FROM reply"
            )
            sent = {tuple(row[:4]): (row[4], sha256_text(row[5])) for row in reply}
        if found != uses or sent != replies:
            raise JournalError(f"{self._path}: its uses or replies are not those of its lines")

    def _prepare(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise JournalError(
                f"{self._path} was written by a newer version ({version}); update this node"
            )
        self._connection.execute("PRAGMA journal_mode=WAL")
        # A reservation that the disk forgets would be a use that nobody counted.
        self._connection.execute("PRAGMA synchronous=FULL")
        if version == 0:
            self._connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version=1;COMMIT")


class Book:
    """The journal inside one transaction; see `Journal.write`."""

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], int]) -> None:
        self._connection = connection
        self._clock = clock

    def position(self) -> JournalPosition:
        """Return the number of the last line, and the hash that covers all lines."""
        row = self._connection.execute(
            "SELECT sequence, head FROM line ORDER BY sequence DESC LIMIT 1"
        ).fetchone()
        return JournalPosition(0, _first_head()) if row is None else JournalPosition(*row)

    def spent(self, asset: str, job: str) -> Spent:
        """Return what other jobs have used up on an asset; `job` itself is left out."""
        rows = self._connection.execute(
            "SELECT job, agreement, preparation, state, answered, statement FROM use "
            "LEFT JOIN decision USING (job, asset) WHERE asset = ? AND job <> ?",
            (asset, job),
        ).fetchall()
        now = self._clock()
        rows = [
            (name, agreement, body, "ended" if _lapsed(state, sent, made, now) else state, sent)
            for name, agreement, body, state, sent, made in rows
        ]
        uses: dict[str, set[str]] = {}
        unfinished: dict[str, int] = {}
        for other, agreement, _, state, sent in rows:
            if state in ("open", "completed"):
                uses.setdefault(agreement, set()).add(other)
            elif sent:
                unfinished[agreement] = unfinished.get(agreement, 0) + 1
        # What ended before any answer left tells nobody anything.
        answered = [body for _, _, body, state, sent in rows if state != "ended" or sent]
        return Spent(
            jobs=lambda agreement: frozenset(uses.get(agreement, ())),
            unfinished=lambda agreement: unfinished.get(agreement, 0),
            answered=tuple(Preparation.parse(parse(body)) for body in answered),
        )

    def is_reserved(self, job: str, asset: str) -> bool:
        """Whether this job holds an open reservation."""
        return self._state(job, asset) == "open"

    def has_answered(self, job: str, asset: str) -> bool:
        """Whether any contribution was computed for this job."""
        row = self._connection.execute(
            "SELECT answered FROM use WHERE job = ? AND asset = ?", (job, asset)
        ).fetchone()
        return row is not None and bool(row[0])

    def has_ended(self, job: str, asset: str) -> bool:
        """Whether this job was finished here, with a result or without."""
        return self._state(job, asset) in ("completed", "ended")

    def reserve(self, job: str, asset: str, agreement: str, preparation: Preparation) -> None:
        """Count one use from now on; a second reservation for the same job changes nothing.

        Raises:
            JournalError: the job has ended already.
        """
        state = self._state(job, asset)
        if state == "open":
            return
        if state is not None:
            raise JournalError("this job has ended here; ask for it under a new one")
        self._connection.execute(
            "INSERT INTO use (job, asset, agreement, preparation, state) VALUES (?, ?, ?, ?, ?)",
            (job, asset, agreement, canonical(preparation.to_json()), "open"),
        )
        self._append("reserve", {"agreement": agreement, "asset": asset, "job": job})

    def reply(self, job: str, asset: str, attempt: int, step: str) -> tuple[str, bytes] | None:
        """Return the digest of the request answered in a step, and the reply's bytes."""
        row = self._connection.execute(
            "SELECT request, body FROM reply WHERE job=? AND asset=? AND attempt=? AND step=?",
            (job, asset, attempt, step),
        ).fetchone()
        return None if row is None else (row[0], row[1])

    def record_reply(
        self, job: str, asset: str, attempt: int, step: str, request: str, body: bytes
    ) -> None:
        """Keep a reply before it is sent."""
        self._connection.execute(
            "INSERT INTO reply (job, asset, attempt, step, request, body) VALUES (?,?,?,?,?,?)",
            (job, asset, attempt, step, request, body),
        )
        line = {
            "asset": asset,
            "attempt": attempt,
            "job": job,
            "reply": sha256_text(body),
            "request": request,
            "step": step,
        }
        self._append("reply", line)

    def contributions(self, job: str, asset: str) -> tuple[int, tuple[Contribution, ...]]:
        """Return the attempt at a job that was answered, and what was sent; 0 where none was."""
        rows = self._connection.execute(
            "SELECT attempt, CAST(step AS INTEGER), request, body FROM reply "
            "WHERE job = ? AND asset = ? AND CAST(step AS INTEGER) > 0 ORDER BY 1, 2",
            (job, asset),
        ).fetchall()
        return rows[0][0] if rows else 0, tuple(
            Contribution(number, request, sha256_text(body)) for _, number, request, body in rows
        )

    def rows_used(self, job: str, asset: str) -> int:
        """Return how many rows a job's answers cover."""
        row = self._connection.execute(
            "SELECT rows FROM use WHERE job = ? AND asset = ?", (job, asset)
        ).fetchone()
        return 0 if row is None else int(row[0])

    def row_sets(self, asset: str) -> list[bytes]:
        """Return the bitmaps of all row sets answered on an asset."""
        rows = self._connection.execute("SELECT bitmap FROM row_set WHERE asset=?", (asset,))
        return [bitmap for (bitmap,) in rows.fetchall()]

    def answer_rows(self, job: str, asset: str, bitmaps: list[bytes], rows: int) -> None:
        """Remember which rows an answer is about to cover, and how many they are."""
        self._connection.executemany(
            "INSERT OR IGNORE INTO row_set (asset, bitmap) VALUES (?, ?)",
            [(asset, bitmap) for bitmap in bitmaps],
        )
        self._connection.execute(
            "UPDATE use SET answered = 1, rows = ? WHERE job = ? AND asset = ?",
            (rows, job, asset),
        )

    def finish(self, job: str, asset: str, state: str) -> None:
        """End a reservation: `completed` keeps its use, `ended` gives it back."""
        self._connection.execute(
            "UPDATE use SET state = ? WHERE job = ? AND asset = ? AND state = 'open'",
            (state, job, asset),
        )
        self._append("finish", {"asset": asset, "job": job, "state": state})

    def decide(self, job: str, asset: str, verdict: str, statement: bytes) -> None:
        """Keep the grant or refusal that was signed for a job, before it is sent."""
        self._connection.execute(
            "INSERT OR REPLACE INTO decision (job, asset, verdict, statement) VALUES (?, ?, ?, ?)",
            (job, asset, verdict, statement),
        )
        self._append("decide", {"asset": asset, "job": job, "verdict": verdict})

    def decision(self, job: str, asset: str) -> tuple[str, bytes] | None:
        """Return the verdict on a job and the statement signed for it."""
        row = self._connection.execute(
            "SELECT verdict, statement FROM decision WHERE job = ? AND asset = ?", (job, asset)
        ).fetchone()
        return None if row is None else (row[0], row[1])

    def _state(self, job: str, asset: str) -> str | None:
        row = self._connection.execute(
            "SELECT state FROM use WHERE job = ? AND asset = ?", (job, asset)
        ).fetchone()
        return None if row is None else str(row[0])

    def _append(self, kind: str, body: dict[str, Any]) -> None:
        last = self.position()
        data, time = canonical(body), self._clock()
        head = _next_head(last.head, last.sequence + 1, time, kind, data)
        self._connection.execute(
            "INSERT INTO line (sequence, time, kind, body, head) VALUES (?, ?, ?, ?, ?)",
            (last.sequence + 1, time, kind, data, head),
        )


def _lapsed(state: str, answered: int, decision: bytes | None, now: int) -> bool:
    """Whether a reservation was never used and cannot be any more: its grant has ended."""
    if state != "open" or answered or decision is None:
        return False
    statement = read(decision).statement
    return isinstance(statement, Grant) and statement.until < now


def _first_head() -> str:
    return "sha256:" + digest(NAMESPACE, b"").hex()


def _next_head(head: str, sequence: int, time: int, kind: str, body: bytes) -> str:
    line = {
        "body": parse(body),
        "kind": kind,
        "previous": head,
        "sequence": sequence,
        "time": time,
    }
    return "sha256:" + digest(NAMESPACE, canonical(line)).hex()


def step_of(request: Request) -> str:
    """Return the place of a request in a job: `keys`, the round's number, or `finish`."""
    if isinstance(request, KeysRequest):
        return KEYS
    return FINISH if isinstance(request, FinishRequest) else str(request.round)
