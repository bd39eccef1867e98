"""Fetches a few bytes over HTTP: straight to the address given, never further, with a limit.

    answer = post("https://witness.example/add-checkpoint", body, limit=65_536, timeout=5.0)
    answer.status, answer.body

Follows no redirect and asks no proxy, so requests reach the addresses that a person wrote into a
file and no others. An answer with an error status is an answer. Whether what was fetched is true is
for its reader to verify.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

from ledger.errors import FetchError

_CHUNK = 16_384


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: the HTTP status.
        kind: media type, without parameters, in lower case; empty where none was sent.
        body: whole, and no longer than the limit.
    """

    status: int
    kind: str
    body: bytes


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_named: Any) -> None:
        """Take a redirect as the answer that it is."""


def check_url(url: str) -> None:
    """Return only for an address with `http` or `https` and a host.

    Raises:
        FetchError: otherwise.
    """
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        named = False
    if not named or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise FetchError(f"{url[:200]!r} is no address: give http:// or https://, host and path")


def get(url: str, *, limit: int, timeout: float) -> Answer:
    """Fetch an address.

    Args:
        url: with `http` or `https`.
        limit: longest body, bytes.
        timeout: seconds until the whole answer must be there.

    Raises:
        FetchError: no whole answer came in time, or it is too long.
    """
    return _ask(urllib.request.Request(url), limit, timeout)  # noqa: S310 - checked in _ask


def post(url: str, body: bytes, *, limit: int, timeout: float) -> Answer:
    """Send bytes to an address; see `get`.

    Raises:
        FetchError: no whole answer came in time, or it is too long.
    """
    headers = {"Content-Type": "application/octet-stream"}
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - checked in _ask
    return _ask(request, limit, timeout)


def _ask(request: urllib.request.Request, limit: int, timeout: float) -> Answer:
    url = request.full_url
    check_url(url)
    until = time.monotonic() + timeout
    # No proxy from the environment: the address is where the request goes.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    try:
        try:
            response = opener.open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            body = _read(response, url, limit, until)
            kind = response.headers.get_content_type() if "Content-Type" in response.headers else ""
            return Answer(response.status, kind, body)
    except (OSError, HTTPException, ValueError) as error:
        cause = getattr(error, "reason", None) or error
        raise FetchError(f"{url[:200]}: {str(cause) or type(cause).__name__}") from None


def _read(
    response: HTTPResponse | urllib.error.HTTPError, url: str, limit: int, until: float
) -> bytes:
    parts, length = [], 0
    # Piece by piece: a timeout of the socket begins anew with each byte that drips in.
    while part := response.read1(_CHUNK):
        length += len(part)
        if length > limit:
            raise FetchError(f"{url[:200]}: the answer has more than {limit} bytes")
        if time.monotonic() > until:
            raise FetchError(f"{url[:200]}: the answer was not whole in time")
        parts.append(part)
    declared = response.headers.get("Content-Length")
    if declared is not None and declared != str(length):
        raise FetchError(f"{url[:200]}: the answer ended early")
    return b"".join(parts)
