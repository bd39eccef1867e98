"""Check a whole export and say what it is worth."""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ledger.audit.arguments import EXIT_CODES_HELP, add_command, add_json, complain
from ledger.audit.exported import read_file
from ledger.audit.text import clean, iso, reason, table
from ledger.audit.trust import add_trust_arguments, read_policy
from ledger.audit.verdict import counted, findings, head, summary
from ledger.errors import ExportError, LedgerError
from ledger.history import History
from ledger.manifest import CHECKPOINT
from ledger.note import MAX_BYTES
from ledger.verify import Plan, Verdict, read_and_verify
from ledger.views import Views

MAX_PROCESSES = 64
PROGRESS_ENTRIES = 8192
"""Entries between two words to a person who waits; a multiple of a bundle's."""

EXAMPLES = """\
examples:
  rongshu audit verify out/export --key rongshu.example/log+1a2b3c4d+AZ…
  rongshu audit verify out/export --key @log.vkey
  rongshu audit verify out/export --policy policy
  rongshu audit verify out/export --key @log.vkey --newer-than kept/checkpoint
  rongshu audit verify out/export --key @log.vkey --views auditor.views
  rongshu audit verify out/export --key @log.vkey --structure-only
  rongshu audit verify out/export --key @log.vkey --json
"""
KEPT_HELP = """a checkpoint or a tlog-proof of this log that you kept, or the folder of an older
export: this one must contain all of it. May be repeated. Without this and without witnesses nobody
can tell whether the export is the newest state"""
VIEWS_HELP = """view keys that the operator gave you apart from the folder (mode 0600): they open
what the export holds encrypted"""


def add(subparsers: Any) -> None:
    """Add `rongshu audit verify`."""
    parser = add_command(
        subparsers,
        "verify",
        "check a whole export and say what it is worth",
        f"{EXAMPLES}\n{EXIT_CODES_HELP}",
    )
    add_export_arguments(parser)
    parser.add_argument(
        "--structure-only",
        action="store_true",
        help="check hashes, tiles, root, chain, indexes and times, and nothing else",
    )
    parser.set_defaults(run=run)


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every command over an export takes: the folder, whom to trust, and `--json`."""
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="the exported folder")
    add_trust_arguments(parser, needed=False)
    parser.add_argument(
        "--newer-than",
        metavar="FILE|FOLDER",
        type=Path,
        action="append",
        default=[],
        help=KEPT_HELP,
    )
    parser.add_argument("--views", metavar="FILE", type=Path, help=VIEWS_HELP)
    parser.add_argument(
        "--processes",
        metavar="N",
        type=_count,
        default=len(os.sched_getaffinity(0)),
        help="how many processes share the work (default: one for each processor); the verdict is "
        "the same for any number",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Verify the folder, print the verdict and return its exit code."""
    read = read_export(arguments)
    if isinstance(read, int):
        return read
    verdict, _ = read
    if arguments.json:
        lines = iter([json.dumps(summary(verdict) | {"peak_memory_bytes": _peak(arguments)})])
    else:
        lines = report(verdict, _peak(arguments))
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
    try:
        kept = [_kept(path, folder) for path in arguments.newer_than]
    except (LedgerError, OSError) as error:
        return complain(f"--newer-than: {clean(reason(error))}")
    try:
        views = read_views(arguments.views, folder)
    except LedgerError as error:
        return complain(f"--views: {clean(str(error))}")
    with _progress() as progress:
        plan = Plan(
            processes=arguments.processes,
            structure_only=getattr(arguments, "structure_only", False),
            kept=kept,
            views=views,
            progress=progress,
        )
        return read_and_verify(folder, trusted, plan)


def read_views(path: Path | None, folder: Path) -> Views | None:
    """Return the view keys in a file; None where none is named.

    Raises:
        InvalidKeyError, ViewError: they cannot be read.
        ExportError: they lie in the export, where whoever gets it could read them.
    """
    if path is None:
        return None
    if path.resolve().is_relative_to(folder.resolve()):
        raise ExportError(f"{path} lies in the folder that it opens; keep it apart")
    return Views.load(path)


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= MAX_PROCESSES:
        raise argparse.ArgumentTypeError(f"{number} is not between 1 and {MAX_PROCESSES}")
    return number


def _kept(path: Path, folder: Path) -> bytes:
    """Return what the auditor kept: a file, or the checkpoint of an older export."""
    found = path / CHECKPOINT if path.is_dir() else path
    if found.resolve().is_relative_to(folder.resolve()):
        raise ExportError(f"{found} lies in the folder that is to be compared with it")
    return read_file(found, MAX_BYTES)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """Yield what tells a person at a terminal how far the check is; None where nobody looks."""
    if not sys.stderr.isatty():
        yield None
        return

    def tell(done: int, size: int) -> None:
        if done % PROGRESS_ENTRIES == 0:
            sys.stderr.write(f"\rchecked {done} of {size} entries")
            sys.stderr.flush()

    yield tell
    sys.stderr.write("\r\x1b[K")


def _peak(arguments: argparse.Namespace) -> int:
    """Return the most memory that all processes can have taken together, in bytes."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Of the children the system keeps the largest alone.
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return int(1024 * (own + arguments.processes * child))


def report(verdict: Verdict, peak: int = 0) -> Iterator[str]:
    """Yield everything a person is told of a verdict, with the peak of memory in bytes."""
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
    # Those that view keys opened are enclosed too, and not sealed to this reader any more.
    enclosed = verdict.enclosed - verdict.checked.get("unsealed", 0)
    if enclosed or verdict.erased:
        yield f"         {enclosed} of them are enclosed encrypted, {verdict.erased} erased"
    if verdict.erased_kinds:
        kinds = (f"{number} {kind}" for kind, number in verdict.erased_kinds.items())
        yield f"         erased: {', '.join(kinds)}"
    if verdict.unchecked:
        yield f"         {verdict.unchecked} open entries rest on sealed ones: signatures checked,"
        yield "         but not every rule"
    yield f"fresh:   {verdict.freshness}"
    for witness in verdict.witnesses:
        yield f"         {clean(witness['name'])} saw it at {iso(1000 * witness['time'])}"
    if peak:
        yield f"memory:  at most {peak / 1e6:.0f} MB, all processes together"
    yield from findings("findings", verdict.findings)
    yield from findings("missing", verdict.missing)
