"""What crossed a Grid during one job, and what that says of its rounds.

    tap = Tap()                       # handed to an InProcessGrid, or to Embedded
    tap.start()
    ...                               # one job
    rounds = tap.rounds()             # ascending; seconds and bytes of each

Messages belong to the round that their Flower group names, however many exchanges a round has.
Group 0 and the exchange that ends a job are the job's, not a round's.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flwr.proto.message_pb2 import Message

from federated.grid import TO_NODE

FINISH = b'"type":"finish-'
FINISHED = b'"type":"finish-reply/'


@dataclass(frozen=True)
class Round:
    """One round of a job.

    Attributes:
        number: 1 for the first.
        seconds: from its first message until its last reply.
        whole: from its first message until the first message after its last reply: with what the
            coordinator does with the replies. None where nothing followed.
        to_nodes: bytes of serialised messages, to all nodes.
        to_server: and from all of them.
    """

    number: int
    seconds: float
    whole: float | None
    to_nodes: int
    to_server: int


@dataclass(frozen=True)
class Run:
    """One job.

    Attributes:
        rounds: all of them, in order.
        seconds: the job, from asking for it until it was released.
        conversation: of that, from the first round's first message until the job was ended.
        result: what it computed.
    """

    rounds: tuple[Round, ...]
    seconds: float
    conversation: float
    result: dict[str, object]

    @property
    def overhead(self) -> float:
        """Seconds that the job takes whatever the number of its rounds."""
        return self.seconds - self.conversation


class Tap:
    """Notes when each message crossed; parsing waits until the job is over."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._seen: list[tuple[float, str, bytes]] = []
        self._unfinished = 0
        self._over = threading.Event()

    def __call__(self, direction: str, node_id: int, data: bytes) -> None:
        """Called by the Grid, one message at a time."""
        del node_id
        self._seen.append((self._clock(), direction, data))
        if FINISHED in data:
            self._unfinished -= 1
            if not self._unfinished:
                self._over.set()

    def start(self, nodes: int = 0) -> None:
        """Forget what crossed; the next job is over when so many nodes have given receipts."""
        self._seen.clear()
        self._unfinished = nodes
        self._over.clear()

    def wait(self, seconds: float) -> bool:
        """Wait until the job is over; False when it is not, after so long."""
        return self._over.wait(seconds)

    def rounds(self) -> tuple[Round, ...]:
        """The rounds that crossed since the start."""
        found: dict[int, list[tuple[float, str, bytes]]] = {}
        for each in self._seen:
            if number := _round_of(each[2]):
                found.setdefault(number, []).append(each)
        return tuple(self._round(number, found[number]) for number in sorted(found))

    def conversation(self) -> float:
        """Seconds from the first round's first message until the job was ended.

        Where nothing ends it, until the last reply.
        """
        numbered = [(at, _round_of(data)) for at, _, data in self._seen]
        start = next(at for at, number in numbered if number)
        last = max(place for place, (_, number) in enumerate(numbered) if number)
        return numbered[min(last + 1, len(numbered) - 1)][0] - start

    def _round(self, number: int, seen: Sequence[tuple[float, str, bytes]]) -> Round:
        start, end = seen[0][0], seen[-1][0]
        after = next((at for at, _, _ in self._seen if at > end), None)
        return Round(
            number=number,
            seconds=end - start,
            whole=None if after is None else after - start,
            to_nodes=sum(len(data) for _, way, data in seen if way == TO_NODE),
            to_server=sum(len(data) for _, way, data in seen if way != TO_NODE),
        )


def _round_of(data: bytes) -> int:
    """The round that a serialised message belongs to, 0 when to none."""
    if FINISH in data:
        return 0
    return int(Message.FromString(data).metadata.group_id)
