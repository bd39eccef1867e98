"""The operator's side of what is hidden: view keys, sealed openings, and erasing for good.

    keys = ViewKeys(engine)
    sealed = SealedOpenings(log, keys, [19, 20, 21])        # a mapping, for an export
    keys.views(log, agreements=[9], epochs=[0, 1]).save(Path("auditor.views"))

    found = plan(log.history, under(log.history, 9))        # what can be erased, and what cannot
    log_erasure(log, engine, found, operator_key, "retention period over", now=…)
    finish_erasure(log, engine, marker)                     # also at every start of the service

Decides which view keys there are, and which statements may be erased. Does not decide who gets a
view: the operator does.

An erasure is logged first, then done: a `shred` entry says what is gone, and from then on the log
is the list of what has yet to be erased. A crash before the entry leaves the statements readable
and nothing said; a crash after it is made good at the next start. The keys of every view that could
open an erased statement are destroyed with it, and drawn anew where other statements remain; so
copies in earlier exports open to nobody who was not given these keys before.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ledger import durable, store
from ledger.entry import Entry, Opening
from ledger.errors import LogError
from ledger.history import History
from ledger.keys import SigningKey
from ledger.log import Log
from ledger.record import MAX_ITEMS
from ledger.statements import Agreement, Grant, Receipt, Schedule, Shred
from ledger.statements.shred import SHREDDABLE
from ledger.tiles import WIDTH
from ledger.views import KEY_BYTES, Named, View, Views, seal, views_of

CHUNK = 500
"""Indexes in one SQL statement."""

view_keys = sa.Table(
    "log_view_key",
    store.metadata,
    # See `ledger.views.Named`; the length of an epoch is 0 where the log has no schedule.
    sa.Column("agreement", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("epoch_entries", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("key", sa.LargeBinary, nullable=False),
)


class ViewKeys:
    """The view keys of a log, in its database; each is drawn when it is first asked for.

    Args:
        engine: database with the tables of `ledger.store` and of this module.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._known: dict[tuple[Named, int], bytes] = {}

    def get(self, names: Iterable[Named], schedule: Schedule | None) -> list[View]:
        """Return the keys of views, durable before anybody is given one."""
        wanted, length = sorted(set(names)), _length(schedule)
        missing = [named for named in wanted if (named, length) not in self._known]
        if missing:
            with self._engine.begin() as connection:
                for named in missing:
                    self._known[named, length] = _stored_key(connection, named, length)
        return [View(named, self._known[named, length]) for named in wanted]

    def views(
        self,
        log: Log,
        *,
        agreements: Collection[int] | None = None,
        epochs: Collection[int] | None = None,
    ) -> Views:
        """Return the keys of all views that have an entry in the log.

        Args:
            log: the log.
            agreements: indexes of agreements, `NO_AGREEMENT` for what rests on none; None: all.
            epochs: None: all.
        """
        history = log.history
        names = {
            named
            for index in range(log.size)
            for named in views_of(history.agreements_under(index), index, history.schedule)
            if (agreements is None or named.agreement in agreements)
            and (epochs is None or named.epoch in epochs)
        }
        found = self.get(names, history.schedule)
        return Views(log.vkey.name, {view.named: view.key for view in found})


class SealedOpenings(Mapping[int, bytes]):
    """One line for each of these entries, encrypted when it is looked up.

    Args:
        log: the log.
        keys: its view keys.
        indexes: entries whose statements are not erased.
    """

    def __init__(self, log: Log, keys: ViewKeys, indexes: Iterable[int]) -> None:
        self._log = log
        self._keys = keys
        self._indexes = dict.fromkeys(sorted(indexes))
        # What was read last: an export asks bundle by bundle, in order.
        self._start = -1
        self._entries: Sequence[bytes] = ()
        self._openings: dict[int, Opening] = {}

    def __getitem__(self, index: int) -> bytes:
        if index not in self._indexes:
            raise KeyError(index)
        start = index // WIDTH * WIDTH
        if start != self._start:
            self._entries = self._log.entry_bytes(start, start + WIDTH)
            self._openings = {item.index: item for item in self._log.openings(start, start + WIDTH)}
            self._start = start
        if index not in self._openings:
            raise LogError(f"the statement of entry {index} was erased; export it as erased")
        history = self._log.history
        named = views_of(history.agreements_under(index), index, history.schedule)
        entry = Entry.from_bytes(self._entries[index - start])
        return seal(entry, self._openings[index], self._keys.get(named, history.schedule))

    def __iter__(self) -> Iterator[int]:
        return iter(self._indexes)

    def __len__(self) -> int:
        return len(self._indexes)


def public(history: History) -> list[int]:
    """Return the entries that may be opened to everybody.

    Those whose statements every participant may read, unless one of these names a statement that
    is closed: its id is a hash without salt, by which whoever has the whole statement knows it.
    """
    found: dict[int, None] = {}
    for index, logged in sorted(history.by_index.items()):
        rests = history.entries[index].references
        if "*" in logged.statement.parties() and all(item in found for item in rests):
            found[index] = None
    return list(found)


