"""Show by one text file that an asset was not used in an epoch, and check such a file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ledger import non_use, note
from ledger.audit.arguments import add_command, add_json, complain
from ledger.audit.exported import (
    lines_about,
    opening_in,
    read_file,
    read_tree,
    successions_in,
)
from ledger.audit.outcome import HOLDS, PROOF_CODES, ended, vouched
from ledger.audit.text import clean, iso, reason
from ledger.audit.trust import add_trust_arguments, read_policy
from ledger.audit.verify import VIEWS_HELP, read_views
from ledger.entry import Entry, Opening
from ledger.errors import EvidenceError, LedgerError, ProofError, TrustError
from ledger.folder import Folder
from ledger.history import History
from ledger.manifest import CHECKPOINT, MAX_FILE, TAG_KEYS, sealed_path
from ledger.non_use import Exhibit, NonUse, Proof
from ledger.statements import Asset
from ledger.tiles import WIDTH
from ledger.trust import Policy
from ledger.use_index import read_tag_keys
from ledger.verify import Plan, audit
from ledger.views import Views, open_sealed

EXAMPLES = """\
examples:
  rongshu audit non-use make out/export --asset 'Basel hospital' --epoch 3 --out basel.non-use
  rongshu audit non-use make out/export --asset asset:42d7… --epoch 3 --tag-keys tag-keys \\
      --views auditor.views --key @log.vkey --out basel.non-use
  rongshu audit non-use check basel.non-use --key @log.vkey
  rongshu audit non-use check basel.non-use --policy policy --json
"""
EXITS = """\
exit codes:
  0   shown: the log says that the asset was not used in the epoch
  1   not shown: it was used, or the file or folder is changed
  2   the folder does not hold what the proof needs
  3   no key that you gave vouches for it, or too few witnesses do
  64  wrong usage, an unreadable file, or no such folder
