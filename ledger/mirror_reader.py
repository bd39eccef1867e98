"""Reads what a mirror holds for the rules: entries, their openings, and under which keys.

    reader = MirrorReader(mirror, 512, 700)      # in any process
    part = reader.read(2, keys_of_history(history))

Decides nothing: what is read was tied to a checkpoint before it was copied, and the rules are asked
by `ledger.replay`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.entry import Entry, Opening
from ledger.errors import EntryError
from ledger.history import History
from ledger.merkle import leaf_hash
from ledger.mirror import Mirror
from ledger.replay import Item, Part, Reader, keys_of
from ledger.structure import Bundle
from ledger.tiles import WIDTH


class MirrorReader(Reader):
    """Reads entries from a mirror, and verifies signatures under the keys it was told of."""

    def __init__(self, mirror: Mirror, start: int, stop: int) -> None:
        self._mirror = mirror
        self._span = range(start, stop)
        self._keys = {}

    def read(self, number: int, keys: Sequence[str]) -> Part:
        """Read those entries of a bundle that are new."""
        self._learn(keys)
        part = Part(Bundle(number), complete=True)
        first = max(self._span.start, number * WIDTH)
        for index in range(first, min(self._span.stop, (number + 1) * WIDTH)):
            data, line = self._mirror.read(index)
            try:
                part.items.append(self._item(data, line, index))
            except EntryError as error:
                part.bundle.report.find("malformed_entry", f"entry {index}", str(error))
                part.complete = False
                break
        return part

    def _item(self, data: bytes, line: bytes, index: int) -> Item:
        entry, leaf = Entry.from_bytes(data), leaf_hash(data)
        if not line:
            return Item(entry, leaf)
        return self._open(entry, leaf, Opening.from_bytes(line), index)


def keys_of_history(history: History) -> list[str]:
    """Return the texts of all keys that statements named so far."""
    named = ("participant:", "asset:", "rotation:")
    known = [logged for logged in history.by_index.values() if logged.id.startswith(named)]
    return [text for logged in known for text in keys_of(logged.statement)]
