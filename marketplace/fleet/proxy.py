"""Passes nodes' requests on to the SuperLink: `/v1/fleet/…` and no other path of it.

A node asks for messages again and again. Where there is none, the request is held until something
was sent to a node, for some seconds: a node then hears at once, and an idle one asks rarely. Nor is
the SuperLink asked for a node that comes again before anything more was sent.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import httpx
from fastapi import Request, Response

from marketplace.errors import NotFoundError
from marketplace.fleet.link import Link

REPLY: Final = "push-object"
"""How the content of a node's reply comes, which may be long."""

PATHS: Final = frozenset(
    {
        "activate-node",
        "deactivate-node",
        "pull-messages",
        "pull-object",
        "push-messages",
        REPLY,
        "send-node-heartbeat",
    }
)
"""What a node needs. Registering goes by enrolment, and no node fetches a bundle of code."""

HOLD_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 2.0
"""How often the SuperLink is asked meanwhile: others than this process may have sent something."""

_TIMEOUT: Final = 30.0
STIR_SECONDS: Final = 0.1
"""A reply that needs no object is told so much later; the others once their object is there."""

_HEADERS: Final = (
    "accept",
    "content-type",
    "flwr-public-key",
    "flwr-signature",
    "flwr-timestamp",
)
_ANSWERED: Final = ("content-type",)


class Proxy:
    """One service's way to its SuperLink, for requests that arrive on one event loop.

    Args:
        link: the SuperLink.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sent = 0
        self._left: Counter[str] = Counter()
        # By node: the value of `_sent` at which nothing was left for it.
        self._drained: dict[str, int] = {}
        self._begun: dict[str, asyncio.TimerHandle] = {}
        self._news = asyncio.Condition()

    async def pass_on(self, name: str, request: Request) -> Response:
        """Answer one request of a node with what the SuperLink answers.

        Raises:
            NotFoundError: a path that nodes have no use for.
        """
        if name not in PATHS:
            raise NotFoundError
        access = self._link.access
        if access is None:
            # It is being started; a node asks again in a moment.
            return Response(status_code=503)
        client = self._connected(access.ca)
        body = await request.body()
        headers = {key: request.headers[key] for key in _HEADERS if key in request.headers}
        url = f"https://{access.address}/v1/fleet/{name}"
        ask = partial(_ask, client, url, body, headers)
        answer = await (self._hold(request, ask) if name == "pull-messages" else ask())
        if answer.is_success:
            self._stir(name, _node_of(request))
        if name == "deactivate-node" and answer.is_success:
            # The node that leaves has a request here that need not be held any longer.
            self._left[_node_of(request)] += 1
            await self._wake()
        told = {key: answer.headers[key] for key in _ANSWERED if key in answer.headers}
        return Response(answer.content, answer.status_code, told)

    async def _hold(
        self, request: Request, ask: Callable[[], Awaitable[httpx.Response]]
    ) -> httpx.Response:
        """Ask until a message comes, its node leaves or hangs up, or it was held long enough."""
        node, end = _node_of(request), time.monotonic() + HOLD_SECONDS
        left = self._left[node]
        answer, looked = httpx.Response(200), False
        while True:
            seen = self._sent
            if looked or self._drained.get(node) != seen:
                answer = await ask()
                self._note(node, seen, answer)
            looked = True
            remaining = end - time.monotonic()
            if (
                answer.content
                or not answer.is_success
                or remaining <= 0
                or self._left[node] != left
            ):
                return answer
            await self._wait_for_news(seen, min(LOOK_SECONDS, remaining))
            if await request.is_disconnected():
                # A message is handed over once: taken for a node that died, it would be lost.
                return httpx.Response(204)

    def _note(self, node: str, seen: int, answer: httpx.Response) -> None:
        """Remember whether anything may be left for a node: each time, it is sent one message."""
        last = not answer.content or self._drained.get(node, -1) + 1 == seen
        if answer.is_success and last:
            self._drained[node] = seen
        else:
            self._drained.pop(node, None)

    def _stir(self, name: str, node: str) -> None:
        """Tell the coordinator that a reply is there, once it is there whole."""
        if name not in ("push-messages", REPLY):
            return
        if (begun := self._begun.pop(node, None)) is not None:
            begun.cancel()
        if name == REPLY:
            self._link.stir()
        else:
            loop = asyncio.get_running_loop()
            self._begun[node] = loop.call_later(STIR_SECONDS, self._link.stir)

    def _connected(self, ca: bytes) -> httpx.AsyncClient:
        if self._client is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cadata=ca.decode("ascii"))
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
            self._client = httpx.AsyncClient(
                verify=context, timeout=_TIMEOUT, limits=limits, trust_env=False
            )
            self._loop = asyncio.get_running_loop()
            self._link.listen(self._heard)
        return self._client

    def _heard(self) -> None:
        """Wake the requests that are held; called on the coordinator's thread."""
        if self._loop is not None and not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._wake(), self._loop)

    async def _wake(self) -> None:
        async with self._news:
            self._sent += 1
            self._news.notify_all()

    async def _wait_for_news(self, seen: int, seconds: float) -> None:
        async def news() -> None:
            async with self._news:
                await self._news.wait_for(lambda: self._sent != seen)

        try:
            await asyncio.wait_for(news(), seconds)
        except TimeoutError:
            return


def _node_of(request: Request) -> str:
    return request.headers.get("flwr-public-key", "")


def is_longer(request: Request, limit: int) -> bool:
    """Whether a request's body has more bytes than this, or may have: it does not say."""
    length = request.headers.get("content-length", "")
    return not length or int(length) > limit


def key_of(request: Request) -> bytes:
    """Return the key by which a node says who it is; the SuperLink alone verifies it."""
    try:
        return b64decode(_node_of(request), validate=True)
    except ValueError:
        return b""


async def _ask(
    client: httpx.AsyncClient, url: str, body: bytes, headers: dict[str, str]
) -> httpx.Response:
    try:
        return await client.post(url, content=body, headers=headers)
    except httpx.HTTPError:
        # It is being started anew; a node asks again in a moment.
        return httpx.Response(503)
