"""Prove by one text file that an entry is in the log."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ledger import note
from ledger.audit.arguments import add_command, add_json, complain
from ledger.audit.exported import opening_in, read_tree, successions_in
from ledger.audit.outcome import HOLDS, PROOF_CODES, ended
from ledger.audit.text import clean, iso, reason
from ledger.audit.trust import add_trust_arguments, read_policy
from ledger.entry import Entry, Opening
from ledger.errors import EvidenceError, LedgerError
from ledger.folder import Folder
from ledger.manifest import CHECKPOINT
from ledger.proof import Proof, make
from ledger.trust import Policy

EXAMPLES = """\
examples:
  rongshu audit prove out/export 22 --out use.tlog-proof
  rongshu audit prove out/export 22 --disclose --key @log.vkey --out use.tlog-proof
  rongshu audit check-proof use.tlog-proof --key @log.vkey
"""
EXITS = """\
exit codes:
  0   the proof is made
  1   the folder is damaged: it proves nothing
  2   the folder does not hold what is to be proven or disclosed
  3   no key that you gave vouches for it, or too few witnesses do
  64  wrong usage, an unreadable file, or no such folder
"""


def add(subparsers: Any) -> None:
    """Add `rongshu audit prove`."""
    parser = add_command(
        subparsers,
        "prove",
        "prove by one text file that an entry is in the log",
        f"{EXAMPLES}\n{EXITS}",
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="the exported folder")
    parser.add_argument("index", metavar="INDEX", type=int, help="position of the entry")
    parser.add_argument("--out", metavar="FILE", type=Path, help="default: standard output")
    parser.add_argument(
        "--disclose",
        action="store_true",
        help="put the statement into the proof: whoever gets the file can read it",
    )
    add_trust_arguments(parser, needed=False)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Make the proof and return the exit code."""
    folder: Path = arguments.folder
    if not folder.is_dir():
        return complain(f"{clean(str(folder))} is no folder; name the folder of an export")
    try:
        policy = read_policy(arguments, folder)
    except (LedgerError, OSError) as error:
        return complain(clean(reason(error)))
    try:
        proof, entry = _prove(arguments, policy)
    except (LedgerError, OSError) as error:
        return ended(arguments, error, PROOF_CODES)
    if arguments.out is not None:
        try:
            arguments.out.write_bytes(proof.to_bytes())
        except OSError as error:
            return complain(f"--out: {clean(reason(error))}")
    _tell(arguments, proof, entry, checked=policy is not None)
    return HOLDS


def _prove(arguments: argparse.Namespace, policy: Policy | None) -> tuple[Proof, Entry]:
    with Folder(arguments.folder) as folder:
        signed = folder.read(CHECKPOINT, note.MAX_BYTES)
        tree = read_tree(folder, signed)
        index = arguments.index
        if not 0 <= index < tree.size:
            raise EvidenceError(
                f"the export has no entry {index}; its last is {tree.size - 1}"
                if tree.size
                else "the export has no entries"
            )
        if policy is not None:
            # Before anything is made of it: a stranger's folder proves nothing.
            policy.open_checkpoint(signed, successions_in(folder))
        opening = _opening(folder, index) if arguments.disclose else None
        data = tree.entry(index)
        return make(tree, index, data, signed, opening), Entry.from_bytes(data)


def _opening(folder: Folder, index: int) -> Opening:
    opening = opening_in(folder, index)
    if opening is not None:
        return opening
    raise EvidenceError(
        f"the export does not open entry {index}, so its statement cannot be disclosed; leave "
        "--disclose out, or ask for an export that opens it"
    )


def _tell(arguments: argparse.Namespace, proof: Proof, entry: Entry, *, checked: bool) -> None:
    text = proof.to_bytes().decode()
    if arguments.json:
        told = {
            "index": entry.index,
            "kind": entry.kind,
            "time": entry.time,
            "disclosed": arguments.disclose,
            "checked": checked,
            "out": None if arguments.out is None else str(arguments.out),
            "proof": text,
        }
        sys.stdout.write(f"{json.dumps(told)}\n")
        return
    if arguments.out is None:
        sys.stdout.write(text)
        return
    what = f"entry {entry.index}, {entry.kind} of {iso(entry.time)}"
    sys.stdout.write(f"{clean(str(arguments.out))} proves {what}\n")
    if arguments.disclose:
        sys.stdout.write("It discloses the statement to whoever gets the file.\n")
    if not checked:
        sys.stdout.write(
            "No key was given, so the log's signature was not checked; `check-proof` does.\n"
        )
