"""Ends jobs that wait too long for a grant, on a thread of its own.

    deadlines = Deadlines(context)
    deadlines.start()          # until `stop`
    deadlines.run_once()       # by hand: the job that it ended, or None

A node that never answers would hold its job, and the uses that the job reserved on every agreement,
for ever. A grant that comes in the same moment is either stored before, and the job goes on, or
finds a job that waits for nothing any more: both write under the database's lock.
"""

from __future__ import annotations

import logging
import threading

from sqlmodel import Session, col, select

from marketplace.context import Context
from marketplace.errors import MarketplaceError
from marketplace.jobs import moves, states
from marketplace.jobs.tables import Job

LOOK_SECONDS = 1.0
_logger = logging.getLogger(__name__)


class Deadlines:
    """Watches the jobs of a service that wait for grants.

    Args:
        context: the service's context.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Run in a thread of its own until `stop`."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the job at hand."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def run_once(self) -> str | None:
        """End one job that has waited too long; return its id, None when there is none.

        Raises:
            MarketplaceError: the database is busy.
        """
        now = self._context.clock()
        # Looked at without the write lock first: nobody waits for a look that finds nothing.
        with self._context.reading() as session:
            if self._overdue(session, now) is None:
                return None
        with self._context.writing() as session:
            job = self._overdue(session, now)
            if job is None:
                return None
            self._end(session, job, now)
            return job.id

    def _overdue(self, session: Session, now: int) -> Job | None:
        begun = now - self._context.settings.grant_wait_seconds * 1000
        query = (
            select(Job)
            .where(Job.state == states.INITIAL, col(Job.created) < begun)
            .order_by(col(Job.created), col(Job.id))
            .limit(1)
        )
        return session.exec(query).first()

    def _end(self, session: Session, job: Job, now: int) -> None:
        reasons = {
            party.asset_id: states.NO_ANSWER
            for party in moves.parties(session, job.id)
            if party.state == "waiting"
        }
        waited = self._context.settings.grant_wait_seconds
        moves.end(
            session,
            job,
            "failed",
            now,
            reason=states.NO_ANSWER,
            message=f"no answer within {waited} seconds: {moves.listed(session, job.id, reasons)}",
            reasons=reasons,
        )

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                while self.run_once() is not None and not self._stopping.is_set():
                    pass
            except MarketplaceError as error:
                _logger.warning("jobs without an answer could not be ended yet: %s", error)
            except Exception:
                # The next look comes; jobs that do get their answers must not suffer.
                _logger.exception("the watch over unanswered jobs met an unexpected error")
