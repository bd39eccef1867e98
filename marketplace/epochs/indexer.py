"""Logs the index of used assets for each epoch that has ended, on a thread of its own.

indexer = Indexer(context)
indexer.start()          # until `stop`
indexer.run_once()       # by hand: True when an index was logged
"""

from __future__ import annotations

import logging
import threading

from ledger.errors import LedgerError
from marketplace.context import Context
from marketplace.epochs import service
from marketplace.errors import MarketplaceError

LOOK_SECONDS = 0.1
# After a failure, so that a lasting one does not fill the operator's log file.
PAUSE_SECONDS = 10.0
_logger = logging.getLogger(__name__)


class Indexer:
    """Watches the log of a service.

    Args:
        context: the service's context.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Run in a thread of its own until `stop`."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="indexes", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the index under way."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def run_once(self) -> bool:
        """Log the index of one ended epoch, if there is one without; return whether it did.

        Raises:
            LedgerError: the log takes nothing now, or what must be indexed was erased.
            MarketplaceError: the database is busy.
        """
        if not service.is_due(self._context):
            return False
        made = service.index_next(self._context)
        if made is None:
            return False
        self._context.logged(made)
        return True

    def _run(self) -> None:
        pause = LOOK_SECONDS
        while not self._stopping.wait(pause):
            pause = LOOK_SECONDS
            try:
                while self.run_once() and not self._stopping.is_set():
                    pass
            except (LedgerError, MarketplaceError) as error:
                _logger.warning("an epoch could not be indexed yet: %s", error)
                pause = PAUSE_SECONDS
            except Exception:
                # Jobs and the log go on without an index; an auditor will miss it in time.
                _logger.exception("the indexer met an unexpected error")
                pause = PAUSE_SECONDS
