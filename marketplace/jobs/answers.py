"""What providers and nodes answer to a job: grants, receipts and refusals."""

from __future__ import annotations

from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from ledger.statements import Grant, Receipt
from marketplace.agreements.tables import Agreement
from marketplace.catalog.tables import Asset
from marketplace.context import Context, Verified
from marketplace.errors import ConflictError, NotFoundError, TermsError
from marketplace.jobs import moves, schemas, states
from marketplace.jobs.tables import Job, JobParty
from marketplace.participants.access import Caller, still_enrolled
from marketplace.participants.tables import Participant


def asked(caller: Caller) -> SelectOfScalar[JobParty]:
    """Return the query that every look at a provider's parts in jobs starts from."""
    return select(JobParty).where(JobParty.provider_id == caller.id)


def requests(session: Session, context: Context, caller: Caller) -> list[schemas.RequestView]:
    """Return the open jobs that wait for the caller's grant or refusal, in log order.

    Only those that the shown checkpoint covers: a node refuses a job that it cannot see in the log.
    """
    query = (
        asked(caller)
        .where(JobParty.state == "waiting")
        .where(col(JobParty.job_id).in_(select(Job.id).where(Job.state == states.INITIAL)))
    )
    known = context.log.history.by_id
    found = [
        schemas.RequestView(job=row.job_id, index=known[row.job_id].index, asset=row.asset_id)
        for row in session.exec(query).all()
        if row.job_id in known and known[row.job_id].index < context.log.size
    ]
    return sorted(found, key=lambda item: (item.index, item.asset))


def grant(session: Session, context: Context, caller: Caller, verified: Verified[Grant]) -> str:
    """Store a grant; the last one that a job waits for makes it ready to run.

    Raises:
        ForbiddenError: the grant is another provider's.
        NotFoundError: no such job, or it does not use an asset of the caller's.
        TermsError: something that the grant rests on was revoked.
        TransitionError: this party has answered already.
    """
    statement = verified.statement
    caller.must_be(statement.provider)
    still_enrolled(session, caller)
    party = _party(session, caller, statement.job, statement.asset)
    job = session.get_one(Job, party.job_id)
    if party.grant_id == verified.id:
        return verified.id
    states.check_party(party.state, "granted")
    if job.state != states.INITIAL:
        raise ConflictError(f"the job is {job.state} and waits for no grant", code="not_waiting")
    if not context.insecure_skip_checks:
        _nothing_revoked(session, job, party)
    party.state, party.grant_id = "granted", verified.id
    session.flush()
    if all(each.state == "granted" for each in moves.parties(session, job.id)):
        moves.move(session, job, "granted", context.clock())
    return context.submit(session, verified.envelope)


def receipt(session: Session, context: Context, caller: Caller, verified: Verified[Receipt]) -> str:
    """Store a node's receipt; one that is not completed ends the job, unless a worker has it.

    Raises:
        ForbiddenError: the receipt is of another provider's node.
        NotFoundError: no such asset; no such job, except where a refusal says so itself.
        TransitionError: this party's receipt is stored already.
    """
    statement = verified.statement
    asset = session.get(Asset, statement.asset)
    if asset is None:
        raise NotFoundError("there is no such asset")
    caller.must_be(asset.provider_id)
    still_enrolled(session, caller)
    if asset.revoked is not None:
        raise ConflictError("the asset was revoked, and its node's key with it", code="revoked")
    party = _find_party(session, caller, statement.job, statement.asset)
    if party is None:
        if statement.state == "completed":
            raise NotFoundError("there is no such job that uses this asset")
        # A refusal may name a job that is not here, or not on this asset: that is why it refuses.
        return context.submit(session, verified.envelope)
    if party.receipt_id == verified.id:
        return verified.id
    if party.receipt_id is None:
        _answered(session, context, party, verified)
    elif statement.state == "completed":
        states.check_party(party.state, "completed")
    # A second refusal (asked again, refused again) is logged and changes nothing else.
    return context.submit(session, verified.envelope)


def _answered(
    session: Session, context: Context, party: JobParty, verified: Verified[Receipt]
) -> None:
    statement = verified.statement
    states.check_party(party.state, statement.state)
    party.state, party.reason = statement.state, statement.reason
    party.receipt_id = verified.id
    session.flush()
    job = session.get_one(Job, party.job_id)
    if statement.state == "completed":
        moves.completed(session, context, job, party)
    # While a worker runs the job, the worker ends it: it hears from every node.
    if statement.state != "completed" and job.state in ("requested", "granted"):
        ended: states.State = "refused" if statement.state == "refused" else "failed"
        reason = statement.reason or ended
        message = f"{ended}: {moves.listed(session, job.id, {party.asset_id: reason})}"
        moves.end(session, context, job, ended, reason=reason, message=message)


def _party(session: Session, caller: Caller, job_id: str, asset_id: str) -> JobParty:
    row = _find_party(session, caller, job_id, asset_id)
    if row is None:
        raise NotFoundError("there is no such job that uses this asset")
    return row


def _find_party(session: Session, caller: Caller, job_id: str, asset_id: str) -> JobParty | None:
    query = asked(caller).where(JobParty.job_id == job_id, JobParty.asset_id == asset_id)
    return session.exec(query).first()


def _nothing_revoked(session: Session, job: Job, party: JobParty) -> None:
    # The log was asked before this transaction; a revocation may have come in between.
    rows = (
        session.get_one(Agreement, party.agreement_id),
        session.get_one(Asset, party.asset_id),
        session.get_one(Participant, job.researcher_id),
    )
    if any(row.revoked is not None for row in rows):
        raise TermsError(
            "the agreement, the asset or the researcher's key was revoked", code="revoked"
        )
