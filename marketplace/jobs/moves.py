"""Moving a job from state to state: one conditional update, guarded by the fencing counter.

A job that ends without a result after nodes signed that they completed it is revoked in the log, in
the same transaction: so those receipts use nothing up, and nothing of it can be released.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import update
from sqlmodel import Session, col, select

from ledger.statements import Revocation
from marketplace.agreements import uses
from marketplace.context import Context
from marketplace.errors import LeaseLostError
from marketplace.jobs import inputs, states
from marketplace.jobs.tables import Job, JobParty
from marketplace.participants.tables import Participant

MAX_MESSAGE = 4096
# Of an asset's id: the word asset, and as many digits as the commands show.
SHOWN = 18


def move(session: Session, job: Job, state: states.State, now: int) -> None:
    """Move a job, if nobody moved it since `job` was read.

    Raises:
        TransitionError: the table of moves has no such move.
        LeaseLostError: the job is not any more as it was read.
    """
    states.check(job.state, state)
    finished = now if state in states.TERMINAL else None
    fenced_update(session, job, state=state, lease_until=None, finished=finished)
    if state in states.TERMINAL:
        # Of a released job, what those had reserved who dropped out.
        uses.give_back(session, job.id, now)
        inputs.drop(session, job)


def end(
    session: Session,
    context: Context,
    job: Job,
    state: states.State,
    *,
    reason: str,
    message: str,
    reasons: Mapping[str, str] | None = None,
    others: str = states.STOPPED,
) -> None:
    """Move a job to an end without a result, and return what it had reserved and used.

    Args:
        session: a writing one.
        context: the service's.
        job: as it was read in it.
        state: one of `states.ENDS`.
        reason: the job's word.
        message: for people; names column or party.
        reasons: by asset, the word of each party that the job ended for.
        others: the word of every other party that has not handed in a receipt.

    Raises:
        TransitionError, LeaseLostError: as `move`.
    """
    move(session, job, state, context.clock())
    job.error_reason = reason
    job.error_message = message[:MAX_MESSAGE]
    everybody = parties(session, job.id)
    for party in everybody:
        # Its own receipt says more than anybody else can, and one that comes later replaces this.
        if party.receipt_id is None:
            party.reason = (reasons or {}).get(party.asset_id, others)
    if any(party.state == "completed" for party in everybody):
        _revoke(session, context, job)


def completed(session: Session, context: Context, job: Job, party: JobParty) -> None:
    """Take in that a party's node completed a job: a use, unless the job has no result.

    Args:
        session: a writing one.
        context: the service's.
        job: as it was read in it.
        party: whose state is `completed` since this transaction.
    """
    finished = [each for each in parties(session, job.id) if each.state == "completed"]
    if job.state not in states.ENDS:
        uses.spend(session, job.id, party.agreement_id, context.clock())
    elif len(finished) == 1:
        # Had another one finished before, the job would have been revoked then, or at its end.
        _revoke(session, context, job)


def _revoke(session: Session, context: Context, job: Job) -> None:
    """Revoke a job that ended without a result, and return the uses that were made of it."""
    now, cause = context.clock(), f"{job.state}: {job.error_reason}"
    revocation = Revocation(context.operator, job.id, cause, now)
    context.submit(session, revocation.sign(context.operator_key))
    uses.take_back(session, job.id, now)


def fenced_update(session: Session, job: Job, **values: object) -> None:
    """Write to a job and raise its fencing counter, if the counter is what `job` says.

    Raises:
        LeaseLostError: it is not; nothing was written.
    """
    session.flush()
    result = session.connection().execute(
        update(Job)
        .where(col(Job.id) == job.id, col(Job.fence) == job.fence)
        .values(fence=job.fence + 1, **values)
    )
    if result.rowcount != 1:
        raise LeaseLostError
    session.refresh(job)


def end_leases(session: Session) -> None:
    """End every lease: whoever held one is gone, and its next write finds another counter."""
    for job in session.exec(select(Job).where(Job.state == "running")).all():
        fenced_update(session, job, lease_until=0)


def parties(session: Session, job_id: str) -> list[JobParty]:
    """Return a job's parties, in the job's order."""
    query = select(JobParty).where(JobParty.job_id == job_id).order_by(col(JobParty.position))
    return list(session.exec(query).all())


def listed(session: Session, job_id: str, reasons: Mapping[str, str]) -> str:
    """Return the parties of a job that have a reason, as a message shows them."""
    return ", ".join(
        f"{session.get_one(Participant, party.provider_id).name} "
        f"({party.asset_id[:SHOWN]}): {reasons[party.asset_id]}"
        for party in parties(session, job_id)
        if party.asset_id in reasons
    )
