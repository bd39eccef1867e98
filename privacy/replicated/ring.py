"""Arithmetic modulo 2^128 on whole arrays: the ring in which three parties share values.

An element is two unsigned 64-bit words side by side, low word first, so that an array of shape s
of elements is uint64[*s, 2]. Read as two's complement, an element is a whole number from -2^127 to
2^127 - 1, and with f fraction bits the real number 2^-f times that.

    total = add(encode(a, 26), encode(b, 26))
    decode(total, 26)                                    # a + b, float64

What it decides: how numbers become elements and back. `encode` refuses what is not finite or
beyond the bound it is given. What it does not do: notice that a sum or product wraps. Whoever
computes here bounds each result beforehand (`privacy.replicated.party`).

A matrix product splits each element into eight limbs of 16 bits and multiplies those in float64,
where the linear algebra of the machine is at its fastest: a product of limbs is below 2^32, and
eight times 2^18 of them add up to at most 2^53, so no sum rounds: the result is exact, in whatever
order it is added up.
"""

import math

import numpy as np
import numpy.typing as npt

from privacy.errors import SharedRangeError, SharingError

Elements = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

ELEMENT_BYTES = 16
RING_BITS = 128
LIMBS = 8
MOST_TERMS = 1 << 18
"""Most products of elements in one sum, so that float64 holds those of their limbs exactly."""

MOST_FRACTION_BITS = 40

_WORD = np.uint64(64)
_HALF = np.uint64(32)
_LOW_HALF = np.uint64((1 << 32) - 1)
_ONE = np.uint64(1)


def zeros(shape: tuple[int, ...]) -> Elements:
    """Returns elements that are all 0, uint64[*shape, 2]."""
    return np.zeros((*shape, 2), dtype=np.uint64)


def encode(values: Floats, fraction_bits: int, bound: float) -> Elements:
    """Turns numbers into elements, rounding once, to nearest and ties to even.

    Args:
        values: float64[*s].
        fraction_bits: f, from 0 to `MOST_FRACTION_BITS`.
        bound: What no |value| may exceed, so that bound * 2^f is below 2^62.

    Returns:
        uint64[*s, 2]

    Raises:
        SharedRangeError: For nan, infinity, or a value beyond the bound; it never says which.
    """
    if not bool(np.all(np.abs(values) <= bound)):  # nan fails as well
        raise SharedRangeError("a value to share is missing, infinite or beyond the agreed bound")
    if not 0 <= fraction_bits <= MOST_FRACTION_BITS or not math.ldexp(bound, fraction_bits) < 2**62:
        raise SharedRangeError("the agreed bound leaves no room for so many fraction bits")
    whole = np.rint(np.ldexp(values, fraction_bits)).astype(np.int64)
    return widen(whole)


def widen(whole: npt.NDArray[np.int64]) -> Elements:
    """Returns int64[*s] as elements, the sign carried on."""
    return np.stack([whole.view(np.uint64), (whole >> 63).view(np.uint64)], axis=-1)


def decode(elements: Elements, fraction_bits: int) -> Floats:
    """Returns the numbers that elements stand for, float64[*s], rounded to float64."""
    high = np.ascontiguousarray(elements[..., 1]).view(np.int64).astype(np.float64)
    low = elements[..., 0].astype(np.float64)
    # Below 2^63 in magnitude the low word alone is the number, exact; both parts would cancel.
    short = np.ascontiguousarray(elements[..., 0]).view(np.int64)
    is_short = elements[..., 1] == (short >> 63).view(np.uint64)
    joined = np.where(is_short, short.astype(np.float64), np.ldexp(high, 64) + low)
    return np.ldexp(joined, -fraction_bits)


def add(left: Elements, right: Elements) -> Elements:
    """Returns left + right; shapes broadcast as numpy's do."""
    low = left[..., 0] + right[..., 0]
    carry = (low < left[..., 0]).astype(np.uint64)
    return np.stack([low, left[..., 1] + right[..., 1] + carry], axis=-1)


def negate(elements: Elements) -> Elements:
    """Returns -elements."""
    low = ~elements[..., 0] + _ONE
    return np.stack([low, ~elements[..., 1] + (low == 0)], axis=-1)


def subtract(left: Elements, right: Elements) -> Elements:
    """Returns left - right; shapes broadcast as numpy's do."""
    return add(left, negate(right))


def multiply(left: Elements, right: Elements) -> Elements:
    """Returns left * right, element by element; shapes broadcast as numpy's do."""
    low, other = left[..., 0], right[..., 0]
    a0, a1, b0, b1 = low & _LOW_HALF, low >> _HALF, other & _LOW_HALF, other >> _HALF
    # Schoolbook on halves of the low words; no partial sum reaches 2^64.
    middle = a1 * b0 + ((a0 * b0) >> _HALF)
    cross = a0 * b1 + (middle & _LOW_HALF)
    high = a1 * b1 + (middle >> _HALF) + (cross >> _HALF)
    return np.stack(
        [low * other, high + left[..., 1] * other + low * right[..., 1]],
        axis=-1,
    )


