"""The first format of an export's manifest, which stays readable.

    rongshu/export-manifest/v1
    {"created":1795400539957,"files":[{"length":195,"path":"checkpoint","digest":"sha256:9f…"}],…}

It held its tables itself, so a note's million bytes bounded what one export could hold. No program
writes it any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ledger.errors import EncodingError, StatementError
from ledger.manifest import OPENED, Contents, File, Openness, Span, expected_files, read_text
from ledger.record import Record, not_negative, one_line
from ledger.tiles import WIDTH

HEADING = "rongshu/export-manifest/v1"
MAX_EXPORT = 1 << 30
"""Most bytes that the files of an export of this format have together."""


@dataclass(frozen=True)
class FirstManifest(Record):
    """What an export of the first format contains, and which entries it opens.

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
        if set(paths) != set(expected_files(self.size, self._openness())):
            raise StatementError(f"{where}.files: not the files of a log of {self.size} entries")

    def _openness(self) -> Openness:
        return Openness(self.size, ((OPENED, span.start, span.stop) for span in self.opened))

    def contents(self) -> Contents:
        """Return what the export contains.

        Raises:
            EncodingError: it lists more than is read.
        """
        total = sum(listed.length for listed in self.files)
        if total > MAX_EXPORT:
            # Whoever wrote the key that the folder claims wrote these lengths too.
            raise EncodingError(f"lists {total} bytes of files, at most {MAX_EXPORT} are read")
        files = {item.path: (item.length, item.digest) for item in self.files}
        return Contents(
            1, self.origin, self.size, self.created, self.scope, files, self._openness()
        )


def read_first_manifest(text: str) -> FirstManifest:
    """Return the manifest of the first format that a verified note holds.

    Raises:
        NoteError: it holds something else.
    """
    return read_text(text, HEADING, FirstManifest)
