"""The node's accounts towards the log: receipts and closes of epochs, none of them missing.

    books.compare()                  # what the log holds of this node stands in the journal too
    books.hand_in()                  # what was signed and not taken, in order
    books.close_next()               # sign the close of the next ended epoch

A statement is signed in the transaction that writes its line and keeps its bytes. So a crash before
leaves nothing, and a crash after leaves a statement that is handed in at the next occasion, the
same bytes each time. Nothing is signed over a journal that has lost lines: the log would hold two
histories of one node.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from federated.errors import (
    FederatedError,
    JournalError,
    NotTakenError,
    RefusedError,
    TooEarlyError,
)
from federated.node.failure import log_reason
from federated.node.journal import Book, Journal
from federated.node.service import Service
from ledger.client import LogClient
from ledger.errors import LedgerError, LogError
from ledger.history import Logged
from ledger.keys import SigningKey
from ledger.statements import Contribution, Epoch, JournalPosition, JournalSpan, Receipt

ABANDONED_MS = 3_600_000
"""How long nothing may happen at a job that was launched: an hour. Rounds take seconds, and whoever
takes a job over does so after minutes."""
ASK_MS = 10_000
"""How long nothing happened at a job when the marketplace is asked whether it goes on with it."""
NO_CODE = "sha256:" + 64 * "0"
"""What an account says of code where none was begun."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Account:
    """What a node says of its part in one job; the journal's position is added when it is signed.

    Attributes:
        state: `completed`, `failed` or `refused`, with the reason of the latter two.
        log_size: entries that the node had read when it acted.
    """

    job: str
    grant: str | None
    state: str
    reason: str | None
    code_digest: str
    log_size: int
    sent: tuple[Contribution, ...]


