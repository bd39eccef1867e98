"""Task `statistics`: count, missing, mean and variance per column over all parties.

Two rounds. The first sums counts and values; the second sums centred values and their squares
around the pooled mean. Subtracting a squared mean from a mean square instead loses every digit
when the mean is large beside the spread (Chan, Golub and LeVeque, "Algorithms for computing the
sample variance", The American Statistician 37, 1983; the corrected two-pass formula is their
(1.7): S = sum d^2 - (sum d)^2 / n with d = x - mean).

Every column is divided by its agreed unit 2^k before it is summed, where the data cards say that
no |x| exceeds 2^k: that is exact in float64, and makes one bound serve columns of any size.

Result: {column: {"count", "missing", "mean", "variance"}}; mean is null without a value, variance
(n - 1) is null with fewer than two.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from federated.errors import TaskError
from federated.plan import Floats, Plan, Question
from federated.tasks import parameters as read
from federated.tasks.question import (
    Conversation,
    PreparedRows,
    expect,
    in_order,
    real,
    real_field,
    whole,
    whole_field,
)

_MEAN_SLACK = 1 + 2.0**-40


class Statistics:
    """The task `statistics`."""

    name: ClassVar[str] = "statistics"
    version: ClassVar[int] = 1
    encrypted: ClassVar[bool] = False
    most_questions: ClassVar[int] = 2
    steps: ClassVar[tuple[tuple[str, int], ...]] = (("moments", 1), ("spread", 1))

    def parse_parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns {"columns": […], "rows": "all"}.

        Raises:
            TaskError: unknown_parameter or bad_parameter.
        """
        read.known_keys(self.name, given, ("columns", "rows"))
        return {"columns": read.columns(given), "rows": read.row_choice(given)}

    def check_plan(self, plan: Plan) -> None:
        """Checks cohort and columns against the data cards.

        Raises:
            TaskError: one_party, unknown_column or not_numeric.
        """
        read.cohort(plan)
        for column in plan.parameters["columns"]:
            plan.numeric(column)

    def question(self, plan: Plan, step: str, parameters: Mapping[str, Any]) -> Question:
        """Builds the question of step "moments" or "spread" (which carries the means).

        Raises:
            TaskError: unknown_step, bad_parameter or overflow.
        """
        columns = plan.parameters["columns"]
        width, rows = len(columns), plan.largest_rows
        if step == "moments" and not parameters:
            return Question(
                step,
                {},
                (
                    whole_field(plan, "count", width, rows),
                    whole_field(plan, "missing", width, rows),
                    real_field(plan, "sum", width, rows, fine=True),
                ),
            )
        if step == "spread" and set(parameters) == {"mean"}:
            _check_means(plan, columns, parameters["mean"])
            # Both |x| and |mean| are at most one unit, so |x - mean| is at most two.
            return Question(
                step,
                {"mean": list(parameters["mean"])},
                (
                    real_field(plan, "deviation", width, 2 * rows, fine=True),
                    real_field(plan, "square", width, 4 * rows, fine=True),
                ),
            )
        raise TaskError("unknown_step", f"task {self.name} has no such step: {step!r}")

    def row_choices(self, plan: Plan) -> tuple[str, ...]:
        """Returns which rows the answers cover."""
        return (str(plan.parameters["rows"]),)

    def conduct(self, plan: Plan) -> Conversation:
        """Asks two questions and returns the statistics of each column."""
        self.check_plan(plan)
        columns: list[str] = plan.parameters["columns"]
        units = unit_sizes(plan, columns)
        moments = yield self.question(plan, "moments", {})
        counts, missing = whole(moments, "count"), whole(moments, "missing")
        means = pooled_means(real(moments, "sum"), counts, units)
        spread = yield self.question(plan, "spread", {"mean": means})
        deviation, square = real(spread, "deviation"), real(spread, "square")
        result: dict[str, Any] = {}
        for at, column in enumerate(columns):
            count, variance = counts[at], None
            if count > 1:
                inner = centred_squares(square[at], deviation[at], count) / (count - 1)
                variance = float(inner * units[at] * units[at])
            if variance is not None and not math.isfinite(variance):
                raise TaskError("overflow", f"the variance of {column!r} exceeds float64")
            result[column] = {
                "count": count,
                "missing": missing[at],
                "mean": means[at] if count else None,
                "variance": variance,
            }
        return result

    def check_order(self, earlier: Sequence[Question], question: Question) -> None:
        """Checks a question against the earlier ones of its job.

        Raises:
            TaskError: out_of_order.
        """
        in_order(self, earlier, question)

    def answer(self, plan: Plan, question: Question, rows: PreparedRows) -> dict[str, Floats]:
        """Returns this node's counts and sums, or centred sums.

        Raises:
            TaskError: As `question`, or layout_mismatch.
        """
        expect(self, plan, question)
        columns: list[str] = plan.parameters["columns"]
        units = unit_sizes(plan, columns)
        cells = [rows.column(column, plan.parameters["rows"]) for column in columns]
        present = [
            values[~np.isnan(values)] / unit for values, unit in zip(cells, units, strict=True)
        ]
        if question.step == "moments":
            counts = [float(len(values)) for values in present]
            return {
                "count": np.array(counts),
                "missing": np.array([float(len(values)) for values in cells]) - counts,
                "sum": np.array([math.fsum(values) for values in present]),
            }
        means = np.array(question.parameters["mean"], dtype=np.float64) / units
        centred = [values - mean for values, mean in zip(present, means, strict=True)]
        return {
            "deviation": np.array([math.fsum(values) for values in centred]),
            "square": np.array([math.fsum(values * values) for values in centred]),
        }


def unit_sizes(plan: Plan, columns: list[str]) -> Floats:
    """Returns float64[d]: per column the power of two that no value exceeds.

    Raises:
        TaskError: overflow for a column that nearly fills float64.
    """
    powers = [plan.magnitude(column) for column in columns]
    for column, power in zip(columns, powers, strict=True):
        if power > 500:
            raise TaskError(
                "overflow", f"column {column!r} holds values near 2^{power}: change its unit"
            )
    return np.ldexp(1.0, np.array(powers, dtype=np.int64))


def pooled_means(sums: Floats, counts: list[int], units: Floats) -> list[float]:
    """Returns the means in the columns' own units, 0.0 where there is no value."""
    return [
        float(total / count * unit) if count else 0.0
        for total, count, unit in zip(sums, counts, units, strict=True)
    ]


def centred_squares(square: float, deviation: float, count: int) -> float:
    """Returns the sum of squares around the exact mean, never negative (see the module's text)."""
    return max(0.0, float(square - deviation * deviation / count))


def _check_means(plan: Plan, columns: list[str], means: Any) -> None:
    """Checks that each proposed mean is a number that the cards allow."""
    found = read.numbers("mean", means, len(columns))
    beyond = np.abs(found) > unit_sizes(plan, columns) * _MEAN_SLACK
    if beyond.any():
        column = columns[int(np.argmax(beyond))]
        raise TaskError("bad_parameter", f"mean: not a possible mean of column {column!r}")
