"""Crashes, rivals and revocations around a running job: one release and one bill, or none."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from federated.lease import Lease, open_lease
from ledger.errors import LogError
from ledger.log import Log
from ledger.statements import Revocation, read
from marketplace.app import create_app
from marketplace.context import Context
from marketplace.errors import NotFoundError
from marketplace.jobs.engine import JobRequest, Outcome, Progress
from marketplace.jobs.worker import Worker
from marketplace.settings import Settings
from marketplace.transport import AppTransport
from tests.drafts import Clock
from tests.market import FakeEngine, Market

LEASE_MS = 600_000


def granted(market: Market) -> str:
    job = market.submit()
    market.grant_all(job)
    return job


def logged(market: Market, kind: str) -> int:
    return market.context.log.history.checked[kind]


def assert_released_once(market: Market, job: str) -> None:
    assert market.state(job) == "released"
    assert (logged(market, "release"), logged(market, "settlement")) == (1, 1)
    assert market.context.log.findings == []
    assert job not in market.context.log.history.revoked
    first = market.providers[0]
    view = market.must(market.get(f"/agreements/{first.agreement}", first), 200)
    assert (view["uses_spent"], view["uses_reserved"]) == (1, 0)


def assert_nothing_came_of_it(market: Market, job: str, state: str) -> None:
    assert market.state(job) == state
    assert (logged(market, "release"), logged(market, "settlement")) == (0, 0)
    assert market.must(market.get("/accounts", market.operator), 200) == []
    assert market.get(f"/jobs/{job}/result", market.researcher).status_code == 409
    if state != "running":
        assert_no_use_counts(market)


def assert_no_use_counts(market: Market) -> None:
    """Neither for the service nor, once it has written down all that it took in, for the log."""
    for each in market.providers:
        view = market.must(market.get(f"/agreements/{each.agreement}", each), 200)
        assert (view["uses_spent"], view["uses_reserved"]) == (0, 0)
        assert market.must(market.get(f"/assets/{each.asset}", each), 200)["uses"] == 0
    # An offer is told as logged when all before it are.
    first = market.providers[0]
    market.must(market.post("/offers", first, market.offer_statement(first)))
    assert +market.context.log.history.completed_uses == {}
    assert market.context.log.findings == []


def test_the_app_has_its_context_before_the_worker_takes_a_job_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Guards: a job that was running when the operator was killed failed as `internal`."""
    order: list[str] = []
    app = create_app(Settings(folder=tmp_path / "data"), engine=object(), clock=Clock())  # type: ignore[arg-type]

    def start(_: Worker) -> None:
        order.append(app.state.context.operator)

    monkeypatch.setattr(Worker, "start", start)
    with AppTransport(app):
        assert order == [app.state.context.operator]


def test_a_job_whose_last_grant_is_not_shown_yet_waits_for_it(
    market: Market, monkeypatch: pytest.MonkeyPatch
):
    """Guards: taken in the moment between storing a grant and showing it, the job failed."""
    job, shown = granted(market), set[str]()
    find, logged_ = Context.find, Context.logged

    def found(context: Context, name: str, kind: Any) -> Any:
        if name.startswith("grant:") and name not in shown:
            raise NotFoundError
        return find(context, name, kind)

    def waited(context: Context, name: str) -> int:
        shown.add(name)
        return logged_(context, name)

    monkeypatch.setattr(Context, "find", found)
    monkeypatch.setattr(Context, "logged", waited)
    market.work()
    assert_released_once(market, job)


def test_a_receipt_that_does_not_reach_the_log_names_its_party_and_releases_nothing(
    market: Market, monkeypatch: pytest.MonkeyPatch
):
    job, wait_for, waited = granted(market), Log.wait_for, list[float]()

    def never(log: Log, name: str, timeout: float = 10.0) -> int:
        index = wait_for(log, name, timeout)
        if name.startswith("receipt:"):
            waited.append(timeout)
            if len(waited) == 2:
                raise LogError("not in time")
        return index

    def from_here_on(outcome: Outcome) -> Outcome:
        monkeypatch.setattr(Log, "wait_for", never)
        return outcome

    market.engine.lie = from_here_on
    market.work()
    view = market.must(market.get(f"/jobs/{job}", market.researcher), 200)
    late = market.engine.requests[0].cohort[1].asset
    (named,) = (each["provider_name"] for each in view["parties"] if each["asset"] == late)
    assert view["error"]["reason"] == "no_receipt"
    assert view["error"]["message"] == f"failed: {named} ({late[:18]}): no_receipt"
    # They have the time of one between them.
    assert waited == sorted(waited, reverse=True)
    assert_nothing_came_of_it(market, job, "failed")