class Books:
    """One node's accounts.

    Args:
        asset: the asset that the node guards.
        key: the node's.
        log: reads and verifies the log.
        service: where statements are handed in.
        journal: the node's own.
        clock: returns Unix milliseconds.
    """

    def __init__(
        self,
        asset: str,
        key: SigningKey,
        *,
        log: LogClient,
        service: Service,
        journal: Journal,
        clock: Callable[[], int],
    ) -> None:
        self._asset = asset
        self._key = key
        self._log = log
        self._service = service
        self._journal = journal
        self._clock = clock
        self._compared = 0
        self._refused: set[str] = set()
        # By job: its number of replies, and since when it is that.
        self._under_way: dict[str, tuple[int, int]] = {}

    def sync(self, checkpoint: bytes | None = None) -> None:
        """Read the log on to its newest checkpoint, and hold the journal against it.

        Args:
            checkpoint: see `LogClient.sync`.

        Raises:
            JournalCutError: the journal has lost lines that the log knows of.
            LedgerError: the log does not answer, or cannot be believed.
        """
        self._log.sync(checkpoint)
        self.compare()

    def read_on(self, checkpoint: bytes | None = None) -> None:
        """As `sync`, before something is computed under what the log shows.

        Raises:
            RefusedError: what it shows cannot be believed, or is too old to act upon.
            JournalCutError: as `sync`.
            LogError: it does not answer.
        """
        try:
            self.sync(checkpoint)
        except LogError:
            raise
        except LedgerError as error:
            raise RefusedError(log_reason(error), f"the log is not believed: {error}") from error

    def compare(self) -> None:
        """Hold what the log has of this node's statements against the journal, new entries only.

        Raises:
            JournalCutError: the journal has lost lines that the node signed over.
        """
        history = self._log.history
        listed = history.by_id.get(self._asset)
        if listed is None or self._compared == history.size:
            return
        receipts = _from(history.receipts.get(listed.index, []), self._compared)
        new = [*receipts, *_from(history.closes.get(self._asset, []), self._compared)]
        if new:
            with self._journal.write() as book:
                for logged in new:
                    book.must_continue(_signed_over(logged), logged.id)
        self._compared = history.size

    def finish(self, book: Book, account: Account) -> bytes:
        """Sign the receipt of a job and write the line that ends it; return the receipt.

        Raises:
            LedgerError: the job's id is none, or the reason none of the fixed words.
        """
        receipt = Receipt(
            asset=self._asset,
            job=account.job,
            grant=account.grant,
            state=account.state,
            reason=account.reason,
            code_digest=account.code_digest,
            log_size=account.log_size,
            rows=book.rows_used(account.job, self._asset) if account.sent else 0,
            contributions=account.sent,
            journal=book.position(),
            issued=self._clock(),
        ).sign(self._key)
        book.finish(account.job, self._asset, account.state, receipt)
        return receipt

    def note_failure(self, job_id: str, word: str, error: Exception) -> None:
        """Write down that a request was answered with a failure, if the journal can be written."""
        # Of a journal that cannot be written, or that has lost lines, no further line is made.
        if isinstance(error, JournalError):
            return
        try:
            with self._journal.write() as book:
                book.fail(job_id, self._asset, word)
        except (FederatedError, LedgerError) as failed:
            _log.warning("the failure could not be written down: %s", failed)

    def abandoned(self) -> list[str]:
        """Return the jobs that were launched and that nobody goes on with.

        Nothing happened at them for `ABANDONED_MS`, or for `ASK_MS` and the marketplace says that
        they have ended: a node that was lost for a while did not hear of it. Each must end some
        time, or its launch would stand in the journal as never accounted for.
        Counted from when this process first saw the job, so a restart waits anew.
        """
        now = self._clock()
        with self._journal.read() as book:
            open_jobs = book.under_way(self._asset)
        before, self._under_way = self._under_way, {}
        for job, replies in open_jobs.items():
            seen = before.get(job)
            since = seen[1] if seen is not None and seen[0] == replies else now
            self._under_way[job] = (replies, since)
        quiet = {job: now - since for job, (_, since) in self._under_way.items()}
        return [
            job
            for job, silent in quiet.items()
            if silent >= ABANDONED_MS or (silent >= ASK_MS and self._service.has_ended(job))
        ]

    def close_next(self) -> str | None:
        """Sign the close of the next epoch that has ended; None where there is none to close now.

        The epoch must have ended in what this node has read. While an earlier close waits to be
        taken, no further one is signed.

        Raises:
            EvidenceError: the log withholds receipts of this node.
            JournalError: the disk refuses.
        """
        history, schedule = self._log.history, self._log.history.schedule
        listed = history.by_id.get(self._asset)
        if schedule is None or listed is None or self._has_ended():
            return None
        with self._journal.write() as book:
            if any(item.kind == "epoch" for item in book.waiting()):
                return None
            last = book.last_close(self._asset)
            number = schedule.epoch_of(listed.index) if last is None else last[1].number + 1
            if number >= schedule.ended(history.size):
                return None
            start, stop = schedule.start(number), schedule.start(number + 1)
            first = 1 if last is None else last[1].journal.last + 1
            position = book.position()
            statement = Epoch(
                asset=self._asset,
                number=number,
                start=start,
                stop=stop,
                previous=None if last is None else last[0],
                journal=JournalSpan(first, position.sequence, position.head),
                counts=book.counts_since(first),
                uses=len(history.uses(listed.index, self._asset, start, stop)),
                issued=self._clock(),
            )
            return book.close(self._asset, number, statement.sign(self._key))

    def hand_in(self) -> None:
        """Hand in what was signed and not yet taken by the log, oldest first.

        What the marketplace refuses for good stays in the journal and is tried again after the next
        start, what comes too early at the next occasion; the rest is not kept waiting by either.

        Raises:
            NodeError: the marketplace cannot be reached; all of it waits for the next occasion.
        """
        with self._journal.read() as book:
            waiting = book.waiting()
        for item in waiting:
            if item.id in self._refused:
                continue
            try:
                if item.id not in self._log.history.by_id:
                    self._service.submit(item.kind, item.statement)
            except TooEarlyError as error:
                _log.warning("%s waits: %s", item.id[:24], error)
                continue
            except NotTakenError as error:
                _log.warning("%s was not taken: %s", item.id[:24], error)
                self._refused.add(item.id)
                continue
            # A crash here is harmless: the log takes the same bytes once.
            with self._journal.write() as book:
                book.taken(item.id)

    def try_to_hand_in(self) -> None:
        """As `hand_in`; what goes wrong is logged and left to the next occasion."""
        try:
            self.hand_in()
        except (FederatedError, LedgerError) as error:
            # The coordinator gets a receipt with the reply; the journal keeps it in any case.
            _log.warning("not handed in yet: %s", error)

    def _has_ended(self) -> bool:
        """Whether nothing that this node signs counts any more."""
        history = self._log.history
        owner = getattr(history.by_id[self._asset].statement, "provider", "")
        return any(history.revoked_before(name, history.size) for name in (self._asset, owner))


def _from(found: list[Logged], index: int) -> list[Logged]:
    """Return those that stand at an index or after it; they are in log order."""
    return found[bisect_left(found, index, key=lambda logged: logged.index) :]


def _signed_over(logged: Logged) -> JournalPosition:
    statement = logged.statement
    if isinstance(statement, Receipt):
        return statement.journal
    if isinstance(statement, Epoch):
        return JournalPosition(statement.journal.last, statement.journal.head)
    raise TypeError(type(statement).__name__)
