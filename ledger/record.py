"""Frozen dataclasses that read themselves from JSON strictly.

Decides whether a JSON object has exactly the fields of a record, each of its declared type.
Does not decide whether the values make sense together: each record's `check` does.

    @dataclass(frozen=True)
    class Line(Record):
        agreement: Annotated[str, identifier("agreement")]
        price_cents: Annotated[int, not_negative]

    Line.from_payload({"agreement": "agreement:9f…", "price_cents": 500})
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self, Union, get_args, get_origin

from ledger.errors import EncodingError, StatementError
from ledger.ids import parse_id

MAX_TEXT = 4096
MAX_ITEMS = 4096
PPM = 1_000_000

Parser = Callable[[Any, str], Any]
Check = Callable[[Any, str], None]


class Record:
    """A frozen dataclass that is written to JSON and read back from it, nothing lost or added."""

    def payload(self) -> dict[str, Any]:
        """Return the record as plain JSON values; nested records become objects."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {field.name: _plain(getattr(self, field.name)) for field in fields}

    @classmethod
    def from_payload(cls, value: Any, where: str = "") -> Self:
        """Read a record from an unverified JSON value.

        Args:
            value: what the JSON parser returned.
            where: path of this value inside the statement, for messages.

        Raises:
            StatementError: a field is missing, unknown or of the wrong type; names the field.
        """
        try:
            # Most records are right. Only for one that is not, the place of the fault is found.
            record: Self = _quick(cls)(value)  # type: ignore[arg-type]
        except StatementError:
            return cls._read(value, where)
        return record

    @classmethod
    def _read(cls, value: Any, where: str) -> Self:
        place = where or cls.__name__
        if not isinstance(value, Mapping):
            raise StatementError(f"{place}: expected an object")
        parsers = _parsers(cls)  # type: ignore[arg-type]
        for name in value:
            if name not in parsers:
                raise StatementError(f"{place}: unknown field {name!r}")
        missing = [name for name in parsers if name not in value]
        if missing:
            raise StatementError(f"{place}: field {missing[0]!r} is missing")
        record = cls(
            **{name: parse(value[name], f"{place}.{name}") for name, parse in parsers.items()}
        )
        record.check(place)
        return record

    def check(self, where: str) -> None:
        """Refuse values that are well typed but make no sense together.

        Raises:
            StatementError: naming the field.
        """


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.payload()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


@functools.cache
def _parsers(cls: type[Record]) -> dict[str, Parser]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: _parser(hints[field.name]) for field in dataclasses.fields(cls)}  # type: ignore[arg-type]


def _parser(hint: Any) -> Parser:
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *checks = get_args(hint)
        return functools.partial(_checked, _parser(inner), tuple(checks))
    if origin in (Union, types.UnionType):
        (inner,) = [option for option in get_args(hint) if option is not types.NoneType]
        return functools.partial(_optional, _parser(inner))
    if origin is tuple:
        return functools.partial(_items, _parser(get_args(hint)[0]))
    if origin is dict:
        return _free_object
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint._read  # noqa: SLF001 - of this very module
    return functools.partial(_scalar, hint)


def _checked(parse: Parser, checks: tuple[Check, ...], value: Any, where: str) -> Any:
    parsed = parse(value, where)
    for check in checks:
        check(parsed, where)
    return parsed


def _optional(parse: Parser, value: Any, where: str) -> Any:
    return None if value is None else parse(value, where)


