from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from federated.errors import TaskError
from federated.tasks import find_task, logistic, newton
from federated.tasks.logistic_layout import LARGEST_COEFFICIENT
from tests.cohort import FLAMBY, HEART_FEATURES, Cohort


def pooled(cohort: Cohort, features: tuple[str, ...], which: str) -> tuple[np.ndarray, np.ndarray]:
    rows = cohort.rows().values()
    return (
        np.vstack([one.matrix(features, which) for one in rows]),
        np.concatenate([one.labels(which) for one in rows]),
    )


def reference(values: np.ndarray, labels: np.ndarray, ridge: float | None) -> LogisticRegression:
    scaled = (values - values.mean(axis=0)) / values.std(axis=0, ddof=1)
    strength = np.inf if ridge is None else 1 / ridge
    return LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(
        scaled, labels
    )


@pytest.mark.parametrize(("ridge", "right"), [(1, 202), (None, 201)])
def test_equals_the_pooled_fit_on_the_hospitals(ridge: int | None, right: int):
    cohort = Cohort.hospitals()
    result = cohort.run("logistic", columns=HEART_FEATURES, ridge=ridge)
    features = tuple(result["coefficients"])
    values, labels = pooled(cohort, features, "train")
    model = reference(values, labels, ridge)
    assert len(features) == 13
    np.testing.assert_allclose(
        list(result["coefficients"].values()), model.coef_[0], rtol=0, atol=1e-6
    )
    assert result["intercept"] == pytest.approx(model.intercept_[0], abs=1e-6)
    assert result["rows"] == 486
    metrics = result["metrics"]
    assert (metrics["correct"], metrics["rows"], metrics["metrics_rows"]) == (right, 254, "test")
    assert metrics["accuracy"] == right / 254
    tests, truth = pooled(cohort, features, "test")
    scaled = (tests - values.mean(axis=0)) / values.std(axis=0, ddof=1)
    said = model.predict(scaled)
    assert metrics["true_positive"] == ((said == 1) & (truth == 1)).sum()
    assert metrics["false_positive"] == ((said == 1) & (truth == 0)).sum()
    assert metrics["false_negative"] == ((said == 0) & (truth == 1)).sum()
    # The same predictions on every test row, from the coefficients on the columns' own scale.
    original = result["coefficients_original"]
    eta = tests @ [original[name] for name in features] + original["intercept"]
    np.testing.assert_array_equal(eta > 0, said == 1)
    for at, name in enumerate(features):
        assert result["scaling"][name]["mean"] == pytest.approx(values[:, at].mean(), rel=1e-12)
        assert result["scaling"][name]["sd"] == pytest.approx(values[:, at].std(ddof=1), rel=1e-12)


def test_the_result_has_exactly_the_promised_keys():
    result = Cohort.hospitals().run("logistic", columns=["age", "sex"], ridge="1")
    assert set(result) == {
        "coefficients",
        "intercept",
        "scaling",
        "coefficients_original",
        "rows",
        "iterations",
        "metrics",
    }
    assert set(result["coefficients_original"]) == {"intercept", "age", "sex"}


def test_without_a_split_metrics_are_of_the_training_rows():
    preparation = {key: value for key, value in FLAMBY.items() if key != "split"}
    result = Cohort.hospitals(preparation).run("logistic", columns=["age", "oldpeak"], ridge=1)
    assert result["rows"] == 740
    assert result["metrics"]["rows"] == 740
    assert result["metrics"]["metrics_rows"] == "train"
    assert result["metrics"]["correct"] == result["metrics"]["train_correct"]


def test_one_class_and_constant_columns_at_one_party_are_computed():
    cohort = Cohort.hospitals()
    swiss = cohort.rows()["switzerland"]
    assert swiss.labels("train").min() == 1
    assert np.ptp(swiss.column("chol", "train")) == 0
    task, plan = logistic.Logistic(), cohort.plan("logistic", columns=["chol", "age"])
    assert task.local_notes(plan, swiss) == (
        "the training rows here hold one class",
        "column 'chol' is constant in the training rows here",
    )
    assert task.local_notes(plan, cohort.rows()["va"]) == ()
    assert "chol" in cohort.run("logistic", columns=["chol", "age"])["coefficients"]


def noisy(seed: int, rows: int = 60) -> Iterator[tuple[Any, ...]]:
    generator = np.random.default_rng(seed)
    for _ in range(rows):
        a, b = generator.normal(size=2).round(3)
        yield a, b, int(generator.random() < 1 / (1 + np.exp(-a)))


