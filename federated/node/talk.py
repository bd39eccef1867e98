"""One attempt at a joint job: this node's part in it, and its end of the channel to the others.

Lost in a crash, and the job with it: what a node drew for the others is never written down, and
what it told them cannot be said a second time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from federated.channel import Channel
from federated.errors import ChannelError, RefusedError, TaskError
from federated.messages import KeysRequest, RelayReply, RelayRequest
from federated.node import results
from federated.node.rows import Rows
from federated.node.work import Attempt
from federated.tasks.joint import Faster, JointTask, Part, Place
from federated.tasks.joint import Talk as Conversation
from ledger.encoding import canonical


@dataclass(frozen=True)
class Means:
    """What a node has for joint jobs.

    Attributes:
        folder: its own, for what a job leaves for its provider.
        sidecar: makes its end of a meeting with another node's sidecar; None without one.
        processes: how many a computation may use.
    """

    folder: Path
    sidecar: Callable[[], Faster] | None = None
    processes: int = 1


@dataclass
class Talk(Attempt):
    """An attempt in which the nodes talk to each other.

    Attributes:
        fetch: returns what the researcher handed in for a job, by the job's id and its digest.
        part: what came of it, once it is over.
        rows: this node's, once they were opened.
    """

    task: JointTask
    means: Means
    fetch: Callable[[str, str], bytes] | None = field(default=None, repr=False)
    part: Part | None = None
    rows: Rows | None = field(default=None, repr=False)
    _channel: Channel | None = field(default=None, repr=False)
    _conversation: Conversation | None = field(default=None, repr=False)

    def begin(self, request: KeysRequest) -> bytes:
        """Draw the key of the channel; return its public half, signed.

        Raises:
            RefusedError: `grant_mismatch`: a later attempt. The secrets of the first are gone, and
                what it told the others stays told.
        """
        if (request.attempt, request.round) != (1, 1):
            raise RefusedError("grant_mismatch", "a joint job has one attempt, from round 1")
        self._channel = Channel.fresh(self.use(1), self.asset, self.node_key)
        return self._channel.signed

    def check_next(self, request: RelayRequest) -> None:
        """Check that a request is the next one.

        Raises:
            RefusedError: `grant_mismatch`: another round's turn, more than granted, or keys that
                are missing or come a second time.
        """
        self.check_turn(request.round, request.round - 1)
        if bool(request.keys) != (request.round == 1):
            raise RefusedError("grant_mismatch", "the channel's keys come once, in round 1")

    def hear(self, request: RelayRequest, asked: str, open_rows: Callable[[], Rows]) -> None:
        """Take what the others sent, go on, and keep the reply until it is durable.

        Args:
            request: the round's.
            asked: its digest.
            open_rows: opens the data; called once, in round 1, when the keys are verified.

        Raises:
            RefusedError: `not_proven`: a key or a parcel is not what a node of the cohort sent.
            TaskError: what the task says to what it was sent.
        """
        channel = self._channel
        if channel is None:
            raise RefusedError("grant_mismatch", "the channel was not begun")
        try:
            if request.round == 1:
                channel.meet(request.keys, self.permit.node_keys)
            incoming = channel.open(request.round, request.parcels)
        except ChannelError as error:
            raise RefusedError("not_proven", str(error)) from error
        outgoing = self._go_on(channel, incoming, open_rows)
        report = None if self.part is None else canonical(dict(self.part.report))
        sealed = channel.seal(request.round, outgoing)
        place = (self.asset, request.job, request.attempt, request.round)
        self.last = {asked: RelayReply(*place, sealed, report)}

    def _go_on(
        self, channel: Channel, incoming: dict[str, bytes], open_rows: Callable[[], Rows]
    ) -> dict[str, bytes]:
        """Run the task to what it sends next; nothing once its part is over."""
        if self.part is not None:
            if incoming:
                raise TaskError("out_of_order", "a parcel came after this node's part was over")
            return {}
        try:
            if self._conversation is None:
                fetch = self.fetch and partial(self.fetch, self.permit.job_id)
                faster = None if self.means.sidecar is None else self.means.sidecar()
                processes = self.means.processes
                place = Place(self.asset, channel.binding, processes, faster, fetch)
                self.rows = open_rows()
                self._conversation = self.task.take_part(self.plan, place, self.rows)
                return dict(next(self._conversation))
            return dict(self._conversation.send(incoming))
        except StopIteration as stop:
            if stop.value is None:
                # It ended with an error before. Nobody gets a second try at the same round.
                raise TaskError("out_of_order", "this node's part has failed") from None
            self.part = stop.value
            return {}

    def keep_result(self) -> None:
        """Write the list of rows that this node's provider learned, if it did."""
        agreed = self.permit.preparation
        named = agreed.link or agreed.match
        if self.part is None or self.part.kept is None or self.rows is None or named is None:
            return
        (which,) = self.task.row_choices(self.plan)
        path = results.file_of(self.means.folder, self.permit.job_id)
        results.keep(path, self.rows, which, self.part.kept, named.columns)

    def answered(self) -> None:
        """Count the round."""
        self.number += 1
