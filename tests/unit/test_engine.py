"""The node's arithmetic: masked words that alone say nothing, and row sets that are too near."""

from __future__ import annotations

import numpy as np
import pytest

from federated.errors import RefusedError, RowsError, TaskError
from federated.node.engine import Round, masked_answer, refuse_close_rows, row_sets, rows_in
from federated.tasks import decode_aggregate, encode_answer, find_task
from privacy.errors import MaskError
from privacy.masking import MaskKey
from tests.cohort import Cohort

TEXTS = {
    "a": "x,y\n1.5,0\n2.25,1\n,1\n",
    "b": "x,y\n-7.75,0\n",
    "c": "x,y\n3.5,1\n4,0\n",
}


def answers(cohort: Cohort, *, number: int = 1, job: str = "job:1") -> tuple[list, object]:
    plan, task = cohort.plan("statistics", columns=["x"]), find_task("statistics")
    question = next(task.conduct(plan))
    keys = {party.asset_id: MaskKey.generate() for party in plan.cohort}
    bound = Round(job, 1, number, tuple(keys))
    words = [
        masked_answer(
            task,
            plan,
            question,
            rows,
            asset=f"asset:{name}",
            key=keys[f"asset:{name}"],
            peers={other: key.public for other, key in keys.items() if other != f"asset:{name}"},
            bound_to=bound,
        )
        for name, rows in cohort.rows().items()
    ]
    return words, question


def test_the_sum_of_masked_answers_is_the_plain_sum_and_no_answer_is_plain():
    cohort = Cohort.of(TEXTS)
    words, question = answers(cohort)
    total = words[0] + words[1] + words[2]
    found = decode_aggregate(question.layout, total)
    assert list(found["count"]) == [5]
    assert list(found["missing"]) == [1]
    task, plan = find_task("statistics"), cohort.plan("statistics", columns=["x"])
    for masked, rows in zip(words, cohort.rows().values(), strict=True):
        plain = encode_answer(question.layout, task.answer(plan, question, rows))
        assert not (masked == plain).any()
        with pytest.raises(TaskError):
            # One contribution alone is noise, far outside what a sum can be.
            decode_aggregate(question.layout, masked)


def test_two_of_three_masked_answers_are_noise():
    words, question = answers(Cohort.of(TEXTS))
    with pytest.raises(TaskError):
        decode_aggregate(question.layout, words[0] + words[1])


def test_masks_are_bound_to_round_attempt_job_and_cohort():
    rounds = [
        Round("job:1", 1, 1, ("a", "b")),
        Round("job:2", 1, 1, ("a", "b")),
        Round("job:1", 2, 1, ("a", "b")),
        Round("job:1", 1, 2, ("a", "b")),
        Round("job:1", 1, 1, ("a", "c")),
    ]
    assert len({each.context for each in rounds}) == len(rounds)
    assert Round("job:1", 1, 1, ("b", "a")).context == rounds[0].context


def test_a_lone_party_is_refused():
    cohort = Cohort.of(TEXTS)
    plan, task = cohort.plan("statistics", columns=["x"]), find_task("statistics")
    with pytest.raises(MaskError, match="nothing to hide behind"):
        masked_answer(
            task,
            plan,
            next(task.conduct(plan)),
            cohort.rows()["a"],
            asset="asset:a",
            key=MaskKey.generate(),
            peers={},
            bound_to=Round("job:1", 1, 1, ("asset:a", "asset:b")),
        )


# --- row sets


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
