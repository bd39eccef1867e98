"""Letting nodes in, and hearing of them."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from federated.enrolment import NodeEnrolment, code_digest, open_enrolment
from federated.errors import KeyRefusedError
from federated.presence import Presence, open_heartbeat
from ledger.statements import Asset as AssetStatement
from marketplace.catalog.tables import Asset
from marketplace.context import Context
from marketplace.errors import ConflictError, ForbiddenError, NotFoundError
from marketplace.fleet import schemas
from marketplace.fleet.link import Link
from marketplace.fleet.tables import NodeCode, NodeSeat
from marketplace.participants.access import Caller

if TYPE_CHECKING:
    from federated.superlink.runs import Runs

HOUR_MS = 3_600_000
_log = logging.getLogger(__name__)
_BAD_CODE = "the code is unknown, used, over or another node's"


def guarded(caller: Caller) -> SelectOfScalar[Asset]:
    """Return the query that every look at nodes starts from: a provider's own, or all."""
    query = select(Asset)
    return query if caller.sees_all else query.where(Asset.provider_id == caller.id)


def issue_code(
    session: Session, context: Context, caller: Caller, asset_id: str, *, again: bool = False
) -> schemas.NodeCodeView:
    """Make a one-time code for the node of one of the caller's assets.

    Args:
        session: a writing one.
        context: the service's.
        caller: who asks.
        asset_id: the asset.
        again: whether a node that has enrolled may give up its place for a new one with the code.

    Raises:
        NotFoundError: no such asset of the caller's.
        ConflictError: it was revoked, or its node has enrolled and is not meant to do so again.
    """
    asset = _asset(session, caller, asset_id)
    if asset.revoked is not None:
        raise ConflictError("the asset was revoked, and its node's key with it", code="revoked")
    if session.get(NodeSeat, asset_id) is not None and not again:
        raise ConflictError(
            "the node of this asset has enrolled; if it lost its key for the SuperLink, or somebody"
            " else may have it, ask for a code with which it enrols again",
            code="enrolled",
        )
    code = f"rsn_{secrets.token_hex(32)}"
    expires = context.clock() + context.settings.enrolment_hours * HOUR_MS
    session.add(NodeCode(code_digest=code_digest(code), asset_id=asset_id, expires=expires))
    return schemas.NodeCodeView(code=code, asset=asset_id, expires=expires)


def enrol(context: Context, link: Link, body: schemas.EnrolNodeBody) -> schemas.SeatView:
    """Let a node in: its code is used up, and the SuperLink gets its key.

    A node that had enrolled gives up its place: the SuperLink forgets the key that it had before.

    Raises:
        ForbiddenError: the code is unknown, used, over or another asset's.
        PresenceError: the enrolment is not signed by the asset's node.
        ConflictError: its key has enrolled already, for this node or another one.
        SuperLinkError: the SuperLink does not start, or cannot use the key.
    """
    key = context.log.history.node_key(_logged(context, body.asset))
    found = open_enrolment(body.envelope(), key, asset=body.asset, code=body.code)
    with context.reading() as session:
        _valid(session, context, found)
        before = session.get(NodeSeat, found.asset)
    # Both before it is stored, and outside of any transaction: after a crash between, the node
    # tries again with its code, and the SuperLink knows the key by the same number.
    runs = link.start()
    node_id = str(runs.register(found.fleet_key))
    if before is not None:
        runs.unregister(int(before.node_id))
    with context.writing() as session:
        _use(session, context, found)
        _seat(session, context, found, node_id)
    return schemas.SeatView(asset=found.asset, node_id=node_id)


def _seat(session: Session, context: Context, found: NodeEnrolment, node_id: str) -> None:
    """Give a node its place, or its new one.

    Raises:
        ConflictError: its key belongs to another node.
    """
    seat = NodeSeat(
        asset_id=found.asset,
        provider_id=session.get_one(Asset, found.asset).provider_id,
        fleet_key=found.fleet_key.hex(),
        node_id=node_id,
        enrolled=context.clock(),
    )
    session.merge(seat)
    try:
        session.flush()
    except IntegrityError as error:
        raise ConflictError("this key belongs to another node", code="duplicate_key") from error


def heard(context: Context, presence: Presence, caller: Caller, body: schemas.SignedBody) -> None:
    """Take note of a node's sign of life.

    Raises:
        NotFoundError: the caller has no such asset.
        PresenceError: not signed by the asset's node, or heard before.
    """
    with context.reading() as session:
        _asset(session, caller, body.asset)
    key = context.log.history.node_key(_logged(context, body.asset))
    presence.heard(open_heartbeat(body.envelope(), key, asset=body.asset))


