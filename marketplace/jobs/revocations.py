"""What a revocation ends, besides what the log says of it: keys, offers, and jobs under way."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session, col, or_, select

from ledger.ids import parse_id
from ledger.statements import Revocation
from marketplace.agreements.tables import Agreement
from marketplace.catalog.tables import Asset, Offer
from marketplace.context import Context, Verified
from marketplace.errors import ConflictError
from marketplace.jobs import moves, states
from marketplace.jobs.tables import Job, JobParty
from marketplace.participants.access import Caller, still_enrolled
from marketplace.participants.tables import Participant

_TABLES: dict[str, type[Any]] = {
    "participant": Participant,
    "asset": Asset,
    "offer": Offer,
    "agreement": Agreement,
}


def revoke(
    session: Session, context: Context, caller: Caller, verified: Verified[Revocation]
) -> str:
    """Store a revocation, mark its target and stop the open jobs that rest on it.

    Raises:
        ForbiddenError: issued in another's name. That the target is the issuer's to revoke was
            checked with the log's rules.
        ConflictError: of a job, which is revoked by how it ends (`moves.end`).
    """
    statement, now = verified.statement, context.clock()
    caller.must_be(statement.issuer)
    still_enrolled(session, caller)
    kind = parse_id(statement.target)[0]
    if kind == "job":
        raise ConflictError(
            "a job is revoked by this service when it ends without a result; to end it, its "
            "researcher cancels it",
            code="not_revocable",
        )
    table = _TABLES.get(kind)
    if table is not None:
        row = session.get_one(table, statement.target)
        row.revoked = row.revoked or now
    for job in _resting_on(session, statement.target):
        moves.end(
            session,
            context,
            job,
            "refused",
            reason="revoked",
            message=f"{statement.target} was revoked: {statement.cause}",
            reasons=_touched(session, job, statement.target),
        )
    session.flush()
    return context.submit(session, verified.envelope)


def _touched(session: Session, job: Job, target: str) -> dict[str, str]:
    """Return the parties of a job that rest on what was revoked, with their reason."""
    return {
        party.asset_id: "revoked"
        for party in moves.parties(session, job.id)
        if target
        in (
            *(party.asset_id, party.agreement_id, party.grant_id),
            *(party.provider_id, job.researcher_id),
        )
    }


def _resting_on(session: Session, target: str) -> list[Job]:
    named = select(JobParty.job_id).where(
        or_(
            JobParty.asset_id == target,
            JobParty.agreement_id == target,
            JobParty.grant_id == target,
            JobParty.provider_id == target,
        )
    )
    query = select(Job).where(
        col(Job.state).in_(states.OPEN),
        or_(Job.researcher_id == target, col(Job.id).in_(named)),
    )
    return list(session.exec(query).all())
