"""Export the log for auditors, hand out view keys, and erase statements; for the operator."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from ledger.errors import LedgerError
from ledger.export import Extras, export
from ledger.history import History
from ledger.keys import SigningKey
from ledger.log import Log
from ledger.manifest import SUCCESSION
from ledger.publisher import CHECKPOINT_FILE
from ledger.sealing import SealedOpenings, ViewKeys, public
from ledger.statements import Participant
from marketplace.catalog.service import tag_keys
from marketplace.cli import arguments as args
from marketplace.cli import erasing, evidence, rotating
from marketplace.cli.arguments import ArgumentError
from marketplace.cli.operate import data, settings_of
from marketplace.cli.parties import pick
from marketplace.cli.show import print_json, say
from marketplace.client import now_ms
from marketplace.database import open_database, reading
from marketplace.log_access import may_read
from marketplace.participants.access import Caller
from marketplace.settings import Settings

VIEWS = "rongshu ledger views --data data --agreement agreement:3f… --out auditor.views"
VIEWS_MORE = (
    "The keys open what `rongshu ledger export --sealed` encrypts, and nothing else: what rests on "
    "the agreements, in the epochs named. Hand the file over apart from the folder, and privately. "
    "Once something is erased, keys of its epoch are drawn anew: export again then."
)
EXPORT = "rongshu ledger export audit-2026 --data data --for 'Auditor'"

MAX_EPOCHS = 100_000


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
    sub.add_argument(
        "--public",
        action="store_true",
        help="open only what anybody may see, whoever the folder falls to",
    )
    sub.add_argument(
        "--sealed",
        action="store_true",
        help="encrypt what is not opened, for whoever gets its view keys (`rongshu ledger views`)",
    )
    sub.add_argument(
        "--journal",
        dest="journals",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="add a node's journal, as `rongshu node journal` wrote it; repeat for several",
    )
    sub.add_argument(
        "--tag-keys",
        action="store_true",
        help="add the keys of the use indexes, to recompute them; they show every use of an asset",
    )
    args.as_json(sub)
    _add_views(into)
    erasing.add(into)
    rotating.add(into)
    return args.run(parser, argv)


def _add_views(into: args.Subcommands) -> None:
    summary = "write view keys for an auditor"
    sub = args.subcommand(into, "views", _views, summary, VIEWS, VIEWS_MORE)
    data(sub)
    whose = sub.add_mutually_exclusive_group(required=True)
    whose.add_argument(
        "--agreement",
        metavar="ID",
        action="append",
        help="what rests on this agreement; repeat for several",
    )
    whose.add_argument("--everything", action="store_true", help="whatever any export seals")
    sub.add_argument(
        "--epochs", metavar="NUMBERS", help="such as 0-3,7 (default: all up to now)", type=_epochs
    )
    sub.add_argument("--out", metavar="FILE", type=Path, required=True, help="a new file (0600)")
    args.as_json(sub)


def _export(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments.data)
    key = SigningKey.load(settings.log_key)
    if arguments.public and arguments.reader is not None:
        raise ArgumentError("--public: opens the same for everybody, so leave --for out")
    with _snapshot(settings, key) as (log, engine):
        scope, wanted = _scope(log, arguments)
        erased = {index for index in log.history.shredded if index < log.size}
        opened = [index for index in wanted if index not in erased]
        given = "--tag-keys" if arguments.tag_keys else "--journal" if arguments.journals else ""
        if given and len(opened) + len(erased) < log.size:
            raise ArgumentError(f"{given}: shows every use, so everything must be open as well")
        rest = set(range(log.size)) - set(opened) - erased if arguments.sealed else set()
        extras = Extras(
            sealed=SealedOpenings(log, ViewKeys(engine), rest),
            erased=erased,
            tag_keys=_tag_keys(log, engine) if arguments.tag_keys else None,
            journals=evidence.journals(log.history, arguments.journals),
            succession=log.successions,
        )
        folder, now = arguments.folder, now_ms()
        made = export(log, key, folder, opened=opened, scope=scope, now=now, extras=extras)
    if arguments.json:
        print_json(
            {
                "folder": str(arguments.folder),
                "size": made.size,
                "opened": len(opened),
                "sealed": len(rest),
                "erased": len(erased),
                "scope": scope,
                "log_key": key.verify_key.text,
            }
        )
        return 0
    say(f"{made.size} entries, {len(opened)} of them open ({scope}): {arguments.folder}")
    if rest:
        say(f"{len(rest)} are sealed: `rongshu ledger views` writes the keys to them")
    say("check it with:")
    say(f"  rongshu audit verify {arguments.folder} --key '{key.verify_key.text}'")
    return 0


def _views(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments.data)
    key = SigningKey.load(settings.log_key)
    with _snapshot(settings, key) as (log, engine):
        chosen = None if arguments.everything else _agreements(log, arguments.agreement)
        found = ViewKeys(engine).views(log, agreements=chosen, epochs=arguments.epochs)
    if not found.keys:
        raise ArgumentError("nothing rests on these agreements in these epochs")
    found.save(arguments.out)
    if arguments.json:
        listed = [{"agreement": n.agreement, "epoch": n.epoch} for n in sorted(found.keys)]
        print_json({"out": str(arguments.out), "views": listed})
        return 0
    say(f"{len(found.keys)} view keys: {arguments.out} (0600; hand it over apart from the export)")
    return 0


def _agreements(log: Log, names: list[str]) -> set[int]:
    try:
        found = {log.index_of(name) for name in names}
    except LedgerError as error:
        raise ArgumentError(f"--agreement: {error}") from None
    for index in found:
        if log.history.entries[index].kind != "agreement":
            raise ArgumentError(f"--agreement: entry {index} is no agreement")
    return found


def _epochs(text: str) -> set[int]:
    """Read numbers and runs of numbers: 0-3,7."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else True)):
            raise argparse.ArgumentTypeError(f"{part!r} is no number and no run such as 0-3")
        stop = int(last) if dash else int(first)
        if stop - int(first) > MAX_EPOCHS:
            raise argparse.ArgumentTypeError(f"{part!r} names more than {MAX_EPOCHS} epochs")
        found.update(range(int(first), stop + 1))
    return found


def _tag_keys(log: Log, engine: sa.Engine) -> bytes:
    with reading(engine) as session:
        return evidence.tag_keys(log.history, tag_keys(session))


@contextmanager
def _snapshot(settings: Settings, key: SigningKey) -> Iterator[tuple[Log, sa.Engine]]:
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
            yield Log(engine, key, copy, now_ms), engine
        finally:
            engine.dispose()


def _scope(log: Log, arguments: argparse.Namespace) -> tuple[str, list[int]]:
    """Return in words whom an export is for, and the entries that it opens."""
    if arguments.public:
        return "everybody", public(log.history)
    if arguments.reader is None:
        return "everything", list(range(log.size))
    history: History = log.history
    known = [
        {"id": logged.id, "name": logged.statement.name, "roles": logged.statement.roles}
        for logged in history.by_index.values()
        if isinstance(logged.statement, Participant)
    ]
    found = pick(known, arguments.reader)
    caller = Caller(found["id"], found["name"], frozenset(found["roles"]))
    opened = [
        index
        for index in range(log.size)
        if index in history.by_index
        and may_read(caller, history.by_index[index].statement, history)
    ]
    return f"what {found['name']} ({' '.join(found['roles'])}) may see", opened
