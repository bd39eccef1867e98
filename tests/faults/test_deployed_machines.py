"""What becomes of a deployed job when a node's machine is not as it should be: its clock, its disk.

Real processes over TLS on loopback. After each: the answer is that of all providers, or a failure
that names who is at fault; nobody has a use left over; journals and ledger tell one story.
"""

import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from ledger.rules import SKEW
from ledger.statements import Grant, Receipt
from tests.deployed import FOUR, Town, answer, at, expected, open_town, party, until

pytestmark = pytest.mark.slow

TEN_MINUTES = 600
A_LITTLE = 5
"""Seconds; the operator waits twice as long for a receipt to come into the log."""


@pytest.fixture(scope="module", name="town")
def _town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with open_town(tmp_path_factory.mktemp("machines"), FOUR, rejoin_seconds=4) as town:
        yield town


@pytest.fixture(autouse=True)
def _all_is_well(town: Town) -> Iterator[None]:
    """Begin and end with everybody there, nothing left over and a sound ledger."""
    yield
    town.must_be_well()
    town.journals_must_agree()


# --- clocks


def signed(town: Town, kind: type[Any], job: str, name: str) -> tuple[int, int] | None:
    """When a provider's grant or its node's receipt was signed, by its word, and when logged."""
    log, asset = town.researcher.log, town.nodes[name].asset
    log.sync()
    for logged in log.history.by_index.values():
        found = logged.statement
        if isinstance(found, kind) and (found.job, found.asset) == (job, asset):
            return found.issued, logged.time
    return None


@pytest.mark.parametrize("seconds", [-TEN_MINUTES, TEN_MINUTES])
def test_a_node_whose_clock_is_wrong_by_ten_minutes_takes_part(town: Town, seconds: int):
    with town.crooked(f"clock={seconds}", "west"):
        job = town.run()
    assert answer(town, job) == expected(tuple(FOUR))
    for kind in (Grant, Receipt):
        for name, wrong in (("west", seconds), ("north", 0)):
            issued, logged = signed(town, kind, job, name) or (0, 0)
            # The clock was wrong indeed, and what it said is what stands there.
            assert issued - logged == pytest.approx(wrong * 1000, abs=20_000)


def test_what_a_clock_signs_further_ahead_waits_and_the_node_says_why(town: Town):
    with town.crooked(f"clock={SKEW // 1000 + A_LITTLE}", "west"):
        job = town.submit()
        log = town.nodes["west"].home.folder / "node.log"
        until(lambda: "set the signer's clock right" in log.read_text(), "the node says why")
        view = town.researcher.job(job)
        assert (view["state"], party(town, view, "west")["state"]) == ("requested", "waiting")
        # The log's time comes so far: nothing that the node signed was in vain.
        view = town.wait(job)
    assert view["state"] == "released", (view, town.said())
    assert answer(town, job) == expected(tuple(FOUR))


def test_a_receipt_from_further_ahead_than_is_waited_for_releases_nothing(town: Town):
    """Guards: it was handed in again only after another start of its node."""
    ahead = SKEW // 1000 + 20
    job = town.submit()
    at(town, job, "keys", lambda: town.restart("west", f"clock={ahead}"))
    view = town.wait(job)
    assert (view["state"], view["error"]["reason"]) == ("failed", "no_receipt"), view
    reasons = {each["asset"]: each["reason"] for each in view["parties"]}
    assert [name for name, node in town.nodes.items() if reasons[node.asset]] == ["west"]
    town.restart("west")
    until(lambda: signed(town, Receipt, job, "west"), "the receipt, when the log's time has come")


# --- disks


@contextmanager
def full_disk(town: Town, name: str) -> Iterator[None]:
    """Let no file of a node's process grow beyond what its journal has now; its log is shorter."""
    node = town.nodes[name]
    pid, most = node.process.pid, (node.home.folder / "journal.db-wal").stat().st_size
    assert most > 10 * (node.home.folder / "node.log").stat().st_size
    usual = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, usual[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, usual)


def troubles(town: Town, name: str) -> int:
    """How often a node has said that it could not write its journal."""
    return (town.nodes[name].home.folder / "node.log").read_text().count("disk I/O error")


def test_a_job_waits_for_the_grant_of_a_node_whose_disk_is_full(town: Town):
    town.run()
    before = troubles(town, "west")
    with full_disk(town, "west"):
        job = town.submit()
        until(lambda: troubles(town, "west") > before, "the node's trouble")
        view = town.researcher.job(job)
        assert (view["state"], party(town, view, "west")["state"]) == ("requested", "waiting")
    # The same process, with room on its disk again.
    view = town.wait(job)
    assert view["state"] == "released", (view, town.said())
    assert answer(town, job) == expected(tuple(FOUR))


@pytest.mark.parametrize("step", ["keys", "moments"])
def test_a_node_that_can_write_nothing_down_ends_the_job_and_is_named(town: Town, step: str):
    town.run()
    before, spent = troubles(town, "west"), town.uses("spent")
    job = town.submit()
    with ExitStack() as stack:
        at(town, job, step, lambda: stack.enter_context(full_disk(town, "west")))
        view = town.wait(job)
    assert (view["state"], view["release"]) == ("failed", None), (view, town.said())
    assert party(town, view, "west")["reason"] == "internal"
    assert town.nodes["west"].asset[:12] in view["error"]["message"]
    assert troubles(town, "west") > before
    town.restart("west")
    town.journals_must_agree()
    # It cost nobody a use, and the next job is answered by all.
    assert town.uses("spent") == spent
    job = town.run()
    assert answer(town, job) == expected(tuple(FOUR))
