"""The parameters of task `vertical`, and whose columns and which role they give to each node.

    roles = Roles.of(plan)               # raises TaskError: the plan cannot be computed
    roles.columns["asset:a"]             # ("income", "debts")

Columns are named without their owner: of the owners exactly one may have a column of that name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from federated.errors import PreparationError, TaskError, suggestion
from federated.plan import Party, Plan
from federated.preparation import decimal_text
from federated.tasks import parameters as read
from federated.tasks.alignment import matching_of
from federated.tasks.vertical_block import SCALINGS
from federated.tasks.vertical_layout import Layout

MODELS = ("logistic", "linear")
SCORES = ("none", "label")
COMPUTES = ("first", "second", "third")
PARTIES = len(COMPUTES)

DEFAULT_STEPS = {"logistic": 20, "linear": 16}
MOST_STEPS = {"logistic": 100, "linear": 24}
LONGEST_STEP = Decimal(10)

ROWS_PER_COEFFICIENT = 5
"""Fewest rows in common for each coefficient. With as many coefficients as rows a fit repeats the
labels, and who has all columns of a row could read its label off the coefficients."""

FEWEST_SCORED_COLUMNS = 2
"""Of other owners, where the label's owner is shown scores: less its own part, one column's scores
are that column."""

_KEYS = ("model", "columns", "label", "above", "scaling", "steps", "step", "computes", "scores")
_LABEL_BITS = 60


def parse(task: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all of `_KEYS`, numbers as whole numbers or decimal strings.

    Raises:
        TaskError: unknown_parameter or bad_parameter.
    """
    read.known_keys(task, given, _KEYS)
    model = _one_of("model", given.get("model", MODELS[0]), MODELS)
    label, linear = given.get("label"), model == "linear"
    if not isinstance(label, str) or not label:
        raise TaskError("bad_parameter", "label: the name of the column to predict")
    columns = read.columns(given)
    if label in columns:
        raise TaskError("bad_parameter", f"column {label!r} is the label itself")
    above, step = given.get("above"), given.get("step")
    if linear and (above is not None or step is not None):
        raise TaskError("bad_parameter", "above and step are for the logistic model alone")
    computes = given.get("computes")
    return {
        "model": model,
        "columns": columns,
        "label": label,
        "above": None if linear else _decimal("above", above if above is not None else 0),
        "scaling": _one_of("scaling", given.get("scaling", SCALINGS[0]), SCALINGS),
        "steps": _steps(given.get("steps"), model),
        "step": None if step is None else _length(step),
        "computes": None if computes is None else _one_of("computes", computes, COMPUTES),
        "scores": _one_of("scores", given.get("scores", SCORES[0]), SCORES),
    }


def _one_of(key: str, value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise TaskError("bad_parameter", f"{key}: {value!r} is none{suggestion(str(value), known)}")
    return str(value)


def _steps(value: Any, model: str) -> int:
    value = DEFAULT_STEPS[model] if value is None else value
    if type(value) is not int or not 1 <= value <= MOST_STEPS[model]:
        raise TaskError("bad_parameter", f"steps: a whole number from 1 to {MOST_STEPS[model]}")
    return value


def _decimal(key: str, value: Any) -> str:
    try:
        return decimal_text(key, value)
    except PreparationError as error:
        raise TaskError("bad_parameter", str(error)) from error


def _length(value: Any) -> str:
    text = _decimal("step", value)
    # A shorter one would vanish in the fraction bits.
    if not Decimal("0.0001") <= Decimal(text) <= LONGEST_STEP:
        raise TaskError("bad_parameter", f"step: a number from 0.0001 to {LONGEST_STEP}")
    return text


@dataclass(frozen=True)
class Roles:
    """Who brings what.

    Attributes:
        owners: Two or three assets, in the plan's order.
        computes: The asset that only computes, or None.
        label_owner: The asset with the label.
        columns: By owner its features, in the parameters' order.
    """

    owners: tuple[str, ...]
    computes: str | None
    label_owner: str
    columns: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, plan: Plan) -> "Roles":
        """Reads the roles off parameters and data cards.

        Raises:
            TaskError: bad_parameter, unknown_column, not_numeric.
        """
        if len(plan.cohort) != PARTIES:
            raise TaskError(
                "bad_parameter",
                f"shares are held by {PARTIES} nodes, and the job names {len(plan.cohort)} assets; "
                "where two have columns, a third one computes",
            )
        which = plan.parameters["computes"]
        computes = None if which is None else plan.cohort[COMPUTES.index(which)].asset_id
        owners = [party for party in plan.cohort if party.asset_id != computes]
        found: dict[str, list[str]] = {party.asset_id: [] for party in owners}
        for column in plan.parameters["columns"]:
            found[_owner(owners, column).asset_id].append(column)
        label_owner = _owner(owners, plan.parameters["label"]).asset_id
        for party in owners:
            if not found[party.asset_id] and party.asset_id != label_owner:
                raise TaskError(
                    "bad_parameter",
                    f"{party.name} has none of the columns; say by `computes` that it computes",
                )
        columns = {asset: tuple(names) for asset, names in found.items()}
        return cls(tuple(found), computes, label_owner, columns)

    def layout(self, plan: Plan, rows: int) -> Layout:
        """Returns the public facts of the fit.

        Args:
            plan: Of the job.
            rows: How many are in common, or the most that can be.
        """
        step, columns = plan.parameters["step"], plan.parameters["columns"]
        label = _magnitude(plan, self, [plan.parameters["label"]])
        unscaled = 2.0 ** max(0, _magnitude(plan, self, columns))
        largest, root_mean_square = {
            "standard": (rows**0.5, 1.0),
            "minmax": (1.0, 1.0),
            "none": (unscaled, unscaled),
        }[plan.parameters["scaling"]]
        return Layout(
            model=plan.parameters["model"],
            owners=self.owners,
            widths=tuple(
                len(names) + (owner == self.label_owner) for owner, names in self.columns.items()
            ),
            label_owner=self.label_owner,
            rows=rows,
            steps=plan.parameters["steps"],
            step=None if step is None else float(step),
            largest=largest,
            root_mean_square=root_mean_square,
            label_bits=max(-_LABEL_BITS, label),
        )


