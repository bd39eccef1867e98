"""HTTP routes of the log: the public tiles and checkpoint, and openings by scope."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from ledger.encoding import b64encode
from ledger.entry import Opening
from ledger.errors import EncodingError, LogError
from ledger.succession import write_list
from marketplace.context import Ctx
from marketplace.errors import NotFoundError
from marketplace.log_access import may_read
from marketplace.participants import access
from marketplace.schemas import StatementId

PAGE = 256
MAX_INDEX = (1 << 53) - 1
router = APIRouter(prefix="/log", tags=["log"])
Index = Annotated[int, Query(ge=0, le=MAX_INDEX)]


class OpeningView(BaseModel):
    """The statement behind an entry and the salt of its commitment; base64."""

    index: int
    salt: str
    envelope: str

    @classmethod
    def of(cls, opening: Opening) -> OpeningView:
        """Return the view of an opening."""
        salt, envelope = b64encode(opening.salt), b64encode(opening.envelope)
        return cls(index=opening.index, salt=salt, envelope=envelope)


class OpeningsView(BaseModel):
    """Openings that the caller may see, and the index to go on from; null at the end."""

    openings: list[OpeningView]
    next: int | None


class StatementView(BaseModel):
    """Where a statement stands in the log, with its opening."""

    index: int
    opening: OpeningView


@router.get("/checkpoint", summary="Get the newest checkpoint", response_class=Response)
def get_checkpoint(context: Ctx) -> Response:
    """Return the signed note (C2SP tlog-checkpoint)."""
    return Response(context.log.checkpoint(), media_type="text/plain; charset=utf-8")


@router.get("/successions", summary="Get the changes of the log's key", response_class=Response)
def get_successions(context: Ctx) -> Response:
    """Return every change as a signed note, for whoever trusts an older key of the log."""
    return Response(write_list(context.log.successions), media_type="application/json")


@router.get("/vkey", summary="Get the key that the log claims", response_class=Response)
def get_vkey(context: Ctx) -> Response:
    """Return a claim, not to be trusted: get the key from elsewhere and compare."""
    return Response(context.log.vkey.text + "\n", media_type="text/plain; charset=utf-8")


@router.get("/tile/{path:path}", summary="Get a tile or entry bundle", response_class=Response)
def get_tile(path: str, context: Ctx) -> Response:
    """Return one file of the C2SP tlog-tiles layout."""
    try:
        data = context.log.tile(f"tile/{path}")
    except (EncodingError, LogError) as error:
        raise NotFoundError(str(error)) from error
    return Response(data, media_type="application/octet-stream")


@router.get("/openings", summary="Read the statements behind a range of entries")
def get_openings(
    caller: access.Enrolled, context: Ctx, start: Index = 0, end: Index = MAX_INDEX
) -> OpeningsView:
    """Return those that the caller may see among entries `start` to `end`, exclusive.

    One page looks at 256 entries at most.
    """
    stop, history = min(end, start + PAGE, context.log.size), context.log.history
    visible = [
        OpeningView.of(opening)
        for opening in context.log.openings(start, stop)
        if may_read(caller, history.by_index[opening.index].statement, history)
    ]
    return OpeningsView(openings=visible, next=stop if stop < min(end, context.log.size) else None)


@router.get("/statements/{statement_id}", summary="Read one statement")
def get_statement(
    statement_id: StatementId, caller: access.Enrolled, context: Ctx
) -> StatementView:
    """Return its index and opening, if the caller may see it."""
    logged = context.entry(statement_id)
    if not may_read(caller, logged.statement, context.log.history):
        raise NotFoundError
    opening = context.log.opening(context.log.index_of(statement_id))
    return StatementView(index=opening.index, opening=OpeningView.of(opening))
