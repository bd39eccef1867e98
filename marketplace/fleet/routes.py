"""HTTP routes of nodes: enrolment, signs of life, and the way to the SuperLink."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from federated.presence import Presence
from marketplace.context import Ctx
from marketplace.errors import ConflictError, NotFoundError
from marketplace.fleet import schemas, service
from marketplace.fleet.link import Link
from marketplace.fleet.proxy import Proxy, is_longer, key_of
from marketplace.participants import access
from marketplace.schemas import StatementId

router = APIRouter(tags=["nodes"])


def link_of(request: Request) -> Link:
    """Return the service's SuperLink.

    Raises:
        ConflictError: this market's nodes are embedded in the service.
    """
    link: Link | None = request.app.state.link
    if link is None:
        raise ConflictError("the nodes of this market run inside it", code="embedded")
    return link


def presence_of(request: Request) -> Presence:
    """Return what the service has heard of nodes."""
    presence: Presence = request.app.state.presence
    return presence


def proxy_of(request: Request) -> Proxy:
    """Return the service's way to its SuperLink.

    Raises:
        NotFoundError: this market has none.
    """
    proxy: Proxy | None = request.app.state.proxy
    if proxy is None:
        raise NotFoundError
    return proxy


LinkOf = Annotated[Link, Depends(link_of)]
PresenceOf = Annotated[Presence, Depends(presence_of)]
ProxyOf = Annotated[Proxy, Depends(proxy_of)]


@router.post("/assets/{asset_id}/codes", status_code=201, summary="Let the node of an asset enrol")
def post_code(
    asset_id: StatementId, body: schemas.NodeCodeBody, caller: access.Provider, context: Ctx
) -> schemas.NodeCodeView:
    """Return a code that the asset's node uses once, within a day unless set otherwise."""
    with context.writing() as session:
        return service.issue_code(session, context, caller, asset_id, again=body.again)


@router.post("/nodes", status_code=201, summary="Enrol a node with a code and its signature")
def post_node(body: schemas.EnrolNodeBody, context: Ctx, link: LinkOf) -> schemas.SeatView:
    """No API key is needed: the code is the permission, the signature shows whose node it is."""
    return service.enrol(context, link, body)


@router.get("/nodes", summary="See which nodes are there")
def get_nodes(
    caller: access.PartyOrOverseer, context: Ctx, presence: PresenceOf
) -> list[schemas.NodeView]:
    """Return a provider's own nodes, all for overseers, with their signs of life."""
    with context.reading() as session:
        return service.nodes(session, context, presence, caller)


@router.post("/nodes/heartbeats", status_code=204, summary="Say that a node lives")
def post_heartbeat(
    body: schemas.SignedBody, caller: access.Node, context: Ctx, presence: PresenceOf
) -> None:
    """Take a heartbeat signed by the node; it is kept in memory alone."""
    service.heard(context, presence, caller, body)


@router.post("/fleet/{name}", include_in_schema=False)
async def post_fleet(name: str, request: Request, proxy: ProxyOf, context: Ctx) -> Response:
    """Pass a node's request on to Flower's SuperLink, which authenticates the node."""
    if is_longer(request, context.settings.max_body_bytes):
        # Read only for somebody who may have it taken.
        await run_in_threadpool(service.must_be_seated, context, key_of(request))
    return await proxy.pass_on(name, request)
