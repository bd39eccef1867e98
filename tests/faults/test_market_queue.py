"""A fair queue: who is next, how many at once, and no job twice, whoever races for it."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from marketplace.jobs import moves, queue
from marketplace.jobs.deadlines import Deadlines
from marketplace.jobs.engine import JobRequest, Outcome, Progress
from tests.drafts import START, YEAR
from tests.market import FakeEngine, Market, Party
from tests.postgres import drop_database, new_database

LEASE_MS = 600_000
FAR = START + 100 * YEAR


@dataclass
class Lab:
    """A researcher with an agreement on every asset."""

    party: Party
    agreements: tuple[str, ...]


@contextmanager
def acting(market: Market, lab: Lab) -> Iterator[None]:
    """Lets the market's shorthands speak for one lab."""
    before = Lab(market.researcher, tuple(party.agreement for party in market.providers))
    put(market, lab)
    try:
        yield
    finally:
        put(market, before)


def put(market: Market, lab: Lab) -> None:
    market.researcher = lab.party
    for party, agreement in zip(market.providers, lab.agreements, strict=True):
        party.agreement = agreement


def new_lab(market: Market, name: str) -> Lab:
    lab = Lab(Party(name, ("researcher",)), ("",) * len(market.providers))
    with acting(market, lab):
        market.enrol(lab.party)
        terms = market.terms(uses=1000, until=FAR)
        lab.agreements = tuple(market.agree(party, terms=terms) for party in market.providers)
    return lab


def granted(market: Market, lab: Lab, name: str = "job") -> str:
    with acting(market, lab):
        job = market.submit(name=name)
        market.grant_all(job)
    return job


def state(market: Market, job: str) -> str:
    return str(market.must(market.get(f"/jobs/{job}", market.auditor), 200)["state"])


def logged(market: Market, kind: str) -> int:
    return market.context.log.history.checked[kind]


@pytest.fixture(name="either", params=["sqlite", "postgresql"])
def _either(
    request: pytest.FixtureRequest, populated_market: Market, tmp_path: Path
) -> Iterator[Market]:
    """A running market on each kind of database."""
    if request.param == "sqlite":
        with populated_market.copy_to(tmp_path / "data") as market:
            yield market
        return
    url = new_database()
    with Market(tmp_path / "data", database=url) as market:
        market.populate()
        yield market
    drop_database(url)


# Who is next.


def test_somebody_with_many_jobs_keeps_nobody_waiting_for_more_than_one(either: Market):
    many, one = new_lab(either, "many.example"), new_lab(either, "one.example")
    firsts = [granted(either, many) for _ in range(3)]
    late = granted(either, one)
    order = [either.work() for _ in range(4)]
    # The twin, the order of arrival, would be [*firsts, late].
    assert order == [firsts[0], late, *firsts[1:]]
    assert either.work() is None
    assert either.context.log.findings == []


def test_who_has_as_many_running_as_one_may_have_is_passed_over(
    populated_market: Market, tmp_path: Path
):
    options = {"running_per_researcher": 1}
    with populated_market.copy_to(tmp_path / "data", **options) as market:
        many, one = new_lab(market, "many.example"), new_lab(market, "one.example")
        first, second = granted(market, many), granted(market, many)
        taken: list[str | None] = []

        def rivals(_: str) -> None:
            market.engine.during = lambda _: None
            taken.append(market.worker().run_once())
            taken.append(late := granted(market, one))
            taken.append(market.worker().run_once())
            assert state(market, late) == "released"

        market.engine.during = rivals
        assert market.work() == first
        assert taken[0] is None
        assert taken[1] == taken[2]
        assert market.work() == second


def test_without_that_limit_a_second_one_runs_at_the_same_time(market: Market):
    """The twin: the same jobs under the default."""
    lab = new_lab(market, "many.example")
    _, second = granted(market, lab), granted(market, lab)
    taken: list[str | None] = []

    def rival(_: str) -> None:
        market.engine.during = lambda _: None
        taken.append(market.worker().run_once())

    market.engine.during = rival
    market.work()
    assert taken == [second]


def test_a_job_whose_lease_ended_waits_like_a_granted_one(populated_market: Market, tmp_path: Path):
    """It would count as running otherwise, and its researcher could never take it over."""
    options = {"running_per_researcher": 1}
    with populated_market.copy_to(tmp_path / "data", **options) as market:
        job = granted(market, new_lab(market, "lab.example"))
        lease = market.worker()._claim()
        assert lease
        assert market.work() is None
        market.clock.advance(LEASE_MS + 1)
        assert market.work() == job
        assert state(market, job) == "released"