def check(plan: Plan) -> Roles:
    """Returns the roles of a plan that can be computed, as far as the data cards show.

    Raises:
        TaskError: As `Roles.of`; too_few or overflow; bad_parameter for a preparation that is not
            the same for tables of other columns.
    """
    preparation, roles = plan.preparation, Roles.of(plan)
    matching = matching_of(plan)
    if preparation.split is not None or preparation.label is not None or preparation.one_hot:
        raise TaskError(
            "bad_parameter",
            "label, levels and split are not prepared where each table has other columns: name "
            "the label in the job, bring levels as columns, and list the rows to train on",
        )
    for column in (*plan.parameters["columns"], plan.parameters["label"]):
        if column in preparation.drop:
            raise TaskError("unknown_column", f"the preparation drops column {column!r}")
    owners = [party for party in plan.cohort if party.asset_id in roles.owners]
    for party in owners:
        for column in matching.columns:
            if column not in party.columns:
                raise TaskError(
                    "unknown_column",
                    f"{party.name} has no column {column!r}{suggestion(column, party.columns)}",
                )
        if party.rows < matching.minimum_size:
            raise TaskError(
                "too_few",
                f"{party.name} has {party.rows} rows, and {matching.minimum_size} are agreed",
            )
    others = [len(names) for owner, names in roles.columns.items() if owner != roles.label_owner]
    if plan.parameters["scores"] == "label" and sum(others) < FEWEST_SCORED_COLUMNS:
        raise TaskError(
            "bad_parameter",
            "scores of one column of another owner are that column, for each person",
        )
    most = min(party.rows for party in owners)
    layout = roles.layout(plan, most)
    require_rows(layout)
    layout.check()
    return roles


def require_rows(layout: Layout) -> None:
    """Checks that there are rows enough for the coefficients.

    Raises:
        TaskError: too_few.
    """
    least = ROWS_PER_COEFFICIENT * layout.columns
    if layout.rows < least:
        raise TaskError(
            "too_few",
            f"{layout.columns} coefficients need {least} rows in common; nothing more is told",
        )


def _owner(owners: list[Party], column: str) -> Party:
    """Returns the one owner that has a column, which holds numbers."""
    having = [party for party in owners if column in party.columns]
    if not having:
        known = {name for party in owners for name in party.columns}
        raise TaskError(
            "unknown_column", f"no owner has a column {column!r}{suggestion(column, known)}"
        )
    if len(having) > 1:
        names = " and ".join(party.name for party in having)
        raise TaskError(
            "bad_parameter",
            f"{names} each have a column {column!r}; whose is meant cannot be told: rename one",
        )
    if having[0].columns[column].type == "text":
        raise TaskError(
            "not_numeric", f"column {column!r} holds text at {having[0].name}; numbers are needed"
        )
    return having[0]


def _magnitude(plan: Plan, roles: Roles, columns: list[str]) -> int:
    """Returns the smallest k with every |value| of these columns at most 2^k."""
    known = [
        party.columns[column].magnitude
        for party in plan.cohort
        for column in columns
        if party.asset_id in roles.owners and column in party.columns
    ]
    return max((each for each in known if each is not None), default=0)
