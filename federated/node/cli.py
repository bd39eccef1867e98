"""Guard a data file: make a node, see what is asked of it, and grant or refuse it."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from federated.address import reach
from federated.code import code_digest
from federated.errors import FederatedError, NodeError, RefusedError
from federated.node import results
from federated.node.enrol import enrol
from federated.node.home import APPROVALS, NodeHome, NodeSettings
from federated.node.runner import Node
from federated.node.table import ReadingSpec
from federated.switches import quiet_flower
from federated.tasks import known_tasks
from ledger.errors import LedgerError
from ledger.ids import short
from ledger.statements import JOB_REASONS, Job

INIT = "rongshu node init nodes/hearts --party basel --file hearts.csv --approval hand"
SHOW = "rongshu node show nodes/hearts"
APPROVAL = "rongshu node approval nodes/hearts hand"
REQUESTS = "rongshu node requests nodes/hearts"
APPROVE = "rongshu node approve nodes/hearts job:5d3a90c1b2f4"
JOURNAL = "rongshu node journal nodes/hearts --out hearts.journal"
RESULTS = "rongshu node results nodes/hearts"
RESULTS_MORE = """\
Each is a CSV file of the node's own rows: the line in its data file, and what identified the row.
It is for the provider alone, and never leaves the node."""
REJECT = "rongshu node reject nodes/hearts job:5d3a90c1b2f4 --reason purpose_not_allowed"
RUN = "rongshu node run nodes/hearts"
RUN_MORE = """\
It connects outward only. It answers the rounds of granted jobs, after it has checked each against
the ledger; it grants or refuses what waits, as the agreements say; for a node that decides by hand
everything waits. It hands in receipts that did not arrive, closes each epoch of the log that has
ended, and says every two seconds that it lives. It must have enrolled (`rongshu node enrol`) to
compute. Nodes of a market on one machine (`rongshu serve --embedded`) do not need this command."""
ENROL = "rongshu node enrol nodes/hearts --code rsn_…"
ENROL_MORE = """\
The code comes from `rongshu asset code`. The node makes a key for Flower's SuperLink and signs it
with its own; both stay in its folder. If the answer is lost, run the same command again.
A node whose key for the SuperLink is lost, or may be known to somebody, takes a new one with
--again; its code comes from `rongshu asset code --again`. Stop the node before, start it after."""
TASKS = "rongshu node tasks"
TASKS_MORE = """\
A job names the digest of the code that may run it. Only code installed here ever runs, and only
when its digest is the one that the job names."""
JOURNAL_MORE = """\
It holds every launch, failure and end, chained and signed by the node: ids, digests, counts and
times, and nothing of the data. An auditor gets it from you, not from the operator, and holds it
against the log."""
TIMEOUT = 120.0
# Seconds between looks for requests.
LOOK_INTERVAL = 1.0


def command(argv: list[str]) -> int:
    """Run `rongshu node …` and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="rongshu node",
        description="The guardian of one data file.",
        epilog=f"example:\n  {REQUESTS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    into = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_init(into)
    for name, run, summary, example in (
        ("show", _show, "show a node's settings and journal", SHOW),
        ("requests", _requests, "list the jobs that wait for this node's decision", REQUESTS),
    ):
        _json(_add(into, name, run, summary, example))
    approval = _add(into, "approval", _approval, "say who decides: rule or hand", APPROVAL)
    approval.add_argument("approval", choices=APPROVALS)
    approve = _add(into, "approve", _approve, "check a job once more and sign its grant", APPROVE)
    approve.add_argument("job", metavar="JOB", help="its id, the beginning of it, or name")
    _json(approve)
    reject = _add(into, "reject", _reject, "refuse a job, with a receipt that says why", REJECT)
    reject.add_argument("job", metavar="JOB", help="its id, the beginning of it, or name")
    reject.add_argument("--reason", required=True, choices=JOB_REASONS)
    _json(reject)
    about = "write the node's journal, signed, for an auditor"
    journal = _add(into, "journal", _journal, about, JOURNAL, JOURNAL_MORE)
    journal.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file")
    _json(journal)
    about = "list what jobs left for the provider: rows in common with another register"
    _json(_add(into, "results", _results, about, RESULTS, RESULTS_MORE))
    enrol_ = _add(into, "enrol", _enrol, "enrol with a one-time code", ENROL, ENROL_MORE)
    enrol_.add_argument("--code", required=True, help="the one-time code")
    enrol_.add_argument("--again", action="store_true", help="give up the place it has for another")
    _json(enrol_)
    _add_tasks(into)
    about = "connect, compute what is granted, and keep the books until Ctrl-C"
    run_ = _add(into, "run", _run, about, RUN, RUN_MORE)
    run_.add_argument("--once", action="store_true", help="do what waits now, and end")
    arguments = parser.parse_args(argv)
    work: Callable[[argparse.Namespace], int] = arguments.run
    return work(arguments)


