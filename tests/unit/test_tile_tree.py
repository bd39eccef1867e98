"""Hashes read from tiles are those of the tree in memory."""

import pytest

from ledger.errors import EncodingError, ProofError
from ledger.merkle import EMPTY_ROOT, MAX_SIZE, Tree, leaf_hash
from ledger.tile_tree import TileTree
from ledger.tiles import Tile, tile_bytes

ENTRIES = [b"entry %d" % number for number in range(1300)]
TREE = Tree.from_leaf_hashes(map(leaf_hash, ENTRIES))


def tiled(size: int, read: list[Tile] | None = None) -> TileTree:
    tree = Tree.from_leaf_hashes(map(leaf_hash, ENTRIES[:size]))

    def bytes_of(tile: Tile) -> bytes:
        if read is not None:
            read.append(tile)
        return tile_bytes(tree, tile, lambda start, stop: ENTRIES[start:stop])

    return TileTree(size, bytes_of)


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257, 511, 512, 1000, 1300])
def test_roots_and_proofs_are_those_of_the_tree(size: int):
    tree = tiled(size)
    assert tree.root() == TREE.root(size)
    for smaller in {1, min(2, size), size // 3, size // 2, size - 1, size} - {0}:
        assert tree.root(smaller) == TREE.root(smaller)
        for index in {0, 1, smaller // 2, smaller - 1}:
            if index < smaller:
                assert tree.inclusion(index, smaller) == TREE.inclusion(index, smaller)
                assert tree.entry(index) == ENTRIES[index]


def test_an_empty_log_has_a_root_and_no_leaf():
    tree = tiled(0)
    assert tree.root() == EMPTY_ROOT
    with pytest.raises(ProofError):
        tree.entry(0)


@pytest.mark.parametrize(
    "ask",
    [
        lambda tree: tree.root(11),
        lambda tree: tree.root(-1),
        lambda tree: tree.inclusion(10, 10),
        lambda tree: tree.inclusion(-1, 10),
        lambda tree: tree.inclusion(0, 11),
        lambda tree: tree.entry(10),
        lambda tree: tree.entry(-1),
    ],
)
def test_nothing_beyond_the_tree_is_told(ask: object):
    assert tiled(10).root(10)
    with pytest.raises(ProofError):
        ask(tiled(10))


@pytest.mark.parametrize("size", [-1, MAX_SIZE + 1])
def test_a_size_out_of_range_is_refused(size: int):
    with pytest.raises(ProofError):
        TileTree(size, lambda _tile: b"")


def test_a_short_tile_is_refused():
    with pytest.raises(EncodingError):
        TileTree(3, lambda _tile: b"").root()


def test_a_proof_reads_a_path_and_not_the_log():
    read: list[Tile] = []
    tiled(1300, read).inclusion(700, 1300)
    assert len(read) <= 6
