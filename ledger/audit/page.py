"""The audit report as a page to read and print: one file, no script, nothing fetched.

Decides how a report looks. Every figure and word comes from the signed report; every text is
escaped, since names and messages come from strangers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from ledger.accounts import STAGES
from ledger.audit.page_style import STYLE
from ledger.audit.text import iso

STATUS = {
    "sound": ("Sound", "Everything that was opened to this auditor was checked, and it holds."),
    "structure": ("Structure holds", "Hashes, tiles, root and chain hold. Nothing else was asked."),
    "tampered": ("Tampered", "Something is changed, forged, left out or against the rules."),
    "incomplete": ("Incomplete", "Nothing was found false, but evidence is missing."),
    "untrusted": ("Trust not met", "No key from outside vouches for what was checked."),
}
MAX_CELLS = 120
"""Most epochs that are drawn one by one; of longer logs the newest are."""

Report = Mapping[str, Any]


def page(report: Report, digest: str) -> str:
    """Return the whole page.

    Args:
        report: what `ledger.report.open_report` returned, or is about to be signed.
        digest: of the signed report that the page belongs to.
    """
    title = f"Audit of {report['log']['origin'] or 'a ledger'}"
    body = "".join(
        part
        for section in (
            _head(report, title),
            _summary(report),
            _findings(report),
            _checks(report),
            _money(report),
            _epochs(report),
            _disclosure(report),
            _trust(report),
            _limits(report),
            _reproduce(report, digest),
        )
        for part in section
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
        f"<main>\n{body}</main>\n</body>\n</html>\n"
    )


def _head(report: Report, title: str) -> Iterator[str]:
    name, sentence = STATUS[report["verdict"]["status"]]
    status = _text(report["verdict"]["status"])
    period = report["period"]
    span = f"{iso(period['first'])} to {iso(period['last'])}" if period else "no entries"
    yield f'<header>\n<p class="kind">Audit report</p>\n<h1>{_text(title)}</h1>\n'
    yield f'<div class="verdict {status}"><strong>{_text(name)}</strong> '
    yield f"<span>{_text(sentence)}</span></div>\n"
    auditor = report["auditor"]
    yield _facts(
        (
            ("Auditor", f"{_text(auditor['name'])} {_small(_code(auditor['fingerprint']))}"),
            ("Made", _text(iso(report["made"]))),
            ("Period of the log", _text(span)),
            ("Scope", _text(report["source"]["scope"] or "unknown")),
            ("Freshness", _text(report["verdict"]["freshness"])),
        )
    )
    yield "</header>\n"


def _summary(report: Report) -> Iterator[str]:
    rows = report["checks"]
    made = sum(row["not_made"] is None for row in rows)
    totals = report["money"]["totals"]
    opened = sum(row["opened"] for row in report["disclosure"])
    tiles = (
        (f"{report['log']['size']:,}", "entries in the log"),
        (f"{opened:,}", "statements opened"),
        (f"{report['checked'].get('signatures', 0):,}", "statements' signatures"),
        (f"{made} of {len(rows)}", "checks made"),
        (f"{len(report['findings']):,}", "findings"),
        (f"{len(report['missing']):,}", "things missing"),
        (_cents(totals.get("billed_cents", 0)), "billed"),
    )
    yield '<ul class="tiles" aria-label="Figures">\n'
    for figure, words in tiles:
        yield f"<li><b>{_text(figure)}</b> {_text(words)}</li>\n"
    yield "</ul>\n"


def _findings(report: Report) -> Iterator[str]:
    yield from _section("Findings", "findings")
    if not report["findings"]:
        yield '<p class="good">No finding: nothing that was checked is false.</p>\n'
    else:
        yield from _finding_table(report["findings"], "What is wrong, and which entries prove it")
    if report["missing"]:
        yield "<h3>Missing evidence</h3>\n"
        yield from _finding_table(report["missing"], "What could not be decided", graded=False)
    if report["verdict"]["unchecked"]:
        yield (
            f"<p>{report['verdict']['unchecked']:,} opened entries rest on sealed ones: their "
            "signatures were checked, but not every rule.</p>\n"
        )
    yield "</section>\n"


def _finding_table(items: Sequence[Report], caption: str, *, graded: bool = True) -> Iterator[str]:
    def rows() -> Iterator[Sequence[str]]:
        for item in items:
            severity = _text(item["severity"])
            mark = (f'<span class="mark {severity}">{severity}</span>',) if graded else ()
            entries = ", ".join(str(index) for index in item["entries"]) or "–"
            told = (_text(item["where"]), _text(item["message"]), _text(entries))
            yield (*mark, _code(item["code"]), *told)

    heads = ("Severity", "Code", "Where", "What", "Entries")
    yield from _table(caption, heads if graded else heads[1:], rows())


def _checks(report: Report) -> Iterator[str]:
    yield from _section("Checks", "checks")

    made = [row for row in report["checks"] if row["not_made"] is None]
    others = [row for row in report["checks"] if row["not_made"] is not None]
    heads = ("Question", "Times asked", "Outcome")
    yield from _table("Checks that were made", heads, map(_made, made), numbers=(1,))
    if others:
        yield from _table(
            "Checks that were not made",
            ("Question", "Why it was not asked"),
            ((_text(row["question"]), _text(row["not_made"])) for row in others),
        )
    yield "</section>\n"


def _made(row: Report) -> tuple[str, str, str]:
    if row["findings"] or row["missing"]:
        told, mark = f"{row['findings']} wrong, {row['missing']} missing", "serious"
    else:
        told, mark = "holds", "ok"
    outcome = f'<span class="mark {mark}">{_text(told)}</span>'
    return _text(row["question"]), f"{row['checked']:,}", outcome


def _money(report: Report) -> Iterator[str]:
    ledger = report["money"]
    names, totals = _names(report), ledger["totals"]
    yield from _section("Agreements and money", "money")
    if not ledger["agreements"]:
        yield "<p>No agreement was opened to this auditor.</p>\n</section>\n"
        return

    def between(row: Report) -> str:
        provider, researcher = (names.get(row[who], "?") for who in ("provider", "researcher"))
        place = f"entry {row['entry']}: {_text(provider)} to {_text(researcher)}"
        return f"{_short(row['agreement'])} {_small(place)}"

    rows = [
        (between(row), *(_stage(row["stages"], stage) for stage in STAGES), f"{row['uses']:,}")
        for row in ledger["agreements"]
    ]
    rows.append(("<b>Total</b>", *(_bold(_stage(totals, stage)) for stage in STAGES), ""))
    heads = ("Agreement", *STAGES, "uses allowed")
    yield from _table("Jobs under each agreement, by stage", heads, rows, numbers=range(1, 10))
    yield "<p>“Started” is what nodes' journals say; – where no journal says anything.</p>\n"
    sums = [(between(row), *map(_cents, _amounts(row))) for row in ledger["agreements"]]
    sums.append(("<b>Total</b>", *(_bold(_cents(item)) for item in _amounts(totals))))
    yield from _table(
        "Money under each agreement",
        ("Agreement", "due for releases", "billed", "operator's fee", "provider's share"),
        sums,
        numbers=range(1, 5),
    )
    if ledger["others"]:
        yield f"<p>{ledger['others']:,} further agreements are in the totals alone.</p>\n"
    balanced = "add up to zero" if ledger["balance_cents"] == 0 else "DO NOT add up to zero"
    yield (
        f"<p>Double entry: all postings of all bills {balanced} "
        f"({_cents(ledger['balance_cents'])}). Amounts are exact, in hundredths.</p>\n</section>\n"
    )


def _amounts(row: Report) -> tuple[int, int, int, int]:
    due, billed, fee, share = (row.get(name, 0) for name in MONEY)
    return due, billed, fee, share


def _stage(stages: Report, stage: str) -> str:
    return f"{stages[stage]:,}" if stage in stages else ("–" if stage == "started" else "0")


def _bold(html: str) -> str:
    return f"<b>{html}</b>"


STATES = ("entries", "opened", "enclosed", "closed", "erased")
MONEY = ("due_cents", "billed_cents", "fee_cents", "share_cents")


def _epochs(report: Report) -> Iterator[str]:
    yield from _section("Epochs", "epochs")
    epochs = report["epochs"]
    if epochs is None:
        yield "<p>The log has no open schedule: no epoch is due, and none is missing.</p>\n"
        yield "</section>\n"
        return
    yield (
        f"<p>An epoch is {epochs['epoch_entries']:,} entries; its closes are due "
        f"{epochs['grace_entries']:,} entries after it ended. {epochs['ended']:,} have ended, "
        f"{epochs['overdue']:,} are due, {epochs['indexed']:,} have an index of used assets.</p>\n"
    )

    def rows() -> Iterator[Sequence[str]]:
        for row in epochs["assets"]:
            yield (
                f"{_text(row['name'])} <small>{_short(row['asset'])}</small>",
                f"{row['closed']:,}",
                f"{row['missing_count']:,}",
                _grid(row, epochs["ended"]),
            )

    heads = ("Asset", "Closed", "Missing", "Epochs, oldest first")
    yield from _table("Closed and missing epochs of each asset", heads, rows(), numbers=(1, 2))
    yield (
        '<p class="legend"><i class="cell closed"></i> closed '
        '<i class="cell missing">×</i> missing <i class="cell open"></i> not due yet '
        '<i class="cell none"></i> before the asset</p>\n'
        "</section>\n"
    )


def _grid(row: Report, ended: int) -> str:
    """Draw one cell an epoch; the words say the same to whoever does not see it."""
    missing = set(row["missing"])
    first = max(0, ended - MAX_CELLS)
    cells = []
    for number in range(first, max(ended, first)):
        if number < row["first"]:
            state, mark = "none", ""
        elif number in missing:
            state, mark = "missing", "×"
        elif number < row["first"] + row["closed"] + len(missing):
            state, mark = "closed", ""
        else:
            state, mark = "open", ""
        cells.append(f'<i class="cell {state}" title="epoch {number}: {state}">{mark}</i>')
    words = f"{row['closed']} closed, {row['missing_count']} missing"
    if row["missing"]:
        words += ": " + ", ".join(str(number) for number in row["missing"][:10])
    left = _small(f"epochs before {first} are not drawn") if first else ""
    drawn = "".join(cells)
    return f'{left}<span class="grid" role="img" aria-label="{_text(words)}">{drawn}</span>'


def _disclosure(report: Report) -> Iterator[str]:
    yield from _section("What was disclosed", "disclosure")

    def rows() -> Iterator[Sequence[str]]:
        for row in report["disclosure"]:
            share = round(100 * row["opened"] / row["entries"])
            bar = f'<span class="bar" aria-hidden="true"><i style="width:{share}%"></i></span>'
            yield (
                _text(row["kind"].replace("_", " ")),
                *(f"{row[name]:,}" for name in STATES),
                bar,
            )

    heads = ("Kind", "Entries", "Opened", "Sealed, no key", "Closed", "Erased", "Share opened")
    yield from _table("Entries by kind, and how many were open", heads, rows(), numbers=range(1, 6))
    if report["erasures"]:
        yield from _table(
            "Erased statements, by class",
            ("Kind", "Statements", "By entry", "Cause"),
            (
                (
                    _text(item["kind"]),
                    f"{item['count']:,}",
                    str(item["entry"]),
                    _text(item["cause"]),
                )
                for item in report["erasures"]
            ),
            numbers=(1, 2),
        )
    else:
        yield "<p>No statement was erased by the word of the log.</p>\n"
    yield "</section>\n"


def _trust(report: Report) -> Iterator[str]:
    log, checkpoint = report["log"], report["checkpoint"]
    yield from _section("Keys, checkpoint and witnesses", "trust")
    given = "given to the auditor from elsewhere" if log["key_given"] else "the folder's own claim"
    facts = [
        ("Log", _text(log["origin"] or "unknown")),
        ("Log key", f"{_code(log['fingerprint'] or 'unknown')} <small>{_text(given)}</small>"),
        ("Root", _code(log["root"] or "unknown")),
    ]
    if checkpoint is not None:
        seen = ", ".join(
            f"{_text(item['name'])} <small>{_text(iso(item['time'] * 1000))}</small>"
            for item in checkpoint["witnesses"]
        )
        at = checkpoint["witnessed_at"]
        facts += [
            ("Checkpoint", f"{checkpoint['size']:,} entries"),
            ("Quorum asked for", _text(checkpoint["quorum"])),
            ("Witnesses", seen or "none"),
            ("Quorum since", "no quorum was asked for" if at is None else _text(iso(at * 1000))),
        ]
    yield _facts(facts)
    if checkpoint is not None:
        yield "<details><summary>The signed checkpoint</summary>\n"
        yield f'<pre tabindex="0">{_text(checkpoint["note"])}</pre></details>\n'
    if report["policy"]:
        yield "<details><summary>The policy of the auditor</summary>\n"
        yield f'<pre tabindex="0">{_text(report["policy"])}</pre></details>\n'
    if report["participants"]:
        heads = ("Participant", "Roles", "Key fingerprint at enrolment")
        yield from _table(
            "Participants: compare fingerprints with what they told you",
            heads,
            (
                (_text(item["name"]), _text(", ".join(item["roles"])), _code(item["fingerprint"]))
                for item in report["participants"]
            ),
        )
    yield from _key_changes(report["key_changes"])
    yield "</section>\n"


def _key_changes(changes: Report) -> Iterator[str]:
    rows = [
        ("The log", f"after {item['size']:,} entries", item["old"], item["new"], item["by"])
        for item in changes["log"]
    ]
    rows += [
        (f"{item['name']} ({item['of']})", f"entry {item['entry']:,}", *_changed(item))
        for item in changes["parties"]
    ]
    if rows:
        yield from _table(
            "Changes of keys: whoever has an older fingerprint finds it here",
            ("Whose", "Where", "Old fingerprint", "New fingerprint", "Vouched for by"),
            (
                (_text(whose), _text(where), _code(old), _code(new), _text(f"the old {by}"))
                for whose, where, old, new, by in (
                    (*row[:4], "key" if row[4] == "key" else "recovery key") for row in rows
                )
            ),
        )
    if changes["others"]:
        yield f"<p>{changes['others']:,} more changes are not listed.</p>\n"


def _changed(item: Report) -> tuple[str, str, str]:
    return item["old"] or "unknown", item["new"], item["by"]


def _limits(report: Report) -> Iterator[str]:
    yield from _section("Assumptions, and what cannot be seen", "limits")
    yield "<ul>\n"
    for item in report["assumptions"]:
        yield f"<li>{_text(item['text'])}</li>\n"
    yield "</ul>\n</section>\n"


def _reproduce(report: Report, digest: str) -> Iterator[str]:
    yield from _section("Reproduce this report", "reproduce")
    source = report["source"]
    what = "manifest of the export" if source["kind"] == "export" else "checkpoint of the state"
    yield "<p>Take the same evidence, compare its digest, and run:</p>\n"
    yield f'<pre tabindex="0">{_text(report["reproduce"]["command"])}</pre>\n'
    facts = [
        (f"Digest of the {what}", _code(report["reproduce"]["digest"])),
        ("Digest of the signed report", _code(digest)),
    ]
    facts += [
        (
            f"Evidence: {item['name']}",
            _code(item["digest"]) + _small(f"{item['length']:,} bytes"),
        )
        for item in report["evidence"]
    ]
    yield _facts(facts)
    yield (
        "<p>This page shows what the signed report <code>report.json</code> beside it says; the "
        "signature is there. Check it with <code>rongshu audit report --check report.json "
        "--auditor VKEY</code>.</p>\n</section>\n"
    )


# Pieces.


def _section(title: str, name: str) -> Iterator[str]:
    yield f'<section aria-labelledby="{name}">\n<h2 id="{name}">{_text(title)}</h2>\n'


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{_text(name)}</dt><dd>{value}</dd>\n" for name, value in facts)
    return f"<dl>\n{rows}</dl>\n"


def _table(
    caption: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: Iterable[int] = (),
) -> Iterator[str]:
    """Yield a table; cells are HTML already, heads and caption are not."""
    right = set(numbers)

    def place(column: int) -> str:
        return ' class="number"' if column in right else ""

    yield f'<div class="scroll" tabindex="0" role="region" aria-label="{_text(caption)}">\n'
    yield f"<table>\n<caption>{_text(caption)}</caption>\n<thead><tr>"
    for column, head in enumerate(heads):
        yield f'<th scope="col"{place(column)}>{_text(head)}</th>'
    yield "</tr></thead>\n<tbody>\n"
    for row in rows:
        cells = "".join(f"<td{place(column)}>{cell}</td>" for column, cell in enumerate(row))
        yield f"<tr>{cells}</tr>\n"
    yield "</tbody>\n</table>\n</div>\n"


def _small(html: str) -> str:
    return f"<small>{html}</small>"


def _names(report: Report) -> dict[str, str]:
    return {item["id"]: item["name"] for item in report["participants"]}


def _cents(cents: int) -> str:
    sign = "−" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100:,}.{abs(cents) % 100:02d}"


def _short(statement_id: str) -> str:
    kind, _, digest = statement_id.partition(":")
    return f'<code title="{_text(statement_id)}">{_text(kind)}:{_text(digest[:8])}</code>'


def _code(text: str) -> str:
    return f"<code>{_text(text)}</code>"


def _text(text: str) -> str:
    """Escape a text; what could reorder or hide others (bidirectional marks) is spelled out."""
    spelled = "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )
    return escape(spelled)
