"""How the fields of a message are written to JSON and read back.

Decides the form of one field; which fields a message has is said in `federated.messages`. A reader
raises ValueError with the reason, and never repeats what it read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ledger.encoding import b64decode, b64encode
from ledger.errors import EncodingError

FINISH_STATES: Final = ("completed", "failed")

_MAX_TEXT = 256
_COMMITMENT_BYTES = 32
_WORD_BYTES = 8
# A word, not a sentence: free text in a refusal would be a way out for data.
_REASON = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True)
class Form:
    """How one field is written to JSON and read back; `read` raises ValueError with the reason."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        raise ValueError(f"must be text of 1 to {_MAX_TEXT} characters")
    return value


def _text_or_empty(value: Any) -> str:
    return "" if value == "" else _text(value)


def _reason(value: Any) -> str:
    if not isinstance(value, str) or not _REASON.fullmatch(value):
        raise ValueError("must be one word of a-z, 0-9 and _")
    return value


def _finish_state(value: Any) -> str:
    if value not in FINISH_STATES:
        raise ValueError(f"must be one of {', '.join(FINISH_STATES)}")
    return str(value)


def _count_from(least: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        # bool is an int in Python, and true is not 1 in JSON.
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"must be an integer, at least {least}")
        return value

    return read


def _cohort(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError("must be a list of asset ids")
    names = tuple(_text(item) for item in value)
    if list(names) != sorted(set(names)):
        raise ValueError("must name each asset once, in ascending order")
    return names


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("must be an object")  # noqa: TRY004 - one kind of error for every form
    return value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str) or not value:
        raise ValueError("must be base64 of at least one byte")
    try:
        return b64decode(value)
    except EncodingError as error:
        raise ValueError(str(error)) from None


def _words(value: Any) -> bytes:
    data = _bytes(value)
    if len(data) % _WORD_BYTES:
        raise ValueError("must be base64 of whole 64-bit words")
    return data


def _commitment(value: Any) -> bytes:
    data = _bytes(value)
    if len(data) != _COMMITMENT_BYTES:
        raise ValueError(f"must be base64 of {_COMMITMENT_BYTES} bytes")
    return data


def _bytes_list(value: Any) -> tuple[bytes, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of base64 texts")
    return tuple(_bytes(item) for item in value)


def _bytes_by_name(value: Any) -> dict[str, bytes]:
    return {_text(name): _bytes(item) for name, item in _object(value).items()}


def _or_none(form: Form) -> Form:
    return Form(
        lambda value: None if value is None else form.write(value),
        lambda value: None if value is None else form.read(value),
    )


def _same(value: Any) -> Any:
    return value


TEXT = {"form": Form(_same, _text)}
TEXT_OR_EMPTY = {"form": Form(_same, _text_or_empty)}
WORD = {"form": Form(_same, _reason)}
STATE = {"form": Form(_same, _finish_state)}
ORDINAL = {"form": Form(_same, _count_from(1))}
COUNT = {"form": Form(_same, _count_from(0))}
COHORT = {"form": Form(list, _cohort)}
OBJECT = {"form": Form(dict, _object)}
BLOB = {"form": Form(b64encode, _bytes)}
COMMITMENT = {"form": Form(b64encode, _commitment)}
BLOB_OR_NONE = {"form": _or_none(BLOB["form"])}
WORDS_OR_NONE = {"form": _or_none(Form(b64encode, _words))}
BLOBS_OR_NONE = {"form": _or_none(Form(lambda items: [b64encode(i) for i in items], _bytes_list))}
BLOBS_BY_NAME = {
    "form": Form(lambda items: {k: b64encode(v) for k, v in items.items()}, _bytes_by_name)
}
