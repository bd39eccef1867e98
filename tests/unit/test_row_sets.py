"""Which rows a job's answers cover, and row sets that are too near to answered ones."""

from __future__ import annotations

import numpy as np
import pytest

from federated.errors import RefusedError, RowsError
from federated.node.row_sets import refuse_close_rows, row_sets, rows_in
from federated.tasks import find_task
from tests.cohort import Cohort


def bitmap(*rows: int, size: int = 16) -> bytes:
    bits = np.zeros(size, dtype=np.bool_)
    bits[list(rows)] = True
    return np.packbits(bits).tobytes()


def test_row_sets_are_those_that_the_task_answers_about():
    text = "x,y\n" + "".join(f"{at},{at % 2}\n" for at in range(12))
    given = {
        "label": {"column": "y", "above": 0},
        "split": {"train": "0.5", "seed": 1, "stratify": False, "unless_class_at_most": 1},
    }
    cohort = Cohort.of({"a": text, "b": text}, given)
    rows = cohort.rows()["a"]
    logistic = cohort.plan("logistic", columns=["x"])
    train, test = row_sets(find_task("logistic"), logistic, rows)
    assert rows_in([train, test]) == 12
    assert rows_in([train]) + rows_in([test]) == 12
    statistics = cohort.plan("statistics", columns=["x"], rows="train")
    assert row_sets(find_task("statistics"), statistics, rows) == [train]


def test_an_empty_row_set_answers_about_nobody():
    cohort = Cohort.of({"a": "x,y\n,1\n", "b": "x,y\n1,1\n"}, {"complete_rows": True})
    plan = cohort.plan("statistics", columns=["y"], rows="complete")
    assert row_sets(find_task("statistics"), plan, cohort.rows()["a"]) == []


FULL = tuple(range(16))


@pytest.mark.parametrize(
    ("wanted", "answered", "permitted"),
    [
        (FULL, FULL, True),
        (FULL, FULL[:15], False),
        (FULL[:15], FULL, False),
        (FULL, FULL[:12], False),
        (FULL, FULL[:11], True),
        # As many rows, other rows: the difference of two sums is that of two pairs.
        ((*FULL[:14], 14), (*FULL[:14], 15), False),
        ((), FULL[:4], False),
    ],
)
def test_a_row_set_near_to_an_answered_one_is_refused(
    wanted: tuple[int, ...],
    answered: tuple[int, ...],
    permitted: bool,  # noqa: FBT001
):
    pair = ([bitmap(*wanted)], [bitmap(0, 1, 2, 3, 4, 5), bitmap(*answered)])
    if permitted:
        refuse_close_rows(*pair, minimum_rows=5)
    else:
        with pytest.raises(RefusedError) as refused:
            refuse_close_rows(*pair, minimum_rows=5)
        assert refused.value.reason == "row_selection_not_allowed"
        # The twin: with one row as the minimum, the difference is a row.
        refuse_close_rows(*pair, minimum_rows=1)


def test_bitmaps_of_another_table_are_not_compared():
    with pytest.raises(RowsError, match="not of the same asset"):
        refuse_close_rows([bitmap(1, size=16)], [bitmap(1, size=24)], 5)
