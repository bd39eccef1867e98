"""Task `encrypted_sum`: the sum of each column over all parties, one question.

`encrypted = True`: nodes mask their words and encrypt them under the buyer's key, so the operator
adds what it cannot read and the buyer alone decrypts. This module only says what is summed.

Columns that every data card calls integer are summed exactly, in integers of any size. Others are
divided by their agreed unit 2^k first (exact in float64) and summed with two words each. A missing
cell adds nothing.

Result: {"sums": {column: value}}, whole numbers for integer columns.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from federated.errors import TaskError
from federated.plan import Field, Floats, Plan, Question
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
from federated.tasks.statistics import unit_sizes

_EXACT_BITS = 53
_PART_BITS = 32
"""A total beyond 2^53 travels as two whole numbers, floor(total / 2^32) and the rest."""


class EncryptedSum:
    """The task `encrypted_sum`."""

    name: ClassVar[str] = "encrypted_sum"
    version: ClassVar[int] = 1
    encrypted: ClassVar[bool] = True
    most_questions: ClassVar[int] = 1
    steps: ClassVar[tuple[tuple[str, int], ...]] = (("sum", 1),)

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
        """Builds the one question, step "sum", a field for each column.

        Raises:
            TaskError: unknown_step or overflow.
        """
        if step != "sum" or parameters:
            raise TaskError("unknown_step", f"task {self.name} has no such step: {step!r}")
        columns = plan.parameters["columns"]
        return Question(step, {}, tuple(_field(plan, column) for column in columns))

    def row_choices(self, plan: Plan) -> tuple[str, ...]:
        """Returns which rows the answers cover."""
        return (str(plan.parameters["rows"]),)

    def conduct(self, plan: Plan) -> Conversation:
        """Asks the one question and returns the sums."""
        self.check_plan(plan)
        columns: list[str] = plan.parameters["columns"]
        question = self.question(plan, "sum", {})
        aggregate = yield question
        sums: dict[str, int | float] = {}
        for column, unit, field in zip(
            columns, unit_sizes(plan, columns), question.layout, strict=True
        ):
            if field.integers:
                parts = whole(aggregate, field.name)
                sums[column] = parts[0] if len(parts) == 1 else (parts[0] << _PART_BITS) + parts[1]
            else:
                sums[column] = float(real(aggregate, field.name)[0] * unit)
        return {"sums": sums}

    def check_order(self, earlier: Sequence[Question], question: Question) -> None:
        """Checks a question against the earlier ones of its job.

        Raises:
            TaskError: out_of_order.
        """
        in_order(self, earlier, question)

    def answer(self, plan: Plan, question: Question, rows: PreparedRows) -> dict[str, Floats]:
        """Returns this node's column sums.

        Raises:
            TaskError: As `question`, or layout_mismatch.
        """
        expect(self, plan, question)
        columns: list[str] = plan.parameters["columns"]
        values: dict[str, Floats] = {}
        for column, unit, field in zip(
            columns, unit_sizes(plan, columns), question.layout, strict=True
        ):
            cells = rows.column(column, plan.parameters["rows"])
            cells = cells[~np.isnan(cells)]
            if not field.integers:
                values[field.name] = np.array([math.fsum(cells / unit)])
                continue
            # Integer cells are exact in float64 (the reader sees to it); Python adds any size.
            total = sum(int(cell) for cell in cells)
            parts = [total] if field.length == 1 else divmod(total, 1 << _PART_BITS)
            values[field.name] = np.array([float(part) for part in parts])
        return values


def _field(plan: Plan, column: str) -> Field:
    """Returns the field of one column's sum."""
    name = f"sum:{column}"
    if plan.numeric(column) != "integer":
        return real_field(plan, name, 1, plan.largest_rows, fine=True)
    bound = plan.largest_rows << max(0, plan.magnitude(column))
    if bound <= 1 << _EXACT_BITS:
        return whole_field(plan, name, 1, bound)
    # The high part may be one lower than the bound's, and the low part is below 2^32.
    part = max((bound >> _PART_BITS) + 1, 1 << _PART_BITS)
    return whole_field(plan, name, 2, part)
