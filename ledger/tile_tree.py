"""A tree whose hashes are read from tiles: roots and proofs without reading every leaf.

    tree = TileTree(size, lambda tile: folder.read(tile.path, limit=MAX_TILE))
    tree.inclusion(4, tree.size)

Decides which tiles a proof needs and what the proof is. Believes what the tiles say: whoever uses a
proof compares it with a signed root, as with any other.
"""

from __future__ import annotations

from collections.abc import Callable

from ledger.errors import ProofError
from ledger.merkle import HASH_BYTES, MAX_SIZE, hash_range, node_hash, prove_inclusion
from ledger.tiles import MAX_FRAME, WIDTH, Tile, decode_bundle, decode_hashes

MAX_TILE = WIDTH * HASH_BYTES
"""Longest tile of hashes, in bytes."""

MAX_BUNDLE = WIDTH * (MAX_FRAME + 2)
"""Longest entry bundle, in bytes."""

_TILE_HEIGHT = 8


class TileTree:
    """The tree of an exported log.

    Args:
        size: number of leaves, from the checkpoint that belongs to the tiles.
        read: returns the bytes of a tile of that size; what it raises passes through.

    Raises:
        ProofError: the size is out of range.
    """

    def __init__(self, size: int, read: Callable[[Tile], bytes]) -> None:
        if not 0 <= size <= MAX_SIZE:
            raise ProofError(f"size {size} is not between 0 and 2^63-1")
        self.size = size
        self._read = read
        self._last: tuple[Tile, list[bytes]] | None = None

    def entry(self, index: int) -> bytes:
        """Return the bytes of one entry.

        Raises:
            ProofError: the tree has no such leaf.
            EncodingError: the bundle is damaged.
        """
        if not 0 <= index < self.size:
            raise ProofError(f"a tree of {self.size} leaves has no leaf {index}")
        tile = self._tile(None, index // WIDTH)
        return decode_bundle(self._read(tile), tile.width)[index % WIDTH]

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first `size` leaves, of all when none is given.

        Raises:
            ProofError: when the tree is smaller than that.
            EncodingError: a tile is damaged.
        """
        return self.range_hash(0, self._known(self.size if size is None else size))

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Prove that leaf `index` is in the tree of `size` leaves (RFC 9162, section 2.1.3.1).

        Raises:
            ProofError: when there is no such leaf in a tree of that size.
            EncodingError: a tile is damaged.
        """
        return prove_inclusion(self.range_hash, index, self._known(size))

    def range_hash(self, start: int, stop: int) -> bytes:
        """Hash leaves start to stop, where start is a multiple of a power of 2 >= their number."""
        return hash_range(self._subtree, start, stop)

    def _subtree(self, level: int, index: int) -> bytes:
        """Return the root of the complete subtree `index` among those of 2^level leaves."""
        height, rest = divmod(level, _TILE_HEIGHT)
        first = index << rest
        # Subtrees of up to 128 tile hashes are not in any tile; they never cross two tiles.
        tile = self._tile(height, first // WIDTH)
        nodes = self._hashes(tile)[first % WIDTH : first % WIDTH + (1 << rest)]
        while len(nodes) > 1:
            nodes = [node_hash(*nodes[at : at + 2]) for at in range(0, len(nodes), 2)]
        return nodes[0]

    def _tile(self, level: int | None, index: int) -> Tile:
        count = self.size >> (_TILE_HEIGHT * (level or 0))
        return Tile(level, index, min(WIDTH, count - index * WIDTH))

    def _hashes(self, tile: Tile) -> list[bytes]:
        if self._last is None or self._last[0] != tile:
            self._last = (tile, decode_hashes(self._read(tile), tile.width))
        return self._last[1]

    def _known(self, size: int) -> int:
        if not 0 <= size <= self.size:
            raise ProofError(f"the tree has {self.size} leaves, not {size}")
        return size
