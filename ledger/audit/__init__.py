"""Check an exported ledger offline, and list who used what.

    rongshu audit verify FOLDER --key VKEY|@FILE [--json]
    rongshu audit list FOLDER [--key VKEY|@FILE] [--json]
    rongshu audit prove FOLDER INDEX [--disclose] --out FILE
    rongshu audit check-proof FILE --key VKEY|@FILE [--json]
    rongshu audit non-use make FOLDER --asset NAME --epoch N --out FILE
    rongshu audit non-use check FILE --key VKEY|@FILE [--json]
    rongshu audit fork VIEW VIEW --key VKEY|@FILE [--out FILE] [--json]
    rongshu audit monitor FOLDER|URL --state DIR --key VKEY|@FILE …
    rongshu audit report FOLDER|STATE --key VKEY|@FILE --sign-with FILE --out DIR
    rongshu audit witness init|trust|show|serve|cosign|request …

Decides what an auditor is told and with which exit code; what is true of a folder is decided in
`ledger.verify`. Needs no network, no account and nothing but the folder and the log's key from
elsewhere. One module a command: `add` declares its arguments, `run` does it.
"""

from __future__ import annotations

import argparse

from ledger.audit import check_proof, fork, monitor, non_use, prove, report, verify, witness
from ledger.audit import list as list_uses
from ledger.audit.arguments import EXIT_CODES_HELP, USAGE_ERROR, Parser

COMMANDS = (verify, list_uses, prove, check_proof, non_use, fork, witness, monitor, report)


def command(argv: list[str]) -> int:
    """Run `rongshu audit` and return its exit code; `--help` lists them."""
    try:
        arguments = build_parser().parse_args(argv)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else USAGE_ERROR
    code: int = arguments.run(arguments)
    return code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `rongshu audit`."""
    parser = Parser(
        prog="rongshu audit",
        description="Check an exported ledger offline, and list who used what.",
        epilog=EXIT_CODES_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(dest="what", metavar="COMMAND", required=True)
    for item in COMMANDS:
        item.add(subparsers)
    return parser
