"""What a log shows: its newest checkpoint, and what that covers.

Decides nothing: which checkpoint that is, `ledger.publisher` does; who may see an opening, the
caller.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from ledger import store
from ledger.entry import Opening
from ledger.errors import CosigningError, LogError
from ledger.history import History
from ledger.keys import SigningKey, VerifyKey
from ledger.publisher import Publisher
from ledger.sequencer import State
from ledger.tiles import Tile, tile_bytes


class Shown:
    """The readers' side of `ledger.log.Log`."""

    def __init__(self, engine: sa.Engine, key: SigningKey, publisher: Publisher) -> None:
        self._engine = engine
        self._key = key
        self._publisher = publisher
        self._state = State()

    @property
    def vkey(self) -> VerifyKey:
        """The log's verifier key."""
        return self._key.verify_key

    @property
    def history(self) -> History:
        """What the log has said so far; the caller changes nothing."""
        return self._state.history

    @property
    def findings(self) -> list[str]:
        """What entries of this log break, in words."""
        return self._state.findings

    @property
    def size(self) -> int:
        """Number of entries that the shown checkpoint covers."""
        return self._publisher.size

    @property
    def successions(self) -> tuple[bytes, ...]:
        """Every change of the log's key, signed, for whoever knows an older one."""
        return self._publisher.successions

    @property
    def cosigning_failure(self) -> str | None:
        """Why the newest checkpoint is not cosigned; None where it is."""
        return self._publisher.trouble

    def checkpoint(self) -> bytes:
        """Return the newest signed checkpoint, cosigned where a quorum is required.

        Raises:
            CosigningError: no checkpoint ever had its quorum.
        """
        if not self._publisher.checkpoint:
            raise CosigningError("no checkpoint of this log has its quorum of witnesses yet")
        return self._publisher.checkpoint

    def tile(self, path: str) -> bytes:
        """Return one file of the tlog-tiles layout.

        Raises:
            EncodingError: not a tile path.
            LogError: the log has not grown that far.
        """
        tile = Tile.from_path(path)
        stop = tile.start + tile.width
        covered = self.size if tile.level is None else self.size >> (8 * tile.level)
        if stop > covered:
            raise LogError(f"{path} does not exist: the log has {self.size} entries")
        return tile_bytes(self._state.tree, tile, self.entry_bytes)

    def entry_bytes(self, start: int, stop: int) -> Sequence[bytes]:
        """Return the bytes of entries `start` to `stop`, exclusive."""
        with self._reading() as connection:
            return store.data(connection, start, stop)

    def openings(self, start: int, stop: int) -> list[Opening]:
        """Return the openings of entries `start` to `stop`, exclusive; the caller decides who sees.

        Entries that no checkpoint covers yet are left out, and those whose statement was erased.
        """
        with self._reading() as connection:
            return store.openings(connection, start, min(stop, self.size))

    def opening(self, index: int) -> Opening:
        """Return the opening of one entry.

        Raises:
            LogError: there is no such entry, or its statement was erased.
        """
        found = self.openings(index, index + 1)
        if not found and 0 <= index < self.size:
            raise LogError(f"the statement of entry {index} was erased")
        if not found:
            raise LogError(f"the log has no entry {index}")
        return found[0]

    def index_of(self, statement_id: str) -> int:
        """Return the index of a statement that the shown checkpoint covers.

        Raises:
            LogError: it is not in the log.
        """
        index = self._state.indexes.get(statement_id)
        if index is None or index >= self.size:
            raise LogError("this statement is not in the log")
        return index

    def _reading(self) -> sa.Connection:
        """Return a connection whose transaction takes no write lock."""
        return self._engine.connect().execution_options(**{store.READ_ONLY: True})
