"""Fits a regression over shared columns: what the three parties do, round by round.

    fitted = yield from fit(party, layout, Share(block.matrix, labels))
    fitted.coefficients                  # this owner's, of its block's matrix; nobody sees others'

Logistic: full-batch gradient steps, with momentum where blocks are turned (Polyak, "Some methods
of speeding up the convergence of iteration methods", 1964), and the logistic function of
`privacy.replicated.sigmoid`. Linear: the products of all columns with each other and the label are
computed once, and stay shared, as does their inverse. Nothing is opened before the last step, and
then to each owner its own coefficients alone.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from federated.plan import Floats
from federated.tasks.vertical_layout import (
    LINEAR_BITS,
    LINEAR_STEP,
    LOGISTIC_BITS,
    STEP_BITS,
    Layout,
)
from privacy.replicated.party import Party, Rounds
from privacy.replicated.shared import Matrix, Shared, joined
from privacy.replicated.sigmoid import centred_sigmoid

_LAST_BITS = 2.0**-10
"""More than the truncations add to a bound."""


@dataclass(frozen=True, eq=False)
class Share:
    """What a node puts in.

    Attributes:
        matrix: float64[n, d], None at a node that only computes.
        labels: float64[n], None but at the label's owner: 0 and 1, or numbers within
            2^label_bits.
    """

    matrix: Floats | None = field(repr=False, default=None)
    labels: Floats | None = field(repr=False, default=None)


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a node gets out.

    Attributes:
        coefficients: float64[d] of its matrix, None at a node that only computes.
        last_step: float64[d], how far the last step moved them; as `coefficients`.
        scores: float64[n], None but at the label's owner, where they were asked for.
    """

    coefficients: Floats | None = field(repr=False, default=None)
    last_step: Floats | None = field(repr=False, default=None)
    scores: Floats | None = field(repr=False, default=None)


def fit(party: Party, layout: Layout, share: Share, *, scores: bool = False) -> Rounds[Fitted]:
    """Fits, and opens to each owner what is its own.

    Args:
        party: This one, not begun.
        layout: The same at all three, checked.
        share: This node's.
        scores: Open each row's score to the label's owner.

    Raises:
        SharedRangeError: A value is beyond the bound that the layout gives.
        SharedParcelError: A parcel is missing or has another length.
    """
    yield from party.begin()
    if layout.model == "logistic":
        matrix, moved = yield from _logistic(party, layout, share)
        unit = 1.0
    else:
        matrix, moved = yield from _linear(party, layout, share)
        unit = math.ldexp(1.0, layout.label_bits)
    own: Floats | None = None
    start = 0
    for owner, width in zip(layout.owners, layout.widths, strict=True):
        opened = yield from party.open(moved.rows(start, start + width), [owner])
        own = own if opened is None else opened * unit
        start += width
    found: Floats | None = None
    if scores:
        weights, bits = moved.columns(0, 1), moved.fraction_bits
        shared = yield from party.matmul(matrix, weights, fraction_bits=bits)
        opened = yield from party.open(shared, [layout.label_owner])
        length = 1.0 if layout.model == "logistic" else math.sqrt(layout.rows)
        found = None if opened is None else opened[:, 0] * unit * length
    if own is None:
        return Fitted(scores=found)
    return Fitted(own[:, 0], own[:, 1], found)


def _logistic(party: Party, layout: Layout, share: Share) -> Rounds[tuple[Matrix, Shared]]:
    """Returns the matrix, and [d, 2]: coefficients and last step."""
    bits, rows = LOGISTIC_BITS, layout.rows
    matrix = Matrix.of((yield from _columns(party, layout, share.matrix, bits)))
    centred = None if share.labels is None else share.labels - 0.5
    labels = yield from party.deal(layout.label_owner, centred, (rows,), bits, 0.5)
    weights = velocity = party.constant(np.zeros((layout.columns, 1)), bits)
    factor, halvings = layout.scaled_step()
    bound = math.ldexp(factor, -STEP_BITS) * layout.gradient_bound()
    scale = 2 * bits + STEP_BITS + halvings
    for _ in range(layout.steps):
        scores = yield from party.matmul(matrix, weights, fraction_bits=bits)
        chances = yield from centred_sigmoid(party, scores.reshaped(rows))
        residuals = labels.minus(chances).within(layout.residual_bound)
        velocity = yield from party.matmul_transposed(
            matrix,
            residuals.times(factor, more_bits=STEP_BITS).reshaped(rows, 1),
            fraction_bits=bits,
            bound=bound,
            halvings=halvings,
            plus=_raised(velocity, *layout.momentum, scale),
        )
        weights = weights.plus(velocity)
    return matrix, joined([weights, velocity], axis=1)


