"""One exchange with the nodes: the same kind of question to each, and what came back, sorted.

Decides who answered, refused, failed or is gone, and by which word. Does not decide what that means
for the job: `federated.server_app` does.

    replies = Exchange(session, grid).send(bodies, Contribution, number=3, step="newton")
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar, runtime_checkable

from flwr.app import Message
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from federated import presence
from federated.errors import MessageError
from federated.messages import (
    Answer,
    Contribution,
    Failure,
    KeysReply,
    Refusal,
    RelayReply,
    Reply,
    read_reply,
)
from federated.records import MESSAGE_TYPE, pack, unpack
from federated.session import Progress, Session, Watch

NO_REPLY: Final = "no_reply"
NODE_ERROR: Final = "node_error"
DUPLICATE: Final = "duplicate"
MALFORMED: Final = "malformed"
UNEXPECTED: Final = "unexpected"
RESTARTED: Final = "restarted"

GONE: Final = frozenset({NO_REPLY, RESTARTED})
"""What is nobody's fault: the node does not answer, or has forgotten the secrets of the round."""

_GUARDED: Final = (KeysReply, Contribution, RelayReply)
"""Before these a node's guard looks at the log, so the newest checkpoint goes with the request."""

WAIT_SECONDS: Final = 0.25
SHOW_SECONDS: Final = 2.0
"""How often a job that waits is shown to be under way, and looked at whether it is still wanted."""

Kind = TypeVar("Kind", bound=Answer)


