"""What a person reads at the end of a scenario: one page of plain text."""

from __future__ import annotations

import shlex
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from federated.tasks import JointTask, find_task
from marketplace.scenario.parts import JobPart
from marketplace.scenario.play import MARKET_FOLDER, Outcome, Played

WIDTH = 78
STRONGEST = 5
MOST_FINDINGS = 10
RESEARCHER_FOLDER = "parties/researcher"
OPTIONS = {"columns", "rows", "ridge", "outcome", "receiver", "value", "compares", "learns"}
"""Parameters for which `rongshu job submit` has an option; others go into a file."""

SEEN = (
    ("a provider", "its own rows and who asked for what", "any row of another"),
    ("the operator", "masked numbers, the sums of each round", "a row; one provider's numbers"),
    ("", "and who asked what, when, for which end", "the sums of an encrypted job"),
    ("the researcher", "the answers on this page", "a row; one provider's numbers"),
    ("the auditor", "every signed step of every use", "a value of any data"),
)
SEEN_IN_JOINT_JOBS = (
    ("a provider", "its own rows, sizes, and a list of its own", "any other row of another"),
    ("", "rows where the job says so", ""),
    ("the operator", "sealed parcels, the nodes' reports,", "a row, or what nodes tell each other"),
    ("", "and who asked what, when, for which end", ""),
    *SEEN[3:],
)
SEEN_ON_SHARES = (
    ("a provider", "its own rows, and each outcome", "a number that was not opened"),
    ("the operator", "sealed parcels, each outcome,", "a number that was not opened"),
    ("", "and who asked what, when, for which end", ""),
    ("the researcher", "the answers on this page", "a number that was not opened"),
    SEEN[-1],
)
ON_SHARES = ("order_statistic", "auction")


def as_text(outcome: Outcome, program: str = "rongshu", example: str | None = None) -> str:
    """Return the page.

    Args:
        outcome: what was played.
        program: how the reader starts `rongshu`, for the commands to try next.
        example: a scenario file to start from, where there is one at hand.
    """
    parts = (
        _opening(outcome),
        _answers(outcome),
        _comparisons(outcome),
        _seen(outcome),
        _refusals(outcome),
        _ledger(outcome),
        _expectations(outcome),
        _verdict(outcome),
        _next_commands(outcome, program, example),
    )
    return "\n".join(line.rstrip() for part in parts for line in part) + "\n"


def _opening(outcome: Outcome) -> Iterator[str]:
    scenario = outcome.scenario
    yield scenario.title
    yield "=" * min(WIDTH, _width(scenario.title))
    if scenario.description.strip():
        yield ""
        yield from _prose(" ".join(scenario.description.split()))
    yield from _heading("What happened")
    yield from _prose(
        f"{len(scenario.providers)} providers listed their data. Each kept its file where it was "
        "and set its own terms. A researcher agreed with each of them, then asked for "
        f"{_several(len(scenario.jobs), 'job')}. Before it opened its file, each provider's node "
        "checked in the ledger that the job was signed, agreed and granted."
    )
    yield ""
    yield from _table(
        ("provider", "rows", "price of a use"),
        [
            (provider.name, f"{rows:,}", _money(provider.price_cents))
            for provider, rows in zip(scenario.providers, outcome.rows, strict=True)
        ],
    )


def _answers(outcome: Outcome) -> Iterator[str]:
    yield from _heading("What the researcher got")
    for number, job in enumerate(outcome.jobs):
        if number:
            yield ""
        ended = f"{job.state} in {job.seconds:.1f} s"
        if not job.held:
            ended += "  <- NOT as it should be"
        yield f"{job.name} ({job.task}): {ended}"
        yield from _answer(job)


def _answer(job: Played) -> Iterator[str]:
    if job.error:
        yield from _prose(job.error, "  ")
        refused = [each for each in job.receipts if each["reason"]]
        yield from (f"  {each['provider']}: {each['reason']}" for each in refused)
    elif job.task == "vertical":
        yield from _vertical(job.result)
    elif "coefficients" in job.result:
        yield from _regression(job.result)
    elif "sums" in job.result:
        yield from _table(
            ("column", "sum"),
            [(column, _number(value)) for column, value in job.result["sums"].items()],
        )
    elif job.task == "linkage":
        first, second = job.result["sizes"]
        yield f"  {job.result['links']:,} pairs, of {first:,} rows and {second:,}"
    elif job.task == "intersection":
        yield from _intersection(job.result)
    elif job.task in ON_SHARES:
        yield from _compared(job.result)
    else:
        yield from _table(
            ("column", "count", "missing", "mean", "variance"),
            [
                (
                    column,
                    f"{row['count']:,}",
                    f"{row['missing']:,}",
                    _number(row["mean"]),
                    _number(row["variance"]),
                )
                for column, row in job.result.items()
            ],
        )


