"""What happens to a deployed market when one of its processes dies, or is told to end."""

import contextlib
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator

import pytest
from flwr.app import Message

from federated.certificates import trusting
from federated.lease import Lease
from federated.messages import KeysRequest, Refusal, read_reply
from federated.node.home import NodeHome
from federated.records import MESSAGE_TYPE, pack, unpack
from federated.superlink.fleet import Fleet
from federated.superlink.process import access_of
from federated.superlink.run_grid import RunGrid
from federated.superlink.runs import Runs
from ledger.keys import SigningKey
from marketplace.processes import Process
from tests.deployed import TABLES, Town, ended, open_town, superlink_of, until

pytestmark = pytest.mark.slow

CALMLY = 8.0
"""Seconds in which a program ends that is told to; those that hold requests end as fast."""


@pytest.fixture(scope="module", name="town")
def _town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with open_town(tmp_path_factory.mktemp("lives"), TABLES) as town:
        yield town


def connections(town: Town, name: str) -> int:
    """How often a node has said that it is connected."""
    return said(town, name).count("connected\n")


def said(town: Town, name: str) -> str:
    """All that a node has said."""
    return (town.nodes[name].home.folder / "node.log").read_text()


def kill(process: Process) -> None:
    """End a process as a failing machine would."""
    process.popen.kill()
    assert process.popen.wait() == -signal.SIGKILL


@pytest.fixture(autouse=True)
def _all_is_well(town: Town) -> Iterator[None]:
    for node in town.nodes.values():
        node.process.check()
    yield
    until(town.all_are_alive, lambda: f"every node alive: {town.said()}")


def test_a_node_is_alive_and_lost_eight_seconds_after_its_end(town: Town):
    until(lambda: town.state("west") == "alive", "a heartbeat")
    kill(town.nodes["west"].process)
    killed = time.monotonic()
    until(lambda: town.state("west") == "lost", "the loss", 20)
    assert time.monotonic() - killed > 5
    assert town.state("north") == "alive"
    town.nodes["west"].start()
    until(lambda: town.state("west") == "alive", "its return")


def test_a_node_that_is_told_to_end_does_so_while_a_request_of_its_is_held(town: Town):
    before = connections(town, "south")
    town.run()
    process = town.nodes["south"].process
    begun = time.monotonic()
    process.end()
    assert process.popen.wait(CALMLY) == 0
    assert time.monotonic() - begun < CALMLY
    town.nodes["south"].start()
    until(lambda: connections(town, "south") > before, "a connection")


def test_a_killed_node_takes_its_place_again_at_once(town: Town):
    """Guards: a message taken for the dead process, whose request was still held, was lost."""
    town.run()
    for _ in range(2):
        before, node = connections(town, "north"), town.nodes["north"]
        kill(node.process)
        node.start()
        until(lambda: connections(town, "north") > before, "a connection", 30)  # noqa: B023
        # Less than Flower takes to notice that somebody is gone, and than an exchange may take.
        town.run(seconds=45)


def test_the_superlink_dies_with_its_service_and_another_is_started(town: Town):
    town.run()
    first, service = town.superlink(), town.market.service
    assert service is not None
    kill(service)
    assert ended(first, 10)
    assert superlink_of(service.pid) is None
    town.market.start_service()
    assert town.superlink(but=first) != first
    # Nodes come back by themselves, under the places that they had.
    town.run(seconds=90)


def test_a_killed_superlink_is_started_anew_and_nodes_come_back(town: Town):
    first = town.superlink()
    os.kill(first, signal.SIGKILL)
    assert ended(first)
    second = town.superlink(but=first)
    assert second != first
    job = town.run(seconds=90)
    assert town.researcher.result(job)["age"]["count"] == 16


def test_a_locked_database_of_the_superlink_is_waited_for(town: Town):
    """Guards: after five seconds Flower answers 500, which ended the job."""
    town.run()
    database = sqlite3.connect(town.data / "superlink" / "superlink.db", isolation_level=None)
    with contextlib.closing(database):
        database.execute("BEGIN IMMEDIATE")
        job = town.submit()
        log = town.data / "superlink" / "superlink.log"
        until(lambda: "database is locked" in log.read_text(), "a refusal by Flower")
        database.execute("ROLLBACK")
    assert town.wait(job)["state"] == "released", town.said()


