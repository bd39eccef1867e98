"""The log's schedule, the closes that nodes hand in, and the index of each epoch that has ended.

The log's rules decide what a close or an index may say (`ledger.epoch_rules`). The rows written
here, in the transaction of the statement, decide that nothing is said twice: a second close of an
epoch, or a second index, would be a finding that stays in the log for good.
"""

from __future__ import annotations

from sqlmodel import Session, func, select

from ledger import store
from ledger.statements import Epoch, Schedule, UseIndex
from ledger.use_index import root_of, sorted_tags, tag
from marketplace.catalog.service import tag_key
from marketplace.catalog.tables import Asset
from marketplace.context import Context, Verified
from marketplace.epochs.tables import ONE, CloseRow, IndexRow, ScheduleRow
from marketplace.errors import ConflictError, NotFoundError
from marketplace.participants.access import Caller, still_enrolled


def begin(context: Context) -> str | None:
    """Give a new log the schedule of the settings; an older log keeps what it has, also none.

    Returns:
        The schedule's id; None where nothing was done.
    """
    settings = context.settings
    if settings.epoch_entries == 0:
        return None
    with context.writing() as session:
        if session.get(ScheduleRow, ONE) is not None or not _is_new(session):
            return None
        return schedule(session, context, settings.epoch_entries, settings.grace_entries)


def schedule(session: Session, context: Context, epoch_entries: int, grace_entries: int) -> str:
    """Sign and store the log's schedule; return its id.

    Raises:
        ConflictError: the log has one, and a log has one for good.
    """
    if session.get(ScheduleRow, ONE) is not None:
        raise ConflictError("the log has a schedule, and keeps it for good", code="second_schedule")
    statement = Schedule(epoch_entries, grace_entries, context.clock())
    found = context.submit(session, statement.sign(context.operator_key))
    session.add(ScheduleRow(statement_id=found))
    return found


def close(session: Session, context: Context, caller: Caller, verified: Verified[Epoch]) -> str:
    """Store a node's close of an epoch; the same bytes again change nothing.

    Raises:
        NotFoundError: no such asset.
        ForbiddenError: the close is of another provider's node.
        ConflictError: the epoch was closed already, or the asset was revoked.
    """
    statement = verified.statement
    asset = session.get(Asset, statement.asset)
    if asset is None:
        raise NotFoundError("there is no such asset")
    caller.must_be(asset.provider_id)
    still_enrolled(session, caller)
    stored = session.get(CloseRow, (statement.asset, statement.number))
    if stored is not None:
        if stored.statement_id != verified.id:
            raise ConflictError(
                f"epoch {statement.number} was closed with other words", code="second_close"
            )
        return verified.id
    if asset.revoked is not None:
        raise ConflictError("the asset was revoked, and its node's key with it", code="revoked")
    row = CloseRow(asset_id=asset.id, number=statement.number, statement_id=verified.id)
    session.add(row)
    session.flush()
    return context.submit(session, verified.envelope)


def is_due(context: Context) -> bool:
    """Whether an epoch has ended that has no index yet; a look at memory alone."""
    history = context.log.history
    planned = history.schedule
    return planned is not None and planned.ended(context.log.size) > history.next_use_index


def index_next(context: Context) -> str | None:
    """Sign and store the index of the next epoch that has ended; return its id.

    A crash before the commit leaves nothing, one after it leaves a statement that the log takes at
    its next start; the row keeps a second one from being made.

    Returns:
        None where there is nothing to do now, as while an index is on its way into the log.

    Raises:
        EvidenceError: a receipt of that epoch was erased before it was indexed.
    """
    history = context.log.history
    planned, number = history.schedule, history.next_use_index
    if planned is None or number >= planned.ended(context.log.size):
        return None
    start, stop = planned.start(number), planned.start(number + 1)
    used = history.used_assets(start, stop)
    with context.writing() as session:
        stored = session.exec(select(func.count()).select_from(IndexRow)).one()
        if stored != number:
            return None
        tags = sorted_tags(tag(tag_key(session, asset), asset, number) for asset in used)
        statement = UseIndex(number, start, stop, len(tags), root_of(tags), context.clock())
        found = context.submit(session, statement.sign(context.operator_key))
        session.add(IndexRow(number=number, statement_id=found))
        return found


def _is_new(session: Session) -> bool:
    """Whether nobody but the operator has said anything in this log."""
    connection = session.connection()
    said = sum(
        connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in (store.entries, store.pending)
    )
    return said <= 1
