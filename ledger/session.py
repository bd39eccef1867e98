"""Asks one server over HTTP that may be hostile, over a connection that is kept.

    with Session("https://market.example", token="…") as session:
        signed = session.get("/v1/log/checkpoint", limit=1_000_000)

Decides how long a server may take and how much it may say: one deadline covers connecting, asking
and every byte of the answer, however slowly it drips; what is longer than it may be is refused
unread; redirects are not followed, proxies not used, encodings not undone. What an answer means is
decided by its reader. Plain HTTP is spoken with this machine alone.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import urlsplit

from ledger.errors import FetchError

PATIENCE = 60.0
"""Longest that one answer may take, seconds."""

_PIECE = 1 << 16
_OK = 200
_MAX_ADDRESS = 1000


class Session:
    """Asks one server, over one connection that is kept while it lasts.

    Args:
        address: `https://HOST[:PORT][/PATH]`, or `http://` where the host is this machine.
        token: API key, sent as a bearer token; never shown.
        patience: seconds for one answer, from the first byte sent to the last received.
        clock: seconds that only grow.

    Raises:
        FetchError: no such address may be asked, or the token cannot be sent.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = address.rstrip("/")
        self._secure, self._host, self._port, self._prefix = _split(self.address)
        if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
            raise FetchError("the API key is not one line of printable ASCII")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._patience = patience
        self._clock = clock
        self._open: tuple[http.client.HTTPConnection, _Socket] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back; the next question opens another."""
        if self._open is not None:
            self._open[0].close()
        self._open = None

    def get(self, path: str, limit: int) -> bytes:
        """Return the body of an answer with status 200.

        Args:
            path: with its leading `/`, and its query where there is one.
            limit: most bytes that may come.

        Raises:
            FetchError: no connection, another status, too long, too late, or no HTTP.
        """
        deadline = self._clock() + self._patience
        kept = self._open is not None
        try:
            try:
                return self._ask(path, limit, deadline)
            except ConnectionError:
                if not kept:
                    raise
                # A server may close a kept connection at any time: harmless, ask once more.
                self.close()
                return self._ask(path, limit, deadline)
        except FetchError:
            self.close()
            raise
        except TimeoutError:
            self.close()
            raise FetchError(f"{path}: no whole answer within {self._patience:g} s") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise FetchError(f"{path}: the server did not answer: {reason}") from error

    def _ask(self, path: str, limit: int, deadline: float) -> bytes:
        connection, timed = self._open or self._connect(deadline)
        timed.deadline = deadline
        connection.request("GET", f"{self._prefix}{path}", headers=self._headers)
        response = connection.getresponse()
        try:
            return _body(response, path, limit)
        finally:
            response.close()
            if response.will_close:
                self.close()

    def _connect(self, deadline: float) -> tuple[http.client.HTTPConnection, _Socket]:
        connection = http.client.HTTPConnection(self._host, self._port)
        address = (self._host, self._port)
        raw = socket.create_connection(address, timeout=_left(deadline, self._clock))
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._secure:
                # The handshake ends with the time-out of the socket, however its bytes drip.
                raw.settimeout(_left(deadline, self._clock))
                context = ssl.create_default_context()
                raw = context.wrap_socket(raw, server_hostname=self._host)
        except BaseException:
            raw.close()
            raise
        timed = _Socket(raw, deadline, self._clock)
        connection.sock = timed
        self._open = (connection, timed)
        return self._open


class _Socket:
    """The part of a socket that `http.client` uses, under a deadline."""

    def __init__(self, raw: socket.socket, deadline: float, clock: Callable[[], float]) -> None:
        self.deadline = deadline
        self.raw = raw
        self.clock = clock

    def sendall(self, data: Any) -> None:
        """Send everything before the deadline."""
        self.raw.settimeout(_left(self.deadline, self.clock))
        self.raw.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return what reads the answer."""
        return io.BufferedReader(_Reading(self))

    def close(self) -> None:
        """Close the connection, once everybody who reads from it has ended."""
        self.raw.close()


class _Reading(io.RawIOBase):
    """Reads from a socket; each wait is as long as the deadline still allows."""

    def __init__(self, timed: _Socket) -> None:
        self._timed = timed
        self._file = timed.raw.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._timed.raw.settimeout(_left(self._timed.deadline, self._timed.clock))
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def _body(response: http.client.HTTPResponse, path: str, limit: int) -> bytes:
    if response.status != _OK:
        raise FetchError(f"{path}: the server answered with status {response.status}")
    if response.getheader("Content-Encoding", "identity").lower() != "identity":
        raise FetchError(f"{path}: the answer is encoded, which was not asked for")
    declared = response.length
    if declared is not None and declared > limit:
        raise FetchError(f"{path}: the answer has {declared} bytes, at most {limit} belong")
    parts: list[bytes] = []
    total = 0
    # One piece at a time, so that the deadline is asked between any two of them.
    while total <= limit and (part := response.read1(min(_PIECE, limit + 1 - total))):
        parts.append(part)
        total += len(part)
    if total > limit:
        raise FetchError(f"{path}: the answer is longer than the {limit} bytes that belong")
    if declared is not None and total < declared:
        raise FetchError(f"{path}: the answer ends after {total} of {declared} bytes")
    return b"".join(parts)


def _left(deadline: float, clock: Callable[[], float]) -> float:
    left = deadline - clock()
    if left <= 0:
        raise TimeoutError
    return left


def _split(address: str) -> tuple[bool, str, int, str]:
    """Return whether an address is secure, its host, its port and the path that it begins with."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise FetchError(f"{address[:100]!r} is no address: {error}") from None
    if parts.scheme not in ("http", "https") or not host or len(address) > _MAX_ADDRESS:
        raise FetchError(f"{address[:100]!r} is no address such as https://market.example")
    if parts.username is not None or parts.query or parts.fragment or not address.isascii():
        raise FetchError(
            f"the address of {host[:100]!r} holds a user, a query or other characters than ASCII; "
            "give host and path alone"
        )
    secure = parts.scheme == "https"
    if not secure and not _is_here(host):
        raise FetchError(f"{host[:100]!r} is another machine: use https")
    return secure, host, port or (443 if secure else 80), parts.path


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
