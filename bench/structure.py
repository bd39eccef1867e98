"""What checking the structure of a large log costs, its statements closed.

Hashes, tiles, root, chain, indexes and times of an export are checked, in one process and in as
many as there are cores. The entries commit to nothing: what they would open does not matter here.
"""

import os
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.checks import check
from bench.table import Row
from ledger import checkpoint as checkpoints
from ledger.checkpoint import Checkpoint
from ledger.entry import HASH_BYTES, NO_PREDECESSOR, Entry, Opening
from ledger.export import export
from ledger.keys import SigningKey, VerifyKey
from ledger.merkle import Tree, leaf_hash
from ledger.tiles import Tile, tile_bytes

ENTRIES = 1_000_000
START = 1_790_000_000_000


class ClosedLog:
    """A log of grants that nobody opens, in memory."""

    def __init__(self, entries: int) -> None:
        self.key = SigningKey.generate("bench.example/closed")
        self._tree = Tree()
        self._entries: list[bytes] = []
        previous = NO_PREDECESSOR
        for index in range(entries):
            # As many references as a grant has, to entries not far before it.
            references = tuple(max(0, index - back) for back in (9, 7, 5, 1)) if index else ()
            committed = secrets.token_bytes(HASH_BYTES)
            entry = Entry(index, previous, START + index, "grant", references, committed)
            data = entry.to_bytes()
            previous = leaf_hash(data)
            self._entries.append(data)
            self._tree.append(previous)

    @property
    def vkey(self) -> VerifyKey:
        """The log's key."""
        return self.key.verify_key

    def checkpoint(self) -> bytes:
        """The signed checkpoint of all entries."""
        head = Checkpoint(self.key.name, len(self._entries), self._tree.root())
        return checkpoints.sign(head, self.key)

    def tile(self, path: str) -> bytes:
        """One file of the tlog-tiles layout."""
        return tile_bytes(self._tree, Tile.from_path(path), self._bytes)

    def openings(self, _start: int, _stop: int) -> Sequence[Opening]:
        """None: all is closed."""
        return ()

    def _bytes(self, start: int, stop: int) -> Sequence[bytes]:
        return self._entries[start:stop]


def rows(entries: int = ENTRIES) -> list[Row]:
    """Measure a log of so many entries."""
    with tempfile.TemporaryDirectory(prefix="rongshu-bench-") as name:
        target = Path(name) / "export"
        log = ClosedLog(entries)
        export(log, log.key, target, opened=(), scope="structure", now=START)
        key = log.vkey.text
        del log
        alone = check(target, key, "structure", 1)
        cores = os.cpu_count() or 1
        together = check(target, key, "structure", cores)
        length = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    details = {"entries": float(entries), "processes": float(cores)}
    return [
        Row("structure check", together.seconds, "s", alone.seconds, details),
        Row("peak memory", together.peak, "MB", alone.peak, details),
        Row("bytes per entry", length / entries, "bytes"),
    ]
