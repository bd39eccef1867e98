"""Who is there: signed heartbeats of nodes, and what the coordinator concludes from them.

A node says every two seconds, in a thread of its own, that its process lives; so a node that
computes for an hour is slow and not dead. Flower's own heartbeat needs a minute and more to notice,
and blames the SuperLink. A beat says nothing about data or jobs.

    data = Heartbeat(asset, boot, sequence, issued).sign(node_key)         # at the node
    presence.heard(open_heartbeat(data, key, asset=asset))                 # at the operator
    presence.of(asset)                                                     # ALIVE, LOST or NEVER

`Presence` lives in the operator's memory: after a restart every node is NEVER until its next beat.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from federated.errors import PresenceError, SupersededError
from ledger.errors import LedgerError
from ledger.keys import SigningKey, VerifyKey
from ledger.statements import envelope

HEARTBEAT_TYPE: Final = "application/vnd.rongshu.heartbeat.v1+json"

BEAT_SECONDS: Final = 2.0
LOST_SECONDS: Final = 8.0
"""After this long without a beat a node is lost: three beats may go astray, the fourth may not."""

ALIVE: Final = "alive"
LOST: Final = "lost"
NEVER: Final = "never"

SUPERSEDED: Final = "superseded"
"""Code of the answer to a process whose place another one has taken."""

_BOOT_CHARACTERS = 32
_BOOTS_KEPT = 64


@dataclass(frozen=True)
class Heartbeat:
    """One sign of life.

    Attributes:
        asset: which node.
        boot: 32 hex digits, drawn when the node's process began.
        sequence: from 1, grows within a boot.
        issued: the node's clock, Unix milliseconds; shown to people, and decides nothing.
    """

    asset: str
    boot: str
    sequence: int
    issued: int

    def sign(self, key: SigningKey) -> bytes:
        """Return the signed envelope."""
        return envelope.sign(HEARTBEAT_TYPE, dataclasses.asdict(self), key)


def open_heartbeat(data: bytes, key: VerifyKey, *, asset: str) -> Heartbeat:
    """Verify a heartbeat of one node.

    Raises:
        PresenceError: not signed by its key, malformed, or another node's.
    """
    try:
        found = envelope.open_(data, HEARTBEAT_TYPE, key)
    except LedgerError as error:
        raise PresenceError(f"heartbeat of {asset}: {error}") from None
    if set(found) != {each.name for each in dataclasses.fields(Heartbeat)}:
        raise PresenceError(f"heartbeat of {asset}: has other fields than a heartbeat")
    if found["asset"] != asset or not _is_boot(found["boot"]):
        raise PresenceError(f"heartbeat of {asset}: made for another node, or without a boot")
    for name in ("sequence", "issued"):
        if type(found[name]) is not int or found[name] < 1:
            raise PresenceError(f"heartbeat of {asset}: {name} must be a whole number from 1 up")
    return Heartbeat(**found)


def _is_boot(value: Any) -> bool:
    return (
        isinstance(value, str)
        and len(value) == _BOOT_CHARACTERS
        and all(character in "0123456789abcdef" for character in value)
    )


@dataclass
class _Seen:
    """What was last heard of one node; earlier boots are kept so that none can come back."""

    boot: str
    sequence: int
    at: float
    earlier: list[str]


class Presence:
    """What the operator has heard of nodes; a `federated.session.Watch`.

    Args:
        clock: returns seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, _Seen] = {}

    def heard(self, beat: Heartbeat) -> None:
        """Take note of a verified heartbeat.

        Raises:
            SupersededError: a later process of the same node was heard.
            PresenceError: it was heard before, or is older than one that was.
        """
        with self._lock:
            seen = self._seen.get(beat.asset)
            if seen is None:
                self._seen[beat.asset] = _Seen(beat.boot, beat.sequence, self._clock(), [])
                return
            if beat.boot in seen.earlier:
                raise SupersededError(
                    f"heartbeat of {beat.asset}: another process has taken its place"
                )
            if beat.boot != seen.boot:
                earlier = [*seen.earlier, seen.boot][-_BOOTS_KEPT:]
                self._seen[beat.asset] = _Seen(beat.boot, beat.sequence, self._clock(), earlier)
                return
            if beat.sequence <= seen.sequence:
                raise PresenceError(f"heartbeat of {beat.asset}: was heard before")
            seen.sequence, seen.at = beat.sequence, self._clock()

    def of(self, asset: str) -> str:
        """Return ALIVE, LOST or NEVER."""
        with self._lock:
            seen = self._seen.get(asset)
            if seen is None:
                return NEVER
            return ALIVE if self._clock() - seen.at < LOST_SECONDS else LOST

    def boot(self, asset: str) -> str:
        """Return the boot of a node's present process; empty while it was never heard."""
        with self._lock:
            seen = self._seen.get(asset)
            return "" if seen is None else seen.boot
