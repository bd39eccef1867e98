"""Follow a log: verify what is new, and say what is wrong as soon as it can be seen."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

from ledger import session
from ledger.audit.arguments import add_command, complain
from ledger.audit.exported import read_file
from ledger.audit.text import clean, iso, reason
from ledger.audit.trust import add_trust_arguments, read_policy
from ledger.audit.verify import VIEWS_HELP, read_views
from ledger.errors import FetchError, LedgerError, StateError, TrustError, ViewError
from ledger.evidence import CANARIES, MAX_FILE, PLANTER, RESULTS, ROSTER, TAG_KEYS, Held
from ledger.finding import Finding, Report
from ledger.manifest import JOURNALS
from ledger.mirror import Mirror
from ledger.monitor import Monitor, Plan
from ledger.reconcile import reconcile
from ledger.session import Session
from ledger.source import FolderSource, ServerSource, Source
from ledger.standing import standing
from ledger.trust import Policy
from ledger.verdict import Verdict
from ledger.views import Views

MAX_API_KEY = 4096
REMOTE = ("http://", "https://")

EXAMPLES = """\
examples:
  rongshu audit monitor out/export --state watch --key @log.vkey
  rongshu audit monitor https://market.example --state watch --policy policy \\
      --api-key auditor.key --every 60
  rongshu audit monitor out/export --state watch --key @log.vkey --journal north.journal --json
"""
EXITS = """\
exit codes, of everything found since the state began:
  0   sound: everything that was opened was checked, and holds
  1   tampered: something is changed, forged or against the rules
  2   incomplete: nothing is false, but evidence is missing, or the log could not be read now
  3   trust not met: no key that you gave vouches for it, or too few witnesses do
  64  wrong usage, an unreadable file, or a state folder that cannot be used
"""


def add(subparsers: Any) -> None:
    """Add `rongshu audit monitor`."""
    parser = add_command(
        subparsers,
        "monitor",
        "follow a log, and remember what was verified",
        f"{EXAMPLES}\n{EXITS}",
    )
    parser.add_argument(
        "source", metavar="FOLDER|URL", help="an exported folder, or the address of the service"
    )
    parser.add_argument(
        "--state",
        metavar="DIR",
        type=Path,
        required=True,
        help="the monitor's memory; made where it is not there. It holds every statement opened "
        "to you: keep it to yourself",
    )
    add_trust_arguments(parser, needed=True)
    parser.add_argument(
        "--api-key", metavar="FILE", type=Path, help="file with your API key, for statements"
    )
    parser.add_argument("--views", metavar="FILE", type=Path, help=VIEWS_HELP)
    add_evidence_arguments(parser)
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--once", action="store_true", help="look once and end; the default")
    when.add_argument("--every", metavar="SECONDS", type=_seconds, help="look again and again")
    parser.add_argument(
        "--max-age",
        metavar="SECONDS",
        type=_seconds,
        help="call a checkpoint stale when no quorum of witnesses vouches for it since then",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=int(session.PATIENCE),
        help="longest wait for one answer of the service",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.set_defaults(run=run)


def add_evidence_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what an auditor may hold besides the log."""
    parser.add_argument(
        "--journal",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="a node's exported journal, from the node itself; may be repeated",
    )
    parser.add_argument("--tag-keys", metavar="FILE", type=Path, help="tag keys of assets")
    parser.add_argument(
        "--canaries", metavar="FILE", type=Path, help="ids or nonces of jobs you planted"
    )
    parser.add_argument(
        "--planter",
        metavar="ID",
        help="id of the participant that asked for them: sealed jobs of others cannot be them",
    )
    parser.add_argument(
        "--roster", metavar="FILE", type=Path, help="verifier keys that participants gave you"
    )
    parser.add_argument(
        "--results",
        metavar="FILE",
        type=Path,
        help="results that buyers got: id of the job and sha256: digest, one a line",
    )


def run(arguments: argparse.Namespace) -> int:
    """Follow the log and return the exit code of everything found so far."""
    try:
        policy = read_policy(arguments, arguments.state)
        if policy is None:
            return complain("name the log's key or a policy")
        with Mirror(arguments.state) as mirror:
            return _follow(arguments, mirror, policy)
    except (LedgerError, OSError) as error:
        return complain(clean(reason(error)))


def _follow(arguments: argparse.Namespace, mirror: Mirror, policy: Policy) -> int:
    try:
        plan = Plan(
            os.cpu_count() or 1,
            max_age=arguments.max_age,
            now=time.time,
            views=_views(arguments),
        )
        monitor = Monitor(mirror, policy, plan)
    except TrustError as error:
        sys.stderr.write(f"rongshu audit monitor: {clean(str(error))}\n")
        return 3
    opener = _opener(arguments, policy)
    held = Held(arguments.state)
    given = take_evidence(arguments, held)
    watch = Watch(monitor, held, given, Printer(as_json=arguments.json))
    while True:
        code = watch.look(opener).exit_code
        if arguments.every is None:
            return code
        try:
            time.sleep(arguments.every)
        except KeyboardInterrupt:
            return code


def _views(arguments: argparse.Namespace) -> Views | None:
    """Return the view keys that were given.

    Raises:
        LedgerError: they cannot be read, or the source encloses nothing that they could open.
    """
    if arguments.views is not None and arguments.source.startswith(REMOTE):
        raise ViewError("view keys open what an exported folder encloses: name the folder")
    return read_views(arguments.views, Path(arguments.source))


