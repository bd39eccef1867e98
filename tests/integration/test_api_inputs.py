"""Handing in what a job computes on: how much, by whom, for how long, and who gets it back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import anyio
import httpx
import pytest
from sqlmodel import select

from federated.errors import InputError
from federated.node.service import HttpService
from federated.scoring_limits import MOST_INPUT_BYTES
from ledger.encoding import sha256_text
from marketplace.jobs import inputs
from marketplace.jobs.tables import Input, Job, JobInput
from tests.market import Market, Party


def hand_in(market: Market, content: bytes, caller: Party | None = None) -> httpx.Response:
    headers = market.headers(caller or market.researcher)
    headers |= {"content-type": "application/octet-stream"}
    return market.http.post("/v1/inputs", headers=headers, content=content)


def kept(market: Market) -> set[str]:
    with market.context.reading() as session:
        return set(session.exec(select(Input.digest)).all())


def name_by_job(market: Market, job: str, *digests: str) -> None:
    """Let a job name inputs, as submitting a scoring job does."""
    with market.context.writing() as session:
        inputs.claim(session, session.get_one(Job, job), digests)


def test_bytes_are_kept_under_their_digest(market: Market):
    answer = hand_in(market, b"columns")
    assert answer.status_code == 201
    assert answer.json() == {"digest": sha256_text(b"columns"), "size": 7}
    assert hand_in(market, b"columns").json() == answer.json()
    assert kept(market) == {sha256_text(b"columns")}


@pytest.mark.parametrize(
    ("content", "media_type"),
    [(b"", "application/octet-stream"), (b"columns", "application/json"), (b"columns", "")],
)
def test_nothing_and_what_is_no_bytes_is_refused(market: Market, content: bytes, media_type: str):
    headers = market.headers(market.researcher) | {"content-type": media_type}
    answer = market.http.post("/v1/inputs", headers=headers, content=content)
    assert answer.status_code == 422
    assert kept(market) == set()


def test_who_may_not_is_refused_before_a_byte_is_read(market: Market):
    read = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            read.append(1)
            yield bytes(1 << 20)

    status = streamed(market, endless(), market.headers(market.providers[0]))
    assert (status, read) == (403, [])


def test_a_gigabyte_is_refused_while_it_is_read(market: Market):
    chunk, read = bytes(1 << 20), []

    async def gigabyte() -> AsyncIterator[bytes]:
        for _ in range(1024):
            read.append(len(chunk))
            yield chunk

    assert streamed(market, gigabyte(), market.headers(market.researcher)) == 413
    assert sum(read) <= MOST_INPUT_BYTES + 2 * len(chunk)
    assert kept(market) == set()


def test_a_gigabyte_that_is_announced_is_not_read(market: Market):
    headers = market.headers(market.researcher) | {
        "content-type": "application/octet-stream",
        "content-length": str(1 << 30),
    }
    answer = market.http.post("/v1/inputs", headers=headers, content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    # The twin: any other path has the smaller limit, and this one takes more than that.
    more = bytes(market.settings.max_body_bytes + 1)
    assert hand_in(market, more).status_code == 201
    elsewhere = market.http.post("/v1/assets", headers=headers | {"content-length": str(len(more))})
    assert elsewhere.status_code == 413


def streamed(market: Market, chunks: AsyncIterator[bytes], headers: dict[str, str]) -> int:
    """Send a body chunk by chunk, without a length, straight to the application; its status."""
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        try:
            return {"type": "http.request", "body": await anext(chunks), "more_body": True}
        except StopAsyncIteration:
            return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/inputs",
        "raw_path": b"/v1/inputs",
        "query_string": b"",
        "root_path": "",
        "headers": [
            (name.lower().encode(), value.encode())
            for name, value in (headers | {"content-type": "application/octet-stream"}).items()
        ],
        "server": ("test", 80),
        "client": ("test", 1),
        "app": market.app,
        "state": {},
    }
    anyio.run(market.app, scope, receive, send)
    return statuses[0]


def test_a_researcher_has_so_many_and_so_much(market: Market, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inputs, "MOST", 2)
    monkeypatch.setattr(inputs, "MOST_BYTES", 10)
    assert hand_in(market, b"12345").status_code == 201
    assert hand_in(market, b"123456").json()["code"] == "too_many_inputs"
    assert hand_in(market, b"54321").status_code == 201
    assert hand_in(market, b"1").status_code == 429
    # What is there already takes no more room.
    assert hand_in(market, b"12345").status_code == 201


def test_a_researcher_sends_so_many_at_a_time(market: Market):
    uploads = market.app.state.uploads
    with uploads.place(market.researcher.id):
        assert hand_in(market, b"second").status_code == 201
        with uploads.place(market.researcher.id):
            assert hand_in(market, b"third").json()["code"] == "too_many_inputs"
    assert hand_in(market, b"third").status_code == 201
    with ExitStack() as others:
        for at in range(inputs.MOST_UPLOADS):
            others.enter_context(uploads.place(f"participant:{at}"))
        assert hand_in(market, b"fourth").status_code == 429
    assert hand_in(market, b"fourth").status_code == 201


def test_a_job_that_names_what_was_not_handed_in_is_refused(market: Market):
    job = market.submit()
    with pytest.raises(inputs.InvalidError) as caught:
        name_by_job(market, job, sha256_text(b"columns"))
    assert caught.value.code == "no_input"
    hand_in(market, b"columns")
    name_by_job(market, job, sha256_text(b"columns"))


@pytest.fixture(name="named")
def _named(market: Market) -> tuple[Market, str]:
    hand_in(market, b"columns")
    job = market.submit()
    name_by_job(market, job, sha256_text(b"columns"))
    return market, job


def test_the_parties_of_a_job_get_what_it_names_and_nobody_else(named: tuple[Market, str]):
    market, job = named
    path = f"/jobs/{job}/inputs/{sha256_text(b'columns')}"
    answer = market.get(path, market.providers[0])
    assert (answer.status_code, answer.content) == (200, b"columns")
    assert market.get(path, market.researcher).status_code == 403
    assert market.get(path).status_code == 401
    hand_in(market, b"other")
    other = f"/jobs/{job}/inputs/{sha256_text(b'other')}"
    assert market.get(other, market.providers[0]).status_code == 404
    assert market.get(f"/jobs/{job}/inputs/columns", market.providers[0]).status_code == 422


def test_a_provider_that_is_no_party_gets_nothing(market: Market):
    hand_in(market, b"columns")
    job = "job:" + 64 * "1"
    with market.context.writing() as session:
        row = {"name": "n", "task": "scoring", "purpose": "p", "state": "requested", "created": 1}
        session.add(Job(id=job, researcher_id=market.researcher.id, **row))
        session.flush()
    name_by_job(market, job, sha256_text(b"columns"))
    path = f"/jobs/{job}/inputs/{sha256_text(b'columns')}"
    assert market.get(path, market.providers[2]).status_code == 404


def test_an_ended_job_leaves_nothing(named: tuple[Market, str]):
    market, job = named
    market.must(market.post(f"/jobs/{job}/cancel", market.researcher, {}), 200)
    assert kept(market) == set()
    with market.context.reading() as session:
        assert session.exec(select(JobInput)).all() == []
    path = f"/jobs/{job}/inputs/{sha256_text(b'columns')}"
    assert market.get(path, market.providers[0]).status_code == 404


def test_what_another_job_names_or_was_handed_in_since_stays(named: tuple[Market, str]):
    market, job = named
    hand_in(market, b"key")
    name_by_job(market, job, sha256_text(b"key"))
    second = market.submit(nonce="second")
    name_by_job(market, second, sha256_text(b"columns"))
    market.clock.advance(1000)
    hand_in(market, b"key")
    market.must(market.post(f"/jobs/{job}/cancel", market.researcher, {}), 200)
    assert kept(market) == {sha256_text(b"columns"), sha256_text(b"key")}
    market.must(market.post(f"/jobs/{second}/cancel", market.researcher, {}), 200)
    assert kept(market) == {sha256_text(b"key")}


def test_what_no_job_names_goes_after_a_day(named: tuple[Market, str]):
    market, _ = named
    leftovers = inputs.Leftovers(market.context)
    hand_in(market, b"forgotten")
    market.clock.advance(inputs.KEPT_MS)
    assert leftovers.run_once() is None
    market.clock.advance(1)
    assert leftovers.run_once() == sha256_text(b"forgotten")
    assert leftovers.run_once() is None
    assert kept(market) == {sha256_text(b"columns")}


# --- the node's end


class Answering(httpx.BaseTransport):
    """A marketplace that sends so many bytes, chunk by chunk."""

    def __init__(self, status: int, chunks: int) -> None:
        self._status, self._chunks = status, chunks
        self.sent = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        del request

        def body() -> Iterator[bytes]:
            for _ in range(self._chunks):
                self.sent += 1 << 20
                yield bytes(1 << 20)

        return httpx.Response(self._status, content=body())


@pytest.mark.parametrize(("status", "chunks"), [(404, 1), (500, 1), (200, 1024)])
def test_a_node_that_gets_no_input_says_so_and_reads_no_gigabyte(status: int, chunks: int):
    market = Answering(status, chunks)
    http = httpx.Client(transport=market, base_url="http://market")
    with http, pytest.raises(InputError) as caught:
        HttpService(http).fetch("job:1", "sha256:0")
    assert caught.value.reason == "no_input"
    assert market.sent <= MOST_INPUT_BYTES + (1 << 20)


def test_a_node_gets_what_was_handed_in(named: tuple[Market, str]):
    market, job = named
    market.http.headers.update(market.headers(market.providers[0]))
    fetched = HttpService(market.http).fetch(job, sha256_text(b"columns"))
    assert fetched == b"columns"