def nodes(
    session: Session, context: Context, presence: Presence, caller: Caller
) -> list[schemas.NodeView]:
    """Return the nodes that the caller may see, those of assets revoked left out."""
    rows = session.exec(guarded(caller).where(col(Asset.revoked).is_(None))).all()
    seated = {row.asset_id: row for row in session.exec(select(NodeSeat)).all()}
    return [
        schemas.NodeView(
            asset=row.id,
            name=context.find(row.id, AssetStatement).name,
            provider=row.provider_id,
            enrolled=row.id in seated,
            state=presence.of(row.id),
            node_id=seated[row.id].node_id if row.id in seated else "",
            fleet_key=seated[row.id].fleet_key if row.id in seated else "",
        )
        for row in sorted(rows, key=lambda row: (row.created, row.id))
    ]


def seats(session: Session, assets: Sequence[str]) -> Mapping[str, int]:
    """Return Flower's number for the node of each asset that has enrolled."""
    query = select(NodeSeat).where(col(NodeSeat.asset_id).in_(assets))
    return {row.asset_id: int(row.node_id) for row in session.exec(query).all()}


def has_nodes(context: Context) -> bool:
    """Whether any node has enrolled, so that a SuperLink is needed."""
    with context.reading() as session:
        return session.exec(select(NodeSeat.asset_id).limit(1)).first() is not None


def must_be_seated(context: Context, fleet_key: bytes) -> None:
    """Refuse whoever does not name the key of a node that has enrolled.

    Raises:
        ForbiddenError: as said.
    """
    query = select(NodeSeat.asset_id).where(NodeSeat.fleet_key == fleet_key.hex())
    with context.reading() as session:
        if session.exec(query).first() is None:
            raise ForbiddenError("no node with this key has enrolled", code="unknown_node")


def remind(context: Context, runs: Runs) -> None:
    """Let a SuperLink that has just started know again whom it has forgotten.

    Its file is no part of the operator's books, and may be lost or older than these. A node whose
    key was given up in an enrolment that a crash cut short stays out until it has enrolled again.

    Raises:
        SuperLinkError: it does not answer.
    """
    with context.reading() as session:
        keys = {row.asset_id: row.fleet_key for row in session.exec(select(NodeSeat)).all()}
    known = runs.registered() if keys else {}
    for asset_id, text in keys.items():
        key = bytes.fromhex(text)
        try:
            node_id = str(known.get(key) or runs.register(key))
        except KeyRefusedError:
            _log.warning("the node of %s must enrol again: its key was given up", asset_id[:24])
            continue
        with context.writing() as session:
            session.get_one(NodeSeat, asset_id).node_id = node_id


def _valid(session: Session, context: Context, found: NodeEnrolment) -> None:
    """Refuse what cannot succeed before anything is made for it.

    Raises:
        ForbiddenError, ConflictError: as `enrol`.
    """
    code = session.get(NodeCode, found.code)
    if code is None or code.asset_id != found.asset or code.used is not None:
        raise ForbiddenError(_BAD_CODE, code="bad_code")
    if code.expires <= context.clock():
        raise ForbiddenError(_BAD_CODE, code="bad_code")
    same = select(NodeSeat).where(NodeSeat.fleet_key == found.fleet_key.hex())
    seat = session.exec(same).first()
    if seat is not None:
        whose = "this node: it needs a new one" if seat.asset_id == found.asset else "another node"
        raise ConflictError(f"this key belongs to {whose}", code="duplicate_key")


def _use(session: Session, context: Context, found: NodeEnrolment) -> None:
    now = context.clock()
    # One conditional update decides who uses the code; a second caller finds nothing to update.
    used = session.connection().execute(
        update(NodeCode)
        .where(col(NodeCode.code_digest) == found.code, col(NodeCode.asset_id) == found.asset)
        .where(col(NodeCode.used).is_(None), col(NodeCode.expires) > now)
        .values(used=now)
    )
    if used.rowcount != 1:
        raise ForbiddenError(_BAD_CODE, code="bad_code")
    # A spare one that lies about somewhere must not put another node in this one's place.
    session.connection().execute(
        update(NodeCode)
        .where(col(NodeCode.asset_id) == found.asset, col(NodeCode.used).is_(None))
        .values(used=now)
    )


def _asset(session: Session, caller: Caller, asset_id: str) -> Asset:
    asset = session.exec(guarded(caller).where(Asset.id == asset_id)).first()
    if asset is None:
        raise NotFoundError("there is no such asset of yours")
    return asset


def _logged(context: Context, asset_id: str) -> str:
    context.find(asset_id, AssetStatement)
    return asset_id
