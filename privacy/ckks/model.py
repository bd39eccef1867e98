"""The models that are evaluated on encrypted rows, and their form as JSON without floats.

What it decides: that a model is finite, has at least one weight that matters, and has one written
form. What it does not do: compute on ciphertexts (`privacy.ckks.scoring` plans that), or hide the
model from whoever is given its scores.

    {"intercept":"-1.25","kind":"rongshu/linear-model/v1","link":"logistic","weights":["0.5","2.0"]}

    {"hidden":[["0.5","2.0"]],"intercept":"0.0","kind":"rongshu/square-network/v1",
     "offsets":["0.25"],"output":["-1.5"]}

Each number is the shortest decimal text that gives its float64 back (Python's `repr`): one text
for one number, so equal models have equal digests.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from privacy.errors import ModelError

LINEAR_MODEL = "rongshu/linear-model/v1"
SQUARE_NETWORK = "rongshu/square-network/v1"

MAX_COLUMNS = 4096
MAX_UNITS = 256
_LONGEST_NUMBER = 32


class Link(StrEnum):
    """What a linear predictor stands for."""

    IDENTITY = "identity"
    LOGISTIC = "logistic"


@dataclass(frozen=True)
class LinearModel:
    """A linear or logistic regression: predictor = weights · row + intercept.

    Attributes:
        weights: One for each column, in the column's own unit.
        intercept: Added to every predictor.
        link: IDENTITY, or LOGISTIC when the sigmoid of the predictor is a probability.

    Raises:
        ModelError: If a number is not finite, or no weight is different from zero.
    """

    weights: tuple[float, ...]
    intercept: float
    link: Link

    def __post_init__(self) -> None:
        _check_numbers("weights", self.weights, MAX_COLUMNS)
        _check_numbers("intercept", (self.intercept,), 1)
        if type(self.link) is not Link:
            raise ModelError("a link is identity or logistic")
        if not any(self.weights):
            raise ModelError("a model without any weight has nothing to score")

    @property
    def columns(self) -> int:
        """Number of columns of a row."""
        return len(self.weights)

    def predict(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Linear predictors of rows in the clear, float64[rows, columns] to float64[rows]."""
        predictors: npt.NDArray[np.float64] = rows @ np.array(self.weights) + self.intercept
        return predictors

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON with decimal strings for numbers."""
        return {
            "intercept": repr(self.intercept),
            "kind": LINEAR_MODEL,
            "link": str(self.link),
            "weights": _texts(self.weights),
        }


@dataclass(frozen=True)
class SquareNetwork:
    """One hidden layer whose activation is the square: output · (hidden · row + offsets)² + i.

    Attributes:
        hidden: Weights of each unit, units x columns.
        offsets: Added to each unit before it is squared.
        output: Weight of each unit's square.
        intercept: Added to every score.

    Raises:
        ModelError: If shapes disagree, a number is not finite, or no unit matters.
    """

    hidden: tuple[tuple[float, ...], ...]
    offsets: tuple[float, ...]
    output: tuple[float, ...]
    intercept: float

    def __post_init__(self) -> None:
        _check_numbers("offsets", self.offsets, MAX_UNITS)
        _check_numbers("output", self.output, MAX_UNITS)
        _check_numbers("intercept", (self.intercept,), 1)
        if not len(self.hidden) == len(self.offsets) == len(self.output):
            raise ModelError("a network needs one row of weights, offset and output for each unit")
        for unit in self.hidden:
            _check_numbers("hidden", unit, MAX_COLUMNS)
            if len(unit) != self.columns:
                raise ModelError(
                    "each unit of a network needs as many weights as there are columns"
                )
        if not any(w and any(unit) for w, unit in zip(self.output, self.hidden, strict=True)):
            raise ModelError("a model without any weight has nothing to score")

    @property
    def columns(self) -> int:
        """Number of columns of a row."""
        return len(self.hidden[0])

    def predict(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Scores of rows in the clear, float64[rows, columns] to float64[rows]."""
        units = rows @ np.array(self.hidden).T + np.array(self.offsets)
        scores: npt.NDArray[np.float64] = units**2 @ np.array(self.output) + self.intercept
        return scores

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON with decimal strings for numbers."""
        return {
            "hidden": [_texts(unit) for unit in self.hidden],
            "intercept": repr(self.intercept),
            "kind": SQUARE_NETWORK,
            "offsets": _texts(self.offsets),
            "output": _texts(self.output),
        }


Model = LinearModel | SquareNetwork


def model_from_json(value: Any) -> Model:
    """Reads what a model's `to_json` wrote.

    Args:
        value: Unverified parsed JSON.

    Raises:
        ModelError: If it is not of that form, or the model is refused.
    """
    if not isinstance(value, Mapping):
        raise ModelError("a model is a JSON object")
    if value.get("kind") == LINEAR_MODEL:
        _check_fields(value, {"intercept", "kind", "link", "weights"})
        if value["link"] not in [str(link) for link in Link]:
            raise ModelError("a link is identity or logistic")
        return LinearModel(
            _numbers("weights", value["weights"]),
            read_number("intercept", value["intercept"]),
            Link(value["link"]),
        )
    if value.get("kind") == SQUARE_NETWORK:
        _check_fields(value, {"hidden", "intercept", "kind", "offsets", "output"})
        hidden = value["hidden"]
        if not isinstance(hidden, list) or len(hidden) > MAX_UNITS:
            raise ModelError(f"hidden is a list of at most {MAX_UNITS} units")
        return SquareNetwork(
            tuple(_numbers("hidden", unit) for unit in hidden),
            _numbers("offsets", value["offsets"]),
            _numbers("output", value["output"]),
            read_number("intercept", value["intercept"]),
        )
    raise ModelError("this is no kind of model that can be evaluated on encrypted rows")


def read_number(name: str, text: Any) -> float:
    """The float64 that a decimal text stands for, if it is the shortest one that does.

    Raises:
        ModelError: Naming the field, for anything else.
    """
    if not isinstance(text, str) or len(text) > _LONGEST_NUMBER:
        raise ModelError(f"{name}: a number is written as a short decimal text")
    try:
        number = float(text)
    except ValueError:
        raise ModelError(f"{name}: this is no decimal number") from None
    if not math.isfinite(number) or repr(number) != text:
        raise ModelError(f"{name}: a number is finite and written in its shortest form")
    return number


def _numbers(name: str, texts: Any) -> tuple[float, ...]:
    if not isinstance(texts, list) or len(texts) > MAX_COLUMNS:
        raise ModelError(f"{name} is a list of at most {MAX_COLUMNS} numbers")
    return tuple(read_number(name, text) for text in texts)


def _texts(numbers: Sequence[float]) -> list[str]:
    return [repr(number) for number in numbers]


def _check_fields(value: Mapping[str, Any], fields: set[str]) -> None:
    if set(value) != fields:
        raise ModelError(f"this kind of model has exactly the fields {', '.join(sorted(fields))}")


def _check_numbers(name: str, numbers: Sequence[float], most: int) -> None:
    if not isinstance(numbers, tuple) or not 1 <= len(numbers) <= most:
        raise ModelError(f"{name}: 1 to {most} numbers are needed")
    for at, number in enumerate(numbers):
        if type(number) is not float or not math.isfinite(number):
            raise ModelError(f"{name}: number {at} is not a finite float")
