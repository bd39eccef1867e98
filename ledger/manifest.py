"""The signed table of contents of an export.

    rongshu/export-manifest/v1
    {"created":1795400539957,"files":[{"length":195,"path":"checkpoint","sha256":"9f…"}],…}

    — rongshu.example/log beEZ6…

Decides whether a text is one well-formed manifest; what the files hold is decided in
`ledger.verify`. A signed note by the log's key; its first line keeps it apart from a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from ledger import note
from ledger.encoding import canonical, parse
from ledger.errors import EncodingError, NoteError, StatementError
from ledger.keys import SigningKey, VerifyKey
from ledger.record import Record, hex_digest, not_negative, one_line
from ledger.tiles import WIDTH, Tile, layout

HEADING = "rongshu/export-manifest/v1"
FILE = "manifest"
CHECKPOINT = "checkpoint"
CLAIMED_KEY = "log.vkey"
# Most bytes that an export's files have together; a verifier holds them in memory.
MAX_EXPORT = 1 << 30


@dataclass(frozen=True)
class File(Record):
    """One file of the export: path below its folder, length in bytes, digest."""

    path: Annotated[str, one_line]
    length: Annotated[int, not_negative]
    digest: Annotated[str, hex_digest]


@dataclass(frozen=True)
class Span(Record):
    """Entries `start` to `stop`, exclusive."""

    start: Annotated[int, not_negative]
    stop: Annotated[int, not_negative]


@dataclass(frozen=True)
class Manifest(Record):
    """What an export contains, and which entries it opens.

    Attributes:
        size: entries of the log that are exported.
        scope: for whom the openings were chosen, in words.
        opened: spans of entries whose openings are there, in order, apart from each other.
        files: every file but the manifest itself, sorted by path.
    """

    origin: Annotated[str, one_line]
    size: Annotated[int, not_negative]
    created: Annotated[int, not_negative]
    scope: Annotated[str, one_line]
    opened: tuple[Span, ...]
    files: tuple[File, ...]

    def check(self, where: str) -> None:  # noqa: D102
        last = -1
        for span in self.opened:
            if not last < span.start < span.stop <= self.size:
                raise StatementError(f"{where}.opened: spans overlap, touch or leave the log")
            last = span.stop
        paths = [file.path for file in self.files]
        # Counted first: naming the files of a size that nobody could export would not end.
        if self.size // WIDTH > len(paths):
            raise StatementError(f"{where}.files: not the files of a log of {self.size} entries")
        if paths != sorted(set(paths)):
            raise StatementError(f"{where}.files: not sorted, or a path stands twice")
        if set(paths) != set(expected_files(self.size, self.opened)):
            raise StatementError(f"{where}.files: not the files of a log of {self.size} entries")

    def open_indexes(self) -> set[int]:
        """Return the index of every opened entry."""
        return {index for span in self.opened for index in range(span.start, span.stop)}

    def sign(self, key: SigningKey) -> bytes:
        """Return the manifest as a signed note.

        Raises:
            StatementError: it contradicts itself, or lists more than a verifier reads.
            NoteError: it is longer than a note may be.
        """
        payload = self.payload()
        type(self).from_payload(payload)
        body = canonical(payload).decode()
        return note.sign(f"{HEADING}\n{body}\n", [key])


def open_manifest(data: bytes, key: VerifyKey) -> Manifest:
    """Verify a signed manifest and return it.

    Raises:
        TrustError: not signed by this key.
        SignatureError: signed by this key, and changed since.
        NoteError: malformed.
    """
    text = note.open_note(data, [key]).text
    heading, _, body = text.partition("\n")
    if heading != HEADING:
        raise NoteError(f"the manifest does not begin with {HEADING}")
    try:
        return Manifest.from_payload(parse(body.removesuffix("\n").encode()))
    except (EncodingError, StatementError) as error:
        raise NoteError(f"malformed manifest: {error}") from error


def expected_files(size: int, opened: Iterable[Span]) -> list[str]:
    """Return the paths that an export of this size, with these openings, must have."""
    bundles = sorted(
        {
            number
            for span in opened
            for number in range(span.start // WIDTH, (span.stop - 1) // WIDTH + 1)
        }
    )
    return [
        CHECKPOINT,
        CLAIMED_KEY,
        *(tile.path for tile in layout(size)),
        *(openings_path(number) for number in bundles),
    ]


def openings_path(number: int) -> str:
    """Return the path of the openings that belong to entry bundle `number`."""
    return Tile(None, number, WIDTH).path.replace("tile/entries/", "openings/")


def spans(indexes: Iterable[int]) -> tuple[Span, ...]:
    """Return sorted indexes as the fewest spans."""
    found: list[Span] = []
    for index in sorted(set(indexes)):
        if found and found[-1].stop == index:
            found[-1] = Span(found[-1].start, index + 1)
        else:
            found.append(Span(index, index + 1))
    return tuple(found)
