"""Reading records from JSON: exactly the declared fields, each of its declared type."""

import copy
import dataclasses
import json
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import StatementError
from ledger.record import (
    MAX_ITEMS,
    MAX_TEXT,
    Record,
    distinct,
    hex_digest,
    identifier,
    not_empty,
    not_negative,
    one_line,
    one_of,
    positive,
)
from ledger.statements import KINDS, Statement
from ledger.terms import Terms
from tests.world import World

ID = "asset:" + "0" * 64
DIGEST = "sha256:" + "a" * 64


@dataclasses.dataclass(frozen=True)
class Inner(Record):
    number: Annotated[int, not_negative]


@dataclasses.dataclass(frozen=True)
class Outer(Record):
    name: Annotated[str, one_line]
    text: str
    flag: bool
    count: Annotated[int, positive]
    word: Annotated[str, one_of("yes", "no")]
    asset: Annotated[str, identifier("asset")] | None
    digest: Annotated[str, hex_digest]
    inner: Inner
    several: Annotated[tuple[Inner, ...], not_empty]
    words: Annotated[tuple[Annotated[str, one_line], ...], distinct]
    free: dict[str, Any]


GOOD: dict[str, Any] = {
    "name": "蓉数",
    "text": "",
    "flag": False,
    "count": 1,
    "word": "yes",
    "asset": ID,
    "digest": DIGEST,
    "inner": {"number": 0},
    "several": [{"number": 1}, {"number": 2}],
    "words": ["a", "b"],
    "free": {"deep": [{"value": None}, True, "0.5", -3]},
}


def test_a_record_survives_being_written_and_read():
    record = Outer.from_payload(GOOD)
    assert record.payload() == GOOD
    assert Outer.from_payload(record.payload()) == record
    assert record.several == (Inner(1), Inner(2))
    assert Outer.from_payload({**GOOD, "asset": None}).asset is None


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "", "Outer.name: must be one line"),
        ("name", " ", "Outer.name: must be one line"),
        ("name", "two\nlines", "Outer.name: must be one line"),
        ("name", "\x1b[2J", "Outer.name: must be one line"),
        ("name", "\u202egnirts", "Outer.name: must be one line"),
        ("name", 5, "Outer.name: expected str, found int"),
        ("text", None, "Outer.text: expected str, found NoneType"),
        ("text", "x" * (MAX_TEXT + 1), "Outer.text: longer than 4096"),
        ("flag", 1, "Outer.flag: expected bool, found int"),
        ("count", True, "Outer.count: expected int, found bool"),
        ("count", 1.0, "Outer.count: expected int, found float"),
        ("count", "1", "Outer.count: expected int, found str"),
        ("count", 0, "Outer.count: 0 is not positive"),
        ("word", "maybe", "Outer.word: 'maybe' is none of yes, no"),
        ("asset", "", "Outer.asset: not a statement id"),
        ("asset", ID.upper(), "Outer.asset: not a statement id"),
        ("asset", ID.replace("asset", "job"), "Outer.asset: names a job, expected asset"),
        ("digest", DIGEST[:-1], "Outer.digest: expected sha256:"),
        ("digest", DIGEST.replace("a", "A"), "Outer.digest: expected sha256:"),
        ("digest", DIGEST[:-1] + "\n", "Outer.digest: expected sha256:"),
        ("digest", DIGEST.replace("sha256", "sha512"), "Outer.digest: expected sha256:"),
        ("inner", [], "Outer.inner: expected an object"),
        ("inner", {"number": -1}, "Outer.inner.number: -1 is negative"),
        ("inner", {"number": 1, "x": 2}, "Outer.inner: unknown field 'x'"),
        ("several", [], "Outer.several: is empty"),
        ("several", {"number": 1}, "Outer.several: expected a list"),
        ("several", "ab", "Outer.several: expected a list"),
        ("several", [{"number": 1}, {}], r"Outer.several\[1\]: field 'number' is missing"),
        ("words", ["a", "a"], "Outer.words: names something twice"),
        ("words", ["a"] * (MAX_ITEMS + 1), "Outer.words: more than 4096 items"),
        ("words", [["a"]], r"Outer.words\[0\]: expected str, found list"),
        ("free", [], "Outer.free: expected an object"),
        ("free", {"deep": [{"x": 0.5}]}, r"Outer.free.deep\[0\].x: .*no floating-point"),
        ("free", {1: 2}, "Outer.free: a key is not text"),
    ],
)
def test_a_wrong_value_is_refused_by_name(field: str, value: object, message: str):
    with pytest.raises(StatementError, match=f"^{message}"):
        Outer.from_payload({**GOOD, field: value})


