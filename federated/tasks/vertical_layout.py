"""What all three nodes know of a fit over several owners' columns, and that no number overflows.

Everything here follows from the plan and the number of rows in common: who owns how many columns,
how many steps are taken, and which bound each intermediate number has. For n rows, d columns in
all (the intercept is one), T steps and momentum b:

* an entry of the matrix is at most x: sqrt(n) where columns have mean square 1 (one entry cannot
  have more than all together), 1 where they are scaled to their range, and what the data cards say
  where they are taken as they are. The root mean square r of a column is at most 1, 1, or x;
* logistic: a residual is at most e = 1 and the error of the sigmoid, so a gradient is at most
  e * r (Cauchy and Schwarz), a step of length s with momentum at most s * e * r / (1 - b), a
  coefficient T times that, and a score d * x times a coefficient;
* linear: the columns have length 1, and the label at most, so their products G and b are at most
  1. The inverse is approached by V <- V (2 - G V) from V = s. After t doublings that is exactly
  what 2^t gradient steps of length s lead to: 1 - G V has the eigenvalues (1 - s g)^(2^t), so those
  of G V are from 0 to 1, and those of V at most s * 2^t. No entry exceeds the largest of them.
"""

import math
from dataclasses import dataclass

from federated.errors import TaskError
from privacy.errors import SharedRangeError
from privacy.replicated import sigmoid
from privacy.replicated.party import MOST_DOUBT, truncation_doubt
from privacy.replicated.ring import MOST_TERMS
from privacy.replicated.shared import require_room

LOGISTIC_BITS = 24
"""Fraction bits of what a logistic fit shares."""

STEP_BITS = 20
"""Fraction bits of the step's length, once it is scaled to between 1/2 and 1."""

LINEAR_BITS = 30
"""Fraction bits of what a linear fit shares."""

MOMENTUM = (5, 3)
"""Share of a logistic step that goes into the next one: 5 / 2^3."""

LINEAR_STEP = {2: (1, 1), 3: (5, 4)}
"""By the number of owners k, as numerator and power of two: at most 1/k. With each owner's columns
uncorrelated and of length 1, no eigenvalue of all their products exceeds k."""

MOST_CELLS = 2_000_000
"""Rows times columns in all: shares of more would not fit into one message."""

_SLACK = 1 + 2.0**-16
"""For rounding: of float64 at the owners, and of the truncations."""


@dataclass(frozen=True)
class Layout:
    """The public facts of one fit.

    Attributes:
        model: "logistic" or "linear".
        owners: Their assets, in the plan's order.
        widths: How many columns of the matrix each has.
        label_owner: Whose intercept and label there are.
        rows: In common.
        steps: How many are taken: gradient steps, or doublings.
        step: Their length; None where the blocks are turned and the length follows.
        largest: What no entry of the matrix exceeds before the blocks are turned.
        root_mean_square: What that of no column exceeds, before the blocks are turned.
        label_bits: |label| is at most 2 to this power, for a linear fit.
    """

    model: str
    owners: tuple[str, ...]
    widths: tuple[int, ...]
    label_owner: str
    rows: int
    steps: int
    step: float | None
    largest: float
    root_mean_square: float
    label_bits: int = 0

    @property
    def columns(self) -> int:
        """How many columns the matrix has."""
        return sum(self.widths)

    @property
    def turned(self) -> bool:
        """Whether owners turn their blocks."""
        return self.step is None

    @property
    def entry_bound(self) -> float:
        """What no entry of the shared matrix exceeds."""
        return (math.sqrt(self.rows) if self.turned else self.largest) * _SLACK

    @property
    def column_bound(self) -> float:
        """What no column's root mean square exceeds."""
        return (1.0 if self.turned else self.root_mean_square) * _SLACK

    @property
    def length(self) -> float:
        """The length of a logistic step: given, or 4 / k with turned blocks of k owners.

        With blocks of mean square 1 no second derivative of the mean log-loss exceeds k / 4
        (Böhning and Lindsay, "Monotonicity of quadratic-approximation algorithms", 1988).
        """
        return 4.0 / len(self.owners) if self.step is None else self.step

    @property
    def momentum(self) -> tuple[int, int]:
        """Numerator and power of two; none for steps of a given length."""
        return MOMENTUM if self.turned else (0, 0)

    @property
    def residual_bound(self) -> float:
        """What no label less its probability exceeds."""
        return 1.0 + 2 * sigmoid.largest_error()

    def gradient_bound(self) -> float:
        """What no entry of the summed gradient exceeds, the step's mantissa not counted."""
        return self.rows * self.column_bound * self.residual_bound

    def scaled_step(self) -> tuple[int, int]:
        """Returns factor and halvings: length / rows = factor * 2^-STEP_BITS * 2^-halvings."""
        each = self.length / self.rows
        halvings = max(0, -math.frexp(each)[1])
        return round(math.ldexp(each, halvings + STEP_BITS)), halvings

    def check(self) -> None:
        """Checks that no intermediate number overflows and no truncation is too doubtful.

        Raises:
            TaskError: overflow.
        """
        if self.rows * self.columns > MOST_CELLS or self.rows > MOST_TERMS:
            raise TaskError(
                "overflow",
                f"{self.rows} rows of {self.columns} columns are too many for one job; "
                f"{MOST_CELLS} cells and {MOST_TERMS} rows are the most",
            )
        try:
            doubt = self._logistic() if self.model == "logistic" else self._linear()
        except SharedRangeError as error:
            raise TaskError("overflow", f"the fit: {error}") from error
        if doubt > MOST_DOUBT:
            raise TaskError(
                "overflow",
                "numbers so large could go wrong in a fit of so many steps; scale the columns, "
                "or take fewer or shorter steps",
            )

    def _logistic(self) -> float:
        """Returns the doubt of all truncations, or raises SharedRangeError."""
        numerator, power = self.momentum
        kept = 1.0 - math.ldexp(numerator, -power)
        velocity = self.length * self.column_bound * self.residual_bound / kept * _SLACK
        score = self.columns * self.entry_bound * velocity * self.steps + 1.0
        if not math.ldexp(score + sigmoid.RADIUS, LOGISTIC_BITS) < 2.0**63:
            raise SharedRangeError("scores could be too large to compare")
        gradient = (2 * LOGISTIC_BITS + STEP_BITS, 4 * self.gradient_bound())
        scores = (2 * LOGISTIC_BITS, score)
        require_room(*gradient)
        each = truncation_doubt(*scores, self.rows) + truncation_doubt(*gradient, self.columns)
        return (each + sigmoid.doubt(self.rows, LOGISTIC_BITS)) * self.steps + each

    def _linear(self) -> float:
        """Likewise; only turned blocks are fitted so."""
        inverse, width = self.inverse_bound(self.steps + 1), self.columns
        product = (2 * LINEAR_BITS, 4 * width * inverse)
        require_room(*product)
        # Twice those of the last doubling, which are larger than those before together; then
        # products with the label, its refinement, and scores.
        return truncation_doubt(*product, (2 * width + 4) * width + self.rows)

    def inverse_bound(self, doublings: int) -> float:
        """What no entry of the inverse exceeds after so many doublings."""
        numerator, power = LINEAR_STEP[len(self.owners)]
        return math.ldexp(numerator, doublings - power) * _SLACK

    def coefficient_bound(self) -> float:
        """What no coefficient of a linear fit exceeds."""
        # The label's products with the columns have length sqrt(k) at most; one more refinement.
        return self.inverse_bound(self.steps + 1) * math.sqrt(len(self.owners)) * _SLACK
