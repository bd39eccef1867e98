"""Check a whole export and say what it is worth."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ledger.audit.arguments import EXIT_CODES_HELP, add_command, complain
from ledger.audit.text import clean, table
from ledger.audit.trust import add_trust_arguments, read_policy
from ledger.audit.verdict import counted, findings, head, summary
from ledger.errors import LedgerError
from ledger.history import History
from ledger.verify import Verdict, read_and_verify

EXAMPLES = """\
examples:
  rongshu audit verify out/export --key rongshu.example/log+1a2b3c4d+AZ…
  rongshu audit verify out/export --key @log.vkey
  rongshu audit verify out/export --policy policy
  rongshu audit verify out/export --key @log.vkey --json
"""


def add(subparsers: Any) -> None:
    """Add `rongshu audit verify`."""
    parser = add_command(
        subparsers,
        "verify",
        "check a whole export and say what it is worth",
        f"{EXAMPLES}\n{EXIT_CODES_HELP}",
    )
    add_export_arguments(parser)
    parser.set_defaults(run=run)


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every command over an export takes: the folder, whom to trust, and `--json`."""
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="the exported folder")
    add_trust_arguments(parser, needed=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Verify the folder, print the verdict and return its exit code."""
    read = read_export(arguments)
    if isinstance(read, int):
        return read
    verdict, _ = read
    lines = iter([json.dumps(summary(verdict))]) if arguments.json else report(verdict)
    for line in lines:
        sys.stdout.write(f"{line}\n")
    return verdict.exit_code


def read_export(arguments: argparse.Namespace) -> tuple[Verdict, History] | int:
    """Verify the folder that the arguments name; return an exit code where they are wrong."""
    folder: Path = arguments.folder
    if not folder.is_dir():
        return complain(f"{clean(str(folder))} is no folder; name the folder of an export")
    try:
        trusted = read_policy(arguments, folder)
    except LedgerError as error:
        return complain(clean(str(error)))
    return read_and_verify(folder, trusted)


def report(verdict: Verdict) -> Iterator[str]:
    """Yield everything a person is told of a verdict."""
    yield from head(verdict)
    if verdict.participants:
        yield ""
        yield "participants (compare fingerprints with what they told you):"
        yield from table(
            ("name", "roles", "key fingerprint"),
            ((p["name"], ", ".join(p["roles"]), p["fingerprint"]) for p in verdict.participants),
        )
    yield ""
    yield f"checked: {', '.join(counted(verdict.checked)) or 'nothing'}"
    yield f"sealed:  {verdict.sealed} of {verdict.size} entries were not opened to you"
    if verdict.unchecked:
        yield f"         {verdict.unchecked} open entries rest on sealed ones: signatures checked,"
        yield "         but not every rule"
    yield from findings("findings", verdict.findings)
    yield from findings("missing", verdict.missing)
