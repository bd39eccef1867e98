"""The quick way through `parse` accepts exactly what the long way accepts."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import encoding
from ledger.encoding import canonical, parse
from ledger.errors import EncodingError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


class Never(json.JSONEncoder):
    """An encoder that never agrees, so that `parse` goes the long way."""

    def encode(self, o: Any) -> str:
        del o
        return ""


def outcome(data: bytes) -> str:
    try:
        return repr(parse(data))
    except EncodingError as error:
        return f"refused: {error}"


def both_ways(data: bytes) -> tuple[str, str]:
    quick = outcome(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_PLAIN", Never())
        return quick, outcome(data)


@given(VALUES, st.booleans(), st.booleans(), st.booleans())
def test_both_ways_agree_on_any_json(
    value: Any,
    ascii_only: bool,  # noqa: FBT001
    sort: bool,  # noqa: FBT001
    blanks: bool,  # noqa: FBT001
):
    text = json.dumps(
        value,
        ensure_ascii=ascii_only,
        sort_keys=sort,
        separators=(", ", ": ") if blanks else (",", ":"),
    )
    quick, slow = both_ways(text.encode("utf-8", "surrogatepass"))
    assert quick == slow


@pytest.mark.parametrize(
    "data",
    [
        b'{"b":1,"a":2}',
        b'{"a":1.0}',
        b'{"a":1e5}',
        b'{"a":9007199254740993}',
        b'{"a":12345678901234567890}',
        b'{"a":-0}',
        b'{"a":"\\u0041"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\/"}',
        b'{"a":"\x7f"}',
        b'{"a": 1}',
        b'{"a":1}\n',
        b'{"a":1,"a":1}',
        b"NaN",
    ],
)
def test_both_ways_agree_on_what_is_often_mistaken(data: bytes):
    quick, slow = both_ways(data)
    assert quick == slow


@given(VALUES)
def test_what_is_written_is_read(value: Any):
    try:
        data = canonical(value)
    except EncodingError:
        return
    quick, slow = both_ways(data)
    assert quick == slow
    assert canonical(parse(data)) == data
