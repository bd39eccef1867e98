from typing import Any

import pytest

from marketplace.scenario.expectations import check, look_up
from marketplace.scenario.parts import ExpectPart

RESULT: dict[str, Any] = {
    "age": {"count": 920, "mean": 53.5},
    "blood.pressure": {"count": 3, "mean.trimmed": 1.5},
    "state": {"count": 7},
    "list": [{"a": 1}, 2],
    "none": None,
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("age.count", 920),
        ("blood.pressure.count", 3),
        ("blood.pressure.mean.trimmed", 1.5),
        ("state.count", 7),
        ("list.0.a", 1),
        ("list.1", 2),
        ("none", None),
    ],
)
def test_a_path_leads_to_its_value(path: str, found: object):
    assert look_up(RESULT, path) == found


@pytest.mark.parametrize("path", ["", "agee", "age.", "age.count.x", "list.2", "list.x", "blood"])
def test_a_path_that_leads_nowhere_is_said(path: str):
    with pytest.raises(KeyError):
        look_up(RESULT, path)
    checked = check(ExpectPart("e", "j", path, equals=1), "released", RESULT)
    assert not checked.held
    assert checked.detail == f"there is no {path}"


@pytest.mark.parametrize(
    ("values", "held"),
    [
        ({"equals": 53.5}, True),
        ({"equals": 53.6}, False),
        ({"equals": 53.6, "tolerance": 0.11}, True),
        ({"equals": 53.6, "tolerance": 0.09}, False),
        ({"at_least": 53.5}, True),
        ({"at_least": 53.51}, False),
        ({"at_least": 53.51, "tolerance": 0.02}, True),
        ({"at_most": 53.5}, True),
        ({"at_most": 53.49}, False),
        ({"at_least": 50, "at_most": 60}, True),
        ({"at_least": 50, "at_most": 52}, False),
        ({"equals": "53.5"}, False),
        ({"equals": True}, False),
    ],
)
def test_numbers_are_compared_as_asked(values: dict[str, Any], held: bool):  # noqa: FBT001
    part = ExpectPart("e", "j", "age.mean", **values)
    assert check(part, "released", RESULT).held is held


@pytest.mark.parametrize("limit", ["at_least", "at_most"])
def test_a_text_is_not_compared_as_a_number(limit: str):
    part = ExpectPart("e", "j", "word", **{limit: 1.0})
    assert not check(part, "released", {"word": "many"}).held


def test_the_state_is_the_jobs_and_not_a_columns():
    part = ExpectPart("e", "j", "state", equals="failed")
    assert check(part, "failed", RESULT).held
    assert not check(part, "released", RESULT).held


def test_a_path_may_begin_with_result():
    checked = check(ExpectPart("e", "j", "result.age.count", equals=920), "released", RESULT)
    assert checked.held
    own = {"result": {"count": 3}}
    assert check(ExpectPart("e", "j", "result.count", equals=3), "released", own).held
