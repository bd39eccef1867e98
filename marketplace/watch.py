"""Following a job from outside: its event stream, and looks now and then where there is none.

    for view in changes(client, job_id, timeout=600.0):
        print(view["state"])                 # the last one is the job's end

Each view is yielded once. A stream that breaks off is opened again; a service that offers none, or
has none free, is asked every so often instead.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import httpx

from marketplace.client import ENDED, Client
from marketplace.errors import MarketplaceError

# Seconds between looks where there is no stream.
LOOK_SECONDS = 0.5
# A stream that says nothing for longer than this is broken: comments come every 15 seconds.
PATIENCE_SECONDS = 40.0

View = Mapping[str, Any]


class WaitError(MarketplaceError):
    """The job has not ended in time."""

    default_code = "still_running"


def changes(
    client: Client,
    job_id: str,
    timeout: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[View]:
    """Yield a job's view now and at each change, until its end.

    Args:
        client: of a party that may see the job.
        job_id: the job.
        timeout: seconds to wait for the end.
        clock: seconds that never go back.
        pause: waits so many seconds.

    Raises:
        WaitError: it has not ended in time.
        ClientError: the service refused, or cannot be reached.
    """
    end, last = clock() + timeout, None
    for view in _views(client, job_id, end, clock, pause):
        if view != last:
            last = view
            yield view
        if view["state"] in ENDED:
            return
        if clock() >= end:
            raise WaitError(_still(view))


def _views(
    client: Client,
    job_id: str,
    end: float,
    clock: Callable[[], float],
    pause: Callable[[float], None],
) -> Iterator[View]:
    """Yield views without end, from streams as long as the service gives any."""
    streams = True
    while True:
        if streams and clock() < end:
            try:
                yield from _streamed(client, job_id, end, clock)
            except _NoStreamError:
                streams = False
            except httpx.HTTPError:
                # Broken off, or the time is over: the look below finds out, and says so.
                pass
        yield client.call("GET", f"/jobs/{job_id}")
        pause(min(LOOK_SECONDS, max(0.0, end - clock())))


class _NoStreamError(Exception):
    """The service has no stream of this job to give; never leaves this module."""


def _streamed(
    client: Client, job_id: str, end: float, clock: Callable[[], float]
) -> Iterator[View]:
    """Yield what a stream says, until it ends or says nothing until `end`.

    Raises:
        httpx.HTTPError: it broke off, or was silent for too long.
    """
    patience = min(end - clock(), PATIENCE_SECONDS)
    path = f"/v1/jobs/{job_id}/events"
    timeout = httpx.Timeout(patience, pool=None)
    with client.http.stream("GET", path, timeout=timeout) as answer:
        kind = answer.headers.get("content-type", "")
        if answer.status_code != httpx.codes.OK or not kind.startswith("text/event-stream"):
            raise _NoStreamError
        for data in data_of(answer.iter_lines()):
            if data is not None:
                yield _view(data)
            elif end - clock() < patience:
                # A comment is a sign of life: what is silent now would be waited for too long.
                return


def _view(data: str) -> View:
    try:
        view = json.loads(data)
    except ValueError as error:
        raise _NoStreamError from error
    if not isinstance(view, dict) or "state" not in view:
        raise _NoStreamError
    return view


def data_of(lines: Iterable[str]) -> Iterator[str | None]:
    """Yield the data of each event named `job` in a stream of lines; None for each comment.

    Other events and other fields are passed over, as the standard wants, and so is an event that
    the stream broke off in.
    """
    event, data = "", list[str]()
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line.startswith(":"):
            yield None
        elif name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif not line:
            if event == "job" and data:
                yield "\n".join(data)
            event, data = "", []


def _still(view: View) -> str:
    waiting = [each["provider_name"] for each in view["parties"] if not each["grant"]]
    who = f"; no answer yet from {', '.join(waiting)}" if waiting else ""
    return f"--timeout: the job is still {view['state']}{who}"
