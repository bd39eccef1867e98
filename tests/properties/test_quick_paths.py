"""Each quick way of reading accepts exactly what its long way accepts, and reads the same from it.

The long way is had by making the pattern of the quick one match nothing. An entry has no long way:
its pattern is held against a plain reading written here from FORMATS.md, section "Entry".
"""

import base64
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ledger import entry as entries
from ledger import record
from ledger.encoding import canonical, parse
from ledger.entry import Entry, Opening
from ledger.errors import EncodingError, EntryError, LedgerError, StatementError
from ledger.statements import KINDS, Statement, envelope
from ledger.structure import Bundle, _explain, _scan
from ledger.tiles import encode_bundle
from tests.forgery import chain
from tests.world import World

NOTHING = re.compile(rb"(?!)")
MANY = settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.with_every_kind(tmp_path_factory.mktemp("world"), providers=2)


def outcome(read: Callable[[bytes], Any], data: bytes) -> str:
    try:
        return repr(read(data))
    except LedgerError as error:
        return f"{type(error).__name__}: {error}"


@contextmanager
def the_long_way(module: Any, *names: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(module, name, NOTHING)
        yield


def damaged(data: st.DataObject, good: bytes) -> bytes:
    """Bytes near good ones: some cut out, put in or replaced, by what such texts are made of."""
    changed = good
    for _ in range(data.draw(st.integers(0, 2))):
        start = data.draw(st.integers(0, len(changed)))
        stop = min(len(changed), start + data.draw(st.integers(0, 3)))
        piece = data.draw(PIECES)
        changed = changed[:start] + piece + changed[stop:]
    return changed


PIECES = st.one_of(
    st.binary(max_size=2),
    st.sampled_from(
        rb"""|"|{|[|,|]| |0|-1|1.0|1e3|null|true|\u0041|=|==|A|9|00|"v":1|9007199254740992""".split(
            b"|"
        )
    ),
)


def reference(index: int) -> st.SearchStrategy[int | None]:
    return st.none() | st.integers(0, max(index - 1, 0)) | st.integers(-1, 2**53 + 1)


@st.composite
def entry_values(draw: st.DrawFn) -> dict[str, Any]:
    """What an entry may be made of, in and out of its ranges."""
    numbers = st.integers(0, 300) | st.sampled_from([2**53 - 1, 2**53, 2**60, -1, 1.5, True])
    index = draw(numbers)
    limit = index if isinstance(index, int) else 0
    hashes = st.binary(min_size=31, max_size=33).map(entries.b64encode) | st.just("A" * 43 + "B")
    return {
        "commitment": draw(hashes),
        "index": index,
        "kind": draw(st.sampled_from([*KINDS, "no_kind"])),
        "previous": draw(hashes),
        "references": draw(st.lists(reference(limit), max_size=4)),
        "time": draw(numbers),
        "v": draw(st.sampled_from([1, 1, 1, 2, True])),
    }


@MANY
@given(entry_values(), st.data())
def test_an_entry_of_any_values(value: dict[str, Any], data: st.DataObject):
    written = json.dumps(value, separators=(",", ":")).encode()
    compare_entries(written)
    compare_entries(damaged(data, written))


@settings(max_examples=120)
@given(st.data())
def test_an_entry_near_a_good_one(world: World, data: st.DataObject):
    good = data.draw(st.sampled_from(world.entries())).to_bytes()
    compare_entries(damaged(data, good))


@pytest.mark.parametrize("count", [1023, 1024, 1025])
def test_an_entry_with_many_references(count: int):
    entry = Entry(2000, bytes(32), 0, "release", (1,) * count, bytes(32))
    compare_entries(entry.to_bytes())
    assert entries.refer_back(b",".join([b"1"] * count), 2000) == (count <= 1024)


GOOD = Entry(7, bytes(32), 0, "release", (None, 6), bytes(32)).to_bytes()
A = b"A" * 43 + b"="


@pytest.mark.parametrize(
    ("old", "new", "right"),
    [
        (b'"index":7', b'"index":9007199254740991', True),
        (b'"index":7', b'"index":9007199254740992', False),
        (b'"index":7', b'"index":07', False),
        (b'"index":7', b'"index":-7', False),
        (b'"time":0', b'"time":9007199254740991', True),
        (b'"time":0', b'"time":9007199254740992', False),
        (b'"time":0', b'"time":00', False),
        (b'"time":0', b'"time":null', False),
        (b"null,6", b"6,6", True),
        (b"null,6", b"", True),
        (b"null,6", b"null,7", False),
        (b"null,6", b"8,6", False),
        (b"null,6", b"null,6,", False),
        (b"null,6", b"null 6", False),
        (b"null,6", b"true,6", False),
        (b"release", b"grant", True),
        (b"release", b"releases", False),
        (b'"commitment":"' + A, b'"commitment":"' + A[:42] + b"8=", True),
        (b'"commitment":"' + A, b'"commitment":"' + A[:42] + b"9=", False),
        (b'"commitment":"' + A, b'"commitment":"' + A[:42] + b"==", False),
        (b'"previous":"' + A, b'"previous":"' + A[:42] + b"8=", True),
        (b'"previous":"' + A, b'"previous":"' + A[:42] + b"B=", False),
        (b'"previous":"' + A, b'"previous":"' + A[:43] + b"A", False),
        (b'"v":1', b'"v":2', False),
        (b'"v":1', b'"v":true', False),
        (b'"v":1}', b'"v":1}\n', False),
        (b'"v":1}', b'"v":1', False),
        (b'{"c', b' {"c', False),
    ],
)
def test_an_entry_at_the_edge_of_what_is_one(old: bytes, new: bytes, *, right: bool):
    assert GOOD.count(old) == 1
    changed = GOOD.replace(old, new)
    assert isinstance(plain_entry(changed), Entry) == right
    compare_entries(changed)


LATE = "a reference that is not smaller than the index"


def compare_entries(data: bytes) -> None:
    expected = plain_entry(data)
    if isinstance(expected, Entry):
        assert Entry.from_bytes(data) == expected
        assert expected.to_bytes() == data
        return
    with pytest.raises(EntryError) as refused:
        Entry.from_bytes(data)
    # What is left when all else was looked at is said last, and only then.
    assert ("refers to itself or to a later entry" in str(refused.value)) == (expected == LATE)


def plain_entry(data: bytes) -> Entry | str:
    """Read an entry field by field; what is wrong where it is none."""
    try:
        value = parse(data, limit=65_535)
    except EncodingError as error:
        return f"not canonical JSON: {error}"
    fields = ["commitment", "index", "kind", "previous", "references", "time", "v"]
    if not isinstance(value, dict) or sorted(value) != fields:
        return "other fields"
    listed = value["references"]
    if not isinstance(listed, list) or len(listed) > 1024:
        return "no list of at most 1024 references"
    named = [item for item in listed if item is not None]
    previous, committed = plain_hash(value["previous"]), plain_hash(value["commitment"])
    right = (
        whole(value["v"]) and value["v"] == 1,
        value["kind"] in list(KINDS),
        len(previous) == len(committed) == 32,
        all(map(whole, [value["index"], value["time"], *named])),
    )
    if not all(right):
        return "a field out of its range"
    if any(item >= value["index"] for item in named):
        return LATE
    return Entry(value["index"], previous, value["time"], value["kind"], tuple(listed), committed)


def whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def plain_hash(value: Any) -> bytes:
    """Return the bytes that text stands for; empty where it is not their one base64."""
    try:
        decoded = base64.b64decode(value, validate=True)
    except (TypeError, ValueError):
        return b""
    return decoded if base64.b64encode(decoded).decode() == value else b""


@MANY
@given(st.data())
@example(None)
def test_an_opening(world: World, data: st.DataObject | None):
    good = world.openings()[3].to_bytes()
    written = good if data is None else damaged(data, good)
    quick = outcome(Opening.from_bytes, written)
    with the_long_way(entries, "_OPENING"):
        assert outcome(Opening.from_bytes, written) == quick
    assert (written == good) <= quick.startswith("Opening(")


@pytest.mark.parametrize("index", [0, 2**53 - 1, 2**53, 2**60])
def test_an_opening_of_a_large_index(index: int):
    written = b'{"envelope":"QUJD","index":%d,"salt":"%s="}' % (index, b"A" * 43)
    quick = outcome(Opening.from_bytes, written)
    with the_long_way(entries, "_OPENING"):
        assert outcome(Opening.from_bytes, written) == quick
    assert quick.startswith("Opening(") == (index < 2**53)


@MANY
@given(st.data())
def test_an_envelope(world: World, data: st.DataObject):
    good = data.draw(st.sampled_from(world.openings())).envelope
    compare_envelopes(damaged(data, good))


@pytest.mark.parametrize("signatures", [0, 1, 8, 9])
def test_an_envelope_with_many_signatures(signatures: int):
    listed = [{"keyid": f"SHA256:{number}", "sig": "QUJD"} for number in range(signatures)]
    for found in (listed, listed[::-1], listed * 2):
        value = {"payload": "e30=", "payloadType": "a/b", "signatures": found}
        compare_envelopes(canonical(value))


@pytest.mark.parametrize("payload", ["W10=", "e30", "eyJhIjoxLjV9", "e30gIA==", "e31=", ""])
def test_an_envelope_around_another_payload(payload: str):
    listed = [{"keyid": "a", "sig": ""}]
    compare_envelopes(canonical({"payload": payload, "payloadType": "a/b", "signatures": listed}))


def compare_envelopes(data: bytes) -> None:
    quick = outcome(envelope.raw_open, data)
    with the_long_way(envelope, "_PLAIN"):
        assert outcome(envelope.raw_open, data) == quick


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**53 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(item, dict | list):
            yield from places(item, (*path, key))
        else:
            yield (*path, key)


def with_junk(data: st.DataObject, value: Any) -> Any:
    path = data.draw(st.sampled_from(list(places(value))))
    junk = data.draw(JUNK)
    if not path:
        return junk
    changed = json.loads(json.dumps(value))
    target = changed
    for step in path[:-1]:
        target = target[step]
    if data.draw(st.booleans()) and isinstance(target, dict):
        del target[path[-1]]
    else:
        target[path[-1]] = junk
    return changed


@MANY
@given(st.data())
def test_a_statement_of_any_kind(world: World, data: st.DataObject):
    statement: Statement = data.draw(st.sampled_from(list(world.statements.values())))
    good = statement.payload()
    assert type(statement).from_payload(good) == statement
    changed = with_junk(data, good)
    quick = outcome(type(statement).from_payload, changed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "_quick", never)
        assert outcome(type(statement).from_payload, changed) == quick


def never(_cls: type) -> Callable[[Any], Any]:
    def read(_value: Any) -> Any:
        raise StatementError

    return read


# Whole bundles.


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_bundle(world: World, data: st.DataObject):
    good = world.entries()[:6]
    raw = [item.to_bytes() for item in good]
    place = data.draw(st.integers(0, 5))
    raw[place] = damaged(data, raw[place])
    written = damaged(data, encode_bundle(raw)) if data.draw(st.booleans()) else encode_bundle(raw)
    compare_bundles(written, 6)


def test_a_bundle_whose_time_is_beyond_all_numbers(world: World):
    entry = world.entries()[0]
    late = entry.to_bytes().replace(str(entry.time).encode(), b"9007199254740992")
    compare_bundles(encode_bundle([late]), 1)
    compare_bundles(encode_bundle([late.replace(b"992", b"991")]), 1)


def test_a_bundle_of_entries_that_refer_on(world: World):
    entries_ = world.entries()
    raw = [item.to_bytes() for item in chain(entries_)]
    raw[-1] = raw[-1].replace(b'"references":[', b'"references":[999,')
    compare_bundles(encode_bundle(raw), len(raw))


@pytest.mark.parametrize("length", [65535, 65536, 65536 + 700])
def test_a_bundle_with_an_entry_longer_than_any_frame_says(world: World, length: int):
    entry = world.entries()[0].to_bytes()
    grown = entry.replace(b'"references":[', b'"references":[' + b"0," * 40_000)
    grown = grown[: grown.index(b"[") + 1] + grown[grown.index(b"[") + 1 + len(grown) - length :]
    assert len(grown) == length
    frame = (length & 0xFFFF).to_bytes(2, "big")
    compare_bundles(frame + grown, 1)
    compare_bundles(b"\xff\xff" + grown, 1)


def compare_bundles(data: bytes, width: int) -> None:
    quick, slow = Bundle(0), Bundle(0)
    leaves = _scan(quick, data, width)
    explained = _explain(slow, data, width)
    right = explained is not None and not slow.report.findings
    assert (leaves is not None) == right
    if right:
        assert (leaves, quick.previous, quick.times) == (explained, slow.previous, slow.times)
        assert (quick.chained, quick.report) == (slow.chained, slow.report)


def test_every_bundle_of_a_log_is_scanned(world: World, tmp_path: Path):
    folder = world.export(tmp_path / "x")
    size = world.log.size
    path = next((folder / "tile" / "entries").rglob(str(size)))
    assert _scan(Bundle(0), path.read_bytes(), size) is not None
