"""What people see of a job on its way: stages, lines, bars, and what to do when it failed."""

import inspect
import io
import json
import re
from typing import Any

import pytest
from rich.console import Console

from federated import ending, exchange, lease, opening, relay, server_app
from ledger.statements import REFUSAL_REASONS
from ledger.statements.receipt import FAILURE_REASONS
from marketplace.cli.endings import BY_REASON, SILENT, advice
from marketplace.cli.following import MOST_BARS, Stage, line_of, shown, stage_of
from marketplace.jobs import states

NORTH, SOUTH = ("asset:" + digit * 64 for digit in "12")


def party(asset: str, name: str, state: str = "granted", reason: str | None = None) -> Any:
    return {"asset": asset, "provider_name": name, "state": state, "reason": reason}


def view(state: str, **changes: Any) -> dict[str, Any]:
    parties = [party(NORTH, "North"), party(SOUTH, "South")]
    return {"state": state, "progress": {}, "error": None, "parties": parties} | changes


def running(number: int, step: str, *nodes: str) -> dict[str, Any]:
    done = sum(each == "answered" for each in nodes)
    by_asset = dict(zip((NORTH, SOUTH), nodes, strict=True))
    progress = {"round": number, "step": step, "done": done, "of": 2, "nodes": by_asset}
    return view("running", progress=progress)


# Stages and lines.


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        (
            view("requested", parties=[party(NORTH, "North"), party(SOUTH, "South", "waiting")]),
            "requested: grants 1/2 (North granted, South waiting)",
        ),
        (view("granted"), "granted: its turn"),
        (view("running"), "running: start"),
        (
            running(0, "keys", "answered", "waiting"),
            "running: keys 1/2 (North answered, South waiting)",
        ),
        (
            running(2, "newton", "lost", "rejoining"),
            "running: round 2: newton 0/2 (North lost, South rejoining)",
        ),
        (
            running(2, "finish", "answered", "answered"),
            "running: finish 2/2 (North answered, South answered)",
        ),
        (view("released"), "released"),
    ],
)
def test_a_line_for_each_stage(seen: dict[str, Any], line: str):
    assert line_of(seen) == line


def test_progress_that_tells_no_nodes_is_shown_without():
    seen = view("running", progress={"round": 1, "step": "moments", "done": 1, "of": 2})
    assert stage_of(seen) == Stage("round 1: moments", 1, 2, ())


def test_two_assets_of_one_provider_are_told_apart():
    parties = [party(NORTH, "North"), party(SOUTH, "North")]
    stage = stage_of(view("requested", parties=parties))
    assert stage
    assert [name for name, _ in stage.nodes] == [
        "North asset:111111111111",
        "North asset:222222222222",
    ]


def test_without_a_terminal_each_change_is_one_line():
    file = io.StringIO()
    with shown(json_lines=False, console=Console(file=file)) as show:
        for seen in (view("granted"), view("granted"), view("running"), view("released")):
            show(seen)
        show.leave("The job goes on.")
    assert file.getvalue().splitlines() == [
        "granted: its turn",
        "running: start",
        "released",
        "The job goes on.",
    ]


def test_no_name_moves_the_cursor():
    file = io.StringIO()
    evil = [party(NORTH, "North\x1b[2J[red]", "waiting")]
    with shown(json_lines=False, console=Console(file=file)) as show:
        show(view("requested", parties=evil))
    assert file.getvalue() == "requested: grants 0/1 (North\\x1b[2J[red] waiting)\n"
    told = on_a_terminal(view("requested", parties=evil))
    assert "\x1b[2J" not in told
    assert "North\\x1b[2J[red] waiting" in plain(told)


def test_json_is_a_line_for_each_view_and_last_words_stand_apart(
    capsys: pytest.CaptureFixture[str],
):
    with shown(json_lines=True) as show:
        show(view("granted"))
        show(view("released"))
        show.leave("The job goes on.")
    out, errors = capsys.readouterr()
    assert [json.loads(line)["state"] for line in out.splitlines()] == ["granted", "released"]
    assert errors == "The job goes on.\n"


