"""Ask for a computation, watch it, and check its result yourself."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from federated.tasks.scoring import ScoringTask
from ledger.statements import Job
from marketplace.buyer import Buyer
from marketplace.cli import arguments as args
from marketplace.cli import scoring
from marketplace.cli.arguments import ArgumentError
from marketplace.cli.endings import advice
from marketplace.cli.following import shown
from marketplace.cli.parties import client_of, pick
from marketplace.cli.show import aside, money, print_json, rows, say, short, when
from marketplace.client import Client, Researcher, now_ms
from marketplace.key_holder import read_partial
from marketplace.watch import changes
from privacy.errors import WeakKeyError
from privacy.paillier import PartialDecryption, ThresholdKey, is_shared, public_half

SUBMIT = """\
rongshu job submit --home lab --name overview --task statistics --columns age,chol \\
      --purpose 'cardiology research' --wait"""
LIST = "rongshu job list --home lab"
SHOW = "rongshu job show --home lab overview"
WAIT = "rongshu job wait --home lab overview --timeout 600"
RESULT = "rongshu job result --home lab overview"
CANCEL = "rongshu job cancel --home lab overview"
CHECKED = "checked here: the sum of the contributions that {} nodes receipted leads to this result"
CHECKED_SCORES = (
    "checked here: these scores are those that the model's node receipted. They are for you alone: "
    "round what you pass on"
)


def command(argv: list[str]) -> int:
    """Run `rongshu job …` and return its exit code."""
    parser, into = args.commands("rongshu job", "Jobs: computations under agreements.", SUBMIT)
    submit = args.subcommand(
        into,
        "submit",
        _submit,
        "sign a job and hand it in",
        SUBMIT,
        "Without --agreement it runs under all your agreements that permit it.",
    )
    _submit_arguments(submit)
    score = args.subcommand(
        into,
        "score",
        _score,
        "have rows of yours scored by a provider's model, encrypted",
        scoring.SCORE,
        "Seen by others: how many rows, and a power of two above each column's magnitudes.",
    )
    scoring.add_score_arguments(score)
    _timeout(score)
    args.as_json(score)
    model = args.subcommand(
        into, "model", _model, "write a released regression as a model to list", scoring.MODEL
    )
    args.of_party(model)
    model.add_argument("--out", required=True, type=Path, metavar="FILE", help="a new CSV file")
    model.add_argument("job", metavar="JOB", help="its id, the beginning of it, or its name")
    for name, run, summary, example in (
        ("list", _list, "list your jobs, or those on your assets", LIST),
        ("show", _show, "show one job: state, progress, and each party's answer", SHOW),
        ("wait", _wait, "wait until a job has ended; exit code 0 when it was released", WAIT),
        ("result", _result, "get a released result, recomputed from its receipts first", RESULT),
        ("cancel", _cancel, "end a job; uses that no node has spent are returned", CANCEL),
    ):
        sub = args.subcommand(into, name, run, summary, example)
        args.of_party(sub)
        args.as_json(sub)
        if name != "list":
            sub.add_argument("job", metavar="JOB", help="its id, the beginning of it, or its name")
        if name == "wait":
            _timeout(sub)
        if name == "result":
            sub.add_argument(
                "--partials",
                type=Path,
                nargs="+",
                default=(),
                metavar="FILE",
                help="what holders of the job's key made of it with `rongshu key decrypt`",
            )
    return args.run(parser, argv)


def _submit_arguments(submit: argparse.ArgumentParser) -> None:
    args.of_party(submit)
    submit.add_argument("--name", required=True, help="for people")
    submit.add_argument("--task", required=True, help="statistics, logistic, encrypted_sum, …")
    submit.add_argument("--purpose", required=True, help="one that the agreements permit")
    submit.add_argument("--columns", metavar="A,B,…", help="the columns it is about")
    submit.add_argument("--rows", help="which rows: all, complete, train or test")
    submit.add_argument("--ridge", help="strength of the ridge, of a regression")
    submit.add_argument("--outcome", help="of an intersection: size, one, both or sum")
    submit.add_argument("--receiver", help="who asks in it: the first asset or the second")
    submit.add_argument("--value", metavar="COLUMN", help="what is added up over it")
    submit.add_argument("--compares", help="who only compares, of a linkage: first, second, third")
    submit.add_argument("--learns", help="who gets its list: none, first, second or both")
    submit.add_argument("--parameters", type=Path, metavar="FILE", help="the same, in TOML")
    submit.add_argument(
        "--agreement", action="append", metavar="ID", help="run under this one; repeat"
    )
    submit.add_argument(
        "--shared-key", type=Path, metavar="FILE", help="a key.json that `rongshu key deal` wrote"
    )
    submit.add_argument("--wait", action="store_true", help="wait, then print the checked result")
    _timeout(submit)
    args.as_json(submit)


def _timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds (default: 3600)")


def _submit(arguments: argparse.Namespace) -> int:
    if arguments.wait and arguments.shared_key:
        raise ArgumentError(
            "--wait: a result under a shared key is opened with its holders' parts; "
            "use `rongshu job wait`, then `rongshu job result --partials`"
        )
    client = client_of(arguments, Researcher)
    parameters = dict(args.table("--parameters", arguments.parameters, "parameters"))
    given = {
        "columns": args.words(arguments.columns),
        "rows": arguments.rows,
        "ridge": arguments.ridge,
        "outcome": arguments.outcome,
        "receiver": arguments.receiver,
        "value": arguments.value,
        "compares": arguments.compares,
        "learns": arguments.learns,
    }
    parameters |= {key: value for key, value in given.items() if value is not None}
    chosen = _agreements(client, arguments, arguments.task, arguments.agreement)
    job = client.submit_job(
        name=arguments.name,
        task=arguments.task,
        parameters=parameters,
        preparation=chosen[0]["preparation"],
        purpose=arguments.purpose,
        agreements={each["asset"]: each["id"] for each in chosen},
        shared_key=_shared_key(arguments.shared_key),
    )
    view = _ended(client, job, arguments)
    if view is None or view["state"] != "released":
        return 0 if view is None else 1
    return _checked(client, view, as_json=arguments.json)


def _ended(client: Client, job: str, arguments: argparse.Namespace) -> Mapping[str, Any] | None:
    """Wait for a new job's end where that is asked for; print where it stands without a result."""
    if not arguments.wait:
        if arguments.json:
            print_json({"job": job, "state": "requested"})
        else:
            say(job)
        return None
    view = _until_end(client, job, arguments)
    if view["state"] != "released":
        if arguments.json:
            print_json(view)
        else:
            _print(view)
    return view


