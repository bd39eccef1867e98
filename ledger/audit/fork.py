"""Find out whether two views of a log fork, or check a proof that they do."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ledger import note
from ledger.audit.arguments import add_command, add_json, complain
from ledger.audit.exported import read_file, read_tree, successions_in
from ledger.audit.outcome import FALSE, HOLDS, LACKING, UNTRUSTED, Codes, ended
from ledger.audit.text import clean, reason
from ledger.audit.trust import add_trust_arguments, read_policy
from ledger.errors import LedgerError, SignatureError, TrustError, UnprovenForkError
from ledger.folder import Folder
from ledger.fork import MAX_BYTES, Fork, Forked, View, compare, open_fork
from ledger.keys import VerifyKey
from ledger.manifest import CHECKPOINT
from ledger.tile_tree import TileTree
from ledger.trust import Policy

FORKED = FALSE

CODES: Codes = (
    (TrustError, UNTRUSTED),
    (SignatureError, UNTRUSTED),
    (UnprovenForkError, FORKED),
    (LedgerError, LACKING),
)
EXAMPLES = """\
examples:
  rongshu audit fork out/january out/june --key @log.vkey
  rongshu audit fork mine/export theirs/export --key @log.vkey --out log.fork-proof
  rongshu audit fork mine/checkpoint theirs/checkpoint --key @log.vkey
  rongshu audit fork log.fork-proof --key @log.vkey
"""
EXITS = """\
exit codes:
  0   one history: one view begins with the other
  1   forked: the log signed two histories
  2   nothing is shown: a view is damaged, or what is behind it is missing
  3   the log's key that you gave did not sign both
  64  wrong usage, or an unreadable file
"""


def add(subparsers: Any) -> None:
    """Add `rongshu audit fork`."""
    parser = add_command(
        subparsers,
        "fork",
        "compare two views of a log, or check a proof that it signed two histories",
        f"{EXAMPLES}\n{EXITS}",
    )
    parser.add_argument(
        "views",
        metavar="VIEW",
        type=Path,
        nargs="+",
        help="two exported folders or checkpoints of one log, or one fork proof",
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="where the fork proof goes, if they fork"
    )
    add_trust_arguments(parser, needed=True)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare or check, tell the outcome and return the exit code."""
    views: list[Path] = arguments.views
    if len(views) > 2 or (len(views) == 1 and arguments.out is not None):
        return complain("fork: give two views to compare, or one fork proof to check")
    try:
        # Read for each view: neither may vouch for itself.
        policies = [read_policy(arguments, view) for view in views]
    except (LedgerError, OSError) as error:
        return complain(clean(reason(error)))
    policy = policies[0] or Policy.of()
    try:
        if len(views) == 2:
            return _compare(arguments, policy)
        return _tell(arguments, open_fork(read_file(views[0], MAX_BYTES), *_keys(policy)))
    except (LedgerError, OSError) as error:
        return ended(arguments, error, CODES)


def _keys(policy: Policy) -> list[VerifyKey]:
    return [tenure.key for tenure in policy.tenures]


def _compare(arguments: argparse.Namespace, policy: Policy) -> int:
    with ExitStack() as stack:
        sides = []
        for path in arguments.views:
            side, notes = _read_view(path, stack)
            policy = policy.following(notes)
            sides.append(side)
        for signed, _ in sides:
            # Before anything is said: a view that the log did not sign accuses nobody.
            note.open_note(signed, _keys(policy))
        fork = compare(sides[0], sides[1])
    if fork is None:
        sizes = sorted(View(signed).head.size for signed, _ in sides)
        return _tell_one(arguments, sizes)
    return _keep(arguments, fork, policy)


def _read_view(path: Path, stack: ExitStack) -> tuple[tuple[bytes, TileTree | None], list[bytes]]:
    """Return checkpoint and tree of an exported folder, or a checkpoint alone; and successions."""
    if not path.is_dir():
        return (read_file(path, note.MAX_BYTES), None), []
    folder = stack.enter_context(Folder(path))
    signed = folder.read(CHECKPOINT, note.MAX_BYTES)
    return (signed, read_tree(folder, signed)), successions_in(folder)


def _keep(arguments: argparse.Namespace, fork: Fork, policy: Policy) -> int:
    data = fork.to_bytes()
    shown = open_fork(data, *_keys(policy))
    if arguments.out is not None:
        try:
            arguments.out.write_bytes(data)
        except OSError as error:
            return complain(f"--out: {clean(reason(error))}")
    return _tell(arguments, shown, data)


def _tell_one(arguments: argparse.Namespace, sizes: list[int]) -> int:
    if arguments.json:
        sys.stdout.write(f"{json.dumps({'exit_code': HOLDS, 'forked': False, 'sizes': sizes})}\n")
    elif sizes[0] == sizes[1]:
        sys.stdout.write(f"ONE HISTORY: both views are of the same {sizes[0]} entries.\n")
    else:
        sys.stdout.write(
            f"ONE HISTORY: the view of {sizes[1]} entries begins with that of {sizes[0]}.\n"
        )
    return HOLDS


def _tell(arguments: argparse.Namespace, shown: Forked, made: bytes | None = None) -> int:
    if arguments.json:
        told = {
            "exit_code": FORKED,
            "forked": True,
            "origin": shown.origin,
            "index": shown.index,
            "views": [
                {"size": head.size, "root": head.root.hex(), "key_fingerprint": key.fingerprint}
                for head, key in zip(shown.heads, shown.keys, strict=True)
            ],
            "out": None if arguments.out is None else str(arguments.out),
            "proof": None if made is None else made.decode(),
        }
        sys.stdout.write(f"{json.dumps(told)}\n")
        return FORKED
    for line in _lines(arguments, shown, made):
        sys.stdout.write(f"{line}\n")
    return FORKED


def _lines(arguments: argparse.Namespace, shown: Forked, made: bytes | None) -> Iterator[str]:
    yield f"FORKED: the log {clean(shown.origin)} signed two histories."
    yield ""
    for head, key in zip(shown.heads, shown.keys, strict=True):
        yield f"  {head.size} entries, root {head.root.hex()}"
        yield f"    signed by {key.fingerprint}"
    if shown.index is not None:
        yield f"  they differ in entry {shown.index}"
    yield ""
    if made is None:
        yield "Both signatures are the log's own: nobody else could have made them."
    elif arguments.out is None:
        yield "Run again with --out FILE to keep the proof, for anybody who has the log's key."
    else:
        yield f"{clean(str(arguments.out))} proves it to anybody who has the log's key."
