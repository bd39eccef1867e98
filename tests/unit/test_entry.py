"""Entries and their openings: strict bytes, and a commitment that binds."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.encoding import b64encode, canonical, digest
from ledger.entry import (
    COMMITMENT_NAMESPACE,
    MAX_ENTRY,
    MAX_REFERENCES,
    NO_PREDECESSOR,
    Entry,
    Opening,
    commitment,
)
from ledger.errors import EntryError, StatementError
from ledger.statements import KINDS
from tests.world import World

ENTRY = Entry(7, bytes(range(32)), 1_767_225_600_000, "receipt", (1, None, 6), bytes(32))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"), providers=1)


@given(
    st.builds(
        Entry,
        index=st.integers(5, 2**53 - 1),
        previous=st.binary(min_size=32, max_size=32),
        time=st.integers(0, 2**53 - 1),
        kind=st.sampled_from(sorted(KINDS)),
        references=st.lists(st.none() | st.integers(0, 4), max_size=6).map(tuple),
        commitment=st.binary(min_size=32, max_size=32),
    )
)
def test_an_entry_round_trips(entry: Entry):
    assert Entry.from_bytes(entry.to_bytes()) == entry


def rewritten(change: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(ENTRY.to_bytes())
    change(value)
    return canonical(value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "malformed"),
        (b"{}", "exactly the fields"),
        (b"[]", "exactly the fields"),
        (ENTRY.to_bytes() + b" ", "malformed"),
        (ENTRY.to_bytes().replace(b":7", b": 7"), "malformed"),
        (b"[" * MAX_ENTRY, "malformed"),
        (b"x" * (MAX_ENTRY + 1), "longer than"),
        (rewritten(lambda value: value.update(more=1)), "exactly the fields"),
        (rewritten(lambda value: value.pop("time")), "exactly the fields"),
        (rewritten(lambda value: value.update(v=2)), "unknown version"),
        (rewritten(lambda value: value.update(v=True)), "unknown version"),
        (rewritten(lambda value: value.update(v="1")), "unknown version"),
        (rewritten(lambda value: value.update(kind="wish")), "unknown kind"),
        (rewritten(lambda value: value.update(kind=["offer"])), "unknown kind"),
        (rewritten(lambda value: value.update(index=-1)), "index is not a whole number"),
        (rewritten(lambda value: value.update(index=True)), "index is not a whole number"),
        (rewritten(lambda value: value.update(index=7.5)), "index is not a whole number"),
        (rewritten(lambda value: value.update(time="1")), "time is not a whole number"),
        (rewritten(lambda value: value.update(time=1e300)), "time is not a whole number"),
        (rewritten(lambda value: value.update(references={})), "references are a list"),
        (rewritten(lambda value: value.update(references=[True])), "reference is not a whole"),
        (rewritten(lambda value: value.update(references=[-1])), "reference is not a whole"),
        (rewritten(lambda value: value.update(references=[None, -1])), "reference is not a whole"),
        (rewritten(lambda value: value.update(references=[7])), "to itself or to a later entry"),
        (rewritten(lambda value: value.update(references=[8])), "to itself or to a later entry"),
        (rewritten(lambda value: value.update(references=[0] * (MAX_REFERENCES + 1))), "at most"),
        (rewritten(lambda value: value.update(previous=b64encode(bytes(31)))), "has not 32 bytes"),
        (rewritten(lambda value: value.update(previous=None)), "expected text"),
        (rewritten(lambda value: value.update(commitment="????")), "malformed"),
        (rewritten(lambda value: value.update(commitment="")), "has not 32 bytes"),
    ],
)
def test_what_is_no_entry_is_refused(data: bytes, message: str):
    assert Entry.from_bytes(ENTRY.to_bytes()) == ENTRY
    with pytest.raises(EntryError, match=message):
        Entry.from_bytes(data)


def test_an_unknown_kind_may_be_no_text_at_all():
    with pytest.raises(EntryError):
        Entry.from_bytes(rewritten(lambda value: value.update(kind={"a": 1})))


def test_an_entry_that_no_bundle_can_frame_is_not_written():
    with pytest.raises(EntryError, match="longer than"):
        replace(ENTRY, references=(10**15,) * 5_000).to_bytes()


def test_the_commitment_is_salted_and_namespaced():
    salt = bytes(range(32))
    assert commitment(salt, b"x") == digest(COMMITMENT_NAMESPACE, salt + b"x")
    assert commitment(salt, b"x") != commitment(bytes(32), b"x")
    # A salt of another length could move bytes between salt and statement.
    for length in (0, 31, 33):
        with pytest.raises(EntryError, match="a salt has 32 bytes"):
            commitment(bytes(length), b"x")


def test_an_opening_reveals_its_own_statement_alone(world: World):
    entries, openings = world.entries(), world.openings()
    for entry, opening in zip(entries, openings, strict=True):
        assert opening.reveal(entry).envelope == opening.envelope
        assert Opening.from_bytes(opening.to_bytes()) == opening
        assert Opening.from_json(opening.to_json()) == opening
    first, second = openings[:2]
    for opening, message in (
        (second, "used for entry 0"),
        (replace(second, index=0), "does not match the commitment"),
        (replace(first, envelope=second.envelope), "does not match the commitment"),
        (replace(first, salt=second.salt), "does not match the commitment"),
        (replace(first, salt=b""), "a salt has 32 bytes"),
    ):
        with pytest.raises(EntryError, match=message):
            opening.reveal(entries[0])
    with pytest.raises(EntryError, match="its statement differs"):
        first.reveal(replace(entries[0], kind="asset"))
    with pytest.raises(StatementError):
        Opening(0, bytes(32), b"{}").reveal(
            replace(entries[0], commitment=commitment(bytes(32), b"{}"))
        )
    assert entries[0].previous == NO_PREDECESSOR


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"envelope":"","index":0,"more":1,"salt":""}',
        b'{"envelope":"","index":-1,"salt":""}',
        b'{"envelope":"","index":"0","salt":""}',
        b'{"envelope":5,"index":0,"salt":""}',
        b'{"envelope":"","index":0,"salt":"!"}',
        b'{"index":0,"envelope":"","salt":""}',
        b"[" * 1_000_000,
    ],
)
def test_what_is_no_opening_is_refused(data: bytes):
    with pytest.raises(EntryError):
        Opening.from_bytes(data)
