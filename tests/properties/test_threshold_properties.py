"""Opening together, for any numbers, weights and holders: the sum, or a refusal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import PartialDecryptionError
from privacy.paillier import KeyShare, PartialDecryption, Quorum, decrypt_partially, encryptor_for
from privacy.paillier.cipher import multiply, product
from privacy.paillier.threshold import combine, verify_partial
from tests.dealt import share_fixed


@pytest.fixture(scope="module", name="shares")
def _shares() -> tuple[KeyShare, ...]:
    return share_fixed(["a", "b", "c"])


@pytest.fixture(scope="module", name="made")
def _made(shares: tuple[KeyShare, ...]) -> tuple[tuple[int, ...], PartialDecryption]:
    sealed = encryptor_for(shares[0].key.public).encrypt([7])
    return sealed, decrypt_partially(shares[1], sealed)


@pytest.mark.slow
@given(
    numbers=st.lists(st.integers(0, 2**2040), min_size=1, max_size=3),
    weight=st.integers(-(2**20), 2**20),
    two=st.permutations([0, 1, 2]),
)
@settings(max_examples=5, deadline=None)
def test_weighted_sums_open_for_any_two_holders(
    shares: tuple[KeyShare, ...], numbers: list[int], weight: int, two: list[int]
):
    key = shares[0].key
    sealed = encryptor_for(key.public).encrypt(numbers)
    total = multiply(key.public, [product(key.public, sealed)], weight)
    partials = tuple(decrypt_partially(shares[at], total) for at in two[:2])
    assert combine(Quorum(key, partials), total) == [sum(numbers) * weight % key.public.n]


@given(bit=st.integers(0, 4000), field=st.sampled_from(["value", "challenge", "response"]))
@settings(max_examples=12, deadline=None)
def test_one_changed_bit_of_a_part_is_refused(
    shares: tuple[KeyShare, ...],
    made: tuple[tuple[int, ...], PartialDecryption],
    bit: int,
    field: str,
):
    sealed, right = made
    (part,) = right.parts
    false = replace(part, **{field: getattr(part, field) ^ (1 << bit)})
    with pytest.raises(PartialDecryptionError):
        verify_partial(shares[0].key, sealed, replace(right, parts=(false,)))


def test_a_part_whose_bits_are_as_they_were_is_taken(
    shares: tuple[KeyShare, ...], made: tuple[tuple[int, ...], PartialDecryption]
):
    sealed, right = made
    assert verify_partial(shares[0].key, sealed, right) == [right.parts[0].value]
    # The opposite number has the same square, and the same logarithm of it; it is refused too.
    other = replace(right.parts[0], value=shares[0].key.public.n ** 2 - right.parts[0].value)
    with pytest.raises(PartialDecryptionError):
        verify_partial(shares[0].key, sealed, replace(right, parts=(other,)))
