"""One run of a SuperLink as Flower's `Grid`: hands messages over and takes the replies.

While it lasts, a thread of its own tells the SuperLink that the coordinator lives; a run without
that ends after a minute. A SuperLink that is restarted goes on with the same run: each call is
repeated for a while (`Patience`).

    with runs.begin() as grid:          # `federated.superlink.runs`
        ids = grid.push_messages(messages)
        replies = grid.pull_messages(ids)
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import httpx
from flwr.app import Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.common.serde import run_from_proto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import (
    GetNodesRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushAppMessagesRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.serverapp import Grid
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supercore.run import Run
from flwr.supercore.runtime import RuntimeHttpClient

from federated.errors import GridError, SuperLinkError
from federated.records import new_message
from federated.superlink import messages
from federated.superlink.bell import Bell
from federated.superlink.process import Access

PATIENCE: Final = 60.0
"""Seconds for which a call is repeated while the SuperLink does not answer."""

HEARTBEAT_SECONDS: Final = 10.0
"""Flower ends a run that was silent for 60 s."""

RETURN_SECONDS: Final = 30.0
"""For so long a node may be away, while it or the SuperLink is restarted, and keep its job."""

_RETRY: Final = 0.2
_MISSED_AGAIN: Final = 1.0
# Asked after this and missed again, a node was there in between.
_MISSED_ANEW: Final = 5.0
_POLL: Final = 0.25
_PULL_AGAIN: Final = 0.01
# What is on its way for longer is not lost: asked again, the node sends only what is not there yet.
_REST_SECONDS: Final = 10.0
_NODE: Final = Node(node_id=SUPERLINK_NODE_ID)
_log = logging.getLogger(__name__)

T = TypeVar("T")


class Patience:
    """Calls again while the SuperLink may only be restarting; `give_up` ends that for all."""

    def __init__(self) -> None:
        self._given_up = threading.Event()

    def give_up(self) -> None:
        """Let nobody wait any longer: the SuperLink was stopped for good."""
        self._given_up.set()

    def __call__(self, call: Callable[[], T]) -> T:
        """Call, and return what it returns.

        Raises:
            SuperLinkError: it refuses, or does not answer for `PATIENCE`.
        """
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return call()
            except httpx.HTTPError as error:
                if not messages.is_passing(error):
                    raise SuperLinkError(f"the SuperLink refuses: {_word(error)}") from error
                if time.monotonic() > end or self._given_up.wait(_RETRY):
                    raise SuperLinkError("the SuperLink does not answer") from error


@dataclass
class _Sent:
    """A message without a reply yet.

    Attributes:
        part: what is sent.
        missed: since when its node has been away; 0 while it was not missed.
        not_before: when to ask again.
    """

    part: messages.Split
    missed: float = 0.0
    not_before: float = 0.0


class RunGrid(Grid):
    """Flower's Grid of one run over a SuperLink; see `federated.grid` for the one in a process."""

    def __init__(self, access: Access, token: str, bell: Bell, patiently: Patience) -> None:
        self._client = runtime(access, [RuntimeTokenHttpInterceptor(token=token)])
        self._bell = bell
        self._patiently = patiently
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._sent: dict[str, _Sent] = {}
        found = self._patiently(lambda: self._client.PullTaskInput(PullTaskInputRequest()))
        self._run: Run = run_from_proto(found.run)
        self._beat = threading.Thread(target=self._keep_alive, name="run-alive", daemon=True)
        self._beat.start()

    def set_run(self, run: Run) -> None:
        """Refuse: a run is what it was begun as.

        Raises:
            GridError: always.
        """
        raise GridError(f"this is the grid of run {self._run.run_id}, not of {run.run_id}")

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
        """Return the ids of all nodes that are connected, ascending."""
        found = self._patiently(lambda: self._client.GetNodes(GetNodesRequest()))
        return sorted(node.node_id for node in found.nodes)

    def push_messages(self, messages_: Iterable[Message]) -> list[str]:
        """Hand messages over to the SuperLink, which keeps them for nodes that are away.

        The same message once more is a message of its own.

        Returns:
            The id under which each reply can be pulled, in the order of the messages.

        Raises:
            GridError: the run has ended.
            SuperLinkError: the SuperLink refuses, for example a node that has never connected and
                does not within `PATIENCE`.
        """
        parts = [messages.split(self._stamped(message)) for message in messages_]
        ids, end = [""] * len(parts), time.monotonic() + PATIENCE
        while missing := [at for at, name in enumerate(ids) if not name]:
            self._check()
            taken = self._hand_over([parts[at] for at in missing])
            for at, name in zip(missing, taken, strict=True):
                ids[at] = name
                if name:
                    self._sent[name] = _Sent(parts[at])
            self._bell.ring()
            if all(ids):
                break
            # A node that has enrolled and not connected yet is unknown to Flower.
            if time.monotonic() > end:
                raise SuperLinkError("one of the nodes has never connected; is it running?")
            time.sleep(_RETRY)
        return ids

    def _hand_over(self, parts: Sequence[messages.Split]) -> list[str]:
        """Push messages once; return an empty id for each that is not taken."""
        request = PushAppMessagesRequest(
            messages_list=[part.head for part in parts],
            message_object_trees=[part.tree for part in parts],
        )
        answer = self._patiently(lambda: self._client.PushMessages(request))
        records = {part.name: part.record for part in parts}
        for name in answer.objects_to_push:
            if name in records:
                self._push(name, records[name], answer.session_id)
        return list(answer.message_ids)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies that are there by now, each once.

        A node that is away for less than `RETURN_SECONDS` is asked again when it is back.
        """
        self._check()
        now, waiting = time.monotonic(), []
        for name in message_ids:
            sent = self._sent.get(name)
            if sent is None or sent.not_before <= now:
                waiting.append(name)
        if not waiting:
            return []
        request = PullAppMessagesRequest(message_ids=waiting)
        found = self._patiently(lambda: self._client.PullMessages(request))
        whole = [
            self._take(head, tree)
            for head, tree in zip(found.messages_list, found.message_object_trees, strict=True)
            if not self._sent_again(head)
        ]
        return [message for message in whole if message is not None]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Send messages and wait for the replies.

        Returns:
            The replies that came in time, in the order in which they came.

        Raises:
            GridError, SuperLinkError: as `push_messages`.
        """
        end = None if timeout is None else time.monotonic() + timeout
        waiting = set(self.push_messages(messages))
        replies: list[Message] = []
        while waiting and (end is None or time.monotonic() < end):
            came = self.pull_messages(waiting)
            waiting -= {message.metadata.reply_to_message_id for message in came}
            replies += came
            if waiting and not came:
                self._bell.wait(_POLL)
        return replies

    def wait(self, seconds: float) -> None:
        """Wait so long, or until a node has sent something."""
        self._bell.wait(seconds)

    def end(self, sub_status: str) -> None:
        """End the run: for Flower `completed` or `failed`, whatever became of the job."""
        self._ended.set()
        self._beat.join()
        try:
            self._client.PushTaskOutput(PushTaskOutputRequest(sub_status=sub_status))
        except httpx.HTTPError as error:
            # The SuperLink ends a silent run by itself after a minute.
            _log.warning("the end of run %s was not told: %s", self._run.run_id, type(error))
        self._client.close()

    def _stamped(self, message: Message) -> Message:
        """Return a copy with the time of now: by it, Flower tells equal messages apart."""
        metadata = message.metadata
        return self.create_message(
            message.content,
            metadata.message_type,
            metadata.dst_node_id,
            metadata.group_id,
            metadata.ttl,
        )

    def _push(self, name: str, content: bytes, session_id: str) -> None:
        request = PushObjectRequest(
            node=_NODE,
            run_id=self._run.run_id,
            object_id=name,
            object_content=content,
            session_id=session_id,
        )
        self._patiently(lambda: self._client.PushObject(request))

    def _check(self) -> None:
        if self._ended.is_set():
            raise GridError("the run has ended")
        if self._lost.is_set():
            raise SuperLinkError("the SuperLink has ended this run")

    def _sent_again(self, head: MessageProto) -> bool:
        """Send a message again for which Flower has no node, and say so.

        Flower forgets a message as soon as its node is away at a moment in which somebody asks for
        the reply. The node may have begun on it: its journal gives the same reply to both.
        """
        name, now = head.metadata.reply_to_message_id, time.monotonic()
        sent = self._sent.get(name)
        if sent is None or head.error.code != ErrorCode.NODE_UNAVAILABLE:
            return False
        if now > sent.not_before + _MISSED_ANEW:
            sent.missed = now
        if now - sent.missed > RETURN_SECONDS:
            return False
        self._hand_over([sent.part])
        sent.not_before = now + _MISSED_AGAIN
        self._bell.ring()
        return True

    def _take(self, head: MessageProto, tree: ObjectTree) -> Message | None:
        """Return a reply; None where its record does not come, and its node is asked once more."""
        asked, name, record = head.metadata.reply_to_message_id, messages.record_of(tree), None
        if name is not None:
            record = self._object(name)
            if record is None:
                # Its node died here, or the line broke: what was begun is not finished any more.
                if asked in self._sent:
                    self._hand_over([self._sent[asked].part])
                    self._bell.ring()
                return None
        self._sent.pop(asked, None)
        # Not confirmed: the SuperLink forgets all of a run's objects when the run ends.
        return messages.join(head, tree, record)

    def _object(self, name: str) -> bytes | None:
        """Wait for an object: a node pushes the head of its reply first and then the rest."""
        end = time.monotonic() + _REST_SECONDS
        while time.monotonic() < end:
            data = self._patiently(
                lambda: messages.pull(self._client.PullObject, _NODE, self._run.run_id, name)
            )
            if data is not None:
                return data
            time.sleep(_PULL_AGAIN)
        return None

    def _keep_alive(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            try:
                if not self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest()).success:
                    self._lost.set()
                    return
            except httpx.HTTPError as error:
                _log.info("the SuperLink did not hear that run %s goes on: %s", self._run, error)


def runtime(access: Access, interceptors: Sequence[ProtobufClientInterceptor]) -> RuntimeHttpClient:
    """Return a client of the SuperLink's Runtime API, over TLS."""
    return RuntimeHttpClient.from_server_address(
        access.address,
        insecure=False,
        root_certificates=access.ca,
        interceptors=[RuntimeVersionHttpInterceptor(component_name="rongshu"), *interceptors],
    )


def _word(error: httpx.HTTPError) -> str:
    # Its own text may repeat what was sent.
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    return type(error).__name__