# How many.


def test_more_open_jobs_than_one_may_have_are_refused(populated_market: Market, tmp_path: Path):
    with populated_market.copy_to(tmp_path / "data", open_per_researcher=2) as market:
        lab, other = new_lab(market, "many.example"), new_lab(market, "one.example")
        with acting(market, lab):
            body = market.sign(market.job_statement())
            first = market.must(market.post("/jobs", lab.party, body))
            market.submit()
            third, before = market.sign(market.job_statement()), market.counts()
            answer = market.post("/jobs", lab.party, third)
            told = answer.json()
            assert (answer.status_code, told["code"]) == (429, "too_many_open_jobs")
            assert "cancel one, and send this again" in told["detail"]
            assert market.counts() == before
            # What is stored already answers as ever.
            assert market.must(market.post("/jobs", lab.party, body)) == first
            assert market.counts() == before
        with acting(market, other):
            market.submit()
        with acting(market, lab):
            market.must(market.post(f"/jobs/{first['job']}/cancel", lab.party, {}), 200)
            market.must(market.post("/jobs", lab.party, third))


def test_two_that_race_for_the_last_place_get_one(populated_market: Market, tmp_path: Path):
    with populated_market.copy_to(tmp_path / "data", open_per_researcher=1) as market:
        lab = new_lab(market, "many.example")
        with acting(market, lab):
            bodies = [market.sign(market.job_statement()) for _ in range(2)]
            with ThreadPoolExecutor(2) as pool:
                sent = pool.map(lambda body: market.post("/jobs", lab.party, body), bodies)
                assert sorted(answer.status_code for answer in sent) == [201, 429]


# No job twice.


def looking_together(monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    """All workers look before any of them has the lock: the race at its worst."""
    both, real, looked = threading.Barrier(workers, timeout=60), queue.next_job, threading.local()

    def next_job(*arguments: Any) -> Any:
        found = real(*arguments)
        if not getattr(looked, "once", False):
            looked.once = True
            both.wait()
        return found

    monkeypatch.setattr(queue, "next_job", next_job)


def run_together(market: Market, workers: int) -> list[str | None]:
    with ThreadPoolExecutor(workers) as pool:
        each = [market.worker() for _ in range(workers)]
        return list(pool.map(lambda worker: worker.run_once(), each))


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_that_race_for_one_job_run_it_once(
    either: Market, monkeypatch: pytest.MonkeyPatch, workers: int
):
    job = granted(either, new_lab(either, "lab.example"))
    looking_together(monkeypatch, workers)
    ran = run_together(either, workers)
    assert sorted(ran, key=str) == sorted([job, *[None] * (workers - 1)], key=str)
    assert [(asked.id, asked.attempt) for asked in either.engine.requests] == [(job, 1)]
    assert (logged(either, "release"), logged(either, "settlement")) == (1, 1)
    assert either.context.log.findings == []


def test_workers_that_trusted_their_first_look_would_run_it_twice(
    market: Market, monkeypatch: pytest.MonkeyPatch
):
    """The twin: neither the second look under the lock, nor the counter that fences a write."""
    granted(market, new_lab(market, "lab.example"))
    both, real, seen = threading.Barrier(2, timeout=60), queue.next_job, threading.local()

    def stale(*arguments: Any) -> Any:
        if not hasattr(seen, "job"):
            seen.job = real(*arguments)
            both.wait()
        return seen.job

    def unfenced(_session: Any, job: Any, **values: Any) -> None:
        for name, value in values.items():
            setattr(job, name, value)

    def run(worker: Any) -> None:
        assert worker._claim() is not None
        market.engine.requests.append(worker)

    monkeypatch.setattr(queue, "next_job", stale)
    monkeypatch.setattr(moves, "fenced_update", unfenced)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, [market.worker(), market.worker()]))
    assert len(market.engine.requests) == 2


class Meeting(FakeEngine):
    """Jobs that meet: none goes on before as many as expected run at the same time."""

    def __init__(self, market: Market, expected: int) -> None:
        super().__init__(market)
        self.together = threading.Barrier(expected, timeout=60)

    def run(self, request: JobRequest, progress: Callable[[Progress], None]) -> Outcome:
        self.together.wait()
        return super().run(request, progress)


def wait_for(market: Market, jobs: list[str], wanted: str) -> None:
    for _ in range(5000):
        if all(state(market, job) == wanted for job in jobs):
            return
    pytest.fail(str([state(market, job) for job in jobs]))


