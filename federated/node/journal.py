"""The node's own durable record: what it reserved, launched, answered, refused and finished.

Every write is one SQLite transaction, synced to disk before it returns, and one more line of a
hash chain (`ledger.journal`), so that nothing can be taken out later without the head changing. Two
processes on one journal are ordered by the database's write lock: of two that want the last use,
one gets it.

    with journal.write() as book:
        permit = decide(…, book.spent(asset, job), …)
        book.reserve(job, asset, permit)      # counted from here on, whatever happens next

Crash rules: a reservation without a receipt stays open and keeps counting as a use; a reply that
was recorded is sent again, byte for byte, to the same request; another request for that round is
refused. A receipt or a close is signed in the very transaction that writes its line and keeps its
bytes: it is handed in until the log has taken it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federated.errors import JournalCutError, JournalError
from federated.messages import (
    FinishRequest,
    KeysRequest,
    RelayRequest,
    Request,
    RoundRequest,
    SharesRequest,
    SurvivorsRequest,
    UnmaskRequest,
)
from federated.node import journal_file
from federated.node.guard import Spent
from federated.node.journal_check import compare, first_broken
from federated.node.journal_file import DECIDE, FAILURE, FINISH_STEP, ROWS, UPGRADE, lines_since
from federated.preparation import Preparation
from ledger import journal as chain
from ledger.encoding import canonical, parse, sha256_text
from ledger.errors import EncodingError
from ledger.ids import statement_id
from ledger.journal import JournalLine
from ledger.statements import Contribution, Counts, Epoch, Grant, JournalPosition, read

KEYS = "keys"
FINISH = FINISH_STEP
_STEPS: dict[type[Request], str] = {
    SharesRequest: "shares",
    SurvivorsRequest: "survivors",
    UnmaskRequest: "unmask",
}
_BUSY_SECONDS = 30.0


@dataclass(frozen=True)
class Signed:
    """A receipt or a close that this node signed, as the log is to get it."""

    id: str
    kind: str
    statement: bytes


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
            journal_file.prepare(self._connection, path, clock)
        except sqlite3.DatabaseError as error:
            raise JournalError(f"{path}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def read(self) -> Iterator[Book]:
        """Look something up; nothing may be written, and each look stands for itself.

        Raises:
            JournalError: the disk refuses.
        """
        with self._lock:
            try:
                yield Book(self._connection, self._clock)
            except sqlite3.DatabaseError as error:
                raise JournalError(f"{self._path}: {error}") from error

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
            JournalError: as `verified`.
        """
        lines = self.verified()
        return JournalPosition(len(lines), lines[-1].head if lines else chain.first_head())

    def verified(self) -> list[JournalLine]:
        """Return all lines after recomputing their chain; another process may write meanwhile.

        Raises:
            JournalError: a line is missing or was changed, and names it; or what the journal keeps
                beside its lines is not what they say.
        """
        with self._one_moment():
            lines = self._lines()
            differing = compare(self._connection, lines)
        if broken := first_broken(lines):
            raise JournalError(f"{self._path}: line {broken} is missing or was changed")
        if differing:
            raise JournalError(f"{self._path}: its {differing} are not those of its lines")
        return lines

    def lines(self) -> list[JournalLine]:
        """Return all lines, as an auditor gets them; their chain is not checked.

        Raises:
            JournalError: a line's content cannot be read.
        """
        with self._lock:
            return self._lines()

    @contextmanager
    def _one_moment(self) -> Iterator[None]:
        """Hold the lock, and let all looks at the file see it as it is at the first."""
        with self._lock:
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("ROLLBACK")

    def _lines(self) -> list[JournalLine]:
        try:
            return lines_since(self._connection, 1)
        except EncodingError as error:
            raise JournalError(f"{self._path}: a line was changed: {error}") from error


