"""Check an exported ledger offline, and list who used what.

    rongshu audit verify FOLDER --key VKEY|@FILE [--json]
    rongshu audit list FOLDER [--key VKEY|@FILE] [--json]

Decides what an auditor is told and with which exit code; what is true of a folder is decided in
`ledger.verify`. Needs no network, no account and nothing but the folder and the log's key from
elsewhere.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from ledger.errors import InvalidKeyError, LedgerError
from ledger.history import History, Logged
from ledger.ids import short
from ledger.keys import VerifyKey
from ledger.statements import Agreement, Asset, Job, Participant, Receipt, Settlement
from ledger.verify import INCOMPLETE, SOUND, TAMPERED, UNTRUSTED, Finding, Verdict, read_and_verify

USAGE_ERROR = 64  # EX_USAGE of sysexits.h; 2 already means incomplete evidence
MAX_KEY_FILE = 4096

EXIT_CODES_HELP = """\
exit codes:
  0   sound: everything that the export declares open was checked under the key you gave
  1   tampered: something is changed, forged or against the rules
  2   incomplete: nothing is false, but evidence is missing
  3   trust not met: no key from outside the folder vouches for it
  64  wrong usage, an unreadable key, or no such folder
"""
VERIFY_EXAMPLES = """\
examples:
  rongshu audit verify out/export --key rongshu.example/log+1a2b3c4d+AZ…
  rongshu audit verify out/export --key @log.vkey
  rongshu audit verify out/export --key @log.vkey --json
"""
LIST_EXAMPLES = """\
examples:
  rongshu audit list out/export --key @log.vkey
  rongshu audit list out/export --json
"""
KEY_HELP = """the log's verifier key, or @FILE that holds it. Get it from somewhere else than the
folder: the operator's website, a contract, another party. The folder's own log.vkey proves
nothing, since whoever forged the folder wrote it too"""

VERDICTS = {
    SOUND: "SOUND: everything that this export opens was checked, and it holds.",
    TAMPERED: "TAMPERED: this export contains what is changed, forged or against the rules.",
    INCOMPLETE: "INCOMPLETE: nothing was found false, but evidence is missing.",
    UNTRUSTED: "TRUST NOT MET: no key from outside the folder vouches for this export.",
}
NO_KEY = (
    "No key was given, so this cannot be called sound: whoever forges a folder signs it with a",
    "key of their own and puts that key inside. Ask someone other than the sender for the log's",
    "verifier key, compare its fingerprint with the one above, and run again with --key.",
)


class _Parser(argparse.ArgumentParser):
    """Ends with 64 on wrong usage."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message to standard error and exit."""
        self.print_usage(sys.stderr)
        self.exit(USAGE_ERROR, f"{self.prog}: {message}\n")


