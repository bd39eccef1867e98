"""The tree of RFC 6962 as its text defines it: slow, obvious, and nothing of the product in it."""

import hashlib
from collections.abc import Sequence


def hash_leaf(data: bytes) -> bytes:
    return hashlib.sha256(bytes([0]) + data).digest()


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """Section 2.1, over leaf hashes."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    split = split_of(len(leaves))
    left, right = tree_hash(leaves[:split]), tree_hash(leaves[split:])
    return hashlib.sha256(bytes([1]) + left + right).digest()


def split_of(size: int) -> int:
    split = 1
    while split * 2 < size:
        split *= 2
    return split


def path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Section 2.1.1."""
    if len(leaves) == 1:
        return []
    split = split_of(len(leaves))
    if index < split:
        return [*path(index, leaves[:split]), tree_hash(leaves[split:])]
    return [*path(index - split, leaves[split:]), tree_hash(leaves[:split])]


def subproof(old: int, leaves: Sequence[bytes], *, whole: bool) -> list[bytes]:
    """Section 2.1.2."""
    if old == len(leaves):
        return [] if whole else [tree_hash(leaves)]
    split = split_of(len(leaves))
    if old <= split:
        return [*subproof(old, leaves[:split], whole=whole), tree_hash(leaves[split:])]
    return [*subproof(old - split, leaves[split:], whole=False), tree_hash(leaves[:split])]
