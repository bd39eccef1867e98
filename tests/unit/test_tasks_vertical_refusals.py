"""What a regression over several providers' columns refuses, and when."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from federated.errors import TaskError
from privacy.errors import (
    IdentifierError,
    SetSizeError,
    SharedParcelError,
    SmallIntersectionError,
)
from tests.joint import converse
from tests.verticals import (
    FEW,
    MATCH,
    NAMES,
    A,
    B,
    C,
    people,
    ready,
    result,
    table,
    tables,
    task,
    three,
)

# --- before anything is sent


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model": "logistc"}, "did you mean 'logistic'"),
        ({"label": None}, "label: the name"),
        ({"label": ["late", "debt"]}, "label: the name"),
        ({"label": "age"}, "'age' is the label itself"),
        ({"columns": []}, "columns: a list"),
        ({"scaling": "z"}, "scaling: 'z' is none"),
        ({"steps": 0}, "steps: a whole number from 1 to 100"),
        ({"steps": 101}, "steps: a whole number from 1 to 100"),
        ({"steps": True}, "steps: a whole number"),
        ({"model": "linear", "steps": 25}, "steps: a whole number from 1 to 24"),
        ({"model": "linear", "step": "0.1"}, "for the logistic model alone"),
        ({"model": "linear", "above": 3}, "for the logistic model alone"),
        ({"step": "11"}, "step: a number from"),
        ({"step": "0.00001"}, "step: a number from"),
        ({"step": "fast"}, "decimal number is needed"),
        ({"above": "much"}, "decimal number is needed"),
        ({"computes": "fourth"}, "computes: 'fourth' is none"),
        ({"scores": "all"}, "scores: 'all' is none"),
    ],
)
def test_bad_parameters_are_refused(given: dict[str, Any], says: str):
    good = {"columns": NAMES, "label": "late"}
    task().parse_parameters(good)
    with pytest.raises(TaskError, match=says) as refused:
        task().parse_parameters(good | given)
    assert refused.value.reason == "bad_parameter"


def test_canonical_parameters_parse_to_themselves():
    parsed = task().parse_parameters({"columns": NAMES, "label": "late", "step": 0.5, "above": 1})
    assert (parsed["step"], parsed["above"], parsed["steps"]) == ("0.5", "1", 20)
    assert task().parse_parameters(parsed) == parsed
    linear = task().parse_parameters({"columns": NAMES, "label": "debt", "model": "linear"})
    assert task().parse_parameters(linear) == linear


def test_an_unknown_parameter_is_refused():
    with pytest.raises(TaskError, match="no parameter 'lable'"):
        task().parse_parameters({"columns": NAMES, "lable": "late"})


def two() -> Any:
    return {asset: rows for asset, rows in tables().items() if asset != C}


@pytest.mark.parametrize(
    ("given", "parameters", "reason", "says"),
    [
        (two(), {"computes": None}, "bad_parameter", "held by 3 nodes, and the job names 2"),
        (tables() | {"asset:d": tables()[C]}, {}, "bad_parameter", "the job names 4"),
        (tables(), {"computes": None}, "bad_parameter", "asset:c has none of the columns"),
        (tables(), {"computes": "first"}, "unknown_column", "no owner has a column 'age'"),
        (tables(), {"columns": ["agee", "loans"]}, "unknown_column", "did you mean 'age'"),
        (tables(), {"columns": ["age", "id"]}, "bad_parameter", "each have a column 'id'"),
        (tables(), {"label": "latest"}, "unknown_column", "no owner has a column 'latest'"),
        (three(), {"columns": [*NAMES, "calls"]}, "unknown_column", "no owner has a column 'call"),
    ],
)
def test_parties_and_columns_that_do_not_fit_are_refused(
    given: Any, parameters: dict[str, Any], reason: str, says: str
):
    with pytest.raises(TaskError, match=says) as refused:
        ready(given, **parameters)
    assert refused.value.reason == reason


def test_a_column_or_a_label_at_two_owners_is_refused():
    given = tables()
    for row in given[A]:
        row["late"] = 1
    with pytest.raises(TaskError, match="asset:a and asset:b each have a column 'late'"):
        ready(given)
    # At the node that computes, which brings no column, it is nobody's.
    given = tables()
    for row in given[C]:
        row["late"] = 1
    ready(given)


def test_scores_that_are_one_column_of_another_owner_are_refused():
    ready(columns=["age", "rent"], scores="label")
    ready(columns=["age", "loans"])
    with pytest.raises(TaskError, match="scores of one column") as refused:
        ready(columns=["age", "loans"], scores="label")
    assert refused.value.reason == "bad_parameter"


def test_a_text_column_is_refused():
    given = tables()
    given[A][3]["rent"] = "much"
    with pytest.raises(TaskError, match="'rent' holds text at asset:a") as refused:
        ready(given)
    assert refused.value.reason == "not_numeric"


@pytest.mark.parametrize(
    "prepare",
    [
        {"label": {"column": "late"}},
        {"split": {"train": "0.5", "seed": 1}},
        {"one_hot": {"late": [0, 1]}},
    ],
)
def test_a_preparation_by_columns_that_others_lack_is_refused(prepare: Any):
    given = {asset: [row | {"late": 1} for row in rows] for asset, rows in two().items()}
    given[C] = [row | {"late": 1} for row in tables()[C]]
    with pytest.raises(TaskError, match="not prepared where each table has other columns"):
        ready(given, label="debt", prepare=prepare)
    ready(given, label="debt")


def test_a_dropped_column_is_refused():
    given = {asset: [row | {"age": 1.5} for row in rows] for asset, rows in tables().items()}
    with pytest.raises(TaskError, match="each have a column 'age'"):
        ready(given, prepare={"drop": ["age"]})
    given = three() | {C: [row | {"age": 1} for row in tables()[C]]}
    for row in given[B]:
        row["age"] = 1
    with pytest.raises(TaskError, match="each have a column 'age'"):
        ready(given, columns=["age", "loans"])


def test_without_agreed_identifiers_there_is_no_fit():
    with pytest.raises(TaskError, match="the agreements fix no `match`"):
        ready(match=None)


def test_an_owner_without_the_identifying_column_is_refused():
    with pytest.raises(TaskError, match="asset:a has no column 'name'"):
        ready(match=MATCH | {"columns": {"name": []}})


def test_repeated_identifiers_are_refused():
    given = tables()
    given[A].append(given[A][0])
    plan, rows = ready(given)
    with pytest.raises(IdentifierError, match="1 of 111 rows repeat"):
        task().check_rows(plan, A, rows[A])
    task().check_rows(plan, B, rows[B])
    task().check_rows(plan, C, rows[C])


def test_too_few_rows_are_refused_before_and_after_they_are_matched():
    with pytest.raises(TaskError, match="asset:b has 100 rows, and 101 are agreed"):
        ready(match=MATCH | {"minimum_size": 101})
    plan, rows = ready(match=MATCH | {"minimum_intersection": 91})
    with pytest.raises(SmallIntersectionError):
        converse(task(), plan, rows)
    plan, rows = ready(match=MATCH | {"minimum_intersection": 90}, **FEW)
    converse(task(), plan, rows)


def test_three_owners_with_too_few_in_common_are_refused():
    given = three() | {C: table(("calls",), range(85, 120))}
    plan, rows = ready(given, columns=[*NAMES, "calls"], computes=None, **FEW)
    assert result(plan, converse(task(), plan, rows))["rows"] == 25
    plan, rows = ready(
        given,
        columns=[*NAMES, "calls"],
        computes=None,
        match=MATCH | {"minimum_intersection": 26},
        **FEW,
    )
    with pytest.raises(SmallIntersectionError):
        converse(task(), plan, rows)


def test_fewer_than_five_rows_for_a_coefficient_are_refused():
    small = MATCH | {"minimum_size": 2, "minimum_intersection": 2}
    given = tables() | {A: table(("age", "rent"), range(20, 40))}
    plan, rows = ready(given, match=small, **FEW)
    assert result(plan, converse(task(), plan, rows))["rows"] == 20
    # By the cards there may be 20, and only 19 are met.
    given = tables() | {A: table(("age", "rent"), range(19, 39))}
    plan, rows = ready(given, match=small, **FEW)
    with pytest.raises(TaskError, match="4 coefficients need 20 rows") as refused:
        converse(task(), plan, rows)
    assert refused.value.reason == "too_few"
    given = tables() | {A: table(("age", "rent"), range(20, 39))}
    with pytest.raises(TaskError, match="4 coefficients need 20 rows"):
        ready(given, match=small, **FEW)


@pytest.mark.parametrize(
    ("changed", "reason", "says"),
    [
        ({"age": np.full(120, 2.5)}, "constant_column", "'age' is constant"),
        ({"rent": 2 * people()["age"]}, "collinear", "'rent' follows from others"),
        ({"late": np.ones(120)}, "one_class", "'late' is the same"),
    ],
)
def test_columns_that_tell_nothing_are_refused(changed: Any, reason: str, says: str):
    plan, rows = ready(tables(**changed))
    with pytest.raises(TaskError, match=says) as refused:
        converse(task(), plan, rows)
    assert refused.value.reason == reason


def test_a_table_that_outgrew_its_card_is_refused():
    plan, _ = ready()
    given = tables()
    given[A][40]["rent"] = 1e6
    _, rows = ready(given)
    with pytest.raises(TaskError, match="'rent' exceeds the bound of its data card") as refused:
        task().check_rows(plan, A, rows[A])
    assert refused.value.reason == "out_of_bounds"


def test_numbers_too_large_for_shares_are_refused_before_anything_is_sent():
    given = tables()
    given[A][40]["rent"] = 1e12
    ready(given)
    with pytest.raises(TaskError, match=r"the fit: |could go wrong") as refused:
        ready(given, scaling="none", step="0.01")
    assert refused.value.reason == "overflow"


# --- parcels and reports


@pytest.mark.parametrize("number", [7, 8, 9, 12, 14, 20, 40])
def test_a_parcel_of_another_length_ends_the_part(number: int):
    plan, rows = ready(**FEW)
    converse(task(), plan, rows)

    def shorter(at: int, _asset: str, parcels: dict[str, bytes]) -> dict[str, bytes]:
        return {peer: data[:-1] for peer, data in parcels.items()} if at == number else parcels

    with pytest.raises((SharedParcelError, TaskError), match=r"bytes, not|one number of rows"):
        converse(task(), plan, rows, shorter)


@pytest.mark.parametrize("number", [2, 3, 6, 7, 9])
def test_a_parcel_that_is_missing_ends_the_part(number: int):
    plan, rows = ready(**FEW)

    def without(at: int, _asset: str, parcels: dict[str, bytes]) -> dict[str, bytes]:
        return {} if at == number else parcels

    with pytest.raises((SharedParcelError, TaskError, SetSizeError)):
        converse(task(), plan, rows, without)


def test_owners_who_tell_two_numbers_of_rows_are_refused():
    plan, rows = ready(**FEW)

    def other(at: int, asset: str, parcels: dict[str, bytes]) -> dict[str, bytes]:
        if (at, asset) != (7, C):
            return parcels
        assert set(parcels) == {A, B}
        return parcels | {B: (89).to_bytes(8, "big")}

    with pytest.raises(TaskError, match="do not tell one number of rows"):
        converse(task(), plan, rows, other)


@pytest.mark.parametrize("flags", [lambda data: data[:-1], lambda data: b"\2" + data[1:]])
def test_rows_that_were_not_met_are_not_taken(flags: Any):
    plan, rows = ready(three(), columns=[*NAMES, "calls"], computes=None, **FEW)

    def changed(at: int, asset: str, parcels: dict[str, bytes]) -> dict[str, bytes]:
        if (at, asset) != (12, A):
            return parcels
        return {B: flags(parcels[B])}

    with pytest.raises(TaskError, match="not those that were met"):
        converse(task(), plan, rows, changed)


@pytest.mark.parametrize(
    "change",
    [
        lambda reports: reports[C] | {"rows": 89},
        lambda _: {"rows": 90},
        lambda reports: reports[C] | {"iterations": 3},
        lambda reports: reports[C] | {"coefficients": {}},
        lambda reports: reports[C] | {"rows": True},
    ],
)
def test_reports_that_do_not_fit_together_are_no_result(change: Any):
    plan, rows = ready(**FEW)
    reports = {asset: part.report for asset, part in converse(task(), plan, rows).items()}
    task().conclude(plan, reports)
    with pytest.raises(TaskError, match="do not report one fit") as refused:
        task().conclude(plan, reports | {C: change(reports)})
    assert refused.value.reason == "reports_differ"


@pytest.mark.parametrize(
    "coefficients",
    [
        {"age": 1.0},
        {"age": 1.0, "rent": 1.0, "loans": 1.0},
        {"age": float("nan"), "rent": 1.0},
        {"age": "1", "rent": 1.0},
        ["age", "rent"],
    ],
)
def test_an_owner_who_reports_other_coefficients_than_its_own_is_refused(coefficients: Any):
    plan, rows = ready(**FEW)
    reports = {asset: part.report for asset, part in converse(task(), plan, rows).items()}
    with pytest.raises(TaskError, match="do not report one fit"):
        task().conclude(plan, reports | {A: reports[A] | {"coefficients": coefficients}})
