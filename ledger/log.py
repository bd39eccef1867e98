"""The log: one sequencer that turns statements into entries, and signs what is durable.

Statements come from two sides: rows of `log_pending`, which a business transaction stored together
with what it is about, and `Log.append`, which hands a checked statement straight to the sequencer.
The write path:

1. take what came meanwhile and make entries of it in memory: index, predecessor, time, references,
   commitment. What was sent to `append` is refused here if it breaks a rule at its place; a pending
   row, which a business transaction vouches for, is logged whatever it breaks;
2. in one transaction, store the batch and remove its pending rows: *from here it is committed*;
3. sign a checkpoint, write it to disk, have it cosigned where a quorum is required, then show it;
4. tell the producers.

A crash before 2 leaves pending statements pending, and appended ones were never acknowledged. A
crash after 2 leaves durable entries that no checkpoint covers: the next start signs them. When
storing fails without a crash, the batch stands as it was made and is tried again until the database
takes it; what failed half-way is looked up first, so nothing is stored twice. A size is never
signed before it is durable, and a database that is older than the last checkpoint on disk refuses
to start: it would sign a second history. Where witnesses do not answer, entries stay durable and
the older checkpoint stays shown.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from ledger import store
from ledger.errors import LedgerError, LogError
from ledger.keys import SigningKey
from ledger.publisher import Cosign, Publisher
from ledger.sequencer import Batch, Checked, Row, Ticket, Waiters, checked
from ledger.shown import Shown
from ledger.verified import Record

_log = logging.getLogger(__name__)

BATCH = 1024
# Most statements that wait for their entry, so that a full disk does not fill the memory too.
BACKLOG = 1 << 14
SALTS = 64
# Longest wait of the sequencer between looks at the pending table, seconds.
INTERVAL = 0.02
# The same while much is appended, and nobody waits for a pending row.
BUSY_INTERVAL = 0.1
# How long it waits after the disk, the database or the witnesses refused, seconds.
RETRY = 0.5


class Log(Shown):
    """One Merkle log over a database and a folder for its newest checkpoint.

    Args:
        engine: database with the tables of `ledger.store`.
        key: the log's key; its name is the log's origin.
        folder: where the newest signed checkpoint is kept, apart from the database.
        clock: returns Unix milliseconds.
        cosign: takes the signed note and the tree, and returns the note with the cosignatures of
            its witnesses; raises CosigningError where the quorum was not reached. The log then
            shows its older checkpoint and tries again later.

    Raises:
        LogError: the database is older than the newest checkpoint, or does not match it; or the
            key was retired (`hand_over`).
    """

    def __init__(
        self,
        engine: sa.Engine,
        key: SigningKey,
        folder: Path,
        clock: Callable[[], int],
        *,
        cosign: Cosign | None = None,
    ) -> None:
        super().__init__(engine, key, Publisher(key, folder, cosign))
        self._clock = clock
        self._writer = store.Writer(engine)
        # Held while a batch is made, stored and shown; then for the state in memory alone.
        self._write_lock = threading.Lock()
        self._state_lock = threading.Lock()
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        # Statements that wait for their entry, and entries that are being stored.
        self._queue: deque[tuple[Checked, Ticket]] = deque()
        self._batch: Batch | None = None
        self._stored = 0
        # How many entries are written down as verified, and how many findings among them.
        self._record = Record(folder, key)
        self._noted = 0, 0
        self._salts: list[bytes] = []
        self._waiters = Waiters()
        self._looked = 0.0
        self._told = 0
        self._enough = 1  # how many statements wake the sequencer
        self.trouble = ""
        self._recover()

    def check(self, envelope: bytes) -> Checked:
        """Read a statement and hold it against everything logged so far.

        Raises:
            StatementError, SignatureError, RuleError, EvidenceError: it may not be logged.
        """
        found = checked(envelope)
        with self._state_lock:
            self._state.refuse(found, self._clock())
        return found

    def submit(self, connection: sa.Connection, envelope: bytes) -> str:
        """Store a checked statement as pending, in the caller's transaction; return its id.

        Neither it nor what else the transaction stores exists without the other. The same envelope
        again changes nothing.

        Raises:
            StatementError: the envelope is malformed.
            LogError: see `ledger.store.submit`.
        """
        return store.submit(connection, envelope, self._state.indexes, now=self._clock())

    def append(self, statement: bytes | Checked, timeout: float = 10.0) -> int:
        """Log a statement, and return its index once a shown checkpoint covers it.

        A statement that is in the log already gives the index that it has.

        Args:
            statement: a signed envelope, or what `check` made of it.
            timeout: longest wait, seconds.

        Raises:
            StatementError, SignatureError, RuleError, EvidenceError: it may not be logged.
            LogError: not within `timeout` seconds; it may still come.
        """
        return self.enqueue(statement).wait(timeout)

    def enqueue(self, statement: bytes | Checked) -> Ticket:
        """Hand a statement to the sequencer, as `append`, and return what to wait with.

        Raises:
            StatementError: malformed, or of an unknown kind.
            LogError: the log has stopped, or cannot keep up.
        """
        found = statement if isinstance(statement, Checked) else checked(statement)
        if len(self._queue) >= BACKLOG:
            raise LogError(f"the log is {BACKLOG} statements behind; try later")
        ticket = Ticket()
        self._queue.append((found, ticket))
        if len(self._queue) >= self._enough and not self._wake.is_set():
            self._wake.set()
        # After the statement: whoever stops the log from here on finds it.
        if self._failure is not None:
            raise _stopped()
        return ticket

    def wait_for(self, statement_id: str, timeout: float = 10.0) -> int:
        """Wait until a checkpoint covers a statement, and return its index.

        Raises:
            LogError: not within `timeout` seconds.
        """
        ticket = self._waiters.name(statement_id)
        self._wake.set()
        # Asked after registering: what happens from here on finds the ticket.
        index = self._state.indexes.get(statement_id)
        if index is not None and index < self.size:
            ticket.settle(index)
        if self._failure is not None:
            ticket.settle(_stopped())
        try:
            return ticket.wait(timeout)
        finally:
            self._waiters.forget(statement_id, ticket)

    def start(self) -> None:
        """Run the sequencer in a thread of its own.

        Raises:
            LogError: another process writes to this log.
        """
        with self._write_lock:
            self._acquire()
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="sequencer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the sequencer after the batch it is working on, and give the database back."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._writer.close()

    def sequence(self) -> int:
        """Make entries of what waits now, and show them; return how many.

        Raises:
            LogError: another process wrote to this log.
        """
        with self._write_lock:
            self._acquire()
            if self._batch is None:
                # Kept from the first entry on: whatever fails from here, they are made for good.
                self._batch = Batch()
                self._take_queue(self._batch)
                self._take_pending(self._batch)
            made = len(self._batch.rows)
            if made or self._batch.pending:
                self._store(self._batch)
            # Only now: a batch that could not be stored stands and is tried again as it is.
            self._stored, self._batch = self._stored + made, None
            # Not only after a batch: an earlier try may have failed between commit and disk.
            if self._stored > self.size:
                self._publisher.publish(self._state.tree, self._stored)
            self._acknowledge()
            self._note()
            return made

    def hand_over(self, new: SigningKey) -> bytes:
        """Show what waits, name the log's next key, and write nothing more; return the succession.

        A log over the same database and folder with the new key goes on. With the old one it does
        not start any more.

        Raises:
            LogError: the sequencer runs, another process writes to this log, or the key was
                retired before.
            NoteError: the new key is not of this log, or the same.
            OSError: the disk refuses; the key stays in office.
        """
        if self._thread is not None:
            raise LogError("stop the log before its key changes")
        self.sequence()
        with self._write_lock:
            return self._publisher.hand_over(new)

    def refresh(self) -> None:
        """Have the newest checkpoint cosigned anew: its readers ask how old its quorum is.

        Without witnesses it does nothing. Without their quorum the shown checkpoint stays.
        """
        with self._write_lock:
            if self._publisher.is_cosigned:
                self._publisher.publish(self._state.tree, self._stored)
                self._acknowledge()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                # Cleared before looking, so that what comes meanwhile is looked for again.
                self._wake.clear()
                self._enough = 1
                begun = time.monotonic()
                try:
                    made = self.sequence()
                    self._tell("")
                except (sa.exc.OperationalError, OSError) as error:
                    # Harmless: what is stored is known before anything is stored again, and
                    # nobody was told anything. The disk may have room again in a moment.
                    self._tell(_words_of(error))
                    self._stopping.wait(RETRY)
                    continue
                if self._stored > self.size:
                    self._stopping.wait(RETRY)
                elif made == 0:
                    self._wake.wait(INTERVAL)
                elif self._told > 1:
                    self._gather((time.monotonic() - begun) / 2)
        except BaseException as error:
            # Whoever waits must hear that nothing more will be logged; going on could sign a
            # state that the database does not have.
            self._failure = error
            while self._queue:
                self._queue.popleft()[1].settle(_stopped())
            self._waiters.fail(_stopped())
            raise

    def _tell(self, trouble: str) -> None:
        """Warn once of each new trouble: it may be there for days, and whoever waits is silent."""
        if trouble != self.trouble:
            message = f"cannot store entries: {trouble}" if trouble else "stores entries again"
            _log.warning("the log %s", message)
        self.trouble = trouble

    def _acquire(self) -> None:
        # The lock may have been somebody else's until now: take what they wrote. Entries that
        # were made meanwhile would contradict it; then storing them fails.
        if self._writer.acquire() and self._state.tree.size == self._stored:
            self._replay()

    def _take_queue(self, batch: Batch) -> None:
        """Make entries of what was appended; what may not be logged is told so."""
        with self._state_lock:
            while self._queue and len(batch.rows) < BATCH:
                found, ticket = self._queue.popleft()
                # Sent again after a lost answer: these very bytes were verified when they were
                # logged, and would break the rule against duplicates now.
                index = self._state.indexes.get(found.id)
                try:
                    # Rules are asked here: what was logged since a check may forbid it.
                    index = self._enter(batch, found) if index is None else index
                except LedgerError as error:
                    ticket.settle(error)
                else:
                    self._waiters.place(index, ticket)

    def _enter(self, batch: Batch, found: Checked) -> int:
        if not self._salts:
            self._salts = store.new_salts(SALTS)
        row = self._state.enter(found, salt=self._salts.pop(), now=self._clock())
        batch.rows.append(row)
        return row.index

    def _take_pending(self, batch: Batch) -> None:
        """Make entries of pending rows; while much is appended, not before every batch."""
        busy = batch.rows and self._thread is not None and not self._waiters.has_named
        if busy and time.monotonic() - self._looked < BUSY_INTERVAL:
            return
        self._looked = time.monotonic()
        # Looked at without the write lock: an idle sequencer must not hold up anybody.
        with self._reading() as connection:
            pending = store.waiting(connection, BATCH)
        for sequence, statement_id, envelope, salt in pending:
            with self._state_lock:
                if statement_id not in self._state.indexes:
                    now = self._clock()
                    row = self._state.append(checked(envelope), salt=salt, now=now)
                    batch.rows.append(row)
                batch.pending.append(sequence)

    def _store(self, batch: Batch) -> None:
        try:
            with self._writer.transaction() as connection:
                # After a failure nobody knows whether the rows are there: look before storing.
                if batch.rows and not (batch.tried and self._is_stored(connection, batch)):
                    batch.tried = True
                    store.insert_entries(connection, [row.values() for row in batch.rows])
                store.remove_pending(connection, batch.pending)
        except sa.exc.IntegrityError as error:
            # Nothing was stored. Another process made these entries: ours would be a fork.
            raise LogError(
                "another process writes to this log; stop one of them and start again"
            ) from error
        # A crash here is harmless: the entries are durable and the next start signs them.

    def _note(self) -> None:
        """Now and then, and for every finding, write down how far all was verified."""
        broken, (size, findings) = self._state.broken, self._noted
        if len(broken) > findings or self._stored - size >= BATCH:
            # Where the disk refuses, the next start verifies more.
            with contextlib.suppress(OSError):
                self._record.note(self._state.tree, self._stored, broken)
            self._noted = self._stored, len(broken)

    def _is_stored(self, connection: sa.Connection, batch: Batch) -> bool:
        found = store.entries_from(connection, batch.rows[0].index, len(batch.rows) + 1)
        if found and [tuple(row) for row in found] != [row.values() for row in batch.rows]:
            raise LogError("another process writes to this log; stop one of them and start again")
        return bool(found)

    def _acknowledge(self) -> None:
        """Tell whoever waits for an entry that the shown checkpoint covers."""
        self._told = self._waiters.tell(self.size, self._state.indexes)

    def _gather(self, patience: float) -> None:
        """Let the producers that were just told come back: a batch costs two flushes of disk."""
        self._enough = self._told
        self._wake.clear()
        if len(self._queue) < self._told:
            self._wake.wait(patience)

    # Starting again.

    def _recover(self) -> None:
        self._replay()
        self._publisher.resume(self._state.tree)
        self._publisher.publish(self._state.tree, self._stored)

    def _replay(self) -> None:
        """Take every entry of the database that is not in memory yet."""
        verified = self._record.read()
        with self._reading() as connection:
            while True:
                found = store.entries_from(connection, self._state.tree.size, BATCH)
                for values in found:
                    row = Row(*values)
                    # A finding is found again, so that its entry has no effect this time either.
                    self._replay_row(row, vouched=verified.vouches_for(row.index))
                self._stored = self._state.tree.size
                if len(found) < BATCH:
                    break
        verified.check(self._state.tree)
        self._noted = verified.size, len(verified.broken)

    def _replay_row(self, row: Row, *, vouched: bool) -> None:
        try:
            self._state.replay(row, vouched=vouched)
        except LedgerError as error:
            raise LogError(
                f"the database is damaged at entry {row.index}: {error}. Restore the newest backup"
            ) from error


def _words_of(error: sa.exc.OperationalError | OSError) -> str:
    """Return what the database or the disk said, without the statement that it was said of."""
    words = error.orig if isinstance(error, sa.exc.OperationalError) else error
    return str(words).partition("\n")[0]


def _stopped() -> LogError:
    return LogError("the log has stopped; see the operator's log file")