def test_a_superlink_without_its_file_learns_again_who_may_connect(town: Town):
    town.market.stop_service()
    for file in (town.data / "superlink").glob("superlink.db*"):
        file.unlink()
    town.market.start_service()
    town.run(seconds=90)


def test_of_two_processes_of_one_node_the_first_ends(town: Town):
    node = town.nodes["west"]
    copy = node.home.folder.with_name("copy-of-west")
    shutil.copytree(node.home.folder, copy)
    first = node.process
    second = Process(["node", "run", str(copy)], copy / "node.log")
    try:
        assert first.popen.wait(30) == 1
        said = (node.home.folder / "node.log").read_text()
        assert "another process of this node runs; this one ends" in said
        second.check()
    finally:
        second.stop()
        first.stop()
        shutil.rmtree(copy)
        node.start()
    town.run(seconds=60)


def test_a_service_that_is_told_to_end_does_so_while_it_holds_requests(town: Town):
    for _ in range(2):
        until(town.all_are_alive, "all nodes")
        service, superlink = town.market.service, town.superlink()
        assert service is not None
        begun = time.monotonic()
        service.end()
        assert service.popen.wait(CALMLY + 5) == 0
        took = time.monotonic() - begun
        assert took < CALMLY, took
        assert ended(superlink, 1)
        town.market.start_service()
    for node in town.nodes.values():
        node.process.check()


def test_a_service_that_is_told_to_end_while_its_superlink_starts_does_so(town: Town):
    service = town.market.service
    assert service is not None
    service.stop()
    town.market.start_service()
    service = town.market.service
    assert service is not None
    until(lambda: superlink_of(service.pid) is not None, "the beginning of a SuperLink")
    begun = time.monotonic()
    service.end()
    assert service.popen.wait(CALMLY + 5) == 0
    assert time.monotonic() - begun < CALMLY
    town.market.start_service()


@contextlib.contextmanager
def run_without(town: Town, name: str) -> Iterator[tuple[RunGrid, int]]:
    """Begin a run while a node is dead that was connected; with Flower's number for it."""
    until(lambda: connections(town, name), "a first connection")
    kill(town.nodes[name].process)
    number = int(NodeHome.load(town.nodes[name].home.folder).settings.seat)
    town.market.await_superlink()
    runs = Runs(access_of(town.data / "superlink"))
    with contextlib.closing(runs), runs.begin() as grid:
        yield grid, number


def test_a_node_that_dies_with_a_job_under_way_is_asked_again(town: Town):
    """Guards: Flower forgets a message whose node is away when somebody asks for the reply."""
    with run_without(town, "west") as (grid, number):
        request = KeysRequest("job:" + "0" * 64, 1, 1, (town.nodes["west"].asset,), {})
        key = SigningKey.load(town.data / "keys" / "operator" / "signing.key")
        lease = Lease(request.job, request.attempt, 1, grid.run.run_id).sign(key)
        (name,) = grid.push_messages(
            [
                grid.create_message(
                    pack(request.to_bytes(), lease=lease), MESSAGE_TYPE, number, "attempt"
                )
            ]
        )
        # Marked as gone, as after a minute of silence: its place is given up in its name.
        with Fleet(
            town.market.address,
            trusting(town.ca),
            town.nodes["west"].home.fleet_key(),
            number,
        ) as there:
            there.leave()
        assert grid.pull_messages([name]) == []
        town.nodes["west"].start()
        replies: list[Message] = []

        def seen() -> bool:
            replies.extend(grid.pull_messages([name]))
            return bool(replies)

        until(seen, "a reply", 30)
        assert not replies[0].has_error()
        assert isinstance(read_reply(unpack(replies[0])), Refusal)


def test_half_a_message_of_an_operator_that_died_is_in_nobodys_way(town: Town):
    """Guards: a node waits for the rest of a message, for half a minute, and answers no other."""
    with run_without(town, "west") as (grid, number):
        message = grid.create_message(pack(b"half of it"), MESSAGE_TYPE, number, "attempt")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(grid, "_push", lambda *_: None)
            grid.push_messages([message])
        assert town.market.service is not None
        kill(town.market.service)
        town.market.start_service()
        before = said(town, "west")
        town.nodes["west"].start()
        town.run()
    assert "did not arrive whole" not in said(town, "west").removeprefix(before)
