"""How the auditor's commands write: tables, times, money, and names that cannot move the cursor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the rows of a table, the names first, columns aligned."""
    cells = [[clean(cell) for cell in row] for row in (names, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(names))]
    for row in cells:
        pairs = zip(row, widths, strict=True)
        yield "  " + "  ".join(cell.ljust(width) for cell, width in pairs).rstrip()


def iso(milliseconds: int) -> str:
    """Return Unix milliseconds as a moment in UTC, to the second."""
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds} ms"  # a dishonest log may name the year 100000
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def money(cents: int) -> str:
    """Return integer cents with two decimals."""
    return f"{cents // 100}.{cents % 100:02d}"


def clean(text: str) -> str:
    """Escape what could move the cursor or end the line: names come from the folder."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def reason(error: Exception) -> str:
    """Return one sentence about an error, with the file that the system names."""
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or 'cannot be read'}"
    return str(error)
