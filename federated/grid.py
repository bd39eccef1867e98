"""Flower's `Grid` in one process: the same apps as behind a SuperLink, without sockets or polling.

Decides how messages get from a `ServerApp` to `ClientApp`s and back. Each one is serialised,
handed over as bytes and read again, in both directions: nobody can change a record that another
still holds, and what a `tap` sees is exactly what crossed. It knows nothing of what the messages
say, and keeps none of them.

    with InProcessGrid({1: (app, context), 2: (app2, context2)}) as grid:
        ServerApp(...)(grid, context)

One process is no trust boundary. This is for one machine whose owner runs all roles; the deployed
way to run uses Flower's SuperLink and SuperNodes with the same two apps.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Self

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from federated.errors import GridError
from federated.records import new_message

if TYPE_CHECKING:
    from types import TracebackType

TO_NODE: Final = "to_node"
TO_SERVER: Final = "to_server"

APP_RAISED: Final = "internal"
"""Reason of the error reply when a ClientApp raised; never the exception's own text."""

BAD_REPLY: Final = "bad_reply"
"""Reason of the error reply when a ClientApp returned no reply to what it was asked."""

Tap = Callable[[str, int, bytes], None]
"""Called with direction, node id and the serialised message; one call at a time."""


def quieten_flower() -> None:
    """Silence Flower's logger in this process.

    Flower installs a handler on standard error at import and logs, at ERROR, the text of exceptions
    from apps, which may hold data. Whoever wants its log adds a handler again.
    """
    logger = logging.getLogger("flwr")
    logger.setLevel(logging.CRITICAL + 1)
    logger.propagate = False


class InProcessGrid(Grid):
    """Runs each node's ClientApp on a thread of its own, one message after the other.

    Replies of `send_and_receive` come in the order of the messages, whichever node was faster. A
    node that does not answer in time has no reply in the list; what it says later is dropped. A
    ClientApp that raises becomes an error reply with the fixed reason `APP_RAISED`.

    Args:
        nodes: by node id, the app and its context; the context stays with the node.
        run_id: Flower's number for the run that the messages belong to.
        tap: sees every serialised message that crosses; for tests and for measuring.

    Raises:
        GridError: a context of another node.
    """

    def __init__(
        self,
        nodes: Mapping[int, tuple[ClientApp, Context]],
        *,
        run_id: int = 1,
        tap: Tap | None = None,
    ) -> None:
        quieten_flower()
        for node_id, (_, context) in nodes.items():
            if context.node_id != node_id:
                raise GridError(f"node {node_id} has the context of node {context.node_id}")
        self._run = Run.create_empty(run_id)
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._tap = tap
        self._closed = False
        self._pending: dict[str, Future[bytes]] = {}
        self._workers = {
            node_id: _Worker(node_id, app, context, self._crossed)
            for node_id, (app, context) in nodes.items()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the nodes' threads, each after what it is doing; does not wait for them."""
        self._closed = True
        for worker in self._workers.values():
            worker.stop()

    def set_run(self, run: Run) -> None:
        """Say which run the messages belong to."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that the messages belong to."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Make a message to a node; see `federated.records.new_message`."""
        return new_message(self._run.run_id, content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> list[int]:
        """Return the ids of all nodes, ascending."""
        return sorted(self._workers)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Hand messages to their nodes and return at once.

        Returns:
            The id under which each reply can be pulled, in the order of the messages.

        Raises:
            GridError: a message to a node that is not here (then none is sent), or a closed Grid.
        """
        if self._closed:
            raise GridError("the grid is closed")
        outgoing = []
        for message in messages:
            node_id = message.metadata.dst_node_id
            if node_id not in self._workers:
                raise GridError(f"no node {node_id} is connected")
            proto = message_to_proto(message)
            proto.metadata.message_id = str(next(self._ids))
            outgoing.append((node_id, proto.metadata.message_id, _serialise(proto)))
        for node_id, message_id, data in outgoing:
            self._crossed(TO_NODE, node_id, data)
            self._pending[message_id] = self._workers[node_id].ask(data)
        return [message_id for _, message_id, _ in outgoing]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies that are there by now, each once."""
        ready = [
            message_id
            for message_id in message_ids
            if message_id in self._pending and self._pending[message_id].done()
        ]
        return [_read(self._pending.pop(message_id).result()) for message_id in ready]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Send messages and wait for the replies.

        Args:
            messages: at most one to each node is usual; more are answered in turn.
            timeout: seconds to wait for all of them together; no limit where None.

        Returns:
            The replies that came in time, in the order of the messages.

        Raises:
            GridError: as `push_messages`.
        """
        message_ids = self.push_messages(messages)
        wait([self._pending[message_id] for message_id in message_ids], timeout=timeout)
        replies = self.pull_messages(message_ids)
        for message_id in message_ids:
            self._pending.pop(message_id, None)
        return replies

    def _crossed(self, direction: str, node_id: int, data: bytes) -> None:
        if self._tap is not None:
            with self._lock:
                self._tap(direction, node_id, data)


class _Worker:
    """One node: its app, its context, and the thread that runs them.

    A daemon thread, so that a node that hangs in its data engine cannot keep the process alive; a
    node's journal must survive being cut off anyway.
    """

    def __init__(
        self, node_id: int, app: ClientApp, context: Context, crossed: Callable[..., None]
    ) -> None:
        self._node_id = node_id
        self._app = app
        self._context = context
        self._crossed = crossed
        self._queue: SimpleQueue[tuple[bytes, Future[bytes]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=f"node-{node_id}", daemon=True)
        self._thread.start()

    def ask(self, data: bytes) -> Future[bytes]:
        """Queue one serialised message; the future holds the serialised reply."""
        reply: Future[bytes] = Future()
        self._queue.put((data, reply))
        return reply

    def stop(self) -> None:
        self._queue.put(None)

    def _serve(self) -> None:
        while (item := self._queue.get()) is not None:
            data, future = item
            reply = self._answer(data)
            try:
                self._crossed(TO_SERVER, self._node_id, reply)
            except BaseException as error:  # noqa: BLE001 - a tap that fails is the caller's error
                future.set_exception(error)
            else:
                future.set_result(reply)

    def _answer(self, data: bytes) -> bytes:
        message = _read(data)
        # The errors answer a fresh reading of the question: the app may have changed this one.
        expected = (self._node_id, message.metadata.message_id)
        try:
            reply = self._app(message, self._context)
        except BaseException:  # noqa: BLE001 - even SystemExit of an app must become a reply
            return _error(_read(data), APP_RAISED)
        if not isinstance(reply, Message):
            return _error(_read(data), BAD_REPLY)
        if (reply.metadata.src_node_id, reply.metadata.reply_to_message_id) != expected:
            return _error(_read(data), BAD_REPLY)
        try:
            return _serialise(message_to_proto(reply))
        except Exception:  # noqa: BLE001 - a reply too large or of strange records
            return _error(_read(data), BAD_REPLY)


def _error(message: Message, reason: str) -> bytes:
    error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason)
    return _serialise(message_to_proto(Message(error, reply_to=message)))


def _serialise(proto: MessageProto) -> bytes:
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _read(data: bytes) -> Message:
    return message_from_proto(MessageProto.FromString(data))
