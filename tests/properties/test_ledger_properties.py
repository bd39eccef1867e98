"""Properties of the ledger's primitives, against slow and obvious models."""

import contextlib
import json
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ledger.encoding import MAX_SAFE_INTEGER, b64decode, b64encode, canonical, parse
from ledger.errors import EncodingError, LedgerError, ProofError
from ledger.keys import SigningKey, VerifyKey
from ledger.merkle import (
    CompactRange,
    Tree,
    leaf_hash,
    root,
    verify_consistency,
    verify_inclusion,
)
from ledger.note import open_note, sign
from tests import rfc6962

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
LINES = st.text(st.characters(exclude_categories=["Cs"], min_codepoint=32), max_size=30)
NAMES = st.text(st.characters(exclude_categories=["Z", "C"], exclude_characters="+"), min_size=1)
LEAVES = [leaf_hash(i.to_bytes(2)) for i in range(70)]
SIZES = range(71)


@given(VALUES)
def test_canonical_bytes_parse_to_an_equal_value(value: object):
    data = canonical(value)
    assert parse(data) == value
    assert canonical(parse(data)) == data
    assert json.loads(data, parse_int=float) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_doubles_come_back_exactly(value: float):
    again = float(parse(canonical(value)))
    assert again == value
    assert math.copysign(1, again) == math.copysign(1, value) or value == 0


@given(st.binary(max_size=60) | TEXTS.map(str.encode))
def test_parse_accepts_only_what_canonical_writes(data: bytes):
    try:
        value = parse(data)
    except EncodingError:
        return
    assert canonical(value) == data


@given(VALUES, st.data())
def test_a_changed_byte_is_refused_or_another_value(value: object, data: st.DataObject):
    encoded = bytearray(canonical(value))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(EncodingError):
        assert parse(bytes(encoded)) != value


@given(st.binary(max_size=50))
def test_base64_round_trip(data: bytes):
    assert b64decode(b64encode(data)) == data


@given(NAMES.filter(lambda name: len(name) < 60), st.binary(min_size=32, max_size=32))
def test_key_texts_round_trip(name: str, seed: bytes):
    key = SigningKey.from_seed(name, seed)
    assert VerifyKey.from_text(key.verify_key.text) == key.verify_key
    assert SigningKey.from_text(key.to_text()).to_text() == key.to_text()


@given(st.lists(LINES, min_size=1, max_size=5), st.integers(1, 3))
def test_notes_round_trip(lines: list[str], signers: int):
    text = "".join(line + "\n" for line in lines)
    keys = [SigningKey.from_seed(f"key{i}", bytes([i]) * 32) for i in range(signers)]
    note = open_note(sign(text, keys), [key.verify_key for key in keys])
    assert note.text == text
    assert note.verified == tuple(key.verify_key for key in keys)


@given(st.binary(max_size=200) | TEXTS.map(lambda text: f"{text}\n\n— {text}\n".encode()))
def test_any_bytes_as_a_note_end_in_a_typed_error(data: bytes):
    with pytest.raises(LedgerError):
        open_note(data, [SigningKey.from_seed("key", bytes(32)).verify_key])


def flipped(proof: Sequence[bytes], bit: int) -> list[bytes]:
    changed = bytearray(b"".join(proof))
    changed[bit // 8] ^= 1 << bit % 8
    return [bytes(changed[at : at + 32]) for at in range(0, len(changed), 32)]


def test_roots_equal_the_recursive_definition():
    tree = Tree.from_leaf_hashes(LEAVES)
    for size in SIZES:
        expected = rfc6962.tree_hash(LEAVES[:size])
        assert tree.root(size) == root(LEAVES[:size]) == expected
        assert CompactRange().extend(LEAVES[:size]).root() == expected


def test_inclusion_proofs_equal_the_recursive_definition():
    tree = Tree.from_leaf_hashes(LEAVES)
    for size in SIZES:
        for index in range(size):
            proof = tree.inclusion(index, size)
            assert list(proof) == rfc6962.path(index, LEAVES[:size])
            verify_inclusion(LEAVES[index], index, size, proof, tree.root(size))


def test_consistency_proofs_equal_the_recursive_definition():
    tree = Tree.from_leaf_hashes(LEAVES)
    for new in SIZES:
        for old in range(1, new + 1):
            proof = tree.consistency(old, new)
            assert list(proof) == rfc6962.subproof(old, LEAVES[:new], whole=True)
            verify_consistency(old, new, proof, tree.root(old), tree.root(new))


def test_no_single_bit_of_a_proof_can_change():
    tree, chance = Tree.from_leaf_hashes(LEAVES), random.Random(6962)
    for new in range(2, 71):
        index, old = chance.randrange(new), chance.randrange(1, new)
        path, proof = tree.inclusion(index, new), tree.consistency(old, new)
        for bit in range(chance.randrange(8), len(path) * 256, 8):
            with pytest.raises(ProofError):
                verify_inclusion(LEAVES[index], index, new, flipped(path, bit), tree.root(new))
        for bit in range(chance.randrange(8), len(proof) * 256, 8):
            with pytest.raises(ProofError):
                verify_consistency(old, new, flipped(proof, bit), tree.root(old), tree.root(new))


@pytest.mark.slow
def test_no_single_bit_of_any_small_proof_can_change():
    tree = Tree.from_leaf_hashes(LEAVES)
    for new in range(1, 20):
        for other in range(new):
            path, proof = tree.inclusion(other, new), tree.consistency(other + 1, new)
            for bit in range(len(path) * 256):
                with pytest.raises(ProofError):
                    verify_inclusion(LEAVES[other], other, new, flipped(path, bit), tree.root(new))
            for bit in range(len(proof) * 256):
                changed = flipped(proof, bit)
                with pytest.raises(ProofError):
                    verify_consistency(
                        other + 1, new, changed, tree.root(other + 1), tree.root(new)
                    )


@given(st.integers(1, 70), st.integers(0, 69), st.integers(0, 80))
def test_a_proof_holds_for_one_place_only(size: int, index: int, place: int):
    index %= size
    assume(place != index)
    tree = Tree.from_leaf_hashes(LEAVES)
    proof, head = tree.inclusion(index, size), tree.root(size)
    verify_inclusion(LEAVES[index], index, size, proof, head)
    with pytest.raises(ProofError):
        verify_inclusion(LEAVES[index], place, size, proof, head)


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=9), st.integers(), st.integers())
def test_any_proof_ends_in_a_typed_error(proof: list[bytes], first: int, second: int):
    with pytest.raises(ProofError):
        verify_inclusion(LEAVES[0], first, second, proof, LEAVES[1])
    with pytest.raises(ProofError):
        verify_consistency(first, second, proof, LEAVES[0], LEAVES[1])
