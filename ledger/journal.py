"""A node's journal as an auditor gets it: every launch, reply and end, gap-free and hash-chained.

    journal = read_journal(data)           # well formed, chained; the signature is not checked
    journal.verify(history.node_key(journal.asset))

Decides whether bytes are one unbroken journal, and who signed its end. Whether it agrees with the
log is decided in `ledger.reconcile`. Format: FORMATS.md, section "Journal".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from ledger.encoding import canonical, digest, parse
from ledger.errors import EncodingError, JournalFormatError, StatementError
from ledger.keys import SigningKey, VerifyKey
from ledger.record import Record, hex_digest, identifier, not_negative, one_line
from ledger.statements import Counts, envelope

NAMESPACE = "rongshu/journal/v1"
HEADING = "rongshu/journal-export/v1"
END_TYPE = envelope.payload_type("journal-end")
MAX_LINE = 1 << 16

RESERVE, LAUNCH, REPLY, FINISH, CLOSE = "reserve", "launch", "reply", "finish", "close"
"""Kinds of line that an auditor understands; others are counted and carried along."""


@dataclass(frozen=True)
class JournalLine:
    """One line.

    Attributes:
        sequence: 1, 2, 3, … without a gap.
        time: Unix milliseconds, by the node's clock.
        kind: `reserve`, `launch`, `reply`, `finish`, `close` or another word of the node's own.
        body: its details; JSON values.
        head: hash over this line and, through the head before it, all earlier ones.
    """

    sequence: int
    time: int
    kind: str
    body: dict[str, Any]
    head: str

    def to_bytes(self) -> bytes:
        """Return the line as canonical JSON, without the line break."""
        return canonical(
            {
                "body": self.body,
                "head": self.head,
                "kind": self.kind,
                "sequence": self.sequence,
                "time": self.time,
            }
        )


@dataclass(frozen=True)
class JournalEnd(Record):
    """What the node signs below its journal."""

    asset: Annotated[str, identifier("asset")]
    sequence: Annotated[int, not_negative]
    head: Annotated[str, hex_digest]
    issued: Annotated[int, not_negative]


@dataclass(frozen=True)
class Place:
    """Where a journal's first lines end.

    Attributes:
        sequence: how many lines there are up to here.
        head: hash that covers them.
        length: bytes of the export up to here, its heading included.
    """

    sequence: int
    head: str
    length: int


@dataclass(frozen=True)
class Journal:
    """A chained journal, and its end in an envelope that may be anybody's.

    Attributes:
        lines: all of them; or those after `before`.
        before: where those end that were read earlier, and are not among `lines`.
    """

    lines: tuple[JournalLine, ...]
    end: JournalEnd
    signature: bytes
    before: Place

    @property
    def asset(self) -> str:
        """The asset that the node guards."""
        return self.end.asset

    def verify(self, key: VerifyKey) -> None:
        """Return only if the node's key signed the end of exactly these lines.

        Raises:
            SignatureError: it did not.
        """
        envelope.open_(self.signature, END_TYPE, key)

    def counts(self, first: int, last: int) -> Counts:
        """Count launches and ends among lines `first` to `last`, as a close of these lines must.

        Raises:
            JournalFormatError: some of them were read earlier.
        """
        skipped = self.before.sequence
        if first <= skipped:
            raise JournalFormatError(f"line {first} of the journal was read before")
        return count(self.lines[first - 1 - skipped : last - skipped])

    def head_at(self, sequence: int) -> str:
        """Return the hash that covers the first `sequence` lines.

        Raises:
            JournalFormatError: there are fewer, or they were read earlier.
        """
        place = sequence - self.before.sequence
        if not 0 <= place <= len(self.lines):
            raise JournalFormatError(
                f"the journal has {self.end.sequence} lines, and {self.before.sequence} were read "
                f"before: there is no line {sequence}"
            )
        return self.lines[place - 1].head if place else self.before.head


def first_head() -> str:
    """Return the head of a journal without lines."""
    return "sha256:" + digest(NAMESPACE, b"").hex()


def next_head(previous: str, sequence: int, time: int, kind: str, body: dict[str, Any]) -> str:
    """Return the head after one more line."""
    line = {"body": body, "kind": kind, "previous": previous, "sequence": sequence, "time": time}
    return "sha256:" + digest(NAMESPACE, canonical(line)).hex()


def count(lines: Iterable[JournalLine]) -> Counts:
    """Count launches and ends."""
    launched = 0
    ends: Counter[str] = Counter()
    for line in lines:
        launched += line.kind == LAUNCH
        if line.kind == FINISH:
            ends[str(line.body.get("state"))] += 1
    return Counts(launched, ends["completed"], ends["failed"], ends["refused"])


def write_journal(asset: str, lines: Sequence[JournalLine], key: SigningKey, *, now: int) -> bytes:
    """Return a journal as one text, its end signed by the node.

    Args:
        asset: the asset that the node guards.
        lines: all of them, from the first.
        key: the node's.
        now: Unix milliseconds.
    """
    head = lines[-1].head if lines else first_head()
    end = JournalEnd(asset, len(lines), head, now)
    signed = envelope.sign(END_TYPE, end.payload(), key)
    parts = [HEADING.encode(), *(line.to_bytes() for line in lines), signed]
    return b"".join(part + b"\n" for part in parts)


def beginning() -> Place:
    """Return the place before the first line."""
    return Place(0, first_head(), len(HEADING) + 1)


def read_journal(data: bytes, after: Place | None = None) -> Journal:
    """Read a journal strictly and recompute its chain.

    Args:
        data: its bytes, from the first.
        after: lines that need not be read again; the caller knows that the bytes up to there are
            those of which this was the place.

    Raises:
        JournalFormatError: malformed, a line is missing or was changed; names the line.
    """
    heading, *_ = data[: len(HEADING) + 1].split(b"\n")
    before = after or beginning()
    *texts, end_text, rest = [b"", *data[before.length :].split(b"\n")]
    if heading != HEADING.encode() or len(texts) < 1 or rest:
        raise JournalFormatError(f"a journal begins with {HEADING} and ends in a signed line")
    lines: list[JournalLine] = []
    head = before.head
    for number, text in enumerate(texts[1:], start=before.sequence + 1):
        line = _read_line(text, number)
        head = next_head(head, number, line.time, line.kind, line.body)
        if line.head != head:
            raise JournalFormatError(f"line {number} of the journal does not continue its chain")
        lines.append(line)
    end, signature = _read_end(end_text)
    if (end.sequence, end.head) != (before.sequence + len(lines), head):
        raise JournalFormatError(
            f"the journal has {before.sequence + len(lines)} lines, its end is signed for "
            f"{end.sequence} or others"
        )
    return Journal(tuple(lines), end, signature, before)


def end_of(data: bytes) -> Place:
    """Return where the lines of a well-formed journal end, and its signed end begins.

    Raises:
        JournalFormatError: it does not end in a signed line.
    """
    length = data.rfind(b"\n", 0, -1) + 1
    end, _ = _read_end(data[length:-1])
    return Place(end.sequence, end.head, length)


def asset_of(data: bytes) -> str:
    """Return the asset that the signed end of a journal names; nothing else of it is read.

    Raises:
        JournalFormatError: it does not end in a signed line.
    """
    end, _ = _read_end(data[data.rfind(b"\n", 0, -1) + 1 : -1])
    return end.asset


def _read_line(text: bytes, number: int) -> JournalLine:
    try:
        value = parse(text, limit=MAX_LINE)
    except EncodingError as error:
        raise JournalFormatError(f"line {number} of the journal: {error}") from error
    names = {"body", "head", "kind", "sequence", "time"}
    if not isinstance(value, dict) or set(value) != names:
        raise JournalFormatError(f"line {number} of the journal has other fields")
    line = JournalLine(
        value["sequence"], value["time"], value["kind"], value["body"], value["head"]
    )
    if type(line.sequence) is not int or line.sequence != number:
        raise JournalFormatError(f"line {number} of the journal is missing")
    if type(line.time) is not int or not isinstance(line.kind, str):
        raise JournalFormatError(f"line {number} of the journal has no time or kind")
    if not isinstance(line.body, dict) or not isinstance(line.head, str):
        raise JournalFormatError(f"line {number} of the journal has no body or head")
    try:
        one_line(line.kind, "kind")
    except StatementError as error:
        raise JournalFormatError(f"line {number} of the journal: {error}") from error
    return line


def _read_end(text: bytes) -> tuple[JournalEnd, bytes]:
    try:
        raw = envelope.raw_open(text)
        end = JournalEnd.from_payload(raw.payload)
    except StatementError as error:
        raise JournalFormatError(f"the end of the journal: {error}") from error
    if raw.payload_type != END_TYPE:
        raise JournalFormatError(f"the end of the journal is signed as {raw.payload_type[:80]}")
    return end, text
