"""Listing assets, offering them, and the public catalogue."""

from __future__ import annotations

from sqlmodel import Session, col, select

from ledger.statements import Asset as AssetStatement
from ledger.statements import Offer as OfferStatement
from marketplace.catalog.schemas import ColumnView, DataCard, OfferView, QualityView, ValuationView
from marketplace.catalog.tables import Asset, Offer
from marketplace.context import Context, Verified
from marketplace.errors import ConflictError, NotFoundError
from marketplace.participants.access import Caller, still_enrolled
from marketplace.participants.service import names

FORMULA = "value_cents = cost_cents × quality_ppm // 1000000"


def list_asset(
    session: Session, context: Context, caller: Caller, verified: Verified[AssetStatement]
) -> str:
    """Store an asset; the log's rules have verified the node's measurement in it.

    Raises:
        ForbiddenError: it is listed in another provider's name.
    """
    caller.must_be(verified.statement.provider)
    still_enrolled(session, caller)
    if session.get(Asset, verified.id) is None:
        session.add(Asset(id=verified.id, provider_id=caller.id, created=context.clock()))
        session.flush()
    return context.submit(session, verified.envelope)


def make_offer(
    session: Session, context: Context, caller: Caller, verified: Verified[OfferStatement]
) -> str:
    """Store an offer.

    Raises:
        ForbiddenError: it is made in another provider's name.
        ConflictError: the asset was revoked.
    """
    statement = verified.statement
    caller.must_be(statement.provider)
    still_enrolled(session, caller)
    asset = session.get(Asset, statement.asset)
    if asset is None:
        raise NotFoundError("there is no such asset")
    if asset.revoked is not None:
        raise ConflictError("the asset was revoked", code="revoked")
    if session.get(Offer, verified.id) is None:
        session.add(
            Offer(
                id=verified.id,
                asset_id=asset.id,
                provider_id=caller.id,
                created=context.clock(),
            )
        )
        session.flush()
    return context.submit(session, verified.envelope)


def cards(session: Session, context: Context) -> list[DataCard]:
    """Return the data card of every asset that the log covers, oldest first."""
    rows = session.exec(select(Asset).order_by(col(Asset.created), col(Asset.id))).all()
    known, offered = names(session), _offers_by_asset(session, context)
    return [
        _card(context, row, known[row.provider_id], offered.get(row.id, []))
        for row in rows
        if row.id in context.log.history.by_id
    ]


def card(session: Session, context: Context, asset_id: str) -> DataCard:
    """Return one data card.

    Raises:
        NotFoundError: there is no such asset.
    """
    row = session.get(Asset, asset_id)
    if row is None:
        raise NotFoundError("there is no such asset")
    return _card(context, row, names(session)[row.provider_id], offers(session, context, asset_id))


def offers(session: Session, context: Context, asset_id: str | None = None) -> list[OfferView]:
    """Return offers that the log covers, oldest first; withdrawn ones say since when."""
    query = select(Offer).order_by(col(Offer.created), col(Offer.id))
    if asset_id is not None:
        query = query.where(Offer.asset_id == asset_id)
    rows = session.exec(query).all()
    return [_offer(context, row) for row in rows if row.id in context.log.history.by_id]


def _offers_by_asset(session: Session, context: Context) -> dict[str, list[OfferView]]:
    found: dict[str, list[OfferView]] = {}
    for offer in offers(session, context):
        found.setdefault(offer.asset, []).append(offer)
    return found


def _offer(context: Context, row: Offer) -> OfferView:
    statement = context.find(row.id, OfferStatement)
    return OfferView(
        id=row.id,
        asset=row.asset_id,
        provider=row.provider_id,
        terms=statement.terms.payload(),
        odrl=statement.terms.to_odrl(),
        price_cents=statement.price_cents,
        created=row.created,
        revoked=row.revoked,
    )


def _card(context: Context, row: Asset, provider: str, offered: list[OfferView]) -> DataCard:
    statement = context.find(row.id, AssetStatement)
    measured = statement.measured()
    return DataCard(
        id=row.id,
        index=context.entry(row.id).index,
        name=statement.name,
        description=statement.description,
        use_rights=statement.use_rights,
        provider=row.provider_id,
        provider_name=provider,
        rows=measured.rows,
        missing=sum(column.missing for column in measured.columns),
        columns=[ColumnView(**column.payload()) for column in measured.columns],
        content_digest=measured.content_digest,
        measured=measured.issued,
        node_key=statement.node_key,
        quality=QualityView(**measured.quality.payload()),
        valuation=ValuationView(formula=FORMULA, **statement.valuation.payload()),
        uses=row.uses,
        offers=offered,
        created=row.created,
        revoked=row.revoked,
    )
