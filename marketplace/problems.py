"""How errors become answers: problem+json (RFC 9457) with `title`, `detail` and `code`.

Decides which words of an error a caller may read. Messages of our own error trees are written for
people and hold no secrets; of every other error only an incident number crosses, which the
service's log file has too.
"""

from __future__ import annotations

import http
import logging
import uuid
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from federated.errors import (
    FederatedError,
    PreparationError,
    PresenceError,
    SuperLinkError,
    SupersededError,
    TaskError,
)
from federated.presence import SUPERSEDED
from ledger.errors import LedgerError, LogError, RuleError, SignatureError
from marketplace.errors import MarketplaceError, http_status

MEDIA_TYPE = "application/problem+json"
_logger = logging.getLogger(__name__)


class Problem(BaseModel):
    """Why a request was refused."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "title": "Conflict",
                "detail": "all 3 uses are spent or reserved",
                "code": "quota_used_up",
            }
        }
    )

    title: str
    detail: str
    code: str


RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": http.HTTPStatus(status).phrase}
    for status in (401, 403, 404, 409, 413, 422, 429, 503)
}


def problem(status: int, code: str, detail: str) -> JSONResponse:
    """Return a problem+json response."""
    title = http.HTTPStatus(status).phrase
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    content = Problem(title=title, detail=detail, code=code).model_dump()
    return JSONResponse(content, status, headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Register the handlers."""
    app.add_exception_handler(MarketplaceError, _marketplace)
    app.add_exception_handler(LedgerError, _ledger)
    app.add_exception_handler(FederatedError, _federated)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(StarletteHTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def _marketplace(request: Request, error: Exception) -> Response:
    status = http_status(error) if isinstance(error, MarketplaceError) else None
    if status is None or not isinstance(error, MarketplaceError):
        return _unexpected(request, error)
    return problem(status, error.code, str(error))


def _ledger(_: Request, error: Exception) -> Response:
    if isinstance(error, RuleError):
        return problem(409, error.code, str(error))
    if isinstance(error, SignatureError):
        return problem(422, "signature_invalid", str(error))
    if isinstance(error, LogError):
        return problem(503, "log_delayed", str(error))
    return problem(422, "statement_invalid", str(error))


def _federated(_: Request, error: Exception) -> Response:
    if isinstance(error, TaskError):
        return problem(422, error.reason, str(error))
    if isinstance(error, PreparationError):
        return problem(422, "bad_preparation", str(error))
    if isinstance(error, SupersededError):
        return problem(409, SUPERSEDED, str(error))
    if isinstance(error, PresenceError):
        return problem(422, "not_the_node", str(error))
    if isinstance(error, SuperLinkError):
        return problem(503, "no_superlink", str(error))
    return problem(422, "bad_plan", str(error))


def _validation(_: Request, error: Exception) -> Response:
    # Places and messages alone: pydantic's errors also carry the input, which may be a secret.
    found = error.errors() if isinstance(error, RequestValidationError) else []
    places = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in found[:8]]
    return problem(422, "invalid_request", "; ".join(places))


def _http(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, StarletteHTTPException) else 500
    code = "too_large" if status == 413 else http.HTTPStatus(status).name.lower()
    return problem(status, code, http.HTTPStatus(status).description or code)


def _unexpected(request: Request, error: Exception) -> Response:
    incident = uuid.uuid4().hex
    _logger.error("incident %s at %s", incident, request.url.path, exc_info=error)
    return problem(500, "internal", f"unexpected error; the operator's log has it as {incident}")


class BodyLimit:
    """ASGI middleware that refuses request bodies over a limit, announced or streamed.

    Args:
        app: what answers the others.
        limit: most bytes.
        larger: by path, another limit.
    """

    def __init__(self, app: ASGIApp, limit: int, larger: Mapping[str, int]) -> None:
        self._app = app
        self._limit = limit
        self._larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the body on its way to the app."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        announced = headers.get(b"content-length", b"0")
        limit = self._larger.get(scope["path"], self._limit)
        if not announced.isdigit() or int(announced[:20]) > limit:
            await self._refuse(limit, scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                # FastAPI passes its own exception on and would turn any other into a 400.
                raise HTTPException(413)
            return message

        await self._app(scope, counted, send)

    async def _refuse(self, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
        detail = f"a request body here has at most {limit} bytes"
        await problem(413, "too_large", detail)(scope, receive, send)