def test_a_job_cancelled_while_it_runs_releases_nothing(market: Market):
    job = granted(market)
    market.engine.during = lambda name: market.must(
        market.post(f"/jobs/{name}/cancel", market.researcher, {}), 200
    )
    assert market.work() == job
    assert_nothing_came_of_it(market, job, "cancelled")
    assert market.work() is None


def test_a_job_cancelled_at_the_last_moment_releases_nothing(market: Market):
    job = granted(market)

    def cancel_then_answer(outcome: Outcome) -> Outcome:
        market.must(market.post(f"/jobs/{job}/cancel", market.researcher, {}), 200)
        return outcome

    market.engine.lie = cancel_then_answer
    market.work()
    assert_nothing_came_of_it(market, job, "cancelled")
    revoked = market.context.log.history.by_index[market.context.log.history.revoked[job]]
    assert revoked.read_as(Revocation).cause == "cancelled: cancelled"


def test_what_nodes_completed_after_their_job_ended_uses_nothing_up(market: Market):
    """Guards: nodes that had receipted a job as completed paid for what was never released."""
    job = granted(market)
    grants = {}

    def cancel(name: str) -> None:
        market.must(market.post(f"/jobs/{name}/cancel", market.researcher, {}), 200)
        grants.update({each.asset: each.grant for each in market.engine.requests[-1].cohort})

    market.engine.during = cancel
    market.work()
    receipts = [market.receipt(each, job, grants[each.asset]) for each in market.providers]
    for count, (party, receipt) in enumerate(zip(market.providers, receipts, strict=True), 1):
        # A node hands its receipt in again and again.
        for _ in range(2):
            market.must(market.post("/receipts", party, receipt))
        assert_no_use_counts(market)
        assert (logged(market, "receipt"), logged(market, "revocation")) == (count, 1)
    assert_nothing_came_of_it(market, job, "cancelled")


def test_a_result_that_the_gate_holds_back_uses_nothing_up(market: Market):
    job = granted(market)
    market.engine.lie = lambda outcome: replace(outcome, result={"age": float("nan")})  # type: ignore[type-var]
    market.work()
    view = market.must(market.get(f"/jobs/{job}", market.researcher), 200)
    assert view["error"]["reason"] == "release_refused"
    assert_nothing_came_of_it(market, job, "failed")


def test_only_the_end_of_a_job_revokes_it(market: Market):
    job = granted(market)
    by_hand = market.post("/revocations", market.operator, market.revocation(market.operator, job))
    assert (by_hand.status_code, by_hand.json()["code"]) == (409, "not_revocable")
    own = market.post("/revocations", market.researcher, market.revocation(market.researcher, job))
    assert own.json()["code"] == "not_owner"
    market.work()
    assert_released_once(market, job)


def test_a_revocation_stops_a_running_job(market: Market):
    job, first = granted(market), market.providers[0]
    market.engine.during = lambda _: market.must(
        market.post("/revocations", first, market.revocation(first, first.agreement))
    )
    market.work()
    assert_nothing_came_of_it(market, job, "refused")


def test_a_worker_that_lost_its_lease_releases_nothing(market: Market):
    job = granted(market)
    rivals: list[str | None] = []

    def be_slow(_: str) -> None:
        market.engine.during = lambda _: None
        market.clock.advance(LEASE_MS + 1)
        rivals.append(market.worker().run_once())

    market.engine.during = be_slow
    assert market.work() == job
    assert rivals == [job]
    assert [request.attempt for request in market.engine.requests] == [1, 1]
    assert_released_once(market, job)


def test_who_takes_a_job_over_signs_a_later_lease_for_the_same_attempt(market: Market):
    """As the operator, and with the counter of its own claim, whatever was written meanwhile."""
    job = granted(market)

    def be_slow(_: str) -> None:
        market.engine.during = lambda _: None
        market.clock.advance(LEASE_MS + 1)
        market.worker().run_once()

    market.engine.during = be_slow
    market.work()
    key = market.context.operator_key.verify_key
    first, second = (
        open_lease(request.lease(request.attempt, run), key)
        for run, request in enumerate(market.engine.requests, start=7)
    )
    assert first == Lease(job, 1, first.fence, 7)
    assert second == Lease(job, 1, second.fence, 8)
    assert second.fence > first.fence


def test_before_its_lease_ends_nobody_takes_a_job_over(market: Market):
    granted(market)
    rivals: list[str | None] = []
    market.engine.during = lambda _: rivals.append(market.worker().run_once())
    market.work()
    assert rivals == [None]


