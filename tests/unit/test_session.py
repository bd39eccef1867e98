"""A server that misbehaves costs a bounded time and memory, and is called what it is."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ledger.errors import FetchError
from ledger.session import Session

HEAD = b"HTTP/1.1 200 OK\r\n"
Answer = Callable[[socket.socket], None]


@contextmanager
def serving(*answers: Answer, wrap: bool = False) -> Iterator[tuple[str, list[bytes]]]:
    """Serve one connection for each answer, at a port of this machine."""
    asked: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        for answer in answers:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                try:
                    if not wrap:
                        asked.append(connection.recv(65536))
                    answer(connection)
                except OSError:
                    continue

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
    finally:
        listening.close()
        thread.join(timeout=10)


def says(*parts: bytes) -> Answer:
    return lambda connection: connection.sendall(b"".join(parts))


def drips(first: bytes, drop: bytes) -> Answer:
    def answer(connection: socket.socket) -> None:
        connection.sendall(first)
        for _ in range(200):
            time.sleep(0.02)
            connection.sendall(drop)

    return answer


def endless(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Connection: close\r\n\r\n")
    for _ in range(10_000):
        connection.sendall(b"x" * 65536)


def body(data: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(data) + data


def test_an_answer_is_its_body_and_the_key_is_sent():
    with serving(says(body(b"hello"))) as (address, asked), Session(address, token="s3") as session:
        assert session.get("/v1/x?y=1", limit=5) == b"hello"
    (request,) = asked
    assert request.startswith(b"GET /v1/x?y=1 HTTP/1.1\r\n")
    assert b"Authorization: Bearer s3\r\n" in request


def test_chunks_and_answers_that_end_with_the_connection_are_read():
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    plain = HEAD + b"Connection: close\r\n\r\nrest"
    with serving(says(chunked), says(plain)) as (address, _):
        with Session(f"{address}/") as session:
            assert session.get("/a", limit=10) == b"abcde"
        with Session(address) as session:
            assert session.get("/a", limit=10) == b"rest"


def test_a_connection_is_kept_and_replaced_when_it_was_closed():
    def twice(connection: socket.socket) -> None:
        connection.sendall(body(b"one"))
        connection.recv(65536)
        connection.sendall(body(b"two"))

    with serving(twice, says(body(b"three"))) as (address, asked), Session(address) as session:
        assert [session.get("/", limit=9) for _ in range(3)] == [b"one", b"two", b"three"]
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(says(body(b"x" * 11)), "at most 10 belong", id="long"),
        pytest.param(endless, "longer than the 10 bytes", id="endless"),
        pytest.param(
            says(HEAD, b"Transfer-Encoding: chunked\r\n\r\n", b"a\r\n0123456789\r\n" * 2),
            "longer than the 10 bytes",
            id="endless chunks",
        ),
        pytest.param(says(HEAD, b"Content-Length: 9\r\n\r\nshort"), "5 of 9", id="short"),
        pytest.param(
            says(HEAD, b"Transfer-Encoding: chunked\r\n\r\n9\r\nab"), "did not answer", id="cut"
        ),
        pytest.param(says(b"HTTP/1.1 404 No\r\n\r\n"), "status 404", id="missing"),
        pytest.param(
            says(b"HTTP/1.1 302 No\r\nLocation: http://127.0.0.1:1/\r\n\r\n"), "302", id="redirect"
        ),
        pytest.param(says(HEAD, b"Content-Encoding: gzip\r\n\r\n"), "encoded", id="encoded"),
        pytest.param(says(b"hello\r\n\r\n"), "did not answer", id="no http"),
        pytest.param(says(b"", b""), "did not answer", id="nothing"),
        pytest.param(says(HEAD, b"X: y\r\n" * 200, b"\r\n"), "did not answer", id="headers"),
        pytest.param(drips(HEAD, b"X: y\r\n"), "no whole answer", id="headers drip"),
        pytest.param(drips(b"", b"H"), "no whole answer", id="status drips"),
        pytest.param(
            drips(HEAD + b"Content-Length: 500\r\n\r\n", b"x"), "at most 10", id="drips too much"
        ),
    ],
)
def test_a_misbehaving_server_is_refused_in_time(answer: Answer, told: str):
    started = time.monotonic()
    with serving(answer) as (address, _), Session(address, patience=0.3) as session:
        with pytest.raises(FetchError, match=told):
            session.get("/v1/log/checkpoint", limit=10)
        assert time.monotonic() - started < 3


def test_a_body_that_drips_ends_at_the_deadline():
    answer = drips(HEAD + b"Content-Length: 9\r\n\r\n", b"")
    late = pytest.raises(FetchError, match="no whole answer")
    with serving(answer) as (address, _), Session(address, patience=0.2) as session, late:
        session.get("/", limit=10)


def test_the_deadline_covers_everything_together():
    now = iter([0.0, 0.1, 0.2, 9.0, 9.0, 9.0])
    with serving(says(body(b"x"))) as (address, _):
        session = Session(address, patience=5, clock=lambda: next(now))
        with session, pytest.raises(FetchError, match="within 5 s"):
            session.get("/", limit=10)


def test_a_server_that_is_not_there():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(FetchError, match="did not answer"):
        Session(f"http://127.0.0.1:{port}").get("/", limit=1)


def test_https_needs_a_certificate_that_is_known():
    with serving(says(b"not tls"), wrap=True) as (address, _):
        session = Session(address.replace("http:", "https:"), patience=2)
        with pytest.raises(FetchError, match="did not answer"):
            session.get("/", limit=1)
    assert ssl.create_default_context().check_hostname


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://market.example", "use https"),
        ("http://10.0.0.1", "use https"),
        ("ftp://localhost", "no address"),
        ("https://", "no address"),
        ("https://host:99999", "no address"),
        ("https://user:pass@host", "holds a user"),
        ("https://host/?q", "holds a user"),
        ("https://host/蓉", "holds a user"),
        ("https://" + "h" * 1000, "no address"),
    ],
)
def test_addresses_that_are_not_asked(address: str, told: str):
    with pytest.raises(FetchError, match=told) as caught:
        Session(address, token="secret")
    assert "secret" not in str(caught.value)
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://localhost:1", "http://[::1]:1", "https://host"])
def test_addresses_that_may_be_asked(address: str):
    assert Session(address).address == address


def test_a_token_is_one_line():
    with pytest.raises(FetchError, match="API key") as caught:
        Session("https://host", token="a\nb")
    assert "a\nb" not in str(caught.value)
