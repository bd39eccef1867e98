"""What the key's owner reads, and how much of it others may see.

What it decides: a decrypted result is a *raw* one by type. What a CKKS decryption shows includes
the ciphertext's noise, and whoever is given enough raw results of known computations solves for
the secret key (Li and Micciancio, "On the Security of Homomorphic Encryption on Approximate
Numbers", EUROCRYPT 2021). So raw results go to the key's owner and nobody else, and what is passed
on is `published`, rounded far above the noise. What it does not do: prove anything about rounded
values; they hide the noise except near a rounding boundary.
"""

from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from privacy.ckks.encrypted import Answer
from privacy.ckks.model import Link
from privacy.ckks.parameters import LINEAR, SIGMOID, SQUARE, SUMS, Parameters
from privacy.ckks.sigmoid import sigmoid
from privacy.errors import ApproximationError

Values = npt.NDArray[np.float64]

NOISE_BITS = {SUMS: 34, LINEAR: 25, SQUARE: 26, SIGMOID: 19}
"""By set: no decrypted score or mean is further from its true value than 2^-bits, relative to its
bound. Tests hold the sets to it. Measured over 30,000 scores of three keys (900 means): 2^-36,
2^-27, 2^-28 and 2^-21; the rest is room for tails, which are those of a normal number times |s| or
|s|² at a slot, s the secret polynomial."""

_MARGIN = 2**10
"""A published step is at least so many times the noise."""


@dataclass(frozen=True, eq=False)
class RawScores:
    """Decrypted scores, for the owner of the key alone; their repr hides them.

    Attributes:
        values: float64[rows]: predictors, scores or probabilities, as `answer` says.
        answer: What a score is.
        link: What a linear predictor stands for.
        bound: No true score is larger in absolute value.
        parameters: The named set.
    """

    values: Values = field(repr=False)
    answer: Answer
    link: Link
    bound: float
    parameters: Parameters

    def __reduce__(self) -> NoReturn:
        """Refuses pickling: raw results go nowhere.

        Raises:
            ApproximationError: Always.
        """
        raise ApproximationError("raw CKKS results stay with the key's owner; publish them rounded")

    def probabilities(self) -> Values:
        """The exact sigmoid of each predictor, float64[rows]; raw, too.

        Raises:
            ApproximationError: If the model has no probabilities.
        """
        if self.answer is Answer.PROBABILITY:
            return self.values
        if self.answer is not Answer.PREDICTOR or self.link is not Link.LOGISTIC:
            raise ApproximationError("only the predictors of a logistic model have probabilities")
        return sigmoid(self.values)

    def published(self, decimals: int) -> Values:
        """Scores rounded to so many decimals, float64[rows], for others than the key's owner.

        Raises:
            ApproximationError: If a step of the rounding is less than 1024 times the noise.
        """
        _check_step(decimals, self.bound, self.parameters)
        return np.round(self.values, decimals)


@dataclass(frozen=True, eq=False)
class RawMoments:
    """Decrypted moments of columns, for the owner of the key alone; their repr hides them.

    Attributes:
        rows: Number of values in each column.
        sums: float64[columns].
        means: float64[columns].
        variances: float64[columns], divided by rows; never below zero.
        bounds: Those of the columns.
        parameters: The named set.
    """

    rows: int
    sums: Values = field(repr=False)
    means: Values = field(repr=False)
    variances: Values = field(repr=False)
    bounds: tuple[float, ...]
    parameters: Parameters

    def __reduce__(self) -> NoReturn:
        """Refuses pickling: raw results go nowhere.

        Raises:
            ApproximationError: Always.
        """
        raise ApproximationError("raw CKKS results stay with the key's owner; publish them rounded")

    def published(self, decimals: int) -> tuple[Values, Values]:
        """Means and variances rounded to so many decimals, for others than the key's owner.

        Raises:
            ApproximationError: If a step of the rounding is less than 1024 times the noise.
        """
        largest = max(self.bounds)
        _check_step(decimals, max(largest, largest**2), self.parameters)
        return np.round(self.means, decimals), np.round(self.variances, decimals)


def _check_step(decimals: int, bound: float, parameters: Parameters) -> None:
    noise = 2.0 ** -NOISE_BITS[parameters] * bound
    if not 0 <= decimals <= 15 or 10.0**-decimals < _MARGIN * noise:
        raise ApproximationError(
            f"rounding to {decimals} decimals is too close to the noise of these results"
        )