def test_progress_prolongs_the_lease(market: Market):
    job = granted(market)
    rivals: list[str | None] = []

    class Steady(FakeEngine):
        def run(self, request: JobRequest, progress: Callable[[Progress], None]) -> Outcome:
            for number in range(1, 4):
                market.clock.advance(LEASE_MS - 1)
                progress(Progress(number, 1, 3))
                rivals.append(market.worker().run_once())
            return super().run(request, progress)

    market.engine = Steady(market)
    market.work()
    assert rivals == [None] * 3
    assert_released_once(market, job)


def test_a_crash_while_a_job_is_revoked_leaves_nothing_and_is_made_good(
    market: Market, monkeypatch: pytest.MonkeyPatch
):
    """The end of a job and its revocation: both or neither."""
    job, real = granted(market), Log.submit

    def submit(log: Log, connection: Any, envelope: bytes) -> str:
        name = real(log, connection, envelope)
        if read(envelope).statement.kind == "revocation":
            raise MemoryError
        return name

    market.engine.lie = lambda outcome: replace(outcome, result={"age": float("nan")})  # type: ignore[type-var]
    monkeypatch.setattr(Log, "submit", submit)
    with pytest.raises(MemoryError):
        market.work()
    monkeypatch.undo()
    assert_nothing_came_of_it(market, job, "running")
    assert logged(market, "revocation") == 0
    market.clock.advance(LEASE_MS + 1)
    assert market.work() == job
    assert_nothing_came_of_it(market, job, "failed")
    assert logged(market, "revocation") == 1


@pytest.mark.parametrize("call", [1, 2])
def test_a_crash_while_releasing_leaves_nothing_and_is_made_good(
    market: Market, monkeypatch: pytest.MonkeyPatch, call: int
):
    """The release is the first statement stored, the bill the second: both or neither."""
    job = granted(market)
    market.engine.lie = lambda outcome: (crash(), outcome)[1]
    real, calls = Log.submit, 0

    def crash() -> None:
        def submit(*args: Any, **options: Any) -> str:
            nonlocal calls
            calls += 1
            if calls == call:
                raise MemoryError
            return real(*args, **options)

        monkeypatch.setattr(Log, "submit", submit)

    with pytest.raises(MemoryError):
        market.work()
    monkeypatch.undo()
    assert_nothing_came_of_it(market, job, "running")
    assert market.work() is None
    market.clock.advance(LEASE_MS + 1)
    market.engine.lie = lambda outcome: outcome
    assert market.work() == job
    assert_released_once(market, job)


def test_after_a_restart_a_running_job_is_taken_over(populated_market: Market, tmp_path: Path):
    with populated_market.copy_to(tmp_path / "data") as market:
        job = granted(market)
        market.worker()._claim()
        assert market.state(job) == "running"
    with market.copy_to(tmp_path / "again") as again:
        again.clock.advance(LEASE_MS + 1)
        assert again.work() == job
        assert_released_once(again, job)


def test_what_was_stored_before_a_crash_is_logged_after_it(
    populated_market: Market, tmp_path: Path
):
    with populated_market.copy_to(tmp_path / "data", log_wait_seconds=1) as market:
        market.context.log.stop()
        body = market.sign(market.job_statement())
        answer = market.post("/jobs", market.researcher, body)
        assert (answer.status_code, answer.json()["code"]) == (503, "log_delayed")
    with market.copy_to(tmp_path / "again") as again:
        (job,) = again.must(again.get("/jobs", again.researcher), 200)
        found = again.must(again.post("/jobs", again.researcher, body))
        assert (found["job"], found["state"]) == (job["job"], "requested")
        view = again.must(
            again.get(f"/agreements/{again.providers[0].agreement}", again.researcher), 200
        )
        assert view["uses_reserved"] == 1


def test_many_workers_run_each_job_once(market: Market):
    jobs = {granted(market) for _ in range(3)}
    workers = [market.worker() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda worker: (worker.run_once(), worker.run_once()), workers))
    ran = [job for pair in done for job in pair if job]
    assert sorted(ran) == sorted(jobs)
    assert len(market.engine.requests) == 3
    assert (logged(market, "release"), logged(market, "settlement")) == (3, 3)
    assert market.context.log.findings == []


def test_a_thread_of_its_own_works_until_it_is_stopped(market: Market):
    worker = market.worker()
    worker.start()
    job = granted(market)
    for _ in range(2000):
        if market.state(job) == "released":
            break
    worker.stop()
    assert_released_once(market, job)
    later = granted(market)
    assert market.state(later) == "granted"
