"""Following a job: what a stream says and when, when it ends, and who may have how many."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx
import pytest
import uvicorn
from sqlmodel import Session

from marketplace.context import Context
from marketplace.errors import AuthenticationError, LimitError
from marketplace.jobs import events
from marketplace.jobs.engine import JobRequest, Outcome, Progress
from marketplace.participants.access import Caller
from tests.market import FakeEngine, Market, Party

KEEP_ALIVE = b": ping\n\n"


def parsed(text: str) -> list[dict[str, str]]:
    """Events as a browser reads them; comments are dropped."""
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            found.append(dict(line.split(": ", 1) for line in lines))
    return found


def views(text: str) -> list[dict[str, Any]]:
    return [json.loads(event["data"]) for event in parsed(text)]


def caller(party: Party) -> Caller:
    return Caller(party.id, party.name, frozenset(party.roles))


class Script:
    """A clock that the stream's own pauses drive, and what happens in each of them."""

    def __init__(self, *steps: Callable[[], object] | float | None) -> None:
        self.steps = list(steps)
        self.now = 0.0

    async def pause(self, seconds: float) -> None:
        self.now += seconds
        step = self.steps.pop(0)
        if isinstance(step, float):
            self.now += step
        elif step is not None:
            await anyio.to_thread.run_sync(step)

    def clock(self) -> float:
        return self.now


def followed(
    market: Market, job: str, script: Script, streams: events.Streams | None = None
) -> list[bytes]:
    """Everything that a stream sends while a script is played."""
    watch = events.Watch(market.context, caller(market.researcher), job)
    body = events.follow(
        watch,
        watch.see(),
        streams or events.Streams(1),
        pause=script.pause,
        clock=script.clock,
    )

    async def collect() -> list[bytes]:
        return [piece async for piece in body]

    found = asyncio.run(collect())
    assert script.steps == []
    return found


# What it says.


class Slow(FakeEngine):
    """Says after each node how all stand."""

    def run(self, request: JobRequest, progress: Callable[[Progress], None]) -> Outcome:
        one, two, three = (member.asset for member in request.cohort)
        progress(Progress(1, 1, 3, "moments", {one: "answered", two: "lost", three: "waiting"}))
        self.during(request.id)
        return super().run(request, progress)


def test_a_stream_says_each_change_and_nothing_twice(market: Market):
    job, (first, *others) = market.submit(), market.providers

    def grant(*parties: Party) -> None:
        for party in parties:
            market.must(market.post("/grants", party, market.grant_statement(party, job)))

    script = Script(
        None,
        lambda: grant(first),
        None,
        lambda: grant(*others),
        None,
        market.work,
    )
    sent = [views(piece.decode())[0] for piece in followed(market, job, script)]
    assert [view["state"] for view in sent] == ["requested", "requested", "granted", "released"]
    assert [party["state"] for party in sent[1]["parties"]] == ["granted", "waiting", "waiting"]
    assert sent[-1] == market.must(market.get(f"/jobs/{job}", market.researcher), 200)


def test_progress_comes_with_the_state_of_each_node(market: Market):
    job = market.submit()
    market.grant_all(job)
    seen: list[str] = []
    market.engine = Slow(market)
    market.engine.during = lambda name: seen.append(
        events.Watch(market.context, caller(market.providers[0]), name).see().text
    )
    market.work()
    progress = json.loads(seen[0])["progress"]
    assert (progress["round"], progress["done"], progress["of"]) == (1, 1, 3)
    assets = [party.asset for party in market.providers]
    assert progress["nodes"] == dict(zip(assets, ("answered", "lost", "waiting"), strict=True))


def test_a_quiet_stream_is_kept_alive(market: Market):
    job = market.submit()

    def cancel() -> None:
        market.must(market.post(f"/jobs/{job}/cancel", market.researcher, {}), 200)

    nearly, rest = events.KEEP_ALIVE_SECONDS - events.LOOK_SECONDS - 1.0, 1.0
    sent = followed(market, job, Script(nearly, rest, None, cancel))
    assert sent[1] == KEEP_ALIVE
    assert [views(piece.decode())[0]["state"] for piece in (sent[0], sent[2])] == [
        "requested",
        "cancelled",
    ]
    assert len(sent) == 3
    # The twin: before the time has come, nothing is said.
    assert followed(market, market.submit(), Script(nearly, 1e6))[1:] == [KEEP_ALIVE]


def test_an_event_is_one_block_with_an_id(market: Market):
    job = market.released_job()
    answer = market.get(f"/jobs/{job}/events", market.researcher)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    (event,) = parsed(answer.text)
    assert set(event) == {"event", "data", "id"}
    assert event["event"] == "job"
    assert json.loads(event["data"])["state"] == "released"


