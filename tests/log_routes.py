"""What the service shows of a log, without the service: for tests of who reads it over HTTP."""

import json
from collections.abc import Collection

import httpx

from ledger.encoding import b64encode
from ledger.log import Log


def route_of(request: httpx.Request) -> str:
    """Return the path below that of the log."""
    return request.url.path.removeprefix("/v1/log/")


def shown(log: Log, request: httpx.Request, sealed: Collection[int] = ()) -> bytes:
    """Return checkpoint, openings or tile; `sealed` are entries that stay closed.

    Raises:
        LedgerError: there is no such tile.
    """
    route = route_of(request)
    if route == "checkpoint":
        return log.checkpoint()
    if route != "openings":
        return log.tile(route)
    start, end = (int(request.url.params[name]) for name in ("start", "end"))
    found = [
        {"index": item.index, "salt": b64encode(item.salt), "envelope": b64encode(item.envelope)}
        for item in log.openings(start, min(end, log.size))
        if item.index not in sealed
    ]
    return json.dumps({"openings": found, "next": None}).encode()
