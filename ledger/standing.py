"""How a followed log stands: one verdict over everything that was ever found, and what lacks now.

    result = reconcile(monitor.history, held.evidence())
    verdict = standing(monitor, result, look)

The counterpart of the verdict on an export (`ledger.verify`), in the same words.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ledger.finding import MAX_FINDINGS, Finding, Report
from ledger.freshness import describe
from ledger.monitor import Monitor
from ledger.reconcile import Reconciliation
from ledger.verdict import INCOMPLETE, SOUND, TAMPERED, UNTRUSTED, Verdict, changes_of_key
from ledger.verify import participants_of

NAMES = {
    "agreements": "reconciled_agreements",
    "jobs": "reconciled_jobs",
    "results": "compared_results",
    "use_indexes": "recomputed_use_indexes",
}
SCOPE = "everything that the log showed to this auditor"


def standing(
    monitor: Monitor, result: Reconciliation | None = None, look: Report | None = None
) -> Verdict:
    """Return the verdict on what a monitor has verified.

    Args:
        monitor: after any number of looks.
        result: what reconciling its history found.
        look: the newest look, for what is missing now and not for good.
    """
    report = Report()
    report.findings += monitor.findings
    report.missing += monitor.missing
    for other in (look, result):
        if other is not None:
            report.findings += _fresh(other.findings, report.findings)
            report.missing += _fresh(other.missing, report.missing)
    history, trusted = monitor.history, monitor.trusted
    checked = dict(monitor.checked) | dict(history.checked) | {"entries": history.size}
    sealed = checked.pop("sealed", 0)
    if result is not None:
        checked |= reconciled(result)
    if sealed == history.size and not (report.findings or report.missing):
        report.miss("nothing_checked", "log", "no entry is open: nothing could be checked")
    verdict = Verdict(
        status=_status(report),
        size=monitor.size,
        scope=SCOPE,
        key_given=True,
        participants=list(participants_of(history)),
        checked=checked,
        sealed=sealed,
        erased=len(history.shredded),
        unchecked=monitor.unchecked,
        findings=report.findings[:MAX_FINDINGS],
        missing=report.missing[:MAX_FINDINGS],
    )
    if trusted is not None:
        verdict.origin, verdict.root = trusted.checkpoint.origin, trusted.checkpoint.root.hex()
        verdict.key_fingerprint = trusted.key.fingerprint
        verdict.key_changes = changes_of_key(monitor.key_changes, history.entries)
        verdict.witnesses = [{"name": name, "time": time} for name, time in trusted.witnesses]
        verdict.witnessed_at = trusted.witnessed_at
    verdict.freshness = describe(verdict)
    return verdict


def with_result(verdict: Verdict, result: Reconciliation, more: Iterable[Finding] = ()) -> Verdict:
    """Return the verdict on an export with what reconciling it found.

    Args:
        verdict: of `ledger.verify`.
        result: of reconciling the same history.
        more: further findings.
    """
    findings = verdict.findings + _fresh([*result.findings, *more], verdict.findings)
    missing = verdict.missing + _fresh(result.missing, verdict.missing)
    status = verdict.status
    if verdict.key_given and status != UNTRUSTED:
        status = _status(Report(findings, missing)) if findings or missing else status
    return replace(
        verdict,
        status=status,
        checked=verdict.checked | reconciled(result),
        findings=findings[:MAX_FINDINGS],
        missing=missing[:MAX_FINDINGS],
    )


def reconciled(result: Reconciliation) -> dict[str, int]:
    """Return what was compared, by names that no kind of statement has."""
    return {NAMES.get(name, name): number for name, number in result.checked.items() if number}


def _fresh(items: list[Finding] | tuple[Finding, ...], known: list[Finding]) -> list[Finding]:
    seen = set(known)
    return [item for item in items if item not in seen]


def _status(report: Report) -> str:
    if report.findings:
        return TAMPERED
    if any(item.code == "untrusted" for item in report.missing):
        return UNTRUSTED
    return INCOMPLETE if report.missing else SOUND
