"""What becomes of a deployed job when its messages come twice, out of order or not at all.

Real processes over TLS on loopback; a relay stands between nodes and the service (`tests.relays`).
After each: the answer is that of the providers who stayed, or a failure that names who is missing;
each of them has one receipt and paid one use; nobody has a use left over; the ledger is sound.
"""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from ledger.statements import Receipt
from tests.deployed import FOUR, Town, answer, at, expected, open_town, party, until
from tests.relays import Echo, Line, Lossy

pytestmark = pytest.mark.slow

CUT_SECONDS = 20.0
SOON = 60.0
"""Less than an exchange may take when nobody knows that a message was lost."""

FIRST_ANSWER = 3
"""The request for the first answer comes to a node after those for keys and shares."""

REQUESTS = 7
"""To each node in a job of the task `statistics`: keys, shares, finish, and two a round."""


@pytest.fixture(scope="module", name="town")
def _town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with open_town(tmp_path_factory.mktemp("lines"), FOUR) as town:
        yield town


@pytest.fixture(autouse=True)
def _all_is_well(town: Town) -> Iterator[None]:
    """Begin and end with everybody there, nothing left over and a sound ledger."""
    yield
    town.must_be_well()


def receipts(town: Town, job: str) -> dict[str, list[Receipt]]:
    """The receipts of a job that stand in the ledger, by provider."""
    log = town.researcher.log
    log.sync()
    found = [logged.statement for logged in log.history.by_index.values()]
    return {
        name: [
            each for each in found if isinstance(each, Receipt) and _is_of(each, job, node.asset)
        ]
        for name, node in town.nodes.items()
    }


def _is_of(receipt: Receipt, job: str, asset: str) -> bool:
    return (receipt.job, receipt.asset) == (job, asset)


# --- twice, and out of order


def test_requests_and_replies_that_come_again_and_late_change_nothing(town: Town):
    before = town.uses("spent")
    with (
        Echo(town.market.address, town.data / "tls") as echo,
        town.reached_by(echo.address, *town.nodes),
    ):
        job = town.run()
        # Whatever of it is still to come comes after the end.
        until(lambda: not echo.to_come(), "all repetitions")
    assert answer(town, job) == expected(tuple(FOUR))
    assert echo.repeated >= len(FOUR) * REQUESTS
    assert echo.pushed_again >= len(FOUR) * REQUESTS
    # Asked the same once more, a node has given the same bytes.
    again = [contents for contents in echo.replies.values() if len(contents) > 1]
    assert len(again) >= len(FOUR) * (REQUESTS - 1)
    assert all(len(set(contents)) == 1 for contents in again)
    assert {asset: spent + 1 for asset, spent in before.items()} == town.uses("spent")
    for found in receipts(town, job).values():
        (receipt,) = found
        assert (receipt.state, len(receipt.contributions)) == ("completed", 2)


def test_twin_a_node_that_forgets_what_it_answered_ends_the_job(town: Town):
    with (
        Echo(town.market.address, town.data / "tls") as echo,
        town.reached_by(echo.address, *town.nodes),
        town.crooked("forgetful", "west"),
    ):
        view = town.wait(town.submit())
    assert view["state"] == "refused", view
    assert party(town, view, "west")["reason"] == "grant_mismatch"


# --- lost


@pytest.mark.parametrize("what", ["request", "reply", "rest"])
def test_what_is_lost_with_its_connection_is_asked_for_again(town: Town, what: str):
    """Guards: a node that was never missed was given up for one lost message after minutes."""
    with (
        Lossy(town.market.address, town.data / "tls", what, FIRST_ANSWER) as relay,
        town.reached_by(relay.address, "west"),
    ):
        begun = time.monotonic()
        job = town.submit()
        view = town.wait(job)
        took = time.monotonic() - begun
    assert relay.lost
    assert view["state"] == "released", (view, town.said())
    assert party(town, view, "west")["state"] == "completed"
    assert answer(town, job) == expected(tuple(FOUR))
    assert took < SOON


def test_a_node_that_dies_when_the_others_have_receipted_costs_nobody_a_use(town: Town):
    """Guards: they had signed that they completed what was never released, and paid for it."""
    before = town.uses("spent")
    with (
        town.served_with(rejoin_seconds=4),
        Lossy(town.market.address, town.data / "tls", "request", REQUESTS) as relay,
        town.reached_by(relay.address, "west"),
    ):
        job = town.submit()
        until(lambda: relay.lost, "the request to finish is lost")
        os.kill(town.nodes["west"].process.pid, signal.SIGKILL)
        view = town.wait(job)
    assert view["state"] == "failed", (view, town.said())
    assert party(town, view, "west")["reason"] == "no_reply"
    assert town.uses("spent") == before
    log = town.researcher.log
    until(lambda: (log.sync(), job in log.history.revoked)[1], "the job is revoked")
    assert job not in log.history.released
    # Each handed its receipt in before it answered the coordinator.
    found = receipts(town, job)
    assert {name: [each.state for each in found[name]] for name in found} == {
        name: [] if name == "west" else ["completed"] for name in town.nodes
    }
    # It comes back, hears of the end, and says so; nobody paid for this job, and all for the next.
    town.must_be_well()
    town.run()
    assert {asset: spent + 1 for asset, spent in before.items()} == town.uses("spent")


# --- a cut line


def cut_for(town: Town, line: Line, *, loudly: bool) -> None:
    """Cut a node's line, let time pass, which is all that happens then, and mend it."""
    line.cut(loudly=loudly)
    time.sleep(CUT_SECONDS)
    assert town.state("west") == "lost"
    line.mend()


@pytest.mark.parametrize(
    ("step", "how"),
    [("moments", "loud"), ("unmask", "silent"), ("finish", "loud")],
)
def test_a_node_whose_line_is_cut_is_waited_for(town: Town, step: str, how: str):
    with Line(town.market.port) as line, town.reached_by(line.address, "west"):
        job = town.submit()
        at(town, job, step, lambda: cut_for(town, line, loudly=how == "loud"))
        view = town.wait(job)
        assert view["state"] == "released", (view, town.said())
    assert party(town, view, "west")["state"] == "completed"
    assert answer(town, job) == expected(tuple(FOUR))


def test_a_line_that_is_cut_for_longer_than_is_waited_costs_its_node_the_job(town: Town):
    with (
        town.served_with(rejoin_seconds=4),
        Line(town.market.port) as line,
        town.reached_by(line.address, "west"),
    ):
        job = town.submit()
        at(town, job, "moments", line.cut)
        view = town.wait(job)
        line.mend()
    assert view["state"] == "released", (view, town.said())
    assert party(town, view, "west")["state"] != "completed"
    assert answer(town, job) == expected(("north", "south", "east"))