@pytest.mark.parametrize("value", [None, [], "text", 5, [GOOD]])
def test_what_is_no_object_is_refused(value: object):
    with pytest.raises(StatementError, match=r"^Outer: expected an object"):
        Outer.from_payload(value)


def test_missing_and_unknown_fields_are_named():
    for field in GOOD:
        with pytest.raises(StatementError, match=f"^Outer: field '{field}' is missing"):
            Outer.from_payload({name: value for name, value in GOOD.items() if name != field})
    with pytest.raises(StatementError, match=r"^Outer: unknown field 'Name'"):
        Outer.from_payload({**GOOD, "Name": "x"})


def test_reading_leaves_the_callers_object_alone():
    given_value = copy.deepcopy(GOOD)
    Outer.from_payload(given_value)
    assert given_value == GOOD


# Every kind of statement, from a real log.


@pytest.fixture(scope="module")
def statements(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Statement]:
    world = World.with_every_kind(tmp_path_factory.mktemp("world"), providers=3)
    world.put(world.revoke(world.providers[0], world.providers[0].offer))
    found = {statement.kind: statement for statement in world.statements.values()}
    assert set(found) == set(KINDS)
    return found


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every object inside a payload, free ones left out."""
    if isinstance(value, dict):
        yield path
        for key, item in value.items():
            if key not in ("parameters", "preparation", "encryption_key", "measurement"):
                yield from places(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from places(item, (*path, number))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_round_trips(statements: dict[str, Statement], kind: str):
    statement = statements[kind]
    payload = json.loads(json.dumps(statement.payload()))
    assert type(statement).from_payload(payload) == statement
    assert type(statement).from_payload(payload).payload() == payload


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_refuses_every_missing_and_unknown_field(
    statements: dict[str, Statement], kind: str
):
    payload = statements[kind].payload()
    for path in places(payload):
        for name in at(payload, path):
            damaged = copy.deepcopy(payload)
            del at(damaged, path)[name]
            with pytest.raises(StatementError, match=f"field '{name}' is missing"):
                KINDS[kind].from_payload(damaged)
        damaged = copy.deepcopy(payload)
        at(damaged, path)["surplus"] = 1
        with pytest.raises(StatementError, match="unknown field 'surplus'"):
            KINDS[kind].from_payload(damaged)


JUNK = st.one_of(
    st.floats(allow_nan=False),
    st.binary(),
    st.just(float("inf")),
    st.lists(st.lists(st.floats(allow_nan=False), min_size=1), min_size=1),
)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_every_kind_names_a_value_of_no_possible_type(
    statements: dict[str, Statement], kind: str, data: st.DataObject
):
    payload = copy.deepcopy(statements[kind].payload())
    path = data.draw(st.sampled_from(list(places(payload))))
    name = data.draw(st.sampled_from(sorted(at(payload, path))))
    at(payload, path)[name] = data.draw(JUNK)
    with pytest.raises(StatementError, match=name):
        KINDS[kind].from_payload(payload)


WORDS = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=8)
LISTS = st.lists(WORDS, max_size=4, unique=True).map(tuple)
NUMBERS = st.integers(0, 2**53 - 1)


@given(
    st.builds(
        Terms,
        tasks=LISTS,
        purposes=LISTS,
        recipients=LISTS,
        uses=NUMBERS,
        until=NUMBERS,
        exact=st.booleans(),
        minimum_parties=NUMBERS.filter(bool),
    )
)
def test_terms_round_trip(terms: Terms):
    assert Terms.from_payload(terms.payload()) == terms
