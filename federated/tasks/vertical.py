"""Task `vertical`: a regression over columns that two or three providers have of the same people.

Nobody sees another's columns, or anything of a single row but that it is in common:

1. the owners intersect their identifiers (`federated.tasks.alignment`): each learns which of its
   rows all have, and keeps that list; a node that only computes learns their number;
2. each owner scales its columns over these rows, by means and deviations that stay with it;
3. all three nodes hold shares of all columns and of the label, and fit (`privacy.replicated.party`,
   `federated.tasks.vertical_fit`). One node alone sees random numbers; **two that put theirs
   together see everything**;
4. each owner is shown the coefficients of its own columns, and how far the last step moved them,
   and reports both. So the researcher gets all of them, and the operator sees them, as it does a
   horizontal model's. Another owner does not, unless somebody tells it.

Where the job says scores = "label", the label's owner is also shown every row's score, that is the
linear predictor: less what its own columns give, that is the others' weighted sum for each person.
It reports how good the scores are, not the scores.

Result: {"model", "coefficients": {feature: value}, "intercept", "scaling", "rows", "iterations",
"last_step": the largest, "metrics": {…} or null}; coefficients are of the columns as scaled.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from federated.errors import TaskError
from federated.plan import Floats, Plan
from federated.tasks import newton
from federated.tasks import vertical_parameters as parameters
from federated.tasks.alignment import MOST_ROUNDS, align, identifiers
from federated.tasks.joint import JointTask, Part, Place, Positions, Talk
from federated.tasks.logistic import FEWEST_EFFECTIVE_ROWS
from federated.tasks.question import PreparedRows
from federated.tasks.vertical_block import INTERCEPT, Block
from federated.tasks.vertical_fit import Fitted, Share, fit
from federated.tasks.vertical_layout import Layout
from federated.tasks.vertical_metrics import metrics
from federated.tasks.vertical_parameters import PARTIES, Roles
from privacy.replicated import sigmoid
from privacy.replicated.party import Party

WHICH = "train"
"""The rows that take part: without a split, all that the preparation keeps."""

STEP_ROUNDS = {"logistic": 2 + sigmoid.ROUNDS + 2, "linear": 4}

_REPORT = {"rows", "iterations"}
_OWNER_REPORT = _REPORT | {"coefficients", "last_step"}


def rounds(model: str, steps: int) -> int:
    """Returns how many rounds a job of so many steps takes at most."""
    # The key, blocks and label; the steps; what a linear fit does before and after them; openings
    # to the owners, scores, and the report.
    return MOST_ROUNDS + 2 + PARTIES + steps * STEP_ROUNDS[model] + 8 + PARTIES + 3 + 1


class Vertical(JointTask):
    """The task `vertical`."""

    name: ClassVar[str] = "vertical"
    version: ClassVar[int] = 1
    most_rounds: ClassVar[int] = max(
        rounds(model, steps) for model, steps in parameters.MOST_STEPS.items()
    )

    def parse_parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns {"model", "columns", "label", "above", "scaling", "steps", "step", …}.

        Raises:
            TaskError: unknown_parameter or bad_parameter.
        """
        return parameters.parse(self.name, given)

    def check_plan(self, plan: Plan) -> None:
        """Checks parties, columns, label and bounds against the data cards.

        Raises:
            TaskError: bad_parameter, unknown_column, not_numeric, too_few or overflow.
        """
        parameters.check(plan)

    def row_choices(self, plan: Plan) -> tuple[str, ...]:
        """Returns which rows take part."""
        del plan
        return (WHICH,)

    def has_rows(self, plan: Plan, asset: str) -> bool:
        """Says whether a party owns columns of the job."""
        return asset in Roles.of(plan).owners

    def check_rows(self, plan: Plan, asset: str, rows: PreparedRows) -> None:
        """Checks that a party's rows can be matched and hold numbers within their card's bounds.

        Raises:
            IdentifierError: As `identify`.
            RowsError: missing_values or not_numeric.
            TaskError: out_of_bounds.
        """
        roles = Roles.of(plan)
        if asset not in roles.owners:
            return
        identifiers(plan, rows, WHICH)
        every = np.arange(rows.count(WHICH))
        _features(plan, asset, rows, every)
        if asset == roles.label_owner:
            _labels(plan, rows, every)

    def take_part(self, plan: Plan, place: Place, rows: PreparedRows) -> Talk:
        """Runs this node's side.

        Raises:
            TaskError: out_of_order; too_few, constant_column, collinear, one_class,
                isolating_parameters or out_of_bounds, once it is known which rows are in common.
            IntersectionError: What a peer sent does not fit, or too few are in common.
            SharingError: Likewise of shares.
        """
        roles, owns = Roles.of(plan), place.asset in Roles.of(plan).owners
        names = identifiers(plan, rows, WHICH) if owns else None
        aligned = yield from align(plan, place, roles.owners, names)
        layout = roles.layout(plan, aligned.count)
        parameters.require_rows(layout)
        layout.check()
        block, labels = None, None
        if aligned.positions is not None:
            block = _block(plan, roles, layout, place.asset, rows, aligned.positions)
        if place.asset == roles.label_owner and aligned.positions is not None:
            labels = _labels(plan, rows, aligned.positions)
            _require_two_values(plan, labels)
            _require_many_rows(plan.parameters["label"], labels)
        party = Party([each.asset_id for each in plan.cohort], place.asset, place.binding)
        share = Share(None if block is None else block.matrix, labels)
        wanted = plan.parameters["scores"] == "label"
        fitted = yield from fit(party, layout, share, scores=wanted)
        report: dict[str, Any] = {"rows": layout.rows, "iterations": layout.steps}
        if block is not None:
            report |= _own(block, fitted)
        if labels is not None and wanted and fitted.scores is not None:
            report["metrics"] = metrics(layout.model, fitted.scores, labels)
        return Part(report, aligned.positions)

    def conclude(self, plan: Plan, reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Returns the coefficients of all owners, if the reports fit together.

        Raises:
            TaskError: reports_differ.
        """
        roles, given = Roles.of(plan), plan.parameters
        wanted = given["scores"] == "label"
        rows = {_number(report, "rows") for report in reports.values()}
        if len(rows) != 1 or set(reports) != {each.asset_id for each in plan.cohort}:
            raise _differ()
        coefficients: dict[str, float] = {}
        last = []
        for asset, report in reports.items():
            owner, measured = asset in roles.owners, wanted and asset == roles.label_owner
            expected = (_OWNER_REPORT if owner else _REPORT) | ({"metrics"} if measured else set())
            if set(report) != expected or report["iterations"] != given["steps"]:
                raise _differ()
            if owner:
                coefficients |= _coefficients(roles, asset, report)
                last.append(_number(report, "last_step"))
        label_report = reports[roles.label_owner]
        return {
            "model": given["model"],
            "coefficients": {name: coefficients[name] for name in given["columns"]},
            "intercept": coefficients[INTERCEPT],
            "scaling": given["scaling"],
            "rows": rows.pop(),
            "iterations": given["steps"],
            "last_step": max(last),
            "metrics": label_report.get("metrics"),
        }


def _own(block: Block, fitted: Fitted) -> dict[str, Any]:
    """Returns an owner's coefficients, and the largest change of one by the last step."""
    if fitted.coefficients is None or fitted.last_step is None:  # pragma: no cover - it owns some
        raise _differ()
    moved = block.coefficients(fitted.last_step)
    return {
        "coefficients": block.coefficients(fitted.coefficients),
        "last_step": max(abs(change) for change in moved.values()),
    }


def _coefficients(roles: Roles, asset: str, report: Mapping[str, Any]) -> dict[str, float]:
    """Reads an owner's coefficients, which are those of its own columns and no others."""
    names = list(roles.columns[asset])
    if asset == roles.label_owner:
        names = [INTERCEPT, *names]
    found = report["coefficients"]
    if not isinstance(found, Mapping) or set(found) != set(names):
        raise _differ()
    return {name: _number(found, name) for name in names}


def _number(found: Mapping[str, Any], key: str) -> float:
    value = found.get(key)
    # Booleans are whole numbers to Python, and no numbers here.
    if not isinstance(value, int | float) or isinstance(value, bool) or not np.isfinite(value):
        raise _differ()
    return value


def _differ() -> TaskError:
    return TaskError("reports_differ", "the nodes do not report one fit")


def _block(
    plan: Plan,
    roles: Roles,
    layout: Layout,
    asset: str,
    rows: PreparedRows,
    positions: Positions,
) -> Block:
    """Returns an owner's columns of the common rows, as they are shared."""
    names, values = roles.columns[asset], _features(plan, asset, rows, positions)
    block = Block.of(
        names,
        values,
        scaling=plan.parameters["scaling"],
        intercept=asset == roles.label_owner,
        whiten=layout.turned,
    )
    for name, column in zip(names, values.T, strict=True):
        _require_many_rows(name, column)
    return block


def _features(plan: Plan, asset: str, rows: PreparedRows, positions: Positions) -> Floats:
    """Returns an owner's columns, float64[n, d], checked against its own data card."""
    names = Roles.of(plan).columns[asset]
    values: Floats = rows.matrix(names, WHICH)[positions]
    for name, column in zip(names, values.T, strict=True):
        _within_card(plan, asset, name, column)
    return values


def _labels(plan: Plan, rows: PreparedRows, positions: Positions) -> Floats:
    """Returns the label's column, or for a logistic fit 1 where it is above the limit."""
    name = plan.parameters["label"]
    values: Floats = rows.matrix((name,), WHICH)[positions, 0]
    _within_card(plan, Roles.of(plan).label_owner, name, values)
    if plan.parameters["model"] == "linear":
        return values
    above: Floats = (values > float(plan.parameters["above"])).astype(np.float64)
    return above


def _within_card(plan: Plan, asset: str, name: str, values: Floats) -> None:
    (card,) = [party for party in plan.cohort if party.asset_id == asset]
    magnitude = card.columns[name].magnitude
    if not bool(np.all(np.abs(values) <= 2.0 ** (0 if magnitude is None else magnitude))):
        raise TaskError(
            "out_of_bounds",
            f"column {name!r} exceeds the bound of its data card; the data no longer fit it: "
            "measure the asset again",
        )


def _require_two_values(plan: Plan, labels: Floats) -> None:
    if labels.min() == labels.max():
        raise TaskError(
            "one_class",
            f"label {plan.parameters['label']!r} is the same in all rows in common; there is "
            "nothing to tell apart",
        )


def _require_many_rows(name: str, values: Floats) -> None:
    """Checks that no few rows make up a column: its products with others would be theirs.

    Raises:
        TaskError: isolating_parameters: fewer than `FEWEST_EFFECTIVE_ROWS` carry its variance.
    """
    if newton.effective_rows((values - values.mean()) ** 2) < FEWEST_EFFECTIVE_ROWS:
        raise TaskError(
            "isolating_parameters",
            f"column {name!r} differs from its mean in a few of the rows in common only: the "
            "coefficients would show these rows; leave it out, or choose another limit",
        )