def shift_right(elements: Elements, bits: int) -> Elements:
    """Returns floor(elements / 2^bits), the sign carried on.

    Args:
        elements: uint64[*s, 2].
        bits: From 0 to 127.
    """
    high = np.ascontiguousarray(elements[..., 1]).view(np.int64)
    if bits >= int(_WORD):
        low, sign = high >> (bits - int(_WORD)), high >> 63
        return np.stack([low.view(np.uint64), sign.view(np.uint64)], axis=-1)
    if bits == 0:
        return elements
    low = (elements[..., 0] >> np.uint64(bits)) | (elements[..., 1] << (_WORD - np.uint64(bits)))
    return np.stack([low, (high >> bits).view(np.uint64)], axis=-1)


def limbs(elements: Elements) -> Floats:
    """Returns the eight 16-bit limbs of each element, lowest first: float64[*s, 8].

    Whoever multiplies one matrix often keeps these: making them costs as much as a product.
    """
    parts = np.ascontiguousarray(elements).astype("<u8", copy=False).view("<u2")
    return parts.astype(np.float64)


def matmul(left: Floats, right: Elements) -> Elements:
    """Returns left @ right, for a matrix given by its limbs.

    Args:
        left: float64[n, d, 8] from `limbs`.
        right: uint64[d, k, 2], with d at most `MOST_TERMS`.

    Returns:
        uint64[n, k, 2]

    Raises:
        SharingError: If d is larger, or the shapes do not fit.
    """
    rows, terms = _fitting(left.shape[:2], right.shape[0])
    factor, columns = limbs(right), right.shape[1]
    # Limb s of a product is the sum of the products of limbs i and s - i.
    table = np.zeros((terms, LIMBS, columns, LIMBS))
    for place in range(LIMBS):
        table[:, place, :, place:] = factor[..., : LIMBS - place]
    flat = (terms * LIMBS, columns * LIMBS)
    sums = left.reshape(rows, terms * LIMBS) @ table.reshape(flat)
    return _joined(sums.astype(np.uint64).reshape(rows, columns, LIMBS))


def matmul_transposed(left: Floats, right: Elements) -> Elements:
    """Returns left.T @ right, for a matrix given by its limbs.

    Args:
        left: float64[n, d, 8] from `limbs`, with n at most `MOST_TERMS`.
        right: uint64[n, k, 2]

    Returns:
        uint64[d, k, 2]

    Raises:
        SharingError: If n is larger, or the shapes do not fit.
    """
    columns, terms = _fitting((left.shape[1], left.shape[0]), right.shape[0])
    across = right.shape[1]
    flat = limbs(right).reshape(terms, across * LIMBS)
    pairs = (left.reshape(terms, columns * LIMBS).T @ flat).astype(np.uint64)
    pairs = pairs.reshape(columns, LIMBS, across, LIMBS)
    sums = np.zeros((columns, across, LIMBS), dtype=np.uint64)
    for place in range(LIMBS):
        sums[..., place:] += pairs[:, place, :, : LIMBS - place]
    return _joined(sums)


def _fitting(shape: tuple[int, ...], terms: int) -> tuple[int, int]:
    """Returns (rows, terms) of a product, or raises."""
    if shape[1] != terms or terms > MOST_TERMS:
        raise SharingError("matrices of these shapes cannot be multiplied")
    return shape[0], terms


def _joined(sums: npt.NDArray[np.uint64]) -> Elements:
    """Returns the elements that limbs with carries stand for; each limb is below 2^56."""
    total = zeros(sums.shape[:-1])
    for place in range(LIMBS):
        limb, bits = sums[..., place], np.uint64(16 * (place % 4))
        if place >= LIMBS // 2:
            total[..., 1] += limb << bits
            continue
        spilt = limb >> (_WORD - bits) if bits else np.zeros_like(limb)
        total = add(total, np.stack([limb << bits, spilt], axis=-1))
    return total


def to_bytes(elements: Elements) -> bytes:
    """Returns 16 bytes for each element, little-endian, in the order of the array."""
    return np.ascontiguousarray(elements).astype("<u8", copy=False).tobytes()


def from_bytes(data: bytes, shape: tuple[int, ...]) -> Elements:
    """Reads what `to_bytes` wrote; the caller has compared the length."""
    return np.frombuffer(data, dtype="<u8").astype(np.uint64).reshape(*shape, 2)
