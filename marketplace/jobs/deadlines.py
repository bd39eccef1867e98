"""Ends jobs that wait too long for a grant, on a thread of its own.

    deadlines = Deadlines(context)
    deadlines.start()          # until `stop`
    deadlines.run_once()       # by hand: the job that it ended, or None

A node that never answers would hold its job, and the uses that the job reserved on every agreement,
for ever. A grant that comes in the same moment is either stored before, and the job goes on, or
finds a job that waits for nothing any more: both write under the database's lock.
"""

from __future__ import annotations

from sqlmodel import Session, col, select

from marketplace.context import Context
from marketplace.jobs import moves, states
from marketplace.jobs.tables import Job
from marketplace.repeating import Repeating

LOOK_SECONDS = 1.0


class Deadlines(Repeating):
    """Watches the jobs of a service that wait for grants.

    Args:
        context: the service's context.
    """

    def __init__(self, context: Context) -> None:
        super().__init__("deadlines", LOOK_SECONDS, LOOK_SECONDS)
        self._context = context

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
            self._end(session, job)
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

    def _end(self, session: Session, job: Job) -> None:
        reasons = {
            party.asset_id: states.NO_ANSWER
            for party in moves.parties(session, job.id)
            if party.state == "waiting"
        }
        waited = self._context.settings.grant_wait_seconds
        moves.end(
            session,
            self._context,
            job,
            "failed",
            reason=states.NO_ANSWER,
            message=f"no answer within {waited} seconds: {moves.listed(session, job.id, reasons)}",
            reasons=reasons,
        )
