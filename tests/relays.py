"""What may stand between a node and the service of a deployed market, on loopback.

    with Line(town.market.port) as line:            # passes bytes on, cannot read them
        with town.reached_by(line.address, "west"):
            line.cut()
            line.mend()

    with Echo(town.market.address, town.data / "tls") as echo:       # ends TLS, as its operator can
        with town.reached_by(echo.address, *town.nodes):
            echo.repeated

    with Lossy(town.market.address, town.data / "tls", "reply", 3) as relay:
        with town.reached_by(relay.address, "west"):
            relay.lost

The service's certificate names 127.0.0.1, so a node believes it on any port of that address.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections import defaultdict, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx
from flwr.proto.fleet_pb2 import PullMessagesResponse, PushMessagesRequest
from flwr.proto.message_pb2 import PullObjectRequest, PushObjectRequest

from federated import certificates
from federated.certificates import trusting
from marketplace.processes import HOST

CHUNK = 1 << 16
_AT_ONCE = struct.pack("ii", 1, 0)


class Line:
    """A line for TCP to a port of this machine that can be cut.

    Cut `loudly`, connections break and new ones are refused. Cut silently, as by a firewall that
    has forgotten them, whoever sent something waits: only the service's end is told.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._unheard: list[socket.socket] = []
        self._silent = False
        self._listening = self._listen(0)
        self._port = int(self._listening.getsockname()[1])
        self.address = f"https://{HOST}:{self._port}"

    def __enter__(self) -> Self:
        self._accept_from(self._listening)
        return self

    def __exit__(self, *error: object) -> None:
        self.cut()

    def cut(self, *, loudly: bool = True) -> None:
        """Let nothing through from now on."""
        if loudly:
            self._close(self._listening)
        with self._lock:
            self._silent = not loudly
            pairs, self._pairs = self._pairs, []
            for inner, outer in pairs:
                self._close(outer)
                if loudly:
                    self._close(inner)
                else:
                    self._unheard.append(inner)
            if loudly:
                while self._unheard:
                    self._close(self._unheard.pop())

    def mend(self) -> None:
        """Let new connections through; those that were cut stay so."""
        with self._lock:
            was_silent, self._silent = self._silent, False
        if not was_silent:
            self._listening = self._listen(self._port)
            self._accept_from(self._listening)

    @staticmethod
    def _listen(port: int) -> socket.socket:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(64)
        return listening

    @staticmethod
    def _close(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            # Without a farewell, and waking whoever reads from it here.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    def _accept_from(self, listening: socket.socket) -> None:
        def accept() -> None:
            while True:
                try:
                    inner, _ = listening.accept()
                except OSError:
                    return
                self._join(inner)

        threading.Thread(target=accept, daemon=True).start()

    def _join(self, inner: socket.socket) -> None:
        with self._lock:
            if self._silent:
                self._unheard.append(inner)
                return
            try:
                outer = socket.create_connection((HOST, self._to))
            except OSError:
                self._close(inner)
                return
            self._pairs.append((inner, outer))
        for ends in ((inner, outer), (outer, inner)):
            threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(CHUNK):
                sink.sendall(data)
        except OSError:
            pass
        with self._lock:
            pair = next((pair for pair in self._pairs if source in pair), None)
            if pair is not None:
                # One end hung up by itself. A pair that is not there any more was cut.
                self._pairs.remove(pair)
                self._close(pair[0])
                self._close(pair[1])


class LostError(Exception):
    """What was asked or answered does not arrive, and the connection breaks."""


class Relay:
    """The service's own address once more; what passes can be read, as the operator can.

    Args:
        address: of the service.
        tls: folder with the service's certificate and key.
    """

    def __init__(self, address: str, tls: Path) -> None:
        self._lock = threading.Lock()
        context = trusting(tls / certificates.CA)
        self._http = httpx.Client(base_url=address, verify=context, timeout=120.0)
        self._server = ThreadingHTTPServer((HOST, 0), _handler(self))
        self._server.daemon_threads = True
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(tls / "server.pem", tls / "server.key")
        # Shaken hands with in the thread of each connection.
        self._server.socket = server.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.address = f"https://{HOST}:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._http.close()

    def answer(self, ask: httpx.Request) -> httpx.Response:
        """Answer one request of a node.

        Raises:
            LostError: see there.
        """
        of_fleet = "/v1/fleet/" in ask.url.path
        return self.answer_fleet(ask.url.path.rpartition("/")[2] if of_fleet else "", ask)

    def answer_fleet(self, name: str, ask: httpx.Request) -> httpx.Response:
        """Answer a request for the SuperLink, by the last part of its path; empty for others."""
        del name
        return self._http.send(ask)

    def request(self, method: str, path: str, headers: Any, content: bytes) -> httpx.Request:
        """Return the request that is passed on."""
        kept = {
            key: value
            for key, value in headers.items()
            if key.lower() not in ("host", "connection", "accept-encoding", "content-length")
        }
        return self._http.build_request(
            method, path, headers=kept | {"accept-encoding": "identity"}, content=content
        )


class Lossy(Relay):
    """Loses one thing, and the connection that it came over, and nothing more.

    Args:
        what: `request`, an answer that holds a request for a node; `reply`, the beginning of a
            node's reply; or `rest`, the first part of what comes after that.
        which: the how manieth of its kind.

    Attributes:
        lost: whether it has been lost.
    """

    def __init__(self, address: str, tls: Path, what: str, which: int) -> None:
        super().__init__(address, tls)
        self._what, self._which = what, which
        self._seen: set[str] = set()
        self.lost = False

    def answer_fleet(self, name: str, ask: httpx.Request) -> httpx.Response:
        """Pass on, but once."""
        if name == "pull-messages":
            found = self._http.send(ask)
            for head in PullMessagesResponse.FromString(found.content).messages_list:
                self._lose("request", head.metadata.message_id)
            return found
        if name == "push-messages":
            head = PushMessagesRequest.FromString(ask.content).messages_list[0]
            self._lose("reply", head.metadata.message_id)
        if name == "push-object":
            self._lose("rest", PushObjectRequest.FromString(ask.content).session_id)
        return self._http.send(ask)

    def _lose(self, what: str, which: str) -> None:
        with self._lock:
            if self._what != what or which in self._seen:
                return
            self._seen.add(which)
            self.lost |= len(self._seen) == self._which
            if len(self._seen) == self._which:
                raise LostError


class Echo(Relay):
    """The service's own address once more, where requests come again and out of their order.

    Each new request is given to its node between what was given before: the last one again, then
    the new one, the new one again, and all earlier ones from the last to the first. Each reply is
    pushed once more, in the wrong order too.

    Attributes:
        repeated: how often a node was given a request that it had been given before.
        pushed_again: how often a reply was pushed that had been pushed before.
        replies: by the message replied to, the contents that a node pushed, one for each reply.
    """

    def __init__(self, address: str, tls: Path) -> None:
        super().__init__(address, tls)
        self.repeated = self.pushed_again = 0
        self.replies: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        self._given: dict[str, list[bytes]] = defaultdict(list)
        self._to_come: dict[str, deque[bytes]] = defaultdict(deque)
        self._pushed: dict[str, list[httpx.Request]] = defaultdict(list)
        self._objects: dict[str, httpx.Response] = {}

    def to_come(self) -> int:
        """How many repetitions have not been given yet."""
        with self._lock:
            return sum(map(len, self._to_come.values()))

    def answer_fleet(self, name: str, ask: httpx.Request) -> httpx.Response:
        """Answer a request for the SuperLink, with what came before where it is not yet time."""
        if name == "pull-messages":
            return self._pull(ask)
        if name == "pull-object":
            return self._object(ask)
        if name == "push-messages":
            return self._push(ask)
        return self._http.send(ask)

    def _pull(self, ask: httpx.Request) -> httpx.Response:
        node = ask.headers["flwr-public-key"]
        with self._lock:
            if self._to_come[node]:
                self.repeated += 1
                return self._of_fleet(self._to_come[node].popleft())
        self._push_again(node)
        found = self._http.send(ask)
        if not found.is_success or not PullMessagesResponse.FromString(found.content).messages_list:
            return found
        with self._lock:
            before = self._given[node][::-1]
            self._given[node].append(found.content)
            order = [*before[:1], found.content, found.content, *before]
            self.repeated += bool(before)
            self._to_come[node].extend(order[1:])
            if before:
                return self._of_fleet(order[0])
        return found

    def _object(self, ask: httpx.Request) -> httpx.Response:
        """The SuperLink forgets a run's objects with its run; whoever repeats things does not."""
        name = PullObjectRequest.FromString(ask.content).object_id
        if name not in self._objects:
            found = self._http.send(ask)
            if not found.is_success:
                return found
            self._objects[name] = found
        return self._objects[name]

    def _push(self, ask: httpx.Request) -> httpx.Response:
        pushed = PushMessagesRequest.FromString(ask.content)
        head, tree = pushed.messages_list[0], pushed.message_object_trees[0]
        with self._lock:
            contents = tuple(sorted(child.object_id for child in tree.children))
            self.replies[head.metadata.reply_to_message_id].append(contents)
            self._pushed[ask.headers["flwr-public-key"]].append(ask)
        return self._http.send(ask)

    def _push_again(self, node: str) -> None:
        """Push a node's replies again, the last one first.

        Flower takes the rest of a reply only from whoever began it last, so not before the node is
        through with all of them and asks for more.
        """
        with self._lock:
            again = self._pushed.pop(node, [])[::-1]
            self.pushed_again += len(again)
        for ask in again:
            self._http.send(ask)

    @staticmethod
    def _of_fleet(content: bytes) -> httpx.Response:
        return httpx.Response(
            200, content=content, headers={"content-type": "application/protobuf"}
        )


def _handler(relay: Relay) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            try:
                found = relay.answer(relay.request(self.command, self.path, self.headers, content))
            except LostError:
                self.close_connection = True
                return
            except httpx.HTTPError:
                found = httpx.Response(503)
            self.send_response(found.status_code)
            for name in ("content-type", "cache-control"):
                if name in found.headers:
                    self.send_header(name, found.headers[name])
            self.send_header("content-length", str(len(found.content)))
            self.end_headers()
            self.wfile.write(found.content)

        do_GET = do_POST = _any  # noqa: N815 - the base class looks for these

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    return Handler
