r"""Canonical bytes: one value, one encoding, one hash.

Decides which JSON bytes may be signed or hashed (RFC 8785, nothing else), what strict base64 is,
and how hashes for different purposes are kept apart. Does not decide what a value means.

    >>> canonical({"b": 1, "a": [0.5, "蓉"]})
    b'{"a":[0.5,"\xe8\x93\x89"],"b":1}'
    >>> parse(b'{"a":1}')
    {'a': 1}
    >>> parse(b'{"a": 1}')
    Traceback (most recent call last):
    ledger.errors.EncodingError: JSON is not canonical (RFC 8785), first difference at byte 5
"""

from __future__ import annotations

import binascii
import functools
import hashlib
import json
import math
import re
from decimal import Decimal
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, NoReturn

from ledger.errors import EncodingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

MAX_SAFE_INTEGER = 2**53 - 1
"""Largest integer that every JSON reader holds exactly (RFC 7493, section 2.2)."""

MAX_DEPTH = 128
"""Deepest nesting of lists and objects that is ever written; far below Python's recursion limit."""

# Strings are consumed whole, so that brackets inside them do not count. Possessive quantifiers
# keep the scan linear on input made to backtrack; an unclosed string runs to the end.
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"?+|[\[{]|[\]}]', re.DOTALL)


_PLAIN = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, check_circular=False, separators=(",", ":")
)
"""Canonical for values without floats and with ASCII text alone: there the order by code points is
that by UTF-16 units, and strings are escaped by the very function that `_quote` calls."""


def canonical(value: Any) -> bytes:
    """Encode a JSON value as RFC 8785 says.

    Args:
        value: None, bool, int, float, str, and lists, tuples and string-keyed mappings of these.

    Raises:
        EncodingError: for an integer beyond ±(2^53-1), NaN or infinity, a lone surrogate, a key
            that is no string, nesting deeper than `MAX_DEPTH`, or any other type. The message
            gives the place as a path such as `$.terms[2]`, never the value.
    """
    parts: list[str] = []
    try:
        _write(value, parts.append, 0)
    except _UnwritableError as error:
        raise EncodingError(str(error)) from None
    # Every string was checked where its path was known, so this cannot meet a surrogate.
    return "".join(parts).encode("utf-8")


def parse(data: bytes, *, limit: int = 1 << 20, depth: int = 32) -> Any:
    """Decode canonical JSON and refuse every other spelling of the same value.

    Integers beyond ±(2^53-1) are read as the double that RFC 8785 takes every number for, and are
    accepted only when that double is written with exactly these digits.

    Args:
        data: the whole input; trailing bytes are an error.
        limit: most bytes that are looked at.
        depth: deepest nesting, at most `MAX_DEPTH`.

    Raises:
        EncodingError: for anything that `canonical` would not have written.
    """
    if len(data) > limit:
        raise EncodingError(f"JSON of {len(data)} bytes is longer than the {limit} allowed")
    # Brackets inside strings are counted too, which sends a value the long way and no further.
    if data.count(b"{") + data.count(b"[") <= min(depth, MAX_DEPTH):
        try:
            return _parse_plain(data)
        except _NotPlainError:
            pass
    return _parse_any(data, depth)


class _NotPlainError(Exception):
    """Not what most statements are: canonical, ASCII, with whole numbers alone."""


def _parse_plain(data: bytes) -> Any:
    """Decode JSON that the standard library's encoder writes with these very bytes.

    With ASCII text and whole numbers alone those are the canonical ones: a repeated key, a space,
    an escape or another order would not be written again. Several times quicker than `_parse_any`.

    Raises:
        _NotPlainError: any other JSON, and what is no JSON.
    """
    try:
        text = data.decode("ascii")
        value, end = _PLAIN_DECODER.raw_decode(text)
    except (ValueError, EncodingError):
        raise _NotPlainError from None
    if end != len(text) or _PLAIN.encode(value) != text:
        raise _NotPlainError
    return value