def tables(rows: list[tuple[Any, ...]], header: str) -> dict[str, str]:
    lines = [",".join(str(cell) for cell in row) for row in rows]
    return {
        "north": "\n".join([header, *lines[::2], ""]),
        "south": "\n".join([header, *lines[1::2], ""]),
    }


def refused(rows: list[tuple[Any, ...]], header: str, ridge: object = None) -> TaskError:
    cohort = Cohort.of(tables(rows, header), {"label": {"column": "y"}})
    columns = header.split(",")[:-1]
    with pytest.raises(TaskError) as caught:
        cohort.run("logistic", columns=columns, ridge=ridge)
    return caught.value


def fitted(rows: list[tuple[Any, ...]], header: str, ridge: object = None) -> dict[str, Any]:
    cohort = Cohort.of(tables(rows, header), {"label": {"column": "y"}})
    return cohort.run("logistic", columns=header.split(",")[:-1], ridge=ridge)


def test_one_class_over_all_parties():
    error = refused([(a, b, 1) for a, b, _ in noisy(1)], "a,b,y", ridge=1)
    assert error.reason == "one_class"
    assert "'y'" in str(error)


def test_a_column_constant_over_all_parties_is_named():
    error = refused([(a, 0.1, y) for a, _, y in noisy(1)], "a,b,y", ridge=1)
    assert error.reason == "constant_column"
    assert ": b;" in str(error)
    assert fitted([(a, 0.1 + b / 1e9, y) for a, b, y in noisy(1)], "a,b,y", ridge=1)


def test_collinear_columns_are_named_and_a_ridge_helps():
    rows = [(a, b, 2 * a - 3, y) for a, b, y in noisy(2)]
    error = refused(rows, "a,b,c,y")
    assert error.reason == "collinear"
    assert "a, c;" in str(error)
    assert fitted(rows, "a,b,c,y", ridge="0.1")["rows"] == 60
    assert fitted([(a, b, 2 * a + b * b, y) for a, b, y in noisy(2)], "a,b,c,y")["rows"] == 60


@pytest.mark.parametrize("rows", [8, 20, 60, 400])
@pytest.mark.parametrize("seed", range(4))
def test_separated_classes_are_refused_and_a_ridge_helps(rows: int, seed: int):
    made = [(a, b, int(a + b / 2 > 0.1)) for a, b, _ in noisy(seed + 10, rows)]
    error = refused(made, "a,b,y")
    assert error.reason == "separation"
    assert "ridge" in str(error)
    assert fitted(made, "a,b,y", ridge=1)["metrics"]["rows"] == rows


def test_a_level_that_only_one_class_has_is_separation():
    # Quasi-complete: the gradient vanishes although no optimum exists.
    made = [(a, int(at % 6 == 0), y or int(at % 6 == 0)) for at, (a, _, y) in enumerate(noisy(3))]
    assert refused(made, "a,f,y").reason == "separation"
    assert fitted(made, "a,f,y", ridge=1)["rows"] == 60


def test_no_rows():
    error_cohort = Cohort.of(
        {"north": "a,y\nNA,1\n", "south": "a,y\nNA,0\n"},
        {"label": {"column": "y"}, "complete_rows": True},
    )
    with pytest.raises(TaskError, match="0 training rows") as caught:
        error_cohort.run("logistic", columns=["a"])
    assert caught.value.reason == "no_rows"


def test_a_party_without_usable_rows_is_computed():
    texts = tables(list(noisy(4)), "a,b,y")
    cohort = Cohort.of(
        {**texts, "west": "a,b,y\nNA,1,1\n"}, {"label": {"column": "y"}, "complete_rows": True}
    )
    assert cohort.run("logistic", columns=["a", "b"])["rows"] == 60


@pytest.mark.parametrize(
    ("columns", "preparation", "says"),
    [
        (["num"], FLAMBY, "label itself"),
        (["thal"], FLAMBY, "drops column 'thal'"),
        (["age"], {}, "needs a label"),
    ],
)
def test_columns_that_make_no_sense(columns: list[str], preparation: dict[str, Any], says: str):
    with pytest.raises(TaskError, match=says):
        Cohort.hospitals(preparation).run("logistic", columns=columns)


SINGLING = (-30.0, [0.0, 4.0]), {"mean": [54.0, 405.0], "sd": [9.0, 0.5]}
"""A false scaling and a point at which one row alone keeps a weight: that of the highest chol."""


