"""HTTP routes of settlements and accounts."""

from __future__ import annotations

from fastapi import APIRouter

from marketplace.context import Ctx
from marketplace.participants import access
from marketplace.settlement import schemas, service

router = APIRouter(tags=["settlement"])


@router.get("/settlements", summary="List bills")
def get_settlements(caller: access.PartyOrOverseer, context: Ctx) -> list[schemas.SettlementView]:
    """Return a researcher's own, those of jobs on a provider's assets, all for overseers."""
    with context.reading() as session:
        return service.settlements(session, context, caller)


@router.get("/accounts", summary="Show balances")
def get_accounts(caller: access.PartyOrOverseer, context: Ctx) -> list[schemas.AccountView]:
    """Return the caller's balances in cents; what it owes is negative. All for overseers."""
    with context.reading() as session:
        return service.accounts(session, caller)