def _regression(result: dict[str, Any]) -> Iterator[str]:
    metrics = result["metrics"]
    yield f"  fitted on {result['rows']:,} training rows in {result['iterations']} Newton steps"
    yield (
        f"  right on {metrics['correct']:,} of {metrics['rows']:,} {metrics['metrics_rows']} rows, "
        f"a share of {metrics['accuracy']:.4f}"
    )
    yield from _prose(
        f"strongest coefficients, on standardised columns: {_strongest(result)}", "  "
    )


def _vertical(result: dict[str, Any]) -> Iterator[str]:
    yield (
        f"  {result['model']} model, fitted on {result['rows']:,} rows in common in "
        f"{result['iterations']} steps"
    )
    metrics = result["metrics"] or {}
    if "auc" in metrics:
        yield f"  area under the ROC curve on these rows {metrics['auc']:.4f}"
    elif "r2" in metrics:
        yield f"  explains a share of {metrics['r2']:.4f} of the label's variance on these rows"
    yield from _prose(
        f"strongest coefficients, on columns as scaled ({result['scaling']}): {_strongest(result)}",
        "  ",
    )


def _strongest(result: dict[str, Any]) -> str:
    largest = sorted(result["coefficients"].items(), key=lambda item: -abs(item[1]))[:STRONGEST]
    return ", ".join(f"{name} {value:+.3f}" for name, value in largest)


def _intersection(result: dict[str, Any]) -> Iterator[str]:
    sizes = result["sizes"]
    yield (
        f"  {result['size']:,} in common, of {sizes['receiver']:,} at the receiver and "
        f"{sizes['sender']:,} at the sender"
    )
    if "sum" in result:
        yield f"  the sum over them is {result['sum']:,}"


def _compared(result: dict[str, Any]) -> Iterator[str]:
    for key in ("value", "values", "more", "who", "winner", "price", "quantity"):
        if key in result:
            found = result[key] if isinstance(result[key], list) else [result[key]]
            yield f"  {key}: {', '.join(map(_found, found))}"
    yield (
        f"  opened out of {result['numbers']:,} secret numbers, in {result['rounds']} rounds; the "
        "others stay secret"
    )


def _found(one: Any) -> str:
    if one is None:
        return "none"
    return str(one["name"]) if isinstance(one, dict) else _number(one)


def _comparisons(outcome: Outcome) -> Iterator[str]:
    for compared in outcome.comparisons:
        part = compared.part
        yield from _heading(part.title)
        ours = (f"{part.job!r} on this page, no row moved", compared.ours)
        yield from _table((), [(name, f"{value:.4f}") for name, value in (ours, *part.values)])
        if part.source:
            yield from _prose(f"Source: {part.source}", "  ")


def _seen(outcome: Outcome) -> Iterator[str]:
    yield from _heading("Who saw what")
    seen: Sequence[tuple[str, str, str]] = SEEN
    if any(isinstance(find_task(job.task), JointTask) for job in outcome.scenario.jobs):
        seen = SEEN_IN_JOINT_JOBS
    if any(job.task in ON_SHARES for job in outcome.scenario.jobs):
        seen = SEEN_ON_SHARES
    table = (("", "saw", "did not see"), *seen)
    widths = [max(len(row[at]) for row in table) for at in range(3)]
    for row in table:
        yield "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
    yield ""
    yield from _prose(
        "Here all of them ran on one machine, which shows how they work together and protects "
        "nothing from its owner. Exact answers reveal what exact answers reveal."
    )


def _refusals(outcome: Outcome) -> Iterator[str]:
    if not outcome.refusals:
        return
    yield from _heading("What the nodes refused")
    yield from _prose(
        "Each of these was put to the nodes with the operator's own checks switched off. "
        "A node must say no by itself, sign a receipt that says why, and leave its file closed."
    )
    yield ""
    width = max(_width(tried.what) for tried in outcome.refusals)
    for tried in outcome.refusals:
        yield f"  {_mark(held=tried.held)}  {_padded(tried.what, width)}  {tried.reason}"
        if not tried.held:
            yield from _prose(f"instead: {tried.detail}", "       ")