def _linear(party: Party, layout: Layout, share: Share) -> Rounds[tuple[Matrix, Shared]]:
    """Likewise, of the label scaled by 2^-label_bits.

    Matrix and label are shared divided by sqrt(n), so that columns have length 1.
    """
    bits, length = LINEAR_BITS, math.sqrt(layout.rows)
    mine = None if share.matrix is None else share.matrix / length
    columns = yield from _columns(party, layout, mine, bits)
    scaled = None
    if share.labels is not None:
        scaled = np.ldexp(share.labels, -layout.label_bits)[:, None] / length
    labels = yield from party.deal(layout.label_owner, scaled, (layout.rows, 1), bits, 1.0)
    matrix = Matrix.of(columns)
    products = yield from party.matmul_transposed(
        matrix, joined([columns, labels], axis=1), fraction_bits=bits, bound=1.0 + 2.0**-16
    )
    square, target = _split(products, layout.columns)
    inverse = yield from _inverse(party, layout, square)
    weights = yield from party.matmul(Matrix.of(inverse), target, fraction_bits=bits)
    weights = weights.within(layout.coefficient_bound())
    told = yield from party.matmul(Matrix.of(square), weights, fraction_bits=bits)
    # What is left of the label's products, by the proof for the inverse at most sqrt(k).
    left = target.minus(told).within(math.sqrt(len(layout.owners)) + _LAST_BITS)
    last = yield from party.matmul(Matrix.of(inverse), left, fraction_bits=bits)
    weights = weights.plus(last.within(layout.coefficient_bound()))
    return matrix, joined([weights, last], axis=1)


def _inverse(party: Party, layout: Layout, square: Shared) -> Rounds[Shared]:
    """Approaches the inverse of a shared [d, d] by doublings: four rounds each.

    Schulz, "Iterative Berechnung der reziproken Matrix" (1933); bounds as `vertical_layout` says.
    """
    identity, bits = np.eye(layout.columns), LINEAR_BITS
    numerator, power = LINEAR_STEP[len(layout.owners)]
    inverse = party.constant(identity * math.ldexp(numerator, -power), bits)
    twice, factor = party.constant(2 * identity, bits), Matrix.of(square)
    for doubling in range(1, layout.steps + 1):
        product = yield from party.matmul(factor, inverse, fraction_bits=bits)
        rest = twice.minus(product.within(1.0 + _LAST_BITS)).within(2.0 + _LAST_BITS)
        inverse = yield from party.matmul(Matrix.of(inverse), rest, fraction_bits=bits)
        inverse = inverse.within(layout.inverse_bound(doubling))
    return inverse


def _split(products: Shared, columns: int) -> tuple[Shared, Shared]:
    """Returns the products of the columns with each other, and those with the label."""
    return products.columns(0, columns), products.columns(columns, columns + 1)


def _columns(party: Party, layout: Layout, mine: Floats | None, bits: int) -> Rounds[Shared]:
    """Shares every owner's block and joins them, [n, d]."""
    parts = []
    bound = layout.entry_bound if layout.model == "logistic" else 1.0 + 2.0**-16
    for owner, width in zip(layout.owners, layout.widths, strict=True):
        own = mine if party.names[party.place] == owner else None
        parts.append((yield from party.deal(owner, own, (layout.rows, width), bits, bound)))
    return joined(parts, axis=1)


def _raised(shared: Shared, numerator: int, power: int, scale: int) -> Shared:
    """Returns the product with numerator / 2^power, with `scale` fraction bits."""
    more = scale - shared.fraction_bits
    return shared.times(numerator << (more - power), more_bits=more)
