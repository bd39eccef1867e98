"""One party of MPyC in a child process, and the only door to `mpyc`.

What it decides: that nothing but its parent is talked to. MPyC's connections end in memory: what
the runtime would write to a peer is handed to the parent, and what the parent hands in is read as
if the peer had sent it. Control goes back when the event loop has nothing left to do but to wait
for peers, so that one exchange of the parents carries all of one round. What it does not do: know
who the peers are, which is for the channel that the parents use.

A process holds one runtime, since MPyC keeps it in module globals. Three more of MPyC's habits end
here. It reads the command line when imported: it is given one of our own. It would use uvloop and
log to standard output: both are off. And it unpickles arrays that peers send, which lets a peer run
code: the encoding for mixed platforms has none of that, and `pickle` is taken from it altogether.
"""

import asyncio
import json
import selectors
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from privacy.child import Frames, Refusal, answer_all
from privacy.mpc.circuits import open_outcome
from privacy.mpc.computation import (
    SECURITY_PARAMETER,
    Computation,
    bit_length,
    read_computation,
    threshold,
)

GOES_ON, ENDED = b"goes on", b"ended"

OPTIONS = ("--no-log", "--no-uvloop", "--mix32-64bit")
FORBIDDEN = ("pickle",)
"""What MPyC's module loses, so that no bytes of a peer can reach it."""


def serve(frames: Frames) -> None:
    """Answers until the parent is gone: first how to begin, then each round what the peers sent."""
    engine = _Engine()
    answer_all(frames, engine.answer)


class _Idle(selectors.DefaultSelector):
    """Tells when the loop would sleep: nothing runs until a peer's bytes come."""

    def __init__(self) -> None:
        super().__init__()
        self.loop: asyncio.AbstractEventLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.loop is not None and timeout != 0:
            self.loop.stop()
        return super().select(0)


class _Outbox:
    """In place of a socket's transport: keeps what is written."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._written.append(bytes(data))

    def writelines(self, parts: Sequence[bytes]) -> None:
        self._written += [bytes(part) for part in parts]

    def take(self) -> bytes:
        taken = b"".join(self._written)
        self._written = []
        return taken


class _Engine:
    """A runtime with a box of outgoing bytes for each peer, and the computation that runs on it."""

    def __init__(self) -> None:
        self._runtime: Any = None

    def answer(self, message: list[bytes]) -> Sequence[bytes]:
        if self._runtime is None:
            (given,) = message
            self._begin(json.loads(given))
        else:
            self._hear(message)
        self._loop.run_forever()
        if self._errors:
            raise Refusal("peers")
        parcels = [box.take() for box in self._boxes]
        if not self._running.done():
            return [GOES_ON, *parcels]
        if any(end is not None and (end.bytes or end.buffers) for end in self._ends):
            raise Refusal("peers")  # more than the computation asks for
        return [ENDED, json.dumps(self._running.result()).encode(), *parcels]

    def _begin(self, given: dict[str, Any]) -> None:
        computation = read_computation(given["computation"])
        self._own, parties = given["index"], len(computation.counts)
        selector = _Idle()
        self._loop = asyncio.SelectorEventLoop(selector)
        asyncio.set_event_loop(self._loop)
        self._runtime, exchanger = _load(self._own, parties)
        self._errors: list[str] = []
        self._loop.set_exception_handler(lambda _loop, _context: self._errors.append("failed"))
        selector.loop = self._loop
        self._boxes = [_Outbox() for _ in range(parties)]
        self._connect(exchanger)
        self._running = self._loop.create_task(self._compute(computation, given["values"]))

    def _connect(self, exchanger: Any) -> None:
        """As the runtime's `start` does it; the lower of two parties is the one that connects."""
        parties = self._runtime.parties
        self._ready = parties[self._own].protocol = asyncio.Future(loop=self._loop)
        self._ends: list[Any] = []
        for peer in range(len(parties)):
            if peer == self._own:
                self._ends.append(None)
                continue
            end = exchanger(self._runtime, peer if peer > self._own else None)
            self._ends.append(end)
            end.connection_made(self._boxes[peer])

    def _hear(self, parcels: list[bytes]) -> None:
        for peer, (end, parcel) in enumerate(zip(self._ends, parcels, strict=True)):
            if end is None or not parcel:
                continue
            end.data_received(parcel)
            # A peer says itself who it is, and must be whom the channel knows it as.
            if end.peer_pid != peer:
                raise Refusal("peers")

    async def _compute(self, computation: Computation, values: list[int]) -> list[int]:
        await self._ready
        runtime = self._runtime
        secure = runtime.SecInt(bit_length(computation))
        inputs = []
        for party, count in enumerate(computation.counts):
            if not count:
                continue
            numbers = values if party == self._own else [0] * count
            # Only the sender's numbers are read; the others state the shape.
            array = secure.array(np.array(numbers, dtype=object))
            inputs.append(runtime.input(array, senders=party))
        return await open_outcome(runtime, computation, inputs)


def _load(index: int, parties: int) -> tuple[Any, Any]:
    """Imports MPyC as this party; returns its runtime and its class of connections."""
    sys.argv = [
        "mpyc",
        *("-M", str(parties), "-I", str(index)),
        *("-T", str(threshold(parties)), "-K", str(SECURITY_PARAMETER)),
        *OPTIONS,
    ]
    # Only now: MPyC looks at the command line and the event loop when it is imported.
    from mpyc import asyncoro, runtime  # noqa: PLC0415

    for name in FORBIDDEN:
        setattr(runtime, name, None)
    return runtime.mpc, asyncoro.MessageExchanger