def _parse_any(data: bytes, depth: int) -> Any:
    _check_depth(data, min(depth, MAX_DEPTH))
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_read_integer,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError as error:
        raise EncodingError(f"JSON is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise EncodingError(f"not JSON: {error.msg} at character {error.pos}") from None
    again = canonical(value)
    if again != data:
        place = next(
            (i for i, (a, b) in enumerate(zip(again, data, strict=False)) if a != b),
            min(len(again), len(data)),
        )
        raise EncodingError(f"JSON is not canonical (RFC 8785), first difference at byte {place}")
    return value


def b64encode(data: bytes) -> str:
    """Encode in standard base64 with padding (RFC 4648, section 4)."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def b64decode(text: str) -> bytes:
    """Decode standard base64, accepting only what `b64encode` writes.

    Raises:
        EncodingError: for whitespace, another alphabet, wrong padding or non-zero padding bits.
    """
    try:
        written = text.encode("ascii")
    except UnicodeEncodeError:
        raise EncodingError("not standard base64 (RFC 4648, section 4)") from None
    return b64decode_ascii(written)


def b64decode_ascii(text: bytes) -> bytes:
    """Decode standard base64 that stands in bytes, as strictly as `b64decode`.

    Raises:
        EncodingError: as `b64decode`.
    """
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise EncodingError("not standard base64 (RFC 4648, section 4)") from None
    # Several texts decode to the same bytes when unused bits are set; only one may be valid.
    if binascii.b2a_base64(data, newline=False) != text:
        raise EncodingError("base64 is not canonical: padding or unused bits are wrong")
    return data


def digest(namespace: str, data: bytes) -> bytes:
    """Hash for one purpose: SHA-256(namespace || 0x00 || data), 32 bytes.

    Raises:
        EncodingError: for a namespace that is empty, holds a NUL (which would let two namespaces
            meet) or is not encodable.
    """
    return hashlib.sha256(_prefix(namespace) + data).digest()


@functools.lru_cache(64)
def _prefix(namespace: str) -> bytes:
    if not namespace or "\0" in namespace:
        raise EncodingError("a hash namespace must be non-empty text without NUL")
    if not _is_text(namespace):
        raise EncodingError("the hash namespace holds a lone surrogate")
    return namespace.encode("utf-8") + b"\0"


def sha256_text(data: bytes) -> str:
    """Return the plain SHA-256 of file contents as `sha256:` and 64 hex digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


class _UnwritableError(Exception):
    """A value that JSON cannot hold: what is wrong, with `{}` for the place, found from the end."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.place: list[str] = []

    def __str__(self) -> str:
        return self.text.format("$" + "".join(reversed(self.place)))


def _write(value: Any, put: Callable[[str], None], depth: int) -> None:
    if isinstance(value, str):
        put(_quote(value))
    elif value is None or value is True or value is False:
        put({None: "null", True: "true", False: "false"}[value])
    elif isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise _UnwritableError("integer at {} is beyond 2^53-1; write it as a string")
        put(int.__repr__(value))
    elif isinstance(value, float):
        put(_ecmascript_number(value))
    elif depth >= MAX_DEPTH:
        raise EncodingError(f"value is nested deeper than {MAX_DEPTH} levels")
    elif isinstance(value, dict):
        _write_object(value, put, depth + 1)
    elif isinstance(value, (list, tuple)):
        _write_list(value, put, depth + 1)
    else:
        kind = type(value).__name__
        raise _UnwritableError(f"value at {{}} is a {kind}, which JSON cannot hold")


def _write_list(value: Sequence[Any], put: Callable[[str], None], depth: int) -> None:
    put("[")
    for index, item in enumerate(value):
        if index:
            put(",")
        try:
            _write(item, put, depth)
        except _UnwritableError as error:
            error.place.append(f"[{index}]")
            raise
    put("]")


def _write_object(value: Mapping[Any, Any], put: Callable[[str], None], depth: int) -> None:
    put("{")
    for index, key in enumerate(_sorted_keys(value)):
        put(f",{_quote(key)}:" if index else f"{_quote(key)}:")
        try:
            _write(value[key], put, depth)
        except _UnwritableError as error:
            error.place.append(f".{key}")
            raise
    put("}")


def _sorted_keys(keys: Iterable[Any]) -> list[str]:
    names: list[str] = []
    for key in keys:
        if not isinstance(key, str):
            raise _UnwritableError(f"a key at {{}} is a {type(key).__name__}, not a string")
        if not key.isascii() and not _is_text(key):
            raise _UnwritableError("a key at {} holds a lone surrogate")
        names.append(key)
    if all(map(str.isascii, names)):
        return sorted(names)
    # By UTF-16 code units (RFC 8785, section 3.2.3): U+1F600 comes before U+FB33.
    return sorted(names, key=lambda name: name.encode("utf-16-be"))


def _quote(text: str) -> str:
    if not text.isascii() and not _is_text(text):
        raise _UnwritableError("the string at {} holds a lone surrogate")
    # json escapes exactly what RFC 8785 section 3.2.2.2 lists: ", \\ and U+0000 to U+001F. This is
    # what `json.dumps` calls; making an encoder for each string took a fifth of a run's time.
    return encode_basestring(text)


def _is_text(text: str) -> bool:
    """Whether a string can be encoded: a lone surrogate cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _ecmascript_number(value: float) -> str:
    """Write a double as ECMA-262 Number::toString does (RFC 8785, section 3.2.2.3)."""
    if not math.isfinite(value):
        raise _UnwritableError("number at {} is not finite, which JSON cannot hold")
    if value == 0:
        return "0"
    # Python's repr gives the same shortest round-trip digits; only the layout differs, and not
    # even that from 1e-4 to 1e16, where repr writes no exponent.
    written = float.__repr__(value)
    if "e" not in written:
        return written.removesuffix(".0")
    sign, digit_tuple, scale = Decimal(written).as_tuple()
    digits = "".join(map(str, digit_tuple)).lstrip("0")
    point = len(digits) + int(scale)
    digits = digits.rstrip("0")
    minus = "-" if sign else ""
    if 0 < point <= 21:
        # At least 17 places before the point, and a double never needs more digits.
        return minus + digits.ljust(point, "0")
    if -6 < point <= 0:
        return f"{minus}0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{minus}{digits[0]}{fraction}e{point - 1:+d}"


def _check_depth(data: bytes, depth: int) -> None:
    """Refuse deep nesting before the recursive parser sees it."""
    level = 0
    for match in _STRING_OR_BRACKET.finditer(data):
        mark = match[0]
        if mark in (b"[", b"{"):
            level += 1
            if level > depth:
                raise EncodingError(
                    f"JSON is nested deeper than {depth} levels at byte {match.start()}"
                )
        elif mark in (b"]", b"}"):
            level -= 1


def _refuse_float(_text: str) -> NoReturn:
    raise _NotPlainError


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise EncodingError(f"JSON object has the key {key[:80]!r} twice")
        value[key] = item
    return value


def _read_integer(digits: str) -> int | float:
    # 17 characters hold every safe integer; longer ones must not reach int(), which is quadratic.
    if len(digits) <= 17:
        value = int(digits)
        if abs(value) <= MAX_SAFE_INTEGER:
            return value
    return float(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise EncodingError(f"JSON cannot hold {name}")


# Last, because its hooks stand above. It keeps the last of two equal keys, which `_PLAIN` then
# writes once: so `_parse_plain` refuses them without looking for them.
_PLAIN_DECODER = json.JSONDecoder(
    parse_float=_refuse_float, parse_int=_read_integer, parse_constant=_refuse_constant
)
