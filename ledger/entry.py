"""One log entry: what the public sees of a statement.

Decides whether bytes are one well-formed entry, and whether an opening belongs to it. Does not
decide whether the statement was allowed: `ledger.rules` does.

An entry shows the kind, the time, references to earlier entries and a salted commitment. The
statement itself and its salt (an `Opening`) are kept beside the log and shown by scope.
Format: FORMATS.md, section "Entry".
"""

from __future__ import annotations

import hmac
import re
from binascii import a2b_base64
from dataclasses import dataclass
from typing import Any, NoReturn

from ledger.encoding import (
    MAX_SAFE_INTEGER,
    b64decode,
    b64decode_ascii,
    b64encode,
    canonical,
    digest,
    parse,
)
from ledger.errors import EncodingError, EntryError
from ledger.statements import KINDS, Unverified, read
from ledger.statements.envelope import RawEnvelope, raw_open
from ledger.statements.registry import interpret

VERSION = 1
COMMITMENT_NAMESPACE = "rongshu/commitment/v1"
SALT_BYTES = 32
HASH_BYTES = 32
# tlog-tiles frames entries with a 16-bit length.
MAX_ENTRY = (1 << 16) - 1
MAX_REFERENCES = 1024
# The predecessor of the first entry.
NO_PREDECESSOR = bytes(HASH_BYTES)

_HASH = rb"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]="
_NUMBER = rb"(?:0|[1-9][0-9]{0,15})"
_REFERENCE = rb"(?:null|" + _NUMBER + rb")"
PATTERN = b"".join(
    (
        rb'\{"commitment":"(' + _HASH + rb')","index":(' + _NUMBER + rb'),"kind":"(',
        "|".join(sorted(KINDS)).encode(),
        rb')","previous":"(' + _HASH + rb')","references":\[((?:' + _REFERENCE + rb"(?:,",
        _REFERENCE + rb')*+)?)\],"time":(' + _NUMBER + rb'),"v":1\}',
    )
)
"""The canonical bytes of an entry: commitment, index, kind, previous, references, time. Numbers and
references still need to be in their ranges (`MAX_SAFE_INTEGER`, `refer_back`)."""
_ENTRY = re.compile(PATTERN)
_OPENING = re.compile(
    rb'\{"envelope":"([A-Za-z0-9+/]*={0,2})","index":('
    + _NUMBER
    + rb'),"salt":"('
    + _HASH
    + rb')"\}'
)
MAX_OPENING = 2 << 20
"""Most bytes of an opening."""


def refer_back(references: bytes, index: int) -> bool:
    """Whether references, written as in an entry, are not too many and all to earlier entries."""
    if not references:
        return True
    named = references.split(b",")
    if b"null" in named:
        named = [name for name in named if name != b"null"] or [b"-1"]
    return references.count(b",") < MAX_REFERENCES and max(map(int, named)) < index


def commitment(salt: bytes, envelope: bytes) -> bytes:
    """Return the 32-byte commitment to an envelope under a 32-byte salt.

    Raises:
        EntryError: the salt has another length.
    """
    if len(salt) != SALT_BYTES:
        raise EntryError(f"a salt has {SALT_BYTES} bytes, this one {len(salt)}")
    return digest(COMMITMENT_NAMESPACE, salt + envelope)