def _items(parse: Parser, value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise StatementError(f"{where}: expected a list")
    if len(value) > MAX_ITEMS:
        raise StatementError(f"{where}: more than {MAX_ITEMS} items")
    return tuple(parse(item, f"{where}[{number}]") for number, item in enumerate(value))


def _scalar(expected: type, value: Any, where: str) -> Any:
    # bool is a subclass of int in Python, and never meant where a number is asked for.
    if type(value) is not expected:
        raise StatementError(f"{where}: expected {expected.__name__}, found {type(value).__name__}")
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise StatementError(f"{where}: longer than {MAX_TEXT} characters")
    return value


# The same once more without places: about five times quicker, and refusing without a reason.

Quick = Callable[[Any], Any]


@functools.cache
def _quick(cls: type[Record]) -> Quick:
    """Return a reader of what `_read` accepts; it raises StatementError for everything else."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = [(field.name, _quick_parser(hints[field.name])) for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    names = {name for name, _ in fields}

    def read(value: Any) -> Any:
        if type(value) is not dict or value.keys() != names:
            raise StatementError
        record = cls(**{name: parse(value[name]) for name, parse in fields})
        record.check("")
        return record

    return read


def _quick_parser(hint: Any) -> Quick:
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *checks = get_args(hint)
        return _quick_checked(_quick_parser(inner), checks)
    if origin in (Union, types.UnionType):
        (inner,) = [option for option in get_args(hint) if option is not types.NoneType]
        return functools.partial(_quick_optional, _quick_parser(inner))
    if origin is tuple:
        return functools.partial(_quick_items, _quick_parser(get_args(hint)[0]))
    if origin is dict:
        return functools.partial(_free_object, where="")
    if isinstance(hint, type) and issubclass(hint, Record):
        return _quick(hint)  # type: ignore[arg-type]
    return _quick_text if hint is str else functools.partial(_quick_scalar, hint)


def _quick_checked(parse: Quick, checks: list[Check]) -> Quick:
    def read(value: Any) -> Any:
        parsed = parse(value)
        for check in checks:
            check(parsed, "")
        return parsed

    return read


def _quick_optional(parse: Quick, value: Any) -> Any:
    return None if value is None else parse(value)


def _quick_items(parse: Quick, value: Any) -> tuple[Any, ...]:
    if type(value) is not list or len(value) > MAX_ITEMS:
        raise StatementError
    return tuple(map(parse, value))


def _quick_text(value: Any) -> str:
    if type(value) is not str or len(value) > MAX_TEXT:
        raise StatementError
    return value


def _quick_scalar(expected: type, value: Any) -> Any:
    if type(value) is not expected:
        raise StatementError
    return value


def _free_object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise StatementError(f"{where}: expected an object")
    _refuse_floats(value, where)
    return dict(value)


def _refuse_floats(value: Any, where: str) -> None:
    if isinstance(value, float):
        raise StatementError(
            f"{where}: a statement holds no floating-point number; write it as text"
        )
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise StatementError(f"{where}: a key is not text")
            _refuse_floats(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            _refuse_floats(item, f"{where}[{number}]")


# Checks for Annotated fields.


def not_negative(value: int, where: str) -> None:
    """Refuse a negative number."""
    if value < 0:
        raise StatementError(f"{where}: {value} is negative")


def positive(value: int, where: str) -> None:
    """Refuse zero and below."""
    if value <= 0:
        raise StatementError(f"{where}: {value} is not positive")


def parts_per_million(value: int, where: str) -> None:
    """Refuse what is not between 0 and 1,000,000."""
    if not 0 <= value <= PPM:
        raise StatementError(f"{where}: {value} is not between 0 and {PPM}")


def not_empty(value: str | tuple[Any, ...], where: str) -> None:
    """Refuse an empty text or list."""
    if not value:
        raise StatementError(f"{where}: is empty")


def one_line(value: str, where: str) -> None:
    """Refuse an empty text, line breaks and control characters: it will stand in a table."""
    if not value.strip() or not value.isprintable():
        raise StatementError(f"{where}: must be one line of printable text")


def hex_digest(value: str, where: str) -> None:
    """Refuse what is not `sha256:` and 64 lower-case hex digits."""
    prefix, _, digits = value.partition(":")
    if prefix != "sha256" or len(digits) != 64 or digits.strip("0123456789abcdef"):
        raise StatementError(f"{where}: expected sha256: and 64 hex digits")


def one_of(*words: str) -> Check:
    """Return a check that refuses any word but these."""

    def check(value: str, where: str) -> None:
        if value not in words:
            raise StatementError(f"{where}: {value!r} is none of {', '.join(words)}")

    return check


def identifier(*kinds: str) -> Check:
    """Return a check that refuses anything but the id of a statement of one of these kinds."""

    def check(value: str, where: str) -> None:
        try:
            kind, _ = parse_id(value)
        except EncodingError as error:
            raise StatementError(f"{where}: not a statement id") from error
        if kind not in kinds:
            raise StatementError(f"{where}: names a {kind}, expected {' or '.join(kinds)}")

    return check


def distinct(value: tuple[Any, ...], where: str) -> None:
    """Refuse a list that names something twice."""
    if len(set(value)) != len(value):
        raise StatementError(f"{where}: names something twice")
