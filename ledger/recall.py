"""A history that was read before, back in memory without reading it again.

    mirror.commit({"facts": facts_of(history)})
    history = recall(mirror, mirror.remembered["facts"])

What rules ask of the past is small: which key, which uses, which receipts. That is remembered as it
is; entries and statements are remembered by index alone, and read from the mirror when somebody
looks at them. So a recalled history costs some bytes an entry and no signature.

Decides how a history is written down and read back; every attribute that `History` has is, whatever
it is, or `facts_of` refuses. What is true is not decided here: it was, before it was recorded.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from binascii import a2b_base64
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, get_args, get_origin

from ledger.entry import Entry
from ledger.errors import EntryError, OtherVersionError, StateError
from ledger.history import History, Logged
from ledger.keys import VerifyKey
from ledger.mirror import Mirror
from ledger.record import Record
from ledger.statements import Statement
from ledger.statements.registry import BY_MEDIA_TYPE

# Read from the mirror, entry by entry.
_FROM_MIRROR = frozenset({"entries", "by_id", "by_index", "last_leaf"})
# Nor is what is found again by itself remembered.
_LEFT_OUT = _FROM_MIRROR | {"signers"}


class RecalledEntry(Entry):
    """An entry that is read when somebody looks at more than its index."""

    def __init__(self, mirror: Mirror, index: int) -> None:
        # A frozen dataclass sets its fields this way too.
        self.__dict__.update(_mirror=mirror, index=index)

    def __getattr__(self, name: str) -> Any:
        if name not in Entry.__dataclass_fields__:
            raise AttributeError(name)
        data, _ = self.__dict__["_mirror"].read(self.index)
        try:
            self.__dict__.update(vars(Entry.from_bytes(data)))
        except EntryError as error:
            raise StateError(f"entry {self.index} of the state folder: {error}") from error
        return self.__dict__[name]


class RecalledLogged(Logged):
    """A statement that is read when somebody looks at it; it was verified before."""

    def __init__(self, mirror: Mirror, entry: Entry, statement_id: str) -> None:
        self.__dict__.update(_mirror=mirror, _entry=entry, index=entry.index, id=statement_id)

    def __getattr__(self, name: str) -> Any:
        if name == "time":
            self.__dict__[name] = self.__dict__["_entry"].time
        elif name == "statement":
            _, line = self.__dict__["_mirror"].read(self.index)
            self.__dict__[name] = _statement(line, self.index)
        else:
            raise AttributeError(name)
        return self.__dict__[name]


def facts_of(history: History) -> dict[str, Any]:
    """Return what a history knows besides its entries, as JSON values.

    Raises:
        StateError: it knows something of a kind that cannot be written down.
    """
    held = {name: item for name, item in vars(history).items() if name not in _LEFT_OUT}
    return {name: _encode(item, history) for name, item in held.items()}


def recall(mirror: Mirror, facts: Mapping[str, Any]) -> History:
    """Return the history of the mirror's replayed entries.

    Args:
        mirror: holds the entries; is read as long as the history is used.
        facts: what `facts_of` returned when the last of them had been replayed.

    Raises:
        OtherVersionError: the facts are of another version of this program.
    """
    history = History()
    for index, statement_id in enumerate(mirror.ids()):
        entry = RecalledEntry(mirror, index)
        history.entries.append(entry)
        if statement_id is not None:
            logged = RecalledLogged(mirror, entry, statement_id)
            history.by_id[statement_id] = history.by_index[index] = logged
    for leaf in mirror.leaves(max(0, mirror.replayed - 1), mirror.replayed):
        history.last_leaf = leaf
    expected = set(vars(history)) - _LEFT_OUT
    if expected != set(facts):
        raise OtherVersionError(f"{mirror.folder} was written by another version of this program")
    for name, item in facts.items():
        setattr(history, name, _decode(item, history))
    return history


def _encode(value: Any, history: History) -> Any:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, str):
        named = history.by_id.get(value)
        return value if named is None else ["id", named.index]
    if isinstance(value, Counter | dict):
        pairs = [[_encode(k, history), _encode(v, history)] for k, v in value.items()]
        return ["counter" if isinstance(value, Counter) else "dict", pairs]
    name = _SEQUENCES.get(type(value))
    if name == "list":
        # Most of what is remembered are lists of statements: as indexes alone, at once.
        indexes = [item.index for item in value if _is_known(item, history)]
        if len(indexes) == len(value):
            return ["all", indexes]
    if name is not None:
        return [name, [_encode(item, history) for item in value]]
    return _encode_rarer(value, history)


def _is_known(value: Any, history: History) -> bool:
    return isinstance(value, Logged) and history.by_index.get(value.index) is value


_SEQUENCES: dict[type[Any], str] = {
    list: "list",
    tuple: "tuple",
    set: "set",
    frozenset: "frozenset",
}


def _encode_rarer(value: Any, history: History) -> Any:
    if isinstance(value, Logged):
        known = _is_known(value, history)
        return ["logged", value.index] if known else ["other", value.index, value.id]
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    if isinstance(value, Entry):
        return ["entry", value.index]
    if isinstance(value, VerifyKey):
        return ["key", value.text]
    if isinstance(value, Statement):
        return ["statement", value.media_type(), value.payload()]
    raise StateError(f"a {type(value).__name__} in a history cannot be remembered")


def _decode(value: Any, history: History) -> Any:
    if not isinstance(value, list):
        return value
    kind, *rest = value
    return _DECODERS[kind](history, *rest)


_DECODERS: dict[str, Callable[..., Any]] = {
    "id": lambda history, index: history.by_index[index].id,
    "bytes": lambda _, text: bytes.fromhex(text),
    "all": lambda history, indexes: [history.by_index[index] for index in indexes],
    "logged": lambda history, index: history.by_index[index],
    "other": lambda history, index, statement_id: RecalledLogged(
        history.entries[index].__dict__["_mirror"], history.entries[index], statement_id
    ),
    "entry": lambda history, index: history.entries[index],
    "key": lambda _, text: VerifyKey.from_text(text),
    "statement": lambda _, media_type, payload: _record(BY_MEDIA_TYPE[media_type], payload),
    "dict": lambda history, pairs: {_decode(k, history): _decode(v, history) for k, v in pairs},
    "counter": lambda history, pairs: Counter({_decode(k, history): v for k, v in pairs}),
    "list": lambda history, items: [_decode(item, history) for item in items],
    "tuple": lambda history, items: tuple(_decode(item, history) for item in items),
    "set": lambda history, items: {_decode(item, history) for item in items},
    "frozenset": lambda history, items: frozenset(_decode(item, history) for item in items),
}


# Statements that were verified before, without asking every rule of their format again.


def _statement(line: bytes, index: int) -> Statement:
    """Return the statement in an opening of the mirror.

    The mirror says that these are the bytes that were verified; so the parts are taken where the
    canonical forms of opening and envelope have them.
    """
    try:
        envelope = a2b_base64(line.split(b'"', 4)[3])
        _, _, _, body, _, _, _, media_type, _ = envelope.split(b'"', 8)
        kind = BY_MEDIA_TYPE[media_type.decode()]
        return _record(kind, json.loads(a2b_base64(body)))
    except (ValueError, LookupError, TypeError) as error:
        raise StateError(f"entry {index} of the state folder: its opening is unreadable") from error


S = TypeVar("S", bound=Record)


def _record(cls: type[S], payload: Mapping[str, Any]) -> S:
    record = cls.__new__(cls)
    held = dict(payload)
    for name, build in _builders(cls):  # type: ignore[arg-type]
        held[name] = build(held[name])
    record.__dict__.update(held)
    return record


@functools.cache
def _builders(cls: type[Record]) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    """Return the fields of a record that JSON holds otherwise, and what makes them."""
    hints = typing.get_type_hints(cls, include_extras=True)
    found = ((field.name, _builder(hints[field.name])) for field in dataclasses.fields(cls))  # type: ignore[arg-type]
    return tuple((name, build) for name, build in found if build is not None)


def _builder(hint: Any) -> Callable[[Any], Any] | None:
    """Return what makes a value of this type from JSON; None where JSON has it as it is."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _builder(arguments[0])
    if origin in (typing.Union, types.UnionType):
        (inner,) = [_builder(item) for item in arguments if item is not types.NoneType]
        return None if inner is None else functools.partial(_optional, inner)
    if origin is tuple:
        inner = _builder(arguments[0])
        return tuple if inner is None else functools.partial(_items, inner)
    if isinstance(hint, type) and issubclass(hint, Record):
        return functools.partial(_record, hint)
    return None


def _optional(build: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else build(value)


def _items(build: Callable[[Any], Any], value: Any) -> tuple[Any, ...]:
    return tuple(build(item) for item in value)
