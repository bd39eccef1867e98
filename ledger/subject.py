"""What a report is written about: an exported folder, or the state of a monitor.

    subject = of_export(Path("audit-2026"), policy)
    payload_of(subject, auditor=key, made=now)

Decides how verifying, reconciling and an auditor's own evidence come together.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ledger import note
from ledger.encoding import sha256_text
from ledger.errors import EncodingError
from ledger.evidence import CANARIES, ROSTER, TAG_KEYS, Held, Piece
from ledger.finding import Finding, Report
from ledger.folder import Folder
from ledger.manifest import CHECKPOINT, CLOSED, ERASED, FILE, JOURNALS, OPENED
from ledger.mirror import Mirror
from ledger.monitor import Monitor
from ledger.reconcile import Evidence, reconcile
from ledger.report import Subject
from ledger.standing import standing, with_result
from ledger.trust import Policy
from ledger.verify import Audit, Plan, audit
from ledger.views import Views


def of_state(mirror: Mirror, policy: Policy) -> Subject:
    """Reconcile what a monitor has verified.

    Raises:
        StateError: the state is damaged.
        LedgerError: its checkpoint is not trusted under this policy.
    """
    monitor = Monitor(mirror, policy)
    held = Held(mirror.folder)
    evidence = held.evidence()
    result = reconcile(monitor.history, evidence, monitor.tally)
    shredded = monitor.history.shredded

    def state_of(index: int) -> str:
        if mirror.is_open(index):
            return OPENED
        return ERASED if index in shredded else CLOSED

    return Subject(
        "state",
        sha256_text(monitor.signed),
        monitor.signed,
        policy,
        standing(monitor, result, Report(held.contradictions())),
        monitor.history,
        state_of,
        result,
        monitor.trusted,
        tuple(held.pieces()),
        _given(evidence),
    )


def of_export(
    path: Path,
    policy: Policy | None,
    *,
    processes: int = 1,
    views: Views | None = None,
    take: Callable[[Held], list[Finding]] | None = None,
    options: Sequence[str] = (),
) -> Subject:
    """Verify and reconcile an export.

    Args:
        path: the exported folder.
        policy: whom the auditor trusts; None where nobody vouches for the export.
        processes: how many share the work.
        views: view keys that open what the export encloses.
        take: adds further evidence; returns what is wrong with it.
        options: names of the arguments that gave it.

    Raises:
        OSError, EncodingError: there is no manifest to name the export by.
    """
    done = audit(path, policy, Plan(processes=processes, views=views))
    with Folder(path) as folder, tempfile.TemporaryDirectory() as place:
        digest = sha256_text(folder.read(FILE, note.MAX_BYTES))
        held = Held(Path(place))
        found = _attached(folder, done, held) + (take(held) if take else [])
        signed = b"" if done.trusted is None else folder.read(CHECKPOINT, note.MAX_BYTES)
        evidence = held.evidence()
        result = reconcile(done.history, evidence)
        found += held.contradictions()
        pieces = (*held.pieces(), *_keys(views))
    history = done.history
    states = [] if done.contents is None else done.contents.openness.within(0, history.size)
    refused = (item.index for item in history.refused.values())
    read = {*history.by_index, *refused, *history.repeats}
    opened = [OPENED if index in read else state for index, state in enumerate(states)]
    return Subject(
        "export",
        digest,
        signed,
        policy,
        with_result(done.verdict, result, found),
        history,
        opened.__getitem__,
        result,
        done.trusted,
        pieces,
        _given(evidence),
        options,
    )


def _attached(folder: Folder, done: Audit, held: Held) -> list[Finding]:
    """Keep the journals and tag keys of an export; damaged ones are findings of the verdict."""
    found: list[Finding] = []
    if done.contents is None:
        return found
    for path in done.contents.numbered(JOURNALS):
        with suppress(EncodingError, OSError):
            data = folder.read_listed(done.contents.file(path))
            found += held.take_journal(path, data)
    if TAG_KEYS in done.contents.files:
        try:
            held.take(TAG_KEYS, folder.read_listed(done.contents.file(TAG_KEYS)))
        except (EncodingError, OSError) as error:
            found.append(Finding("damaged", TAG_KEYS, str(error)))
    return found


def _keys(views: Views | None) -> list[Piece]:
    """Name the view keys by their digest: they are random, so it shows nothing of them."""
    data = b"" if views is None else views.to_bytes()
    return [Piece("views", len(data), sha256_text(data))] if data else []


def _given(evidence: Evidence) -> dict[str, int]:
    counts = {CANARIES: len(tuple(evidence.canaries)), ROSTER: len(evidence.roster or ())}
    return {name: count for name, count in counts.items() if count}
