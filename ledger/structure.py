"""Hashes, tiles, root and chain of an export, bundle by bundle, in memory that does not grow.

    bundle = check_bundle(folder, contents, number)     # in any process, in any order
    structure.take(bundle)                              # in order, in one process
    structure.finish(folder, checkpoint)

Decides whether the entries of an export are well formed, follow each other (index, predecessor,
time), and are those of its tiles and of the root that the log signed. Looks at no statement and no
signature: those are replayed by `ledger.replay`.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import struct
from binascii import b2a_base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ledger.encoding import MAX_SAFE_INTEGER, b64encode
from ledger.entry import MAX_ENTRY, NO_PREDECESSOR, PATTERN, Entry, refer_back
from ledger.errors import EncodingError, EntryError
from ledger.finding import Report
from ledger.folder import Folder
from ledger.manifest import CHECKPOINT, Contents, File
from ledger.merkle import HASH_BYTES, CompactRange, Tree, leaf_hash, parents
from ledger.tiles import WIDTH, Tile, decode_bundle, layout

# Two bytes of length, then exactly the canonical bytes of one entry.
_FRAMED = re.compile(rb"(..)(" + PATTERN + rb")", re.DOTALL)


@dataclass
class Bundle:
    """What was read of one entry bundle, its level-0 tile among it.

    Attributes:
        number: which bundle.
        report: what is wrong in it alone; how much was checked.
        leaves: leaf hashes, one after the other; only of the last bundle, of one that a size of
            interest ends in, or where the hash of the whole cannot be had; None where the bundle
            could not be read.
        subtree: hash over all leaves of a full bundle.
        previous: the predecessor that its first entry names, in base64.
        last_leaf: leaf hash of its last entry.
        times: of its first and last entry.
        chained: whether index, predecessor and time were checked within the bundle.
    """

    number: int
    report: Report = field(default_factory=Report)
    leaves: bytes | None = None
    subtree: bytes = b""
    previous: bytes = b""
    last_leaf: bytes = b""
    times: tuple[int, int] = (0, 0)
    chained: bool = False


def read_file(report: Report, folder: Folder, listed: File) -> bytes | None:
    """Return a file that is what was listed; report it and return None otherwise."""
    path = listed.path
    try:
        data = folder.read_listed(listed)
    except (FileNotFoundError, NotADirectoryError):
        report.miss("missing_file", path, "is listed, and not there")
    except EncodingError as error:
        report.find("damaged", path, str(error))
    except OSError as error:
        report.find("damaged", path, error.strerror or "cannot be read")
    else:
        report.checked["files"] += 1
        return data
    return None


def check_bundle(folder: Folder, contents: Contents, number: int, *, whole: bool = False) -> Bundle:
    """Check one entry bundle and its level-0 tile.

    Args:
        folder: the export.
        contents: what its manifest lists.
        number: which bundle.
        whole: keep all leaf hashes, for a size of interest within the bundle.
    """
    bundle = Bundle(number)
    width = bundle_width(contents.size, number)
    data = read_file(bundle.report, folder, contents.file(Tile(None, number, width).path))
    leaves = None
    if data is not None:
        leaves = _scan(bundle, data, width) or _explain(bundle, data, width)
    check_leaves(bundle, folder, contents, leaves, whole=whole)
    return bundle


def bundle_width(size: int, number: int) -> int:
    """Return how many entries a bundle of a log of this size has."""
    return min(WIDTH, size - number * WIDTH)


def bundle_count(size: int) -> int:
    """Return how many entry bundles a log of this size has."""
    return -(-size // WIDTH)


def check_leaves(
    bundle: Bundle,
    folder: Folder,
    contents: Contents,
    leaves: Sequence[bytes] | None,
    *,
    whole: bool,
) -> None:
    """Compare leaf hashes with the level-0 tile, and hash a full bundle to one subtree."""
    width = bundle_width(contents.size, bundle.number)
    path = Tile(0, bundle.number, width).path
    tile = read_file(bundle.report, folder, contents.file(path))
    if leaves is None:
        return
    joined = b"".join(leaves)
    if tile is not None and tile != joined:
        bundle.report.find("wrong_tile", path, "its hashes are not those of the entries")
    elif tile is not None:
        bundle.report.checked["tiles"] += 1
    bundle.last_leaf = leaves[-1]
    if width == WIDTH:
        bundle.subtree = _subtree(leaves)
    if whole or width < WIDTH:
        bundle.leaves = joined


def _subtree(leaves: Sequence[bytes]) -> bytes:
    """Hash a full bundle's leaves to one."""
    level = leaves
    while len(level) > 1:
        level = parents(level)
    return level[0]


