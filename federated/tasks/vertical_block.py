"""One owner's columns of the common rows, brought into a form that three parties can compute with.

    block = Block.of(names, values, scaling="standard", intercept=True, whiten=True)
    block.matrix                         # float64[n, d], what is shared
    block.coefficients(v)                # of the columns as scaled, from those of the matrix

An owner scales its columns by its own means and deviations, which stay with it. Where the fit
chooses its own steps, the owner also turns its block, so that its columns are uncorrelated and of
mean square 1: the fit then needs no secret matrix to be inverted, takes few rounds, and has bounds
that follow from n alone. The turn stays with the owner too, and is undone at the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from federated.errors import TaskError
from federated.plan import Floats

SCALINGS = ("standard", "minmax", "none")
INTERCEPT = "intercept"

CONSTANT = 2.0**-44
"""Range below which a column counts as constant, as a share of its largest value."""

DEPENDENT = 2.0**-26
"""Share of a column's length that others of its owner leave unexplained at least."""


@dataclass(frozen=True, eq=False)
class Block:
    """One owner's part of the matrix.

    Attributes:
        names: The columns, with "intercept" first at the label's owner.
        matrix: float64[n, d], scaled and, where the fit wants it, turned.
        turn: float64[d, d], the scaled columns are matrix @ turn; None for no turn.
    """

    names: tuple[str, ...]
    matrix: Floats = field(repr=False)
    turn: Floats | None = field(repr=False)

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        values: Floats,
        *,
        scaling: str,
        intercept: bool,
        whiten: bool,
    ) -> "Block":
        """Scales and turns an owner's columns.

        Args:
            names: d names.
            values: float64[n, d] without missing values.
            scaling: One of `SCALINGS`.
            intercept: Put a column of ones first.
            whiten: Turn the block.

        Raises:
            TaskError: constant_column or collinear, naming the column.
        """
        scaled = _scaled(names, values, scaling)
        if intercept:
            names = (INTERCEPT, *names)
            scaled = np.hstack([np.ones((len(values), 1)), scaled])
        if not whiten:
            return cls(tuple(names), scaled, None)
        length = np.sqrt(len(scaled))
        orthonormal, triangle = np.linalg.qr(scaled)
        sizes = np.sqrt((scaled**2).sum(axis=0))
        for name, left, size in zip(names, np.abs(np.diag(triangle)), sizes, strict=True):
            if left < DEPENDENT * size:
                raise TaskError(
                    "collinear",
                    f"column {name!r} follows from others of its owner; leave one of them out",
                )
        return cls(tuple(names), orthonormal * length, triangle / length)

    def coefficients(self, fitted: Floats) -> dict[str, float]:
        """Returns the coefficients of the scaled columns, from those of the matrix, float64[d]."""
        own = fitted if self.turn is None else np.linalg.solve(self.turn, fitted)
        return dict(zip(self.names, own.tolist(), strict=True))


def _scaled(names: Sequence[str], values: Floats, scaling: str) -> Floats:
    ranges = np.ptp(values, axis=0)
    for name, width, size in zip(names, ranges, np.abs(values).max(axis=0), strict=True):
        if width <= CONSTANT * size:
            raise TaskError(
                "constant_column",
                f"column {name!r} is constant in the rows in common; leave it out",
            )
    if scaling == "none":
        return values
    if scaling == "minmax":
        scaled: Floats = (values - values.min(axis=0)) / ranges
        return scaled
    centred = values - values.mean(axis=0)
    standard: Floats = centred / np.sqrt((centred**2).sum(axis=0) / (len(values) - 1))
    return standard
