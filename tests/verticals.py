"""A small population whose columns lie at three providers, for tests of task `vertical`.

plan, rows = ready(columns=["age", "rent"], label="late", computes="third")
parts = converse(task(), plan, rows)
result(plan, parts)["coefficients"]
"""

from __future__ import annotations

from typing import Any

import numpy as np

from federated.tasks import JointTask, find_task
from tests.joint import csv_text, staged

A, B, C = "asset:a", "asset:b", "asset:c"
MATCH = {"columns": {"id": ["strip"]}, "minimum_size": 20, "minimum_intersection": 20, "monthly": 4}
COUNT = 120
COMMON = range(20, 110)
"""Who is at both of the first two: 90 people."""

NAMES = ["age", "rent", "loans"]
FEW: dict[str, Any] = {"steps": 2, "step": "0.5"}
"""A quick fit, exactly that of `steps(…, length=0.5, count=2)`."""


def task() -> JointTask:
    found = find_task("vertical")
    assert isinstance(found, JointTask)
    return found


def people(seed: int = 7) -> dict[str, Any]:
    """Columns of everybody, by name; `late` and `debt` depend on those of all owners."""
    generator = np.random.default_rng(seed)
    age, rent, loans, calls = generator.normal(size=(4, COUNT))
    rent = 0.6 * age + 0.8 * rent
    score = 0.9 * age - 1.1 * loans + 0.4 * calls - 0.3
    late = generator.random(COUNT) < 1 / (1 + np.exp(-score))
    debt = 300 + 40 * score + generator.normal(size=COUNT)
    columns = {"age": age, "rent": rent, "loans": loans, "calls": calls, "debt": debt}
    return {name: np.round(cells, 4) for name, cells in columns.items()} | {"late": late * 1}


def table(names: tuple[str, ...], who: Any, *, backwards: bool = False, **changed: Any) -> Any:
    """Rows of some of the people with some of the columns."""
    columns = people() | changed
    order = sorted(who, reverse=backwards)
    return [{"id": f"p{at}", **{name: columns[name][at].item() for name in names}} for at in order]


def tables(**changed: Any) -> dict[str, Any]:
    return {
        A: table(("age", "rent"), range(COMMON.stop), **changed),
        B: table(("loans", "late", "debt"), range(COMMON.start, COUNT), backwards=True, **changed),
        C: [{"rainfall": at} for at in range(30)],
    }


def three(**changed: Any) -> Any:
    return tables(**changed) | {C: table(("calls",), range(10, 100), **changed)}


def ready(given: Any = None, match: Any = MATCH, prepare: Any = None, **parameters: Any) -> Any:
    """Plan and rows of a job; by default on `NAMES`, with a third node that computes."""
    given = tables() if given is None else given
    wanted: dict[str, Any] = {
        "columns": NAMES,
        "label": "late",
        "computes": "third",
        **parameters,
    }
    texts = {name: csv_text(rows) for name, rows in given.items()}
    plan, rows = staged(task(), texts, {"match": match, **(prepare or {})}, **wanted)
    task().check_plan(plan)
    return plan, rows


def result(plan: Any, parts: Any) -> dict[str, Any]:
    return task().conclude(plan, {asset: part.report for asset, part in parts.items()})


def pooled(names: list[str], who: Any = COMMON, *, scaled: bool = True) -> Any:
    """The matrix that nobody has, with a column of ones first."""
    columns = people()
    x = np.column_stack([columns[name][list(who)] for name in names])
    if scaled:
        x = (x - x.mean(axis=0)) / x.std(axis=0, ddof=1)
    return np.column_stack([np.ones(len(x)), x])


def steps(x: Any, y: Any, *, length: float, count: int) -> Any:
    """Plain full-batch gradient steps of the mean log-loss, from zero."""
    weights = np.zeros(x.shape[1])
    for _ in range(count):
        weights -= length * x.T @ (1 / (1 + np.exp(-x @ weights)) - y) / len(y)
    return weights