def _scan(bundle: Bundle, data: bytes, width: int) -> list[bytes] | None:
    """Return the leaf hashes of a bundle in which nothing is wrong, None for any other.

    It accepts nothing that `_explain` would not, and is several times quicker: each thing is looked
    at in all entries at once.
    """
    found = _FRAMED.findall(data)
    if len(found) != width:
        return None
    frames, bodies, _, written, _, named, references, times = zip(*found, strict=True)
    lengths, first = [len(body) for body in bodies], bundle.number * WIDTH
    if max(lengths) > MAX_ENTRY:
        return None
    # The pieces do not overlap: when their lengths add up, nothing lies between them.
    framed = struct.pack(f">{width}H", *lengths) == b"".join(frames)
    if not framed or 2 * width + sum(lengths) != len(data):
        return None
    sha256 = hashlib.sha256
    leaves = [sha256(b"\x00" + body).digest() for body in bodies]
    moments = [int(time) for time in times]
    in_order = [int(index) for index in written] == list(range(first, first + width))
    if not in_order or moments != sorted(moments) or moments[-1] > MAX_SAFE_INTEGER:
        return None
    chained = [b2a_base64(leaf, newline=False) for leaf in leaves[:-1]] == list(named[1:])
    if not chained or not all(map(refer_back, references, itertools.count(first))):
        return None
    bundle.previous, bundle.times, bundle.chained = named[0], (moments[0], moments[-1]), True
    bundle.report.checked["entries"] += width
    return leaves


def _explain(bundle: Bundle, data: bytes, width: int) -> list[bytes] | None:
    """Return the leaf hashes of a bundle, and report what is wrong with its entries."""
    report, first = bundle.report, bundle.number * WIDTH
    try:
        raw = decode_bundle(data, width)
    except EncodingError as error:
        report.find("damaged", Tile(None, bundle.number, width).path, str(error))
        return None
    leaves = [leaf_hash(item) for item in raw]
    last: Entry | None = None
    for place, item in enumerate(raw):
        where = f"entry {first + place}"
        try:
            entry = Entry.from_bytes(item)
        except EntryError as error:
            report.find("malformed_entry", where, str(error))
            return leaves
        if entry.index != first + place:
            report.find("chain_broken", where, f"says that it is entry {entry.index}")
        if place == 0:
            bundle.previous = b64encode(entry.previous).encode()
        elif entry.previous != leaves[place - 1]:
            report.find("chain_broken", where, "does not name its predecessor")
        if last is not None and entry.time < last.time:
            report.find("time_goes_back", where, "is older than the one before it")
        bundle.times = (bundle.times[0] if last else entry.time, entry.time)
        last = entry
        report.checked["entries"] += 1
    bundle.chained = True
    return leaves


class Structure:
    """The tree of an export, put together from its bundles in order.

    Args:
        contents: what the manifest lists.
        report: takes what is found.
        sizes: older sizes whose roots will be asked for.
    """

    def __init__(self, contents: Contents, report: Report, sizes: Iterable[int] = ()) -> None:
        self.contents = contents
        self.report = report
        self.whole = {size // WIDTH for size in sizes if size % WIDTH}
        self._subtrees: list[bytes] = []
        self._leaves: dict[int, bytes] = {}
        self._complete = True
        self._last: Bundle | None = None

    def take(self, bundle: Bundle) -> None:
        """Take the next bundle."""
        self.report.add(bundle.report)
        self._check_seam(bundle)
        self._last = bundle
        if bundle.leaves is not None:
            self._leaves[bundle.number] = bundle.leaves
        if bundle.subtree:
            self._subtrees.append(bundle.subtree)
        elif bundle.leaves is None:
            self._complete = False

    def _check_seam(self, bundle: Bundle) -> None:
        last = self._last
        if not bundle.chained or (last is not None and not last.last_leaf):
            return
        where = f"entry {bundle.number * WIDTH}"
        previous = last.last_leaf if last else NO_PREDECESSOR
        if bundle.previous != b64encode(previous).encode():
            self.report.find("chain_broken", where, "does not name its predecessor")
        if last is not None and bundle.times[0] < last.times[1]:
            self.report.find("time_goes_back", where, "is older than the one before it")

    def root(self, size: int) -> bytes:
        """Return the root of the first `size` entries.

        Args:
            size: one of those asked for, or all.

        Raises:
            EncodingError: a bundle could not be read, so nobody knows.
        """
        full, rest = divmod(size, WIDTH)
        if not self._complete:
            raise EncodingError("the entries are not all there")
        # Subtrees of 256 leaves are appended like leaves: the range above them is the same.
        upper = CompactRange().extend(self._subtrees[:full])
        leaves = self._leaves[full][: rest * HASH_BYTES] if rest else b""
        parts = (leaves[i : i + HASH_BYTES] for i in range(0, len(leaves), HASH_BYTES))
        return CompactRange(full * WIDTH, upper.hashes).extend(parts).root()

    def finish(self, folder: Folder, root: bytes) -> None:
        """Check the tiles above level 0, and the root that the log signed."""
        tree = Tree.from_leaf_hashes(self._subtrees if self._complete else ())
        for tile in layout(self.contents.size):
            if tile.level is None or tile.level == 0:
                continue
            data = read_file(self.report, folder, self.contents.file(tile.path))
            if data is None or not self._complete:
                continue
            start = tile.start
            hashes = tree.subtree_hashes(8 * (tile.level - 1), start, start + tile.width)
            if data != b"".join(hashes):
                self.report.find("wrong_tile", tile.path, "its hashes are not those of the entries")
            else:
                self.report.checked["tiles"] += 1
        if self._complete and self.root(self.contents.size) != root:
            self.report.find("wrong_root", CHECKPOINT, "its root is not that of the entries")
