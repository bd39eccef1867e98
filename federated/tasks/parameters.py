"""Reading and checking the parameters that tasks share: columns, rows, and the cohort.

Every function returns the checked value or raises a `TaskError` that names the parameter.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from federated.errors import PreparationError, TaskError, suggestion
from federated.plan import Floats, Plan
from federated.preparation import decimal_text
from federated.tasks.question import ROW_CHOICES

FEWEST_PARTIES = 2
"""The aggregate of one party would be that party's own numbers."""

_MOST_COLUMNS = 1000


def known_keys(task: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Checks that a task was given no parameter that it does not have.

    Raises:
        TaskError: unknown_parameter, naming the key and the nearest one.
    """
    known = tuple(known)
    for key in given:
        if key not in known:
            raise TaskError(
                "unknown_parameter",
                f"task {task} has no parameter {key!r}{suggestion(str(key), known)}",
            )


def columns(given: Mapping[str, Any]) -> list[str]:
    """Returns the parameter `columns`: distinct names, at least one.

    Raises:
        TaskError: bad_parameter.
    """
    names = given.get("columns")
    if not isinstance(names, list | tuple) or not 0 < len(names) <= _MOST_COLUMNS:
        raise TaskError("bad_parameter", 'columns: a list of names is needed, e.g. ["age"]')
    if not all(isinstance(name, str) and name for name in names):
        raise TaskError("bad_parameter", "columns: every name is a text")
    if len(set(names)) != len(names):
        raise TaskError("bad_parameter", "columns: a column is named twice")
    return list(names)


def row_choice(given: Mapping[str, Any]) -> str:
    """Returns the parameter `rows`, "all" if absent.

    Raises:
        TaskError: bad_parameter.
    """
    which = given.get("rows", "all")
    if which not in ROW_CHOICES:
        raise TaskError(
            "bad_parameter", f"rows: {which!r} is none{suggestion(str(which), ROW_CHOICES)}"
        )
    return str(which)


def ridge(given: Mapping[str, Any]) -> str | None:
    """Returns the parameter `ridge` as a positive decimal string; None for absent, null or 0.

    Raises:
        TaskError: bad_parameter.
    """
    value = given.get("ridge")
    if value is None:
        return None
    try:
        text = decimal_text("ridge", value)
    except PreparationError as error:
        raise TaskError("bad_parameter", str(error)) from error
    if text.startswith("-") or float(text) > 1e12:
        raise TaskError("bad_parameter", "ridge: a number from 0 to 1e12 is needed")
    return None if float(text) == 0 else text


def cohort(plan: Plan) -> None:
    """Checks that there are enough parties to hide each other.

    Raises:
        TaskError: one_party.
    """
    if len(plan.cohort) < FEWEST_PARTIES:
        names = ", ".join(party.name for party in plan.cohort) or "nobody"
        raise TaskError(
            "one_party",
            f"the cohort is {names} alone: the sum of one party is its own numbers; "
            f"name assets of at least {FEWEST_PARTIES} parties",
        )


def numbers(name: str, given: Any, length: int) -> Floats:
    """Returns finite float64[length] from unverified JSON.

    Raises:
        TaskError: bad_parameter.
    """
    shaped = isinstance(given, list) and len(given) == length
    if not shaped or any(type(number) not in (int, float) for number in given):
        raise TaskError("bad_parameter", f"{name}: {length} numbers are needed")
    try:
        numbers = np.array(given, dtype=np.float64)
    except OverflowError:
        raise TaskError("bad_parameter", f"{name}: a number is too large") from None
    if not bool(np.all(np.isfinite(numbers))):
        raise TaskError("bad_parameter", f"{name}: finite numbers are needed")
    return numbers