def _add(
    into: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    example: str,
    more: str = "",
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = into.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n{more}",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("node", type=Path, metavar="NODE", help="the node's folder")
    if name != "init":
        parser.add_argument("--service", metavar="URL", help="where the marketplace is")
    return parser


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")


def _add_tasks(into: Any) -> None:
    parser = into.add_parser(
        "tasks",
        help="list the computations installed here, with the digest of their code",
        description=f"List the computations installed here.\n{TASKS_MORE}",
        epilog=f"example:\n  {TASKS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_tasks)
    _json(parser)


def _add_init(into: Any) -> None:
    more = "Nothing leaves this machine; `rongshu asset add --node NODE` lists it afterwards."
    init = _add(into, "init", _init, "make a node and measure its file", INIT, more)
    init.add_argument("--party", type=Path, required=True, metavar="DIR", help="provider's folder")
    init.add_argument("--file", type=Path, required=True, help="CSV or Parquet; stays there")
    init.add_argument("--name", default="", help="for people (default: the folder's name)")
    init.add_argument("--approval", choices=APPROVALS, default="rule")
    init.add_argument("--policy", type=Path, help="whose word on the log is needed: its witnesses")
    init.add_argument(
        "--max-age",
        type=int,
        metavar="SECONDS",
        default=0,
        help="refuse a log whose witnesses saw it longer ago; needs --policy (default: no limit)",
    )
    init.add_argument("--no-header", action="store_true", help="the first line is data")
    init.add_argument("--columns", metavar="A,B,…", help="columns' names, or which ones to read")
    init.add_argument("--missing", action="append", metavar="TEXT", help="means no value; repeat")
    init.add_argument("--delimiter", default=",", help="one character (default: comma)")
    _json(init)


def _init(arguments: argparse.Namespace) -> int:
    file: Path = arguments.file
    given: dict[str, Any] = {
        "format": "parquet" if file.suffix == ".parquet" else "csv",
        "header": not arguments.no_header,
        "delimiter": arguments.delimiter,
    }
    if arguments.columns is not None:
        given["columns"] = [word.strip() for word in arguments.columns.split(",")]
    if arguments.missing is not None:
        given["missing"] = arguments.missing
    party = _party(arguments.party)
    settings = NodeSettings(
        name=arguments.name or arguments.node.resolve().name,
        file=str(file.resolve()),
        reading=ReadingSpec.parse(given).to_json(),
        service=party["service"],
        log_key=party["log_key"],
        provider=party["participant"],
        provider_key=str((arguments.party / "signing.key").resolve()),
        approval=arguments.approval,
        policy=str(arguments.policy.resolve()) if arguments.policy else "",
        max_age_seconds=arguments.max_age,
    )
    # Read before anything is made: unusable data leave no half-made node behind.
    home = NodeHome(arguments.node, settings)
    home.trust()
    home.table()
    home = NodeHome.create(arguments.node, settings)
    # Measured now to show it; what is signed for the data card is measured when it is listed.
    table, digest = home.table()
    shown: dict[str, Any] = {
        "node": str(home.folder),
        "rows": table.rows,
        "columns": [column.name for column in table.columns],
        "digest": digest,
    }
    if arguments.json:
        _print_json(shown)
        return 0
    _say(f"{home.folder}: {shown['rows']} rows, columns {', '.join(shown['columns'])}")
    _say(f"list it with: rongshu asset add --home {arguments.party} --node {home.folder} --name …")
    return 0


def _party(folder: Path) -> dict[str, str]:
    """Read whom the provider trusts from its folder; its keys stay unread."""
    path = folder / "party.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return {key: str(value[key]) for key in ("service", "log_key", "participant")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NodeError(f"--party: {folder} is no enrolled party's folder") from error


@contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[Node]:
    """Open the node with its connection to the marketplace.

    Raises:
        NodeError: the marketplace cannot be reached, or answers with an error.
    """
    home = NodeHome.load(arguments.node)
    home.api_key()
    address = arguments.service or home.address()
    with reach(home.folder, address, TIMEOUT) as http:
        try:
            yield home.open(http, _now_ms)
        except httpx.HTTPError as error:
            raise NodeError(f"{address} cannot be reached: {error}") from error


def _show(arguments: argparse.Namespace) -> int:
    home = NodeHome.load(arguments.node)
    value = asdict(home.settings) | {"key": home.node_key().verify_key.text}
    if arguments.json:
        _print_json(value)
        return 0
    for name in ("name", "file", "approval", "policy", "asset", "digest", "service", "key"):
        _say(f"{name + ':':10}{value[name] or '-'}")
    return 0


def _results(arguments: argparse.Namespace) -> int:
    home = NodeHome.load(arguments.node)
    found = [(f"job:{path.stem}", results.count(path), path) for path in results.files(home.folder)]
    if arguments.json:
        _print_json([{"job": job, "rows": rows, "file": str(path)} for job, rows, path in found])
        return 0
    for job, rows, path in found:
        _say(f"{job[:16]}  {rows:,} rows  {path}")
    if not found:
        _say("no job has left anything here")
    return 0


def _approval(arguments: argparse.Namespace) -> int:
    home = NodeHome.load(arguments.node).decide_by(arguments.approval)
    _say(f"{home.settings.name} decides by {home.settings.approval}")
    return 0


def _requests(arguments: argparse.Namespace) -> int:
    with _opened(arguments) as node:
        asked = [_described(node, job) for job in node.waiting()]
    if arguments.json:
        _print_json(asked)
        return 0
    for each in asked:
        _say(f"{short(each['job'])}  {each['task']} for {each['purpose']!r}: {each['name']}")
    if not asked:
        _say("Nothing waits for a decision.")
    return 0


def _described(node: Node, job_id: str) -> dict[str, Any]:
    """Return a job as its researcher signed it, read from the verified log."""
    job = node.job(job_id)
    found: dict[str, Any] = {"job": job_id, "name": "", "task": "", "purpose": "", "parameters": {}}
    if isinstance(job, Job):
        found |= {key: getattr(job, key) for key in ("name", "task", "purpose", "researcher")}
        found |= {"parameters": job.parameters, "parties": len(job.assets)}
    return found


def _waiting(node: Node, text: str) -> str:
    """Return the one waiting job that a text names.

    Raises:
        NodeError: none, or several.
    """
    start = text.rstrip("…")
    found = [
        job
        for job in node.waiting()
        if (":" in start and job.startswith(start)) or _described(node, job)["name"] == text
    ]
    if len(found) != 1:
        raise NodeError(
            f"{text[:80]!r} names {len(found)} of the jobs that wait here; see requests"
        )
    return found[0]


def _approve(arguments: argparse.Namespace) -> int:
    with _opened(arguments) as node:
        job = _waiting(node, arguments.job)
        try:
            node.approve(job)
        except RefusedError as error:
            # The guard's word stands above a person's: this is against what was agreed.
            raise NodeError(f"{short(job)} was refused: {error.reason}: {error}") from error
    if arguments.json:
        _print_json({"job": job, "verdict": "granted"})
    else:
        _say(f"{short(job)} is granted")
    return 0


def _reject(arguments: argparse.Namespace) -> int:
    with _opened(arguments) as node:
        job = _waiting(node, arguments.job)
        node.reject(job, arguments.reason)
        if job in node.waiting():
            raise NodeError(f"{short(job)}: the marketplace did not take the refusal; try again")
    if arguments.json:
        _print_json({"job": job, "verdict": arguments.reason})
    else:
        _say(f"{short(job)} is refused: {arguments.reason}")
    return 0


def _journal(arguments: argparse.Namespace) -> int:
    home = NodeHome.load(arguments.node)
    data, lines = home.signed_journal(_now_ms)
    try:
        with arguments.out.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise NodeError(f"--out: {arguments.out} cannot be written: {error.strerror}") from error
    if arguments.json:
        _print_json({"file": str(arguments.out), "asset": home.settings.asset, "lines": lines})
        return 0
    _say(f"{arguments.out}: {lines} lines, signed by {home.node_key().verify_key.fingerprint}")
    return 0


def _enrol(arguments: argparse.Namespace) -> int:
    home = NodeHome.load(arguments.node)
    home.api_key()
    with reach(home.folder, arguments.service or home.address(), TIMEOUT) as http:
        home = enrol(home, http, arguments.code, again=arguments.again)
    if arguments.json:
        _print_json({"node": str(home.folder), "asset": home.settings.asset})
    else:
        _say(f"{home.settings.name} is enrolled; start it with: rongshu node run {home.folder}")
    return 0


def _tasks(arguments: argparse.Namespace) -> int:
    found = [
        {"task": task.name, "version": task.version, "digest": code_digest(task.name, task.version)}
        for task in known_tasks().values()
    ]
    if arguments.json:
        _print_json(found)
        return 0
    for each in found:
        _say(f"{each['task']} {each['version']}  {each['digest']}")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    home = NodeHome.load(arguments.node)
    with _opened(arguments) as node, ExitStack() as stack:
        if arguments.once:
            _serve(node, arguments.node)
            return 0
        stopped, lost = _stop_on_signal(), threading.Event()
        if home.settings.seat:
            quiet_flower()
            # Imported here: nothing else that a node does needs Flower.
            from federated.node.serving import Serving  # noqa: PLC0415

            address = arguments.service or home.address()
            serving = Serving(home, node, address, _now_ms, _say, end=lost.set)
            stack.enter_context(serving)
        else:
            _say("this node has not enrolled: it decides and keeps its books, and computes nothing")
        trouble = ""
        while not stopped.wait(LOOK_INTERVAL):
            # Read anew, so that `node approval` counts at once.
            before, trouble = trouble, _try_to_serve(node, arguments.node)
            if trouble not in ("", before):
                sys.stderr.write(f"rongshu: {trouble}\n")
            if lost.is_set():
                raise NodeError(f"{home.settings.name} cannot go on in this process")
    return 0


def _serve(node: Node, folder: Path) -> None:
    def is_rule() -> bool:
        return NodeHome.load(folder).settings.approval == "rule"

    for job, verdict in node.decide_by_rule(is_rule).items():
        _say(f"{short(job)}: {verdict}")
    closed = node.keep_books()
    if closed:
        _say(f"closed {closed} epochs of the log")


def _try_to_serve(node: Node, folder: Path) -> str:
    """Serve once; return what went wrong, for a node outlives a marketplace that restarts."""
    try:
        _serve(node, folder)
    except (FederatedError, LedgerError, httpx.HTTPError) as error:
        return str(error)
    return ""


def _stop_on_signal() -> threading.Event:
    """Return an event that Ctrl-C and SIGTERM set."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _say(text: str) -> None:
    clean = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    sys.stdout.write(clean + "\n")
    sys.stdout.flush()


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=True) + "\n")
