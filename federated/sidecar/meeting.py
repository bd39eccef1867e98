"""One node's end of one meeting of two sidecars, as a joint task uses it.

Decides what a node tells the other about its sidecar, and whether the two can meet. Whether they
may is agreed (`Matching.sidecar`), and which jobs they serve is the task's business.

    end = SidecarEnd(Sidecar(settings), now)
    offer = end.offer()                                   # through the channel, sealed and signed
    if end.meets(their_offer):
        places = end.intersect(ids, rank, their_offer, binding, receivers="both")
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from federated.errors import SidecarError
from federated.sidecar.intersection import Meeting, Receivers, Sidecar
from federated.sidecar.link_key import LinkKey
from federated.sidecar.settings import LOOPBACK
from ledger.encoding import canonical, parse
from ledger.errors import EncodingError

_FIELDS = {"version", "address", "certificate"}


class SidecarEnd:
    """This node's end; serves one meeting.

    Args:
        sidecar: the node's.
        now: returns the time, with its zone; its certificate begins then.
    """

    def __init__(self, sidecar: Sidecar, now: Callable[[], datetime]) -> None:
        self._sidecar = sidecar
        self._key = LinkKey.make(now=now())
        self._offer: dict[str, str] = {}

    def offer(self) -> bytes:
        """Return version, address and certificate for the other node; empty without a sidecar."""
        version = self._sidecar.available()
        if version is None:
            return b""
        certificate = self._key.certificate.decode("ascii")
        address = self._sidecar.settings.address or _free_address()
        self._offer = {"version": version, "address": address, "certificate": certificate}
        return canonical(self._offer)

    def meets(self, offer: bytes) -> bool:
        """Whether both have a sidecar, of one version."""
        return bool(self._offer and offer) and self._offer["version"] == _read(offer)["version"]

    def intersect(
        self, ids: Sequence[str], rank: int, offer: bytes, binding: bytes, receivers: Receivers
    ) -> tuple[int, ...] | None:
        """Meet the other node's sidecar, which does the same at the same time.

        Args:
            ids: this node's.
            rank: 0 or 1; the other has the other one.
            offer: what the other node told of its sidecar.
            binding: names the job at both.
            receivers: who learns the intersection.

        Returns:
            Which of `ids` the other has too, ascending; None where this node is not to learn it.

        Raises:
            SidecarError: as `Sidecar.intersect`; the offer cannot be meant.
        """
        theirs = _read(offer)
        pair = [self._offer["address"], theirs["address"]]
        if rank:
            pair.reverse()
        meeting = Meeting(rank, (pair[0], pair[1]), binding, receivers)
        certificate = theirs["certificate"].encode()
        return self._sidecar.intersect(ids, meeting, self._key, certificate).places


def _read(offer: bytes) -> dict[str, str]:
    """Read what another node tells of its sidecar.

    Raises:
        SidecarError: it cannot be meant.
    """
    try:
        found: Any = parse(offer)
    except EncodingError:
        found = None
    if not isinstance(found, dict) or set(found) != _FIELDS:
        raise SidecarError("what the other node tells of its sidecar cannot be read")
    if not all(isinstance(text, str) and text.isascii() for text in found.values()):
        raise SidecarError("what the other node tells of its sidecar cannot be read")
    return found


def _free_address() -> str:
    with socket.create_server((LOOPBACK, 0)) as server:
        return f"{LOOPBACK}:{server.getsockname()[1]}"
