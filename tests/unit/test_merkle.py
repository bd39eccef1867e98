"""The Merkle tree of RFC 6962."""

import base64
import json
import time
from pathlib import Path

import pytest

from ledger.errors import ProofError
from ledger.merkle import (
    EMPTY_ROOT,
    CompactRange,
    Tree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root,
    verify_consistency,
    verify_inclusion,
)

PROBES = Path(__file__).parents[1] / "vectors/ledger/rfc6962-merkle"
INCLUSION = sorted((PROBES / "inclusion").rglob("*.json"))
CONSISTENCY = sorted((PROBES / "consistency").rglob("*.json"))
LEAVES = [leaf_hash(bytes([i])) for i in range(40)]
TREE = Tree.from_leaf_hashes(LEAVES)


def decode(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def test_all_probes_are_here():
    assert len(INCLUSION) + len(CONSISTENCY) == 92


@pytest.mark.parametrize("path", INCLUSION, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_inclusion_probe(path: Path):
    probe = json.loads(path.read_bytes())
    arguments = (
        decode(probe["leafHash"]),
        probe["leafIdx"],
        probe["treeSize"],
        [decode(item) for item in probe["proof"] or []],
        decode(probe["root"]),
    )
    if probe["wantErr"]:
        with pytest.raises(ProofError):
            verify_inclusion(*arguments)
    else:
        verify_inclusion(*arguments)


@pytest.mark.parametrize("path", CONSISTENCY, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_consistency_probe(path: Path):
    probe = json.loads(path.read_bytes())
    arguments = (
        probe["size1"],
        probe["size2"],
        [decode(item) for item in probe["proof"] or []],
        decode(probe["root1"]),
        decode(probe["root2"]),
    )
    if probe["wantErr"]:
        with pytest.raises(ProofError):
            verify_consistency(*arguments)
    else:
        verify_consistency(*arguments)


def test_leaves_and_nodes_cannot_be_taken_for_each_other():
    left, right = LEAVES[:2]
    assert leaf_hash(left + right) != node_hash(left, right)
    assert root([]) == EMPTY_ROOT == Tree().root()
    assert root([left]) == left


def test_consistency_from_nothing_is_an_error():
    for new in (0, 1, 5):
        with pytest.raises(ProofError, match="from size 0"):
            verify_consistency(0, new, [], EMPTY_ROOT, TREE.root(new))
        with pytest.raises(ProofError, match="from size 0"):
            TREE.consistency(0, new)


def test_two_roots_for_one_size_are_a_split_view():
    verify_consistency(5, 5, [], TREE.root(5), TREE.root(5))
    with pytest.raises(ProofError, match="split view"):
        verify_consistency(5, 5, [], TREE.root(5), TREE.root(6))
    with pytest.raises(ProofError, match="must be empty"):
        verify_consistency(5, 5, [LEAVES[0]], TREE.root(5), TREE.root(5))


def test_a_shrinking_tree_is_refused():
    proof = TREE.consistency(5, 9)
    verify_consistency(5, 9, proof, TREE.root(5), TREE.root(9))
    with pytest.raises(ProofError):
        verify_consistency(9, 5, proof, TREE.root(9), TREE.root(5))


def test_another_place_or_size_is_refused():
    leaf, proof, head = LEAVES[11], TREE.inclusion(11, 40), TREE.root()
    verify_inclusion(leaf, 11, 40, proof, head)
    for index in (*range(-1, 11), *range(12, 42)):
        with pytest.raises(ProofError):
            verify_inclusion(leaf, index, 40, proof, head)
    with pytest.raises(ProofError):
        verify_inclusion(leaf, 11, 2**63, proof, head)
    with pytest.raises(ProofError, match="too short"):
        verify_inclusion(leaf, 11, 40, proof[:-1], head)
    with pytest.raises(ProofError, match="too long"):
        verify_inclusion(leaf, 11, 40, [*proof, leaf], head)
    with pytest.raises(ProofError, match="32 bytes"):
        verify_inclusion(leaf, 11, 40, [*proof[:-1], proof[-1][:31]], head)


def test_proof_functions_agree_with_the_tree():
    assert inclusion_proof(LEAVES, 7) == TREE.inclusion(7, 40)
    assert consistency_proof(LEAVES, 7) == TREE.consistency(7, 40)


@pytest.mark.parametrize(("index", "size"), [(-1, 5), (5, 5), (0, 0), (0, 41), (0, -1)], ids=str)
def test_a_tree_proves_only_what_it_holds(index: int, size: int):
    with pytest.raises(ProofError):
        TREE.inclusion(index, size)


@pytest.mark.parametrize(("old", "new"), [(0, 5), (6, 5), (-1, 5), (5, 41), (41, 41)], ids=str)
def test_a_tree_shows_consistency_only_of_what_it_was(old: int, new: int):
    with pytest.raises(ProofError):
        TREE.consistency(old, new)


def test_subtree_hashes_are_complete_or_refused():
    assert TREE.subtree_hashes(0, 3, 5) == (LEAVES[3], LEAVES[4])
    assert TREE.subtree_hashes(3, 0, 5)[1] == root(LEAVES[8:16])
    assert TREE.subtree_hashes(9, 0, 0) == ()
    for level, start, stop in ((0, 0, 41), (3, 0, 6), (9, 0, 1), (-1, 0, 1), (0, 2, 1)):
        with pytest.raises(ProofError):
            TREE.subtree_hashes(level, start, stop)


def test_compact_range_follows_the_tree_without_changing():
    line = CompactRange()
    for size, leaf in enumerate(LEAVES, start=1):
        before = line
        line = line.append(leaf)
        assert before.size == size - 1
        assert line.root() == TREE.root(size)
    assert CompactRange(line.size, line.hashes) == line


def test_a_compact_range_must_fit_its_size():
    with pytest.raises(ProofError, match="do not make"):
        CompactRange(3, (LEAVES[0],))
    with pytest.raises(ProofError):
        CompactRange(-1, ())
    with pytest.raises(ProofError, match="32 bytes"):
        CompactRange(1, (b"short",))


def test_a_hash_of_another_length_changes_nothing():
    tree = Tree.from_leaf_hashes(LEAVES[:3])
    head = tree.root()
    for wrong in (b"", LEAVES[0][:31], LEAVES[0] + b"\0"):
        with pytest.raises(ProofError, match="32 bytes"):
            tree.append(wrong)
        with pytest.raises(ProofError, match="32 bytes"):
            CompactRange().append(wrong)
    assert (tree.size, tree.root()) == (3, head)


def test_a_hundred_thousand_leaves_are_quick():
    leaves = [leaf_hash(i.to_bytes(4)) for i in range(100_000)]
    started = time.perf_counter()
    tree = Tree.from_leaf_hashes(leaves)
    head = tree.root()
    for index in range(0, 100_000, 1000):
        verify_inclusion(leaves[index], index, 100_000, tree.inclusion(index, 100_000), head)
    # Measured 0.2 s; quadratic work would take minutes.
    assert time.perf_counter() - started < 10
    verify_consistency(65_537, 100_000, tree.consistency(65_537, 100_000), tree.root(65_537), head)
