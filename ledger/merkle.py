"""The Merkle tree of RFC 6962: hashes, proofs and their verification. No input or output.

Decides whether a leaf is in a tree and whether one tree is the beginning of another. Does not know
what a leaf holds or who signed a root.

    >>> tree = Tree.from_leaf_hashes(leaf_hash(entry) for entry in (b"a", b"b", b"c"))
    >>> verify_inclusion(leaf_hash(b"b"), 1, 3, tree.inclusion(1, 3), tree.root(3))
    >>> verify_consistency(2, 3, tree.consistency(2, 3), tree.root(2), tree.root(3))

Positions count from 0, sizes are numbers of leaves, every hash has 32 bytes. Proofs go from the
leaves up to the root.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from ledger.errors import ProofError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the tree without leaves (RFC 6962, section 2.1)."""

HASH_BYTES = 32
MAX_SIZE = 2**63 - 1
"""Largest size that is accepted, so that every size fits a signed 64-bit integer."""


def leaf_hash(data: bytes) -> bytes:
    """Hash the contents of a leaf: SHA-256(0x00 || data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into one: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def parents(level: Sequence[bytes]) -> list[bytes]:
    """Hash each two neighbours into one; a last one without a neighbour has no parent yet."""
    return list(map(node_hash, level[::2], level[1::2]))


def root(leaf_hashes: Iterable[bytes]) -> bytes:
    """Return the root over all leaves, using memory for one path only.

    Raises:
        ProofError: when a hash does not have 32 bytes.
    """
    return CompactRange().extend(leaf_hashes).root()


def inclusion_proof(leaf_hashes: Iterable[bytes], index: int) -> tuple[bytes, ...]:
    """Prove that a leaf is in the tree of these leaves (RFC 9162, section 2.1.3.1).

    Raises:
        ProofError: when there is no such leaf, or a hash does not have 32 bytes.
    """
    tree = Tree.from_leaf_hashes(leaf_hashes)
    return tree.inclusion(index, tree.size)


def consistency_proof(leaf_hashes: Iterable[bytes], old_size: int) -> tuple[bytes, ...]:
    """Prove that the first leaves are the older tree (RFC 9162, section 2.1.4.1).

    Raises:
        ProofError: when the old size is 0 or too large, or a hash does not have 32 bytes.
    """
    tree = Tree.from_leaf_hashes(leaf_hashes)
    return tree.consistency(old_size, tree.size)


@dataclass(frozen=True)
class CompactRange:
    """All that is needed of a tree to append to it and to know its root.

    Attributes:
        size: number of leaves.
        hashes: roots of the complete subtrees, one for each 1 bit of the size, largest first.

    Raises:
        ProofError: when the number of hashes does not fit the size.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        _check_size(self.size, "size")
        _check_hashes(self.hashes)
        if self.size.bit_count() != len(self.hashes):
            raise ProofError(f"{len(self.hashes)} hashes do not make a tree of {self.size} leaves")

    def append(self, leaf: bytes) -> CompactRange:
        """Return the range with one more leaf hash.

        Raises:
            ProofError: when the hash does not have 32 bytes.
        """
        return self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> CompactRange:
        """Return the range with more leaf hashes, in their order.

        Raises:
            ProofError: when a hash does not have 32 bytes.
        """
        size, hashes = self.size, list(self.hashes)
        for leaf in leaves:
            _check_hash(leaf)
            node, carry = leaf, size
            # Like adding 1 in binary: each trailing 1 bit is a subtree that becomes complete.
            while carry & 1:
                node = node_hash(hashes.pop(), node)
                carry >>= 1
            hashes.append(node)
            size += 1
        return CompactRange(size, tuple(hashes))

    def root(self) -> bytes:
        """Return the root of the tree so far."""
        return _fold(self.hashes)


