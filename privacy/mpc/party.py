"""One party of a computation on secret shares: numbers go in, parcels to and from the others.

What it decides: that every round brings exactly one parcel of each peer, so that a missing one is
noticed at once, and that whatever happens in the child process is a typed error. What it does not
do: seal or carry parcels, or know who the peers are: the channel that carries them has to.

    with Party(computation, index=0, values=[12]) as party:
        parcels = party.begin()                 # {1: b"…", 2: b"…"}, for the peers
        while party.outcome is None:
            parcels = party.hear(exchanged(parcels))
        party.outcome                           # what was opened, the same at every party

Secure against parties that follow the protocol and keep what they see, fewer than half of them
together (Shamir's sharing with t = (m - 1) // 2 and the multiplication of Gennaro, Rabin and Rabin,
PODC 1998, as MPyC has them). A party that sends something else can spoil the outcome unnoticed.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from privacy.child import Child, ChildLimits, EndsWithBlock
from privacy.errors import ChildFrameError, ChildRefusalError, PeersError
from privacy.mpc.computation import Computation, check_inputs
from privacy.mpc.engine import ENDED, GOES_ON

PROGRAM: Final = "privacy.mpc.engine:serve"
LIMITS: Final = ChildLimits(memory=1 << 31, cpu_seconds=900, frame_bytes=1 << 26)
SECONDS: Final = 120.0
"""How long one round may take."""


class Party(EndsWithBlock):
    """A running computation at one party, in a child process of its own. Use as a context manager.

    Args:
        computation: the same at every party.
        index: this party's place among the computation's counts.
        values: its numbers; for a `Ranking` from the largest to the smallest.

    Raises:
        MpcError: the computation cannot be done in this way.
        OutOfRangeError: a number is beyond the computation's bound, or they are too many or few.
        ChildError: no process can be started.
    """

    def __init__(self, computation: Computation, index: int, values: Sequence[int]) -> None:
        """Checks everything before a process is started."""
        computation.check()
        self._parties = len(computation.counts)
        self._index = index
        self._given = {
            "computation": computation.to_json(),
            "index": index,
            "values": check_inputs(computation, index, list(values)),
        }
        self._child = Child.start(PROGRAM, LIMITS)
        self._silent = 0
        self.outcome: list[int] | None = None

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def begin(self) -> dict[int, bytes]:
        """Starts; returns the first parcel for each peer.

        Raises:
            ChildError: the child died, or cannot run MPyC.
        """
        return self._sent(self._child.ask([json.dumps(self._given).encode()], seconds=SECONDS))

    def hear(self, parcels: Mapping[int, bytes]) -> dict[int, bytes]:
        """Goes on with what the peers sent in one round.

        Args:
            parcels: of every peer, empty where it had nothing to say; not trusted.

        Returns:
            The next parcel for each peer; none once there is an outcome.

        Raises:
            PeersError: a parcel is missing, comes from nobody, or is no part of the computation.
            ChildError: the child died.
        """
        if self.outcome is not None or set(parcels) != self._peers:
            raise PeersError("a round brings one parcel of each peer until the end, and no other")
        message = [parcels.get(peer, b"") for peer in range(self._parties)]
        try:
            reply = self._child.ask(message, seconds=SECONDS)
        except ChildRefusalError:
            self.end()
            raise PeersError from None
        sent = self._sent(reply)
        said = any(parcels.values()) or any(sent.values())
        self._silent = 0 if said else self._silent + 1
        if self.outcome is None and self._silent > 1:
            # One round may be silent, when the others learn who is who. Later all would wait for
            # what will never come: somebody left something out before.
            self.end()
            raise PeersError("nobody had anything to say, and there is no outcome")
        return sent

    @property
    def _peers(self) -> set[int]:
        return set(range(self._parties)) - {self._index}

    def _sent(self, reply: list[bytes]) -> dict[int, bytes]:
        state, *parcels = reply
        if state == ENDED:
            opened, *parcels = parcels
            self.outcome = [int(number) for number in json.loads(opened)]
            self.end()
            if any(parcels):
                raise PeersError("the end came before everything was said")
            return {}
        if state != GOES_ON or len(parcels) != self._parties:
            self.end()
            raise ChildFrameError
        return {peer: parcels[peer] for peer in sorted(self._peers)}

    def end(self) -> None:
        """Ends the child, and with it everything secret; does nothing the second time."""
        self._child.end()
