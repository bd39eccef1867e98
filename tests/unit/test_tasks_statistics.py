import math
import statistics

import numpy as np
import pytest

from federated.errors import TaskError
from federated.tasks import find_task
from tests.cohort import HEART_FEATURES, Cohort


def pooled(cohort: Cohort, column: str, which: str) -> np.ndarray:
    return np.concatenate([rows.column(column, which) for rows in cohort.rows().values()])


@pytest.mark.parametrize("which", ["all", "complete", "train", "test"])
def test_equals_the_pooled_hospitals(which: str):
    cohort = Cohort.hospitals()
    result = cohort.run("statistics", columns=HEART_FEATURES, rows=which)
    for column in HEART_FEATURES:
        values = pooled(cohort, column, which)
        present = values[~np.isnan(values)]
        found = result[column]
        assert found["count"] == len(present)
        assert found["missing"] == len(values) - len(present)
        assert found["mean"] == pytest.approx(math.fsum(present) / len(present), rel=1e-14)
        assert found["variance"] == pytest.approx(statistics.variance(present.tolist()), rel=1e-12)


def test_a_large_mean_beside_a_small_spread_keeps_its_digits():
    cohort = Cohort.of(
        {"a": "t\n1700000000001\n1700000000002\n", "b": "t\n1700000000003\n1700000000004\n"}
    )
    found = cohort.run("statistics", columns=["t"])["t"]
    assert found["mean"] == 1700000000002.5
    assert found["variance"] == pytest.approx(5 / 3, rel=1e-12)


@pytest.mark.parametrize("size", [1e-15, 1e-6, 1.0, 1e9, 1e120])
def test_columns_of_any_size(size: float):
    values = [size * factor for factor in (1.1, -2.3, 0.7, 4.9)]
    cohort = Cohort.of(
        {"a": f"x\n{values[0]!r}\n{values[1]!r}\n", "b": f"x\n{values[2]!r}\n{values[3]!r}\n"}
    )
    found = cohort.run("statistics", columns=["x"])["x"]
    assert found["mean"] == pytest.approx(math.fsum(values) / 4, rel=1e-12)
    assert found["variance"] == pytest.approx(np.var(values, ddof=1), rel=1e-12)


def test_beyond_a_bound_it_refuses_rather_than_wraps():
    cohort = Cohort.of({"a": "x\n1e300\n", "b": "x\n1.5\n"})
    with pytest.raises(TaskError, match="'x'") as caught:
        cohort.run("statistics", columns=["x"])
    assert caught.value.reason == "overflow"


def test_columns_with_no_or_one_value():
    cohort = Cohort.of({"a": "n,o,c\nNA,NA,5\n", "b": "n,o,c\nNA,3,5\n"})
    result = cohort.run("statistics", columns=["n", "o", "c"])
    assert result["n"] == {"count": 0, "missing": 2, "mean": None, "variance": None}
    assert result["o"] == {"count": 1, "missing": 1, "mean": 3.0, "variance": None}
    assert result["c"] == {"count": 2, "missing": 0, "mean": 5.0, "variance": 0.0}


@pytest.mark.parametrize("mean", [[9.0], ["1"], [float("nan")], [], None, [True], [10**400]])
def test_a_node_refuses_a_mean_that_cannot_be(mean: object):
    cohort = Cohort.of({"a": "x\n1\n7\n", "b": "x\n2\n8\n"})
    task, plan = find_task("statistics"), cohort.plan("statistics", columns=["x"])
    assert task.question(plan, "spread", {"mean": [8.0]})
    with pytest.raises(TaskError) as caught:
        task.question(plan, "spread", {"mean": mean})
    assert caught.value.reason == "bad_parameter"
