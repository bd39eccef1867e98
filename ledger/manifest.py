"""The signed table of contents of an export.

    rongshu/export-manifest/v2
    {"created":1795400539957,"files":{"digest":"sha256:9f…","length":412},…,"spans":{…}}

    — rongshu.example/log beEZ6…

Decides whether a text is one well-formed manifest and whether its two tables (`files`: every file
with length and digest; `spans`: which entries are opened, sealed or erased) are those of a log of
its size. What the files hold is decided in `ledger.verify`. A signed note by the log's key; its
first line keeps it apart from a checkpoint. The first version, which held the tables itself, is
read by `ledger.first_manifest`.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeVar

from ledger import note
from ledger.encoding import canonical, parse, sha256_text
from ledger.errors import EncodingError, NoteError, StatementError
from ledger.keys import SigningKey
from ledger.record import Record, hex_digest, not_negative, one_line
from ledger.tiles import WIDTH, Tile, layout

HEADING = "rongshu/export-manifest/v2"
FILE = "manifest"
FILES = "files"
SPANS = "spans"
CHECKPOINT = "checkpoint"
CLAIMED_KEY = "log.vkey"
TAG_KEYS = "tag-keys"
JOURNALS = "journals"
SUCCESSION = "succession"

OPENED, SEALED, ERASED, CLOSED = "opened", "sealed", "erased", "closed"

MAX_SIZE = 1 << 24
"""Most entries of one export."""
MAX_FILES_TABLE = 32 << 20
MAX_SPANS_TABLE = 16 << 20
MAX_FILE = 64 << 20
"""Most bytes of any other file; a verifier holds a few of them in memory at a time."""
MAX_TOTAL = 32 << 30
"""Most bytes of all files together."""
MAX_NUMBERED = 1000
"""Most journals, and most successions."""

_FILE_LINE = re.compile(rb"([0-9a-f]{64}) (0|[1-9][0-9]{0,10}) ([a-z0-9./-]{1,99})\n")
_SPAN_LINE = re.compile(rb"(opened|sealed|erased) (0|[1-9][0-9]{0,8}) ([1-9][0-9]{0,8})\n")
_STATES = {OPENED: 1, SEALED: 2, ERASED: 3}
_NAMES = (CLOSED, OPENED, SEALED, ERASED)

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class File(Record):
    """One file of the export: path below its folder, length in bytes, digest."""

    path: Annotated[str, one_line]
    length: Annotated[int, not_negative]
    digest: Annotated[str, hex_digest]

    @classmethod
    def of(cls, path: str, data: bytes) -> File:
        """Return the line about a file with these contents."""
        return cls(path, len(data), sha256_text(data))


@dataclass(frozen=True)
class Span(Record):
    """Entries `start` to `stop`, exclusive."""

    start: Annotated[int, not_negative]
    stop: Annotated[int, not_negative]


@dataclass(frozen=True)
class Table(Record):
    """Length and digest of a table that stands in a file of its own."""

    length: Annotated[int, not_negative]
    digest: Annotated[str, hex_digest]

    @classmethod
    def of(cls, data: bytes) -> Table:
        """Return what the manifest says of a table with these contents."""
        return cls(len(data), sha256_text(data))


@dataclass(frozen=True)
class Manifest(Record):
    """What an export contains, by the digests of its two tables.

    Attributes:
        size: entries of the log that are exported.
        scope: for whom the openings were chosen, in words.
        files: the table of every file but the manifest and the tables.
        spans: the table of the entries that are not merely closed.
    """

    origin: Annotated[str, one_line]
    size: Annotated[int, not_negative]
    created: Annotated[int, not_negative]
    scope: Annotated[str, one_line]
    files: Table
    spans: Table

    def check(self, where: str) -> None:  # noqa: D102
        if self.size > MAX_SIZE:
            raise StatementError(f"{where}.size: {self.size} entries, at most {MAX_SIZE} are read")
        for name, table, limit in (
            (FILES, self.files, MAX_FILES_TABLE),
            (SPANS, self.spans, MAX_SPANS_TABLE),
        ):
            if table.length > limit:
                raise StatementError(f"{where}.{name}: longer than {limit} bytes")

    def sign(self, key: SigningKey) -> bytes:
        """Return the manifest as a signed note.

        Raises:
            StatementError: it contradicts itself, or is of more than a verifier reads.
        """
        payload = self.payload()
        type(self).from_payload(payload)
        body = canonical(payload).decode()
        return note.sign(f"{HEADING}\n{body}\n", [key])


def read_manifest(text: str) -> Manifest:
    """Return the manifest that a verified note holds.

    Raises:
        NoteError: it holds something else.
    """
    return read_text(text, HEADING, Manifest)


def read_text(text: str, heading: str, kind: type[R]) -> R:
    """Return the record that a verified note holds below the heading of a manifest's format.

    Raises:
        NoteError: it holds something else.
    """
    found, _, body = text.partition("\n")
    if found != heading:
        raise NoteError(f"the manifest does not begin with {heading}")
    try:
        return kind.from_payload(parse(body.removesuffix("\n").encode()))
    except (EncodingError, StatementError) as error:
        raise NoteError(f"malformed manifest: {error}") from error


class Openness:
    """Which entries of an export are opened, sealed or erased; all others are closed.

    Args:
        size: entries of the export.
        spans: state, start and stop (exclusive) of each run of entries in one state, in order.

    Raises:
        StatementError: spans overlap, leave the log, are not in order, or two could be one.
    """

    def __init__(self, size: int, spans: Iterable[tuple[str, int, int]] = ()) -> None:
        self.size = size
        # A hundred thousand spans as objects would take 20 MB; so they take 2.
        self._starts, self._stops, self._states = array("Q"), array("Q"), array("B")
        last, last_state = 0, ""
        for state, start, stop in spans:
            touches = start == last and state == last_state
            if not last <= start < stop <= size or touches:
                raise StatementError("spans overlap, touch or leave the log")
            self._starts.append(start)
            self._stops.append(stop)
            self._states.append(_STATES[state])
            last, last_state = stop, state

    @classmethod
    def of(
        cls,
        size: int,
        opened: Iterable[int],
        sealed: Iterable[int] = (),
        erased: Iterable[int] = (),
    ) -> Openness:
        """Return the fewest spans for these indexes, those beyond the log left out.

        Raises:
            StatementError: an entry is named in two states.
        """
        found = [
            (span.start, min(span.stop, size), state)
            for state, indexes in ((OPENED, opened), (SEALED, sealed), (ERASED, erased))
            for span in spans(indexes)
            if span.start < size
        ]
        return cls(size, ((state, start, stop) for start, stop, state in sorted(found)))

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        for start, stop, state in zip(self._starts, self._stops, self._states, strict=True):
            yield _NAMES[state], start, stop

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Openness) and (self.size, list(self)) == (other.size, list(other))

    __hash__ = None  # type: ignore[assignment]

    def spans(self, state: str) -> tuple[Span, ...]:
        """Return the runs of entries in one state."""
        return tuple(Span(start, stop) for name, start, stop in self if name == state)

    def count(self, state: str) -> int:
        """Return how many entries are in one state."""
        return sum(stop - start for name, start, stop in self if name == state)

    def within(self, start: int, stop: int) -> list[str]:
        """Return the state of each entry from `start` to `stop`, exclusive."""
        found = [CLOSED] * (stop - start)
        place = max(bisect_right(self._starts, start) - 1, 0)
        while place < len(self._starts) and self._starts[place] < stop:
            first, last = max(self._starts[place], start), min(self._stops[place], stop)
            if first < last:
                state = _NAMES[self._states[place]]
                found[first - start : last - start] = [state] * (last - first)
            place += 1
        return found

    def bundles(self, state: str) -> list[int]:
        """Return the numbers of the entry bundles that have an entry in this state."""
        found: list[int] = []
        for name, start, stop in self:
            if name == state:
                first = max(start // WIDTH, found[-1] + 1) if found else start // WIDTH
                found.extend(range(first, (stop - 1) // WIDTH + 1))
        return found


@dataclass(frozen=True)
class Contents:
    """What an export of any version contains: the verified manifest and its tables together.

    Attributes:
        version: of the manifest.
        files: every file but the manifest and the tables, by path.
        openness: which entries are opened, sealed or erased.
    """

    version: int
    origin: str
    size: int
    created: int
    scope: str
    files: Mapping[str, tuple[int, str]]
    openness: Openness

    def file(self, path: str) -> File:
        """Return what is listed about a file; KeyError where it is not listed."""
        length, digest = self.files[path]
        return File(path, length, digest)

    def numbered(self, folder: str) -> list[str]:
        """Return the paths in `journals` or `succession`, in order."""
        count = sum(path.startswith(f"{folder}/") for path in self.files)
        return [numbered_path(folder, number) for number in range(count)]


def read_tables(manifest: Manifest, files: bytes, spans: bytes) -> Contents:
    """Return the contents that two tables, which the manifest covers, describe.

    Raises:
        EncodingError: a table is malformed, or lists other files than an export of this size, with
            these spans, has.
    """
    openness = _read_spans(manifest.size, spans)
    listed = _read_files(files)
    _check_files(listed, manifest.size, openness)
    return Contents(
        2, manifest.origin, manifest.size, manifest.created, manifest.scope, listed, openness
    )


def files_table(files: Iterable[File]) -> bytes:
    """Write the table of files: digest, length and path of each, sorted by path."""
    lines = sorted((item.path, item.digest, item.length) for item in files)
    return b"".join(
        b"%s %d %s\n" % (digest.removeprefix("sha256:").encode(), length, path.encode())
        for path, digest, length in lines
    )


def spans_table(openness: Openness) -> bytes:
    """Write the table of spans: state, start and stop of each."""
    return b"".join(
        b"%s %d %d\n" % (state.encode(), start, stop) for state, start, stop in openness
    )


def _read_spans(size: int, data: bytes) -> Openness:
    try:
        return Openness(size, _span_lines(data))
    except StatementError as error:
        raise EncodingError(f"{SPANS}: {error}") from error


def _span_lines(data: bytes) -> Iterator[tuple[str, int, int]]:
    position, number = 0, 1
    for match in _SPAN_LINE.finditer(data):
        if match.start() != position:
            break
        yield match[1].decode(), int(match[2]), int(match[3])
        position, number = match.end(), number + 1
    if position != len(data):
        raise StatementError(f"line {number} is not state, start and stop")


def _read_files(data: bytes) -> dict[str, tuple[int, str]]:
    listed: dict[str, tuple[int, str]] = {}
    position, last, total = 0, "", 0
    for match in _FILE_LINE.finditer(data):
        if match.start() != position:
            break
        path, length = match[3].decode(), int(match[2])
        if path <= last:
            raise EncodingError(f"{FILES}: not sorted, or a path stands twice")
        if length > MAX_FILE:
            raise EncodingError(f"{FILES}: {path} has {length} bytes, at most {MAX_FILE} are read")
        listed[path] = length, f"sha256:{match[1].decode()}"
        position, last, total = match.end(), path, total + length
    if position != len(data):
        raise EncodingError(f"{FILES}: line {len(listed) + 1} is not digest, length and path")
    if total > MAX_TOTAL:
        raise EncodingError(f"{FILES}: lists {total} bytes, at most {MAX_TOTAL} are read")
    return listed


def _check_files(listed: Mapping[str, object], size: int, openness: Openness) -> None:
    # Counted first: naming the files of a size that nobody could export would not end.
    expected: set[str] = set()
    if size // WIDTH <= len(listed):
        expected = set(expected_files(size, openness))
    more = [path for path in listed if path not in expected]
    optional = {TAG_KEYS} & set(more)
    for folder in (JOURNALS, SUCCESSION):
        count = sum(path.startswith(f"{folder}/") for path in more)
        numbers = range(min(count, MAX_NUMBERED))
        optional.update(numbered_path(folder, number) for number in numbers)
    if expected - set(listed) or set(more) != optional:
        raise EncodingError(f"{FILES}: not the files of a log of {size} entries")


def expected_files(size: int, openness: Openness) -> Iterator[str]:
    """Yield the paths that an export of this size, with these spans, must have."""
    yield CHECKPOINT
    yield CLAIMED_KEY
    yield from (tile.path for tile in layout(size))
    yield from (openings_path(number) for number in openness.bundles(OPENED))
    yield from (sealed_path(number) for number in openness.bundles(SEALED))


def openings_path(number: int) -> str:
    """Return the path of the openings that belong to entry bundle `number`."""
    return numbered_path("openings", number)


def sealed_path(number: int) -> str:
    """Return the path of the encrypted openings that belong to entry bundle `number`."""
    return numbered_path("sealed", number)


def numbered_path(folder: str, number: int) -> str:
    """Return the path of file `number` in a folder, its digits in groups as those of tiles."""
    return Tile(None, number, WIDTH).path.replace("tile/entries", folder)


def spans(indexes: Iterable[int]) -> tuple[Span, ...]:
    """Return indexes as the fewest spans, in order."""
    if isinstance(indexes, range) and indexes.step == 1:
        return (Span(indexes.start, indexes.stop),) if indexes else ()
    found: list[Span] = []
    start = stop = -1
    for index in sorted(set(indexes)):
        if index != stop:
            if stop > start:
                found.append(Span(start, stop))
            start = index
        stop = index + 1
    if stop > start:
        found.append(Span(start, stop))
    return tuple(found)
