"""The log: one sequencer that turns statements into entries, and signs what is durable.

Statements come from two sides: rows of `log_pending`, which a business transaction stored together
with what it is about, and `Log.append`, which hands a checked statement straight to the sequencer.
The write path takes both in one batch:

1. take what waits, oldest first, and leave out what is in the log already;
2. make entries in memory, one after the other: index, predecessor, time, references, commitment;
   each is admitted by the very rules that recovery uses, and a statement sent to `append` that
   breaks a rule at its place is refused there;
3. in one transaction, store the entries and remove the pending rows: *from here the batch is
   committed*;
4. sign a checkpoint, write it to disk, have it cosigned where a quorum is required, then show it;
5. tell the producers.

A crash before 3 leaves pending statements pending, and appended ones were never acknowledged. A
crash after 3 leaves durable entries that no checkpoint covers: the next start signs them. When
storing fails without a crash, the batch stands as it was made and is tried again until the database
takes it; what failed half-way is looked up first, so nothing is stored twice. A size is never
signed before it is durable, and a database that is older than the last checkpoint on disk refuses
to start: it would sign a second history. Where witnesses do not answer, entries stay durable and
the older checkpoint stays shown.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import sqlalchemy as sa

from ledger import store
from ledger.entry import Opening
from ledger.errors import CosigningError, LedgerError, LogError
from ledger.history import History
from ledger.keys import SigningKey, VerifyKey
from ledger.publisher import Cosign, Publisher
from ledger.sequencer import Batch, Checked, Row, State, Ticket, checked
from ledger.tiles import Tile, tile_bytes

BATCH = 1024
# Longest wait of the sequencer between looks at the pending table, seconds.
INTERVAL = 0.02
# How long it waits after the disk, the database or the witnesses refused, seconds.
RETRY = 0.5


class Log:
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
        LogError: the database is older than the newest checkpoint, or does not match it.
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
        self._engine = engine
        self._key = key
        self._clock = clock
        self._publisher = Publisher(key, folder, cosign)
        self._writer = store.Writer(engine)
        # Held while a batch is made, stored and shown; then for the state in memory alone.
        self._write_lock = threading.Lock()
        self._state_lock = threading.Lock()
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._queue: deque[Ticket] = deque()
        self._batch: Batch | None = None
        self._tickets: deque[tuple[int, Ticket]] = deque()
        self._waiting: dict[str, list[Ticket]] = {}
        self._waiting_lock = threading.Lock()
        self._state = State()
        self.trouble: str | None = None
        self._recover()

    @property
    def vkey(self) -> VerifyKey:
        """The log's verifier key."""
        return self._key.verify_key

    @property
    def history(self) -> History:
        """What the log has said so far; the caller changes nothing."""
        return self._state.history

    @property
    def findings(self) -> list[str]:
        """What entries of this log break, in words."""
        return self._state.findings

    @property
    def size(self) -> int:
        """Number of entries that the shown checkpoint covers."""
        return self._publisher.size

    @property
    def cosigning_failure(self) -> str | None:
        """Why the newest checkpoint is not cosigned; None where it is."""
        return self._publisher.trouble

    def checkpoint(self) -> bytes:
        """Return the newest signed checkpoint, cosigned where a quorum is required.

        Raises:
            CosigningError: no checkpoint ever had its quorum.
        """
        if not self._publisher.checkpoint:
            raise CosigningError("no checkpoint of this log has its quorum of witnesses yet")
        return self._publisher.checkpoint

    def tile(self, path: str) -> bytes:
        """Return one file of the tlog-tiles layout.

        Raises:
            EncodingError: not a tile path.
            LogError: the log has not grown that far.
        """
        tile = Tile.from_path(path)
        stop = tile.start + tile.width
        covered = self.size if tile.level is None else self.size >> (8 * tile.level)
        if stop > covered:
            raise LogError(f"{path} does not exist: the log has {self.size} entries")
        return tile_bytes(self._state.tree, tile, self.entry_bytes)

    def entry_bytes(self, start: int, stop: int) -> Sequence[bytes]:
        """Return the bytes of entries `start` to `stop`, exclusive."""
        column = store.entries.c.index
        query = sa.select(store.entries.c.data).where(column >= start, column < stop)
        with self._reading() as connection:
            return connection.execute(query.order_by(column)).scalars().all()

    def openings(self, start: int, stop: int) -> list[Opening]:
        """Return the openings of entries `start` to `stop`, exclusive; the caller decides who sees.

        Entries that no checkpoint covers yet are left out, and those whose statement was erased.
        """
        table = store.entries
        query = sa.select(table.c.index, table.c.salt, table.c.envelope).where(
            table.c.index >= start,
            table.c.index < min(stop, self.size),
            table.c.envelope.is_not(None),
        )
        with self._reading() as connection:
            rows = connection.execute(query.order_by(table.c.index)).all()
        return [Opening(index, salt, envelope) for index, salt, envelope in rows]

    def opening(self, index: int) -> Opening:
        """Return the opening of one entry.

        Raises:
            LogError: there is no such entry, or its statement was erased.
        """
        found = self.openings(index, index + 1)
        if not found and 0 <= index < self.size:
            raise LogError(f"the statement of entry {index} was erased")
        if not found:
            raise LogError(f"the log has no entry {index}")
        return found[0]

    def index_of(self, statement_id: str) -> int:
        """Return the index of a statement that the shown checkpoint covers.

        Raises:
            LogError: it is not in the log.
        """
        index = self._state.indexes.get(statement_id)
        if index is None or index >= self.size:
            raise LogError("this statement is not in the log")
        return index

    # Writing.

    def check(self, envelope: bytes) -> Checked:
        """Read a statement and hold it against everything logged so far.

        Raises:
            StatementError, SignatureError, RuleError, EvidenceError: it may not be logged.
        """
        return self._check(checked(envelope))

    def _check(self, found: Checked) -> Checked:
        with self._state_lock:
            self._state.refuse(found, self._clock())
        return found

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
            StatementError, SignatureError, RuleError, EvidenceError: it may not be logged.
            LogError: the log has stopped.
        """
        found = statement if isinstance(statement, Checked) else checked(statement)
        ticket = Ticket(found.id, found)
        # Sent again after a lost answer: these very bytes were verified when they were logged, and
        # would break the rule against duplicates now.
        if found is not statement and ticket.id not in self._state.indexes:
            self._check(found)
        self._queue.append(ticket)
        if not self._wake.is_set():
            self._wake.set()
        # Asked after queueing: whoever fails the log empties the queue after saying so.
        if self._failure is not None:
            raise _stopped()
        return ticket

    def wait_for(self, statement_id: str, timeout: float = 10.0) -> int:
        """Wait until a checkpoint covers a statement, and return its index.

        Raises:
            LogError: not within `timeout` seconds.
        """
        ticket = Ticket(statement_id)
        with self._waiting_lock:
            self._waiting.setdefault(statement_id, []).append(ticket)
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
            with self._waiting_lock:
                left = [each for each in self._waiting.pop(statement_id, ()) if each is not ticket]
                if left:
                    self._waiting[statement_id] = left

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
                self._batch = Batch()
                self._fill(self._batch)
            made = len(self._batch.rows)
            if self._batch.rows or self._batch.pending:
                self._store(self._batch)
            # Only now: a batch that could not be stored stands and is tried again as it is.
            self._tickets.extend(self._batch.tickets)
            self._batch = None
            # Not only after a batch: an earlier try may have failed between commit and disk.
            if self._state.tree.size > self.size:
                self._publisher.publish(self._state.tree)
            self._acknowledge()
            return made

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                # Cleared before looking, so that what comes meanwhile is looked for again.
                self._wake.clear()
                try:
                    made = self.sequence()
                    self.trouble = None
                except (sa.exc.OperationalError, OSError) as error:
                    # Harmless: what is stored is known before anything is stored again, and
                    # nobody was told anything. The disk may have room again in a moment.
                    self.trouble = str(error)
                    self._stopping.wait(RETRY)
                    continue
                if self._state.tree.size > self.size:
                    self._stopping.wait(RETRY)
                elif made == 0:
                    self._wake.wait(INTERVAL)
        except BaseException as error:
            # Whoever waits must hear that nothing more will be logged; going on could sign a
            # state that the database does not have.
            self._failure = error
            self._fail()
            raise

    def _fail(self) -> None:
        tickets = [ticket for _, ticket in self._tickets]
        tickets += [ticket for _, ticket in self._batch.tickets] if self._batch else []
        while self._queue:
            tickets.append(self._queue.popleft())
        with self._waiting_lock:
            tickets += [ticket for found in self._waiting.values() for ticket in found]
        for ticket in tickets:
            ticket.settle(_stopped())

    def _acquire(self) -> None:
        # The lock may have been somebody else's until now: take what they wrote.
        if self._writer.acquire() and self._batch is None:
            self._replay()

    def _fill(self, batch: Batch) -> None:
        """Take what waits and make entries of it, in memory."""
        # Looked at without the write lock: an idle sequencer must not hold up anybody.
        with self._reading() as connection:
            pending = store.waiting(connection, BATCH)
        taken = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
        now = self._clock()
        with self._state_lock:
            for sequence, statement_id, envelope, salt in pending:
                if statement_id not in self._state.indexes:
                    opened = checked(envelope)
                    row = self._state.append(opened, statement_id, salt=salt, now=now)
                    batch.rows.append(row)
                batch.pending.append(sequence)
            for ticket in taken:
                self._take(batch, ticket, now)

    def _take(self, batch: Batch, ticket: Ticket, now: int) -> None:
        index = self._state.indexes.get(ticket.id)
        if index is None and ticket.checked is not None:
            try:
                self._state.refuse(ticket.checked, now)
                row = self._state.append(ticket.checked, ticket.id, salt=store.new_salt(), now=now)
            except LedgerError as error:
                # It was allowed when it was checked; what was logged since forbids it.
                ticket.settle(error)
                return
            batch.rows.append(row)
            index = row.index
        if index is not None:
            batch.tickets.append((index, ticket))

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

    def _is_stored(self, connection: sa.Connection, batch: Batch) -> bool:
        found = store.entries_from(connection, batch.rows[0].index, len(batch.rows) + 1)
        if found and [tuple(row) for row in found] != [row.values() for row in batch.rows]:
            raise LogError("another process writes to this log; stop one of them and start again")
        return bool(found)

    def _reading(self) -> sa.Connection:
        """Return a connection whose transaction takes no write lock."""
        return self._engine.connect().execution_options(**{store.READ_ONLY: True})

    def _acknowledge(self) -> None:
        """Tell whoever waits for an entry that the shown checkpoint covers."""
        size = self.size
        while self._tickets and self._tickets[0][0] < size:
            index, ticket = self._tickets.popleft()
            ticket.settle(index)
        if self._waiting:
            with self._waiting_lock:
                found = [(name, list(tickets)) for name, tickets in self._waiting.items()]
            for name, tickets in found:
                found_at = self._state.indexes.get(name)
                if found_at is not None and found_at < size:
                    for ticket in tickets:
                        ticket.settle(found_at)

    # Starting again.

    def _recover(self) -> None:
        self._replay()
        self._publisher.resume(self._state.tree)
        self._publisher.publish(self._state.tree)

    def _replay(self) -> None:
        """Take every entry of the database that is not in memory yet."""
        with self._reading() as connection:
            while True:
                found = store.entries_from(connection, self._state.tree.size, BATCH)
                for values in found:
                    self._replay_row(Row(*values))
                if len(found) < BATCH:
                    return

    def _replay_row(self, row: Row) -> None:
        try:
            self._state.replay(row)
        except LedgerError as error:
            raise LogError(
                f"the database is damaged at entry {row.index}: {error}. Restore the newest backup"
            ) from error


def _stopped() -> LogError:
    return LogError("the log has stopped; see the operator's log file")
