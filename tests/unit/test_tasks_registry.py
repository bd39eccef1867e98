import pytest

from federated.errors import TaskError
from federated.tasks import JointTask, find_task, known_tasks


def test_the_known_tasks():
    assert {name: task.encrypted for name, task in known_tasks().items()} == {
        "statistics": False,
        "logistic": False,
        "encrypted_sum": True,
        "intersection": False,
        "linkage": False,
        "vertical": False,
        "scoring": False,
        "order_statistic": False,
        "auction": False,
    }


def test_no_task_asks_more_than_its_steps():
    summed = [task for task in known_tasks().values() if not isinstance(task, JointTask)]
    assert len(summed) == 3
    for task in summed:
        assert task.most_questions == sum(times for _, times in task.steps)


def test_an_unknown_task_names_the_nearest_and_all():
    with pytest.raises(TaskError, match=r"did you mean 'logistic'.*encrypted_sum") as caught:
        find_task("logistics")
    assert caught.value.reason == "unknown_task"


def test_another_version_is_unknown():
    assert find_task("logistic", 1).version == 1
    with pytest.raises(TaskError, match="version 1 here, not 2"):
        find_task("logistic", 2)


@pytest.mark.parametrize("task", ["statistics", "logistic", "encrypted_sum"])
@pytest.mark.parametrize(
    ("given", "reason", "says"),
    [
        ({"columns": ["a"], "colums": []}, "unknown_parameter", "'columns'"),
        ({}, "bad_parameter", "columns"),
        ({"columns": []}, "bad_parameter", "columns"),
        ({"columns": "age"}, "bad_parameter", "list"),
        ({"columns": ["a", "a"]}, "bad_parameter", "twice"),
        ({"columns": [1]}, "bad_parameter", "text"),
    ],
)
def test_bad_parameters_are_refused(task: str, given: dict[str, object], reason: str, says: str):
    with pytest.raises(TaskError, match=says) as caught:
        find_task(task).parse_parameters(given)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("ridge", "text"),
    [(1, "1"), (1.0, "1"), ("0.50", "0.5"), (0, None), ("0.0", None), (None, None)],
)
def test_ridge_is_a_decimal_string_or_null(ridge: object, text: str | None):
    made = find_task("logistic").parse_parameters({"columns": ["a"], "ridge": ridge})
    assert made == {"columns": ["a"], "ridge": text}


@pytest.mark.parametrize("ridge", [-1, "x", float("nan"), True, [1], "1e13"])
def test_a_bad_ridge_is_refused(ridge: object):
    with pytest.raises(TaskError, match="ridge"):
        find_task("logistic").parse_parameters({"columns": ["a"], "ridge": ridge})


def test_a_bad_row_choice_is_refused():
    with pytest.raises(TaskError, match="did you mean 'train'"):
        find_task("statistics").parse_parameters({"columns": ["a"], "rows": "trane"})