class Book:
    """The journal inside one transaction; see `Journal.write`."""

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], int]) -> None:
        self._connection = connection
        self._clock = clock

    def position(self) -> JournalPosition:
        """Return the number of the last line, and the hash that covers all lines."""
        return journal_file.position(self._connection)

    def must_continue(self, signed: JournalPosition, statement: str) -> None:
        """Check that this journal still holds what a logged statement of this node was signed over.

        Args:
            signed: where the journal stood when it was signed.
            statement: id of the receipt or the close; the next line names it.

        Raises:
            JournalCutError: the journal ends before, or has other lines there.
        """
        row = self._connection.execute(
            "SELECT head FROM line WHERE sequence = ?", (signed.sequence,)
        ).fetchone()
        head = chain.first_head() if signed.sequence == 0 else row and row[0]
        following = self._connection.execute(
            "SELECT body FROM line WHERE sequence = ?", (signed.sequence + 1,)
        ).fetchone()
        last = self.position().sequence
        if head != signed.head or following is None:
            raise JournalCutError(signed.sequence + 1, last, statement)
        # Lines of version 1 named no receipts.
        if signed.sequence >= self._upgraded():
            body = parse(following[0])
            if statement not in (body.get("receipt"), body.get("epoch")):
                raise JournalCutError(signed.sequence + 1, last, statement)

    def _upgraded(self) -> int:
        query = "SELECT coalesce(max(sequence), 0) FROM line WHERE kind = ?"
        (sequence,) = self._connection.execute(query, (UPGRADE,)).fetchone()
        return int(sequence)

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
        # What ended before any answer left tells nobody anything. Most are the same.
        answered = dict.fromkeys(
            body for _, _, body, state, sent in rows if state != "ended" or sent
        )
        return Spent(
            jobs=lambda agreement: frozenset(uses.get(agreement, ())),
            unfinished=lambda agreement: unfinished.get(agreement, 0),
            answered=tuple(Preparation.parse(parse(body)) for body in answered),
            every=frozenset(name for name, *_ in rows),
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
        self._append(chain.RESERVE, {"agreement": agreement, "asset": asset, "job": job})

    def launch(self, job: str, asset: str, attempt: int, grant: str) -> None:
        """Write down that an attempt at a job begins, and under which grant."""
        line = {"asset": asset, "attempt": attempt, "grant": grant, "job": job}
        self._append(chain.LAUNCH, line)

    def fail(self, job: str, asset: str, reason: str) -> None:
        """Write down that a request of a job was answered with a failure, and its word."""
        self._append(FAILURE, {"asset": asset, "job": job, "reason": reason})

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
        self._append(chain.REPLY, line)

    def contributions(self, job: str, asset: str) -> tuple[int, tuple[Contribution, ...]]:
        """Return the newest attempt at a job that was answered, and what all of them sent.

        The attempt is 0 where none was; rounds are numbered on from attempt to attempt.
        """
        rows = self._connection.execute(
            "SELECT attempt, CAST(step AS INTEGER), request, body FROM reply "
            "WHERE job = ? AND asset = ? AND CAST(step AS INTEGER) > 0 ORDER BY 2",
            (job, asset),
        ).fetchall()
        return rows[-1][0] if rows else 0, tuple(
            Contribution(number, request, sha256_text(body)) for _, number, request, body in rows
        )

    def last_attempt(self, job: str, asset: str) -> int:
        """Return the newest attempt that was begun at a job; 0 where none was."""
        row = self._connection.execute(
            "SELECT max(attempt) FROM reply WHERE job = ? AND asset = ? AND step <> ?",
            (job, asset, FINISH),
        ).fetchone()
        return int(row[0] or 0)

    def opened(self, job: str, asset: str) -> set[int]:
        """Return the rounds of a job for which shares were revealed."""
        rows = self._connection.execute(
            "SELECT step FROM reply WHERE job = ? AND asset = ? AND step LIKE 'unmask %'",
            (job, asset),
        ).fetchall()
        return {int(step.partition(" ")[2]) for (step,) in rows}

    def grant_of(self, job: str, asset: str) -> str | None:
        """Return the grant under which a job was last launched here, None where it never was."""
        rows = self._connection.execute(
            "SELECT body FROM line WHERE kind = ? ORDER BY sequence DESC", (chain.LAUNCH,)
        )
        for (body,) in rows:
            line = parse(body)
            if isinstance(line, dict) and (line["job"], line["asset"]) == (job, asset):
                return str(line["grant"])
        return None

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
        sets = journal_file.keep_rows(self._connection, asset, bitmaps)
        self._connection.execute(
            "UPDATE use SET answered = 1, rows = ? WHERE job = ? AND asset = ?",
            (rows, job, asset),
        )
        self._append(ROWS, {"asset": asset, "job": job, "rows": rows, "sets": sets})

    def finish(self, job: str, asset: str, state: str, receipt: bytes) -> None:
        """End a job with the receipt that was signed in this transaction.

        Its line comes right after those that the receipt was signed over. A reservation that is
        still open ends with it: `completed` keeps the use, `failed` and `refused` give it back.
        """
        kept = "completed" if state == "completed" else "ended"
        self._connection.execute(
            "UPDATE use SET state = ? WHERE job = ? AND asset = ? AND state = 'open'",
            (kept, job, asset),
        )
        name = statement_id("receipt", receipt)
        line = {"asset": asset, "job": job, "receipt": name, "state": state}
        self._keep(name, "receipt", asset, self._append(chain.FINISH, line), receipt)

    def decide(self, job: str, asset: str, verdict: str, statement: bytes) -> None:
        """Keep the grant or refusal that was signed for a job, before it is sent."""
        self._connection.execute(
            "INSERT OR REPLACE INTO decision (job, asset, verdict, statement) VALUES (?, ?, ?, ?)",
            (job, asset, verdict, statement),
        )
        line = {"asset": asset, "job": job, "verdict": verdict}
        self._append(DECIDE, line | {"statement": sha256_text(statement)})

    def last_close(self, asset: str) -> tuple[str, Epoch] | None:
        """Return the newest close that was signed here, with its id."""
        row = self._connection.execute(
            "SELECT id, statement FROM signed WHERE kind = 'epoch' AND asset = ? "
            "ORDER BY line DESC LIMIT 1",
            (asset,),
        ).fetchone()
        if row is None:
            return None
        statement = read(row[1]).statement
        if not isinstance(statement, Epoch):
            raise JournalError("a stored close is none")
        return row[0], statement

    def counts_since(self, first: int) -> Counts:
        """Count launches and ends from line `first` on."""
        return chain.count(lines_since(self._connection, first))

    def close(self, asset: str, number: int, statement: bytes) -> str:
        """Keep the close of an epoch that was signed in this transaction; return its id."""
        name = statement_id("epoch", statement)
        line = {"asset": asset, "epoch": name, "number": number}
        self._keep(name, "epoch", asset, self._append(chain.CLOSE, line), statement)
        return name

    def under_way(self, asset: str) -> dict[str, int]:
        """Return the jobs that were launched and have not ended, with their number of replies."""
        rows = self._connection.execute(
            "SELECT job, count(*) FROM use JOIN reply USING (job, asset) "
            "WHERE asset = ? AND state = 'open' GROUP BY job",
            (asset,),
        )
        return dict(rows.fetchall())

    def waiting(self) -> list[Signed]:
        """Return what was signed and not yet taken by the log, oldest first."""
        rows = self._connection.execute(
            "SELECT id, kind, statement FROM signed WHERE taken = 0 ORDER BY line, id"
        )
        return [Signed(*row) for row in rows.fetchall()]

    def taken(self, name: str) -> None:
        """Remember that the log took a statement."""
        self._connection.execute("UPDATE signed SET taken = 1 WHERE id = ?", (name,))

    def _keep(self, name: str, kind: str, asset: str, line: int, statement: bytes) -> None:
        self._connection.execute(
            "INSERT INTO signed (id, kind, asset, line, statement) VALUES (?, ?, ?, ?, ?)",
            (name, kind, asset, line, statement),
        )

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

    def _append(self, kind: str, body: dict[str, Any]) -> int:
        return journal_file.append(self._connection, self._clock(), kind, body)


def _lapsed(state: str, answered: int, decision: bytes | None, now: int) -> bool:
    """Whether a reservation was never used and cannot be any more: its grant has ended."""
    if state != "open" or answered or decision is None:
        return False
    statement = read(decision).statement
    return isinstance(statement, Grant) and statement.until < now


def step_of(request: Request) -> str:
    """Return the place of a request in a job: `keys`, `shares 1`, `1`, `survivors 1`, … `finish`.

    The round's number alone stands for its question, or for what is carried in it: the reply is a
    contribution.
    """
    if isinstance(request, KeysRequest):
        return KEYS
    if isinstance(request, FinishRequest):
        return FINISH
    if isinstance(request, RoundRequest | RelayRequest):
        return str(request.round)
    return f"{_STEPS[type(request)]} {request.round}"