def test_as_many_jobs_run_at_once_as_the_setting_says(populated_market: Market, tmp_path: Path):
    """With one worker fewer the two would wait for each other until the barrier breaks."""
    with populated_market.copy_to(tmp_path / "data", workers=2) as market:
        labs = new_lab(market, "one.example"), new_lab(market, "two.example")
        market.engine = Meeting(market, 2)
        jobs = [granted(market, lab) for lab in labs]
        worker = market.worker()
        worker.start()
        wait_for(market, jobs, "released")
        worker.stop()
        assert (logged(market, "release"), logged(market, "settlement")) == (2, 2)
        later = granted(market, labs[0])
        assert state(market, later) == "granted"
        assert market.context.log.findings == []


def test_an_error_in_one_look_stops_no_later_job(market: Market, monkeypatch: pytest.MonkeyPatch):
    real, calls = queue.next_job, 0

    def next_job(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("the disk")
        return real(*arguments)

    monkeypatch.setattr(queue, "next_job", next_job)
    job = granted(market, new_lab(market, "lab.example"))
    worker = market.worker()
    worker.start()
    wait_for(market, [job], "released")
    worker.stop()


# Cancelling, whatever happens in the same moment.


def cancel(market: Market, job: str) -> int:
    return market.post(f"/jobs/{job}/cancel", market.researcher, {}).status_code


def test_a_cancel_that_races_with_the_claim_ends_the_job(either: Market):
    lab = new_lab(either, "lab.example")
    for _ in range(6):
        job = granted(either, lab)
        with acting(either, lab), ThreadPoolExecutor(2) as pool:
            claiming = pool.submit(either.worker()._claim)
            cancelled = pool.submit(cancel, either, job)
            claiming.result()
            assert cancelled.result() == 200
        assert state(either, job) == "cancelled"
        assert either.work() is None
    assert (logged(either, "release"), either.engine.requests) == (0, [])


def test_a_cancel_that_races_with_the_release_wins_or_is_refused(either: Market):
    lab = new_lab(either, "lab.example")
    ends = []
    for _ in range(6):
        job = granted(either, lab)
        start = threading.Barrier(2, timeout=60)

        def finish(outcome: Outcome, start: threading.Barrier = start) -> Outcome:
            start.wait()
            return outcome

        def stop(job: str = job, start: threading.Barrier = start) -> int:
            start.wait()
            return cancel(either, job)

        either.engine.lie = finish
        with acting(either, lab), ThreadPoolExecutor(2) as pool:
            working, cancelled = pool.submit(either.work), pool.submit(stop)
            assert working.result() == job
            ends.append((cancelled.result(), state(either, job)))
    assert set(ends) <= {(200, "cancelled"), (409, "released")}
    released = sum(end == (409, "released") for end in ends)
    assert (logged(either, "release"), logged(either, "settlement")) == (released, released)
    assert either.context.log.findings == []


@pytest.mark.parametrize("moment", ["requested", "granted", "running"])
def test_a_job_is_cancelled_in_every_open_state(market: Market, moment: str):
    job = market.submit()
    if moment != "requested":
        market.grant_all(job)
    if moment == "running":
        market.engine.during = lambda name: market.must(
            market.post(f"/jobs/{name}/cancel", market.researcher, {}), 200
        )
        market.work()
    else:
        assert market.state(job) == moment
        assert cancel(market, job) == 200
    view = market.must(market.get(f"/jobs/{job}", market.researcher), 200)
    assert (view["state"], view["error"]["reason"]) == ("cancelled", "cancelled")
    assert {party["reason"] for party in view["parties"]} == {"cancelled"}
    uses = market.must(
        market.get(f"/agreements/{market.providers[0].agreement}", market.researcher), 200
    )
    assert (uses["uses_reserved"], uses["uses_left"]) == (0, 3)
    assert cancel(market, job) == 409


# Grants that do not come.

WAIT = 86_400


@pytest.fixture(name="unwatched")
def _unwatched(
    populated_market: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Market]:
    """A running market whose own watch over deadlines sleeps while the test does it by hand."""
    monkeypatch.setattr("marketplace.jobs.deadlines.LOOK_SECONDS", 3600.0)
    with populated_market.copy_to(tmp_path / "data") as market:
        yield market


def uses_of(market: Market) -> list[tuple[int, int]]:
    found = market.must(market.get("/agreements", market.researcher), 200)
    return [(each["uses_reserved"], each["uses_left"]) for each in found]


def test_a_job_whose_grants_do_not_come_fails_and_names_who_did_not_answer(unwatched: Market):
    job = unwatched.submit()
    first, *others = unwatched.providers
    unwatched.must(unwatched.post("/grants", first, unwatched.grant_statement(first, job)))
    assert uses_of(unwatched) == [(1, 2)] * 3
    unwatched.clock.advance(WAIT * 1000 - 10)
    # The twin: as long as it may wait, it does.
    assert Deadlines(unwatched.context).run_once() is None
    assert unwatched.state(job) == "requested"
    unwatched.clock.advance(20)
    assert Deadlines(unwatched.context).run_once() == job
    view = unwatched.must(unwatched.get(f"/jobs/{job}", unwatched.researcher), 200)
    assert (view["state"], view["error"]["reason"]) == ("failed", "no_answer")
    assert [party["reason"] for party in view["parties"]] == ["stopped", "no_answer", "no_answer"]
    assert [party["state"] for party in view["parties"]] == ["granted", "waiting", "waiting"]
    for party in others:
        assert f"{party.name} ({party.asset[:18]}): no_answer" in view["error"]["message"]
    assert first.name not in view["error"]["message"]
    assert uses_of(unwatched) == [(0, 3)] * 3
    assert Deadlines(unwatched.context).run_once() is None
    before = unwatched.counts()
    late = unwatched.post("/grants", others[0], unwatched.grant_statement(others[0], job))
    assert (late.status_code, late.json()["code"]) == (409, "not_waiting")
    assert unwatched.counts() == before
    assert unwatched.context.log.findings == []


def test_a_job_that_has_its_grants_may_wait_for_its_turn(unwatched: Market):
    job = granted(unwatched, new_lab(unwatched, "lab.example"))
    unwatched.clock.advance(WAIT * 2000)
    assert Deadlines(unwatched.context).run_once() is None
    assert state(unwatched, job) == "granted"


def test_a_receipt_that_comes_later_says_more(unwatched: Market):
    job, first = unwatched.submit(), unwatched.providers[0]
    unwatched.clock.advance(WAIT * 1000 + 10)
    Deadlines(unwatched.context).run_once()
    refusal = unwatched.receipt(first, job, None, state="refused", reason="purpose_not_allowed")
    unwatched.must(unwatched.post("/receipts", first, refusal))
    view = unwatched.must(unwatched.get(f"/jobs/{job}", unwatched.researcher), 200)
    assert (view["state"], view["error"]["reason"]) == ("failed", "no_answer")
    assert [party["reason"] for party in view["parties"]] == [
        "purpose_not_allowed",
        "no_answer",
        "no_answer",
    ]


def test_a_grant_between_look_and_lock_saves_the_job(
    unwatched: Market, monkeypatch: pytest.MonkeyPatch
):
    job = unwatched.submit()
    for party in unwatched.providers[1:]:
        unwatched.must(unwatched.post("/grants", party, unwatched.grant_statement(party, job)))
    unwatched.clock.advance(WAIT * 1000 + 10)
    first, deadlines = unwatched.providers[0], Deadlines(unwatched.context)
    real = type(deadlines)._overdue

    def look(*arguments: Any) -> Any:
        found = real(*arguments)
        monkeypatch.undo()
        unwatched.must(unwatched.post("/grants", first, unwatched.grant_statement(first, job)))
        return found

    monkeypatch.setattr(Deadlines, "_overdue", look)
    assert deadlines.run_once() is None
    assert unwatched.state(job) == "granted"


def test_deadlines_are_watched_while_the_service_runs(
    unwatched: Market, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("marketplace.jobs.deadlines.LOOK_SECONDS", 0.001)
    errors: list[Exception] = [RuntimeError("the disk"), queue.LimitError("busy")]
    real = Deadlines.run_once

    def run_once(deadlines: Deadlines) -> str | None:
        if errors:
            raise errors.pop()
        return real(deadlines)

    monkeypatch.setattr(Deadlines, "run_once", run_once)
    job = unwatched.submit()
    unwatched.clock.advance(WAIT * 1000 + 10)
    deadlines = Deadlines(replace(unwatched.context))
    deadlines.start()
    wait_for(unwatched, [job], "failed")
    deadlines.stop()
    later = unwatched.submit()
    unwatched.clock.advance(WAIT * 1000 + 10)
    deadlines.stop()
    assert unwatched.state(later) == "requested"