"""


def add(subparsers: Any) -> None:
    """Add `rongshu audit non-use make` and `check`."""
    parser = add_command(
        subparsers,
        "non-use",
        "show that an asset was not used in an epoch, or check that it is shown",
        f"{EXAMPLES}\n{EXITS}",
    )
    steps = parser.add_subparsers(dest="step", metavar="make|check", required=True)
    make = add_command(steps, "make", "make the proof from an export", f"{EXAMPLES}\n{EXITS}")
    make.add_argument("folder", metavar="FOLDER", type=Path, help="the exported folder")
    make.add_argument("--asset", metavar="NAME|ID", required=True, help="the asset")
    make.add_argument("--epoch", metavar="NUMBER", type=int, required=True, help="which epoch")
    make.add_argument(
        "--tag-keys",
        metavar="FILE",
        type=Path,
        help="the asset's tag key, and those of all assets used in the epoch (default: the "
        "folder's own)",
    )
    make.add_argument("--views", metavar="FILE", type=Path, help=VIEWS_HELP)
    make.add_argument("--out", metavar="FILE", type=Path, required=True, help="the proof")
    add_trust_arguments(make, needed=False)
    check = add_command(steps, "check", "check a proof, offline", f"{EXAMPLES}\n{EXITS}")
    check.add_argument("file", metavar="FILE", type=Path, help="the proof")
    add_trust_arguments(check, needed=True)
    for item, work in ((make, _make), (check, _check)):
        add_json(item)
        item.set_defaults(run=work)


def _make(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder
    if not folder.is_dir():
        return complain(f"{clean(str(folder))} is no folder; name the folder of an export")
    try:
        policy = read_policy(arguments, folder)
        views = read_views(arguments.views, folder)
        given = None if arguments.tag_keys is None else read_file(arguments.tag_keys, MAX_FILE)
    except (LedgerError, OSError) as error:
        return complain(clean(reason(error)))
    try:
        proof = _prove(arguments, policy, views, given)
        data = proof.to_bytes()
    except (LedgerError, OSError) as error:
        return ended(arguments, error, PROOF_CODES)
    try:
        arguments.out.write_bytes(data)
    except OSError as error:
        return complain(f"--out: {clean(reason(error))}")
    told = {"out": str(arguments.out), "asset": proof.asset, "epoch": proof.key.number}
    if arguments.json:
        sys.stdout.write(f"{json.dumps(told | {'exit_code': HOLDS})}\n")
        return HOLDS
    sys.stdout.write(
        f"{clean(str(arguments.out))} shows that {proof.asset} was not used in epoch "
        f"{proof.key.number}\nIts reader can tell the asset's tag in this epoch, and in no other.\n"
    )
    return HOLDS


def _prove(
    arguments: argparse.Namespace, policy: Policy | None, views: Views | None, given: bytes | None
) -> Proof:
    done = audit(arguments.folder, policy, Plan(views=views))
    verdict = done.verdict
    if done.trusted is None and policy is not None:
        raise TrustError(verdict.missing[0].message if verdict.missing else None)
    if verdict.findings:
        first = verdict.findings[0]
        raise ProofError(f"the export is damaged or forged: {first.where}: {first.message}")
    history = done.history
    asset = _asset(history, arguments.asset)
    with Folder(arguments.folder) as folder:
        signed = folder.read(CHECKPOINT, note.MAX_BYTES)
        tree = read_tree(folder, signed)
        if given is None:
            given = _own_tag_keys(folder)

        def exhibit(index: int) -> Exhibit:
            entry = tree.entry(index)
            opening = _opening(folder, Entry.from_bytes(entry), views)
            return Exhibit(entry, opening, tree.inclusion(index, tree.size))

        keys = read_tag_keys(given)
        proof = non_use.make(history, asset, arguments.epoch, keys, exhibit, signed)
        if policy is not None:
            non_use.verify(proof.to_bytes(), policy, successions_in(folder))
    return proof


def _own_tag_keys(folder: Folder) -> bytes:
    try:
        return folder.read(TAG_KEYS, MAX_FILE)
    except FileNotFoundError:
        raise EvidenceError(
            "the export has no tag keys; name a file with --tag-keys, or ask the operator for an "
            "export that has them"
        ) from None


def _asset(history: History, named: str) -> str:
    found = [
        logged.id
        for logged in history.by_index.values()
        if isinstance(logged.statement, Asset) and named in (logged.id, logged.statement.name)
    ]
    if len(found) != 1:
        raise EvidenceError(
            f"the export opens {len(found)} assets with this name or id; one is meant"
        )
    return found[0]


def _opening(folder: Folder, entry: Entry, views: Views | None) -> Opening:
    opening = opening_in(folder, entry.index)
    if opening is not None:
        return opening
    for line in lines_about(folder, sealed_path(entry.index // WIDTH), entry.index):
        if views is not None:
            return open_sealed(line, entry, views)
    raise EvidenceError(
        f"entry {entry.index} ({entry.kind}) is not open to you, and the proof discloses it"
    )


def _check(arguments: argparse.Namespace) -> int:
    file: Path = arguments.file
    try:
        policy = read_policy(arguments, file) or Policy.of()
        data = read_file(file, non_use.MAX_BYTES)
    except (LedgerError, OSError) as error:
        return complain(clean(reason(error)))
    try:
        shown = non_use.verify(data, policy)
    except LedgerError as error:
        return ended(arguments, error, PROOF_CODES)
    lines = iter([json.dumps(_summary(shown))]) if arguments.json else _told(shown)
    for line in lines:
        sys.stdout.write(f"{line}\n")
    return HOLDS


def _summary(shown: NonUse) -> dict[str, Any]:
    return {
        **vouched(shown.trusted),
        "asset": shown.asset_id,
        "name": shown.asset.name,
        "provider": shown.provider.name,
        "epoch": shown.number,
        "start": shown.start,
        "stop": shown.stop,
        "assets_used": shown.used,
        "journal": shown.close.journal.payload(),
        "counts": shown.close.counts.payload(),
    }


def _told(shown: NonUse) -> Iterator[str]:
    head, counts = shown.trusted.checkpoint, shown.close.counts
    yield f"SHOWN: the log says that this asset was not used in epoch {shown.number}."
    yield ""
    yield f"asset:    {clean(shown.asset.name)}, of {clean(shown.provider.name)}"
    yield f"          {shown.asset_id}"
    yield f"epoch:    {shown.number}, entries {shown.start} to {shown.stop - 1}"
    yield f"operator: {shown.used} assets were used, this one is not among them"
    yield f"node:     no use; {counts.launched} jobs launched, {counts.refused} refused"
    yield f"log:      {clean(head.origin)}, {head.size} entries"
    yield f"log key:  {shown.trusted.key.fingerprint}"
    for name, time in shown.trusted.witnesses:
        yield f"witness:  {clean(name)}, {iso(time * 1000)}"
    yield ""
    yield "This is what operator and node say together. That the index leaves nothing out is found"
    yield "by whoever reads the whole log: `rongshu audit monitor`."
