"""The numerical parts of a logistic fit: pure functions over arrays, no protocol.

The objective is F(b0, beta) = sum over rows of log(1 + exp(eta)) - y * eta, plus
ridge / 2 * |beta|^2, with eta = b0 + z . beta and the intercept free. A parameter vector theta is
(b0, beta), float64[d + 1]; Hessians travel as their upper triangle, row by row.
"""

import math
from dataclasses import dataclass

import numpy as np

from federated.errors import TaskError
from federated.plan import Floats

SINGULAR = 1e-10
"""Smallest eigenvalue of a correlation matrix below which its columns count as collinear. The
condition index 1e5 is far beyond the 30 to 100 that Belsley, Kuh and Welsch ("Regression
Diagnostics", 1980, section 3.2) call severe, and far above the rounding of the summed entries."""

_INVOLVED = 1e-3
"""Share of the largest entry from which a column counts as part of a collinear combination."""


@dataclass(frozen=True)
class Local:
    """One node's part of a Newton step.

    Attributes:
        gradient: float64[d + 1].
        hessian: float64[(d + 1)(d + 2) / 2], the upper triangle.
        loss: Summed log-loss.
    """

    gradient: Floats
    hessian: Floats
    loss: float


def log_losses(eta: Floats, labels: Floats) -> Floats:
    """Returns each row's log-loss, float64[n], without overflow for any eta.

    log(1 + exp(eta)) is `logaddexp(0, eta)`, which never forms a large exponential.
    """
    losses: Floats = np.logaddexp(0.0, eta) - labels * eta
    return losses


def probabilities(eta: Floats) -> Floats:
    """Returns 1 / (1 + exp(-eta)), float64[n], by the branch that cannot overflow."""
    small = np.exp(-np.abs(eta))
    chances: Floats = np.where(eta >= 0, 1.0, small) / (1.0 + small)
    return chances


def effective_rows(weights: Floats) -> float:
    """Returns Kish's effective sample size (sum w)^2 / sum w^2 of non-negative weights.

    It is n for equal weights and near 1 when one row outweighs all others (Kish, "Survey
    Sampling", 1965, section 11.2). Zero for no rows or weights that are all zero.
    """
    largest = float(weights.max(initial=0.0))
    if largest == 0.0:
        return 0.0
    # Dividing by the largest first keeps tiny weights from vanishing when squared.
    shares = weights / largest
    return float(shares.sum() ** 2 / (shares * shares).sum())


def local_step(scaled: Floats, labels: Floats, theta: Floats) -> Local:
    """Returns one node's gradient, Hessian and loss at theta.

    Args:
        scaled: float64[n, d], standardised features.
        labels: float64[n] of zeros and ones.
        theta: float64[d + 1].
    """
    design = np.hstack([np.ones((len(scaled), 1)), scaled])
    eta = design @ theta
    chances = probabilities(eta)
    hessian = (design * (chances * (1.0 - chances))[:, None]).T @ design
    return Local(
        gradient=design.T @ (chances - labels),
        hessian=hessian[np.triu_indices(len(theta))],
        loss=math.fsum(log_losses(eta, labels)),
    )


def unpack(triangle: Floats, size: int) -> Floats:
    """Returns the symmetric float64[size, size] matrix of an upper triangle."""
    matrix = np.zeros((size, size))
    matrix[np.triu_indices(size)] = triangle
    full: Floats = matrix + matrix.T - np.diag(np.diag(matrix))
    return full


def collinear_features(hessian: Floats, features: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the features that take part in a linear dependency, empty if there is none.

    Args:
        hessian: float64[d + 1, d + 1] at theta = 0, that is a quarter of the design's moments.
        features: The d names; the intercept has none.
    """
    scale = 1.0 / np.sqrt(np.diag(hessian))
    values, vectors = np.linalg.eigh(hessian * np.outer(scale, scale))
    involved: set[str] = set()
    for value, vector in zip(values, vectors.T, strict=True):
        if value < SINGULAR:
            share = np.abs(vector[1:])
            involved |= {
                name
                for name, part in zip(features, share, strict=True)
                if part > _INVOLVED * share.max()
            }
    return tuple(name for name in features if name in involved)


def newton_direction(gradient: Floats, hessian: Floats) -> Floats:
    """Returns the step to subtract, float64[d + 1].

    Solved in units of the diagonal, which is the cheap equilibration of Golub and Van Loan
    ("Matrix Computations", section 3.5.2).

    Raises:
        TaskError: separation, if the curvature has vanished in some direction.
    """
    diagonal = np.diag(hessian)
    if not bool(np.all(diagonal > 0)):
        raise separation()
    scale = 1.0 / np.sqrt(diagonal)
    try:
        # Cholesky fails where the matrix is not positive definite any more.
        lower = np.linalg.cholesky(hessian * np.outer(scale, scale))
    except np.linalg.LinAlgError:
        raise separation() from None
    half = np.linalg.solve(lower, gradient * scale)
    direction: Floats = np.linalg.solve(lower.T, half) * scale
    return direction


def separation() -> TaskError:
    """Returns the error for labels that some combination of columns predicts without fault."""
    return TaskError(
        "separation",
        "the coefficients grow without end: some combination of the columns tells the classes "
        "apart (all but), so there is no unpenalised fit that could be given; give a ridge, for "
        "example 1, or leave columns out",
    )