def _score(arguments: argparse.Namespace) -> int:
    client = client_of(arguments, Buyer)
    features, given = scoring.read_rows(arguments.rows, args.words(arguments.features))
    named = [arguments.agreement] if arguments.agreement else None
    chosen = _agreements(client, arguments, ScoringTask.name, named)
    if len(chosen) > 1:
        ids = ", ".join(short(each["id"]) for each in chosen)
        raise ArgumentError(f"--agreement: one model scores, so name one of: {ids}")
    job = client.score(
        given,
        features,
        agreement=chosen[0],
        purpose=arguments.purpose,
        name=arguments.name,
        answer=arguments.answer,
    )
    view = _ended(client, job, arguments)
    if view is None or view["state"] != "released":
        return 0 if view is None else 1
    if arguments.json:
        return _checked(client, view, as_json=True)
    sys.stdout.write(scoring.scores_text(client.result(job), arguments.answer))
    aside(CHECKED_SCORES)
    return 0


def _model(arguments: argparse.Namespace) -> int:
    client = client_of(arguments, Researcher)
    view = _find(client, arguments.job)
    if view["task"] != scoring.FROM_FIT:
        raise ArgumentError(f"a job of {view['task']} has no model; one of {scoring.FROM_FIT} does")
    count = scoring.write_model(arguments.out, client.result(str(view["job"])))
    say(f"{arguments.out} holds the weights of {count} features, and the intercept.")
    say("Whether you may list it, or sell its scores, is what the agreements of that job say.")
    return 0


def _shared_key(path: Path | None) -> ThresholdKey | None:
    """Read a key that holders share.

    Raises:
        ArgumentError: the file is none.
    """
    if path is None:
        return None
    try:
        return ThresholdKey.from_json(json.loads(path.read_text(encoding="ascii")))
    except (OSError, ValueError, RecursionError, WeakKeyError) as error:
        raise ArgumentError(f"--shared-key: {path}: {error}") from error


def _agreements(
    client: Researcher, arguments: argparse.Namespace, task: str, named: Sequence[str] | None
) -> Sequence[Mapping[str, Any]]:
    """Return the agreements of a new job: those named, or all that permit it.

    Raises:
        ArgumentError: none does, or it takes a person to choose.
    """
    own = client.call("GET", "/agreements")
    if named:
        chosen = [pick(own, text) for text in named]
    else:
        chosen = [each for each in own if _permits(each, task, arguments.purpose)]
    if not chosen:
        raise ArgumentError(
            f"none of your {len(own)} agreements permits {task} for "
            f"{arguments.purpose!r} and has a use left; see `rongshu negotiate list`"
        )
    assets = {each["asset"] for each in chosen}
    if len(assets) < len(chosen):
        ids = ", ".join(short(each["id"]) for each in chosen)
        raise ArgumentError(f"--agreement: several for the same asset, name one each of: {ids}")
    if any(each["preparation"] != chosen[0]["preparation"] for each in chosen):
        ids = ", ".join(short(each["id"]) for each in chosen)
        raise ArgumentError(f"--agreement: they fix different rows, so name which of: {ids}")
    return chosen


