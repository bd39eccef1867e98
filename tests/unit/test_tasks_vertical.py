"""A regression over two or three providers' columns, against the fit of the pooled rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from federated.errors import RowsError, TaskError
from federated.tasks import vertical_layout
from federated.tasks.vertical import rounds
from privacy.replicated.party import Party
from tests.joint import converse
from tests.verticals import (
    COMMON,
    FEW,
    NAMES,
    A,
    B,
    C,
    people,
    pooled,
    ready,
    result,
    steps,
    tables,
    task,
    three,
)

LATE = people()["late"][list(COMMON)]


def fitted(given: Any = None, **parameters: Any) -> Any:
    plan, rows = ready(given, **parameters)
    return result(plan, converse(task(), plan, rows))


def weights(found: Any) -> Any:
    return np.array([found["intercept"], *found["coefficients"].values()])


def test_plain_steps_are_those_of_the_pooled_rows():
    found = fitted(steps=5, step="0.5")
    expected = steps(pooled(NAMES), LATE, length=0.5, count=5)
    assert np.abs(weights(found) - expected).max() < 1e-3
    assert (found["rows"], found["iterations"], found["metrics"]) == (90, 5, None)
    assert list(found["coefficients"]) == NAMES
    before = steps(pooled(NAMES), LATE, length=0.5, count=4)
    assert found["last_step"] == pytest.approx(np.abs(expected - before).max(), abs=1e-3)


@pytest.mark.slow
def test_turned_blocks_come_to_the_optimum_of_the_pooled_fit():
    found = fitted(steps=30)
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10)
    model.fit(pooled(NAMES)[:, 1:], LATE)
    expected = np.concatenate([model.intercept_, model.coef_[0]])
    assert np.abs(weights(found) - expected).max() < 0.01
    assert found["last_step"] < 1e-3


@pytest.mark.parametrize("scaling", ["standard", "minmax", "none"])
def test_a_linear_fit_is_that_of_least_squares(scaling: str):
    found = fitted(model="linear", label="debt", scaling=scaling)
    x = pooled(NAMES, scaled=scaling == "standard")
    if scaling == "minmax":
        x[:, 1:] = (x[:, 1:] - x[:, 1:].min(axis=0)) / np.ptp(x[:, 1:], axis=0)
    expected = np.linalg.lstsq(x, people()["debt"][list(COMMON)], rcond=None)[0]
    assert np.abs(weights(found) - expected).max() < 1e-3
    assert found["last_step"] < 1e-4


@pytest.mark.parametrize("model", ["linear", pytest.param("logistic", marks=pytest.mark.slow)])
def test_three_owners_fit_over_the_rows_that_all_have(model: str):
    names, common = [*NAMES, "calls"], range(20, 100)
    plan, rows = ready(
        three(),
        columns=names,
        computes=None,
        model=model,
        label="late" if model == "logistic" else "debt",
        steps=30 if model == "logistic" else None,
    )
    parts = converse(task(), plan, rows)
    found = result(plan, parts)
    x = pooled(names, common)
    if model == "linear":
        expected = np.linalg.lstsq(x, people()["debt"][list(common)], rcond=None)[0]
    else:
        fit = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10)
        fit.fit(x[:, 1:], people()["late"][list(common)])
        expected = np.concatenate([fit.intercept_, fit.coef_[0]])
    assert np.abs(weights(found) - expected).max() < 0.02
    assert found["rows"] == 80
    # Everybody keeps the list of its own rows that all have, in one order.
    people_at = {asset: rows[asset].texts("id", "train") for asset in rows}
    lists = [[people_at[asset][at] for at in part.kept] for asset, part in parts.items()]
    assert lists[0] == lists[1] == lists[2]
    assert set(lists[0]) == {f"p{at}" for at in common}


@pytest.mark.parametrize("computes", ["first", "second", "third"])
def test_any_of_the_three_may_compute_and_learns_the_number_of_rows_alone(computes: str):
    order = {"first": (C, A, B), "second": (B, C, A), "third": (A, B, C)}[computes]
    plan, rows = ready({asset: tables()[asset] for asset in order}, computes=computes, **FEW)
    parts = converse(task(), plan, rows)
    expected = steps(pooled(NAMES), LATE, length=0.5, count=2)
    assert np.abs(weights(result(plan, parts)) - expected).max() < 1e-3
    assert parts[C].kept is None
    assert parts[C].report == {"rows": 90, "iterations": 2}


def test_each_owner_learns_the_coefficients_of_its_own_columns_alone():
    plan, rows = ready(**FEW)
    parts = converse(task(), plan, rows)
    assert set(parts[A].report["coefficients"]) == {"age", "rent"}
    assert set(parts[B].report["coefficients"]) == {"intercept", "loans"}
    assert "coefficients" not in parts[C].report


def test_a_column_that_two_owners_have_under_two_names_is_shared_between_them():
    """No inverse exists then: the doublings leave what they cannot tell apart as it is."""
    given = tables()
    ages = {row["id"]: row["age"] for row in given[A]}
    given[B] = [row | {"years": ages.get(row["id"], 0)} for row in given[B]]
    found = fitted(given, columns=[*NAMES, "years"], model="linear", label="debt")
    x, debt = pooled(NAMES), people()["debt"][list(COMMON)]
    expected = np.linalg.lstsq(x, debt, rcond=None)[0]
    merged = dict(found["coefficients"])
    merged["age"] += merged.pop("years")
    scores = x @ np.array([found["intercept"], *merged.values()])
    assert np.abs(scores - x @ expected).max() < 0.01


def test_scores_are_shown_to_the_labels_owner_where_the_job_says_so_and_not_elsewhere():
    plan, rows = ready(scores="label", steps=3)
    parts = converse(task(), plan, rows)
    found = result(plan, parts)
    scores = pooled(NAMES) @ weights(found)
    assert found["metrics"]["auc"] == pytest.approx(roc_auc_score(LATE, scores))
    assert found["metrics"]["correct"] == int(((scores > 0) == LATE).sum())
    expected = log_loss(LATE, 1 / (1 + np.exp(-scores)), normalize=False)
    assert found["metrics"]["log_loss"] == pytest.approx(expected, rel=1e-4)
    assert "metrics" not in parts[A].report
    # The twin: without the parameter nobody has any.
    assert all("metrics" not in part.report for part in converse(*_plain()).values())


def _plain() -> Any:
    plan, rows = ready(**FEW)
    return task(), plan, rows


def test_a_linear_fits_scores_are_in_the_labels_unit():
    found = fitted(model="linear", label="debt", scores="label")
    debt = people()["debt"][list(COMMON)]
    errors = pooled(NAMES) @ weights(found) - debt
    assert found["metrics"]["rmse"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-4)
    assert found["metrics"]["r2"] == pytest.approx(1 - errors.var() / debt.var(), rel=1e-4)


def test_a_limit_makes_two_classes_of_a_number():
    found = fitted(label="debt", above="300", **FEW)
    high = people()["debt"][list(COMMON)] > 300
    expected = steps(pooled(NAMES), high, length=0.5, count=2)
    assert np.abs(weights(found) - expected).max() < 1e-3


def test_a_labels_owner_without_other_columns_takes_part():
    found = fitted(columns=["age", "rent"], **FEW)
    expected = steps(pooled(["age", "rent"]), LATE, length=0.5, count=2)
    assert np.abs(weights(found) - expected).max() < 1e-3


def test_rows_that_lack_a_value_are_left_out_where_that_is_agreed_and_refused_elsewhere():
    given = tables()
    given[A][30]["age"] = ""
    plan, rows = ready(given, **FEW)
    with pytest.raises(RowsError, match="'age' has missing values"):
        task().check_rows(plan, A, rows[A])
    plan, rows = ready(given, prepare={"complete_rows": True}, **FEW)
    task().check_rows(plan, A, rows[A])
    found = result(plan, converse(task(), plan, rows))
    who = [at for at in COMMON if at != 30]
    expected = steps(pooled(NAMES, who), people()["late"][who], length=0.5, count=2)
    assert (found["rows"], np.abs(weights(found) - expected).max() < 1e-3) == (89, True)


@pytest.mark.parametrize("model", ["logistic", "linear"])
def test_the_rounds_of_a_job_are_bounded(model: str):
    for count in (1, 2):
        heard: list[Any] = []
        plan, rows = ready(
            three(),
            columns=[*NAMES, "calls"],
            computes=None,
            model=model,
            label="late" if model == "logistic" else "debt",
            steps=count,
            scores="label",
        )

        def counted(at: int, _asset: str, parcels: Any, heard: Any = heard) -> Any:
            heard.append(at)
            return parcels

        converse(task(), plan, rows, counted)
        assert rounds(model, count) - 9 <= max(heard) <= rounds(model, count)
    assert rounds(model, 1) < task().most_rounds


def test_what_the_truncations_may_go_wrong_with_is_bounded_beforehand(
    monkeypatch: pytest.MonkeyPatch,
):
    doubts = []
    begin = Party.begin

    def kept(self: Party) -> Any:
        doubts.append(self)
        return begin(self)

    monkeypatch.setattr(Party, "begin", kept)
    for given in (FEW, {"steps": 1}, {"model": "linear", "label": "debt", "scores": "label"}):
        doubts.clear()
        plan, rows = ready(scaling="none", **given)
        converse(task(), plan, rows)
        actual = doubts[0].doubt
        assert 0 < actual < 2.0**-35
        # A limit that is as low is refused before anything is sent.
        with monkeypatch.context() as lower:
            lower.setattr(vertical_layout, "MOST_DOUBT", actual * 0.99)
            with pytest.raises(TaskError, match="could go wrong") as refused:
                task().check_plan(plan)
        assert refused.value.reason == "overflow"
