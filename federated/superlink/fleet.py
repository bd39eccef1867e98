"""A node's side of a SuperLink: takes messages and gives replies, over TLS, outward only.

Flower's Fleet API wants a node to prove itself with a P-384 key, signing the time with each
request; see `federated.fleet_key`.

    with Fleet("https://market.example.org:8448", trusting(ca), key, node_id) as fleet:
        fleet.connect()
        while (message := fleet.receive()) is not None:
            fleet.reply(answer(message))

Nothing that comes here is believed: what a message asks for is the node's guard to decide. A bundle
of code that a run names is never fetched.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Final, Self, TypeVar

import httpx
from flwr.app import Message
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, TIMESTAMP_HEADER
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supernode.fleet_http_client import FleetHttpClient
from google.protobuf.message import DecodeError

from federated.errors import ReplyTooLongError, SuperLinkError
from federated.fleet_key import FleetKey
from federated.superlink import messages

HEARTBEAT_SECONDS: Final = 20.0
"""How often Flower is told that the node lives; it takes a node for gone after twice its 30 s."""

_PULL_AGAIN: Final = 0.01
_PULL_SECONDS: Final = 30.0
# Flower refuses a time stamp that is five minutes old or five seconds in the future.
_SKEW_SECONDS: Final = 2.0
_HTTP_TIMEOUT: Final = 60.0

T = TypeVar("T")


def _now() -> datetime:
    return datetime.now(UTC)


class Fleet:
    """One node's connection.

    Args:
        address: base address of the operator's service, which passes Fleet requests on.
        context: whom to trust (`federated.certificates.trusting`).
        key: the node's.
        node_id: Flower's number for it, from its enrolment; the SuperLink may tell another one when
            the node connects.
        clock: this machine's; may be wrong.
    """

    def __init__(
        self,
        address: str,
        context: ssl.SSLContext,
        key: FleetKey,
        node_id: int,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._key = key
        self._node = Node(node_id=node_id)
        self._client = FleetHttpClient(
            address,
            # Not Flower's check of versions: it lets whoever answers end this process.
            interceptors=[_NodeProof(key, clock)],
            verify=context,
            timeout=_HTTP_TIMEOUT,
        )

    def __enter__(self) -> Self:
        """Return the connection; nothing is sent yet."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Tell the SuperLink that the node leaves, if it can be told."""
        self.leave()
        self._client.close()

    def leave(self) -> None:
        """Give up the node's place, if the SuperLink can be told; ends a `receive` that waits."""
        with contextlib.suppress(SuperLinkError):
            leave = DeactivateNodeRequest(node_id=self._node.node_id)
            self._ask(self._client.DeactivateNode, leave)

    @property
    def number(self) -> int:
        """Flower's number for the node."""
        return int(self._node.node_id)

    def connect(self) -> None:
        """Take this node's place, also when an earlier process of it died in that place.

        Raises:
            SuperLinkError: the SuperLink does not know the node's key, or cannot be reached.
        """
        request = ActivateNodeRequest(
            public_key=self._key.public, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL
        )
        try:
            found = self._ask(self._client.ActivateNode, request)
        except SuperLinkError:
            # Flower takes a node that was killed for present, for a minute, and would not let it in
            # a second time.
            self.leave()
            found = self._ask(self._client.ActivateNode, request)
        self._node = Node(node_id=found.node_id)

    def beat(self) -> None:
        """Tell the SuperLink that the node lives.

        Raises:
            SuperLinkError: it does not know the node, or cannot be reached.
        """
        request = SendNodeHeartbeatRequest(
            node=self._node, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL
        )
        if not self._ask(self._client.SendNodeHeartbeat, request).success:
            raise SuperLinkError("the SuperLink does not know this node")

    def receive(self) -> Message | None:
        """Return the next message, None where there is none now.

        Raises:
            SuperLinkError: the SuperLink refuses or cannot be reached, or a message came in part.
        """
        found = self._ask(self._client.PullMessages, PullMessagesRequest(node=self._node))
        if not found.messages_list:
            return None
        head, tree = found.messages_list[0], found.message_object_trees[0]
        run_id = head.metadata.run_id
        name = messages.record_of(tree)
        # Not confirmed: the SuperLink forgets all of a run's objects when the run ends.
        return messages.join(head, tree, None if name is None else self._object(run_id, name))

    def reply(self, message: Message) -> None:
        """Hand over a reply.

        Raises:
            ReplyTooLongError: it will not be taken.
            SuperLinkError: the run has ended, or the SuperLink cannot be reached.
        """
        part = messages.split(message)
        run_id = message.metadata.run_id
        pushed = self._ask(
            self._client.PushMessages,
            PushMessagesRequest(
                node=self._node,
                messages_list=[part.head],
                message_object_trees=[part.tree],
                clientapp_runtime_list=[0.0],
            ),
        )
        if part.name in pushed.objects_to_push:
            request = PushObjectRequest(
                node=self._node,
                run_id=run_id,
                object_id=part.name,
                object_content=part.record,
                session_id=pushed.session_id,
            )
            self._ask(self._client.PushObject, request)

    def _object(self, run_id: int, name: str) -> bytes:
        end = time.monotonic() + _PULL_SECONDS
        while time.monotonic() < end:
            data = messages.pull(
                lambda request: self._ask(self._client.PullObject, request),
                self._node,
                run_id,
                name,
            )
            if data is not None:
                return data
            time.sleep(_PULL_AGAIN)
        raise SuperLinkError("a message began and did not arrive whole")

    def _ask(self, call: Callable[..., T], request: object) -> T:
        try:
            return call(request)
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            if status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
                raise ReplyTooLongError(
                    "a reply is longer than the service takes; its operator may have lowered "
                    "RONGSHU_MAX_REPLY_BYTES, or a proxy before it takes less"
                ) from error
            said = " (is this machine's clock right?)" if status == httpx.codes.UNAUTHORIZED else ""
            raise SuperLinkError(f"the SuperLink refuses: HTTP {status}{said}") from error
        except httpx.HTTPError as error:
            raise SuperLinkError(
                f"the SuperLink cannot be reached: {type(error).__name__}"
            ) from error
        except DecodeError as error:
            raise SuperLinkError("something else answers in the SuperLink's place") from error


