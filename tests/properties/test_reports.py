"""Whatever a node reports, a joint task's result is one or a typed refusal, never a defect."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated.errors import FederatedError
from federated.tasks import find_task
from tests import verticals
from tests.unit import test_tasks_auction as auctions
from tests.unit import (
    test_tasks_intersection,
    test_tasks_linkage,
    test_tasks_order_statistic,
)

PLANS: dict[str, Any] = {
    "intersection": test_tasks_intersection.ready,
    "intersection sum": lambda: test_tasks_intersection.ready(outcome="sum", value="days"),
    "linkage": test_tasks_linkage.ready,
    "order_statistic": lambda: test_tasks_order_statistic.ready(who=True),
    "auction": lambda: auctions.ready(auctions.BIDS, **auctions.SEALED),
    "vertical": lambda: verticals.ready(
        columns=["age", "rent"], label="late", computes="third", scores="label"
    ),
}
NAMES = [
    "size",
    "sizes",
    "sum",
    "links",
    "opened",
    "numbers",
    "rounds",
    "rows",
    "iterations",
    "coefficients",
    "last_step",
    "metrics",
    "age",
    "rent",
    "intercept",
    "receiver",
    "sender",
]
CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.sampled_from(NAMES),
)
VALUES = st.recursive(
    CELLS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=3)), inner, max_size=5),
    ),
    max_leaves=12,
)
SHAPES: dict[str, tuple[str, ...]] = {
    "intersection": ("size", "sizes"),
    "intersection sum": ("size", "sizes", "sum"),
    "linkage": ("links", "sizes"),
    "order_statistic": ("opened", "numbers", "rounds"),
    "auction": ("opened", "numbers", "rounds"),
    "vertical": ("rows", "iterations", "coefficients", "last_step", "metrics"),
}
"""The keys that an honest node's report has: under them, whatever stands there is looked at."""

REPORTS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=7)


@pytest.mark.parametrize("name", PLANS)
def test_any_reports_are_a_result_or_a_typed_refusal(name: str):
    plan, _ = PLANS[name]()
    task = find_task(plan.task)
    assets = [party.asset_id for party in plan.cohort]

    shaped = st.fixed_dictionaries(dict.fromkeys(SHAPES[name], VALUES))
    each = st.one_of(REPORTS, shaped)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(each, min_size=len(assets), max_size=len(assets)), st.booleans())
    def conclude(reports: list[dict[str, Any]], alike: bool) -> None:  # noqa: FBT001
        said = [reports[0]] * len(assets) if alike else reports
        with suppress(FederatedError):
            task.conclude(plan, dict(zip(assets, said, strict=True)))

    conclude()