class Attack:
    """The operator asks one node at a model point of its choice."""

    def __init__(self) -> None:
        self.cohort = Cohort.hospitals()
        self.task = find_task("logistic")
        self.plan = self.cohort.plan("logistic", columns=["age", "chol"])
        self.rows = self.cohort.rows()["cleveland"]
        self.mean, self.sd = [54.0, 240.0], [9.0, 50.0]

    def ask(self, intercept: float, beta: list[float], **change: object) -> dict[str, np.ndarray]:
        parameters = {
            "mean": self.mean,
            "sd": self.sd,
            "rows": 486,
            "intercept": intercept,
            "beta": beta,
            **change,
        }
        question = self.task.question(self.plan, "newton", parameters)
        return self.task.answer(self.plan, question, self.rows)


def test_a_point_that_singles_out_a_row_is_refused():
    attack = Attack()
    assert attack.ask(0.0, [0.5, -0.5])
    with pytest.raises(TaskError) as caught:
        attack.ask(*SINGLING[0], **SINGLING[1])
    assert caught.value.reason == "isolating_parameters"


def test_without_the_check_that_point_reads_a_row(monkeypatch: pytest.MonkeyPatch):
    attack = Attack()
    monkeypatch.setattr(logistic, "_refuse_isolation", lambda *_: None)
    triangle = attack.ask(*SINGLING[0], **SINGLING[1])["hessian"]
    # Weighted by one row only, the ratio of moments is that row's own value.
    age, chol = triangle[1] / triangle[0] * 9 + 54, triangle[2] / triangle[0] / 2 + 405
    values = attack.rows.matrix(("age", "chol"), "train")
    at = np.argmax(values[:, 1])
    assert chol == pytest.approx(values[at, 1], abs=0.5)
    assert age == pytest.approx(values[at, 0], abs=0.5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"intercept": LARGEST_COEFFICIENT + 1}, "isolating_parameters"),
        ({"beta": [0.0, -33.0]}, "isolating_parameters"),
        ({"beta": [0.0]}, "bad_parameter"),
        ({"beta": [0.0, float("inf")]}, "bad_parameter"),
        ({"beta": [0.0, 10**400]}, "bad_parameter"),
        ({"beta": "00"}, "bad_parameter"),
        ({"mean": [54.0, 1e6]}, "bad_parameter"),
        ({"sd": [9.0, 0.0]}, "bad_parameter"),
        ({"sd": [9.0, -1.0]}, "bad_parameter"),
        ({"rows": 1}, "bad_parameter"),
        ({"rows": 921}, "bad_parameter"),
        ({"rows": 486.0}, "bad_parameter"),
        ({"extra": 1}, "bad_parameter"),
    ],
)
def test_impossible_model_points_are_refused(change: dict[str, Any], reason: str):
    attack = Attack()
    with pytest.raises(TaskError) as caught:
        attack.ask(**{"intercept": 0.0, "beta": [0.0, 0.0], **change})
    assert caught.value.reason == reason


def test_effective_rows():
    assert newton.effective_rows(np.full(7, 1e-300)) == pytest.approx(7)
    assert newton.effective_rows(np.array([1.0, 1e-9])) == pytest.approx(1)
    assert newton.effective_rows(np.zeros(3)) == 0
    assert newton.effective_rows(np.zeros(0)) == 0


def test_extreme_scores_do_not_overflow():
    eta, labels = np.array([-800.0, 800.0, 800.0]), np.array([1.0, 1.0, 0.0])
    np.testing.assert_array_equal(newton.log_losses(eta, labels), [800.0, 0.0, 800.0])
    np.testing.assert_array_equal(newton.probabilities(eta), [0.0, 1.0, 1.0])


def test_other_refusals_of_nodes_pass_through():
    cohort = Cohort.hospitals()
    task, plan = find_task("logistic"), cohort.plan("logistic", columns=["age"], ridge=1)
    conversation = task.conduct(plan)
    next(conversation)
    with pytest.raises(TaskError, match="no") as caught:
        conversation.throw(TaskError("out_of_bounds", "no"))
    assert caught.value.reason == "out_of_bounds"


def test_a_column_far_from_zero_keeps_its_digits():
    made = [(1_700_000_000_000 + int(1000 * a), b * 1e-9, y) for a, b, y in noisy(5, 80)]
    result = fitted(made, "t,s,y", ridge=1)
    values = np.array([row[:2] for row in made], dtype=np.float64)
    model = reference(values - [1_700_000_000_000, 0], np.array([row[2] for row in made]), 1)
    np.testing.assert_allclose(
        list(result["coefficients"].values()), model.coef_[0], rtol=0, atol=1e-6
    )


def test_more_columns_than_rows_need_a_ridge():
    generator = np.random.default_rng(6)
    made = [(*generator.normal(size=6).round(3), at % 2) for at in range(6)]
    assert refused(made, "a,b,c,d,e,f,y").reason == "collinear"
    assert fitted(made, "a,b,c,d,e,f,y", ridge=1)["rows"] == 6