def test_over_http_a_stream_begins_with_now_and_ends_with_the_job(market: Market):
    job = market.submit()
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(market.get, f"/jobs/{job}/events", market.auditor)
        market.grant_all(job)
        assert market.work() == job
        told = views(stream.result().text)
    assert told[-1]["state"] == "released"
    assert all(before != after for before, after in pairwise(told))


# Coming again.


def test_whoever_reconnects_gets_the_present_state_first(market: Market):
    job = market.submit()
    watch = events.Watch(market.context, caller(market.researcher), job)
    before = watch.see()
    market.must(market.post(f"/jobs/{job}/cancel", market.researcher, {}), 200)
    path, headers = f"/v1/jobs/{job}/events", market.headers(market.researcher)
    for last in (before.id, "", "nonsense"):
        answer = market.http.get(path, headers=headers | {"Last-Event-ID": last})
        assert [view["state"] for view in views(answer.text)] == ["cancelled"]
    # Only who has seen the end is told to come no more.
    end = parsed(answer.text)[0]["id"]
    answer = market.http.get(path, headers=headers | {"Last-Event-ID": end})
    assert (answer.status_code, answer.content) == (204, b"")
    answer = market.http.get(path, headers=headers | {"Last-Event-ID": "x" * 65})
    assert answer.status_code == 422


def test_an_open_job_is_shown_again_to_who_has_seen_it(market: Market):
    """The end of a stream is no end of the job: only the latter answers 204."""
    job = market.submit()
    seen = events.Watch(market.context, caller(market.researcher), job).see()
    with ThreadPoolExecutor(1) as pool:
        headers = market.headers(market.researcher) | {"Last-Event-ID": seen.id}
        stream = pool.submit(market.http.get, f"/v1/jobs/{job}/events", headers=headers)
        until(lambda: market.app.state.streams._open[market.researcher.id] == 1)
        market.must(market.post(f"/jobs/{job}/cancel", market.researcher, {}), 200)
        assert [view["state"] for view in views(stream.result().text)][-1] == "cancelled"


# Who may.


def test_a_stream_opens_to_those_who_may_see_the_job(market: Market):
    job = market.released_job()
    for party in (market.researcher, *market.providers, market.auditor, market.operator):
        assert market.get(f"/jobs/{job}/events", party).status_code == 200
    rival = replace(market.researcher, name="rival.example")
    first, market.researcher = market.researcher, rival
    market.enrol(rival)
    market.researcher = first
    answer = market.get(f"/jobs/{job}/events", rival)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.headers["content-type"] == "application/problem+json"
    assert market.get(f"/jobs/{job}/events").status_code == 401
    assert market.app.state.streams._open.total() == 0


def test_a_stream_ends_when_its_callers_key_is_revoked(market: Market):
    job, party = market.submit(), market.researcher

    def revoke() -> None:
        market.must(market.post("/revocations", party, market.revocation(party, party.id)))

    sent = followed(market, job, Script(None, revoke))
    assert [view["state"] for view in views(sent[0].decode())] == ["requested"]
    # The revocation also ended the job; who lost its key is not told of it any more.
    assert len(sent) == 1
    watch = events.Watch(market.context, caller(party), job)
    with pytest.raises(AuthenticationError):
        watch.see()


def test_a_stream_does_not_live_for_ever(market: Market):
    job = market.submit()
    assert len(followed(market, job, Script(events.LONGEST_SECONDS))) == 2
    # The twin: one second less, and there is one look more.
    less = events.LONGEST_SECONDS - events.LOOK_SECONDS - 1.0
    assert followed(market, job, Script(less, 1.0))[1:] == [KEEP_ALIVE]


def test_a_service_that_stops_ends_its_streams(market: Market):
    job, streams = market.submit(), events.Streams(1)
    assert len(followed(market, job, Script(None, streams.close), streams)) == 1
    with pytest.raises(LimitError, match="no event stream free"):
        streams.enter(market.researcher.id)


# How many.


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline


def test_nobody_has_more_streams_than_one_may(populated_market: Market, tmp_path: Path):
    with populated_market.copy_to(tmp_path / "data", streams_per_caller=1) as market:
        ended, job = market.released_job(), market.submit()
        opened = market.app.state.streams._open
        with ThreadPoolExecutor(1) as pool:
            stream = pool.submit(market.get, f"/jobs/{job}/events", market.researcher)
            until(lambda: opened[market.researcher.id] == 1)
            answer = market.get(f"/jobs/{ended}/events", market.researcher)
            assert (answer.status_code, answer.json()["code"]) == (429, "too_many_streams")
            assert "close one" in answer.json()["detail"]
            # Others have their own.
            assert market.get(f"/jobs/{ended}/events", market.auditor).status_code == 200
            market.must(market.post(f"/jobs/{job}/cancel", market.researcher, {}), 200)
            assert stream.result().status_code == 200
        assert market.get(f"/jobs/{ended}/events", market.researcher).status_code == 200
        assert opened == {}