class _NodeProof:
    """Signs the time with each request, by the operator's clock once it has told its own.

    The signature proves possession of the key within a window of minutes. A node whose clock is
    wrong would be shut out, although nothing that it may or may not do depends on this clock.
    """

    def __init__(self, key: FleetKey, clock: Callable[[], datetime]) -> None:
        self._key = key
        self._clock = clock
        self._offset = timedelta(0)

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Send a request with its proof; once more where the clock was wrong."""
        answer = self._send(context, call_next)
        if answer.status_code == httpx.codes.UNAUTHORIZED and self._learn(answer):
            return self._send(context, call_next)
        return answer

    def _send(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        stamp = (self._clock() + self._offset).isoformat()
        proof = {
            FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(self._key.public).decode("ascii"),
            TIMESTAMP_HEADER: stamp,
            FLEET_HTTP_SIGNATURE_HEADER: b64encode(self._key.sign(stamp.encode())).decode("ascii"),
        }
        for name, value in proof.items():
            context.request.headers[name] = value
        return call_next(context)

    def _learn(self, answer: httpx.Response) -> bool:
        """Take over the operator's clock; say whether it differs from what was used."""
        try:
            told = parsedate_to_datetime(answer.headers.get("date", ""))
        except ValueError:
            return False
        if told.tzinfo is None:
            told = told.replace(tzinfo=UTC)
        offset = told - self._clock()
        changed = abs((offset - self._offset).total_seconds()) > _SKEW_SECONDS
        self._offset = offset
        return changed
