"""Job views as they change: server-sent events (WHATWG HTML, section 9.2).

    event: job
    data: {"job":"job:0f0f…","state":"running","progress":{…},"parties":[…],…}
    id: 5f1c2a9b3d7e4f60

Each event carries the whole present view, the first one at once, so whoever reconnects has missed
nothing. The stream ends after the event of the job's end; a browser that reconnects by itself and
names that event is told to stop (204). A quiet stream gets a comment every 15 seconds, or proxies
would cut it. Every look is a short read on a thread and holds no session while it waits.

A stream lives for ten minutes at most: then the client comes again, and its key is checked again.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from sqlmodel import Session, col, select

from marketplace.context import Context
from marketplace.errors import LimitError, MarketplaceError
from marketplace.jobs import service, states
from marketplace.jobs.tables import Job, JobParty
from marketplace.participants import access
from marketplace.participants.access import Caller, still_enrolled

LOOK_SECONDS = 0.25
KEEP_ALIVE_SECONDS = 15.0
LONGEST_SECONDS = 600.0
MOST_STREAMS = 256
"""Streams of all callers together: each looks several times a second."""
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class Streams:
    """Counts the open streams of one service, from any thread.

    Args:
        most: streams that one participant may have open.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()
        # A market on one machine answers on two event loops: in the process, and over the network.
        self._counting = threading.Lock()
        self.closing = False

    def enter(self, caller: str) -> None:
        """Count one more stream.

        Raises:
            LimitError: the caller, or all together, have as many as they may; or the service stops.
        """
        with self._counting:
            if self._open[caller] >= self._most:
                raise LimitError(
                    f"{self._most} event streams of yours are open, and one participant may not "
                    "have more: close one, or ask for the job itself now and then",
                    code="too_many_streams",
                )
            if self.closing or self._open.total() >= MOST_STREAMS:
                raise LimitError(
                    "the service has no event stream free: ask for the job itself now and then",
                    code="too_many_streams",
                )
            self._open[caller] += 1

    def leave(self, caller: str) -> None:
        """Count one stream less."""
        with self._counting:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]

    def close(self) -> None:
        """End every stream at its next look; a service that stops waits for none of them."""
        self.closing = True


async def _place(request: Request, caller: access.PartyOrOverseer) -> AsyncIterator[Streams]:
    """Hold one of the caller's places for a stream, until it was sent or broke off.

    Raises:
        LimitError: there is none.
    """
    streams: Streams = request.app.state.streams
    streams.enter(caller.id)
    try:
        yield streams
    finally:
        streams.leave(caller.id)


Open = Annotated[Streams, Depends(_place)]
"""A dependency: a place for one stream of the caller's, held until the answer has ended."""


@dataclass(frozen=True)
class Seen:
    """One look at a job: which state it was, and its view as JSON."""

    id: str
    ended: bool
    text: str = field(repr=False)

    @property
    def event(self) -> bytes:
        """The event that shows it."""
        return format_sse_event(event="job", data_str=self.text, id=self.id)


class Watch:
    """One caller's looks at one job.

    Args:
        context: the service's context.
        caller: checked anew at every look.
        job_id: the job.
    """

    def __init__(self, context: Context, caller: Caller, job_id: str) -> None:
        self._context = context
        self._caller = caller
        self._job_id = job_id

    def see(self) -> Seen:
        """Return the present view.

        Raises:
            NotFoundError, AuthenticationError: as `look`.
        """
        with self._context.reading() as session:
            still_enrolled(session, self._caller)
            return self._seen(session, _name(session, self._job_id))

    def look(self, before: str) -> Seen | None:
        """Return the present view, or None when it is still the one called `before`.

        Raises:
            NotFoundError: not a job that the caller sees.
            AuthenticationError: the caller's key was revoked.
        """
        with self._context.reading() as session:
            still_enrolled(session, self._caller)
            name = _name(session, self._job_id)
            return None if name == before else self._seen(session, name)

    def _seen(self, session: Session, name: str) -> Seen:
        view = service.job_view(session, self._caller, self._job_id)
        return Seen(name, view.state in states.TERMINAL, view.model_dump_json())


async def follow(
    watch: Watch,
    first: Seen,
    streams: Streams,
    *,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[bytes]:
    """Yield the first look, then each change, and comments between; ends with the job.

    Args:
        watch: whose looks they are.
        first: what was seen before the answer began.
        streams: ends this one too when the service stops.
        pause: waits so many seconds.
        clock: seconds that never go back.
    """
    yield first.event
    seen, begun, spoke = first, clock(), clock()
    while not (seen.ended or streams.closing or clock() - begun >= LONGEST_SECONDS):
        await pause(LOOK_SECONDS)
        try:
            found = await run_in_threadpool(watch.look, seen.id)
        except MarketplaceError:
            # The answer has begun, so it can only end; the client asks again and hears why.
            return
        if found is not None:
            seen, spoke = found, clock()
            yield found.event
        elif clock() - spoke >= KEEP_ALIVE_SECONDS:
            spoke = clock()
            yield KEEPALIVE_COMMENT


def _name(session: Session, job_id: str) -> str:
    """Name the present state of a job; whatever its view shows, changes the name."""
    job = session.exec(select(Job.fence, Job.state).where(Job.id == job_id)).first()
    parties = session.exec(
        select(JobParty.state, JobParty.reason, JobParty.grant_id, JobParty.receipt_id)
        .where(JobParty.job_id == job_id)
        .order_by(col(JobParty.position))
    ).all()
    return hashlib.sha256(repr((job, [*parties])).encode()).hexdigest()[:16]
