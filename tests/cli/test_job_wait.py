"""`rongshu job wait`: what it says on the way, at the end, and to whoever does not wait for it."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import ServedMarket
from tests.deployed import until
from tests.served import PURPOSE, argv_of, environment, home, node, rongshu, run_here


def submit(market: ServedMarket, name: str) -> str:
    words = ("--name", name, "--task", "statistics", "--columns", "age", "--purpose", PURPOSE)
    lab = home(market.folder, "lab")
    return str(json.loads(run_here("job", "submit", "--home", lab, *words, "--json"))["job"])


@pytest.fixture
def by_hand(market: ServedMarket) -> Iterator[Path]:
    """North decides by hand while the test runs; its node's folder."""
    folder = node(market.folder, "north")
    run_here("node", "approval", folder, "hand")
    yield folder
    run_here("node", "approval", folder, "rule")


def waiting(market: ServedMarket, job: str, *more: str, **options: Any) -> "subprocess.Popen[str]":
    # Whoever runs the tests may ignore Ctrl-C, and a child inherits that, though no handler.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            argv_of("job", "wait", "--home", home(market.folder, "lab"), job, *more),
            stdout=subprocess.PIPE,
            text=True,
            env=environment() | {"TERM": "xterm", "COLUMNS": "90"},
            **{"stderr": subprocess.PIPE, **options},
        )
    finally:
        signal.signal(signal.SIGINT, before)


def test_without_a_terminal_each_change_is_a_line(market: ServedMarket, by_hand: Path):
    job = submit(market, "lines")
    with waiting(market, job) as process:
        assert process.stderr
        first = process.stderr.readline()
        while "South granted" not in first:
            first = process.stderr.readline()
        assert first == "requested: grants 1/2 (North waiting, South granted)\n"
        rongshu("node", "approve", by_hand, job)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert errors.splitlines()[-1] == "released"
    assert out.splitlines()[2] == "released"
    assert "what to do" not in out


def test_json_is_a_line_for_each_change(market: ServedMarket, by_hand: Path):
    job = submit(market, "json lines")
    with waiting(market, job, "--json") as process:
        assert process.stdout
        first = json.loads(process.stdout.readline())
        assert (first["job"], first["state"]) == (job, "requested")
        rongshu("node", "approve", by_hand, job)
        out, errors = process.communicate(timeout=60)
    views = [first, *(json.loads(line) for line in out.splitlines())]
    assert (process.returncode, errors) == (0, "")
    assert views[-1]["state"] == "released"
    assert all(before != after for before, after in pairwise(views))
    nodes = views[-1]["progress"]["nodes"]
    assert nodes == {party["asset"]: "answered" for party in views[-1]["parties"]}


def test_on_a_terminal_there_are_bars(market: ServedMarket, by_hand: Path):
    job = submit(market, "bars")
    keyboard, screen = pty.openpty()
    with waiting(market, job, stderr=screen) as process:
        os.close(screen)
        told = os.read(keyboard, 4096).decode()
        while "South granted" not in plain(told):
            told += os.read(keyboard, 4096).decode()
        rongshu("node", "approve", by_hand, job)
        told += read_all(keyboard)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert re.search(r"✓ grants +━+ 2/2", plain(told))
    # The cursor, which is hidden while bars move, is there again.
    assert told.rindex("\x1b[?25h") > told.rindex("\x1b[?25l")
    assert out.splitlines()[2] == "released"


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def read_all(descriptor: int) -> str:
    pieces = []
    # Linux says so, rather than giving nothing, once nobody has the other side open.
    try:
        while piece := os.read(descriptor, 4096):
            pieces.append(piece)
    except OSError:
        pass
    os.close(descriptor)
    return b"".join(pieces).decode()


@pytest.mark.usefixtures("by_hand")
def test_a_job_that_was_refused_names_who_why_and_what_to_do(market: ServedMarket, by_hand: Path):
    job, lab = submit(market, "unwanted"), home(market.folder, "lab")

    def south() -> str:
        view = json.loads(run_here("job", "show", "--home", lab, job, "--json"))
        (found,) = (each for each in view["parties"] if each["provider_name"] == "South")
        return str(found["state"])

    until(lambda: south() == "granted", "South has decided by rule")
    rongshu("node", "reject", by_hand, job, "--reason", "purpose_not_allowed")
    text = run_here("job", "wait", "--home", lab, job, code=1, errors=False)
    assert "purpose_not_allowed: refused: North (asset:" in text
    assert re.search(r"^  South +granted +stopped ", text, re.MULTILINE)
    *_, heading, line = text.splitlines()
    assert heading == "what to do"
    assert line.startswith("  North (purpose_not_allowed): ")
    assert line.endswith("rongshu negotiate start")


@pytest.mark.usefixtures("by_hand")
def test_ctrl_c_says_that_the_job_goes_on_and_how_to_end_it(market: ServedMarket):
    job = submit(market, "impatient")
    with waiting(market, job) as process:
        assert process.stderr
        assert process.stderr.readline().startswith("requested: ")
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    again, cancel = errors.splitlines()[-2:]
    lab = home(market.folder, "lab")
    place = f"--home {shlex.quote(str(lab))} {job[:16]}"
    assert again == f"The job goes on. To wait again: rongshu job wait {place}"
    assert cancel == f"To end it: rongshu job cancel {place}"
    assert json.loads(run_here("job", "show", "--home", lab, job, "--json"))["state"] == "requested"
    told = run_here(*shlex.split(cancel.partition(": rongshu ")[2]))
    assert told == f"{job[:16]} is cancelled\n"
    text = run_here("job", "wait", "--home", lab, job, code=1, errors=False)
    assert text.splitlines()[-1] == (
        "nothing is billed, and uses that no node has spent are yours again"
    )
