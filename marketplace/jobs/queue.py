"""Whose job is next, and how many jobs one researcher may have.

The rule: the next job is one of the researcher who has the fewest running jobs, among those of the
one who was served least recently, and of that researcher's jobs the oldest. Whoever has as many
running as one may have is passed over. So somebody who hands in a thousand jobs keeps nobody else
waiting for more than one of them.

    choose([Waiting("a", 1, 0, 5), Waiting("b", 0, 9, 7)], most=4)      # "b"

A job whose lease ended is not running: its worker is gone, and it waits like a granted one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement
from sqlmodel import Session, and_, col, func, or_, select

from marketplace.errors import LimitError
from marketplace.jobs import states
from marketplace.jobs.tables import Job


@dataclass(frozen=True)
class Waiting:
    """A researcher with at least one job that could run now.

    Attributes:
        researcher: id of its participant.
        running: how many of its jobs run under a lease that holds.
        served: when a worker last took one of its jobs, Unix milliseconds; -1 for never.
        oldest: when the oldest job that waits was handed in, Unix milliseconds.
    """

    researcher: str
    running: int
    served: int
    oldest: int


def choose(waiting: Iterable[Waiting], most: int) -> str | None:
    """Return the researcher whose job is next, None when all have as many running as they may.

    Args:
        waiting: one for each researcher.
        most: jobs of one researcher that may run at the same time.
    """
    fair = sorted(
        (each.running, each.served, each.oldest, each.researcher)
        for each in waiting
        if each.running < most
    )
    return fair[0][-1] if fair else None


def next_job(session: Session, now: int, most: int) -> Job | None:
    """Return the job that a worker may take now, None when there is none.

    Args:
        session: a writing one, if the job is to be taken: nobody else may choose meanwhile.
        now: Unix milliseconds.
        most: jobs of one researcher that may run at the same time.
    """
    researcher = choose(_waiting(session, now), most)
    if researcher is None:
        return None
    query = (
        select(Job)
        .where(_ready(now), Job.researcher_id == researcher)
        .order_by(col(Job.created), col(Job.id))
        .limit(1)
    )
    return session.exec(query).first()


def must_have_room(session: Session, researcher: str, most: int) -> None:
    """Return only if a researcher may hand in one more job.

    Raises:
        LimitError: it has as many open jobs as one may have.
    """
    query = (
        select(func.count())
        .select_from(Job)
        .where(Job.researcher_id == researcher, col(Job.state).in_(states.OPEN))
    )
    found = session.exec(query).one()
    if found >= most:
        raise LimitError(
            f"{found} of your jobs have not ended, and one researcher may have {most}: wait until "
            "one has ended, or cancel one, and send this again",
            code="too_many_open_jobs",
        )


def _ready(now: int) -> ColumnElement[bool]:
    ended = and_(Job.state == "running", col(Job.lease_until) < now)
    return or_(col(Job.state) == "granted", ended)


def _waiting(session: Session, now: int) -> list[Waiting]:
    oldest = dict(
        session.exec(
            select(Job.researcher_id, func.min(Job.created))
            .where(_ready(now))
            .group_by(col(Job.researcher_id))
        ).all()
    )
    if not oldest:
        return []
    running = dict(
        session.exec(
            select(Job.researcher_id, func.count())
            .where(Job.state == "running", col(Job.lease_until) >= now)
            .group_by(col(Job.researcher_id))
        ).all()
    )
    # One look-up in the index for each of those who wait, however many jobs they had before.
    served = {name: _served(session, name) for name in oldest}
    return [
        Waiting(name, running.get(name, 0), served[name], created)
        for name, created in oldest.items()
    ]


def _served(session: Session, researcher: str) -> int:
    query = select(func.max(Job.claimed)).where(Job.researcher_id == researcher)
    found = session.exec(query).one()
    return -1 if found is None else int(found)
