"""Asks one server over HTTP that may be hostile, over a connection that is kept.

    with Session("https://market.example", token="…") as session:
        signed = session.get("/v1/log/checkpoint", limit=1_000_000)

Decides how long a server may take and how much it may say: one deadline covers connecting, asking
and every byte of the answer, however slowly it drips; what is longer than it may be is refused
unread; redirects are not followed, proxies not used, encodings not undone; and no error repeats
what the server said. What an answer means is decided by its reader. Plain HTTP is spoken with this
machine alone, unless whoever asks says that nothing needs hiding.

Looking up a name is left to the system, which has deadlines of its own.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from ledger.errors import FetchError

PATIENCE = 60.0
"""Longest that one answer may take, seconds."""

_PIECE = 1 << 16
_OK = 200
_MAX_ADDRESS = 1000


@dataclass(frozen=True)
class Answer:
    """What came back, whatever its status says.

    Attributes:
        status: the HTTP status; a redirect is an answer like others.
        kind: media type, without parameters, in lower case; empty where none was sent.
        body: whole, and no longer than the limit.
    """

    status: int
    kind: str
    body: bytes


@dataclass(frozen=True)
class _Question:
    """One request, and until when and how far its answer is read."""

    path: str
    body: bytes | None
    limit: int
    deadline: float


class Session:
    """Asks one server, over one connection that is kept while it lasts.

    Args:
        address: `https://HOST[:PORT][/PATH]`, or `http://` where the host is this machine.
        token: API key, sent as a bearer token; never shown.
        patience: seconds for one answer, from the first byte sent to the last received.
        insecure_http: speak plain HTTP with other machines, too: for what is public, and whose
            answers their reader verifies. A token is not sent that way.
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
        insecure_http: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = address.rstrip("/")
        self._secure, self._host, self._port, self._prefix = _split(self.address)
        if not (self._secure or _is_here(self._host) or (insecure_http and token is None)):
            raise FetchError(f"{self._host[:100]!r} is another machine: use https")
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
        return self._answer(path, None, limit).body

    def post(self, path: str, body: bytes, limit: int) -> Answer:
        """Send bytes, which the server may get twice, and return its answer.

        Args:
            path: see `get`.
            body: what to send.
            limit: most bytes that may come.

        Raises:
            FetchError: no connection, too long, too late, or no HTTP.
        """
        return self._answer(path, body, limit)

    def _answer(self, path: str, body: bytes | None, limit: int) -> Answer:
        path = f"{self._prefix}{path}"
        question = _Question(path, body, limit, self._clock() + self._patience)
        kept = self._open is not None
        try:
            try:
                return self._ask(question)
            except ConnectionError:
                if not kept:
                    raise
                # A server may close a kept connection at any time: harmless, ask once more.
                self.close()
                return self._ask(question)
        except FetchError:
            self.close()
            raise
        except TimeoutError:
            self.close()
            raise FetchError(f"{path}: no whole answer within {self._patience:g} s") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            # The system's own words or the kind alone: the rest may be what the server wrote.
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise FetchError(f"{path}: the server did not answer: {reason}") from None

    def _ask(self, question: _Question) -> Answer:
        connection, timed = self._open or self._connect(question.deadline)
        timed.deadline = question.deadline
        method, headers = "GET", self._headers
        if question.body is not None:
            method, headers = "POST", {**headers, "Content-Type": "application/octet-stream"}
        connection.request(method, question.path, question.body, headers)
        response = connection.getresponse()
        try:
            if method == "GET" and response.status != _OK:
                raise FetchError(
                    f"{question.path}: the server answered with status {response.status}"
                )
            kind = response.headers.get_content_type() if "Content-Type" in response.headers else ""
            return Answer(response.status, kind, _body(response, question))
        finally:
            response.close()
            if response.will_close:
                self.close()

    def _connect(self, deadline: float) -> tuple[http.client.HTTPConnection, _Socket]:
        connection = http.client.HTTPConnection(self._host, self._port)
        raw = self._reach(deadline)
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

    def _reach(self, deadline: float) -> socket.socket:
        """Return a socket that is connected to the first address of the host that answers."""
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        failed: OSError = ConnectionError("it has no address")
        for tried, (family, kind, protocol, _, address) in enumerate(found):
            # Together they have until the deadline, and a silent one leaves some to the next.
            share = _left(deadline, self._clock) / (len(found) - tried)
            try:
                return _connected(socket.socket(family, kind, protocol), address, share)
            except OSError as error:
                failed = error
        raise failed


class _Socket:
    """The part of a socket that `http.client` uses, under a deadline."""

    def __init__(self, raw: socket.socket, deadline: float, clock: Callable[[], float]) -> None:
        self.deadline = deadline
        self.raw = raw
        self.clock = clock

    def sendall(self, data: Any) -> None:
        """Send everything before the deadline."""
        rest = memoryview(data)
        # Not the socket's own `sendall`: over TLS that takes a new time-out for each record.
        while rest:
            self.raw.settimeout(_left(self.deadline, self.clock))
            rest = rest[self.raw.send(rest) :]

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


def _connected(raw: socket.socket, address: Any, timeout: float) -> socket.socket:
    try:
        raw.settimeout(timeout)
        raw.connect(address)
    except BaseException:
        raw.close()
        raise
    return raw


def _body(response: http.client.HTTPResponse, question: _Question) -> bytes:
    path, limit = question.path, question.limit
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
    web = parts.scheme in ("http", "https")
    if not web or not host or port == 0 or len(address) > _MAX_ADDRESS:
        raise FetchError(f"{address[:100]!r} is no address such as https://market.example")
    if parts.username is not None or parts.query or parts.fragment or not address.isascii():
        raise FetchError(
            f"the address of {host[:100]!r} holds a user, a query or other characters than ASCII; "
            "give host and path alone"
        )
    secure = parts.scheme == "https"
    return secure, host, port or (443 if secure else 80), parts.path


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
