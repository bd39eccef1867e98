"""Looks for something to do again and again, on a thread of its own, until there is no more.

    class Indexer(Repeating):
        def run_once(self) -> bool: ...       # do one thing; whether there was one

    indexer.start()                           # until `stop`

What goes wrong is logged, and the next look comes: whoever else uses the service must not suffer.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod

from ledger.errors import LedgerError
from marketplace.errors import MarketplaceError

_logger = logging.getLogger(__name__)


class Repeating(ABC):
    """A thread that looks; `run_once` is a subclass's.

    Args:
        name: of the thread, and for people who read the log.
        every: seconds between two looks.
        pause: seconds after a look that failed, so that a lasting trouble does not fill the
            operator's log file.
    """

    def __init__(self, name: str, every: float, pause: float) -> None:
        self._name = name
        self._every = every
        self._pause = pause
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @abstractmethod
    def run_once(self) -> object:
        """Do one thing; return something false where there was nothing to do."""

    def start(self) -> None:
        """Run in a thread of its own until `stop`."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after what is under way."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        pause = self._every
        while not self._stopping.wait(pause):
            pause = self._pause
            try:
                while not self._stopping.is_set() and self.run_once():
                    pass
                pause = self._every
            except (LedgerError, MarketplaceError) as error:
                _logger.warning("%s: not now: %s", self._name, error)
            except Exception:
                _logger.exception("%s: met an unexpected error", self._name)
