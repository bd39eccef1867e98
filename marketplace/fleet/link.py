"""The service's SuperLink and what goes with it; started when the first node needs it.

An operator whose market has no enrolled node runs no SuperLink. Requests of nodes to `/v1/fleet/…`
are passed on to it, and to nothing else of it: its Control and Runtime APIs are reached by this
process alone, over loopback.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from federated.errors import SuperLinkError

if TYPE_CHECKING:
    from federated.superlink.process import Access, SuperLink
    from federated.superlink.runs import Runs


class Link:
    """One SuperLink for the service's whole life.

    Args:
        folder: of the SuperLink's state and keys.
        port: on loopback; 0 takes a free one.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._folder = folder
        self._port = port
        self._starting = threading.Lock()
        self._stopped = False
        self._greet: Callable[[Runs], None] = lambda _: None
        self._superlink: SuperLink | None = None
        self._runs: Runs | None = None
        # As `_runs`, and before that while the SuperLink is being greeted.
        self._asking: Runs | None = None
        self._changed = threading.Condition()
        self._stirs = 0
        self._heard = 0
        self._ears: list[Callable[[], None]] = []

    def start(self) -> Runs:
        """Start the SuperLink unless it runs; return what it can be asked.

        Raises:
            SuperLinkError: it does not start, or the service is ending.
        """
        # Imported here: a service without nodes needs no Flower.
        from federated.superlink.process import SuperLink  # noqa: PLC0415
        from federated.superlink.runs import Runs  # noqa: PLC0415

        with self._starting:
            if self._stopped:
                raise SuperLinkError("the service is ending")
            if self._runs is None:
                superlink = self._superlink = SuperLink(self._folder, self._port)
                try:
                    superlink.__enter__()
                    runs = self._asking = Runs(superlink.access, bell=self)
                    # One service runs over a data folder: what is under way is an earlier one's.
                    runs.end_all()
                    self._greet(runs)
                except SuperLinkError:
                    superlink.stop()
                    self._superlink = self._asking = None
                    raise
                self._runs = runs
            return self._runs

    def at_start(self, greet: Callable[[Runs], None]) -> None:
        """Have a SuperLink that has just started told something before anybody uses it."""
        self._greet = greet

    def stop(self) -> None:
        """Stop the SuperLink for good, also one that is being started."""
        self._stopped = True
        if (superlink := self._superlink) is not None:
            superlink.stop()
        if (asking := self._asking) is not None:
            asking.give_up()
        with self._starting:
            if self._asking is not None:
                self._asking.close()
            self._runs = self._asking = self._superlink = None
        # Whoever is held until something was sent need not wait any longer.
        self.ring()

    @property
    def access(self) -> Access | None:
        """Where the SuperLink is; None while none runs or answers."""
        superlink = self._superlink
        return None if superlink is None or self._runs is None else superlink.access

    @property
    def pid(self) -> int | None:
        """The SuperLink's process, None while none runs."""
        superlink = self._superlink
        return None if superlink is None else superlink.pid

    def wait(self, seconds: float) -> None:
        """Wait so long, or until a node has sent something; see `Bell`."""
        with self._changed:
            self._changed.wait_for(lambda: self._stirs != self._heard, seconds)
            self._heard = self._stirs

    def stir(self) -> None:
        """Say that a node has sent something."""
        with self._changed:
            self._stirs += 1
            self._changed.notify_all()

    def ring(self) -> None:
        """Say that something was sent to a node."""
        for ear in list(self._ears):
            ear()

    def listen(self, ear: Callable[[], None]) -> None:
        """Call `ear`, on whatever thread, each time something was sent to a node."""
        self._ears.append(ear)