class Tree:
    """A growing tree that answers for every size it ever had.

    It keeps the hash of every complete subtree, about 2 hashes a leaf, in one list for each level,
    so that appending is O(1) on average and roots and proofs are O(log n).
    """

    def __init__(self) -> None:
        self._levels: list[list[bytes]] = [[]]

    @classmethod
    def from_leaf_hashes(cls, leaves: Iterable[bytes]) -> Self:
        """Build the tree of these leaf hashes.

        Raises:
            ProofError: when a hash does not have 32 bytes.
        """
        tree, level = cls(), list(leaves)
        _check_hashes(level)
        tree._levels = [level]
        while level := parents(level):
            tree._levels.append(level)
        return tree

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0])

    def append(self, leaf: bytes) -> int:
        """Add a leaf hash and return its index.

        Raises:
            ProofError: when the hash does not have 32 bytes; the tree is unchanged.
        """
        _check_hash(leaf)
        self._levels[0].append(leaf)
        level = 0
        while len(self._levels[level]) % 2 == 0:
            if level + 1 == len(self._levels):
                self._levels.append([])
            left, right = self._levels[level][-2:]
            self._levels[level + 1].append(node_hash(left, right))
            level += 1
        return self.size - 1

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first `size` leaves, of all when none is given.

        Raises:
            ProofError: when the tree is smaller than that.
        """
        return self._range_hash(0, self._known(self.size if size is None else size))

    def subtree_hashes(self, level: int, start: int, stop: int) -> tuple[bytes, ...]:
        """Return complete subtrees `start` to `stop` (exclusive) of 2^level leaves each.

        These are the contents of tiles: tile level L holds subtrees of level 8·L.

        Raises:
            ProofError: when one of them is not complete yet.
        """
        row = self._levels[level] if 0 <= level < len(self._levels) else []
        if not 0 <= start <= stop <= len(row):
            raise ProofError(f"level {level} has no complete subtrees {start} to {stop}")
        return tuple(row[start:stop])

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Prove that leaf `index` is in the tree of `size` leaves (RFC 9162, section 2.1.3.1).

        Raises:
            ProofError: when there is no such leaf in a tree of that size.
        """
        return prove_inclusion(self._range_hash, index, self._known(size))

    def consistency(self, old_size: int, new_size: int) -> tuple[bytes, ...]:
        """Prove that the older tree is a beginning of the newer (RFC 9162, section 2.1.4.1).

        Raises:
            ProofError: unless 1 <= old_size <= new_size <= size.
        """
        if not 1 <= old_size <= self._known(new_size):
            raise ProofError(f"there is no consistency proof from size {old_size} to {new_size}")
        start, stop, proof = 0, new_size, []
        # Follow the right edge of the old tree down to its smallest complete subtree.
        while stop != old_size:
            middle = start + split(stop - start)
            if old_size <= middle:
                proof.append(self._range_hash(middle, stop))
                stop = middle
            else:
                proof.append(self._range_hash(start, middle))
                start = middle
        # When that subtree is the whole old tree, the verifier knows its hash already.
        if start > 0:
            proof.append(self._range_hash(start, stop))
        return tuple(reversed(proof))

    def _known(self, size: int) -> int:
        if not 0 <= size <= self.size:
            raise ProofError(f"the tree has {self.size} leaves, not {size}")
        return size

    def _range_hash(self, start: int, stop: int) -> bytes:
        return hash_range(self._subtree, start, stop)

    def _subtree(self, level: int, index: int) -> bytes:
        return self._levels[level][index]


def prove_inclusion(
    range_hash: Callable[[int, int], bytes], index: int, size: int
) -> tuple[bytes, ...]:
    """Prove that leaf `index` is in a tree of `size` leaves (RFC 9162, section 2.1.3.1).

    Args:
        range_hash: returns the hash of leaves `start` to `stop`, exclusive, as `hash_range` does.
        index: which leaf.
        size: number of leaves of the tree.

    Raises:
        ProofError: when there is no such leaf in a tree of that size.
    """
    if not 0 <= index < size:
        raise ProofError(f"a tree of {size} leaves has no leaf {index}")
    start, stop, proof = 0, size, []
    while stop - start > 1:
        middle = start + split(stop - start)
        if index < middle:
            proof.append(range_hash(middle, stop))
            stop = middle
        else:
            proof.append(range_hash(start, middle))
            start = middle
    return tuple(reversed(proof))


