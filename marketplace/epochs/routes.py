"""HTTP routes of epochs."""

from __future__ import annotations

from fastapi import APIRouter

from ledger.statements import Epoch
from marketplace.context import Ctx
from marketplace.epochs import schemas, service
from marketplace.participants import access
from marketplace.schemas import Recorded, StatementBody

router = APIRouter(tags=["epochs"])


@router.post("/closes", status_code=201, summary="Close an epoch")
def post_close(body: StatementBody, caller: access.NodeOrProvider, context: Ctx) -> Recorded:
    """Take the account of one ended epoch, signed by the node of one of the caller's assets."""
    verified = context.check(body.envelope(), Epoch)
    with context.writing() as session:
        close_id = service.close(session, context, caller, verified)
    return Recorded(id=close_id, index=context.logged(close_id))


@router.post("/schedule", status_code=201, summary="Begin to count epochs")
def post_schedule(body: schemas.ScheduleBody, _caller: access.Operator, context: Ctx) -> Recorded:
    """Log the schedule of a log that has none; it stays for good."""
    with context.writing() as session:
        schedule_id = service.schedule(session, context, body.epoch_entries, body.grace_entries)
    return Recorded(id=schedule_id, index=context.logged(schedule_id))
