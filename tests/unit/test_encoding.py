"""Canonical JSON, strict base64, hashes for one purpose."""

import hashlib
import json
import struct
import time
from pathlib import Path

import pytest

from ledger.encoding import (
    MAX_DEPTH,
    MAX_SAFE_INTEGER,
    b64decode,
    b64encode,
    canonical,
    digest,
    parse,
    sha256_text,
)
from ledger.errors import EncodingError, LedgerError

JCS = Path(__file__).parents[1] / "vectors/ledger/jcs"
JCS_CASES = sorted(path.stem for path in (JCS / "input").glob("*.json"))


def test_all_six_jcs_cases_are_here():
    assert len(JCS_CASES) == 6


@pytest.mark.parametrize("case", JCS_CASES)
def test_jcs_case(case: str):
    value = json.loads((JCS / "input" / f"{case}.json").read_bytes())
    expected = (JCS / "output" / f"{case}.json").read_bytes()
    in_hex = bytes.fromhex((JCS / "outhex" / f"{case}.txt").read_text())
    assert canonical(value) == expected == in_hex
    assert canonical(parse(expected)) == expected


@pytest.mark.parametrize(
    ("bits", "written"),
    [
        ("4340000000000001", "9007199254740994"),
        ("4340000000000002", "9007199254740996"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("ffefffffffffffff", "-1.7976931348623157e+308"),
        ("41b3de4355555553", "333333333.3333332"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("4014000000000000", "5"),
        ("c0ac8c0000000000", "-3654"),
    ],
)
def test_doubles_are_written_as_ecmascript_does(bits: str, written: str):
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(value).decode() == written
    assert float(parse(canonical(value))) == value


def test_keys_are_sorted_by_utf16_code_units():
    # By code point U+FB33 would come first; as UTF-16 the emoji's surrogate D83D does.
    assert canonical({"\ufb33": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ufb33":1}'.encode()


@pytest.mark.parametrize(
    "value",
    [
        MAX_SAFE_INTEGER + 1,
        -MAX_SAFE_INTEGER - 1,
        float("nan"),
        float("inf"),
        "\ud800",
        {"\udfff": 1},
        {1: 2},
        b"bytes",
        {1, 2},
        pytest.param(object(), id="an object"),
    ],
    ids=repr,
)
def test_values_without_an_encoding_are_refused(value: object):
    with pytest.raises(EncodingError, match=r"\$\.outer\[1\]"):
        canonical({"outer": [0, value]})


def test_the_largest_safe_integers_are_accepted():
    assert canonical([MAX_SAFE_INTEGER, -MAX_SAFE_INTEGER]) == (
        b"[9007199254740991,-9007199254740991]"
    )


def test_the_caller_s_objects_stay_untouched():
    value = {"b": (1, 2), "a": {"y": None, "x": True}}
    assert canonical(value) == b'{"a":{"x":true,"y":null},"b":[1,2]}'
    assert list(value) == ["b", "a"]


def test_a_value_that_contains_itself_is_refused():
    value: list[object] = []
    value.append(value)
    with pytest.raises(EncodingError, match="deeper"):
        canonical(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" 1",
        b"1\n",
        b"01",
        b"+1",
        b"-0",
        b"-0.0",
        b"1.0",
        b"1e3",
        b"1E+21",
        b"0.10",
        b"1e999",
        b"9007199254740993",
        b"9" * 5000,
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b'{"a":1,"a":1}',
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b"[1,]",
        b"[1] [2]",
        b"'a'",
        b'"\\u0041"',
        b'"\\/"',
        b'"\\ud800"',
        b'"\xed\xa0\x80"',
        b'"\xc0\x80"',
        b'"\xff"',
        b"\xef\xbb\xbf1",
        b'"tab\there"',
        b'"open',
        b"\x00",
        '"é"'.encode("utf-16"),
    ],
    ids=repr,
)
def test_every_other_spelling_is_refused(data: bytes):
    with pytest.raises(EncodingError):
        parse(data)


def test_numbers_are_doubles_beyond_the_safe_integers():
    assert parse(b"9007199254740992") == float(2**53)
    assert isinstance(parse(b"9007199254740992"), float)
    assert isinstance(parse(b"9007199254740991"), int)


def test_size_and_depth_are_bounded_before_parsing():
    assert parse(b"[[1]]", depth=2, limit=5) == [[1]]
    with pytest.raises(EncodingError, match="deeper than 1"):
        parse(b"[[1]]", depth=1)
    with pytest.raises(EncodingError, match="longer than the 4"):
        parse(b"[[1]]", limit=4)
    with pytest.raises(EncodingError, match=f"deeper than {MAX_DEPTH}"):
        parse(b"[" * 500_000, depth=10**9)


def test_brackets_inside_strings_do_not_count():
    assert parse(b'["[[[[\\"[[[[","]]"]', depth=1) == ['[[[["[[[[', "]]"]


@pytest.mark.parametrize(
    "data",
    [b'"' + b'\\"' * 500_000, b'"' * 1_000_000, b'"' + b"\\" * 1_000_000, b"9" * 1_000_000],
    ids=["escaped quotes", "quotes", "backslashes", "digits"],
)
def test_damage_of_full_size_ends_quickly(data: bytes):
    started = time.perf_counter()
    with pytest.raises(EncodingError):
        parse(data)
    assert time.perf_counter() - started < 5


def test_base64_round_trip():
    for length in range(6):
        data = bytes(range(length))
        assert b64decode(b64encode(data)) == data


@pytest.mark.parametrize(
    "text",
    ["QQ", "QQ=", "QR==", "QUI", "QUJ=", "QQ==\n", " QQ==", "Q Q==", "-_8=", "QQ==QQ==", "é"],
)
def test_base64_in_another_spelling_is_refused(text: str):
    with pytest.raises(EncodingError):
        b64decode(text)


def test_digest_keeps_purposes_apart():
    assert digest("a", b"b") == hashlib.sha256(b"a\0b").digest()
    assert digest("a", b"bc") != digest("ab", b"c")
    assert sha256_text(b"") == "sha256:" + hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize("namespace", ["", "a\0b", "\ud800"])
def test_ambiguous_namespaces_are_refused(namespace: str):
    with pytest.raises(EncodingError):
        digest(namespace, b"")


def test_the_docstring_is_the_default_message():
    assert str(EncodingError()) == "The bytes are not the canonical encoding of any value."
    assert str(EncodingError("more exact")) == "more exact"
    assert issubclass(EncodingError, LedgerError)
