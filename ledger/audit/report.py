"""Write a signed audit report with its page, or check one that somebody else wrote."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from ledger import durable
from ledger.audit.arguments import add_command, complain, key
from ledger.audit.exported import read_file
from ledger.audit.monitor import add_evidence_arguments, take_evidence
from ledger.audit.page import page
from ledger.audit.text import clean, reason
from ledger.audit.trust import add_trust_arguments, read_policy
from ledger.audit.verify import VIEWS_HELP, read_views
from ledger.encoding import canonical, sha256_text
from ledger.errors import (
    LedgerError,
    ReportError,
    SignatureError,
    StatementError,
)
from ledger.evidence import CANARIES, PLANTER, RESULTS, ROSTER, TAG_KEYS
from ledger.keys import SigningKey, VerifyKey
from ledger.manifest import FILE
from ledger.mirror import STATE, Mirror
from ledger.report import MAX_REPORT, open_report, payload_of, sign
from ledger.subject import of_export, of_state

REPORT, PAGE = "report.json", "report.html"

EXAMPLES = """\
examples:
  rongshu audit report out/export --key @log.vkey --sign-with auditor.key --out audit-2026
  rongshu audit report watch --policy policy --sign-with auditor.key --out audit-2026
  rongshu audit report --check audit-2026/report.json --auditor @auditor.vkey
  rongshu audit report out/export --key @log.vkey --check audit-2026/report.json \\
      --auditor @auditor.vkey
"""
EXITS = """\
exit codes, of the verdict in a report that was written:
  0   sound
  1   tampered
  2   incomplete
  3   trust not met
  64  wrong usage, an unreadable file, or no such folder
with --check:
  0   the auditor signed the report and, where a folder is given, it says the same again
  1   it was changed, somebody else signed it, or the folder gives another report
"""


def add(subparsers: Any) -> None:
    """Add `rongshu audit report`."""
    parser = add_command(
        subparsers,
        "report",
        "write a signed audit report, or check one",
        f"{EXAMPLES}\n{EXITS}",
    )
    parser.add_argument(
        "folder",
        metavar="FOLDER|STATE",
        type=Path,
        nargs="?",
        help="an exported folder, or the state folder of a monitor",
    )
    add_trust_arguments(parser, needed=False)
    parser.add_argument("--views", metavar="FILE", type=Path, help=VIEWS_HELP)
    add_evidence_arguments(parser)
    parser.add_argument(
        "--sign-with", metavar="FILE", type=Path, help="the auditor's signing key (mode 0600)"
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help=f"new folder for {REPORT} and {PAGE}"
    )
    parser.add_argument("--check", metavar="FILE", type=Path, help="a report to check")
    parser.add_argument(
        "--auditor", metavar="VKEY|@FILE", help="with --check: the key of the report's auditor"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write or check a report and return the exit code."""
    try:
        return _check(arguments) if arguments.check else _write(arguments)
    except (LedgerError, OSError) as error:
        return complain(clean(reason(error)))


def _write(arguments: argparse.Namespace) -> int:
    folder, out, secret = arguments.folder, arguments.out, arguments.sign_with
    if folder is None or out is None or secret is None:
        return complain("name the folder to report on, --sign-with and --out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        return complain(f"{clean(str(out))} is not an empty folder; name a new one")
    signer = SigningKey.load(secret)
    payload = _report_on(arguments, signer.verify_key, int(time.time() * 1000))
    data = sign(payload, signer)
    durable.replace(out / REPORT, data)
    durable.replace(out / PAGE, page(payload, sha256_text(data)).encode())
    verdict = payload["verdict"]
    told = {
        "report": str(out / REPORT),
        "page": str(out / PAGE),
        "digest": sha256_text(data),
        "status": verdict["status"],
        "exit_code": verdict["exit_code"],
        "findings": len(payload["findings"]),
        "missing": len(payload["missing"]),
    }
    _tell(arguments, told, f"{verdict['status']}: {out / REPORT} and {out / PAGE} are written")
    code: int = verdict["exit_code"]
    return code


def _check(arguments: argparse.Namespace) -> int:
    auditor = key(arguments.auditor, arguments.check.parent)
    if auditor is None:
        return complain("--check needs --auditor, the key of the auditor from elsewhere")
    data = read_file(arguments.check, MAX_REPORT)
    told: dict[str, Any] = {"digest": sha256_text(data), "signed": False, "reproduced": None}
    try:
        payload = open_report(data, auditor)
        told["signed"] = True
        if arguments.folder is not None:
            _reproduce(arguments, auditor, payload)
            told["reproduced"] = True
    except (SignatureError, StatementError, ReportError) as error:
        told |= {"exit_code": 1, "message": str(error)}
        if told["signed"]:
            told["reproduced"] = False
        _tell(arguments, told, f"NOT ACCEPTED: {error}")
        return 1
    again = ", and the folder says the same again" if told["reproduced"] else ""
    told |= {"exit_code": 0, "status": payload["verdict"]["status"]}
    _tell(
        arguments,
        told,
        f"signed by {auditor.name}{again}; its verdict: {payload['verdict']['status']}",
    )
    return 0


def _reproduce(arguments: argparse.Namespace, auditor: VerifyKey, payload: dict[str, Any]) -> None:
    again = _report_on(arguments, auditor, payload["made"])
    if canonical(again) == canonical(payload):
        return
    differing = sorted(name for name in {*again, *payload} if again.get(name) != payload.get(name))
    raise ReportError(f"this folder gives another report; it differs in {', '.join(differing)}")


def _tell(arguments: argparse.Namespace, told: dict[str, Any], sentence: str) -> None:
    line = json.dumps(told) if arguments.json else clean(sentence)
    sys.stdout.write(f"{line}\n")


# What the report is about.


def _report_on(arguments: argparse.Namespace, auditor: VerifyKey, made: int) -> dict[str, Any]:
    folder: Path = arguments.folder
    if not folder.is_dir():
        raise ReportError(f"{folder} is no folder; name an exported folder or a monitor's state")
    policy = read_policy(arguments, folder)
    if (folder / STATE).is_file() and not (folder / FILE).exists():
        if policy is None:
            raise ReportError("name the log's key or a policy: the state does not vouch for itself")
        if arguments.views is not None:
            raise ReportError("view keys open what an export encloses; give them to the monitor")
        with Mirror(folder) as mirror:
            return payload_of(of_state(mirror, policy), auditor=auditor, made=made)
    subject = of_export(
        folder,
        policy,
        processes=os.cpu_count() or 1,
        views=read_views(arguments.views, folder),
        take=lambda held: take_evidence(arguments, held),
        options=_options(arguments),
    )
    return payload_of(subject, auditor=auditor, made=made)


def _options(arguments: argparse.Namespace) -> list[str]:
    named = {
        TAG_KEYS: arguments.tag_keys,
        CANARIES: arguments.canaries,
        PLANTER: arguments.planter,
        ROSTER: arguments.roster,
        RESULTS: arguments.results,
    }
    given = [name for name, value in named.items() if value is not None]
    views = [] if arguments.views is None else ["views"]
    return views + ["journal"] * len(arguments.journal) + given
