"""What shows that an export is the newest state of its log, or at least not older than another.

A log's older states are as validly signed as its newest, so a folder alone cannot tell. Three
things can: witnesses, who say when they saw a checkpoint; a checkpoint, proof or export that the
auditor kept from before; and a succession of the log's key, which names a tree of its own.

Decides which trees an export must contain as its beginning, and says so when there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ledger import note
from ledger.checkpoint import Checkpoint
from ledger.checkpoint import parse as parse_checkpoint
from ledger.errors import EncodingError, LedgerError, NoteError, TrustError
from ledger.finding import Report
from ledger.keys import VerifyKey
from ledger.manifest import CHECKPOINT
from ledger.verdict import NOT_FRESH, Verdict

PROOF_HEADING = b"c2sp.org/tlog-proof@v1\n"


@dataclass(frozen=True)
class Anchor:
    """A tree that the export must begin with.

    Attributes:
        kept: True for one that the auditor kept, False for the head of a succession.
    """

    checkpoint: Checkpoint
    kept: bool


def kept_checkpoint(data: bytes) -> bytes:
    """Return the checkpoint in what an auditor kept: the note itself, or a tlog-proof's.

    Raises:
        NoteError: a proof without a checkpoint.
    """
    if not data.startswith(PROOF_HEADING):
        return data
    _, separator, checkpoint = data.partition(b"\n\n")
    if not separator:
        raise NoteError("the proof ends before its checkpoint")
    return checkpoint


def anchor(data: bytes, keys: Sequence[VerifyKey]) -> Anchor:
    """Return the tree that a kept checkpoint or proof names.

    Args:
        data: what was kept.
        keys: the log's keys.

    Raises:
        NoteError, SignatureError, TrustError: it is not a checkpoint of this log.
    """
    opened = note.open_note(kept_checkpoint(data), keys)
    checkpoint = parse_checkpoint(opened.text)
    if checkpoint.origin not in {key.name for key in opened.verified}:
        raise TrustError(f"it is a checkpoint of another log, {checkpoint.origin[:80]!r}")
    return Anchor(checkpoint, kept=True)


def check_anchors(
    report: Report, anchors: Sequence[Anchor], newest: Checkpoint, root: Callable[[int], bytes]
) -> None:
    """Report each tree that the export does not begin with.

    Args:
        report: takes the findings.
        anchors: what the export must contain.
        newest: the export's own checkpoint.
        root: returns the root of the export's first entries; raises EncodingError where it cannot.
    """
    for item in anchors:
        size = item.checkpoint.size
        what = "a checkpoint that you kept" if item.kept else "a succession of the log's key"
        if size > newest.size:
            if item.kept:
                report.find(
                    "rolled_back",
                    CHECKPOINT,
                    f"has {newest.size} entries, and {what} has {size}: this is an older state",
                )
            continue
        try:
            same = root(size) == item.checkpoint.root
        except EncodingError as error:
            report.miss("unreadable", CHECKPOINT, f"cannot be compared with {what}: {error}")
            continue
        if not same:
            report.find(
                "split_view",
                CHECKPOINT,
                f"does not begin with the {size} entries of {what}: the log has two histories",
            )
        else:
            report.checked["kept_checkpoints" if item.kept else "succession_heads"] += 1


def describe(verdict: Verdict) -> str:
    """Say in words what shows how new an export is."""
    shown = []
    if verdict.witnessed_at is not None:
        moment = datetime.fromtimestamp(verdict.witnessed_at, UTC)
        shown.append(f"a quorum of witnesses saw it at {moment:%Y-%m-%d %H:%M:%SZ}")
    if verdict.retained:
        shown.append(f"it is not older than the {max(verdict.retained)} entries that you kept")
    return "; ".join(shown) or NOT_FRESH


def kept(data: Sequence[bytes], keys: Sequence[VerifyKey], report: Report) -> list[Anchor]:
    """Return the trees of all that was kept; what cannot be used is reported as missing."""
    found = []
    for number, item in enumerate(data, start=1):
        try:
            found.append(anchor(item, keys))
        except LedgerError as error:
            report.miss("unusable_checkpoint", f"kept checkpoint {number}", str(error))
    return found
