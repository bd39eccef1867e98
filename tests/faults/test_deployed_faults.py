"""What becomes of a job when a process of a deployed market dies, hangs or is told to end.

Real processes over TLS on loopback, ended by SIGKILL and SIGSTOP at each step of a job. After each:
the answer is that of the providers who stayed, or a failure that names who is missing; nobody has a
use left over; the ledger is sound.
"""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from federated.certificates import trusting
from federated.errors import NodeError, SuperLinkError
from federated.fleet_key import FleetKey
from federated.node.enrol import enrol
from federated.node.home import NodeHome
from federated.superlink.fleet import Fleet
from tests.deployed import FOUR, STEPS, Town, answer, at, expected, open_town, party, until

pytestmark = pytest.mark.slow

REJOIN = 8


@pytest.fixture(scope="module", name="town")
def _town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("faults")
    with open_town(folder, FOUR, rejoin_seconds=REJOIN) as town:
        yield town


@pytest.fixture(autouse=True)
def _all_is_well(town: Town) -> Iterator[None]:
    """Begin and end with everybody there, nothing left over and a sound ledger."""
    yield
    town.must_be_well()


@pytest.mark.parametrize("step", STEPS)
def test_a_node_that_dies_for_good_is_not_in_the_answer_and_not_on_the_bill(town: Town, step: str):
    before, job = town.uses("spent"), town.submit()
    at(town, job, step, lambda: os.kill(town.nodes["west"].process.pid, signal.SIGKILL))
    view = town.wait(job)
    if step == STEPS[-1] and view["state"] == "failed":
        # Between the others' receipts and its own: of what they sent nothing is released.
        assert party(town, view, "west")["reason"] == "no_reply"
        assert town.uses("spent") == before
        return
    assert view["state"] == "released", (view, town.said())
    names = tuple(FOUR)
    if party(town, view, "west")["state"] != "completed":
        names = tuple(name for name in FOUR if name != "west")
    assert answer(town, job) == expected(names)
    bills = town.researcher.call("GET", "/settlements")
    (bill,) = [each for each in bills if each["job"] == job]
    assert len(bill["lines"]) == len(names)


@pytest.mark.parametrize("step", STEPS)
def test_a_node_that_is_started_again_takes_its_place(town: Town, step: str):
    job, node = town.submit(), town.nodes["south"]

    def restart() -> None:
        os.kill(node.process.pid, signal.SIGKILL)
        node.process.popen.wait()
        node.start()

    at(town, job, step, restart)
    view = town.wait(job)
    assert view["state"] == "released", (view, town.said())
    assert party(town, view, "south")["state"] == "completed"
    assert answer(town, job) == expected(tuple(FOUR))


@pytest.mark.parametrize("step", ["keys", "moments", "unmask", "finish"])
def test_a_killed_operator_goes_on_where_it_was(town: Town, step: str):
    job = town.submit()

    def restart() -> None:
        assert town.market.service is not None
        town.market.service.popen.kill()
        town.market.service.popen.wait()
        town.market.start_service()

    at(town, job, step, restart)
    view = town.wait(job)
    assert view["state"] == "released", (view, town.said())
    assert answer(town, job) == expected(tuple(FOUR))


def test_a_killed_superlink_is_started_anew_and_the_job_goes_on(town: Town):
    job = town.submit()
    at(town, job, "moments", lambda: os.kill(town.superlink(), signal.SIGKILL))
    view = town.wait(job)
    assert view["state"] == "released", (view, town.said())
    assert answer(town, job) == expected(tuple(FOUR))


def test_a_lost_node_is_named_within_ten_seconds_and_waited_for(town: Town):
    job, node = town.submit(), town.nodes["north"]
    at(town, job, "moments", lambda: os.kill(node.process.pid, signal.SIGSTOP))
    stopped = time.monotonic()
    try:
        until(
            lambda: town.researcher.job(job)["progress"]["nodes"].get(node.asset) == "lost",
            "the node is named",
            15.0,
        )
        assert time.monotonic() - stopped < 10.0
    finally:
        os.kill(node.process.pid, signal.SIGCONT)
    view = town.wait(job)
    assert view["state"] == "released", (view, town.said())
    assert party(town, view, "north")["state"] == "completed"
    assert answer(town, job) == expected(tuple(FOUR))


def test_too_few_are_a_failure_that_names_who_is_missing_and_costs_nobody_a_use(town: Town):
    before, job = town.uses("spent"), town.submit()

    def kill() -> None:
        for name in ("west", "south"):
            os.kill(town.nodes[name].process.pid, signal.SIGKILL)

    at(town, job, "keys", kill)
    view = town.wait(job)
    assert view["state"] == "failed"
    assert [party(town, view, name)["reason"] for name in ("west", "south")] == ["no_reply"] * 2
    assert town.uses("spent") == before


def test_a_node_that_lost_its_key_for_the_superlink_enrols_again_and_computes(town: Town):
    node = town.nodes["south"]
    folder = node.home.folder
    # Whoever has the old key is shut out, so it is kept here.
    stolen = FleetKey.load(folder / "fleet.key")
    seat = int(node.home.settings.seat)
    node.process.stop()
    (folder / "fleet.key").unlink()
    with pytest.raises(NodeError, match=r"fleet.key is gone"):
        NodeHome.load(folder).fleet_key()
    provider = town.providers["south"]
    code = provider.call("POST", f"/assets/{node.asset}/codes", {"again": True})["code"]
    with town.market.http() as http:
        node.home = enrol(NodeHome.load(folder), http, code, again=True)
    assert int(node.home.settings.seat) != seat
    town.restart("south")
    with (
        Fleet(town.market.address, trusting(town.ca), stolen, seat) as thief,
        pytest.raises(SuperLinkError, match="HTTP 4"),
    ):
        thief.connect()
    job = town.run()
    assert party(town, town.researcher.job(job), "south")["state"] == "completed"
    assert answer(town, job) == expected(tuple(FOUR))


def test_a_job_can_be_cancelled_while_it_waits_for_a_node(town: Town):
    job, node = town.submit(), town.nodes["north"]
    at(town, job, "keys", lambda: os.kill(node.process.pid, signal.SIGSTOP))
    try:
        town.researcher.call("POST", f"/jobs/{job}/cancel", {})
        assert town.wait(job)["state"] == "cancelled"
    finally:
        os.kill(node.process.pid, signal.SIGCONT)
    town.run()
