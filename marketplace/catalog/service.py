"""Listing assets, offering them, and the public catalogue."""

from __future__ import annotations

from pydantic import SecretStr
from sqlmodel import Session, col, select

from ledger.encoding import b64decode
from ledger.errors import EncodingError
from ledger.statements import Asset as AssetStatement
from ledger.statements import Offer as OfferStatement
from ledger.statements import TaggedAsset
from ledger.use_index import KEY_BYTES, commit
from marketplace.catalog.schemas import ColumnView, DataCard, OfferView, QualityView, ValuationView
from marketplace.catalog.tables import Asset, Offer, TagKey
from marketplace.context import Context, Verified
from marketplace.errors import ConflictError, InvalidError, NotFoundError
from marketplace.participants.access import Caller, still_enrolled
from marketplace.participants.service import names
from privacy.secure_random import random_bytes

FORMULA = "value_cents = cost_cents × quality_ppm // 1000000"


def read_tag_key(statement: AssetStatement, given: SecretStr | None) -> bytes | None:
    """Return the tag key that was handed over beside an asset's statement.

    Raises:
        InvalidError: it is not the one that the statement commits to, or there is none where one
            belongs, or one where none does.
    """
    if not isinstance(statement, TaggedAsset):
        if given is not None:
            raise InvalidError("this asset commits to no tag key; send none", code="tag_key")
        return None
    try:
        key = b64decode("" if given is None else given.get_secret_value())
        fits = commit(key) == statement.tag_commitment
    except EncodingError:
        fits = False
    if not fits:
        # The reason could hold a part of the key.
        raise InvalidError("tag_key is not the key that the asset commits to", code="tag_key")
    return key


def list_asset(
    session: Session,
    context: Context,
    caller: Caller,
    verified: Verified[AssetStatement],
    tag_key: bytes | None,
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
        if tag_key is not None:
            session.add(TagKey(asset_id=verified.id, key=tag_key))
    return context.submit(session, verified.envelope)


def tag_key(session: Session, asset_id: str) -> bytes:
    """Return the key of an asset's tags.

    For an asset that commits to none the operator draws one, so that its use is counted in the
    index all the same; nobody can show its absence.
    """
    row = session.get(TagKey, asset_id)
    if row is None:
        row = TagKey(asset_id=asset_id, key=random_bytes(KEY_BYTES))
        session.add(row)
        session.flush()
    return row.key


def tag_keys(session: Session) -> dict[str, bytes]:
    """Return the key of each asset that has one, by the asset's id."""
    rows = session.exec(select(TagKey).order_by(col(TagKey.asset_id))).all()
    return {row.asset_id: row.key for row in rows}


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
