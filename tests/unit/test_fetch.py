"""The fetching rim: limits, deadlines, no redirects, no proxies, and plain errors."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from ledger.errors import FetchError
from ledger.fetch import Answer, check_url, get, post

Act = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(act: Act) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            act(self)

        def do_POST(self) -> None:
            self.body = self.rfile.read(int(self.headers["Content-Length"]))
            act(self)

        def log_message(self, *_args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def send(status: int, body: bytes, length: int | None = None, **headers: str) -> Act:
    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return act


def test_an_answer_has_status_kind_and_body():
    with serving(send(200, b"hello", Content_Type="Text/X.Size; charset=utf-8")) as url:
        assert get(url, limit=5, timeout=10) == Answer(200, "text/x.size", b"hello")
    with serving(lambda handler: send(200, handler.body)(handler)) as url:  # type: ignore[attr-defined]
        assert post(url, b"body", limit=4, timeout=10) == Answer(200, "", b"body")


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 409, 500])
def test_every_status_is_an_answer_and_no_redirect_is_followed(status: int):
    with serving(send(status, b"3\n", Location="http://127.0.0.1:1/")) as url:
        assert post(url, b"", limit=9, timeout=10).status == status


@pytest.mark.parametrize("status", [200, 409])
def test_an_answer_longer_than_the_limit_is_refused(status: int):
    with serving(send(status, b"123456")) as url, pytest.raises(FetchError, match="more than 5"):
        get(url, limit=5, timeout=10)


def test_an_answer_that_ends_early_is_refused():
    with serving(send(200, b"123", length=9)) as url, pytest.raises(FetchError):
        get(url, limit=99, timeout=10)


def test_an_answer_that_drips_is_refused_in_time():
    done = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not done.wait(0.01):
            try:
                handler.wfile.write(b"x")
            except OSError:
                return

    with serving(drip) as url:
        with pytest.raises(FetchError, match="in time"):
            get(url, limit=10_000, timeout=0.1)
        done.set()


def test_a_silent_server_is_left():
    done = threading.Event()

    def wait(_handler: BaseHTTPRequestHandler) -> None:
        done.wait(10)

    with serving(wait) as url:
        with pytest.raises(FetchError):
            get(url, limit=9, timeout=0.05)
        done.set()


def test_nobody_there_is_told_in_a_line():
    with pytest.raises(FetchError, match=r"127\.0\.0\.1:1/.*refused"):
        get("http://127.0.0.1:1/", limit=9, timeout=10)


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with serving(send(200, b"direct")) as url:
        assert get(url, limit=9, timeout=10).body == b"direct"


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://a/", "file:///etc/passwd", "http://", "http:///x", "http://a:99999/",
     "http://a/?q", "http://a/#f", "http://[::1", "data:,x"],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(FetchError, match="address"):
        check_url(url)
    with pytest.raises((FetchError, ValueError)):
        get(url, limit=9, timeout=10)
