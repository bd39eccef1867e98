import math

import numpy as np
import pytest

from federated.errors import TaskError
from federated.tasks import find_task
from tests.cohort import HEART_FEATURES, Cohort


def test_equals_the_plain_sum_exactly_for_integers():
    cohort = Cohort.hospitals()
    sums = cohort.run("encrypted_sum", columns=HEART_FEATURES)["sums"]
    for column in HEART_FEATURES:
        values = np.concatenate([rows.column(column, "all") for rows in cohort.rows().values()])
        plain = math.fsum(values[~np.isnan(values)])
        if column == "oldpeak":
            assert sums[column] == pytest.approx(plain, abs=1e-9)
        else:
            assert type(sums[column]) is int
            assert sums[column] == int(plain)


def test_integers_beyond_2_to_53_stay_exact():
    big = (1 << 53) - 1
    cohort = Cohort.of(
        {"a": f"x,y\n{big},-{big}\n{big},-{big}\n{big},1\n", "b": f"x,y\n{big - 1},-{big}\n2,-7\n"}
    )
    sums = cohort.run("encrypted_sum", columns=["x", "y"])["sums"]
    assert sums == {"x": 4 * big + 1, "y": -3 * big - 6}


def test_a_column_that_is_whole_at_one_party_only_is_a_number():
    cohort = Cohort.of({"a": "x\n1\n2\n", "b": "x\n0.5\nNA\n"})
    sums = cohort.run("encrypted_sum", columns=["x"])["sums"]
    assert sums == {"x": 3.5}


def test_it_is_one_encrypted_question():
    cohort = Cohort.hospitals()
    cohort.run("encrypted_sum", columns=["age"], rows="train")
    assert len(cohort.asked) == 1
    assert find_task("encrypted_sum").encrypted


def test_a_node_whose_data_outgrew_the_card_refuses():
    small = Cohort.of({"a": "x\n1\n2\n", "b": "x\n3\n1\n"})
    grown = Cohort.of({"a": "x\n1\n2000\n", "b": "x\n3\n1\n"})
    grown.plan = small.plan  # type: ignore[method-assign]
    assert small.run("encrypted_sum", columns=["x"])["sums"] == {"x": 7}
    with pytest.raises(TaskError, match="no longer fit their card") as caught:
        grown.run("encrypted_sum", columns=["x"])
    assert caught.value.reason == "out_of_bounds"
