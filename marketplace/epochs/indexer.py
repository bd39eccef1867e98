"""Logs the index of used assets for each epoch that has ended, on a thread of its own.

indexer = Indexer(context)
indexer.start()          # until `stop`
indexer.run_once()       # by hand: True when an index was logged
"""

from __future__ import annotations

from marketplace.context import Context
from marketplace.epochs import service
from marketplace.repeating import Repeating

LOOK_SECONDS = 0.1
PAUSE_SECONDS = 10.0


class Indexer(Repeating):
    """Watches the log of a service.

    Args:
        context: the service's context.
    """

    def __init__(self, context: Context) -> None:
        super().__init__("indexes", LOOK_SECONDS, PAUSE_SECONDS)
        self._context = context

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
