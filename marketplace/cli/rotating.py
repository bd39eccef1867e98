"""Change the log's key; for the operator, while the service stands still."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from ledger.keys import SigningKey
from marketplace.cli import arguments as args
from marketplace.cli.arguments import ArgumentError
from marketplace.cli.operate import data, settings_of
from marketplace.cli.serve import stopped
from marketplace.cli.show import print_json, say
from marketplace.client import now_ms
from marketplace.database import open_database
from marketplace.log_key_change import LogKeyChange, change_log_key
from marketplace.settings import Settings

EXAMPLE = """\
rongshu ledger rotate --data data
  rongshu ledger rotate --data data --recovery-key /media/safe/log-recovery.key
  rongshu ledger rotate --data data --recovery-key log-recovery.key --lost @log.vkey"""
MORE = (
    "The present key signs that the new one follows it at the tree of now. Nodes, parties and "
    "auditors who know the old key follow by themselves; old exports stay valid. If the key was "
    "stolen or lost, the log's recovery key (`rongshu operator key --recovery`) decides. The "
    "service must be stopped. After a crash, run the same command again: it goes on with the same "
    "new key."
)


def add(into: args.Subcommands) -> None:
    """Add `rongshu ledger rotate`."""
    sub = args.subcommand(into, "rotate", _rotate, "change the log's key", EXAMPLE, MORE)
    data(sub)
    sub.add_argument(
        "--recovery-key",
        type=Path,
        metavar="FILE",
        help="the log's recovery key signs too; alone, where the present key is lost",
    )
    sub.add_argument(
        "--lost",
        metavar="VKEY|@FILE",
        help="with --recovery-key: the log's key file is gone; its verifier key, as you published "
        "it",
    )
    args.as_json(sub)


def _rotate(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments.data)
    if arguments.lost is not None and arguments.recovery_key is None:
        raise ArgumentError("--lost: only --recovery-key can sign in a lost key's place")
    if arguments.lost is not None and settings.log_key.exists():
        raise ArgumentError(f"--lost: {settings.log_key} is there; leave --lost out")
    lost = args.log_key(arguments.lost, "--lost") if arguments.lost is not None else None
    recovery = arguments.recovery_key and SigningKey.load(arguments.recovery_key)
    with ExitStack() as stack:
        stack.enter_context(stopped(settings.folder))
        engine = open_database(settings.where, settings.busy_seconds)
        stack.callback(engine.dispose)
        change = change_log_key(settings, engine, now_ms, recovery=recovery, lost=lost)
    _tell(settings, change, as_json=arguments.json)
    return 0


def _tell(settings: Settings, change: LogKeyChange, *, as_json: bool) -> None:
    old, new = change.succession.old, change.succession.new
    if as_json:
        print_json(
            {
                "log_key": new.text,
                "fingerprint": new.fingerprint,
                "old_log_key": old.text,
                "size": change.succession.head.size,
                "succession": str(change.file),
                "resumed": change.resumed,
            }
        )
        return
    if change.resumed:
        say("an earlier run had signed this change; it is complete now")
    say(f"from entry {change.succession.head.size} on the log signs with {new.text}")
    say(f"  {new.fingerprint}")
    say(f"the change, signed: {change.file}")
    say("Publish both beside the old key, then start the service: nodes and parties follow.")
    say("Witnesses: send them the new key, for `rongshu audit witness trust`.")
    say(f"The old key is gone from {settings.log_key.parent}. Destroy its copies, in backups too:")
    say("with one a thief can still mislead whoever has not seen the change.")
