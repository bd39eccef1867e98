"""What the commands' arguments have in common, and how their values are read.

A command is a parser with subcommands. Each subcommand has an example in its help and a function
that does the work:

    parser = commands("rongshu offer", "Offer assets under terms.")
    add = subcommand(parser, "add", "offer an asset", "rongshu offer add asset:3f… --price 12.00")
    add.set_defaults(run=_add)
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from ledger.errors import LedgerError
from ledger.keys import VerifyKey
from marketplace.errors import MarketplaceError

Subcommands = Any  # argparse keeps the type of its subparsers private
Run = Callable[[argparse.Namespace], int]


class ArgumentError(MarketplaceError):
    """An argument cannot be meant; the message names it."""

    default_code = "argument"


def parser_of(prog: str, description: str, example: str) -> argparse.ArgumentParser:
    """Return a parser whose help ends with an example."""
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def commands(
    prog: str, description: str, example: str
) -> tuple[argparse.ArgumentParser, Subcommands]:
    """Return a parser with room for subcommands, and that room."""
    parser = parser_of(prog, description, example)
    return parser, parser.add_subparsers(required=True, metavar="COMMAND")


def subcommand(
    into: Subcommands, name: str, run: Run, summary: str, example: str, more: str = ""
) -> argparse.ArgumentParser:
    """Add one subcommand: its work, a line about it, an example and, in the help, more about it."""
    parser: argparse.ArgumentParser = into.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.{' ' if more else ''}{more}",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def of_party(parser: argparse.ArgumentParser) -> None:
    """Add --home and --service: who acts, and where the service is."""
    parser.add_argument(
        "--home",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="the party's folder, as `rongshu enrol` made it (default: the current folder)",
    )
    parser.add_argument(
        "--service",
        metavar="URL",
        help="where the service is (default: as the folder says; for a market on one machine, "
        "where it is being served)",
    )


def as_json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")


def run(parser: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    """Parse arguments, do the work they ask for, and close what it opened (`arguments.exits`)."""
    arguments = parser.parse_args(argv)
    work: Run = arguments.run
    with ExitStack() as arguments.exits:
        return work(arguments)


def cents(field: str, text: str) -> int:
    """Read an amount such as 12 or 12.50 as cents.

    Raises:
        ArgumentError: anything else.
    """
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{2})?", text):
        raise ArgumentError(f"{field}: {text[:40]!r} is no amount such as 12 or 12.50")
    return int(Decimal(text) * 100)


def moment(field: str, text: str) -> int:
    """Read a day (which counts until it is over) or a time as Unix milliseconds.

    Raises:
        ArgumentError: neither 2030-12-31 nor 2030-12-31T12:00:00+00:00.
    """
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            found = datetime.combine(date.fromisoformat(text) + timedelta(days=1), time(), UTC)
        else:
            found = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise ArgumentError(f"{field}: {text[:40]!r} is no day such as 2030-12-31") from error
    if found.tzinfo is None:
        raise ArgumentError(f"{field}: a time needs its zone, such as +00:00")
    return int(found.timestamp() * 1000)


def words(text: str | None) -> list[str] | None:
    """Split a list such as age,sex,cp; None stays None."""
    return None if text is None else [word.strip() for word in text.split(",")]


def log_key(text: str, field: str = "--log-key") -> VerifyKey:
    """Read a log's verifier key, or @FILE that holds it.

    Raises:
        ArgumentError: it is none.
    """
    try:
        if text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8").strip()
        return VerifyKey.from_text(text)
    except (OSError, UnicodeDecodeError, LedgerError) as error:
        raise ArgumentError(f"{field}: {error}") from error


def table(field: str, path: Path | None, name: str) -> Mapping[str, Any]:
    """Read a TOML file: its table `name` if it has one, as scenario files do, else all of it.

    Raises:
        ArgumentError: it cannot be read.
    """
    if path is None:
        return {}
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ArgumentError(f"{field}: {path}: {error}") from error
    found = value.get(name, value)
    if not isinstance(found, dict):
        raise ArgumentError(f"{field}: {path}: {name} is no table")
    return found
