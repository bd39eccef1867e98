"""Arguments and exit codes that the auditor's commands share."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NoReturn

from ledger.errors import InvalidKeyError
from ledger.keys import VerifyKey

USAGE_ERROR = 64  # EX_USAGE of sysexits.h; 2 already means incomplete evidence
MAX_KEY_FILE = 4096

EXIT_CODES_HELP = """\
exit codes:
  0   sound: everything that the export declares open was checked under the key you gave
      (with --structure-only: the structure holds, and nothing else was looked at)
  1   tampered: something is changed, forged or against the rules
  2   incomplete: nothing is false, but evidence is missing
  3   trust not met: no key from outside the folder vouches for it
  64  wrong usage, an unreadable key, or no such folder
"""
KEY_HELP = """the log's verifier key, or @FILE that holds it. Get it from somewhere else than the
folder: the operator's website, a contract, another party. The folder's own log.vkey proves
nothing, since whoever forged the folder wrote it too"""


class Parser(argparse.ArgumentParser):
    """Ends with 64 on wrong usage."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message to standard error and exit."""
        self.print_usage(sys.stderr)
        self.exit(USAGE_ERROR, f"{self.prog}: {message}\n")


def add_command(subparsers: Any, name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    """Add one subcommand, its examples and exit codes in `epilog`, and return its parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json` to a command that prints one object."""
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")


def complain(message: str) -> int:
    """Write one line to standard error and return the exit code of wrong usage."""
    sys.stderr.write(f"rongshu audit: {message}\n")
    return USAGE_ERROR


def key(text: str | None, folder: Path) -> VerifyKey | None:
    """Return the key that `--key` names, None where it was not given.

    Raises:
        InvalidKeyError: it is no key, cannot be read, or lies in the folder it is to vouch for.
    """
    if text is None:
        return None
    if text.startswith("@"):
        path = Path(text[1:])
        try:
            if path.resolve().is_relative_to(folder.resolve()):
                raise InvalidKeyError(
                    f"{path} lies in the folder that it is to vouch for; take the key from "
                    "elsewhere, or leave --key out to see what the folder claims"
                )
            with path.open("rb") as file:
                text = file.read(MAX_KEY_FILE).decode("utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "is not a text file"
            raise InvalidKeyError(f"{path}: {reason}") from None
    return VerifyKey.from_text(text.strip())
