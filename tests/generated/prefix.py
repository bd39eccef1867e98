"""A generated history as it was at an earlier time: what a monitor that came then could read.

    source = Prefix(market, 500)                 # its first 500 entries, signed as a log of 500
    journals_at(market, journals, history, 500)  # the nodes' journals as they were then

Statements that were erased later are closed from the beginning, so that whoever reads in parts is
shown what one who reads at once is shown.
"""

from collections.abc import Iterable, Iterator, Sequence

from ledger.checkpoint import Checkpoint, sign
from ledger.entry import Entry
from ledger.errors import JournalFormatError
from ledger.history import History
from ledger.journal import read_journal, write_journal
from ledger.keys import SigningKey
from ledger.tiles import Tile, tile_bytes
from tests.drafts import key_of
from tests.generated.market import Market


class Prefix:
    """The first entries of a market's log, as `ledger.source.Source`."""

    def __init__(self, market: Market, size: int) -> None:
        self._market = market
        self._size = size

    def close(self) -> None:
        pass

    def successions(self) -> Sequence[bytes]:
        return ()

    def checkpoint(self) -> bytes:
        book, key = self._market.book, self._market.log_key
        return sign(Checkpoint(key.name, self._size, book.tree.root(self._size)), key)

    def tile(self, tile: Tile) -> bytes:
        book = self._market.book
        return tile_bytes(book.tree, tile, lambda start, stop: book.entries[start:stop])

    def openings(self, start: int, stop: int) -> dict[int, bytes]:
        found = self._market.book.openings(start, stop)
        erased = self._market.erased
        return {item.index: item.to_bytes() for item in found if item.index not in erased}

    def sealed(self, _start: int, _stop: int) -> dict[int, bytes]:
        return {}

    def declared(self, start: int, stop: int) -> set[int]:
        return set(range(start, stop)) - self._market.erased

    def attachments(self, _name: str) -> dict[str, bytes]:
        return {}


def journals_at(
    market: Market, journals: Iterable[tuple[str, bytes]], history: History, size: int
) -> Iterator[tuple[str, bytes]]:
    """Yield each journal as it was when the log had `size` entries; damaged ones as they are."""
    now = Entry.from_bytes(market.book.entries[size - 1]).time
    for name, data in journals:
        try:
            journal = read_journal(data)
        except JournalFormatError:
            yield name, data
            continue
        listed = history.by_id.get(journal.asset)
        if listed is not None:
            lines = [line for line in journal.lines if line.time <= now]
            key = _key_then(market, history, journal.asset)
            yield name, write_journal(journal.asset, lines, key, now=now)


def _key_then(market: Market, history: History, asset: str) -> SigningKey:
    """Return the key that a node had; each later one is named by the one before and a number."""
    (node,) = [item for item in (*market.nodes, market.leaver) if item.asset == asset]
    wanted, name = history.node_key(asset), node.key.name
    found = (key_of(name[:length]) for length in range(len(name), 0, -1))
    return next(key for key in found if key.verify_key.public == wanted.public)
