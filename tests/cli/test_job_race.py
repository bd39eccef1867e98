"""Two processes want the last permitted use, over HTTP: exactly one gets it, every time.

Each racer is a process of its own with its own connection. The referee lets both go at once; the
winner's job is cancelled afterwards, which returns the use, so the next try is for the last one
again. No node is there: what is raced for is the reservation, which the service makes.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from marketplace.client import Home, Researcher
from tests.served import PURPOSE, environment, home, serving, small_market

RACER = f"""
import json, sys
from pathlib import Path
import httpx
from marketplace.client import ClientError, Home, Researcher
lab = Researcher(Home.load(Path(sys.argv[1])), httpx.Client(base_url=sys.argv[2], timeout=60.0))
agreements = {{each["asset"]: each["id"] for each in lab.call("GET", "/agreements")}}
job = dict(name="race", task="statistics", parameters={{"columns": ["age"]}},
           preparation={{}}, purpose={PURPOSE!r}, agreements=agreements)
print("ready", flush=True)
for _ in sys.stdin:
    try:
        print(json.dumps({{"job": lab.submit_job(**job)}}), flush=True)
    except ClientError as error:
        print(json.dumps({{"code": error.code}}), flush=True)
"""


@contextmanager
def racing(lab: Path, address: str) -> Iterator["subprocess.Popen[str]"]:
    """A racer that has connected and waits for the start."""
    process = subprocess.Popen(
        [sys.executable, "-c", RACER, str(lab), address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert heard(process) == "ready"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


def heard(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def race(folder: Path, address: str, tries: int) -> list[tuple[dict[str, Any], ...]]:
    lab = home(folder, "lab")
    results = []
    with ExitStack() as stack:
        http = stack.enter_context(httpx.Client(base_url=address, timeout=60.0))
        referee = Researcher(Home.load(lab), http)
        racers = [stack.enter_context(racing(lab, address)) for _ in range(2)]
        for _ in range(tries):
            for racer in racers:
                assert racer.stdin is not None
                racer.stdin.write("go\n")
                racer.stdin.flush()
            answers = tuple(json.loads(heard(racer)) for racer in racers)
            left = [
                (a["uses_reserved"], a["uses_left"]) for a in referee.call("GET", "/agreements")
            ]
            assert left == [(1, 0), (1, 0)]
            for answer in answers:
                if "job" in answer:
                    referee.call("POST", f"/jobs/{answer['job']}/cancel")
            results.append(answers)
    return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_market(tmp_path_factory.mktemp("race") / "market", uses=1)


@pytest.mark.parametrize("tries", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_exactly_one_of_two_processes_gets_the_last_use(folder: Path, tries: int):
    with serving("--data", folder / "service") as served:
        results = race(folder, served.address, tries)
        assert served.stop() == 0
    assert len(results) == tries
    for answers in results:
        assert sorted(next(iter(answer)) for answer in answers) == ["code", "job"]
        assert {"code": "quota_used_up"} in answers
    # Both racers won sometimes, unless one was always slower to start: then it was no race.
    winners = {["job" in answer for answer in answers].index(True) for answers in results}
    assert winners == {0, 1}