# Bars.


def on_a_terminal(*views: dict[str, Any], leave: str = "") -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=90, legacy_windows=False)
    with shown(json_lines=False, console=console) as show:
        for seen in views:
            show(seen)
        if leave:
            show.leave(leave)
    return file.getvalue()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def last_frame(text: str, lines: int) -> list[str]:
    return [line.rstrip() for line in plain(text).splitlines() if line.strip()][-lines:]


WAY = (
    view("granted"),
    running(0, "keys", "answered", "answered"),
    running(1, "moments", "answered", "waiting"),
)


def test_bars_of_a_released_job_end_full():
    bars = last_frame(on_a_terminal(*WAY, view("released")), 3)
    assert [line.split("━")[0].strip() for line in bars] == [
        "✓ its turn",
        "✓ keys",
        "✓ round 1: moments",
    ]
    assert all("2/2" in line or "1/1" in line for line in bars)


def test_bars_of_a_failed_job_end_where_it_stood_with_the_nodes():
    stopped = running(1, "moments", "answered", "lost")
    *_, bar, nodes = last_frame(on_a_terminal(*WAY, stopped, view("failed")), 4)
    assert bar.startswith("✗ round 1: moments")
    assert "1/2" in bar
    assert nodes == "  North answered · South lost"


def test_of_many_rounds_the_last_are_shown():
    rounds = [running(number, "newton", "answered", "answered") for number in range(1, 30)]
    frame = last_frame(on_a_terminal(*rounds, view("released")), MOST_BARS + 1)
    shown_rounds = [int(found[1]) for line in frame if (found := re.search(r"round (\d+):", line))]
    assert sorted(set(shown_rounds))[-MOST_BARS:] == list(range(30 - MOST_BARS, 30))


def test_a_job_that_has_ended_needs_no_bar():
    assert on_a_terminal(view("released")) == ""


def test_last_words_stand_below_the_bars():
    told = last_frame(on_a_terminal(*WAY, leave="The job goes on."), 3)
    assert told[-1] == "The job goes on."
    assert told[-2] == "  North answered · South waiting"


# What to do.


def failed(reason: str, *parties: Any, state: str = "failed") -> dict[str, Any]:
    return view(state, error={"reason": reason, "message": "…"}, parties=list(parties))


TASK_WORDS = (
    "bad_input",
    "bad_model",
    "bad_parcel",
    "child_died",
    "no_input",
    "other_features",
    "sidecar_failed",
    "too_few",
)


def test_every_reason_word_has_its_sentence():
    modules = (ending, exchange, lease, opening, relay, server_app)
    coordinator = {
        word
        for module in modules
        for word in re.findall(
            r'^[A-Z_]+: Final = "(\w+)"', inspect.getsource(module), re.MULTILINE
        )
    }
    assert {"no_reply", "bad_receipt", "bad_shares"} <= coordinator
    own = {states.NO_ANSWER, states.NO_RECEIPT, "release_refused"}
    known = coordinator | {*REFUSAL_REASONS, *FAILURE_REASONS, *TASK_WORDS} | own
    assert known - set(SILENT) <= set(BY_REASON)
    assert states.STOPPED in SILENT


def test_who_is_to_blame_is_named_with_the_reason_and_what_to_do():
    lines = advice(
        failed(
            "no_reply",
            party(NORTH, "North", reason="stopped"),
            party(SOUTH, "South", reason="no_reply"),
        )
    )
    assert lines == [
        "what to do",
        f"  South (no_reply): {BY_REASON['no_reply']}",
    ]
    assert "ask its provider, and submit the job again" in lines[1]


def test_where_nobody_is_to_blame_the_job_is():
    (_, line) = advice(failed("separation", party(NORTH, "North", reason="stopped")))
    assert line == (
        "  the job (separation): change what the message names, and submit the job again"
    )


def test_whoever_cancelled_needs_no_advice():
    (line,) = advice(failed("cancelled", party(NORTH, "North", reason="cancelled")))
    assert "nothing is billed" in line
    assert advice(view("released")) == []
