"""Erase statements for good; for the operator, while the service stands still."""

from __future__ import annotations

import argparse
from collections import Counter
from contextlib import ExitStack

from ledger.errors import LedgerError
from ledger.keys import SigningKey
from ledger.log import Log
from ledger.publisher import only_writer
from ledger.sealing import Plan, log_erasure, of_job, plan, under
from marketplace import erasure
from marketplace.cli import arguments as args
from marketplace.cli.arguments import ArgumentError
from marketplace.cli.operate import data, settings_of
from marketplace.cli.serve import stopped
from marketplace.cli.show import print_json, say
from marketplace.client import now_ms
from marketplace.database import open_database
from marketplace.participants import bootstrap
from marketplace.settings import Settings
from marketplace.witnesses import cosigner

EXAMPLE = "rongshu ledger shred --data data --job job:3f… --cause 'retention period over' --yes"
MORE = (
    "Destroys salt and text of an agreement and of everything under it, or of one job and its "
    "grants, receipts, release and bill, with the keys that open their sealed openings. A `shred` "
    "entry says what is gone; all proofs stay valid. Agreements must have ended or been revoked. "
    "Without --yes it only shows what would go. The service must be stopped. Backups, exports and "
    "what parties and nodes keep are out of its reach."
)


def add(into: args.Subcommands) -> None:
    """Add `rongshu ledger shred`."""
    sub = args.subcommand(into, "shred", _shred, "erase statements for good", EXAMPLE, MORE)
    data(sub)
    what = sub.add_mutually_exclusive_group(required=True)
    what.add_argument("--agreement", metavar="ID", help="an agreement, with all that rests on it")
    what.add_argument("--job", metavar="ID", help="one job")
    sub.add_argument("--cause", required=True, metavar="TEXT", help="why; stands in the log")
    sub.add_argument("--yes", action="store_true", help="do it; it cannot be undone")
    args.as_json(sub)


def _shred(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments.data)
    with ExitStack() as stack:
        stack.enter_context(stopped(settings.folder))
        stack.enter_context(only_writer(settings.log_folder))
        engine = open_database(settings.where, settings.busy_seconds)
        stack.callback(engine.dispose)
        key = SigningKey.load(settings.log_key)
        cosign = cosigner(settings, key.verify_key, now_ms)
        log = Log(engine, key, settings.log_folder, now_ms, cosign=cosign)
        stack.callback(log.stop)
        found = plan(log.history, _asked(log, arguments), now_ms())
        logged: list[int] = []
        erased = 0
        if arguments.yes:
            operator = bootstrap.operator_key(settings, engine)
            if found.entries:
                logged = log_erasure(log, engine, found, operator, arguments.cause, now_ms())
            erased = erasure.finish(settings, engine, log)
        return _tell(arguments, settings, log, found, logged, erased)


def _asked(log: Log, arguments: argparse.Namespace) -> list[int]:
    kind = "agreement" if arguments.agreement else "job"
    named: str = arguments.agreement or arguments.job
    try:
        index = log.index_of(named)
    except LedgerError as error:
        raise ArgumentError(f"--{kind}: {error}") from None
    if log.history.entries[index].kind != kind:
        raise ArgumentError(f"--{kind}: this is the id of a {log.history.entries[index].kind}")
    return (under if kind == "agreement" else of_job)(log.history, index)


def _tell(
    arguments: argparse.Namespace,
    settings: Settings,
    log: Log,
    found: Plan,
    logged: list[int],
    erased: int,
) -> int:
    kinds = Counter(log.history.entries[index].kind for index in found.entries)
    if arguments.json:
        print_json(
            {
                "done": arguments.yes,
                "entries": list(found.entries),
                "kinds": dict(kinds),
                "kept": [{"entry": index, "reason": reason} for index, reason in found.kept],
                "shred_entries": logged,
                "erased": erased,
            }
        )
        return 0
    counted = ", ".join(f"{number} {kind}" for kind, number in kinds.items()) or "nothing"
    if arguments.yes:
        say(f"erased: {counted}; said so in entries {', '.join(map(str, logged)) or 'before'}")
        say(f"not reached: backups of {settings.folder}, exports, and what parties and nodes keep")
    else:
        say(f"would erase: {counted}; run again with --yes to do it, which cannot be undone")
    for index, reason in found.kept:
        say(f"  stays: entry {index} ({log.history.entries[index].kind}): {reason}")
    return 0
