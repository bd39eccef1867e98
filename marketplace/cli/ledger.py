"""Write the log to a folder that an auditor can check offline; for the operator."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.export import Extras, export
from ledger.history import History
from ledger.keys import SigningKey
from ledger.log import Log
from ledger.manifest import SUCCESSION
from ledger.publisher import CHECKPOINT_FILE
from ledger.statements import Participant
from marketplace.cli import arguments as args
from marketplace.cli.operate import data, settings_of
from marketplace.cli.parties import pick
from marketplace.cli.show import print_json, say
from marketplace.client import now_ms
from marketplace.database import open_database
from marketplace.log_access import may_read
from marketplace.participants.access import Caller
from marketplace.settings import Settings

EXPORT = "rongshu ledger export audit-2026 --data data --for 'Auditor'"


def command(argv: list[str]) -> int:
    """Run `rongshu ledger …` and return its exit code."""
    parser, into = args.commands("rongshu ledger", "The log, for the operator.", EXPORT)
    sub = args.subcommand(
        into,
        "export",
        _export,
        "write the log to a new folder, for `rongshu audit`",
        EXPORT,
        "Every entry is in it; statements are opened for whom --for names, and sealed otherwise. "
        "The service may run meanwhile. Hand the log's key (`rongshu operator key`) over by "
        "another way than the folder.",
    )
    sub.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    data(sub)
    sub.add_argument(
        "--for",
        dest="reader",
        metavar="PARTICIPANT",
        help="its name or id; it gets what it may see, an auditor everything (default: everything)",
    )
    args.as_json(sub)
    return args.run(parser, argv)


def _export(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments.data)
    key = SigningKey.load(settings.log_key)
    with _snapshot(settings, key) as log:
        if arguments.reader is None:
            scope, opened = "everything", list(range(log.size))
        else:
            scope, opened = _scope(log, arguments.reader)
        made = export(
            log,
            key,
            arguments.folder,
            opened=opened,
            scope=scope,
            now=now_ms(),
            extras=Extras(succession=log.successions),
        )
    if arguments.json:
        print_json(
            {
                "folder": str(arguments.folder),
                "size": made.size,
                "opened": len(opened),
                "scope": scope,
                "log_key": key.verify_key.text,
            }
        )
        return 0
    say(f"{made.size} entries, {len(opened)} of them open ({scope}): {arguments.folder}")
    say("check it with:")
    say(f"  rongshu audit verify {arguments.folder} --key '{key.verify_key.text}'")
    return 0


@contextmanager
def _snapshot(settings: Settings, key: SigningKey) -> Iterator[Log]:
    """Open the log as it is now, beside a service that may be running, and change nothing of it.

    The newest checkpoint is copied before the database is read: so it is never ahead of what is
    read, and the one that is signed here for the export goes to the copy.
    """
    with tempfile.TemporaryDirectory(prefix="rongshu-export-") as name:
        copy = Path(name)
        newest = settings.log_folder / CHECKPOINT_FILE
        if newest.is_file():
            shutil.copyfile(newest, copy / CHECKPOINT_FILE)
        if (settings.log_folder / SUCCESSION).is_dir():
            shutil.copytree(settings.log_folder / SUCCESSION, copy / SUCCESSION)
        engine = open_database(settings.where, settings.busy_seconds)
        try:
            yield Log(engine, key, copy, now_ms)
        finally:
            engine.dispose()


def _scope(log: Log, reader: str) -> tuple[str, list[int]]:
    """Return in words whom an export is for, and the entries that it opens."""
    history: History = log.history
    known = [
        {"id": logged.id, "name": logged.statement.name, "roles": logged.statement.roles}
        for logged in history.by_index.values()
        if isinstance(logged.statement, Participant)
    ]
    found = pick(known, reader)
    caller = Caller(found["id"], found["name"], frozenset(found["roles"]))
    opened = [
        index
        for index in range(log.size)
        if index in history.by_index
        and may_read(caller, history.by_index[index].statement, history)
    ]
    return f"what {found['name']} ({' '.join(found['roles'])}) may see", opened
