"""The log: one sequencer that turns pending statements into entries, and signs what is durable.

The write path, in order:

1. read what is pending, oldest first;
2. build entries in memory: index, predecessor, time, references, commitment;
3. in one transaction, store the entries and remove the pending rows — *from here the batch is
   committed*;
4. apply it to the tree and the history, with the very function that recovery uses;
5. sign a checkpoint, write it to disk, have it cosigned where a quorum is required, then show it.

A crash before 3 leaves the statements pending. A crash after 3 leaves durable entries that no
checkpoint covers: the next start signs them. A size is never signed before it is durable, and a
database that is older than the last checkpoint on disk refuses to start: it would sign a second
history. Where witnesses do not answer, entries stay durable and the older checkpoint stays shown.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ledger import checkpoint as checkpoints
from ledger import durable, rules, store
from ledger.checkpoint import Checkpoint
from ledger.entry import Entry, Opening, commitment
from ledger.errors import CosigningError, LedgerError, LogError
from ledger.history import History
from ledger.keys import SigningKey, VerifyKey
from ledger.merkle import Tree, leaf_hash
from ledger.statements import Unverified, read
from ledger.tiles import Tile, tile_bytes

BATCH = 1024
CHECKPOINT_FILE = "checkpoint"
# The newest checkpoint with its cosignatures; kept where a quorum is required.
COSIGNED_FILE = "cosigned"
# Longest wait of the sequencer between looks at the pending table, seconds.
INTERVAL = 0.02


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
        cosign: Callable[[bytes, Tree], bytes] | None = None,
    ) -> None:
        self._cosign = cosign
        self._engine = engine
        self._key = key
        self._folder = folder
        self._clock = clock
        self._write_lock = threading.Lock()
        self._shown = threading.Condition()
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._tree = Tree()
        self._indexes: dict[str, int] = {}
        self._last_time = 0
        self._checkpoint = b""
        self._size = 0
        self.history = History()
        self.findings: list[str] = []
        self.cosigning_failure: str | None = None
        self._recover()

    @property
    def vkey(self) -> VerifyKey:
        """The log's verifier key."""
        return self._key.verify_key

    @property
    def size(self) -> int:
        """Number of entries that the shown checkpoint covers."""
        return self._size

    def checkpoint(self) -> bytes:
        """Return the newest signed checkpoint, cosigned where a quorum is required.

        Raises:
            CosigningError: no checkpoint ever had its quorum.
        """
        if not self._checkpoint:
            raise CosigningError("no checkpoint of this log has its quorum of witnesses yet")
        return self._checkpoint

    def tile(self, path: str) -> bytes:
        """Return one file of the tlog-tiles layout.

        Raises:
            EncodingError: not a tile path.
            LogError: the log has not grown that far.
        """
        tile = Tile.from_path(path)
        stop = tile.start + tile.width
        covered = self._size if tile.level is None else self._size >> (8 * tile.level)
        if stop > covered:
            raise LogError(f"{path} does not exist: the log has {self._size} entries")
        return tile_bytes(self._tree, tile, self.entry_bytes)

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
            table.c.index < min(stop, self._size),
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
        if not found and 0 <= index < self._size:
            raise LogError(f"the statement of entry {index} was erased")
        if not found:
            raise LogError(f"the log has no entry {index}")
        return found[0]

    def index_of(self, statement_id: str) -> int:
        """Return the index of a statement that the shown checkpoint covers.

        Raises:
            LogError: it is not in the log.
        """
        index = self._indexes.get(statement_id)
        if index is None or index >= self._size:
            raise LogError("this statement is not in the log")
        return index

    def check(self, envelope: bytes) -> Unverified:
        """Read a statement and hold it against everything logged so far.

        Raises:
            StatementError, SignatureError, RuleError, EvidenceError: it may not be logged.
        """
        unverified = read(envelope)
        with self._write_lock:
            rules.check(self.history, unverified, self._clock())
        return unverified

    def wait_for(self, statement_id: str, timeout: float = 10.0) -> int:
        """Wait until a checkpoint covers a statement, and return its index.

        Raises:
            LogError: not within `timeout` seconds.
        """
        self._wake.set()

        def covered() -> bool:
            if self._failure is not None:
                raise LogError("the log has stopped; see the operator's log file")
            index = self._indexes.get(statement_id)
            return index is not None and index < self._size

        with self._shown:
            if not self._shown.wait_for(covered, timeout):
                raise LogError(f"not in the log after {timeout:g} s")
        return self._indexes[statement_id]

    def start(self) -> None:
        """Run the sequencer in a thread of its own."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="sequencer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the sequencer after the batch it is working on."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def sequence(self) -> int:
        """Make entries of what is pending now; return how many.

        Raises:
            LogError: another process wrote to this log.
        """
        with self._write_lock:
            try:
                batch = self._commit_batch()
            except sa.exc.IntegrityError as error:
                # Nothing was stored. Another process made these entries: ours would be a fork.
                raise LogError(
                    "another process writes to this log; stop one of them and start again"
                ) from error
            for row in batch:
                self._apply(row)
            # Not only after a batch: an earlier try may have failed between commit and disk.
            if self._tree.size > self._size:
                self._publish()
            return len(batch)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                if self.sequence() == 0:
                    self._wake.wait(INTERVAL)
                    self._wake.clear()
        except BaseException as error:
            # Whoever waits must hear that nothing more will be logged; going on could sign a
            # state that the database does not have.
            self._failure = error
            with self._shown:
                self._shown.notify_all()
            raise

    def _commit_batch(self) -> list[dict[str, Any]]:
        # Looked at without the write lock first: an idle sequencer must not hold up anybody.
        with self._reading() as connection:
            if connection.execute(sa.select(store.pending.c.sequence).limit(1)).first() is None:
                return []
        with self._engine.begin() as connection:
            waiting = connection.execute(
                sa.select(store.pending).order_by(store.pending.c.sequence).limit(BATCH)
            ).all()
            if not waiting:
                return []
            rows = self._build(waiting)
            connection.execute(store.entries.insert(), rows)
            connection.execute(
                store.pending.delete().where(
                    store.pending.c.sequence.in_([row.sequence for row in waiting])
                )
            )
        # A crash here is harmless: the entries are durable and the next start signs them.
        return rows

    def _reading(self) -> sa.Connection:
        """Return a connection whose transaction takes no write lock."""
        return self._engine.connect().execution_options(**{store.READ_ONLY: True})

    def _build(self, waiting: Sequence[sa.Row[Any]]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        fresh: dict[str, int] = {}
        previous, now = self.history.last_leaf, max(self._clock(), self._last_time)
        for row in waiting:
            index = self._tree.size + len(rows)
            statement = read(row.envelope).statement
            known = [self._lookup(name, fresh) for name in statement.references()]
            entry = Entry(
                index=index,
                previous=previous,
                time=now,
                kind=statement.kind,
                references=tuple(known),
                commitment=commitment(row.salt, row.envelope),
            )
            data = entry.to_bytes()
            previous = leaf_hash(data)
            fresh[row.statement_id] = index
            rows.append(
                {
                    "index": index,
                    "statement_id": row.statement_id,
                    "data": data,
                    "envelope": row.envelope,
                    "salt": row.salt,
                }
            )
        return rows

    def _lookup(self, statement_id: str | None, fresh: dict[str, int]) -> int | None:
        if statement_id is None:
            return None
        return fresh.get(statement_id, self._indexes.get(statement_id))

    def _apply(self, row: Mapping[str, Any] | sa.RowMapping) -> None:
        entry, leaf = Entry.from_bytes(row["data"]), leaf_hash(row["data"])
        opened = None
        # A shredded statement left its entry: the commitment, without salt and text.
        if row["envelope"] is not None:
            opened = Opening(entry.index, row["salt"], row["envelope"]).reveal(entry)
        self._tree.append(leaf)
        self._indexes[opened.id if opened else row["statement_id"]] = entry.index
        self._last_time = entry.time
        try:
            rules.admit(self.history, entry, leaf, opened)
        except LedgerError as error:
            # It is in the log for good; every auditor will see the same finding.
            self.findings.append(str(error))

    def _publish(self) -> None:
        current = Checkpoint(self.vkey.name, self._tree.size, self._tree.root())
        signed = checkpoints.sign(current, self._key)
        durable.replace(self._folder / CHECKPOINT_FILE, signed)
        # A crash here is harmless: nobody has seen this checkpoint, and the next start signs the
        # same size and root again.
        if self._cosign is not None:
            try:
                signed = self._cosign(signed, self._tree)
            except CosigningError as error:
                # Harmless: the entries are durable, and readers keep the older checkpoint.
                self.cosigning_failure = str(error)
                return
            # Kept, so that a restart while witnesses are silent has something to show.
            durable.replace(self._folder / COSIGNED_FILE, signed)
            self.cosigning_failure = None
        with self._shown:
            self._checkpoint, self._size = signed, current.size
            self._shown.notify_all()

    def _recover(self) -> None:
        with self._engine.connect() as connection:
            query = sa.select(store.entries).order_by(store.entries.c.index)
            rows = connection.execute(query).mappings().all()
        for row in rows:
            try:
                self._apply(row)
            except LedgerError as error:
                raise LogError(
                    f"the database is damaged at entry {row['index']}: {error}. Restore the "
                    "newest backup"
                ) from error
        self._refuse_rollback()
        self._show_cosigned()
        self._publish()

    def _refuse_rollback(self) -> None:
        path = self._folder / CHECKPOINT_FILE
        if not path.exists():
            if self._tree.size == 0:
                return
            # A log signs its empty tree before its first entry, so the file was there once.
            raise LogError(
                f"the database has {self._tree.size} entries, but {path} is missing, so nobody "
                "can tell whether the database is the newest. Put the newest checkpoint there: "
                "every reader of the log has a copy"
            )
        try:
            signed = checkpoints.open_checkpoint(path.read_bytes(), self.vkey)
        except LedgerError as error:
            raise LogError(f"{path} is not a checkpoint of this log's key: {error}") from error
        if signed.size > self._tree.size:
            raise LogError(
                f"the database has {self._tree.size} entries, but {signed.size} were signed "
                f"({path}): it was restored from an older backup. Restore the newest one; "
                "signing again would make a second history"
            )
        if self._tree.root(signed.size) != signed.root:
            raise LogError(f"the database does not match the checkpoint signed in {path}")

    def _show_cosigned(self) -> None:
        path = self._folder / COSIGNED_FILE
        if self._cosign is None or not path.exists():
            return
        data = path.read_bytes()
        try:
            shown = checkpoints.open_checkpoint(data, self.vkey)
        except LedgerError as error:
            raise LogError(f"{path} is not a checkpoint of this log's key: {error}") from error
        if shown.size > self._tree.size or self._tree.root(shown.size) != shown.root:
            raise LogError(f"the database does not match the checkpoint signed in {path}")
        self._checkpoint, self._size = data, shown.size