def _ledger(outcome: Outcome) -> Iterator[str]:
    verdict, checked = outcome.verdict, outcome.verdict.checked
    yield from _heading(f"The auditor's verdict on the ledger: {verdict.status}")
    yield from _prose(
        f"Checked offline, with the log's key from outside the exported folder: "
        f"{checked.get('entries', 0)} entries, {checked.get('signatures', 0)} signatures, "
        f"{checked.get('receipt', 0)} receipts, {checked.get('contributions', 0)} contributions. "
        f"{_money(checked.get('settled_cents', 0))} were settled, and the shares add up."
        if verdict.exit_code == 0
        else f"{checked.get('entries', 0)} entries were read; this was found:"
    )
    found = (*verdict.findings, *verdict.missing)
    for finding in found[:MOST_FINDINGS]:
        yield from _prose(f"{finding.where}: {finding.message}", "  ")
    if len(found) > MOST_FINDINGS:
        yield f"  and {len(found) - MOST_FINDINGS} more"


def _expectations(outcome: Outcome) -> Iterator[str]:
    if not outcome.expectations:
        return
    yield from _heading("What the scenario file expects")
    width = max(_width(each.name) for each in outcome.expectations)
    for each in outcome.expectations:
        yield f"  {_mark(held=each.held)}  {_padded(each.name, width)}  {each.detail}"


def _verdict(outcome: Outcome) -> Iterator[str]:
    yield ""
    yield "-" * WIDTH
    if outcome.held:
        yield f"Everything held. It took {outcome.seconds:.1f} s."
    else:
        yield f"Not everything held: see the lines marked NO. It took {outcome.seconds:.1f} s."
    yield "-" * WIDTH


def _next_commands(outcome: Outcome, program: str, example: str | None) -> Iterator[str]:
    export, key = shlex.quote(str(outcome.export)), shlex.quote(outcome.log_key)
    folder = outcome.folder / MARKET_FOLDER
    market, researcher = (shlex.quote(str(each)) for each in (folder, folder / RESEARCHER_FOLDER))
    yield "Try next:"
    yield ""
    yield "  Check the ledger yourself. The key is on this page, so not from the folder:"
    yield f"    {program} audit verify {export} --key {key}"
    yield "  See who used what, for which purpose, and when:"
    yield f"    {program} audit list {export} --key {key}"
    yield "  Keep this market running, and look at its API in a browser:"
    yield f"    {program} serve --embedded {market}"
    yield "  Meanwhile, in a second terminal, be the researcher:"
    yield f"    {program} job list --home {researcher}"
    if _uses_are_left(outcome):
        again = shlex.join(_submission(outcome.scenario.jobs[0]))
        yield f"    {program} job submit --home {researcher} {again}"
    if example is not None:
        yield "  Use your own data: edit a copy of this file, and play it:"
        yield f"    {program} scenario run {shlex.quote(example)}"


def _uses_are_left(outcome: Outcome) -> bool:
    """Say whether one more job is permitted, and can be asked for on a command line."""
    used = sum(job.state == "released" for job in outcome.jobs)
    parameters = outcome.scenario.jobs[0].parameters
    plain = not any("," in column for column in parameters.get("columns", ()))
    least = min(provider.terms.uses for provider in outcome.scenario.providers)
    plain = plain and set(parameters) <= OPTIONS
    return plain and outcome.jobs[0].state == "released" and used < least


def _submission(part: JobPart) -> list[str]:
    """Return the arguments that ask for the same job once more."""
    words = ["--name", "again", "--task", part.task, "--purpose", part.purpose]
    for name, value in part.parameters.items():
        words += [f"--{name}", ",".join(value) if isinstance(value, list | tuple) else str(value)]
    return [*words, "--wait"]


def _heading(text: str) -> Iterator[str]:
    yield ""
    yield text
    yield "-" * min(WIDTH, _width(text))


def _prose(text: str, indent: str = "") -> Iterator[str]:
    yield from textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lay out rows; the first column is text, the others are numbers."""
    lines = [head, *rows] if head else list(rows)
    widths = [max(_width(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        rest = (f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        yield "  " + "  ".join((_padded(line[0], widths[0]), *rest))


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes; 蓉 takes two."""
    return sum(1 + (unicodedata.east_asian_width(each) in "WF") for each in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _several(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _money(cents: int) -> str:
    return f"{cents // 100:,}.{cents % 100:02}"


def _mark(*, held: bool) -> str:
    return "yes" if held else "NO "


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else f"{value:,}"