# Erasing.


@dataclass(frozen=True)
class Erased:
    """One entry whose statement is to be erased."""

    index: int
    kind: str
    statement_id: str


@dataclass(frozen=True)
class Plan:
    """What an erasure would do.

    Attributes:
        entries: those that can be erased now, in log order.
        kept: index and reason of those that must stay for now.
    """

    entries: tuple[int, ...]
    kept: tuple[tuple[int, str], ...]


def under(history: History, agreement: int) -> list[int]:
    """Return the entries that rest on an agreement, itself included, that could be erased."""
    return [
        entry.index
        for entry in history.entries
        if entry.kind in SHREDDABLE and agreement in history.agreements_under(entry.index)
    ]


def of_job(history: History, job: int) -> list[int]:
    """Return the entries of one job, itself included, that could be erased."""
    found = {job: None}
    for entry in history.entries[job + 1 :]:
        if entry.kind in SHREDDABLE and any(item in found for item in entry.references):
            found[entry.index] = None
    return list(found)


def plan(history: History, indexes: Iterable[int], now: int) -> Plan:
    """Sort what can be erased from what something still rests on.

    Args:
        history: the whole log.
        indexes: what is asked for.
        now: Unix milliseconds.
    """
    entries, kept = [], []
    for index in sorted(set(indexes)):
        if index in history.shredded:
            continue
        reason = _needed(history, index, now)
        if reason is None:
            entries.append(index)
        else:
            kept.append((index, reason))
    return Plan(tuple(entries), tuple(kept))


def log_erasure(
    log: Log, engine: sa.Engine, found: Plan, key: SigningKey, cause: str, now: int
) -> list[int]:
    """Log one `shred` for each kind of statement; return their indexes. Erases nothing yet.

    Args:
        log: the log; no other process writes to it.
        engine: its database.
        found: what is to be erased.
        key: the operator's.
        cause: why, in words.
        now: Unix milliseconds.

    Raises:
        RuleError: something still rests on one of the statements; nothing was logged for its kind.
        StatementError: the cause is not one line.
        LogError: the entry is not shown yet, so nothing may be erased yet; the next start does it.
    """
    logged = []
    for kind in SHREDDABLE:
        indexes = [index for index in found.entries if log.history.entries[index].kind == kind]
        for start in range(0, len(indexes), MAX_ITEMS):
            statement = Shred(tuple(indexes[start : start + MAX_ITEMS]), kind, cause, now)
            envelope = statement.sign(key)
            checked = log.check(envelope)
            with engine.begin() as connection:
                log.submit(connection, envelope)
            log.sequence()
            logged.append(_shown(log, checked.id))
    return logged


def finish_erasure(
    log: Log,
    engine: sa.Engine,
    marker: Path,
    copies: Callable[[sa.Connection, Sequence[Erased]], None] = lambda _connection, _erased: None,
) -> int:
    """Destroy what the shown log says was erased and is still there; return how many statements.

    Nobody else may use the database meanwhile. Calling it again goes on where a crash stopped it.

    Args:
        log: the log; what it holds in memory stays there until it is opened anew.
        engine: its database.
        marker: path of a file that is there while freed pages may still hold what was erased.
        copies: erases what else the database holds of these statements, in the same transaction.

    Raises:
        LogError: somebody else uses the database: what was erased cannot be read any more by its
            tables, but its bytes may still be on the disk; the next start goes on.
    """
    covered = sorted(index for index, by in log.history.shredded.items() if by < log.size)
    with engine.connect() as connection:
        waiting = _still_there(connection, covered)
    if not waiting and not marker.exists():
        return 0
    # Before the rows: a crash from here on leaves a sign that pages must be rewritten.
    durable.replace(marker, b"")
    with engine.begin() as connection:
        _forget(connection, log.history, waiting)
        copies(connection, waiting)
    # A crash here leaves rows without statements; the marker makes the next start go on.
    _rewrite(engine)
    marker.unlink()
    return len(waiting)


def _shown(log: Log, statement_id: str) -> int:
    try:
        return log.index_of(statement_id)
    except LogError as error:
        # Without its quorum of witnesses nobody else could see that it was said.
        reason = log.cosigning_failure or str(error)
        raise LogError(
            f"it is logged, and not shown yet ({reason}); the start after it is shown erases it"
        ) from error


def _stored_key(connection: sa.Connection, named: Named, length: int) -> bytes:
    table = view_keys
    where = sa.and_(
        table.c.agreement == named.agreement,
        table.c.epoch == named.epoch,
        table.c.epoch_entries == length,
    )
    found = connection.execute(sa.select(table.c.key).where(where)).scalar()
    if found is not None:
        return bytes(found)
    key = secrets.token_bytes(KEY_BYTES)
    connection.execute(
        table.insert().values(
            agreement=named.agreement, epoch=named.epoch, epoch_entries=length, key=key
        )
    )
    return key


def _length(schedule: Schedule | None) -> int:
    # Part of a key's identity: a schedule that comes later numbers the epochs anew.
    return 0 if schedule is None else schedule.epoch_entries