def test_all_together_have_a_limit_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(events, "MOST_STREAMS", 2)
    streams = events.Streams(5)
    streams.enter("one")
    streams.enter("two")
    with pytest.raises(LimitError, match="no event stream free") as raised:
        streams.enter("three")
    assert raised.value.code == "too_many_streams"
    streams.leave("one")
    streams.enter("three")
    # Who had two and closed one has one, and the other still counts.
    streams.leave("two")
    streams.enter("three")
    streams.leave("three")
    assert streams._open == {"three": 1}


# What it costs.


class Counting(Context):
    """A context that counts the reading sessions that are open."""

    sessions = 0

    @contextmanager
    def reading(self) -> Iterator[Session]:
        Counting.sessions += 1
        try:
            with super().reading() as session:
                yield session
        finally:
            Counting.sessions -= 1


def test_no_session_is_held_between_looks(market: Market):
    job = market.submit()
    fields = {name: getattr(market.context, name) for name in Context.__dataclass_fields__}
    watch = events.Watch(Counting(**fields), caller(market.researcher), job)
    held: list[int] = []

    async def pause(_: float) -> None:
        held.append(Counting.sessions)
        if len(held) == 3:
            await anyio.to_thread.run_sync(market.context.log.stop)
            streams.close()

    async def collect() -> None:
        first = watch.see()
        body = events.follow(watch, first, streams, pause=pause)
        held.extend([Counting.sessions async for _ in body])

    streams = events.Streams(1)
    asyncio.run(collect())
    assert held == [0, 0, 0, 0]


def test_many_streams_need_one_thread(market: Market):
    job, many = market.submit(), 12
    watch = events.Watch(market.context, caller(market.researcher), job)

    async def read(body: AsyncIterator[bytes]) -> list[bytes]:
        return [piece async for piece in body]

    async def play() -> list[list[bytes]]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = 1
        looked = asyncio.Event()

        async def pause(_: float) -> None:
            looked.set()
            await asyncio.sleep(0)

        bodies = [
            events.follow(watch, watch.see(), events.Streams(many), pause=pause)
            for _ in range(many)
        ]
        reading = [asyncio.create_task(read(body)) for body in bodies]
        await looked.wait()
        path = f"/jobs/{job}/cancel"
        await anyio.to_thread.run_sync(lambda: market.post(path, market.researcher, {}))
        return await asyncio.gather(*reading)

    for sent in asyncio.run(play()):
        assert [views(piece.decode())[0]["state"] for piece in sent] == ["requested", "cancelled"]


@contextmanager
def listening(market: Market) -> Iterator[str]:
    """A real server on the loopback over the market's app."""
    config = uvicorn.Config(market.app, port=0, lifespan="off", ws="none", log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=60)
        assert not thread.is_alive()


def test_whoever_goes_away_frees_the_place(populated_market: Market, tmp_path: Path):
    with populated_market.copy_to(tmp_path / "data", streams_per_caller=1) as market:
        job, opened = market.submit(), market.app.state.streams._open
        headers = market.headers(market.researcher)
        with (
            listening(market) as address,
            httpx.Client(base_url=f"{address}/v1", headers=headers, timeout=60.0) as http,
        ):
            with http.stream("GET", f"/jobs/{job}/events") as answer:
                lines = answer.iter_lines()
                assert next(lines) == "event: job"
                assert json.loads(next(lines).removeprefix("data: "))["state"] == "requested"
                assert http.get(f"/jobs/{job}/events").status_code == 429
            until(lambda: opened == {})
            with http.stream("GET", f"/jobs/{job}/events") as answer:
                assert answer.status_code == 200


def test_a_server_that_stops_does_not_wait_for_its_streams(market: Market):
    job, streams = market.submit(), market.app.state.streams
    with ThreadPoolExecutor(1) as pool:
        with listening(market) as address:
            headers = market.headers(market.researcher)
            stream = pool.submit(
                httpx.get, f"{address}/v1/jobs/{job}/events", headers=headers, timeout=60.0
            )
            until(lambda: streams._open.total() == 1)
            streams.close()
        assert [view["state"] for view in views(stream.result().text)] == ["requested"]
