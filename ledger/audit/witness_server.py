"""Serves a witness over HTTP (C2SP tlog-witness): one path, small bodies, few threads, short waits.

    with WitnessServer(("127.0.0.1", 8449), witness, tell=print) as server:
        server.serve_forever()

Decides how bytes come and go; what is cosigned is decided in `ledger.witness`. Everything that it
sends is signed or public, and everything it takes is checked, so it needs no secrecy; towards a
network it belongs behind a proxy that limits rates.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ledger.errors import LedgerError, WitnessError
from ledger.witness import MAX_REQUEST, PATH, SIZE_TYPE, Witness

CONNECTIONS = 32
# Seconds that one read or write may take, and that one connection may last.
PATIENCE, LIFETIME = 10.0, 60.0
_LENGTH = re.compile(r"0|[1-9][0-9]{0,9}")


class WitnessServer(ThreadingHTTPServer):
    """A witness that listens.

    Args:
        address: host and port; port 0 takes a free one.
        witness: answers.
        tell: gets one line for each answer.
        connections: most at a time; further ones are closed at once.
        lifetime: seconds after which a connection is cut, however slowly it speaks.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        witness: Witness,
        tell: Callable[[str], None],
        *,
        connections: int = CONNECTIONS,
        lifetime: float = LIFETIME,
    ) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.witness = witness
        self.tell = tell
        self._lifetime = lifetime
        self._free = threading.BoundedSemaphore(connections)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer on a thread of its own, or close where too many are at work."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one connection's requests, until it ends or its time is over."""
        end = threading.Timer(self._lifetime, _cut, (request,))
        end.daemon = True
        end.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that broke; they are nobody's fault here."""


class _Handler(BaseHTTPRequestHandler):
    server: WitnessServer
    protocol_version = "HTTP/1.1"
    server_version = "rongshu-witness"
    sys_version = ""
    timeout = PATIENCE

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != PATH:
            self._refuse(404, f"only {PATH} is here")
        elif "Transfer-Encoding" in self.headers or not _LENGTH.fullmatch(length):
            self._refuse(411, "a Content-Length is needed")
        elif int(length) > MAX_REQUEST:
            self._refuse(413, f"a request has at most {MAX_REQUEST} bytes")
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                self._answer(body)
            else:
                self.close_connection = True

    def do_GET(self) -> None:
        self._refuse(404 if self.path != PATH else 405, f"POST to {PATH}")

    def _answer(self, body: bytes) -> None:
        try:
            lines = self.server.witness.add_checkpoint(body)
        except WitnessError as error:
            if error.size is not None:
                self._send(error.status, f"{error.size}\n".encode(), SIZE_TYPE)
            else:
                self._send(error.status, f"{error}\n".encode())
            self.server.tell(f"{error.status}: {error}")
        except (LedgerError, OSError) as error:
            self._send(500, b"this witness is broken\n")
            self.server.tell(f"500: {error}")
        else:
            self._send(200, lines)
            # The fourth part of the body is the checkpoint; it was verified above.
            head = body[body.index(b"\n\n") + 2 :].split(b"\n", 2)
            self.server.tell(f"200: {head[0].decode()} at {head[1].decode()} entries")

    def _refuse(self, status: int, message: str) -> None:
        # What is left of the request is not read, so the connection ends.
        self.close_connection = True
        self._send(status, f"{message}\n".encode())

    def _send(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parent's name
        """Write nothing: `tell` gets what matters."""


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it had ended
