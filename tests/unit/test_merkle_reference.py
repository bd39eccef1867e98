"""The tree against the definitions of RFC 6962 written out naively, for every small size."""

import hashlib
import re

import pytest

from ledger.errors import ProofError
from ledger.merkle import (
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
from tests.rfc6962 import hash_leaf, path, subproof, tree_hash

MOST = 18
# The eight inputs and the root that the Certificate Transparency project tests itself with.
INPUTS = [
    bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")
] + [bytes(range(0x60, 0x70))]
ROOT_OF_INPUTS = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
LEAVES = [hash_leaf(bytes([number])) for number in range(MOST)]


def test_the_hashes_are_those_of_the_rfc():
    assert leaf_hash(b"data") == hash_leaf(b"data")
    assert node_hash(b"l" * 32, b"r" * 32) == hashlib.sha256(b"\1" + b"l" * 32 + b"r" * 32).digest()
    assert root(leaf_hash(data) for data in INPUTS).hex() == ROOT_OF_INPUTS


@pytest.mark.parametrize("size", range(MOST + 1))
def test_every_root_and_path_is_that_of_the_definition(size: int):
    leaves = LEAVES[:size]
    tree, head = Tree.from_leaf_hashes(LEAVES), tree_hash(leaves)
    assert tree.root(size) == root(leaves) == head
    assert CompactRange().extend(leaves).root() == head
    for index in range(size):
        proof = tree.inclusion(index, size)
        assert list(proof) == path(index, leaves)
        assert inclusion_proof(leaves, index) == proof
        verify_inclusion(leaves[index], index, size, proof, head)


@pytest.mark.parametrize("new", range(1, MOST + 1))
def test_every_consistency_proof_is_that_of_the_definition(new: int):
    leaves = LEAVES[:new]
    tree, head = Tree.from_leaf_hashes(LEAVES), tree_hash(leaves)
    for old in range(1, new + 1):
        proof = tree.consistency(old, new)
        assert list(proof) == subproof(old, leaves, whole=True)
        assert consistency_proof(leaves, old) == proof
        verify_consistency(old, new, proof, tree_hash(leaves[:old]), head)


@pytest.mark.parametrize("size", range(2, MOST + 1))
def test_no_other_leaf_place_or_root_is_proven(size: int):
    tree = Tree.from_leaf_hashes(LEAVES)
    head, wrong = tree.root(size), hash_leaf(b"wrong")
    for index in range(size):
        proof = list(tree.inclusion(index, size))
        refused(verify_inclusion, wrong, index, size, proof, head)
        refused(verify_inclusion, LEAVES[index], (index + 1) % size, size, proof, head)
        refused(verify_inclusion, LEAVES[index], index, size, proof, wrong)
        for place in range(len(proof)):
            changed = [*proof[:place], wrong, *proof[place + 1 :]]
            refused(verify_inclusion, LEAVES[index], index, size, changed, head)
            shorter = proof[:place] + proof[place + 1 :]
            refused(verify_inclusion, LEAVES[index], index, size, shorter, head)
            longer = [*proof[:place], wrong, *proof[place:]]
            refused(verify_inclusion, LEAVES[index], index, size, longer, head)


@pytest.mark.parametrize("new", range(2, MOST + 1))
def test_no_other_beginning_is_proven(new: int):
    tree, wrong = Tree.from_leaf_hashes(LEAVES), hash_leaf(b"wrong")
    head = tree.root(new)
    for old in range(1, new):
        proof, before = list(tree.consistency(old, new)), tree.root(old)
        refused(verify_consistency, old, new, proof, wrong, head)
        refused(verify_consistency, old, new, proof, before, wrong)
        for place in range(len(proof)):
            changed = [*proof[:place], wrong, *proof[place + 1 :]]
            refused(verify_consistency, old, new, changed, before, head)
            shorter = proof[:place] + proof[place + 1 :]
            refused(verify_consistency, old, new, shorter, before, head)
            longer = [*proof[:place], wrong, *proof[place:]]
            refused(verify_consistency, old, new, longer, before, head)


def refused(check: object, *arguments: object) -> None:
    with pytest.raises(ProofError):
        check(*arguments)  # type: ignore[operator]


def test_appending_tells_the_index():
    tree = Tree()
    assert [tree.append(leaf) for leaf in LEAVES] == list(range(MOST))


def says(message: str) -> str:
    return f"^{re.escape(message)}$"


def test_each_error_says_which_number_is_wrong():
    tree = Tree.from_leaf_hashes(LEAVES[:5])
    proof = tree.inclusion(2, 5)
    head = tree.root()
    cases = [
        (lambda: tree.inclusion(5, 5), "a tree of 5 leaves has no leaf 5"),
        (lambda: tree.inclusion(0, 6), "the tree has 5 leaves, not 6"),
        (lambda: tree.root(-1), "the tree has 5 leaves, not -1"),
        (
            lambda: tree.consistency(0, 5),
            "there is no consistency proof from size 0 to 5",
        ),
        (lambda: tree.subtree_hashes(1, 2, 3), "level 1 has no complete subtrees 2 to 3"),
        (lambda: tree.subtree_hashes(3, 0, 1), "level 3 has no complete subtrees 0 to 1"),
        (lambda: tree.append(b"short"), "a hash has 32 bytes, not 5"),
        (lambda: CompactRange(-1, ()), "size -1 is not between 0 and 2^63-1"),
        (lambda: CompactRange(2**63, ()), f"size {2**63} is not between 0 and 2^63-1"),
        (lambda: CompactRange(3, (head,)), "1 hashes do not make a tree of 3 leaves"),
        (
            lambda: verify_inclusion(LEAVES[2], 2, 2**63, proof, head),
            f"size {2**63} is not between 0 and 2^63-1",
        ),
        (
            lambda: verify_inclusion(LEAVES[2], 5, 5, proof, head),
            "a tree of 5 leaves has no leaf 5",
        ),
        (
            lambda: verify_inclusion(LEAVES[2], -1, 5, proof, head),
            "a tree of 5 leaves has no leaf -1",
        ),
        (
            lambda: verify_inclusion(LEAVES[2], 2, 5, [*proof, head], head),
            "the inclusion proof is too long",
        ),
        (
            lambda: verify_inclusion(LEAVES[2], 2, 5, proof[:-1], head),
            "the inclusion proof is too short",
        ),
        (
            lambda: verify_inclusion(LEAVES[3], 2, 5, proof, head),
            "the inclusion proof of leaf 2 does not lead to the root",
        ),
        (
            lambda: verify_consistency(1, 2**63, (), head, head),
            f"new size {2**63} is not between 0 and 2^63-1",
        ),
        (
            lambda: verify_consistency(6, 5, (), head, head),
            "there is no consistency proof from size 6 to 5",
        ),
        (
            lambda: verify_consistency(5, 5, (head,), head, head),
            "the consistency proof of a tree with itself must be empty",
        ),
        (
            lambda: verify_consistency(5, 5, (), head, LEAVES[0]),
            "two different roots for the same size 5: a split view",
        ),
        (
            lambda: verify_consistency(3, 5, (), head, head),
            "the consistency proof is too short",
        ),
        (
            lambda: verify_consistency(3, 5, tree.consistency(3, 5)[:-1], tree.root(3), head),
            "the consistency proof is too short",
        ),
        (
            lambda: verify_consistency(3, 5, (*tree.consistency(3, 5), head), tree.root(3), head),
            "the consistency proof is too long",
        ),
        (
            lambda: verify_consistency(3, 5, tree.consistency(3, 5), head, head),
            "the consistency proof does not lead to the old root (size 3)",
        ),
        (
            lambda: verify_consistency(3, 5, tree.consistency(3, 5), tree.root(3), LEAVES[0]),
            "the consistency proof does not lead to the new root (size 5)",
        ),
    ]
    for act, message in cases:
        with pytest.raises(ProofError, match=says(message)):
            act()


def test_sizes_end_where_a_signed_number_of_64_bits_does():
    last = 2**63 - 1
    assert CompactRange(2**62, (LEAVES[0],)).size == 2**62
    with pytest.raises(ProofError, match="too short"):
        verify_inclusion(LEAVES[0], 0, last, (), LEAVES[0])
    with pytest.raises(ProofError, match="too short"):
        verify_consistency(1, last, (), LEAVES[0], LEAVES[0])
