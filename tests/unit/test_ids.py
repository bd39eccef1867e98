"""Content ids."""

import hashlib

import pytest

from ledger.errors import EncodingError
from ledger.ids import parse_id, short, statement_id


def test_an_id_is_the_hash_of_the_envelope():
    hexadecimal = hashlib.sha256(b"rongshu/statement-id/v1\0{}").hexdigest()
    assert statement_id("receipt", b"{}") == f"receipt:{hexadecimal}"
    assert parse_id(f"receipt:{hexadecimal}") == ("receipt", hexadecimal)
    assert short(f"receipt:{hexadecimal}") == f"receipt:{hexadecimal[:12]}"


def test_another_envelope_has_another_id():
    assert statement_id("receipt", b"{}") != statement_id("receipt", b"{ }")


@pytest.mark.parametrize("kind", ["", "Receipt", "re:ceipt", "réceipt", "a" * 33, "receipt\n"])
def test_a_kind_that_cannot_be_read_back_is_refused(kind: str):
    with pytest.raises(EncodingError):
        statement_id(kind, b"{}")


GOOD = "grant:" + "ab" * 32


@pytest.mark.parametrize(
    "text", ["", "grant", GOOD[:-1], GOOD + "0", GOOD.upper(), GOOD + "\n", " " + GOOD, GOOD[6:]]
)
def test_a_damaged_id_is_refused(text: str):
    assert parse_id(GOOD)
    with pytest.raises(EncodingError):
        parse_id(text)
    with pytest.raises(EncodingError):
        short(text)
