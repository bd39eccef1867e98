"""Calls the service's application inside this process, with the bytes that HTTP would carry.

    with AppTransport(create_app(settings, …)) as transport:
        http = httpx.Client(transport=transport, base_url="http://rongshu.local")

Embedded, all roles live in one process; each still speaks to the service only through this, so a
proof that a node verifies is a proof that travelled. One process is no trust boundary all the same.
"""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Self

import httpx
from fastapi import FastAPI


class AppTransport(httpx.BaseTransport):
    """Runs an application on an event loop of its own thread, from start-up to shut-down."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._inner = httpx.ASGITransport(app=app)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._leave: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="service", daemon=True)

    def __enter__(self) -> Self:
        """Start the application.

        Raises:
            BaseException: what its start-up raised.
        """
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Shut the application down and end its thread."""
        if self._leave is not None:
            self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request; called by `httpx.Client` on any thread."""
        return asyncio.run_coroutine_threadsafe(self._ask(request), self._loop).result()

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        content = await answer.aread()
        headers = answer.headers
        return httpx.Response(answer.status_code, headers=headers, content=content)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised again in the starting thread
            self._failure = error
        finally:
            self._ready.set()
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    async def _serve(self) -> None:
        async with self._app.router.lifespan_context(self._app):
            self._leave = asyncio.Event()
            self._ready.set()
            await self._leave.wait()
