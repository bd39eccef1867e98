"""What people and programs read at the end of a scenario."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from marketplace.scenario.play import Outcome, Played

WIDTH = 78


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return the one object that `--json` prints."""
    return {
        "scenario": outcome.scenario.title,
        "held": outcome.held,
        "jobs": [
            {
                "name": job.name,
                "task": job.task,
                "state": job.state,
                "seconds": round(job.seconds, 3),
                "result": job.result,
                "receipts": list(job.receipts),
                "error": job.error or None,
            }
            for job in outcome.jobs
        ],
        "expectations": [
            {"name": each.name, "held": each.held, "detail": each.detail}
            for each in outcome.expectations
        ],
        "refusals": [
            {
                "name": each.name,
                "reason": each.reason,
                "held": each.held,
                "detail": each.detail,
            }
            for each in outcome.refusals
        ],
        "ledger": {
            "size": outcome.verdict.size,
            "root": outcome.verdict.root,
            "export": str(outcome.export),
            "vkey": outcome.log_key,
        },
    }


def as_text(outcome: Outcome) -> str:
    """Return the page that a person reads."""
    return "\n".join(_page(outcome)) + "\n"


def _page(outcome: Outcome) -> Iterator[str]:
    scenario = outcome.scenario
    yield scenario.title
    yield "=" * len(scenario.title)
    if scenario.description:
        yield scenario.description.strip()
    yield ""
    yield f"{len(scenario.providers)} providers kept their data; nobody else saw a row."
    for provider in scenario.providers:
        yield f"  {provider.name:<32} {provider.price_cents / 100:>10.2f} a use"
    for job in outcome.jobs:
        yield ""
        yield from _job(job)
    yield from _comparisons(outcome)
    yield from _checks(outcome)
    yield from _ledger(outcome)
    yield ""
    yield _verdict(outcome)
    yield ""
    yield from _next_commands(outcome)


def _job(job: Played) -> Iterator[str]:
    yield f"Job {job.name} ({job.task}): {job.state} in {job.seconds:.2f} s"
    if job.error:
        yield f"  {job.error}"
    refused = [each for each in job.receipts if each["reason"]]
    for receipt in refused:
        yield f"  {receipt['provider']}: {receipt['state']} ({receipt['reason']})"
    result = job.result
    if "coefficients" in result:
        yield from _regression(result)
    elif "sums" in result:
        for column, value in result["sums"].items():
            yield f"  sum of {column:<20} {_number(value):>16}"
    elif result:
        yield f"  {'column':<16} {'count':>8} {'missing':>8} {'mean':>14} {'variance':>14}"
        for column, row in result.items():
            mean, variance = _number(row["mean"]), _number(row["variance"])
            line = f"  {column:<16} {row['count']:>8} {row['missing']:>8}"
            yield f"{line} {mean:>14} {variance:>14}"


def _regression(result: dict[str, Any]) -> Iterator[str]:
    metrics = result["metrics"]
    yield (
        f"  {result['rows']} training rows, {result['iterations']} Newton steps; right on "
        f"{metrics['correct']} of {metrics['rows']} {metrics.get('metrics_rows', '')} rows "
        f"({metrics['accuracy']:.4f})"
    )
    largest = sorted(result["coefficients"].items(), key=lambda item: -abs(item[1]))[:5]
    named = ", ".join(f"{name} {value:+.3f}" for name, value in largest)
    yield f"  strongest coefficients (standardised): {named}"


def _comparisons(outcome: Outcome) -> Iterator[str]:
    for compared in outcome.comparisons:
        part = compared.part
        yield ""
        yield part.title
        yield f"  {'this run, no row moved':<48} {compared.ours:.4f}"
        for name, value in part.values:
            yield f"  {name:<48} {value:.4f}"
        if part.source:
            yield f"  ({part.source})"


def _checks(outcome: Outcome) -> Iterator[str]:
    if outcome.expectations:
        yield ""
        yield "What the scenario expects"
        for each in outcome.expectations:
            yield f"  {_mark(held=each.held)} {each.name}: {each.detail}"
    if outcome.refusals:
        yield ""
        yield "What nodes must refuse, with the operator's own checks switched off"
        for tried in outcome.refusals:
            yield f"  {_mark(held=tried.held)} {tried.what}: {tried.reason}"
            if not tried.held:
                yield f"       {tried.detail}"


def _ledger(outcome: Outcome) -> Iterator[str]:
    verdict = outcome.verdict
    checked = verdict.checked
    yield ""
    yield f"The auditor's verdict on the exported ledger: {verdict.status}"
    yield (
        f"  {checked.get('entries', 0)} entries, {checked.get('signatures', 0)} signatures, "
        f"{checked.get('contributions', 0)} contributions, {checked.get('receipt', 0)} receipts, "
        f"{checked.get('settled_cents', 0) / 100:.2f} settled; {verdict.sealed} sealed"
    )
    for finding in (*verdict.findings, *verdict.missing)[:10]:
        yield f"  {finding.where}: {finding.message}"


def _verdict(outcome: Outcome) -> str:
    if outcome.held:
        return f"All of it held, in {outcome.seconds:.1f} s."
    return f"Not all of it held (see the lines marked NO), after {outcome.seconds:.1f} s."


def _next_commands(outcome: Outcome) -> Iterator[str]:
    market = outcome.folder / "market"
    yield "Next:"
    yield "  check the ledger yourself, with the log's key from this page and not from the folder:"
    yield f"    ./run rongshu audit verify {outcome.export} --key '{outcome.log_key}'"
    yield "  see who used what, for which purpose, and when:"
    yield f"    ./run rongshu audit list {outcome.export} --key '{outcome.log_key}'"
    yield "  keep this market running, and open http://127.0.0.1:8448/v1/docs:"
    yield f"    ./run rongshu serve --embedded {market}"


def _mark(*, held: bool) -> str:
    return "yes" if held else "NO "


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