@runtime_checkable
class WaitingGrid(Protocol):
    """A Grid that can be waited on without asking it again and again."""

    def wait(self, seconds: float) -> None:
        """Wait so long, or until a reply may be there."""

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """As `Grid.push_messages`."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """As `Grid.pull_messages`."""


@dataclass
class Replies(Generic[Kind]):
    """What came back, by asset.

    Attributes:
        answers: each with the bytes that it was read from.
        refusals: nodes that will not.
        failures: nodes that could not, or whose answer cannot be used.
        gone: nodes that said nothing, or have forgotten the round.
    """

    answers: dict[str, tuple[Kind, bytes]] = field(default_factory=dict)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)


class Exchange:
    """Sends bodies to nodes of a session over a Grid.

    Attributes:
        attempt: the one under way.
    """

    def __init__(self, session: Session, grid: Grid) -> None:
        self.attempt = session.attempt
        self._session = session
        self._grid = grid
        self._leases: dict[int, bytes | None] = {}

    def send(
        self, bodies: Mapping[str, bytes], wanted: type[Kind], number: int, step: str
    ) -> Replies[Kind]:
        """Send one body to each node and sort what comes back by who sent it.

        Args:
            bodies: by asset.
            wanted: the kind of answer.
            number: the round, for labels and progress.
            step: what is asked, for progress.
        """
        session, replies = self._session, Replies[Kind]()
        checkpoint = session.checkpoint() if wanted in _GUARDED else None
        lease = self._lease()
        known = session.departed.get((self.attempt, number, step), {})
        asked = [asset for asset in sorted(bodies) if asset not in known]
        messages = [
            self._grid.create_message(
                pack(bodies[asset], checkpoint, lease),
                MESSAGE_TYPE,
                session.members[asset].node_id,
                str(number),
            )
            for asset in asked
        ]
        received: dict[int, list[Message]] = {}
        for message in self._collect(asked, messages, number, step):
            received.setdefault(message.metadata.src_node_id, []).append(message)
        for asset in asked:
            found = _read_one(asset, session.job, received.get(session.members[asset].node_id, []))
            state = _sort(replies, asset, found, wanted)
            session.progress(Progress(number, step, asset, state))
        if replies.gone:
            # A crash before this line: whoever takes over asks them again.
            session.leaves(self.attempt, number, step, dict(replies.gone))
        replies.gone.update({asset: word for asset, word in known.items() if asset in bodies})
        return replies

    def _lease(self) -> bytes | None:
        """Return the lease of the attempt under way, signed once for all its exchanges."""
        if self.attempt not in self._leases:
            run = self._grid.run.run_id
            self._leases[self.attempt] = self._session.lease(self.attempt, run)
        return self._leases[self.attempt]

    def _collect(
        self, asked: Sequence[str], messages: Sequence[Message], number: int, step: str
    ) -> Iterable[Message]:
        """Return the replies that come before the timeout, or before a node is given up."""
        session = self._session
        if session.watch is None or not isinstance(self._grid, WaitingGrid):
            return self._grid.send_and_receive(messages, timeout=session.timeout)
        return _Wait(session, session.watch, self._grid, (number, step)).collect(asked, messages)


class _Wait:
    """Waits for one exchange's replies, telling who is lost meanwhile.

    What a node had taken from the SuperLink when it died, or when the line broke, is lost: a node
    that comes back is asked again. It answers the same request with the same bytes, so whichever
    reply comes first is the one that counts.
    """

    def __init__(
        self, session: Session, watch: Watch, grid: WaitingGrid, place: tuple[int, str]
    ) -> None:
        self._session = session
        self._watch = watch
        self._grid = grid
        self._place = place
        self._waiting: dict[str, str] = {}
        self._told: dict[str, str] = {}
        self._boots: dict[str, str] = {}
        self._began = time.monotonic()
        self._lost: dict[str, float] = {}

    def collect(self, asked: Sequence[str], messages: Sequence[Message]) -> list[Message]:
        """Send messages, one to each of the assets asked; return at most one reply of each."""
        by_asset = dict(zip(asked, messages, strict=True))
        self._waiting = dict(zip(self._grid.push_messages(messages), asked, strict=True))
        self._told = dict.fromkeys(asked, presence.ALIVE)
        self._boots = {asset: self._watch.boot(asset) for asset in asked}
        end = time.monotonic() + (self._session.timeout or math.inf)
        shown_at, replies = time.monotonic(), []
        self._grid.wait(WAIT_SECONDS)
        while self._waiting and time.monotonic() < end:
            came = [*self._take(self._grid.pull_messages(list(self._waiting)))]
            replies += came
            show = time.monotonic() - shown_at > SHOW_SECONDS
            shown_at = time.monotonic() if show else shown_at
            again = self._look(show=show)
            if again:
                pushed = self._grid.push_messages([by_asset[asset] for asset in again])
                self._waiting.update(zip(pushed, again, strict=True))
            if self._waiting and not came:
                self._grid.wait(WAIT_SECONDS)
        return replies

    def _take(self, came: Iterable[Message]) -> Iterator[Message]:
        for message in came:
            asset = self._waiting.get(message.metadata.reply_to_message_id)
            if asset is not None:
                self._forget(asset)
                yield message

    def _look(self, *, show: bool) -> list[str]:
        """Tell what changed; give up who is gone; return who is back and must be asked again."""
        again = []
        for asset in sorted(set(self._waiting.values())):
            state, boot, before = self._state(asset), self._watch.boot(asset), self._told[asset]
            if state is None:
                self._forget(asset)
                continue
            if state == presence.ALIVE and (before != presence.ALIVE or boot != self._boots[asset]):
                self._boots[asset] = boot
                again.append(asset)
            if state != before or show:
                # Also without news: so the job's owner can end it while a node is computing.
                self._told[asset] = state
                word = "waiting" if state == presence.ALIVE else "lost"
                self._session.progress(Progress(*self._place, asset, word))
        return again

    def _state(self, asset: str) -> str | None:
        """Return ALIVE, LOST, or None for one that was waited for and is waited for no more.

        Both waits are this exchange's own: an operator that was away itself, or has just begun to
        listen, has heard of nobody, which is nobody's fault.
        """
        state, now = self._watch.of(asset), time.monotonic()
        unheard = state == presence.NEVER and now - self._began < presence.LOST_SECONDS
        if state == presence.ALIVE or unheard:
            self._lost.pop(asset, None)
            return presence.ALIVE
        since = self._lost.setdefault(asset, now)
        return presence.LOST if now - since < self._session.rejoin else None

    def _forget(self, asset: str) -> None:
        self._waiting = {key: name for key, name in self._waiting.items() if name != asset}


def _sort(
    replies: Replies[Kind], asset: str, found: tuple[Reply, bytes] | str, wanted: type[Kind]
) -> str:
    """Put what one node said in its place; return the word for it."""
    if isinstance(found, str):
        place, state = (replies.gone, "lost") if found in GONE else (replies.failures, "failed")
        place[asset] = found
        return state
    reply, body = found
    if isinstance(reply, Refusal):
        replies.refusals[asset] = reply
        return "refused"
    if isinstance(reply, wanted):
        replies.answers[asset] = (reply, body)
        return "answered"
    replies.failures[asset] = UNEXPECTED
    return "failed"


def _read_one(asset: str, job: str, messages: list[Message]) -> tuple[Reply, bytes] | str:
    """Return a node's reply with its bytes, or the word for what is wrong with it."""
    if not messages:
        return NO_REPLY
    if len(messages) > 1:
        return DUPLICATE
    if messages[0].has_error():
        # Not the error's own text: it comes from a node's process and may hold anything.
        away = messages[0].error.code == ErrorCode.NODE_UNAVAILABLE
        return NO_REPLY if away else NODE_ERROR
    try:
        body = unpack(messages[0])
        reply = read_reply(body)
    except MessageError:
        return MALFORMED
    if isinstance(reply, Refusal) and (reply.asset, reply.job) != (asset, job):
        return UNEXPECTED
    return reply.reason if isinstance(reply, Failure) else (reply, body)