def command(argv: list[str]) -> int:
    """Run `rongshu audit` and return its exit code; `--help` lists them."""
    try:
        arguments = build_parser().parse_args(argv)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else USAGE_ERROR
    folder: Path = arguments.folder
    if not folder.is_dir():
        return _complain(f"{_clean(str(folder))} is no folder; name the folder of an export")
    try:
        key = _key(arguments.key, folder)
    except InvalidKeyError as error:
        return _complain(f"--key: {error}")
    verdict, history = read_and_verify(folder, key)
    lines = _list(verdict, history) if arguments.what == "list" else _report(verdict)
    if arguments.json:
        uses = {"uses": list(_uses(history))} if arguments.what == "list" else {}
        lines = iter([json.dumps(_summary(verdict) | uses, ensure_ascii=True)])
    for line in lines:
        sys.stdout.write(f"{line}\n")
    return verdict.exit_code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `rongshu audit`."""
    parser = _Parser(
        prog="rongshu audit",
        description="Check an exported ledger offline, and list who used what.",
        epilog=EXIT_CODES_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(dest="what", metavar="verify|list", required=True)
    for name, summary, examples in (
        ("verify", "check a whole export and say what it is worth", VERIFY_EXAMPLES),
        ("list", "list every use and refusal: who, what, for which purpose, when", LIST_EXAMPLES),
    ):
        sub = subparsers.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"{examples}\n{EXIT_CODES_HELP}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.add_argument("folder", metavar="FOLDER", type=Path, help="the exported folder")
        sub.add_argument("--key", metavar="VKEY|@FILE", help=KEY_HELP)
        sub.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    return parser


def _complain(message: str) -> int:
    sys.stderr.write(f"rongshu audit: {message}\n")
    return USAGE_ERROR


def _key(text: str | None, folder: Path) -> VerifyKey | None:
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


def _summary(verdict: Verdict) -> dict[str, Any]:
    return asdict(verdict) | {"exit_code": verdict.exit_code}


def _report(verdict: Verdict) -> Iterator[str]:
    yield from _head(verdict)
    if verdict.participants:
        yield ""
        yield "participants (compare fingerprints with what they told you):"
        yield from _table(
            ("name", "roles", "key fingerprint"),
            ((p["name"], ", ".join(p["roles"]), p["fingerprint"]) for p in verdict.participants),
        )
    yield ""
    yield f"checked: {', '.join(_counted(verdict.checked)) or 'nothing'}"
    yield f"sealed:  {verdict.sealed} of {verdict.size} entries were not opened to you"
    if verdict.unchecked:
        yield f"         {verdict.unchecked} open entries rest on sealed ones: signatures checked,"
        yield "         but not every rule"
    yield from _findings("findings", verdict.findings)
    yield from _findings("missing", verdict.missing)


def _head(verdict: Verdict) -> Iterator[str]:
    yield VERDICTS[verdict.status]
    yield ""
    yield f"log:     {_clean(verdict.origin) or 'unknown'}"
    yield f"size:    {verdict.size} entries"
    yield f"root:    {verdict.root or 'unknown'}"
    whose = "the key you gave" if verdict.key_given else "the folder's own claim"
    yield f"log key: {verdict.key_fingerprint or 'unknown'} ({whose})"
    yield f"scope:   {_clean(verdict.scope) or 'unknown'}"
    if not verdict.key_given:
        yield ""
        yield from NO_KEY


def _counted(checked: Mapping[str, int]) -> Iterator[str]:
    for name, number in checked.items():
        if name == "settled_cents":
            yield f"{_money(number)} settled"
        else:
            yield f"{number} {name}{'' if name.endswith('s') or number == 1 else 's'}"


def _findings(title: str, findings: Sequence[Finding]) -> Iterator[str]:
    if findings:
        yield ""
        yield f"{title}:"
        for item in findings:
            yield f"  {_clean(item.where)}: {item.code}: {_clean(item.message)}"


def _list(verdict: Verdict, history: History) -> Iterator[str]:
    yield from _head(verdict)
    yield ""
    rows = [
        (
            use["time"],
            use["researcher"],
            use["asset"],
            use["task"],
            use["purpose"],
            use["state"] + (f": {use['reason']}" if use["reason"] else ""),
            "" if use["price_cents"] is None else _money(use["price_cents"]),
        )
        for use in _uses(history)
    ]
    if rows:
        names = ("when", "researcher", "asset", "task", "purpose", "state", "price")
        yield from _table(names, rows)
    else:
        yield "no use and no refusal is open to you"
    yield from _findings("findings", verdict.findings)
    yield from _findings("missing", verdict.missing)


def _uses(history: History) -> Iterator[dict[str, Any]]:
    """Yield one object for each receipt, in log order."""
    for logged in history.by_index.values():
        if isinstance(logged.statement, Receipt):
            yield _use(history, logged, logged.statement)


def _use(history: History, logged: Logged, receipt: Receipt) -> dict[str, Any]:
    job = _get(history, receipt.job, Job)
    asset = _get(history, receipt.asset, Asset)
    return {
        "index": logged.index,
        "time": _iso(logged.time),
        "researcher": _name(history, job.researcher) if job else "(unknown job)",
        "provider": _name(history, asset.provider) if asset else "(sealed)",
        "asset": asset.name if asset else short(receipt.asset),
        "asset_id": receipt.asset,
        "job": receipt.job,
        "job_name": job.name if job else None,
        "task": job.task if job else "(unknown job)",
        "purpose": job.purpose if job else "(unknown job)",
        "state": receipt.state,
        "reason": receipt.reason,
        "rows": receipt.rows,
        "price_cents": _price(history, receipt),
        "finding": history.broken.get(logged.id),
    }


def _price(history: History, receipt: Receipt) -> int | None:
    """What was billed for a use; None where nothing was."""
    bill = history.settled.get(receipt.job)
    if receipt.state != "completed" or bill is None or not isinstance(bill.statement, Settlement):
        return None
    for line in bill.statement.lines:
        agreement = _get(history, line.agreement, Agreement)
        if agreement is not None and agreement.asset == receipt.asset:
            return line.price_cents
    return None


def _get(history: History, statement_id: str, kind: type[Any]) -> Any:
    try:
        return history.get(statement_id, kind)
    except LedgerError:
        return None


def _name(history: History, participant: str) -> str:
    found = _get(history, participant, Participant)
    return found.name if found else short(participant)


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    cells = [[_clean(cell) for cell in row] for row in (names, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(names))]
    for row in cells:
        pairs = zip(row, widths, strict=True)
        yield "  " + "  ".join(cell.ljust(width) for cell, width in pairs).rstrip()


def _iso(milliseconds: int) -> str:
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds} ms"  # a dishonest log may name the year 100000
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _clean(text: str) -> str:
    """Escape what could move the cursor or end the line: names come from the folder."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
