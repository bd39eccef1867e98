"""Real numbers as 64-bit words that add exactly, so that a masked sum is the plain sum.

A value x travels as the integer v = round(x * 2^f), to nearest and ties to even, in one or two
unsigned 64-bit words; vectors of words are added modulo 2^64, which is where masks cancel.

What it decides: how many bits a sum may use, and it refuses before the first round (`plan_scale`)
or at the node (`encode`) whatever could exceed them. It never clips and never wraps. What it does
not decide: bounds. They come from the data cards and the agreed plan.

    scale = plan_scale(bound=250.0, terms=4)             # four parties, each sum within ±250
    total = encode(a, scale) + encode(b, scale)          # numpy uint64, modulo 2^64
    sums = decode(total, scale)                          # float64

Layout. One word: v modulo 2^64 (two's complement). Two words, side by side for each value:
`low = v mod 2^48` in [0, 2^48), then `high = floor(v / 2^48)` in two's complement.
So v = high * 2^48 + low, for negative v too.

Why no sum of at most `terms` <= 2^14 encoded values overflows. `encode` lets a value pass only if
|v| <= L with terms * L < 2^62 (one word) or terms * L < 2^110 (two words). Write S for the true sum
of the v; |S| <= terms * L.

1. One word: |S| < 2^62 < 2^63, so S is the only integer in [-2^63, 2^63) that is congruent to the
   sum of the words modulo 2^64. Reading that sum as a signed word gives S.
2. Two words, low: the low parts sum to at most 2^14 * (2^48 - 1) < 2^62 < 2^64. The unsigned word
   is their true sum, sum_low, with no wrap.
3. Two words, high: sum_high = (S - sum_low) / 2^48, so |sum_high| < 2^62 + 2^14 < 2^63. Reading the
   word as signed gives sum_high.
4. S = sum_high * 2^48 + sum_low, in integers of any size.

Masks do not disturb this: each word's masks cancel modulo 2^64 before it is read. Since a true sum
stays below half of a word's range, `decode` refuses totals outside it: one in which a mask was left
over is such a total, in each word with probability 1/2 or more.

The rounding error of a sum is at most terms * 2^-(f+1), and the sum of the v itself has none.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from privacy.errors import OutOfRangeError, OverflowRefusedError, ScaleError, VectorError

Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

MAX_TERMS = 1 << 14
"""Most contributions one sum may have: more could carry out of the low words."""

LOW_BITS = 48
"""Bits of a two-word value that its low word holds; the other 16 take the carries."""

MAX_FRACTION_BITS = {1: 62, 2: 110}
"""Finest scale for one word and for two."""

SIGNIFICANT_BITS = 40
"""Least precision below the bound that a planned scale must leave (about 12 decimal digits)."""

_TOTAL_LIMIT = {1: (1 << 62) - 1, 2: (1 << 110) - 1}
_LOW_MASK = (1 << LOW_BITS) - 1
_FLOAT_INTEGERS = 1 << 53


@dataclass(frozen=True)
class Scale:
    """How one field's values become words. Every party must use the same.

    Attributes:
        fraction_bits: f, so that one unit of the encoded integer is worth 2^-f;
            0 to 62 for one word, 0 to 110 for two.
        words: 64-bit words for each value, 1 or 2.
        terms: Most contributions that are ever added under this scale, 1 to 2^14.

    Raises:
        ScaleError: For anything else.
    """

    fraction_bits: int
    words: int
    terms: int = MAX_TERMS

    def __post_init__(self) -> None:
        for name in ("fraction_bits", "words", "terms"):
            # bool is an int in Python, and True would pass for one word.
            if type(getattr(self, name)) is not int:
                raise ScaleError(f"a scale's {name} must be an integer")
        if self.words not in MAX_FRACTION_BITS:
            raise ScaleError(f"a scale has 1 or 2 words, not {self.words}")
        finest = MAX_FRACTION_BITS[self.words]
        if not 0 <= self.fraction_bits <= finest:
            raise ScaleError(
                f"a scale of {self.words} word(s) has 0 to {finest} fraction bits, "
                f"not {self.fraction_bits}"
            )
        if not 1 <= self.terms <= MAX_TERMS:
            raise ScaleError(f"a scale adds 1 to {MAX_TERMS} terms, not {self.terms}")

    @property
    def limit(self) -> int:
        """The largest magnitude of one encoded integer, L in the proof above."""
        return _TOTAL_LIMIT[self.words] // self.terms

    def to_json(self) -> dict[str, int]:
        """Returns plain JSON, e.g. {"fraction_bits": 52, "words": 1, "terms": 4}."""
        return {"fraction_bits": self.fraction_bits, "words": self.words, "terms": self.terms}

    @classmethod
    def from_json(cls, value: Any) -> "Scale":
        """Reads what `to_json` wrote.

        Args:
            value: Unverified parsed JSON.

        Raises:
            ScaleError: If a field is missing, unknown, of the wrong type or out of range.
        """
        names = {"fraction_bits", "words", "terms"}
        if not isinstance(value, Mapping) or set(value) != names:
            raise ScaleError("a scale in JSON has exactly fraction_bits, words and terms")
        return cls(**{name: value[name] for name in names})


def plan_scale(bound: float, terms: int, *, integers: bool = False) -> Scale:
    """Returns the finest scale under which `terms` values within `bound` cannot overflow.

    One word unless it leaves fewer than 40 bits below the bound, or cannot hold the sum at all.

    Args:
        bound: Largest magnitude of one contributed value (of one party's total, not of one row),
            in the column's own unit. An int may exceed 2^53.
        terms: Number of contributions that will be added, 1 to 2^14.
        integers: Whole numbers only: no fraction bits, the sum is exact.

    Raises:
        OverflowRefusedError: If no scale holds the sum, or only one without useful precision.
        ScaleError: If `terms` is out of range.
    """
    # Ints stay ints: they may be too large for a float.
    number = int(bound) if isinstance(bound, Integral) else float(bound)
    if number < 0 or (isinstance(number, float) and not math.isfinite(number)):
        raise OverflowRefusedError("a bound must be finite and not negative")
    exact = Fraction(number)
    for words in (1, 2):
        finest = Scale(fraction_bits=0, words=words, terms=terms)
        fraction_bits = 0 if integers else _finest_fraction_bits(exact, finest)
        reach = round(exact * (1 << max(fraction_bits, 0)))
        if fraction_bits < 0 or reach > finest.limit:
            continue
        # A bound of zero is met by zeros alone, which any scale carries exactly.
        if integers or not exact or reach >= 1 << SIGNIFICANT_BITS:
            return Scale(fraction_bits=fraction_bits, words=words, terms=terms)
    side = "large" if exact > 1 else "small"
    raise OverflowRefusedError(
        f"the bound is too {side} for an exact sum of {terms} contributions: two words hold sums "
        "below 2^110 and steps of 2^-110; change the unit of the column"
    )


def _finest_fraction_bits(bound: Fraction, scale: Scale) -> int:
    """Returns the largest f for which round(bound * 2^f) is within the limit, or -1."""
    for fraction_bits in range(MAX_FRACTION_BITS[scale.words], -1, -1):
        if round(bound * (1 << fraction_bits)) <= scale.limit:
            return fraction_bits
    return -1


def encode(values: npt.ArrayLike, scale: Scale) -> Words:
    """Turns numbers into words, rounding once, to nearest and ties to even.

    Args:
        values: float64[n]; integer arrays within ±2^53 are taken too.
        scale: The field's scale.

    Returns:
        uint64[n * scale.words]; a new array.

    Raises:
        OutOfRangeError: For nan, inf, or a magnitude that could overflow a sum of `scale.terms`.
        VectorError: If `values` is not one-dimensional and numeric.
    """
    # Scaling up by a power of two is exact in float64 and rint is exact, so `rounded` is the true
    # integer. What overflows to inf here is beyond any limit, and refused as such below.
    with np.errstate(over="ignore"):
        rounded = np.rint(np.ldexp(_floats(values), scale.fraction_bits))
    high, low = _split(np.abs(rounded), scale)
    limit_high, limit_low = scale.limit >> LOW_BITS, scale.limit & _LOW_MASK
    beyond = (high > limit_high) | ((high == limit_high) & (low > limit_low))
    if beyond.any():
        raise OutOfRangeError(
            f"the value at position {int(np.argmax(beyond))} is too large for a sum of "
            f"{scale.terms} contributions at {scale.fraction_bits} fraction bits"
        )
    if scale.words == 1:
        return rounded.astype(np.int64).view(np.uint64)
    high, low = _split(rounded, scale)
    return np.stack([low, high], axis=1).view(np.uint64).reshape(-1)


def _floats(values: npt.ArrayLike) -> Floats:
    """Returns finite float64[n], or raises; integers that float64 would round are refused."""
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise VectorError("values to encode must be a one-dimensional array of numbers")
    if array.dtype.kind in "iu":
        bad = (array > _FLOAT_INTEGERS) | (array < -_FLOAT_INTEGERS)
    else:
        bad = ~np.isfinite(array)
    if bad.any():
        raise OutOfRangeError(
            f"the value at position {int(np.argmax(bad))} is missing, infinite, "
            "or an integer beyond 2^53"
        )
    return array.astype(np.float64)


def _split(rounded: Floats, scale: Scale) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Splits float64 integers into (floor(v / 2^48), v mod 2^48), exactly, both int64[n].

    Dividing by a power of two and taking the floor round nothing, and the remainder is an integer
    below 2^48, which float64 holds.

    Raises:
        OutOfRangeError: If the high part would not fit a word.
    """
    high = np.floor(rounded / (1 << LOW_BITS))
    beyond = np.abs(high) >= float(1 << 62) + MAX_TERMS
    if beyond.any():
        raise OutOfRangeError(
            f"the value at position {int(np.argmax(beyond))} is too large for "
            f"{scale.words} word(s) at {scale.fraction_bits} fraction bits"
        )
    low = rounded - high * (1 << LOW_BITS)
    return high.astype(np.int64), low.astype(np.int64)


def decode(words: Words, scale: Scale) -> Floats:
    """Turns summed words back into numbers, each the float64 nearest to the exact sum.

    Args:
        words: uint64[n * scale.words], the sum modulo 2^64 of at most `scale.terms` encodings.
        scale: The field's scale.

    Returns:
        float64[n]

    Raises:
        OutOfRangeError: If a total is beyond any sum of `scale.terms` values: something was added,
            or a mask was left over because a contribution is missing.
        VectorError: If `words` is not a whole number of values.
    """
    high, low = _carried(words, scale)
    if scale.words == 1:
        totals = (high << LOW_BITS | low).astype(np.float64)
    else:
        # While the high part is exact in float64, so is its product, and the sum rounds once.
        totals = high.astype(np.float64) * (1 << LOW_BITS) + low.astype(np.float64)
        for at in np.flatnonzero((high > _FLOAT_INTEGERS) | (high < -_FLOAT_INTEGERS)):
            totals[at] = float((int(high[at]) << LOW_BITS) + int(low[at]))
    return np.ldexp(totals, -scale.fraction_bits)


def decode_integers(words: Words, scale: Scale) -> list[int]:
    """Turns summed words back into whole numbers of any size.

    Args:
        words: uint64[n * scale.words], as for `decode`.
        scale: The field's scale.

    Returns:
        n integers.

    Raises:
        OutOfRangeError: As `decode`, and if a sum is not a whole number.
        VectorError: As `decode`.
    """
    high, low = _carried(words, scale)
    totals = [
        (top << LOW_BITS) + bottom for top, bottom in zip(high.tolist(), low.tolist(), strict=True)
    ]
    for at, total in enumerate(totals):
        if total & ((1 << scale.fraction_bits) - 1):
            raise OutOfRangeError(f"the sum at position {at} is not a whole number")
    return [total >> scale.fraction_bits for total in totals]


def _carried(words: Words, scale: Scale) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Returns each total as (high, low in [0, 2^48)), both int64[n], or raises if out of range."""
    if words.dtype != np.uint64 or words.ndim != 1 or len(words) % scale.words:
        raise VectorError
    if scale.words == 1:
        signed = words.view(np.int64)
        high, low = signed >> LOW_BITS, signed & _LOW_MASK
        spilt = np.zeros(len(signed), dtype=np.bool_)
    else:
        pairs = words.reshape(-1, 2)
        lows, signed = pairs[:, 0], np.ascontiguousarray(pairs[:, 1]).view(np.int64)
        spilt = lows > np.uint64(scale.terms * _LOW_MASK)
        # Carries are below 2^16; a high word so large that adding one wraps is out of range anyway.
        spilt |= (signed > (1 << 62) + MAX_TERMS) | (signed < -(1 << 62) - MAX_TERMS)
        high = np.where(spilt, 0, signed) + (lows >> np.uint64(LOW_BITS)).astype(np.int64)
        low = (lows & np.uint64(_LOW_MASK)).astype(np.int64)
    total = scale.limit * scale.terms
    top, bottom = total >> LOW_BITS, total & _LOW_MASK
    floor_top, floor_bottom = -total >> LOW_BITS, -total & _LOW_MASK
    spilt |= (high > top) | ((high == top) & (low > bottom))
    spilt |= (high < floor_top) | ((high == floor_top) & (low < floor_bottom))
    if spilt.any():
        raise OutOfRangeError(
            f"the sum at position {int(np.argmax(spilt))} is beyond any sum of {scale.terms} "
            "contributions: one is missing, was added twice, or was changed"
        )
    return high, low
