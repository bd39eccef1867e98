"""The logistic function of shared numbers: a polynomial within a range, 0 and 1 beyond it.

    centred = yield from centred_sigmoid(party, scores)       # 1 / (1 + exp(-u)) - 1/2, nearly

For |u| < `RADIUS` an odd polynomial of degree `DEGREE`, interpolated at Chebyshev's points; beyond
it 0 or 1. Both are chosen by shared comparisons, so that no score, however far out, lets the
polynomial run away, and every result has a bound: 1/2 and a little. `largest_error` says how far
from the logistic function that is; it is computed from the coefficients, and a test holds it.

Evaluated in s = u / RADIUS as s (c0 + c1 v + c2 v^2 + v^3 (c3 + c4 v + c5 v^2 + c6 v^3)), v = s^2.
"""

from functools import lru_cache

import numpy as np
from numpy.polynomial import chebyshev, polynomial

from privacy.errors import SharingError
from privacy.replicated.comparison import ROUNDS as COMPARISON_ROUNDS
from privacy.replicated.comparison import negative, select
from privacy.replicated.party import Party, Rounds, truncation_doubt
from privacy.replicated.ring import Floats
from privacy.replicated.shared import Shared, joined

RADIUS_BITS = 3
RADIUS = float(1 << RADIUS_BITS)
"""Beyond this the logistic function is 0 or 1 to within 3.4e-4."""

DEGREE = 13
COEFFICIENT_BITS = 16
ROUNDS = COMPARISON_ROUNDS + 1 + 10
"""How many rounds `centred_sigmoid` takes."""

LEAST_FRACTION_BITS = 24
_SLACK = 2.0**-12
"""For the truncations: a few last bits of at least 24, times coefficients of 420 in all."""


def odd_coefficients() -> Floats:
    """Returns the coefficients of s, s^3, …, s^13 with s = u / RADIUS, rounded as they are used."""
    points = np.cos(np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))
    fitted = chebyshev.chebfit(points, _centred(RADIUS * points), DEGREE)
    odd = np.asarray(chebyshev.cheb2poly(fitted)[1::2], dtype=np.float64)
    return np.rint(np.ldexp(odd, COEFFICIENT_BITS)) * 2.0**-COEFFICIENT_BITS


def approximation(scores: Floats) -> Floats:
    """Returns what `centred_sigmoid` computes, in float64 and without fixed point."""
    s = scores / RADIUS
    inside = np.where(np.abs(s) < 1.0, s, 0.0)
    value = inside * polynomial.polyval(inside**2, odd_coefficients())
    return np.where(np.abs(s) < 1.0, value, np.where(s < 0.0, -0.5, 0.5))


@lru_cache(maxsize=1)
def largest_error() -> float:
    """Returns the largest distance from the logistic function, over all scores: about 0.003."""
    # Few extrema on so fine a grid: what is missed between two points is a millionth of it.
    scores = np.linspace(-RADIUS, RADIUS, 100_001)
    within = np.abs(approximation(scores) - _centred(scores)).max()
    return float(max(within, 0.5 - _centred(np.array(RADIUS)))) * (1 + 2.0**-10)


def centred_sigmoid(party: Party, scores: Shared) -> Rounds[Shared]:
    """Returns the logistic function less 1/2: `ROUNDS` rounds.

    Args:
        party: This one.
        scores: [n], with as many fraction bits as the result gets, and at least 24.

    Returns:
        [n], within 1/2 and `largest_error`.

    Raises:
        SharingError: For fewer.
        SharedRangeError: As `negative`.
        SharedParcelError: As `Party.exchange`.
    """
    bits, count = scores.fraction_bits, scores.count
    if bits < LEAST_FRACTION_BITS:
        raise SharingError(f"scores need {LEAST_FRACTION_BITS} fraction bits for this polynomial")
    edge = party.constant(np.full(count, RADIUS), bits)
    either = joined([scores.plus(edge), scores.minus(edge)])
    signs = yield from negative(party, either)
    below, not_above = signs.rows(0, count), signs.rows(count, 2 * count)
    clipped = yield from select(party, scores, not_above.minus(below).within(1.0))
    inner = yield from _polynomial(party, clipped.within(RADIUS).halved(RADIUS_BITS), bits)
    one = party.constant(np.ones(count), 0)
    # 0 inside; 1/2 above the range, -1/2 below it.
    side = one.minus(below).minus(not_above).within(1.0)
    outer = side.times(1 << (bits - 1), more_bits=bits)
    return inner.plus(outer).within(0.5 + largest_error() + _SLACK)


def doubt(count: int, bits: int) -> float:
    """Returns what the truncations of `centred_sigmoid` go wrong with at most, a probability.

    Args:
        count: How many scores.
        bits: Their fraction bits.
    """
    size = 2.0 * float(np.abs(odd_coefficients()).sum())
    # Five products, of numbers within `size` and at most so many fraction bits before the cut.
    return 5 * truncation_doubt(2 * bits + COEFFICIENT_BITS, size, count)


def _polynomial(party: Party, s: Shared, bits: int) -> Rounds[Shared]:
    """Evaluates the polynomial at |s| <= 1: ten rounds."""
    v1 = (yield from party.multiply(s, s, fraction_bits=bits)).within(1.0 + _SLACK)
    v2 = yield from party.multiply(v1, v1, fraction_bits=bits)
    v3 = yield from party.multiply(v1, v2, fraction_bits=bits)
    c = odd_coefficients()
    low = _combined(party, c[:3], (v1, v2), bits)
    high = _combined(party, c[3:], (v1, v2, v3), bits)
    plus = low.times(1 << bits, more_bits=bits)
    upper = yield from party.multiply(high, v3, fraction_bits=bits, plus=plus)
    return (yield from party.multiply(upper, s, fraction_bits=bits))


def _combined(party: Party, c: Floats, powers: tuple[Shared, ...], bits: int) -> Shared:
    """Returns c[0] + c[1] v + …, with `COEFFICIENT_BITS` more fraction bits."""
    total = party.constant(np.full(powers[0].shape, c[0]), bits + COEFFICIENT_BITS)
    for power, factor in zip(powers, c[1:], strict=True):
        whole = round(factor * 2**COEFFICIENT_BITS)
        total = total.plus(power.times(whole, more_bits=COEFFICIENT_BITS))
    return total


def _centred(scores: Floats) -> Floats:
    value: Floats = 0.5 * np.tanh(0.5 * scores)
    return value
