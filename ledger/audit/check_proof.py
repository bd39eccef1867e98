"""Check a proof of one entry, offline."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ledger.audit.arguments import add_command, add_json, complain, key
from ledger.audit.exported import read_file
from ledger.audit.outcome import HOLDS, PROOF_CODES, ended, vouched
from ledger.audit.text import clean, iso, reason
from ledger.audit.trust import add_trust_arguments, read_policy
from ledger.entry import MAX_ENTRY, Opening
from ledger.errors import EvidenceError, LedgerError, SignatureError
from ledger.keys import VerifyKey
from ledger.manifest import MAX_FILE
from ledger.proof import MAX_BYTES, Proven, verify
from ledger.trust import Policy

EXAMPLES = """\
examples:
  rongshu audit check-proof use.tlog-proof --key @log.vkey
  rongshu audit check-proof use.tlog-proof --policy policy --signer @node.vkey
  rongshu audit check-proof use.tlog-proof --key @log.vkey --json
"""
EXITS = """\
exit codes:
  0   proven: the entry is in the log
  1   not proven: the file is changed, or does not show what it claims
  2   the proof carries no entry, and none was given
  3   no key that you gave vouches for it, or too few witnesses do
  64  wrong usage, or an unreadable file
"""


def add(subparsers: Any) -> None:
    """Add `rongshu audit check-proof`."""
    parser = add_command(
        subparsers,
        "check-proof",
        "check a proof that an entry is in the log",
        f"{EXAMPLES}\n{EXITS}",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="the proof (C2SP tlog-proof)")
    add_trust_arguments(parser, needed=True)
    parser.add_argument(
        "--signer",
        metavar="VKEY|@FILE",
        action="append",
        default=[],
        help="key that must have signed the disclosed statement; repeat it for each of its authors",
    )
    parser.add_argument(
        "--entry", metavar="FILE", type=Path, help="the entry, for a proof that does not carry it"
    )
    parser.add_argument(
        "--opening",
        metavar="FILE",
        type=Path,
        help="the statement's opening, for a proof that does not disclose it",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check the proof, tell what it proves and return the exit code."""
    file: Path = arguments.file
    try:
        policy = read_policy(arguments, file) or Policy.of()
        signers = [found for text in arguments.signer if (found := key(text, file)) is not None]
        data = read_file(file, MAX_BYTES)
        entry = _given(arguments.entry, MAX_ENTRY)
        opening = _given(arguments.opening, MAX_FILE)
    except (LedgerError, OSError) as error:
        return complain(clean(reason(error)))
    try:
        beside = None if opening is None else Opening.from_bytes(opening.removesuffix(b"\n"))
        proven = verify(data, policy, entry=entry, opening=beside)
        if signers:
            _check_signers(proven, signers)
    except LedgerError as error:
        return ended(arguments, error, PROOF_CODES)
    lines = told(proven, signers)
    if arguments.json:
        lines = iter([json.dumps(summary(proven, signers))])
    for line in lines:
        sys.stdout.write(f"{line}\n")
    return HOLDS


def _given(path: Path | None, most: int) -> bytes | None:
    return None if path is None else read_file(path, most)


def _check_signers(proven: Proven, signers: list[VerifyKey]) -> None:
    if proven.statement is None:
        raise EvidenceError(
            "the proof discloses no statement, so nobody's signature can be checked"
        )
    try:
        proven.statement.verify(*signers)
    except SignatureError as error:
        raise SignatureError(
            f"the entry is in the log, but its statement is not by whom you named: {error}"
        ) from None


def summary(proven: Proven, signers: list[VerifyKey]) -> dict[str, Any]:
    """Return what is proven as one JSON object."""
    trusted, entry, statement = proven.trusted, proven.entry, proven.statement
    return {
        **vouched(trusted),
        "index": entry.index,
        "kind": entry.kind,
        "time": entry.time,
        "statement": None
        if statement is None
        else {
            "id": statement.id,
            "payload": statement.statement.payload(),
            "signers_checked": [item.fingerprint for item in signers],
        },
    }


def told(proven: Proven, signers: list[VerifyKey]) -> Iterator[str]:
    """Yield what a person is told."""
    trusted, entry, statement = proven.trusted, proven.entry, proven.statement
    yield "PROVEN: this entry is in the log."
    yield ""
    yield f"log:       {clean(trusted.checkpoint.origin)}, {trusted.checkpoint.size} entries"
    yield f"log key:   {trusted.key.fingerprint}"
    for name, time in trusted.witnesses:
        yield f"witness:   {clean(name)}, {iso(time * 1000)}"
    if trusted.witnessed_at is None:
        yield "witness:   none was asked for, so a copy of the log made for you would look the same"
    else:
        yield f"quorum:    since {iso(trusted.witnessed_at * 1000)}"
    yield f"entry:     {entry.index}, {entry.kind} of {iso(entry.time)}"
    if statement is None:
        yield "statement: not disclosed"
        return
    yield f"statement: {statement.id}"
    for signer in signers:
        yield f"signed by: {clean(signer.name)}, {signer.fingerprint}"
    if not signers:
        yield "signed by: not checked; name its authors' keys with --signer"
    yield ""
    text = json.dumps(statement.statement.payload(), indent=2, ensure_ascii=False, sort_keys=True)
    for line in text.splitlines():
        yield f"  {clean(line)}"
