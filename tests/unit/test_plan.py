import copy
from typing import Any

import pytest

from federated.errors import PlanError, TaskError
from federated.plan import ColumnFacts, Party, Plan, Question
from federated.tasks import find_task
from ledger.encoding import canonical, parse
from tests.cohort import HEART_FEATURES, Cohort


def heart_plan():
    return Cohort.hospitals().plan("logistic", columns=HEART_FEATURES, ridge=1)


def test_a_plan_survives_canonical_json():
    plan = heart_plan()
    assert Plan.from_json(parse(canonical(plan.to_json()))) == plan


def test_every_question_survives_canonical_json():
    cohort = Cohort.hospitals()
    cohort.run("logistic", columns=HEART_FEATURES, ridge=1)
    cohort.run("statistics", columns=["age", "oldpeak"])
    cohort.run("encrypted_sum", columns=["age", "oldpeak"])
    for question in cohort.asked:
        assert Question.from_json(parse(canonical(question.to_json()))) == question


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: plan.pop("task"),
        lambda plan: plan.update(extra=1),
        lambda plan: plan.update(version="1"),
        lambda plan: plan.update(cohort={}),
        lambda plan: plan["preparation"].update(dorp=[]),
        lambda plan: plan["cohort"].append(plan["cohort"][0]),
        lambda plan: plan["cohort"][0].update(rows=-1),
        lambda plan: plan["cohort"][0].update(rows=True),
        lambda plan: plan["cohort"][0].update(name=""),
        lambda plan: plan["cohort"][0].update(columns=[]),
        lambda plan: plan["cohort"][0]["columns"]["age"].update(type="float"),
        lambda plan: plan["cohort"][0]["columns"]["age"].update(magnitude=1.5),
        lambda plan: plan["cohort"][0]["columns"]["age"].update(magnitude=5000),
    ],
)
def test_a_changed_plan_is_refused(change: Any):
    given = copy.deepcopy(heart_plan().to_json())
    change(given)
    with pytest.raises(PlanError):
        Plan.from_json(given)


def test_facts_over_the_cohort():
    plan = heart_plan()
    assert plan.magnitude("age") == 7
    assert plan.numeric("age") == "integer"
    assert plan.numeric("oldpeak") == "number"
    assert plan.largest_rows == 303


def test_an_unknown_column_names_the_party_that_lacks_it():
    one = Party("a1", "north", 3, {"age": ColumnFacts("integer", 7)})
    two = Party("a2", "south", 3, {"agee": ColumnFacts("integer", 7)})
    plan = Plan("statistics", 1, {"columns": ["age"], "rows": "all"}, (one, two))
    with pytest.raises(TaskError, match="south has no column 'age'; did you mean 'agee'") as caught:
        find_task("statistics").check_plan(plan)
    assert caught.value.reason == "unknown_column"


def test_a_card_without_columns_is_refused():
    with pytest.raises(PlanError, match="north"):
        Party.from_measurement("a1", "north", {"rows": 3})


@pytest.mark.parametrize(
    "change",
    [
        lambda question: question.pop("step"),
        lambda question: question.update(layout={}),
        lambda question: question["layout"][0].update(length=-1),
        lambda question: question["layout"][0].update(bound="1"),
        lambda question: question["layout"][0].update(bound=10**400),
        lambda question: question["layout"][0].update(bound=float("nan")),
        lambda question: question["layout"][0].update(integers=1),
        lambda question: question["layout"][0]["scale"].update(words=3),
        lambda question: question["layout"][0].pop("name"),
        lambda question: question["layout"].append(1),
    ],
)
def test_a_malformed_question_is_refused(change: Any):
    given = find_task("logistic").question(heart_plan(), "moments", {}).to_json()
    given = copy.deepcopy(given)
    change(given)
    with pytest.raises(TaskError) as caught:
        Question.from_json(given)
    assert caught.value.reason == "layout_mismatch"
