"""Terms: one reason for each request, always the same."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import StatementError
from ledger.statements import REFUSAL_REASONS
from ledger.terms import ANYONE, Request, Terms, evaluate

RESEARCHER = "participant:" + "1" * 64
TERMS = Terms(
    tasks=("statistics", "logistic"),
    purposes=("research",),
    recipients=(RESEARCHER,),
    uses=2,
    until=1_000,
    exact=True,
    minimum_parties=3,
)
REQUEST = Request(
    task="logistic", purpose="research", recipient=RESEARCHER, parties=3, exact=True, time=1_000
)


def test_what_the_terms_name_is_permitted_up_to_the_last_moment_and_use():
    for uses in (0, 1):
        decision = evaluate(TERMS, REQUEST, uses)
        assert decision.permitted
        assert decision.reason is None


@pytest.mark.parametrize(
    ("change", "uses", "reason"),
    [
        ({"task": "intersection"}, 0, "grant_mismatch"),
        ({"task": "Logistic"}, 0, "grant_mismatch"),
        ({"purpose": "marketing"}, 0, "purpose_not_allowed"),
        ({"purpose": ""}, 0, "purpose_not_allowed"),
        ({"recipient": "participant:" + "2" * 64}, 0, "grant_mismatch"),
        ({"recipient": ANYONE}, 0, "grant_mismatch"),
        ({"parties": 2}, 0, "grant_mismatch"),
        ({"time": 1_001}, 0, "agreement_expired"),
        ({}, 2, "quota_used_up"),
        ({}, 99, "quota_used_up"),
    ],
)
def test_each_request_outside_the_terms_has_its_reason(
    change: dict[str, object], uses: int, reason: str
):
    decision = evaluate(TERMS, replace(REQUEST, **change), uses)  # type: ignore[arg-type]
    assert decision.reason == reason
    assert not decision.permitted
    assert decision.detail
    assert reason in REFUSAL_REASONS


def test_exact_answers_need_terms_that_say_so():
    noisy = replace(TERMS, exact=False)
    assert evaluate(noisy, REQUEST, 0).reason == "grant_mismatch"
    assert evaluate(noisy, replace(REQUEST, exact=False), 0).permitted


def test_a_star_is_every_recipient():
    anyone = replace(TERMS, recipients=(ANYONE,))
    assert evaluate(anyone, replace(REQUEST, recipient="participant:x"), 0).permitted


@pytest.mark.parametrize("field", ["tasks", "purposes", "recipients"])
def test_an_empty_list_permits_nothing(field: str):
    empty = replace(TERMS, **{field: ()})  # type: ignore[arg-type]
    assert not evaluate(empty, REQUEST, 0).permitted


def test_no_uses_permit_nothing():
    assert evaluate(replace(TERMS, uses=0), REQUEST, 0).reason == "quota_used_up"


@given(st.data())
def test_narrower_terms_permit_no_more(data: st.DataObject):
    request = Request(
        task=data.draw(st.sampled_from(["statistics", "logistic", "other"])),
        purpose=data.draw(st.sampled_from(["research", "other"])),
        recipient=data.draw(st.sampled_from([RESEARCHER, "other"])),
        parties=data.draw(st.integers(1, 5)),
        exact=data.draw(st.booleans()),
        time=data.draw(st.integers(990, 1_010)),
    )
    uses = data.draw(st.integers(0, 3))
    narrower = replace(
        TERMS,
        tasks=data.draw(st.sampled_from([(), ("logistic",), TERMS.tasks])),
        uses=data.draw(st.integers(0, 2)),
        until=data.draw(st.integers(990, 1_000)),
        exact=data.draw(st.booleans()),
        minimum_parties=data.draw(st.integers(3, 5)),
    )
    if evaluate(narrower, request, uses).permitted:
        assert evaluate(TERMS, request, uses).permitted


def test_odrl_is_one_permission_with_a_constraint_for_each_field():
    assert TERMS.to_odrl() == {
        "permission": [
            {
                "action": "compute",
                "constraint": [
                    constraint("task", "isAnyOf", ["statistics", "logistic"]),
                    constraint("purpose", "isAnyOf", ["research"]),
                    constraint("recipient", "isAnyOf", [RESEARCHER]),
                    constraint("count", "lteq", 2),
                    constraint("dateTime", "lteq", 1_000),
                    constraint("exact", "eq", True),  # noqa: FBT003 - a value of the terms
                    constraint("minimumParties", "gteq", 3),
                ],
            }
        ]
    }


def constraint(left: str, operator: str, right: object) -> dict[str, object]:
    return {"leftOperand": left, "operator": operator, "rightOperand": right}


@pytest.mark.parametrize(
    ("terms", "change", "uses", "detail"),
    [
        ({}, {}, 0, "permitted"),
        ({}, {"task": "other"}, 0, "the terms do not name the task other"),
        ({"exact": False}, {}, 0, "the terms permit no exact answer"),
        ({}, {"purpose": "other"}, 0, "the terms do not name other"),
        ({}, {"recipient": "other"}, 0, "the terms do not name this recipient"),
        ({}, {"parties": 2}, 0, "fewer than 3 parties"),
        ({}, {"time": 1_001}, 0, "the terms have ended"),
        ({}, {}, 2, "all 2 uses are spent or reserved"),
    ],
)
def test_each_decision_says_why(
    terms: dict[str, object], change: dict[str, object], uses: int, detail: str
):
    changed = replace(TERMS, **terms)  # type: ignore[arg-type]
    assert evaluate(changed, replace(REQUEST, **change), uses).detail == detail  # type: ignore[arg-type]


def test_odrl_shows_every_field():
    (permission,) = TERMS.to_odrl()["permission"]
    shown = [item["rightOperand"] for item in permission["constraint"]]
    assert permission["action"] == "compute"
    assert len(shown) == len(fields(Terms))
    assert shown == list(TERMS.payload().values())


def test_terms_that_name_something_twice_are_refused():
    with pytest.raises(StatementError, match="tasks: names something twice"):
        Terms.from_payload({**TERMS.payload(), "tasks": ["a", "a"]})
