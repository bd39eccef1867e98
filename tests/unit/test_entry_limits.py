"""Entries and openings at the very ends of their ranges, and what exactly is said beyond them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.encoding import MAX_SAFE_INTEGER, b64encode, canonical
from ledger.entry import (
    MAX_ENTRY,
    MAX_OPENING,
    MAX_REFERENCES,
    Entry,
    Opening,
    commitment,
    refer_back,
)
from ledger.errors import EncodingError, EntryError, StatementError
from ledger.statements import KINDS
from ledger.statements.envelope import raw_open
from tests.world import World

ENTRY = Entry(7, bytes(range(32)), 5, "receipt", (1, None, 6), bytes(32))
OPENING = Opening(7, bytes(range(32)), b"envelope")
LAST = MAX_SAFE_INTEGER


def as_defined(entry: Entry) -> bytes:
    return canonical(
        {
            "v": 1,
            "time": entry.time,
            "references": list(entry.references),
            "previous": b64encode(entry.previous),
            "kind": entry.kind,
            "index": entry.index,
            "commitment": b64encode(entry.commitment),
        }
    )


@pytest.mark.parametrize(
    "entry",
    [
        ENTRY,
        *(replace(ENTRY, kind=kind) for kind in sorted(KINDS)),
        replace(ENTRY, references=()),
        replace(ENTRY, references=(None,)),
        replace(ENTRY, index=LAST),
        replace(ENTRY, time=LAST),
        replace(ENTRY, time=0),
        replace(ENTRY, index=0, references=()),
        replace(ENTRY, index=MAX_REFERENCES, references=tuple(range(MAX_REFERENCES))),
    ],
)
def test_what_is_written_is_what_is_defined_and_read_back(entry: Entry):
    assert entry.to_bytes() == as_defined(entry)
    assert Entry.from_bytes(as_defined(entry)) == entry


@pytest.mark.parametrize(
    "entry",
    [
        replace(ENTRY, kind="wish"),
        replace(ENTRY, kind='a "kind"'),
        replace(ENTRY, index=-1),
        replace(ENTRY, time=-1),
    ],
)
def test_what_nobody_reads_is_written_as_defined_too(entry: Entry):
    assert entry.to_bytes() == as_defined(entry)
    with pytest.raises(EntryError):
        Entry.from_bytes(entry.to_bytes())


@pytest.mark.parametrize("change", [{"index": LAST + 1}, {"time": LAST + 1}])
def test_numbers_end_where_json_readers_agree(change: dict[str, int]):
    with pytest.raises(EncodingError):
        replace(ENTRY, **change).to_bytes()  # type: ignore[arg-type]
    text = ENTRY.to_bytes()
    for name, value in change.items():
        old = b'"%s":%d' % (name.encode(), getattr(ENTRY, name))
        assert old in text
        text = text.replace(old, b'"%s":%d' % (name.encode(), value))
    with pytest.raises(EntryError):
        Entry.from_bytes(text)


def test_an_entry_may_fill_its_frame_and_no_more():
    room = MAX_ENTRY - len(replace(ENTRY, kind="").to_bytes())
    assert len(replace(ENTRY, kind="x" * room).to_bytes()) == MAX_ENTRY
    message = f"^entry 7 is longer than {MAX_ENTRY} bytes$"
    with pytest.raises(EntryError, match=message):
        replace(ENTRY, kind="x" * (room + 1)).to_bytes()


@pytest.mark.parametrize(
    ("references", "index", "holds"),
    [
        (b"", 0, True),
        (b"null", 0, True),
        (b"0", 0, False),
        (b"0", 1, True),
        (b"null,3,2", 4, True),
        (b"null,3,2", 3, False),
        (b",".join([b"0"] * MAX_REFERENCES), 1, True),
        (b",".join([b"0"] * (MAX_REFERENCES + 1)), 1, False),
    ],
)
def test_references_lead_back(references: bytes, index: int, holds: bool):  # noqa: FBT001
    assert refer_back(references, index) is holds


def says(message: str) -> str:
    return f"^{re.escape(message)}$"


FIELDS = "an entry has exactly the fields commitment, index, kind, previous, references, time, v"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"more": 1}, FIELDS),
        ({"v": 2}, "unknown version of entry; a newer verifier may read it"),
        ({"kind": "w" * 50}, f"unknown kind of entry: {'w' * 40!r}"),
        ({"kind": 5}, "unknown kind of entry: '5'"),
        ({"index": -1}, "index is not a whole number from 0 up"),
        ({"time": -1}, "time is not a whole number from 0 up"),
        ({"previous": "AA=="}, "previous has not 32 bytes"),
        ({"commitment": "AA=="}, "commitment has not 32 bytes"),
        ({"previous": 5}, "expected text"),
        ({"references": 5}, f"references are a list of at most {MAX_REFERENCES}"),
        ({"references": ["1"]}, "reference is not a whole number from 0 up"),
        ({"references": [7]}, "entry 7 refers to itself or to a later entry"),
        (
            {"references": [7] * MAX_REFERENCES},
            "entry 7 refers to itself or to a later entry",
        ),
        (
            {"previous": "A"},
            "malformed entry: not standard base64 (RFC 4648, section 4)",
        ),
    ],
)
def test_the_field_that_is_wrong_is_named(change: dict[str, object], message: str):
    data = canonical(json.loads(ENTRY.to_bytes()) | change)
    with pytest.raises(EntryError, match=says(message)):
        Entry.from_bytes(data)


def opening_of(**change: object) -> bytes:
    return canonical(OPENING.to_json() | change)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "an opening has index, salt and envelope, no more"),
        (opening_of(more=1), "an opening has index, salt and envelope, no more"),
        (opening_of(index=-1), "index is not a whole number from 0 up"),
        (opening_of(index=True), "index is not a whole number from 0 up"),
        (opening_of(salt=5), "expected text"),
        (
            opening_of(salt="?"),
            "malformed opening: not standard base64 (RFC 4648, section 4)",
        ),
        (
            opening_of(envelope="AB=="),
            "malformed opening: base64 is not canonical: padding or unused bits are wrong",
        ),
    ],
)
def test_what_is_wrong_with_an_opening_is_said(data: bytes, message: str):
    assert Opening.from_bytes(OPENING.to_bytes()) == OPENING
    with pytest.raises(EntryError, match=says(message)):
        Opening.from_bytes(data)


def test_an_opening_is_read_up_to_its_last_index_and_byte():
    last = replace(OPENING, index=LAST)
    assert Opening.from_bytes(last.to_bytes()) == last
    beyond = last.to_bytes().replace(str(LAST).encode(), str(LAST + 1).encode())
    with pytest.raises(EntryError):
        Opening.from_bytes(beyond)
    empty = len(replace(OPENING, envelope=b"").to_bytes())
    # Base64 grows by four at a time; `index` takes up what is left over.
    fill, rest = divmod(MAX_OPENING - empty, 4)
    longest = Opening(7 * 10**rest, OPENING.salt, bytes(3 * fill))
    assert len(longest.to_bytes()) == MAX_OPENING
    assert Opening.from_bytes(longest.to_bytes()) == longest
    with pytest.raises(EntryError, match=f"longer than the {MAX_OPENING} allowed"):
        Opening.from_bytes(replace(longest, index=longest.index * 10).to_bytes())


def test_a_statement_is_revealed_with_its_envelope_taken_apart(tmp_path: Path):
    world = World(tmp_path / "world", providers=1)
    entries, openings = world.entries(), world.openings()
    for entry, opening in zip(entries, openings, strict=True):
        revealed, raw = opening.reveal_raw(entry)
        assert revealed == opening.reveal(entry)
        assert raw == raw_open(opening.envelope)
    first, second = openings[:2]
    cases = [
        (second, entries[0], "opening of entry 1 used for entry 0"),
        (
            replace(second, index=0),
            entries[0],
            "entry 0: the opening does not match the commitment",
        ),
        (
            first,
            replace(entries[0], kind="asset"),
            "entry 0 says asset, its statement differs",
        ),
    ]
    for opening, entry, message in cases:
        for reveal in (opening.reveal, opening.reveal_raw):
            with pytest.raises(EntryError, match=says(message)):
                reveal(entry)
    forged = Opening(0, bytes(32), b"{}")
    with pytest.raises(StatementError):
        forged.reveal_raw(replace(entries[0], commitment=commitment(bytes(32), b"{}")))


def test_a_salt_of_another_length_is_named():
    with pytest.raises(EntryError, match=says("a salt has 32 bytes, this one 31")):
        commitment(bytes(31), b"")
