"""HTTP routes of the catalogue. Reading it needs no key: it is what the market shows the street."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from ledger.statements import Asset, Offer
from marketplace.catalog import schemas, service
from marketplace.context import Ctx
from marketplace.participants import access
from marketplace.schemas import Recorded, StatementBody, StatementId

router = APIRouter(tags=["catalogue"])


@router.post("/assets", status_code=201, summary="List an asset")
def post_asset(body: schemas.AssetBody, caller: access.Provider, context: Ctx) -> Recorded:
    """Take an asset statement signed by its provider, with the node's measurement inside."""
    verified = context.check(body.envelope(), Asset)
    tag_key = service.read_tag_key(verified.statement, body.tag_key)
    with context.writing() as session:
        asset_id = service.list_asset(session, context, caller, verified, tag_key)
    return Recorded(id=asset_id, index=context.logged(asset_id))


@router.get("/assets", summary="Read the catalogue")
def get_assets(context: Ctx) -> list[schemas.DataCard]:
    """Return every data card with its offers."""
    with context.reading() as session:
        return service.cards(session, context)


@router.get("/assets/{asset_id}", summary="Read one data card")
def get_asset(asset_id: StatementId, context: Ctx) -> schemas.DataCard:
    """Return the data card with its offers."""
    with context.reading() as session:
        return service.card(session, context, asset_id)


@router.post("/offers", status_code=201, summary="Offer an asset")
def post_offer(body: StatementBody, caller: access.Provider, context: Ctx) -> Recorded:
    """Take an offer statement signed by the asset's provider."""
    verified = context.check(body.envelope(), Offer)
    with context.writing() as session:
        offer_id = service.make_offer(session, context, caller, verified)
    return Recorded(id=offer_id, index=context.logged(offer_id))


@router.get("/offers", summary="List offers")
def get_offers(
    context: Ctx, asset: Annotated[str | None, Query(max_length=128)] = None
) -> list[schemas.OfferView]:
    """Return all offers, or those on one asset; a withdrawn one has the time in `revoked`."""
    with context.reading() as session:
        return service.offers(session, context, asset)
