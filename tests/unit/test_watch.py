"""Following a job from outside, over a service that breaks off, is silent, or has no streams."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ledger.keys import SigningKey
from marketplace.client import Client, ClientError, Home
from marketplace.watch import PATIENCE_SECONDS, WaitError, changes, data_of

JOB = "job:" + "0" * 64


def view(state: str, done: int = 0) -> dict[str, Any]:
    parties = [
        {"provider_name": "North", "grant": None},
        {"provider_name": "South", "grant": "grant:1"},
    ]
    return {"job": JOB, "state": state, "progress": {"done": done}, "parties": parties}


def event(state: str, done: int = 0) -> str:
    return f"event: job\ndata: {json.dumps(view(state, done))}\nid: 1\n\n"


class Broken(httpx.SyncByteStream):
    """A body that breaks off, or takes its time."""

    def __init__(self, *pieces: str | Exception | Callable[[], None]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, str):
                yield piece.encode()
            else:
                piece()


class Service:
    """A service that answers streams and looks as it is told, and a clock beside it."""

    def __init__(self, streams: list[Any], looks: list[Any]) -> None:
        self.streams, self.looks = streams, looks
        self.asked: list[str] = []
        self.timeouts: list[float] = []
        self.now = 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        stream = request.url.path.endswith("/events")
        self.asked.append("stream" if stream else "look")
        if stream:
            self.timeouts.append(request.extensions["timeout"]["read"])
            found = self.streams.pop(0)
            if isinstance(found, httpx.Response):
                return found
            headers = {"content-type": "text/event-stream; charset=utf-8"}
            return httpx.Response(200, headers=headers, stream=Broken(*found))
        found = self.looks.pop(0)
        return found if isinstance(found, httpx.Response) else httpx.Response(200, json=found)

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def follow(self, folder: Path, timeout: float = 600.0) -> list[tuple[str, int]]:
        home = Home.create(
            folder / "home", "Lab", "http://service", SigningKey.generate("log").verify_key
        )
        http = httpx.Client(transport=httpx.MockTransport(self), base_url="http://service")
        found = changes(
            Client(home, http), JOB, timeout, clock=lambda: self.now, pause=self.advance
        )
        return [(each["state"], each["progress"]["done"]) for each in found]


def problem(status: int) -> httpx.Response:
    return httpx.Response(status, json={"title": "", "detail": "no", "code": "x"})


def test_a_stream_alone_is_enough(tmp_path: Path):
    events = (event("granted"), ": ping\n\n", event("running", 1) + event("released", 2))
    service = Service([events], [])
    assert service.follow(tmp_path) == [("granted", 0), ("running", 1), ("released", 2)]
    assert service.asked == ["stream"]
    assert service.timeouts == [PATIENCE_SECONDS]


@pytest.mark.parametrize(
    "broken",
    [
        (event("running"), httpx.ReadError("gone")),
        (event("running"), httpx.ReadTimeout("silent")),
        (event("running"),),
        # An event that is cut is none.
        (event("running"), event("released", 9)[:-1]),
    ],
)
def test_a_stream_that_breaks_off_is_opened_again(tmp_path: Path, broken: tuple[Any, ...]):
    service = Service([broken, (event("running"), event("released", 2))], [view("running")])
    assert service.follow(tmp_path) == [("running", 0), ("released", 2)]
    assert service.asked == ["stream", "look", "stream"]


@pytest.mark.parametrize(
    "answer",
    [
        problem(404),
        problem(429),
        httpx.Response(200, json=view("running")),
        ("event: job\ndata: {\n\n",),
        ("event: job\ndata: 7\n\n",),
    ],
)
def test_where_there_is_no_stream_one_looks_now_and_then(tmp_path: Path, answer: Any):
    looks = [view("running"), view("running"), view("running", 1), view("failed")]
    service = Service([answer], looks)
    assert service.follow(tmp_path) == [("running", 0), ("running", 1), ("failed", 0)]
    assert service.asked == ["stream", *["look"] * 4]


def test_a_job_that_is_not_there_is_no_matter_of_streams(tmp_path: Path):
    service = Service([problem(404)], [problem(404)])
    with pytest.raises(ClientError, match="no"):
        service.follow(tmp_path)


def test_a_job_that_does_not_end_in_time_names_who_has_not_answered(tmp_path: Path):
    service = Service([problem(429)], [view("requested")] * 5)
    with pytest.raises(WaitError, match="still requested; no answer yet from North"):
        service.follow(tmp_path, timeout=2.0)
    assert service.now == 2.0
    # The twin: the same job ends at the last look.
    service = Service([problem(429)], [view("requested")] * 4 + [view("released")])
    folder = tmp_path / "twin"
    folder.mkdir()
    assert service.follow(folder, timeout=2.0)[-1] == ("released", 0)


def test_signs_of_life_do_not_outlive_the_time(tmp_path: Path):
    """A comment every 15 seconds would keep a stream of a quiet job open for ever."""
    service = Service([], [view("running"), view("running")])
    silent = httpx.ReadTimeout("silent")

    def until_over() -> None:
        service.now = 20.0
        raise silent

    first = (event("running"), lambda: service.advance(15.0), ": ping\n\n", event("running", 9))
    service.streams = [first, (event("running"), until_over)]
    with pytest.raises(WaitError, match="still running"):
        service.follow(tmp_path, timeout=20.0)
    # The second stream is waited for as long as there is time, and no longer.
    assert service.timeouts == [20.0, 4.5]


def test_events_that_go_on_do_not_outlive_the_time(tmp_path: Path):
    service = Service([], [])
    service.streams = [(event("running"), lambda: service.advance(21.0), event("running", 1))]
    with pytest.raises(WaitError):
        service.follow(tmp_path, timeout=20.0)
    assert service.asked == ["stream"]


def test_only_events_called_job_count_and_all_their_lines():
    lines = [
        *("retry: 5", "event: other", "data: 1", "", "data: nameless", ""),
        *(": comment", "event: job", "data: a", "data:b", "id: 7", "", "event: job", ""),
        *("event: job", "data: cut"),
    ]
    assert list(data_of(lines)) == [None, "a\nb"]
