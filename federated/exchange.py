"""One exchange with the nodes: the same kind of question to each, and what came back, sorted.

Decides who answered, refused, failed or is gone, and by which word. Does not decide what that means
for the job: `federated.server_app` does.

    replies = Exchange(session, grid).send(bodies, Contribution, number=3, step="newton")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from flwr.app import Message
from flwr.serverapp import Grid

from federated.errors import MessageError
from federated.messages import Answer, Failure, Refusal, Reply, read_reply
from federated.records import MESSAGE_TYPE, pack, unpack
from federated.session import Progress, Session

NO_REPLY: Final = "no_reply"
NODE_ERROR: Final = "node_error"
DUPLICATE: Final = "duplicate"
MALFORMED: Final = "malformed"
UNEXPECTED: Final = "unexpected"
RESTARTED: Final = "restarted"

GONE: Final = frozenset({NO_REPLY, RESTARTED})
"""What is nobody's fault: the node does not answer, or has forgotten the secrets of the round."""

Kind = TypeVar("Kind", bound=Answer)


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
    """Sends bodies to nodes of a session over a Grid."""

    def __init__(self, session: Session, grid: Grid) -> None:
        self._session = session
        self._grid = grid

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
        session = self._session
        messages = [
            self._grid.create_message(
                pack(bodies[asset]), MESSAGE_TYPE, session.members[asset].node_id, str(number)
            )
            for asset in sorted(bodies)
        ]
        received: dict[int, list[Message]] = {}
        for message in self._grid.send_and_receive(messages, timeout=session.timeout):
            received.setdefault(message.metadata.src_node_id, []).append(message)
        replies: Replies[Kind] = Replies()
        for asset in sorted(bodies):
            found = _read_one(asset, session.job, received.get(session.members[asset].node_id, []))
            state = _sort(replies, asset, found, wanted)
            session.progress(Progress(number, step, asset, state))
        return replies


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
        return NODE_ERROR
    try:
        body = unpack(messages[0])
        reply = read_reply(body)
    except MessageError:
        return MALFORMED
    if isinstance(reply, Refusal) and (reply.asset, reply.job) != (asset, job):
        return UNEXPECTED
    return reply.reason if isinstance(reply, Failure) else (reply, body)
