"""How often an agreement was used: reserved by open jobs, spent by completed receipts.

Of a job that ends without a result nothing is used: what its nodes completed is given back.

A reservation is made in the transaction that stores the job, which holds the database's write lock
from its first statement on. So two jobs that race for the last use are decided one after the other,
and the second one finds it gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from sqlmodel import Session, col, func, or_, select
from sqlmodel.sql.expression import SelectOfScalar

from ledger.statements import Agreement as AgreementStatement
from ledger.terms import Request, evaluate
from marketplace.agreements.schemas import AgreementView
from marketplace.agreements.tables import Agreement, Use
from marketplace.catalog.tables import Asset
from marketplace.context import Context
from marketplace.errors import NotFoundError, TermsError
from marketplace.participants.access import Caller


def readable(caller: Caller) -> SelectOfScalar[Agreement]:
    """Return the query that every look at agreements starts from: the caller's own."""
    return select(Agreement).where(
        or_(Agreement.provider_id == caller.id, Agreement.researcher_id == caller.id)
    )


def reserve(
    session: Session, context: Context, agreement_id: str, job_id: str, request: Request
) -> Agreement:
    """Reserve one use for a job, if the terms permit it now; return the agreement.

    Raises:
        NotFoundError: there is no such agreement.
        TermsError: revoked, or the terms' own reason; never while checks are bypassed.
    """
    row = session.get(Agreement, agreement_id)
    if row is None:
        raise NotFoundError("there is no such agreement")
    if not context.insecure_skip_checks:
        _permit(session, context, row, request)
    session.add(
        Use(
            agreement_id=row.id,
            job_id=job_id,
            asset_id=row.asset_id,
            state="reserved",
            changed=request.time,
        )
    )
    return row


def _permit(session: Session, context: Context, row: Agreement, request: Request) -> None:
    asset = session.get_one(Asset, row.asset_id)
    if row.revoked is not None or asset.revoked is not None:
        raise TermsError("the agreement or its asset was revoked", code="revoked")
    terms = context.find(row.id, AgreementStatement).terms
    counted = count(session, row.id)
    decision = evaluate(terms, request, counted["spent"] + counted["reserved"])
    if decision.reason is not None:
        raise TermsError(f"{row.id}: {decision.detail}", code=decision.reason)


def count(session: Session, agreement_id: str) -> Counter[str]:
    """Return how many uses of an agreement are in each state."""
    query = (
        select(Use.state, func.count())
        .where(Use.agreement_id == agreement_id)
        .group_by(col(Use.state))
    )
    return Counter(dict(session.exec(query).all()))


def spend(session: Session, job_id: str, agreement_id: str, now: int) -> None:
    """Turn a job's reservation into a use: the node completed it."""
    use = session.get_one(Use, (agreement_id, job_id))
    if use.state == "spent":
        return
    use.state, use.changed = "spent", now
    session.get_one(Asset, use.asset_id).uses += 1


def give_back(session: Session, job_id: str, now: int) -> None:
    """Return what a job that ended had reserved and not used."""
    query = select(Use).where(Use.job_id == job_id, Use.state == "reserved")
    for use in session.exec(query).all():
        use.state, use.changed = "returned", now


def take_back(session: Session, job_id: str, now: int) -> None:
    """Return also what a job used that was revoked, since nothing of it is released."""
    query = select(Use).where(Use.job_id == job_id, Use.state == "spent")
    for use in session.exec(query).all():
        use.state, use.changed = "returned", now
        session.get_one(Asset, use.asset_id).uses -= 1


def agreements(session: Session, context: Context, caller: Caller) -> list[AgreementView]:
    """Return the caller's agreements that the log covers, oldest first."""
    rows = session.exec(readable(caller).order_by(col(Agreement.created), col(Agreement.id))).all()
    known: Collection[str] = context.log.history.by_id
    return [_view(session, context, row) for row in rows if row.id in known]


def agreement(
    session: Session, context: Context, caller: Caller, agreement_id: str
) -> AgreementView:
    """Return one of the caller's agreements.

    Raises:
        NotFoundError: the caller has none with this id.
    """
    row = session.exec(readable(caller).where(Agreement.id == agreement_id)).first()
    if row is None:
        raise NotFoundError("there is no such agreement")
    return _view(session, context, row)


def _view(session: Session, context: Context, row: Agreement) -> AgreementView:
    statement, counted = context.find(row.id, AgreementStatement), count(session, row.id)
    return AgreementView(
        id=row.id,
        index=context.entry(row.id).index,
        asset=row.asset_id,
        offer=statement.offer,
        provider=row.provider_id,
        researcher=row.researcher_id,
        terms=statement.terms.payload(),
        preparation=statement.preparation,
        price_cents=statement.price_cents,
        fee_ppm=statement.fee_ppm,
        uses_spent=counted["spent"],
        uses_reserved=counted["reserved"],
        uses_left=max(0, statement.terms.uses - counted["spent"] - counted["reserved"]),
        created=row.created,
        revoked=row.revoked,
    )