def hash_range(subtree: Callable[[int, int], bytes], start: int, stop: int) -> bytes:
    """Hash leaves `start` to `stop`, exclusive, from the complete subtrees that they consist of.

    Args:
        subtree: returns the root of the complete subtree `index` among those of 2^`level` leaves.
        start: a multiple of a power of 2 that is not smaller than the number of leaves.
        stop: where the leaves end.
    """
    hashes = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        hashes.append(subtree(level, start >> level))
        start += 1 << level
    return _fold(hashes)


def split(size: int) -> int:
    """Return the largest power of two smaller than the size (at least 2)."""
    return 1 << ((size - 1).bit_length() - 1)


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Return only if the proof shows the leaf in the tree (RFC 9162, section 2.1.3.2).

    Args:
        leaf: the leaf hash.
        index: its position.
        size: number of leaves of the tree.
        proof: sibling hashes from the leaf up.
        root: root of the tree, from a checkpoint that is trusted already.

    Raises:
        ProofError: otherwise.
    """
    _check_size(size, "size")
    _check_hashes((leaf, root, *proof))
    if not 0 <= index < size:
        raise ProofError(f"a tree of {size} leaves has no leaf {index}")
    position, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofError("the inclusion proof is too long")
        if position & 1 or position == last:
            node = node_hash(sibling, node)
            # On the right edge, levels where this subtree has no sibling are skipped.
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise ProofError("the inclusion proof is too short")
    if node != root:
        raise ProofError(f"the inclusion proof of leaf {index} does not lead to the root")


def verify_consistency(
    old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """Return only if the newer tree begins with the older one (RFC 9162, section 2.1.4.2).

    An old size of 0 is an error, whatever the proof: the empty tree begins every tree, so nothing
    would be shown. The C2SP witness protocol rules otherwise (old size 0 with an empty proof, for
    a log seen for the first time); that rule belongs to the witness and is not applied here.

    Args:
        old_size: number of leaves of the older tree, at least 1.
        new_size: number of leaves of the newer tree, at least `old_size`.
        proof: hashes from the leaves up; empty for equal sizes.
        old_root: root of the older tree, trusted already.
        new_root: root of the newer tree.

    Raises:
        ProofError: otherwise.
    """
    _check_size(new_size, "new size")
    _check_hashes((old_root, new_root, *proof))
    if not 1 <= old_size <= new_size:
        raise ProofError(f"there is no consistency proof from size {old_size} to {new_size}")
    if old_size == new_size:
        if proof:
            raise ProofError("the consistency proof of a tree with itself must be empty")
        if old_root != new_root:
            raise ProofError(f"two different roots for the same size {old_size}: a split view")
        return
    old_node, new_node = _replay_consistency(old_size, new_size, proof, old_root)
    if old_node != old_root:
        raise ProofError(f"the consistency proof does not lead to the old root (size {old_size})")
    if new_node != new_root:
        raise ProofError(f"the consistency proof does not lead to the new root (size {new_size})")


def _replay_consistency(
    old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes
) -> tuple[bytes, bytes]:
    """Compute both roots from the proof, in the words of RFC 9162, section 2.1.4.2."""
    # An old tree of 2^k leaves is itself the first node, and the proof leaves it out.
    path = [old_root, *proof] if old_size.bit_count() == 1 else list(proof)
    if not path:
        raise ProofError("the consistency proof is too short")
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old_node = new_node = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofError("the consistency proof is too long")
        if position & 1 or position == last:
            old_node = node_hash(sibling, old_node)
            new_node = node_hash(sibling, new_node)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new_node = node_hash(new_node, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise ProofError("the consistency proof is too short")
    return old_node, new_node


def _fold(hashes: Sequence[bytes]) -> bytes:
    """Join the complete subtrees of one tree, largest first, into its root."""
    if not hashes:
        return EMPTY_ROOT
    node = hashes[-1]
    for left in reversed(hashes[:-1]):
        node = node_hash(left, node)
    return node


def _check_size(size: int, what: str) -> None:
    if not 0 <= size <= MAX_SIZE:
        raise ProofError(f"{what} {size} is not between 0 and 2^63-1")


def _check_hashes(hashes: Iterable[bytes]) -> None:
    for value in hashes:
        _check_hash(value)


def _check_hash(value: bytes) -> None:
    if len(value) != HASH_BYTES:
        raise ProofError(f"a hash has 32 bytes, not {len(value)}")
