"""Arithmetic modulo 2^128 on arrays, against Python's whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import SharedRangeError, SharingError
from privacy.replicated import ring

MODULUS = 1 << 128
ELEMENTS = st.one_of(
    st.integers(0, MODULUS - 1),
    st.sampled_from([0, 1, MODULUS - 1, MODULUS // 2, MODULUS // 2 - 1, (1 << 64) - 1, 1 << 64]),
)
PAIRS = st.lists(st.tuples(ELEMENTS, ELEMENTS), min_size=1, max_size=6)


def elements(numbers: Any) -> ring.Elements:
    """Whole numbers of any sign and shape as elements."""
    array = np.asarray(numbers, dtype=object)
    words = [array % MODULUS & (1 << 64) - 1, array % MODULUS >> 64]
    return np.stack([word.astype(np.uint64) for word in words], axis=-1)


def whole(found: ring.Elements) -> Any:
    return found[..., 0].astype(object) + (found[..., 1].astype(object) << 64)


def signed(found: ring.Elements) -> Any:
    return (whole(found) + MODULUS // 2) % MODULUS - MODULUS // 2


@settings(max_examples=50)
@given(PAIRS)
def test_sums_differences_and_products_are_those_of_whole_numbers(pairs: Any):
    left, right = (np.array(side, dtype=object) for side in zip(*pairs, strict=True))
    a, b = elements(left), elements(right)
    assert whole(ring.add(a, b)).tolist() == ((left + right) % MODULUS).tolist()
    assert whole(ring.subtract(a, b)).tolist() == ((left - right) % MODULUS).tolist()
    assert whole(ring.multiply(a, b)).tolist() == (left * right % MODULUS).tolist()
    assert whole(ring.negate(a)).tolist() == (-left % MODULUS).tolist()


@settings(max_examples=50)
@given(PAIRS, st.integers(0, 127))
def test_a_shift_divides_and_rounds_down(pairs: Any, bits: int):
    numbers = np.array([pair[0] for pair in pairs], dtype=object)
    a = elements(numbers)
    assert signed(ring.shift_right(a, bits)).tolist() == (signed(a) >> bits).tolist()


@settings(max_examples=40)
@given(st.data(), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3))
def test_matrix_products_are_exact(data: Any, rows: int, terms: int, columns: int):
    def drawn(*shape: int) -> Any:
        size = int(np.prod(shape))
        numbers = data.draw(st.lists(ELEMENTS, min_size=size, max_size=size))
        return np.array(numbers, dtype=object).reshape(shape)

    left, right, below = drawn(rows, terms), drawn(terms, columns), drawn(rows, columns)
    made = ring.limbs(elements(left))
    assert (whole(ring.matmul(made, elements(right))) == left @ right % MODULUS).all()
    transposed = ring.matmul_transposed(made, elements(below))
    assert (whole(transposed) == left.T @ below % MODULUS).all()


@pytest.mark.slow
def test_the_largest_limbs_of_many_terms_do_not_round():
    """2^18 terms of all ones, the most that one sum may have, in one row."""
    terms = ring.MOST_TERMS
    largest = elements(np.full((terms, 1), MODULUS - 1, dtype=object))
    assert whole(ring.matmul_transposed(ring.limbs(largest), largest)).tolist() == [[terms]]
    row = ring.limbs(largest).reshape(1, terms, ring.LIMBS)
    assert whole(ring.matmul(row, largest)).tolist() == [[terms]]
    # Twice as many round in float64, which is why they are refused.
    with pytest.raises(SharingError, match="cannot be multiplied"):
        ring.matmul(np.concatenate([row, row], axis=1), np.concatenate([largest, largest]))


def test_shapes_that_do_not_fit_are_refused():
    made = ring.limbs(ring.zeros((3, 2)))
    ring.matmul(made, ring.zeros((2, 1)))
    ring.matmul_transposed(made, ring.zeros((3, 1)))
    with pytest.raises(SharingError):
        ring.matmul(made, ring.zeros((3, 1)))
    with pytest.raises(SharingError):
        ring.matmul_transposed(made, ring.zeros((2, 1)))


@given(st.lists(st.floats(-1000, 1000), min_size=1, max_size=9), st.integers(0, 40))
def test_numbers_come_back_to_half_a_unit(numbers: list[float], bits: int):
    values = np.array(numbers)
    back = ring.decode(ring.encode(values, bits, 1000.0), bits)
    assert np.abs(back - values).max() <= 2.0 ** -(bits + 1)


def test_numbers_beyond_one_word_are_decoded_as_well():
    numbers = [(1 << 100) + 1, -(1 << 90), (1 << 63), -(1 << 63) - 1]
    assert ring.decode(elements(numbers), 10).tolist() == [number / 1024 for number in numbers]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 8.0001])
def test_what_is_missing_infinite_or_beyond_the_bound_is_refused_unnamed(value: float):
    ring.encode(np.array([1.0, 8.0]), 24, 8.0)
    with pytest.raises(SharedRangeError, match="missing, infinite or beyond") as refused:
        ring.encode(np.array([1.0, value]), 24, 8.0)
    assert "8.0001" not in str(refused.value)


def test_a_bound_without_room_is_refused():
    ring.encode(np.array([1.0]), 24, 2.0**37)
    with pytest.raises(SharedRangeError, match="no room"):
        ring.encode(np.array([1.0]), 24, 2.0**38)
    with pytest.raises(SharedRangeError, match="no room"):
        ring.encode(np.array([1.0]), 41, 1.0)


@settings(max_examples=50)
@given(PAIRS)
def test_elements_travel_as_sixteen_little_endian_bytes(pairs: Any):
    numbers = [number for pair in pairs for number in pair]
    data = ring.to_bytes(elements(numbers))
    assert data == b"".join(number.to_bytes(16, "little") for number in numbers)
    assert whole(ring.from_bytes(data, (len(pairs), 2))).ravel().tolist() == numbers
