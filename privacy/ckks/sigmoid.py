"""A polynomial in place of the sigmoid, for a scorer that returns probabilities and no predictor.

What it decides: the coefficients, by least squares at the Chebyshev nodes of a stated range, and
the largest error over that range. What it does not do: hold outside of it, where the polynomial
soon leaves [0, 1] without bound. Whoever can have the linear predictor should take that and apply
the exact sigmoid: it is faster, exact, and has no range.

    fit = fit_sigmoid()
    fit(np.array([0.0, 3.0]))            # about 0.5, 0.95
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RANGE = 8
"""The polynomial stands for the sigmoid on [-8, 8]."""

DEGREE = 7
"""Four levels of squares and products; odd powers only, for the sigmoid less 1/2 is odd."""

_NODES = 4096
_GRID = 100_001


@dataclass(frozen=True)
class SigmoidPolynomial:
    """1/2 + c1 u + c3 u^3 + c5 u^5 + c7 u^7 with u = x / RANGE.

    Attributes:
        coefficients: c1, c3, c5, c7.
        error: The largest distance to the sigmoid, measured on 100,001 points of the range.
    """

    coefficients: tuple[float, float, float, float]
    error: float

    def __call__(self, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The polynomial at each x, float64 of any shape."""
        return _odd(x / RANGE, np.array(self.coefficients)) + 0.5


def sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """1 / (1 + exp(-x)) for float64 of any shape, without overflow."""
    small = np.exp(-np.abs(x))
    result: npt.NDArray[np.float64] = np.where(x >= 0, 1.0, small) / (1.0 + small)
    return result


def fit_sigmoid() -> SigmoidPolynomial:
    """The least-squares fit at the Chebyshev nodes; the same on every machine to 1e-12."""
    nodes = np.cos(np.pi * (np.arange(_NODES) + 0.5) / _NODES)
    powers = np.stack([nodes**power for power in range(1, DEGREE + 1, 2)], axis=1)
    fitted = np.linalg.lstsq(powers, sigmoid(nodes * RANGE) - 0.5, rcond=None)[0]
    grid = np.linspace(-1.0, 1.0, _GRID)
    error = float(np.abs(_odd(grid, fitted) + 0.5 - sigmoid(grid * RANGE)).max())
    c1, c3, c5, c7 = (float(one) for one in fitted)
    return SigmoidPolynomial((c1, c3, c5, c7), error)


def _odd(
    u: npt.NDArray[np.float64], coefficients: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    c1, c3, c5, c7 = coefficients
    square = u * u
    result: npt.NDArray[np.float64] = u * (c1 + square * (c3 + square * (c5 + square * c7)))
    return result
