"""How the commands print: aligned columns for people, one JSON value for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

# Characters of an id that people see and can type again.
SHOWN_DIGITS = 12


def clean(text: str) -> str:
    """Return a line free of what could move a terminal's cursor."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def say(text: str = "") -> None:
    """Print one line for people, free of what could move a terminal's cursor."""
    sys.stdout.write(clean(text) + "\n")


def aside(text: str) -> None:
    """Write one line beside the output, which may be piped."""
    sys.stderr.write(text + "\n")


def print_json(value: Any) -> None:
    """Print one JSON value on one line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=True) + "\n")


def rows(heads: Sequence[str], lines: Sequence[Sequence[Any]], none: str) -> None:
    """Print lines in aligned columns under their heads; `none` when there is no line."""
    if not lines:
        say(none)
        return
    texts = [list(heads), *([str(cell) for cell in line] for line in lines)]
    widths = [max(len(line[place]) for line in texts) for place in range(len(heads))]
    for line in texts:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        say("  ".join(padded).rstrip())


def short(statement_id: str | None) -> str:
    """Return an id as people see it."""
    if not statement_id:
        return "-"
    kind, _, digits = statement_id.partition(":")
    return f"{kind}:{digits[:SHOWN_DIGITS]}"


def money(amount_cents: int) -> str:
    """Return cents as units with two decimals."""
    sign = "-" if amount_cents < 0 else ""
    return f"{sign}{abs(amount_cents) // 100}.{abs(amount_cents) % 100:02d}"


def when(unix_ms: int | None) -> str:
    """Return a time, UTC."""
    if unix_ms is None:
        return "-"
    try:
        return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"{unix_ms} ms"
