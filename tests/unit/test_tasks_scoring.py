"""The task `scoring` by itself: what it takes, which models it reads, what its report must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from federated.errors import InputError, PreparationError, TaskError
from federated.node.failure import failure_word
from federated.node.rows import Rows
from federated.plan import Plan
from federated.preparation import Preparation
from federated.scoring_limits import MOST_ROWS
from federated.tasks.joint import Part, Place
from federated.tasks.scoring import ScoringTask
from ledger.encoding import b64decode, b64encode, sha256_text
from privacy.ckks.batches import Packing
from privacy.ckks.keys import SecretContext
from privacy.ckks.parameters import LINEAR, SQUARE, Parameters
from privacy.ckks.roles import Owner
from tests.joint import BINDING, staged
from tests.models import FEATURES, ROWS, model_text

TASK = ScoringTask()
ASSET = "asset:model"
AGREED = {"score": {"most_rows": 100}}
DIGEST = "sha256:" + 64 * "0"
GIVEN = {"features": list(FEATURES), "rows": 5, "context": DIGEST, "columns": DIGEST}


def of(text: str, agreed: Any = None, **changes: Any) -> tuple[Plan, dict[str, Rows]]:
    return staged(TASK, {ASSET: text}, AGREED if agreed is None else agreed, **GIVEN | changes)


def part(plan: Plan, rows: Mapping[str, Rows], fetch: Callable[[str], bytes] | None) -> Part:
    try:
        next(TASK.take_part(plan, Place(ASSET, BINDING, fetch=fetch), rows[ASSET]))
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a node that scores says nothing to others")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rows": 0}, "rows"),
        ({"rows": True}, "rows"),
        ({"rows": MOST_ROWS + 1}, "rows"),
        ({"answer": "class"}, "answer"),
        ({"context": "sha256:0"}, "context"),
        ({"columns": None}, "columns"),
        ({"features": []}, "features"),
        ({"features": ["age", "age"]}, "twice"),
        ({"features": ["age", "(intercept)"]}, "features"),
        ({"features": ["age", 3]}, "features"),
    ],
)
def test_parameters_that_cannot_be_meant_are_refused(change: Any, says: str):
    assert TASK.parse_parameters(GIVEN)["answer"] == "predictor"
    with pytest.raises(TaskError, match=says) as caught:
        TASK.parse_parameters(GIVEN | change)
    assert caught.value.reason == "bad_parameter"


def test_an_unknown_parameter_is_refused():
    with pytest.raises(TaskError, match="no parameter 'link'"):
        TASK.parse_parameters(GIVEN | {"link": "logistic"})


def test_a_job_names_both_inputs():
    named = {"context": "sha256:a", "columns": "sha256:b", "features": []}
    assert TASK.inputs(named) == ("sha256:a", "sha256:b")
    assert TASK.inputs({}) == ()


def test_the_declared_rows_are_billed_and_not_the_coefficients():
    plan, rows = of(model_text())
    assert TASK.billed_rows(plan) == 5
    assert rows[ASSET].count("all") == 5
    assert TASK.billed_rows(of(model_text(), rows=7)[0]) == 7


@pytest.mark.parametrize(
    ("text", "agreed", "changes", "reason"),
    [
        (model_text(), {}, {}, "bad_parameter"),
        (model_text(), {"score": {"most_rows": 4}}, {}, "too_many_rows"),
        (model_text(), AGREED, {"features": ["age", "chol"]}, "other_features"),
        ("feature,size\n(intercept),1\nage,1\n", AGREED, {"features": ["age"]}, "unknown_column"),
        ("feature,weight\n(intercept),x\nage,y\n", AGREED, {"features": ["age"]}, "not_numeric"),
    ],
)
def test_a_plan_that_cannot_be_scored_is_refused_by_the_cards(
    text: str, agreed: Any, changes: Any, reason: str
):
    TASK.check_plan(of(model_text())[0])
    with pytest.raises(TaskError) as caught:
        TASK.check_plan(of(text, agreed, **changes)[0])
    assert caught.value.reason == reason


def test_two_models_are_refused():
    plan, _ = staged(TASK, {"asset:a": model_text(), "asset:b": model_text()}, AGREED, **GIVEN)
    with pytest.raises(TaskError, match="names 2 assets"):
        TASK.check_plan(plan)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (model_text().replace("smokes", "age"), "bad_model"),
        (model_text().replace("(intercept)", "constant"), "bad_model"),
        (model_text().replace("-0.625", "NA"), "bad_model"),
        ("feature,weight\n(intercept),1\nage,0\nchol,0\nratio,0\nsmokes,0\n", "bad_model"),
        (model_text().replace("smokes", "drinks"), "other_features"),
    ],
)
def test_what_is_no_model_of_these_features_is_told_by_a_word(text: str, reason: str):
    plan, rows = of(model_text())
    TASK.check_rows(plan, ASSET, rows[ASSET])
    plan, rows = of(text)
    with pytest.raises(TaskError) as caught:
        TASK.check_rows(plan, ASSET, rows[ASSET])
    assert (caught.value.reason, failure_word(caught.value)) == (reason, reason)


def scored_under(parameters: Parameters, packing: Packing) -> tuple[Plan, Part]:
    """The plan of five rows, and what a node says of them."""
    secret = SecretContext.generate(parameters)
    with Owner.start(secret) as owner:
        columns = owner.encrypt(ROWS[:5], (128.0, 512.0, 4.0, 1.0), packing).to_bytes()
    context = secret.public.to_bytes()
    stored = {sha256_text(each): each for each in (context, columns)}
    named = {"context": sha256_text(context), "columns": sha256_text(columns)}
    plan, rows = of(model_text(), **named)
    return plan, part(plan, rows, stored.__getitem__)


@pytest.fixture(scope="module", name="scored")
def _scored() -> tuple[Plan, Part]:
    return scored_under(LINEAR, Packing.PAIRED)


@pytest.mark.parametrize(
    ("parameters", "packing"), [(LINEAR, Packing.SINGLE), (SQUARE, Packing.PAIRED)]
)
def test_rows_that_take_longer_messages_are_refused(parameters: Parameters, packing: Packing):
    with pytest.raises(InputError, match="two to a slot") as caught:
        scored_under(parameters, packing)
    assert failure_word(caught.value) == "bad_input"


def test_without_its_input_a_node_scores_nothing(scored: tuple[Plan, Part]):
    plan, _ = scored
    _, rows = of(model_text())
    for fetch, reason in ((None, "no_input"), (lambda _: b"other bytes", "bad_input")):
        talk = TASK.take_part(plan, Place(ASSET, BINDING, fetch=fetch), rows[ASSET])
        with pytest.raises(InputError) as caught:
            next(talk)
        assert failure_word(caught.value) == reason


def test_the_report_is_the_result_and_only_as_a_whole(scored: tuple[Plan, Part]):
    plan, found = scored
    report = dict(found.report)
    assert found.kept is None
    assert TASK.conclude(plan, {ASSET: report}) == report
    raw = b64decode(report["scores"])
    for spoilt in (
        {},
        {"rows": 5},
        {**report, "rows": 4},
        {**report, "more": 1},
        {**report, "scores": b64encode(raw[:-1])},
        {**report, "scores": b64encode(raw.replace(b'"rows":5', b'"rows":6'))},
        {**report, "scores": b64encode(raw.replace(b"predictor", b"score"))},
        {**report, "scores": "~"},
        {**report, "scores": 5},
    ):
        with pytest.raises(TaskError) as caught:
            TASK.conclude(plan, {ASSET: spoilt})
        assert caught.value.reason == "reports_differ"


def test_scores_under_another_key_or_of_another_link_are_no_result(
    scored: tuple[Plan, Part],
):
    plan, found = scored
    for change in ({"context": DIGEST}, {"answer": "probability"}):
        other, _ = of(model_text(), **dict(plan.parameters) | change)
        with pytest.raises(TaskError, match="not those that the job asks for"):
            TASK.conclude(other, {ASSET: found.report})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "a table"),
        ({}, "most_rows"),
        ({"most_rows": 0}, "1 to"),
        ({"most_rows": True}, "1 to"),
        ({"most_rows": MOST_ROWS + 1}, "1 to"),
        ({"most_rows": 5, "rows": 5}, "score.rows"),
    ],
)
def test_a_limit_that_cannot_be_meant_is_refused(given: Any, says: str):
    with pytest.raises(PreparationError, match=says):
        Preparation.parse({"score": given})


def test_a_limit_reads_back_and_changes_the_digest_and_without_one_there_is_no_key():
    some = Preparation.parse({"score": {"most_rows": 5}})
    assert Preparation.parse(some.to_json()) == some
    assert "score" not in Preparation().to_json()
    digests = {Preparation.parse({"score": {"most_rows": most}}).digest() for most in (5, 6)}
    assert len(digests | {Preparation().digest()}) == 3
