"""Statistics over packed columns: single totals, means and variances, linear scores.

What it decides: how numbers become words so that what is computed while encrypted is exact, and
what whoever opens it gets to see. What it does not do: judge whether a result says too much.

    column = seal_for_total(encryptor, packing, words)   # masks that cancel in the total alone
    total = open_total(secret, fold(column))             # modulo 2^64

    words = encode_moments(values, fraction_bits=20, terms=3)
    moments = decode_moments(open_column(secret, total), fraction_bits=20, terms=3)

    model = LinearModel.plan([0.25, -1.5], intercept=3.0, fraction_bits=20, weight_bits=10)
    columns = [seal(encryptor, model.packing, model.encode(feature)) for feature in features]
    scores = model.decode(open_column(secret, model.score(columns)))

Why lanes are masked. Words of a vector lie in lanes, one for each slot; folding adds each lane up,
and whoever opens the result would see as many partial sums as there are lanes. `seal_for_total`
adds to the words random ones that sum to zero modulo 2^word_bits. Then all words but one are even
and independent, whatever the values are, and the last one makes up the total. So nothing that is
computed from them, carries included, says more than the total does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from privacy.errors import OutOfRangeError, OverflowRefusedError, ScaleError, VectorError
from privacy.fixedpoint import (
    LOW_BITS,
    Floats,
    Scale,
    Words,
    decode_integers,
    encode,
)
from privacy.paillier.columns import (
    Encrypts,
    PackedColumn,
    add_public_words,
    open_column,
    read_signed,
    seal,
    weigh_columns,
)
from privacy.paillier.keys import SecretKey
from privacy.paillier.packing import MAX_WEIGHT, Packing
from privacy.paillier.randomness import Progress
from privacy.secure_random import random_bytes

MOMENT_WORDS = 4
"""Words that the moments of one field take: rows, sum, and two for the sum of squares."""

MAX_MOMENT_BITS = 55
"""Finest fraction for moments: twice as many bits stand behind the point of a square."""

_LIMIT = (1 << 62) - 1
_WEIGHT_BITS = 40
_LOW_MASK = (1 << LOW_BITS) - 1
_WORD = 1 << 64


def seal_for_total(
    encryptor: Encrypts, packing: Packing, words: Words, progress: Progress | None = None
) -> PackedColumn:
    """Packs and encrypts a vector of which only the total is meant to be seen.

    Args:
        encryptor: Of the receiver's key.
        packing: `Packing.for_total`, if it is to be folded.
        words: uint64[n], n >= 1, each below 2^word_bits.
        progress: Told how many ciphertexts are done.

    Raises:
        VectorError: If `words` is not uint64[n], or empty.
        OutOfRangeError: If a word does not fit.
    """
    # Refused first: masked, a word that does not fit would look like any other.
    packing.pack(encryptor.public, words)
    masked = (words + zero_sum_masks(len(words), packing)) & np.uint64(packing.word_mask)
    return seal(encryptor, packing, masked, progress)


def zero_sum_masks(length: int, packing: Packing) -> Words:
    """Returns random words that sum to zero modulo 2^word_bits.

    Any length - 1 of them are even and independent.

    Args:
        length: How many, at least 1.
        packing: Gives the width of a word.

    Returns:
        uint64[length], each below 2^word_bits.
    """
    masks = np.frombuffer(random_bytes(8 * length), dtype=np.uint64).copy()
    masks[-1:] = -masks[:-1].sum(dtype=np.uint64, keepdims=True)
    return masks & np.uint64(packing.word_mask)


def open_total(secret: SecretKey, column: PackedColumn) -> int:
    """Opens a column and adds its words up, modulo 2^word_bits.

    Raises:
        CiphertextError: As `open_column`.
    """
    words = open_column(secret, column)
    return int(words.sum(dtype=np.uint64)) & column.packing.word_mask


@dataclass(frozen=True)
class Moments:
    """What rows, sums and sums of squares say about one field.

    Attributes:
        count: Rows.
        mean: Their mean.
        variance: Their mean squared distance from it (divided by count, not by count - 1).
    """

    count: int
    mean: float
    variance: float


def encode_moments(values: npt.ArrayLike, *, fraction_bits: int, terms: int) -> Words:
    """Turns one party's rows of one field into words that add up to everybody's moments.

    Args:
        values: float64[n], n >= 0; each is rounded to a multiple of 2^-fraction_bits, once.
        fraction_bits: 0 to 55.
        terms: How many parties' words are added, 1 to 2^14.

    Returns:
        uint64[4]: rows, sum, and the low and high word of the sum of squares (as in `fixedpoint`).

    Raises:
        OutOfRangeError: For nan, inf, or sums that could overflow when `terms` of them are added.
        ScaleError: If `fraction_bits` or `terms` is out of range.
        VectorError: If `values` is not one-dimensional and numeric.
    """
    sums, squares = _moment_scales(fraction_bits, terms)
    rows = encode(values, Scale(fraction_bits, 1, 1)).view(np.int64).tolist()
    total, square = sum(rows), sum(row * row for row in rows)
    if len(rows) > sums.limit or abs(total) > sums.limit or square > squares.limit:
        raise OutOfRangeError(
            f"the rows' sum or sum of squares is too large for {terms} contributions at "
            f"{fraction_bits} fraction bits"
        )
    words = [len(rows), total % _WORD, square & _LOW_MASK, square >> LOW_BITS]
    return np.array(words, dtype=np.uint64)


def decode_moments(words: Words, *, fraction_bits: int, terms: int) -> Moments:
    """Turns summed words back; exact for the rounded values but for one rounding of each result.

    Args:
        words: uint64[4], the sum modulo 2^64 of at most `terms` encodings.
        fraction_bits: As for `encode_moments`.
        terms: As for `encode_moments`.

    Raises:
        OutOfRangeError: If there are no rows, or no rows have such sums: something was added, or a
            mask was left over.
        ScaleError: As `encode_moments`.
        VectorError: If `words` is not uint64[4].
    """
    sums, squares = _moment_scales(fraction_bits, terms)
    if words.shape != (MOMENT_WORDS,):
        raise VectorError(f"the moments of a field are {MOMENT_WORDS} words")
    count, total = decode_integers(words[:2], sums)
    (square,) = decode_integers(words[2:], squares)
    # Cauchy and Schwarz: no rows have a sum of squares below this.
    if count < 1 or square * count < total * total:
        raise OutOfRangeError("there are no rows, or none that have these sums")
    unit = 1 << fraction_bits
    return Moments(
        count,
        float(Fraction(total, count * unit)),
        float(Fraction(square * count - total * total, (count * unit) ** 2)),
    )


def _moment_scales(fraction_bits: int, terms: int) -> tuple[Scale, Scale]:
    """Returns how integers are read: a sum of steps of 2^-f, and one of their squares."""
    if type(fraction_bits) is not int or not 0 <= fraction_bits <= MAX_MOMENT_BITS:
        raise ScaleError(f"moments have 0 to {MAX_MOMENT_BITS} fraction bits")
    return Scale(0, 1, terms), Scale(0, 2, terms)


@dataclass(frozen=True)
class LinearModel:
    """Public weights in fixed point, and how columns must be packed to be scored by them.

    Why no score overflows: `encode` lets a value pass only if |v| <= (2^62 - 1) // weight, where
    weight is the sum of the magnitudes of the integer weights and one more; `plan` refuses an
    intercept beyond the same limit. So a score is below 2^62 in magnitude and is read exactly.

    Attributes:
        weights: Integers, each worth 2^-weight_bits.
        intercept: An integer worth 2^-(fraction_bits + weight_bits).
        fraction_bits: Of the values, 0 to 62.
        weight_bits: Of the weights, 0 to 40.
    """

    weights: tuple[int, ...]
    intercept: int
    fraction_bits: int
    weight_bits: int

    @classmethod
    def plan(
        cls, weights: Sequence[float], *, intercept: float, fraction_bits: int, weight_bits: int
    ) -> "LinearModel":
        """Rounds weights and intercept to fixed point.

        Raises:
            VectorError: If there is no weight.
            ScaleError: If the bits are out of range.
            OverflowRefusedError: If a weight or the intercept is missing, infinite or too large.
        """
        if not 0 <= fraction_bits <= _LIMIT.bit_length() or not 0 <= weight_bits <= _WEIGHT_BITS:
            raise ScaleError("a linear model has 0 to 62 fraction bits and 0 to 40 weight bits")
        if not len(weights):
            raise VectorError("a linear model needs a weight")
        if not all(math.isfinite(number) for number in (*weights, intercept)):
            raise OverflowRefusedError("a weight or the intercept is missing or infinite")
        whole = tuple(round(Fraction(weight) * (1 << weight_bits)) for weight in weights)
        constant = round(Fraction(intercept) * (1 << (fraction_bits + weight_bits)))
        model = cls(whole, constant, fraction_bits, weight_bits)
        if model.units > MAX_WEIGHT or abs(constant) > model.limit:
            raise OverflowRefusedError("the weights or the intercept are too large for a score")
        return model

    @property
    def units(self) -> int:
        """Units of room that a score takes: the weights' magnitudes, and one for the intercept."""
        return sum(abs(weight) for weight in self.weights) + 1

    @property
    def limit(self) -> int:
        """The largest magnitude of one encoded value."""
        return _LIMIT // self.units

    @property
    def packing(self) -> Packing:
        """How each feature's column must be packed."""
        return Packing(weight=self.units)

    def encode(self, values: npt.ArrayLike) -> Words:
        """Turns one feature of all rows into words.

        Args:
            values: float64[rows].

        Returns:
            uint64[rows]

        Raises:
            OutOfRangeError: For nan, inf, or a magnitude that could overflow a score.
            VectorError: If `values` is not one-dimensional and numeric.
        """
        words = encode(values, Scale(self.fraction_bits, 1, 1))
        beyond = np.abs(words.view(np.int64)) > self.limit
        if beyond.any():
            raise OutOfRangeError(
                f"the value at position {int(np.argmax(beyond))} is too large to be scored"
            )
        return words

    def score(self, columns: Sequence[PackedColumn]) -> PackedColumn:
        """Computes all rows' scores while they are encrypted; re-randomise before they leave.

        Args:
            columns: One for each weight, of `encode`d words, just sealed.

        Raises:
            VectorError: If there is not one column for each weight, or they are not alike.
            OverflowRefusedError: If they are not packed as `packing` says, or were added before.
        """
        total = weigh_columns(columns, self.weights)
        constant = np.full(total.length, self.intercept % _WORD, dtype=np.uint64)
        return add_public_words(total, constant)

    def decode(self, words: Words) -> Floats:
        """Turns opened scores into numbers.

        Raises:
            OutOfRangeError: If one is beyond any score.
        """
        scores = read_signed(words, self.packing)
        beyond = (scores > _LIMIT) | (scores < -_LIMIT)
        if beyond.any():
            raise OutOfRangeError(f"the score of row {int(np.argmax(beyond))} is beyond any score")
        return np.ldexp(scores.astype(np.float64), -self.fraction_bits - self.weight_bits)
