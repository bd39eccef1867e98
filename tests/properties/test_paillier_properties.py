"""Laws of packed and encrypted vectors, at and near every edge."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privacy.errors import OverflowRefusedError
from privacy.paillier import (
    Packing,
    SecretKey,
    add_columns,
    encryptor_for,
    open_column,
    read_signed,
    seal,
    weigh_columns,
)
from privacy.paillier.cipher import decrypt, multiply, product

slowly = settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def secret() -> SecretKey:
    return SecretKey.generate(2048)


def edges(bits: int) -> st.SearchStrategy[int]:
    top = (1 << bits) - 1
    near = sorted({0, min(1, top), top // 2, top // 2 + (top > 0), max(top - 1, 0), top})
    return st.sampled_from(near) | st.integers(0, top)


@st.composite
def packed(draw: Any, most: int = 70) -> tuple[Packing, list[int]]:
    bits = draw(st.sampled_from([1, 2, 20, 63, 64]) | st.integers(1, 64))
    weight = draw(st.sampled_from([1, 2, 3, 4, 255, 256, 2**48]) | st.integers(1, 2**48))
    numbers = draw(st.lists(edges(bits), min_size=1, max_size=most))
    return Packing(weight, bits), numbers


@given(given=packed())
def test_packing_and_unpacking_returns_the_words(
    secret: SecretKey, given: tuple[Packing, list[int]]
):
    packing, numbers = given
    words = np.array(numbers, np.uint64)
    plaintexts = packing.pack(secret.public, words)
    assert max(plaintexts) < 1 << packing.slots(secret.public) * packing.slot_bits
    assert (packing.unpack(secret.public, plaintexts, len(words), 1) == words).all()


@given(given=packed(), units=st.integers(1, 2**48))
def test_slots_filled_to_their_last_unit_come_apart_again(
    secret: SecretKey, given: tuple[Packing, list[int]], units: int
):
    # Plaintexts added as plain integers: what happens to them below any encryption.
    packing, numbers = given
    units = min(units, packing.weight)
    sums = [
        units * plaintext for plaintext in packing.pack(secret.public, np.array(numbers, np.uint64))
    ]
    assert max(sums) < secret.public.n
    got = packing.unpack(secret.public, sums, len(numbers), units)
    assert got.tolist() == [number * units & packing.word_mask for number in numbers]


@slowly
@given(numbers=st.lists(st.lists(edges(64), min_size=3, max_size=3), min_size=1, max_size=5))
def test_the_opened_sum_is_the_sum_in_any_order(secret: SecretKey, numbers: list[list[int]]):
    packing = Packing(weight=len(numbers))
    columns = [
        seal(encryptor_for(secret.public), packing, np.array(row, np.uint64)) for row in numbers
    ]
    total = add_columns(columns)
    assert add_columns(columns[::-1]).ciphertexts == total.ciphertexts
    expected = [sum(column) % 2**64 for column in zip(*numbers, strict=True)]
    assert open_column(secret, total).tolist() == expected


@slowly
@given(
    rows=st.lists(st.tuples(edges(32), edges(32)), min_size=1, max_size=4),
    weights=st.lists(st.integers(-(2**12), 2**12), min_size=4, max_size=4),
)
def test_weighted_sums_are_exact_in_twos_complement(
    secret: SecretKey, rows: list[tuple[int, int]], weights: list[int]
):
    weights = weights[: len(rows)]
    packing = Packing(weight=max(1, sum(map(abs, weights))))
    signed = [[number - 2**31 for number in row] for row in rows]
    columns = [
        seal(
            encryptor_for(secret.public),
            packing,
            np.array([number % 2**64 for number in row], np.uint64),
        )
        for row in signed
    ]
    got = read_signed(open_column(secret, weigh_columns(columns, weights)), packing)
    expected = [
        sum(weight * row[at] for weight, row in zip(weights, signed, strict=True))
        for at in range(2)
    ]
    assert got.tolist() == expected
    if sum(map(abs, weights)) < packing.weight or not any(weights):
        return
    beyond = [weight + (1 if weight >= 0 else -1) for weight in weights]
    with pytest.raises(OverflowRefusedError):
        weigh_columns(columns, beyond)


@slowly
@given(a=st.integers(0, 2**2047), b=st.integers(0, 2**2047), weight=st.integers(-(2**70), 2**70))
def test_products_and_powers_are_sums_and_multiples_modulo_n(
    secret: SecretKey, a: int, b: int, weight: int
):
    n = secret.public.n
    first, second = encryptor_for(secret.public).encrypt([a % n, b % n])
    assert decrypt(secret, [product(secret.public, [first, second])]) == [(a + b) % n]
    assert decrypt(secret, multiply(secret.public, [first], weight)) == [a * weight % n]


@given(bits=st.integers(1, 64), data=st.data())
def test_signed_words_are_read_in_their_own_width(bits: int, data: st.DataObject):
    number = data.draw(st.integers(-(1 << bits - 1), (1 << bits - 1) - 1))
    packing = Packing(1, bits)
    word = np.array([number & packing.word_mask], np.uint64)
    assert read_signed(word, packing).tolist() == [number]
