"""The C2SP tlog-tiles layout: which files a log of a given size has, and what is in them.

Decides paths and framing, without touching a disk. A tile holds up to 256 hashes of one level of
the tree; an entry bundle holds the same leaves' entries, each after its length.

    tile/0/000.p/38           level 0, first tile, partial: 38 leaf hashes
    tile/entries/000.p/38     the 38 entries
    tile/1/x001/234           level 1, tile 1234, full

Source: https://c2sp.org/tlog-tiles
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ledger.errors import EncodingError, LogError
from ledger.merkle import HASH_BYTES, Tree

WIDTH = 256
ENTRIES = "entries"
MAX_FRAME = (1 << 16) - 1
MAX_LEVEL = 7

_PATH = re.compile(
    r"tile/(entries|[0-7])/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII
)


@dataclass(frozen=True)
class Tile:
    """One file of the layout.

    Attributes:
        level: 0 for leaf hashes, L for subtrees of 256^L leaves; None for an entry bundle.
        index: position among the tiles of its level.
        width: number of hashes or entries in it, 1 to 256.
    """

    level: int | None
    index: int
    width: int

    @property
    def path(self) -> str:
        """The file's path below the log's root, with `/`."""
        groups = []
        rest = self.index
        while True:
            groups.append(rest % 1000)
            rest //= 1000
            if rest == 0:
                break
        *high, low = reversed(groups)
        number = "".join(f"x{group:03d}/" for group in high) + f"{low:03d}"
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{ENTRIES if self.level is None else self.level}/{number}{partial}"

    @classmethod
    def from_path(cls, path: str) -> Tile:
        """Read a path strictly.

        Raises:
            EncodingError: not a path that `path` would write.
        """
        match = _PATH.fullmatch(path) if len(path) < 100 else None
        if match is None:
            raise EncodingError(f"{path[:100]!r} is no tile path")
        kind, groups, partial = match.groups()
        index = int("".join(group.removeprefix("x") for group in groups.split("/")))
        tile = cls(
            None if kind == ENTRIES else int(kind),
            index,
            WIDTH if partial is None else int(partial),
        )
        if tile.path != path or tile.width > WIDTH:
            raise EncodingError(f"{path[:100]!r} is no tile path")
        return tile

    @property
    def start(self) -> int:
        """Index, on its own level, of the first hash or entry in it."""
        return self.index * WIDTH


def layout(size: int) -> Iterator[Tile]:
    """Yield every file of a log of `size` entries, bundles first, then tiles from level 0 up."""
    yield from _row(None, size)
    level = 0
    while size > 0:
        yield from _row(level, size)
        size //= WIDTH
        level += 1


def _row(level: int | None, count: int) -> Iterator[Tile]:
    full, rest = divmod(count, WIDTH)
    for index in range(full):
        yield Tile(level, index, WIDTH)
    if rest:
        yield Tile(level, full, rest)


def tile_bytes(tree: Tree, tile: Tile, entries: Callable[[int, int], Sequence[bytes]]) -> bytes:
    """Return the contents of one file.

    Args:
        tree: the log's tree.
        tile: which file.
        entries: returns the bytes of entries `start` to `stop`, exclusive.

    Raises:
        LogError: the log has not grown that far.
    """
    stop = tile.start + tile.width
    if tile.level is None:
        if stop > tree.size:
            raise LogError(f"{tile.path} does not exist: the log has {tree.size} entries")
        return encode_bundle(entries(tile.start, stop))
    if stop > tree.size >> (8 * tile.level):
        raise LogError(f"{tile.path} does not exist: the log has {tree.size} entries")
    return b"".join(tree.subtree_hashes(8 * tile.level, tile.start, stop))


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Frame entries, each after its length in two bytes, big-endian.

    Raises:
        EncodingError: an entry is too long to frame.
    """
    parts = []
    for entry in entries:
        if len(entry) > MAX_FRAME:
            raise EncodingError(f"an entry is longer than {MAX_FRAME} bytes")
        parts.append(len(entry).to_bytes(2, "big") + entry)
    return b"".join(parts)


def decode_bundle(data: bytes, count: int) -> list[bytes]:
    """Return exactly `count` entries from a bundle.

    Raises:
        EncodingError: too few, too many, or a frame that ends early.
    """
    entries: list[bytes] = []
    position = 0
    while position < len(data):
        length = int.from_bytes(data[position : position + 2], "big")
        entry = data[position + 2 : position + 2 + length]
        if position + 2 + length > len(data):
            raise EncodingError(f"entry {len(entries)} of the bundle ends early")
        entries.append(entry)
        position += 2 + length
    if len(entries) != count:
        raise EncodingError(f"the bundle has {len(entries)} entries, expected {count}")
    return entries


def decode_hashes(data: bytes, count: int) -> list[bytes]:
    """Return exactly `count` hashes from a tile.

    Raises:
        EncodingError: another length.
    """
    if len(data) != count * HASH_BYTES:
        raise EncodingError(f"the tile has {len(data)} bytes, expected {count * HASH_BYTES}")
    return [data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES)]
