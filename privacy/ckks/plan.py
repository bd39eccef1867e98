"""From a model and the bounds of columns to numbers that an engine multiplies with.

What it decides: everything is scaled so that values, predictors and scores lie in [-1, 1], so no
slot of any ciphertext can overflow as long as the owner keeps to the bounds; that what scores are
scaled by, which travels in the clear, is a power of two; and that a polynomial in place of the
sigmoid is used only where the bounds keep its argument within its range.
What it does not do: touch a ciphertext.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from privacy.ckks.batches import Packing
from privacy.ckks.encrypted import Answer, EncryptedColumns
from privacy.ckks.model import LinearModel, Link, Model, SquareNetwork
from privacy.ckks.parameters import LINEAR, SIGMOID, SUMS, Parameters
from privacy.ckks.sigmoid import RANGE, fit_sigmoid
from privacy.errors import ColumnsError, ModelError, ParametersError


@dataclass(frozen=True)
class Plan:
    """What the engine is told.

    Attributes:
        method: How it finishes: predictor, squares or sigmoid.
        weights: float64[units, columns] for values in [-1, 1].
        offsets: float64[units].
        details: What else the method needs, as JSON.
        answer: What comes out.
        link: What a linear predictor stands for.
        factor: Decrypted slots times this are the scores; a power of two.
    """

    method: str
    weights: npt.NDArray[np.float64]
    offsets: npt.NDArray[np.float64]
    details: dict[str, Any]
    answer: Answer
    link: Link
    factor: float


def plan_scores(model: Model, columns: EncryptedColumns, *, probabilities: bool) -> Plan:
    """Returns the plan for scoring rows within bounds.

    Args:
        model: What to evaluate.
        columns: The rows; their bounds, parameters and pairing count, not what is encrypted.
        probabilities: Evaluate a polynomial in place of the sigmoid while encrypted, instead of
            returning the linear predictor.

    Raises:
        ColumnsError: If the model has another number of columns, or needs rows that stand singly.
        ModelError: If scores have no finite bound, or a predictor may leave the range of the
            polynomial, or probabilities are asked of a model without any.
        ParametersError: If the set is not deep enough.
    """
    bounds, parameters = columns.bounds, columns.parameters
    if parameters == SUMS or columns.packing is Packing.MOMENTS:
        raise ParametersError("columns that are made for sums cannot be scored")
    if columns.packing is Packing.PAIRED and (probabilities or isinstance(model, SquareNetwork)):
        raise ColumnsError("only a linear predictor can be taken of paired rows")
    if model.columns != len(bounds):
        raise ColumnsError(f"the model has {model.columns} columns, the rows have {len(bounds)}")
    if isinstance(model, SquareNetwork):
        if probabilities:
            raise ModelError("only a logistic model has probabilities")
        return _plan_squares(model, bounds, parameters)
    if probabilities:
        return _plan_sigmoid(model, bounds, parameters)
    reach = _rounded(_reach(model, bounds))
    return Plan(
        method="predictor",
        weights=np.array([model.weights]) * np.array(bounds) / reach,
        offsets=np.array([model.intercept / reach]),
        details={},
        answer=Answer.PREDICTOR,
        link=model.link,
        factor=reach,
    )


def _plan_sigmoid(model: LinearModel, bounds: tuple[float, ...], parameters: Parameters) -> Plan:
    if model.link is not Link.LOGISTIC:
        raise ModelError("only a logistic model has probabilities")
    if parameters != SIGMOID:
        raise ParametersError("encrypted probabilities need columns under SIGMOID")
    reach = _finite(_reach(model, bounds))
    if reach > RANGE:
        # Just outside, the polynomial still gives values that look like probabilities.
        raise ModelError(
            f"within these bounds the predictor may leave [-{RANGE}, {RANGE}], where the "
            "polynomial holds: return the predictor, and let the owner apply the sigmoid"
        )
    return Plan(
        method="sigmoid",
        weights=np.array([model.weights]) * np.array(bounds) / RANGE,
        offsets=np.array([model.intercept / RANGE]),
        details={"coefficients": list(fit_sigmoid().coefficients)},
        answer=Answer.PROBABILITY,
        link=Link.IDENTITY,
        factor=1.0,
    )


def _plan_squares(model: SquareNetwork, bounds: tuple[float, ...], parameters: Parameters) -> Plan:
    """Output weights go into the units: w (a·x + c)² = sign(w) (sqrt|w| a·x + sqrt|w| c)²."""
    if parameters == LINEAR:
        raise ParametersError("a network needs columns under SQUARE or SIGMOID")
    kept = [
        (np.array(unit), offset, weight)
        for unit, offset, weight in zip(model.hidden, model.offsets, model.output, strict=True)
        if weight and any(unit)
    ]
    # A unit without weights is a constant, and one without output is nothing.
    intercept = model.intercept + sum(
        weight * offset**2
        for unit, offset, weight in zip(model.hidden, model.offsets, model.output, strict=True)
        if not any(unit)
    )
    spans = [float(np.abs(unit) @ np.array(bounds)) + abs(offset) for unit, offset, _ in kept]
    reach = _rounded(
        sum(abs(weight) * span**2 for (_, _, weight), span in zip(kept, spans, strict=True))
        + abs(intercept)
    )
    sizes = [math.sqrt(abs(weight) / reach) for _, _, weight in kept]
    return Plan(
        method="squares",
        weights=np.array(
            [unit * np.array(bounds) * size for (unit, _, _), size in zip(kept, sizes, strict=True)]
        ),
        offsets=np.array([offset * size for (_, offset, _), size in zip(kept, sizes, strict=True)]),
        details={
            "intercept": intercept / reach,
            "signs": [1 if weight > 0 else -1 for _, _, weight in kept],
        },
        answer=Answer.SCORE,
        link=Link.IDENTITY,
        factor=reach,
    )


def _reach(model: LinearModel, bounds: tuple[float, ...]) -> float:
    spans = np.abs(np.array(model.weights)) @ np.array(bounds)
    return float(spans) + abs(model.intercept)


def _rounded(reach: float) -> float:
    """The smallest power of two that a finite reach does not exceed.

    The reach itself is a sum over all weights times bounds that the owner chose: as many of those
    as there are weights would give whoever sees them every weight's magnitude.
    """
    mantissa, exponent = math.frexp(_finite(reach))
    return 2.0 ** (exponent - (mantissa == 0.5))


def _finite(reach: float) -> float:
    if not 1e-100 <= reach <= 1e100:
        raise ModelError("within these bounds a score may be larger than any number")
    return reach
