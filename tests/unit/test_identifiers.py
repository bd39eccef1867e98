import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import IdentifierError
from privacy.identifiers import MAX_CHARACTERS, Rules, identify

NAME = ("nfkc", "casefold", "letters-and-digits")
DATE = ("digits", "left-pad:8:0")
RULES = Rules((NAME, DATE))
IDS = Path(__file__).resolve().parents[3] / "shared" / "data" / "psi_ids"


def one(cell: str, *steps: str) -> bytes:
    # A single column: eight bytes of length, then the cell.
    return identify([[cell]], Rules((steps,))).members[0][8:]


@pytest.mark.parametrize(
    ("cell", "steps", "form"),
    [
        ("Ｚｏë №１", ("nfkc",), "Zoë No1"),
        ("STRASSE", ("casefold",), "strasse"),
        ("Straße", ("casefold",), "strasse"),
        (" a b\t", ("strip",), "a b"),
        ("a \t\n b", ("collapse-spaces",), "a b"),
        ("028-٣٤ x²", ("digits",), "02834"),
        ("O'Neil-李 7!", ("letters-and-digits",), "ONeil李7"),
        ("42", ("left-pad:5:0",), "00042"),
        ("424242", ("left-pad:5:0",), "424242"),
        ("A\u00b4", ("nfkc", "letters-and-digits"), "Á"),
        ("A\u0301", (), "Á"),
        ("  Ａ  b ", ("nfkc", "strip", "collapse-spaces", "casefold"), "a b"),
    ],
)
def test_each_step_does_what_its_name_says(cell: str, steps: tuple[str, ...], form: str):
    assert one(cell, *steps) == form.encode()


def test_two_spellings_become_one_identifier_and_another_person_does_not():
    first = identify([["Zoë  Li"], ["1980-02-01"]], RULES).members
    assert first == identify([["ＺＯË LI"], ["1980 0201"]], RULES).members
    assert first != identify([["Zoe Li"], ["1980-02-01"]], RULES).members


@given(st.text("ab\0", min_size=1, max_size=4), st.text("ab\0", min_size=2, max_size=4))
def test_columns_are_joined_so_that_no_two_rows_meet(first: str, second: str):
    rules = Rules(((), ()))
    other = (first + second[0], second[1:])
    members = [
        identify([[left], [right]], rules).members for left, right in [(first, second), other]
    ]
    assert members[0] != members[1]
    # The twin: written one after the other, they are the same.
    assert "".join(other) == first + second


@pytest.mark.parametrize(
    ("cell", "steps", "told"),
    [
        ("", (), "empty"),
        ("--", ("digits",), "empty"),
        ("", ("left-pad:8:0",), "empty"),
        ("x", ("digits", "left-pad:8:0"), "empty"),
        ("x" * (MAX_CHARACTERS + 1), (), "more than"),
        ("\ufdfa" * 100, ("nfkc",), "grows too long"),
        ("secret\u0378", (), "not assigned"),
        ("secret\ud800", (), "not assigned"),
        (None, (), "no text"),
        (7, (), "no text"),
    ],
)
def test_a_cell_that_gives_no_identifier_is_refused_by_its_row(
    cell: str, steps: tuple[str, ...], told: str
):
    with pytest.raises(IdentifierError, match="row 2 ") as refusal:
        identify([["a1", "b2", cell]], Rules((steps,)))
    assert told in str(refusal.value)
    assert "secret" not in str(refusal.value)
    assert identify([["a1", "b2", "c3"]], Rules((steps,))).rows == (0, 1, 2)


def test_repeated_rows_are_refused_with_their_number_or_collapse_where_the_rules_say_so():
    cells = [["ann", "bob", "ANN", "ann", "cy"]]
    with pytest.raises(IdentifierError, match="2 of 5 rows repeat") as refusal:
        identify(cells, Rules((("casefold",),)))
    assert "ann" not in str(refusal.value)
    collapsed = identify(cells, Rules((("casefold",),), collapse=True))
    assert collapsed.rows == (0, 1, 4)
    assert len(collapsed.members) == 3
    # The twin: without case folding one of them is another person, and one repeats still.
    with pytest.raises(IdentifierError, match="1 of 5"):
        identify(cells, Rules(((),)))


def test_columns_have_to_fit_to_the_rules_and_to_each_other():
    for columns in ([["a"]], [["a"], ["1"], ["x"]], [["a", "b"], ["1"]], []):
        with pytest.raises(IdentifierError, match="one column of cells"):
            identify(columns, RULES)
    assert len(identify([["a", "b"], ["1", "2"]], RULES).members) == 2


@pytest.mark.parametrize(
    "columns",
    [
        (),
        ((),) * 17,
        (("digits",) * 17,),
        (("lowercase",),),
        (("left-pad:0:0",),),
        (("left-pad:65:0",),),
        (("left-pad:8:00",),),
        (("left-pad:8: ",),),
        (("left-pad:08:0",),),
    ],
)
def test_rules_that_say_nothing_clear_are_refused(columns: tuple[tuple[str, ...], ...]):
    with pytest.raises(IdentifierError):
        Rules(columns)


def test_the_largest_rules_are_taken():
    assert Rules((("digits",) * 15 + ("left-pad:64:~",),) * 16).columns[15][15] == "left-pad:64:~"


def test_rules_go_to_json_and_back():
    for rules in (RULES, Rules(((), NAME), collapse=True)):
        assert Rules.from_json(rules.to_json()) == rules


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"columns": [["digits"]]},
        {"columns": [["digits"]], "collapse": 1},
        {"columns": [["digits"]], "collapse": False, "more": 1},
        {"columns": "digits", "collapse": False},
        {"columns": ["digits"], "collapse": False},
        {"columns": [[7]], "collapse": False},
        {"columns": [["no such step"]], "collapse": False},
    ],
)
def test_rules_of_another_form_are_refused(value: object):
    with pytest.raises(IdentifierError):
        Rules.from_json(value)


def test_different_rules_have_different_digests():
    several = [
        RULES,
        Rules((NAME, DATE), collapse=True),
        Rules((DATE, NAME)),
        Rules((NAME + DATE,)),
        Rules((NAME, DATE, ())),
        Rules((NAME, ("digits", "left-pad:8:1"))),
    ]
    assert len({rules.digest for rules in several}) == len(several)
    assert RULES.digest == Rules.from_json(RULES.to_json()).digest


def test_what_is_printed_of_identifiers_holds_none():
    assert "ann" not in repr(identify([["ann"]], Rules(((),))))


def test_the_generated_ids_have_their_published_intersection():
    if not IDS.is_dir():
        pytest.skip("the data set psi_ids is not here")
    sides = []
    for name in ("psi_1.csv", "psi_2.csv"):
        with (IDS / name).open(encoding="utf-8", newline="") as file:
            sides.append([row["id"] for row in csv.DictReader(file)])
    rules = Rules((("digits", "left-pad:18:0"),))
    first, second = (set(identify([cells], rules).members) for cells in sides)
    assert (len(first), len(second), len(first & second)) == (1000, 1000, 500)