@dataclass(frozen=True)
class Entry:
    """One leaf of the log.

    Attributes:
        index: position in the log, from 0.
        previous: leaf hash of the entry before it (the hash chain); zeros for the first.
        time: when the sequencer made it, Unix milliseconds; never decreases along the log.
        kind: kind of the statement committed to.
        references: indexes of the entries it rests on; None where a refusal names a job that is
            not in the log, or has no grant.
        commitment: salted hash of the signed statement.
    """

    index: int
    previous: bytes
    time: int
    kind: str
    references: tuple[int | None, ...]
    commitment: bytes

    def to_bytes(self) -> bytes:
        """Return the leaf's bytes: canonical JSON.

        Raises:
            EntryError: longer than a tlog-tiles entry bundle can frame.
        """
        if self.kind in KINDS and 0 <= self.index <= MAX_SAFE_INTEGER >= self.time >= 0:
            # What `canonical` gives for the object below, without looking for it: the names are
            # in order, and nothing in them has to be escaped.
            references = ",".join(
                ["null" if index is None else f"{index:d}" for index in self.references]
            )
            data = (
                f'{{"commitment":"{b64encode(self.commitment)}","index":{self.index:d},'
                f'"kind":"{self.kind}","previous":"{b64encode(self.previous)}",'
                f'"references":[{references}],"time":{self.time:d},"v":{VERSION}}}'
            ).encode()
        else:
            data = self._canonical()
        if len(data) > MAX_ENTRY:
            raise EntryError(f"entry {self.index} is longer than {MAX_ENTRY} bytes")
        return data

    def _canonical(self) -> bytes:
        """Return the leaf's bytes as they are defined."""
        return canonical(
            {
                "commitment": b64encode(self.commitment),
                "index": self.index,
                "kind": self.kind,
                "previous": b64encode(self.previous),
                "references": list(self.references),
                "time": self.time,
                "v": VERSION,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Entry:
        """Read a leaf strictly.

        Raises:
            EntryError: not exactly one canonical entry of version 1.
        """
        entry = cls._match(data)
        if entry is None:
            _refuse(data)
        return entry

    @classmethod
    def _match(cls, data: bytes) -> Entry | None:
        """Read a leaf in one step; None where it is none, and `_refuse` says why."""
        match = _ENTRY.fullmatch(data)
        if match is None:
            return None
        committed, written, kind, previous, references, moment = match.groups()
        index, time = int(written), int(moment)
        if index > MAX_SAFE_INTEGER or time > MAX_SAFE_INTEGER or not refer_back(references, index):
            return None
        named = references.split(b",") if references else ()
        return cls(
            index=index,
            previous=a2b_base64(previous),
            time=time,
            kind=kind.decode(),
            references=tuple(None if name == b"null" else int(name) for name in named),
            commitment=a2b_base64(committed),
        )


def _refuse(data: bytes) -> NoReturn:
    """Say why bytes are no entry.

    Raises:
        EntryError: always.
    """
    names = {"commitment", "index", "kind", "previous", "references", "time", "v"}
    try:
        value = parse(data, limit=MAX_ENTRY)
        if not isinstance(value, dict) or set(value) != names:
            raise EntryError(f"an entry has exactly the fields {', '.join(sorted(names))}")
        if type(value["v"]) is not int or value["v"] != VERSION:
            raise EntryError("unknown version of entry; a newer verifier may read it")
        if not isinstance(value["kind"], str) or value["kind"] not in KINDS:
            raise EntryError(f"unknown kind of entry: {str(value['kind'])[:40]!r}")
        for name in ("index", "time"):
            _number(value[name], name)
        for name in ("previous", "commitment"):
            _check_hash(value[name], name)
        _check_references(value["references"])
    except EncodingError as error:
        raise EntryError(f"malformed entry: {error}") from error
    raise EntryError(f"entry {value['index']} refers to itself or to a later entry")


@dataclass(frozen=True)
class Opening:
    """The statement behind an entry, and the salt that ties it to the commitment."""

    index: int
    salt: bytes
    envelope: bytes

    def reveal(self, entry: Entry) -> Unverified:
        """Return the statement that the entry commits to; its signatures are not verified yet.

        Raises:
            EntryError: the opening is of another entry, another statement or another kind.
            StatementError: the statement is malformed.
        """
        self._check(entry)
        return self._fitting(read(self.envelope), entry)

    def reveal_raw(self, entry: Entry) -> tuple[Unverified, RawEnvelope]:
        """Return the statement as `reveal` does, with its envelope taken apart.

        Raises:
            EntryError, StatementError: as `reveal`.
        """
        self._check(entry)
        raw = raw_open(self.envelope)
        return self._fitting(interpret(raw, self.envelope), entry), raw

    def _check(self, entry: Entry) -> None:
        if self.index != entry.index:
            raise EntryError(f"opening of entry {self.index} used for entry {entry.index}")
        if not hmac.compare_digest(commitment(self.salt, self.envelope), entry.commitment):
            raise EntryError(f"entry {entry.index}: the opening does not match the commitment")

    @staticmethod
    def _fitting(opened: Unverified, entry: Entry) -> Unverified:
        if opened.statement.kind != entry.kind:
            raise EntryError(f"entry {entry.index} says {entry.kind}, its statement differs")
        return opened

    def to_bytes(self) -> bytes:
        """Return the opening as one line of canonical JSON, without the line break."""
        return canonical(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the opening as JSON values."""
        return {
            "envelope": b64encode(self.envelope),
            "index": self.index,
            "salt": b64encode(self.salt),
        }

    @classmethod
    def from_bytes(cls, data: bytes) -> Opening:
        """Read one opening strictly.

        Raises:
            EntryError: not exactly one canonical opening.
        """
        match = _OPENING.fullmatch(data) if len(data) <= MAX_OPENING else None
        try:
            # Such bytes are canonical JSON, if the base64 in them is.
            if match is not None and int(match[2]) <= MAX_SAFE_INTEGER:
                return cls(int(match[2]), a2b_base64(match[3]), b64decode_ascii(match[1]))
            return cls.from_json(parse(data, limit=MAX_OPENING))
        except EncodingError as error:
            raise EntryError(f"malformed opening: {error}") from error

    @classmethod
    def from_json(cls, value: Any) -> Opening:
        """Read one opening from a JSON value.

        Raises:
            EntryError: not exactly one opening.
        """
        if not isinstance(value, dict) or set(value) != {"envelope", "index", "salt"}:
            raise EntryError("an opening has index, salt and envelope, no more")
        try:
            salt, envelope = b64decode(_text(value["salt"])), b64decode(_text(value["envelope"]))
        except EncodingError as error:
            raise EntryError(f"malformed opening: {error}") from error
        return cls(_number(value["index"], "index"), salt, envelope)


def _number(value: Any, name: str) -> int:
    if type(value) is not int or value < 0:
        raise EntryError(f"{name} is not a whole number from 0 up")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise EntryError("expected text")
    return value


def _check_hash(value: Any, name: str) -> None:
    if len(b64decode(_text(value))) != HASH_BYTES:
        raise EntryError(f"{name} has not {HASH_BYTES} bytes")


def _check_references(value: Any) -> None:
    if not isinstance(value, list) or len(value) > MAX_REFERENCES:
        raise EntryError(f"references are a list of at most {MAX_REFERENCES}")
    for item in value:
        if item is not None:
            _number(item, "reference")
