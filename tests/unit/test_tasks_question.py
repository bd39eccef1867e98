from dataclasses import replace

import numpy as np
import pytest

from federated.errors import TaskError
from federated.plan import Field
from federated.tasks import decode_aggregate, encode_answer, find_task, replay
from federated.tasks.question import Conversation
from privacy.fixedpoint import Scale
from tests.cohort import Cohort

LAYOUT = (
    Field("whole", 2, Scale(0, 1, 2), 100.0, integers=True),
    Field("real", 1, Scale(80, 2, 2), 8.0),
)
VALUES = {"whole": np.array([3.0, -4.0]), "real": np.array([0.1])}


def reason_of(caught: pytest.ExceptionInfo[TaskError]) -> str:
    return caught.value.reason


def test_encoded_answers_add_up():
    total = encode_answer(LAYOUT, VALUES) + encode_answer(LAYOUT, VALUES)
    found = decode_aggregate(LAYOUT, total)
    assert found["whole"] == [6, -8]
    assert list(found["real"]) == [0.2]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"whole": np.array([3.0, 101.0])}, "out_of_bounds"),
        ({"real": np.array([np.nan])}, "out_of_bounds"),
        ({"real": np.array([-8.1])}, "out_of_bounds"),
        ({"real": np.array([0.1, 0.1])}, "layout_mismatch"),
        ({"more": np.array([0.1])}, "layout_mismatch"),
    ],
)
def test_an_answer_outside_its_layout_is_refused(change: dict[str, np.ndarray], reason: str):
    with pytest.raises(TaskError) as caught:
        encode_answer(LAYOUT, {**VALUES, **change})
    assert reason_of(caught) == reason


def test_a_total_that_is_no_sum_is_refused():
    total = encode_answer(LAYOUT, VALUES)
    with pytest.raises(TaskError) as caught:
        decode_aggregate(LAYOUT, total + np.uint64(1 << 63))
    assert reason_of(caught) == "out_of_bounds"
    with pytest.raises(TaskError) as caught:
        decode_aggregate(LAYOUT, total[:-1])
    assert reason_of(caught) == "layout_mismatch"


@pytest.mark.parametrize(
    ("task", "step"), [("statistics", "moments"), ("logistic", "moments"), ("encrypted_sum", "sum")]
)
def test_a_node_refuses_another_layout(task: str, step: str):
    cohort = Cohort.hospitals()
    plan, found = cohort.plan(task, columns=["age"]), find_task(task)
    rows = cohort.rows()["va"]
    question = found.question(plan, step, {})
    assert found.answer(plan, question, rows)
    # Finer steps in the operator's favour: the bits that it would read beyond the agreed ones.
    for change in (
        {"scale": replace(question.layout[0].scale, terms=2)},
        {"bound": 1e9},
        {"name": "other"},
    ):
        other = replace(
            question, layout=(replace(question.layout[0], **change), *question.layout[1:])
        )
        with pytest.raises(TaskError) as caught:
            found.answer(plan, other, rows)
        assert reason_of(caught) == "layout_mismatch"
    with pytest.raises(TaskError) as caught:
        found.answer(plan, replace(question, step="peek"), rows)
    assert reason_of(caught) == "unknown_step"


@pytest.mark.parametrize("task", ["statistics", "logistic", "encrypted_sum"])
def test_one_party_alone_is_refused(task: str):
    cohort = Cohort.of({"only": "a,y\n1,0\n2,1\n"}, {"label": {"column": "y"}})
    with pytest.raises(TaskError, match="only alone") as caught:
        cohort.run(task, columns=["a"])
    assert reason_of(caught) == "one_party"


@pytest.mark.parametrize("task", ["statistics", "logistic", "encrypted_sum"])
def test_text_and_absent_columns_name_the_party(task: str):
    cohort = Cohort.of(
        {"north": "a,b,y\n1,2,0\n2,3,1\n", "south": "a,y\nx,1\n2,0\n"}, {"label": {"column": "y"}}
    )
    with pytest.raises(TaskError, match="'a' holds text at south") as caught:
        cohort.run(task, columns=["a"])
    assert reason_of(caught) == "not_numeric"
    with pytest.raises(TaskError, match="south has no column 'b'") as caught:
        cohort.run(task, columns=["b"])
    assert reason_of(caught) == "unknown_column"


def test_replay_closes_a_task_that_asks_without_end():
    class Endless:
        name, most_questions = "endless", 2

        def conduct(self, plan: object) -> Conversation:  # noqa: ARG002
            while True:
                yield find_task("encrypted_sum").question(
                    cohort.plan("encrypted_sum", columns=["a"]), "sum", {}
                )

    cohort = Cohort.of({"x": "a\n1\n", "y": "a\n2\n"})
    with pytest.raises(TaskError, match="more questions"):
        replay(
            Endless(),
            cohort.plan("encrypted_sum", columns=["a"]),
            lambda q: np.zeros(q.words, np.uint64),
        )


def test_honest_jobs_ask_in_order():
    for task, parameters in (
        ("statistics", {}),
        ("encrypted_sum", {}),
        ("logistic", {"ridge": 1}),
        ("logistic", {}),
    ):
        cohort = Cohort.hospitals()
        cohort.run(task, columns=["age", "chol"], **parameters)
        for at, question in enumerate(cohort.asked):
            find_task(task).check_order(cohort.asked[:at], question)


def test_questions_out_of_order_are_refused():
    cohort, task = Cohort.hospitals(), find_task("logistic")
    cohort.run("logistic", columns=["age"], ridge=1)
    moments, spread, *points, score = cohort.asked
    wrong = [
        ([], spread),
        ([moments], moments),
        ([moments], points[0]),
        ([moments, spread, points[0]], spread),
        ([moments, spread], score),
        ([moments, spread, points[0]], score),
        (cohort.asked, score),
        (cohort.asked, points[0]),
        ([moments, spread, *points[:1] * 60], points[0]),
        (
            [moments, spread, points[0]],
            replace(points[1], parameters={**points[1].parameters, "sd": [1.0]}),
        ),
        ([moments], replace(spread, step="peek")),
    ]
    for earlier, question in wrong:
        with pytest.raises(TaskError) as caught:
            task.check_order(earlier, question)
        assert reason_of(caught) == "out_of_order"