def _permits(agreement: Mapping[str, Any], task: str, purpose: str) -> bool:
    terms = agreement["terms"]
    return (
        agreement["revoked"] is None
        and agreement["uses_left"] > 0
        and terms["until"] >= now_ms()
        and task in terms["tasks"]
        and purpose in terms["purposes"]
    )


def _list(arguments: argparse.Namespace) -> int:
    jobs = client_of(arguments, Client).call("GET", "/jobs")
    if arguments.json:
        print_json(jobs)
        return 0
    rows(
        ("job", "name", "task", "purpose", "state", "created"),
        [
            (
                short(job["job"]),
                job["name"],
                job["task"],
                job["purpose"],
                job["state"] + (f": {job['error']['reason']}" if job["error"] else ""),
                when(job["created"]),
            )
            for job in jobs
        ],
        "There is no job.",
    )
    return 0


def _find(client: Client, text: str) -> Mapping[str, Any]:
    return pick(client.call("GET", "/jobs"), text, key="job")


def _show(arguments: argparse.Namespace) -> int:
    view = _find(client_of(arguments, Client), arguments.job)
    if arguments.json:
        print_json(view)
    else:
        _print(view)
    return 0


def _print(view: Mapping[str, Any]) -> None:
    say(f"{view['name']}: {view['task']} for {view['purpose']}")
    say(str(view["job"]))
    progress = view["progress"]
    round_ = f", round {progress['round']} ({progress['step']})" if progress else ""
    say(f"{view['state']}{round_ if view['state'] == 'running' else ''}")
    if view["error"]:
        say(f"  {view['error']['reason']}: {view['error']['message']}")
    rows(
        ("  party", "state", "reason", "asset", "receipt"),
        [
            (
                f"  {party['provider_name']}",
                party["state"],
                party["reason"] or "-",
                short(party["asset"]),
                short(party["receipt"]),
            )
            for party in view["parties"]
        ],
        "  no parties",
    )
    for line in advice(view):
        say(line)


def _wait(arguments: argparse.Namespace) -> int:
    client = client_of(arguments, Client)
    job = _find(client, arguments.job)["job"]
    view = _until_end(client, job, arguments, each_as_json=arguments.json)
    if not arguments.json:
        _print(view)
    return 0 if view["state"] == "released" else 1


def _until_end(
    client: Client, job: str, arguments: argparse.Namespace, *, each_as_json: bool = False
) -> Mapping[str, Any]:
    """Wait for a job's end and show how it comes there; return its last view."""
    with shown(json_lines=each_as_json) as show:
        try:
            for view in changes(client, job, arguments.timeout):
                show(view)
        except KeyboardInterrupt:
            words = ("--home", str(arguments.home), short(job))
            service = ("--service", arguments.service) if arguments.service else ()
            place = shlex.join((*service, *words))
            show.leave(
                f"The job goes on. To wait again: rongshu job wait {place}",
                f"To end it: rongshu job cancel {place}",
            )
            raise
    return view


def _result(arguments: argparse.Namespace) -> int:
    client = client_of(arguments, Researcher)
    view = _find(client, arguments.job)
    partials = _partials(client, str(view["job"]), arguments.partials)
    return _checked(client, view, partials, as_json=arguments.json)


def _partials(client: Researcher, job: str, paths: Sequence[Path]) -> list[PartialDecryption]:
    """Read what holders made of a job's result; it is verified when they open it together.

    Raises:
        ArgumentError: the job is not under a key that holders share.
    """
    if not paths:
        return []
    client.log.sync()
    key = client.log.history.get(job, Job).encryption_key
    if not is_shared(key):
        raise ArgumentError("--partials: this job is not under a key that holders share")
    public = public_half(key)
    return [read_partial(path, job, public) for path in paths]


def _checked(
    client: Researcher,
    view: Mapping[str, Any],
    partials: Sequence[PartialDecryption] = (),
    *,
    as_json: bool,
) -> int:
    """Print a result after recomputing it; an error, and nothing printed, when it is not right."""
    result = client.result(str(view["job"]), partials)
    if as_json:
        print_json({"job": view["job"], "verified": True, "result": result})
        return 0
    json.dump(result, sys.stdout, indent=2, ensure_ascii=True)
    say()
    is_scored = view["task"] == ScoringTask.name
    say(CHECKED_SCORES if is_scored else CHECKED.format(len(view["parties"])))
    bills = [bill for bill in client.call("GET", "/settlements") if bill["job"] == view["job"]]
    for bill in bills:
        say(f"billed: {money(bill['total_cents'])}")
    return 0


def _cancel(arguments: argparse.Namespace) -> int:
    client = client_of(arguments, Researcher)
    job = _find(client, arguments.job)["job"]
    view = client.call("POST", f"/jobs/{job}/cancel")
    if arguments.json:
        print_json(view)
    else:
        say(f"{short(job)} is {view['state']}")
    return 0
