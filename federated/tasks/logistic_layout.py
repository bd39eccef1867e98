"""What the logistic task's questions look like, and the bounds that make overflow impossible.

Bounds come from public facts alone: the cards' magnitudes (every |x| <= 2^k), the cards' row
counts, and the question's own numbers. For R rows at a party and n pooled training rows:

* a standardised value z = (x - mean) / sd is at most (2^k + |mean|) / sd, and on training rows
  also at most sqrt(n), since |x - mean| <= sd * (n - 1) / sqrt(n) for the sample deviation sd
  (Samuelson, "How deviant can you be?", Journal of the American Statistical Association 63, 1968);
* a residual is at most 1 and a weight p (1 - p) at most 1/4, so the gradient's entries are at most
  R * max z and the Hessian's R / 4 * (max z)^2;
* a row's log-loss is at most log 2 + |eta|, and |eta| <= |b0| + sum |beta_j| * max z_j.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from federated.errors import TaskError
from federated.plan import Floats, Plan, Question
from federated.tasks import parameters as read
from federated.tasks.question import real_field, whole_field
from federated.tasks.statistics import unit_sizes

LARGEST_COEFFICIENT = 32.0
"""Largest |coefficient| on the standardised scale, and largest |intercept|, that a node answers
for: exp(-32) is below the fixed point's last digit, so no honest fit has business there."""

_POINT_KEYS = {"mean", "sd", "rows", "intercept", "beta"}
_SLACK = 1 + 2.0**-30


@dataclass(frozen=True)
class ModelPoint:
    """Where a round is asked: the pooled scaling and the parameters.

    Attributes:
        mean: float64[d], in the columns' own units.
        sd: float64[d], positive.
        rows: Pooled number of training rows.
        theta: float64[d + 1], intercept first, on the standardised scale.
    """

    mean: Floats
    sd: Floats
    rows: int
    theta: Floats

    def at(self, theta: Floats) -> "ModelPoint":
        """Returns the same scaling with other parameters."""
        return replace(self, theta=theta)

    def scale(self, values: Floats) -> Floats:
        """Returns standardised float64[n, d]."""
        scaled: Floats = (values - self.mean) / self.sd
        return scaled

    def to_json(self) -> dict[str, Any]:
        """Returns the question's parameters."""
        return {
            "mean": self.mean.tolist(),
            "sd": self.sd.tolist(),
            "rows": self.rows,
            "intercept": float(self.theta[0]),
            "beta": self.theta[1:].tolist(),
        }

    @classmethod
    def from_json(cls, plan: Plan, given: Mapping[str, Any]) -> "ModelPoint":
        """Reads a question's parameters and checks that a node may answer for them.

        Raises:
            TaskError: bad_parameter for numbers that no data under these cards lead to;
                isolating_parameters for a coefficient beyond `LARGEST_COEFFICIENT`.
        """
        if set(given) != _POINT_KEYS:
            raise TaskError("bad_parameter", f"a model point has {sorted(_POINT_KEYS)}")
        unit = units(plan)
        mean, sd = (read.numbers(name, given[name], len(unit)) for name in ("mean", "sd"))
        beta = read.numbers("beta", given["beta"], len(unit))
        intercept = read.numbers("intercept", [given["intercept"]], 1)
        rows = given["rows"]
        if type(rows) is not int or not 2 <= rows <= sum(party.rows for party in plan.cohort):
            raise TaskError("bad_parameter", "rows: not a possible number of training rows")
        if bool(np.any(np.abs(mean) > unit * _SLACK)):
            raise TaskError("bad_parameter", "mean: not a possible mean under the data cards")
        if not bool(np.all((sd > 0) & (sd <= 2 * unit))):
            raise TaskError("bad_parameter", "sd: not a possible deviation under the data cards")
        theta = np.concatenate([intercept, beta])
        if bool(np.any(np.abs(theta) > LARGEST_COEFFICIENT)):
            raise TaskError(
                "isolating_parameters",
                f"a coefficient beyond {LARGEST_COEFFICIENT:g} could single out rows; give a ridge",
            )
        return cls(mean, sd, rows, theta)


def features(plan: Plan) -> tuple[str, ...]:
    """Returns the features of the requested columns, in order."""
    return plan.preparation.features(plan.parameters["columns"])


def units(plan: Plan) -> Floats:
    """Returns float64[d]: per feature the power of two that no value exceeds; 1 for a level.

    Raises:
        TaskError: overflow or unknown_column.
    """
    found: list[float] = []
    for column in plan.parameters["columns"]:
        names = plan.preparation.features([column])
        if plan.preparation.levels(column) is None:
            found += unit_sizes(plan, [column]).tolist()
        else:
            found += [1.0] * len(names)
    return np.array(found)


def question(plan: Plan, step: str, parameters: Mapping[str, Any]) -> Question:
    """Builds the question of a step.

    Raises:
        TaskError: unknown_step, bad_parameter, isolating_parameters or overflow.
    """
    rows, width = plan.largest_rows, len(features(plan))
    if step == "moments" and not parameters:
        return Question(
            step,
            {},
            (
                whole_field(plan, "rows", 2, rows),
                whole_field(plan, "positives", 1, rows),
                real_field(plan, "sum", width, rows, fine=True),
            ),
        )
    if step == "spread" and set(parameters) == {"mean"}:
        mean = read.numbers("mean", parameters["mean"], width)
        if bool(np.any(np.abs(mean) > units(plan) * _SLACK)):
            raise TaskError("bad_parameter", "mean: not a possible mean under the data cards")
        return Question(
            step,
            {"mean": mean.tolist()},
            (
                real_field(plan, "deviation", width, 2 * rows * _SLACK, fine=True),
                real_field(plan, "square", width, 4 * rows * _SLACK, fine=True),
            ),
        )
    if step in ("newton", "score"):
        return _model_question(plan, step, ModelPoint.from_json(plan, parameters))
    raise TaskError("unknown_step", f"task logistic has no such step: {step!r}")


def _model_question(plan: Plan, step: str, point: ModelPoint) -> Question:
    """Builds a "newton" or "score" question (bounds: see the module's text)."""
    rows, size = plan.largest_rows, len(point.theta)
    widest = (units(plan) + np.abs(point.mean)) / point.sd * _SLACK
    inner = np.minimum(widest, math.sqrt(point.rows) * _SLACK)
    if step == "score":
        reach = _reach(point.theta, widest)
        fields = (
            whole_field(plan, "answers", 8, rows),
            real_field(plan, "losses", 2, rows * (math.log(2) + reach), fine=True),
        )
        return Question(step, point.to_json(), fields)
    largest = float(inner.max(initial=1.0))
    reach = _reach(point.theta, inner)
    return Question(
        step,
        point.to_json(),
        (
            real_field(plan, "gradient", size, rows * largest, fine=True),
            real_field(plan, "hessian", size * (size + 1) // 2, rows / 4 * largest**2),
            real_field(plan, "loss", 1, rows * (math.log(2) + reach), fine=True),
        ),
    )


def _reach(theta: Floats, widest: Floats) -> float:
    """Returns the largest |eta| that values within `widest` can have."""
    return float(abs(theta[0]) + np.abs(theta[1:]) @ widest)