Opener = Callable[[], AbstractContextManager[Source]]


def _opener(arguments: argparse.Namespace, policy: Policy) -> Opener:
    """Return what opens the source for one look: folder and connection may have changed since.

    Raises:
        FetchError: the address cannot be asked.
        ExportError, OSError: the API key cannot be read.
    """
    where: str = arguments.source
    if not where.startswith(REMOTE):
        return lambda: closing(FolderSource(Path(where), policy))
    token = None
    if arguments.api_key is not None:
        token = read_file(arguments.api_key, MAX_API_KEY).decode("utf-8", "replace").strip()
    asked = Session(where, token=token, patience=arguments.timeout)
    return lambda: closing(ServerSource(asked, scoped=token is not None))


class Watch:
    """A monitor with its evidence; tells what is new after each look.

    Args:
        monitor: reads the log.
        held: evidence, kept beside the mirror.
        given: what is wrong with evidence that was just given.
        tell: hears of each finding once, and of the verdict after each look.
    """

    def __init__(
        self, monitor: Monitor, held: Held, given: Sequence[Finding], tell: Printer
    ) -> None:
        self._monitor = monitor
        self._held = held
        self._given = given
        self._tell = tell
        self._told: set[Finding] = set()

    def look(self, opened: Opener) -> Verdict:
        """Look once, reconcile, and tell; return the verdict on everything so far.

        Raises:
            StateError, OSError: the state was damaged, or cannot be written.
        """
        look = Report()
        try:
            with opened() as source:
                look = self._monitor.look(source)
                self._take_attachments(source, look)
        except StateError:
            raise
        except TrustError as error:
            look.miss("untrusted", "log", str(error))
        except FetchError as error:
            look.miss("unreadable", "log", str(error))
        except LedgerError as error:
            look.find("damaged", "log", str(error))
        except OSError as error:
            look.miss("unreadable", str(error.filename or "log"), reason(error))
        look.findings += [*self._given, *self._held.contradictions()]
        result = reconcile(self._monitor.history, self._held.evidence(), self._monitor.tally)
        self._monitor.keep_tally()
        verdict = standing(self._monitor, result, look)
        for title, items in (("finding", verdict.findings), ("missing", verdict.missing)):
            for item in items:
                if item not in self._told:
                    self._tell.finding(title, item)
            self._told.update(items)
        self._tell.verdict(verdict)
        return verdict

    def _take_attachments(self, source: Source, look: Report) -> None:
        for name, data in source.attachments(JOURNALS).items():
            look.findings += self._held.take_journal(name, data)
        for data in source.attachments(TAG_KEYS).values():
            self._held.take(TAG_KEYS, data)


class Printer:
    """Tells a person, or a program."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json

    def finding(self, title: str, item: Finding) -> None:
        """Tell of something wrong or missing."""
        if self._json:
            told = {
                "event": title,
                "code": item.code,
                "severity": item.severity,
                "where": item.where,
                "message": item.message,
                "entries": list(item.entries),
            }
            self._write(json.dumps(told))
        else:
            grave = f" ({item.severity})" if title == "finding" else ""
            self._write(f"{title}{grave}: {clean(item.where)}: {item.code}: {clean(item.message)}")

    def verdict(self, verdict: Verdict) -> None:
        """Tell how the log stands."""
        if self._json:
            told = {
                "event": "look",
                "time": int(time.time()),
                "status": verdict.status,
                "exit_code": verdict.exit_code,
                "origin": verdict.origin,
                "size": verdict.size,
                "root": verdict.root,
                "checked": verdict.checked,
                "findings": len(verdict.findings),
                "missing": len(verdict.missing),
                "witnessed_at": verdict.witnessed_at,
            }
            self._write(json.dumps(told))
        else:
            names = ("entries", "openings", "signatures", "journal_lines", "reconciled_jobs")
            told = {name: verdict.checked[name] for name in names if name in verdict.checked}
            self._write(
                f"{iso(int(time.time() * 1000))}  {verdict.status}: {clean(verdict.origin)}, "
                f"{verdict.size} entries, root {verdict.root[:16] or 'unknown'}; checked "
                f"{', '.join(f'{told[name]} {name}'.replace('_', ' ') for name in told)}"
            )

    def _write(self, line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def take_evidence(arguments: argparse.Namespace, held: Held) -> list[Finding]:
    """Keep the files that the arguments name; return what is wrong with the journals.

    Raises:
        EvidenceFileError, ExportError, OSError: one cannot be read or is not what it should be.
    """
    found: list[Finding] = []
    for path in arguments.journal:
        found += held.take_journal(path.name, read_file(path, MAX_FILE))
    for name, path in (
        (TAG_KEYS, arguments.tag_keys),
        (CANARIES, arguments.canaries),
        (ROSTER, arguments.roster),
        (RESULTS, arguments.results),
    ):
        if path is not None:
            held.take(name, read_file(path, MAX_FILE))
    if arguments.planter is not None:
        held.take(PLANTER, f"{arguments.planter}\n".encode())
    return found


def _seconds(text: str) -> int:
    number = int(text) if text.isdecimal() and len(text) < 9 else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 1 up")
    return number
