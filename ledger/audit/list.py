"""List every use and refusal that an export opens: who, what, for which purpose, when."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from ledger.audit.arguments import EXIT_CODES_HELP, add_command
from ledger.audit.text import iso, money, table
from ledger.audit.verdict import findings, head, summary
from ledger.audit.verify import add_export_arguments, read_export
from ledger.errors import LedgerError
from ledger.history import History, Logged
from ledger.ids import short
from ledger.statements import Agreement, Asset, Job, Participant, Receipt, Settlement
from ledger.verify import Verdict

EXAMPLES = """\
examples:
  rongshu audit list out/export --key @log.vkey
  rongshu audit list out/export --json
"""


def add(subparsers: Any) -> None:
    """Add `rongshu audit list`."""
    parser = add_command(
        subparsers,
        "list",
        "list every use and refusal: who, what, for which purpose, when",
        f"{EXAMPLES}\n{EXIT_CODES_HELP}",
    )
    add_export_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List the uses and return the exit code of the verdict on the folder."""
    read = read_export(arguments)
    if isinstance(read, int):
        return read
    verdict, history = read
    lines = _list(verdict, history)
    if arguments.json:
        lines = iter([json.dumps(summary(verdict) | {"uses": list(_uses(history))})])
    for line in lines:
        sys.stdout.write(f"{line}\n")
    return verdict.exit_code


def _list(verdict: Verdict, history: History) -> Iterator[str]:
    yield from head(verdict)
    yield ""
    rows = [
        (
            use["time"],
            use["researcher"],
            use["asset"],
            use["task"],
            use["purpose"],
            use["state"] + (f": {use['reason']}" if use["reason"] else "") + _revoked(use),
            "" if use["price_cents"] is None else money(use["price_cents"]),
        )
        for use in _uses(history)
    ]
    if rows:
        names = ("when", "researcher", "asset", "task", "purpose", "state", "price")
        yield from table(names, rows)
    else:
        yield "no use and no refusal is open to you"
    yield from findings("findings", verdict.findings)
    yield from findings("missing", verdict.missing)


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
        "time": iso(logged.time),
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
        "revoked": receipt.job in history.revoked,
        "rows": receipt.rows,
        "price_cents": _price(history, receipt),
        "finding": history.broken.get(logged.id),
    }


def _revoked(use: dict[str, Any]) -> str:
    """Nothing was released of a revoked job, so what was completed of it used nothing up."""
    return ", revoked" if use["revoked"] and use["state"] == "completed" else ""


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
