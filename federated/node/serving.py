"""A node at work: it connects outward, says that it lives, answers what comes, keeps its books.

Three threads, so that none waits for another:

- *heart*: a signed heartbeat every two seconds, whatever the node computes meanwhile;
- *fleet*: takes messages from the SuperLink, puts them to the node, hands the replies over;
- the caller's: decides waiting jobs by rule and closes epochs (`Node.decide_by_rule`).

A marketplace or SuperLink that is away is asked again. The node ends when it is told to, when one
of these threads meets what it does not understand, or when another process of the same node has
taken its place: two with one key would each keep half a journal.

    with Serving(home, node, address, clock, say, end=stop.set):
        stop.wait()
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import httpx
from flwr.app import Message

from federated.address import reach
from federated.certificates import trusted_by
from federated.errors import ReplyTooLongError, SuperLinkError
from federated.node.client_app import seat
from federated.node.home import NodeHome
from federated.node.runner import Node
from federated.presence import BEAT_SECONDS, SUPERSEDED, Heartbeat
from federated.records import unpack
from federated.superlink.fleet import HEARTBEAT_SECONDS, Fleet
from ledger.encoding import parse

BEAT_TIMEOUT: Final = 5.0
AGAIN_SECONDS: Final = 0.5
_BOOT_BYTES: Final = 16
_log = logging.getLogger(__name__)


class Serving:
    """One node's threads.

    Args:
        home: the node's folder; it has enrolled.
        node: opened from it.
        address: where the marketplace is.
        clock: returns Unix milliseconds.
        say: called with a line for people when the connection comes or goes.
        end: called when this process must not go on.

    Raises:
        NodeError: the node's key for the SuperLink is gone, or is none.
    """

    def __init__(
        self,
        home: NodeHome,
        node: Node,
        address: str,
        clock: Callable[[], int],
        say: Callable[[str], None],
        end: Callable[[], None],
    ) -> None:
        self._home = home
        self._node = node
        self._address = address
        # Here, where whoever starts the node still hears what is wrong with it.
        self._key = home.fleet_key()
        self._clock = clock
        self._say = say
        self._end = end
        self._leaving = threading.Event()
        self._said: dict[str, str] = {}
        self._connected: Fleet | None = None
        # What was asked, and the reply that has not arrived.
        self._unsent: tuple[Message, Message] | None = None
        self._threads = [
            threading.Thread(target=self._guarded, args=[work], name=name, daemon=True)
            for name, work in (("heart", self._heart), ("fleet", self._fleet))
        ]

    def __enter__(self) -> Self:
        """Start both threads."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop them, the one that computes after what it is doing."""
        self._leaving.set()
        fleet = self._connected
        if fleet is not None:
            # Its thread may wait for a message; this ends the wait.
            fleet.leave()
        for thread in self._threads:
            thread.join(BEAT_TIMEOUT + AGAIN_SECONDS)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Let nobody take a node for alive that has lost one of its threads."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it is, its text may hold data
            _log.error("the node cannot go on: %s", type(error).__name__)
            self._end()

    def _heart(self) -> None:
        key, boot, sequence = self._home.node_key(), secrets.token_hex(_BOOT_BYTES), 0
        told_flower = time.monotonic()
        with reach(self._home.folder, self._address, BEAT_TIMEOUT) as http:
            http.headers["Authorization"] = f"Bearer {self._home.api_key()}"
            while not self._leaving.is_set():
                sequence += 1
                beat = Heartbeat(self._node.asset, boot, sequence, self._clock())
                body = {"asset": self._node.asset, "signed": parse(beat.sign(key))}
                try:
                    answer = http.post("/v1/nodes/heartbeats", json=body)
                    if _is_superseded(answer):
                        self._tell("heart", "another process of this node runs; this one ends")
                        self._end()
                        return
                    said = f"HTTP {answer.status_code}" if answer.is_error else ""
                except httpx.HTTPError as error:
                    said = type(error).__name__
                self._tell("heart", said and f"no heartbeat arrives: {said}")
                if time.monotonic() - told_flower > HEARTBEAT_SECONDS:
                    told_flower = time.monotonic()
                    self._beat_flower()
                self._leaving.wait(BEAT_SECONDS)

    def _beat_flower(self) -> None:
        # Not in the thread that computes: Flower answers in the name of a node that is silent.
        fleet = self._connected
        if fleet is not None:
            try:
                fleet.beat()
            except SuperLinkError as error:
                self._tell("flower", str(error))

    def _fleet(self) -> None:
        context, key = trusted_by(self._home.folder), self._key
        number = int(self._home.settings.seat)
        while not self._leaving.is_set():
            with Fleet(self._address, context, key, number) as fleet:
                try:
                    fleet.connect()
                    if fleet.number != number:
                        # Needed to take the place again after this process was killed.
                        number = fleet.number
                        NodeHome.load(self._home.folder).seated(str(number))
                    self._connected = fleet
                    self._tell("fleet", "connected")
                    self._answer(fleet, number)
                except SuperLinkError as error:
                    self._tell("fleet", str(error))
                finally:
                    self._connected = None
            self._leaving.wait(AGAIN_SECONDS)

    def _answer(self, fleet: Fleet, number: int) -> None:
        """Answer what comes until the connection breaks.

        Raises:
            SuperLinkError: it broke.
        """
        app, context = seat(self._node, number)
        while not self._leaving.is_set():
            if self._unsent is not None:
                # The line broke under it, or the run has ended: once more, over a new connection.
                # The journal keeps it for a coordinator that asks again.
                unsent, self._unsent = self._unsent, None
                self._hand_over(fleet, *unsent)
            message = fleet.receive()
            if message is not None:
                self._unsent = message, app(message, context)
                self._hand_over(fleet, *self._unsent)
                self._unsent = None

    def _hand_over(self, fleet: Fleet, asked: Message, reply: Message) -> None:
        try:
            fleet.reply(reply)
        except ReplyTooLongError as error:
            # The coordinator asks once more for what began and does not come, and hears of it then.
            self._node.cannot_send(unpack(asked))
            self._tell("reply", str(error))

    def _tell(self, what: str, text: str) -> None:
        if self._said.get(what) != text:
            self._said[what] = text
            if text:
                self._say(text)


def _is_superseded(answer: httpx.Response) -> bool:
    try:
        return answer.is_error and answer.json().get("code") == SUPERSEDED
    except (ValueError, AttributeError):
        # Somebody else answers: a proxy's page, say.
        return False
