"""A node's journal as a text: whole and chained, or refused by line."""

import itertools

import pytest

from ledger.encoding import canonical
from ledger.errors import JournalFormatError, SignatureError
from ledger.journal import (
    FINISH,
    HEADING,
    LAUNCH,
    JournalLine,
    end_of,
    first_head,
    next_head,
    read_journal,
    write_journal,
)
from ledger.statements import Counts
from tests.drafts import key_of

ASSET = "asset:" + 64 * "a"
NODE = key_of("node")


def lines(*items: tuple[str, dict[str, object]]) -> list[JournalLine]:
    made: list[JournalLine] = []
    head = first_head()
    for number, (kind, body) in enumerate(items, start=1):
        head = next_head(head, number, 1000 + number, kind, body)
        made.append(JournalLine(number, 1000 + number, kind, body, head))
    return made


LINES = lines(
    (LAUNCH, {"job": "one"}),
    ("decide", {"verdict": "granted"}),
    (FINISH, {"job": "one", "state": "completed"}),
    (FINISH, {"job": "two", "state": "refused"}),
    (LAUNCH, {"job": "three"}),
    (FINISH, {"job": "three", "state": "failed"}),
)
DATA = write_journal(ASSET, LINES, NODE, now=5)


def test_what_is_written_is_read_back():
    journal = read_journal(DATA)
    assert (journal.asset, list(journal.lines)) == (ASSET, LINES)
    journal.verify(NODE.verify_key)


def test_another_nodes_key_did_not_sign():
    with pytest.raises(SignatureError):
        read_journal(DATA).verify(key_of("other-node").verify_key)


def test_an_empty_journal_is_a_journal():
    journal = read_journal(write_journal(ASSET, [], NODE, now=5))
    assert (journal.lines, journal.end.head) == ((), first_head())


def test_counts_are_those_of_the_lines():
    journal = read_journal(DATA)
    assert journal.counts(1, 6) == Counts(2, 1, 1, 1)
    assert journal.counts(2, 4) == Counts(0, 1, 0, 1)
    assert journal.counts(4, 3) == Counts(0, 0, 0, 0)


def test_lines_that_were_read_earlier_are_not_counted():
    place = end_of(write_journal(ASSET, LINES[:2], NODE, now=4))
    journal = read_journal(DATA, place)
    assert journal.counts(3, 6) == Counts(1, 1, 1, 1)
    with pytest.raises(JournalFormatError, match="line 2 of the journal was read before"):
        journal.counts(2, 6)


def test_heads_are_found_by_line():
    journal = read_journal(DATA)
    assert journal.head_at(0) == first_head()
    assert journal.head_at(6) == journal.end.head
    for wrong in (-1, 7):
        with pytest.raises(JournalFormatError, match="has 6 lines"):
            journal.head_at(wrong)


PARTS = DATA.splitlines(keepends=True)


@pytest.mark.parametrize("number", range(1, len(PARTS) - 1))
def test_a_missing_line_is_named(number: int):
    data = b"".join(part for place, part in enumerate(PARTS) if place != number)
    with pytest.raises(JournalFormatError):
        read_journal(data)


@pytest.mark.parametrize(
    ("one", "other"), list(itertools.combinations(range(1, len(PARTS) - 1), 2))
)
def test_lines_in_another_order_are_refused(one: int, other: int):
    parts = list(PARTS)
    parts[one], parts[other] = parts[other], parts[one]
    with pytest.raises(JournalFormatError, match=f"line {one}"):
        read_journal(b"".join(parts))


def test_every_changed_byte_is_found():
    for place in range(len(DATA)):
        data = bytearray(DATA)
        data[place] ^= 1
        with pytest.raises((JournalFormatError, SignatureError)):
            read_journal(bytes(data)).verify(NODE.verify_key)


def replaced(**changes: object) -> bytes:
    first = LINES[0]
    value = {
        "body": first.body,
        "head": first.head,
        "kind": first.kind,
        "sequence": 1,
        "time": first.time,
    }
    return PARTS[0] + canonical(value | changes) + b"\n" + b"".join(PARTS[2:])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEADING.encode(),
        HEADING.encode() + b"\n",
        PARTS[0] + b"\n",
        DATA[:-1],
        DATA + b"\n",
        b"another heading\n" + b"".join(PARTS[1:]),
        replaced(sequence=True),
        replaced(sequence="1"),
        replaced(time="1"),
        replaced(kind=1),
        replaced(kind="two\nlines"),
        replaced(body=[]),
        replaced(head=1),
        replaced(more=1),
        PARTS[0] + b"[]\n" + b"".join(PARTS[2:]),
        PARTS[0] + b"{ }\n" + b"".join(PARTS[2:]),
        b"".join(PARTS[:-1]) + b"{}\n",
    ],
)
def test_what_is_no_journal_is_refused(data: bytes):
    with pytest.raises(JournalFormatError):
        read_journal(data)


def test_a_shorter_journal_under_the_same_end_is_refused():
    with pytest.raises(JournalFormatError, match="signed for 6"):
        read_journal(b"".join((*PARTS[:-2], PARTS[-1])))


def test_an_end_signed_for_another_purpose_is_refused():
    from ledger.statements import envelope

    payload = read_journal(DATA).end.payload()
    other = envelope.sign(envelope.payload_type("receipt"), payload, NODE)
    with pytest.raises(JournalFormatError, match="signed as"):
        read_journal(b"".join(PARTS[:-1]) + other + b"\n")