def _needed(history: History, index: int, now: int) -> str | None:
    """Return why a statement must stay, None where it may go."""
    entry = history.entries[index]
    for agreement in sorted(history.agreements_under(index) - set(history.shredded)):
        logged = history.by_index.get(agreement)
        if logged is None or not isinstance(logged.statement, Agreement):
            return f"the agreement of entry {agreement} cannot be read"
        ended = logged.statement.terms.until < min(now, history.entries[-1].time)
        if not ended and not history.revoked_before(logged.id, history.size):
            return f"the agreement of entry {agreement} is still in force"
    for job in sorted(_jobs(history, entry)):
        if not _over(history, job, now):
            return f"the job of entry {job} is not over"
    if entry.kind == Receipt.kind and not _accounted(history, entry):
        return "the epoch of this receipt is not closed and indexed yet"
    return None


def _jobs(history: History, entry: Entry) -> set[int]:
    """Return the jobs that an entry belongs to; of an agreement, all that rest on it."""
    if entry.kind == "job":
        return {entry.index}
    if entry.kind == "agreement":
        later = history.entries[entry.index + 1 :]
        return {
            item.index for item in later if item.kind == "job" and entry.index in item.references
        }
    named = (item for item in entry.references if item is not None)
    return {item for item in named if history.entries[item].kind == "job"}


def _over(history: History, job: int, now: int) -> bool:
    """Whether nothing more can be logged of a job: it is billed, or no grant of it is valid."""
    logged = history.by_index.get(job)
    if logged is None or logged.id in history.settled:
        return True
    return all(
        item.statement.until < now
        for item in history.by_index.values()
        if isinstance(item.statement, Grant) and item.statement.job == logged.id
    )


def _accounted(history: History, receipt: Entry) -> bool:
    """Whether the closes and the index that count a receipt are logged; they need its text."""
    if history.schedule is None:
        return True
    number = history.schedule.epoch_of(receipt.index)
    asset = history.by_index.get(receipt.references[0] or 0)
    close = None if asset is None else history.last_close(asset.id)
    closed = close is not None and close[1].number >= number
    return closed and len(history.use_indexes) > number


def _still_there(connection: sa.Connection, indexes: Sequence[int]) -> list[Erased]:
    table, found = store.entries, []
    for start in range(0, len(indexes), CHUNK):
        query = sa.select(table.c.index, table.c.data, table.c.statement_id).where(
            table.c.index.in_(indexes[start : start + CHUNK]), table.c.envelope.is_not(None)
        )
        for index, data, statement_id in connection.execute(query.order_by(table.c.index)):
            found.append(Erased(index, Entry.from_bytes(data).kind, statement_id))
    return found


def _forget(connection: sa.Connection, history: History, erased: Sequence[Erased]) -> None:
    """Empty the rows, and destroy every view key that could open one of these statements."""
    entries, keys = store.entries, view_keys
    if connection.dialect.name == "sqlite":
        # Freed space is overwritten at once, also where the rewrite below is refused.
        connection.exec_driver_sql("PRAGMA secure_delete = ON")
    schedules = {None, history.schedule}
    named = {
        view
        for item in erased
        for schedule in schedules
        for view in views_of(history.agreements_under(item.index), item.index, schedule)
    }
    for view in sorted(named):
        connection.execute(
            keys.delete().where(keys.c.agreement == view.agreement, keys.c.epoch == view.epoch)
        )
    indexes = [item.index for item in erased]
    for start in range(0, len(indexes), CHUNK):
        connection.execute(
            entries.update()
            .where(entries.c.index.in_(indexes[start : start + CHUNK]))
            .values(envelope=None, salt=None)
        )


def _rewrite(engine: sa.Engine) -> None:
    """Make the database's files forget what its tables have forgotten.

    SQLite: the file is written anew without freed pages, and the write-ahead log is emptied.
    PostgreSQL: every table is; its write-ahead log keeps the bytes until it is recycled.
    """
    engine.dispose()
    if engine.dialect.name == "postgresql":
        _rewrite_tables(engine)
        return
    raw = engine.raw_connection()
    try:
        # Past the engine, which would begin a transaction: the file is rewritten outside of any.
        driver: Any = raw.driver_connection
        driver.isolation_level = None
        # Nobody else should be there; whoever is will not leave soon.
        driver.execute("PRAGMA busy_timeout = 200")
        driver.execute("PRAGMA secure_delete = ON")
        driver.execute("VACUUM")
        busy, _, _ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy == 1:
            raise LogError("somebody else reads the database; stop it, and start again")
    except engine.dialect.loaded_dbapi.Error as error:
        raise LogError(f"the database cannot be rewritten now: {error}; start again") from error
    finally:
        # Not given back to a pool with another patience than the others.
        raw.invalidate()
        raw.close()


def _rewrite_tables(engine: sa.Engine) -> None:
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # All tables: others may have held copies, and whoever calls this stands still anyway.
            connection.exec_driver_sql("VACUUM FULL")
    except sa.exc.DBAPIError as error:
        raise LogError(
            f"the database cannot be rewritten now: {error.orig}; start again"
        ) from error
