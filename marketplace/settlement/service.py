"""Billing a release, and looking at bills and balances."""

from __future__ import annotations

from sqlmodel import Session, col, func, or_, select
from sqlmodel.sql.expression import SelectOfScalar

from ledger.statements import Agreement, Job, Line, Receipt, Settlement, postings
from marketplace.context import Context
from marketplace.jobs.tables import JobParty
from marketplace.participants.access import Caller
from marketplace.settlement.schemas import AccountView, LineView, PostingView, SettlementView
from marketplace.settlement.tables import PostingRow, SettlementRow


def line(agreement_id: str, agreement: Agreement) -> Line:
    """Part one price into the operator's fee, as agreed, and the provider's share."""
    price, fee = agreement.price_cents, agreement.fee_cents
    return Line(agreement_id, agreement.provider, price, fee, price - fee)


def settle(session: Session, context: Context, job_id: str, job: Job, release_id: str) -> str:
    """Bill a release, in the transaction that stores it; return the settlement's id.

    Who dropped out is not in the result and not on the bill.
    """
    completed = context.log.history.completed.get(job_id, [])
    assets = {logged.read_as(Receipt).asset for logged in completed}
    used = zip(job.assets, job.agreements, strict=True)
    lines = tuple(
        line(agreement, context.find(agreement, Agreement))
        for asset, agreement in used
        if asset in assets
    )
    now = context.clock()
    statement = Settlement(
        job=job_id,
        release=release_id,
        researcher=job.researcher,
        lines=lines,
        total_cents=sum(each.price_cents for each in lines),
        postings=postings(job.researcher, lines),
        issued=now,
    )
    settlement_id = context.submit(session, statement.sign(context.operator_key))
    session.add(
        SettlementRow(
            id=settlement_id,
            job_id=job_id,
            researcher_id=job.researcher,
            total_cents=statement.total_cents,
            created=now,
        )
    )
    session.flush()
    for position, posting in enumerate(statement.postings):
        session.add(
            PostingRow(
                settlement_id=settlement_id,
                position=position,
                account=posting.account,
                amount_cents=posting.amount_cents,
            )
        )
    return settlement_id


def readable(caller: Caller) -> SelectOfScalar[SettlementRow]:
    """Return the query that every look at settlements starts from.

    The researcher's own, those of jobs on a provider's assets, all for auditors and operator.
    """
    if caller.sees_all:
        return select(SettlementRow)
    provided = select(JobParty.job_id).where(JobParty.provider_id == caller.id)
    return select(SettlementRow).where(
        or_(SettlementRow.researcher_id == caller.id, col(SettlementRow.job_id).in_(provided))
    )


def accounts_of(caller: Caller) -> SelectOfScalar[str]:
    """Return the query for the accounts that the caller may see: its own, or all."""
    query = select(PostingRow.account)
    if caller.sees_all:
        return query
    own = (f"payable/{caller.id}", f"receivable/{caller.id}")
    return query.where(col(PostingRow.account).in_(own))


def settlements(session: Session, context: Context, caller: Caller) -> list[SettlementView]:
    """Return the bills that the caller may see and the log covers, oldest first."""
    query = readable(caller).order_by(col(SettlementRow.created), col(SettlementRow.id))
    known = context.log.history.by_id
    return [_view(context, row) for row in session.exec(query).all() if row.id in known]


def accounts(session: Session, caller: Caller) -> list[AccountView]:
    """Return balances in cents, by account."""
    query = (
        select(PostingRow.account, func.sum(PostingRow.amount_cents))
        .where(col(PostingRow.account).in_(accounts_of(caller)))
        .group_by(col(PostingRow.account))
        .order_by(col(PostingRow.account))
    )
    return [
        AccountView(account=account, balance_cents=int(balance))
        for account, balance in session.exec(query).all()
    ]


def _view(context: Context, row: SettlementRow) -> SettlementView:
    statement = context.find(row.id, Settlement)
    return SettlementView(
        id=row.id,
        index=context.entry(row.id).index,
        job=statement.job,
        release=statement.release,
        researcher=statement.researcher,
        total_cents=statement.total_cents,
        lines=[LineView(**each.payload()) for each in statement.lines],
        postings=[PostingView(**each.payload()) for each in statement.postings],
        created=row.created,
    )
