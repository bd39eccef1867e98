"""A server that misbehaves costs a bounded time and memory, and is called what it is."""

import datetime as dt
import re
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ledger import session as session_module
from ledger.errors import FetchError
from ledger.session import Answer, Session

HEAD = b"HTTP/1.1 200 OK\r\n"
Act = Callable[[socket.socket], None]


@contextmanager
def serving(*answers: Act, raw: bool = False) -> Iterator[tuple[str, list[bytes]]]:
    """Serve one connection for each answer, at a port of this machine; `raw` reads no request."""
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
                    if not raw:
                        asked.append(request_of(connection))
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


def request_of(connection: socket.socket) -> bytes:
    """Read a whole request: what is left unread would reset the connection, and the answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, rest = data.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    while length and len(rest) < int(length[1]):
        rest += connection.recv(65536)
    return head + b"\r\n\r\n" + rest


def says(*parts: bytes) -> Act:
    return lambda connection: connection.sendall(b"".join(parts))


def drips(first: bytes, drop: bytes) -> Act:
    """Send a little again and again, each time before a time-out of the socket would end it."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(first)
        for _ in range(200):
            time.sleep(0.02)
            connection.sendall(drop)

    return answer


def slowly(data: bytes) -> Act:
    """Send a whole answer, byte by byte."""

    def answer(connection: socket.socket) -> None:
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(0.002)

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
        pytest.param(
            drips(HEAD + b"Content-Length: 500\r\n\r\n", b"x"), "at most 10", id="drips too much"
        ),
    ],
)
def test_a_misbehaving_server_is_refused_in_time(answer: Act, told: str):
    started = time.monotonic()
    with serving(answer) as (address, _), Session(address, patience=0.3) as session:
        with pytest.raises(FetchError, match=told):
            session.get("/v1/log/checkpoint", limit=10)
        assert time.monotonic() - started < 3


DRIPPING = {
    "the status line": drips(b"", b"H"),
    "the head": drips(HEAD, b"X: y\r\n"),
    "one line of the head": drips(HEAD + b"X: ", b"y"),
    "one head after another": drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a body of a length": drips(HEAD + b"Content-Length: 500\r\n\r\n", b"x"),
    "a body without end": drips(HEAD + b"Connection: close\r\n\r\n", b"x"),
    "chunks": drips(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "the length of a chunk": drips(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "what follows the chunks": drips(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"
    ),
}


@pytest.mark.parametrize("what", DRIPPING)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_whatever_drips_ends_at_the_deadline(what: str, method: str):
    """A reader with a limit for each read alone took years over an answer's head."""
    with serving(DRIPPING[what]) as (address, _), Session(address, patience=0.3) as session:
        started = time.monotonic()
        with pytest.raises(FetchError, match=r"no whole answer within 0\.3 s"):
            session.get("/", 900) if method == "GET" else session.post("/", b"body", 900)
        assert 0.2 < time.monotonic() - started < 2


def test_the_twin_a_slow_and_honest_server_answers():
    whole = HEAD + b"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
    with serving(slowly(whole)) as (address, _), Session(address, patience=30) as session:
        assert session.post("/", b"body", limit=5) == Answer(200, "text/plain", b"hello")


def test_a_handshake_that_drips_ends_at_the_deadline():
    # The head of a TLS record that announces more than will ever come.
    answer = drips(b"\x16\x03\x03\x40\x00", b"x")
    with serving(answer, raw=True) as (address, _):
        session = Session(address.replace("http:", "https:"), patience=0.3)
        started = time.monotonic()
        with pytest.raises(FetchError, match="no whole answer"):
            session.get("/", limit=9)
        assert time.monotonic() - started < 2


def test_a_server_that_does_not_read_ends_at_the_deadline():
    done = threading.Event()
    with serving(lambda _: [done.wait(10), None][1], raw=True) as (address, _):
        with Session(address, patience=0.3) as session:
            started = time.monotonic()
            with pytest.raises(FetchError, match="no whole answer"):
                session.post("/", bytes(1 << 26), limit=9)
            assert time.monotonic() - started < 2
        done.set()


def test_addresses_of_one_host_share_the_deadline(monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()
    with serving(says(body(b"hello"))) as (address, _), Session(address) as session:
        here = ("127.0.0.1", int(address.rpartition(":")[2]))
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", at) for at in (nobody, here)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_named: found)
        assert session.get("/", limit=9) == b"hello"
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_named: [])
        with pytest.raises(FetchError, match="did not answer"):
            Session(address).get("/", limit=9)
    now = iter([0.0, 1.0, 9.0])
    waits: list[float] = []

    def silent(raw: socket.socket, _address: object, timeout: float) -> socket.socket:
        raw.close()
        waits.append(timeout)
        raise TimeoutError

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_named: found)
    monkeypatch.setattr(session_module, "_connected", silent)
    with pytest.raises(FetchError, match="no whole answer within 9 s"):
        Session(address, patience=9, clock=lambda: next(now)).get("/", limit=9)
    assert waits == [4.0]


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 409, 500])
def test_a_post_takes_every_status_as_an_answer_and_follows_no_redirect(status: int):
    answer = says(
        b"HTTP/1.1 %d No\r\nLocation: http://127.0.0.1:1/\r\n" % status,
        b"Content-Type: Text/X.Size; charset=utf-8\r\nContent-Length: 2\r\n\r\n3\n",
    )
    with serving(answer) as (address, asked), Session(f"{address}/witness") as session:
        assert session.post("/add", b"body", limit=9) == Answer(status, "text/x.size", b"3\n")
    (request,) = asked
    assert request.startswith(b"POST /witness/add HTTP/1.1\r\n")
    assert b"Content-Length: 4\r\n" in request


@pytest.mark.parametrize("status", [200, 409])
def test_what_a_post_is_told_is_limited(status: int):
    answer = says(b"HTTP/1.1 %d No\r\nContent-Length: 6\r\n\r\n123456" % status)
    long = pytest.raises(FetchError, match="at most 5")
    with serving(answer) as (address, _), Session(address) as session, long:
        session.post("/", b"", limit=5)


def test_no_error_repeats_what_the_server_said():
    for words in (b"HTTP/9.9 999 <evil>\r\n\r\n", b"<evil>\r\n\r\n", HEAD + b"<evil>" * 20_000):
        with serving(says(words)) as (address, _), Session(address) as session:
            with pytest.raises(FetchError) as caught:
                session.get("/", limit=9)
            assert "evil" not in "".join(traceback.format_exception(caught.value))


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with serving(says(body(b"direct"))) as (address, _), Session(address) as session:
        assert session.get("/", limit=9) == b"direct"


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
    with serving(says(b"not tls"), raw=True) as (address, _):
        session = Session(address.replace("http:", "https:"), patience=2)
        with pytest.raises(FetchError, match="did not answer"):
            session.get("/", limit=1)
    assert ssl.create_default_context().check_hostname


def certificate(folder: Path, host: str) -> Path:
    """Write a certificate that vouches for a host, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), False)  # noqa: FBT003
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{host}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def over_tls(path: Path, act: Act) -> Act:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            request_of(secure)
            act(secure)

    return answer


def test_over_tls_a_known_certificate_answers_under_the_same_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    answers = [over_tls(path, says(body(b"hello"))), over_tls(path, drips(HEAD + b"X: ", b"y"))]
    with serving(*answers, raw=True) as (address, _):
        secure = address.replace("http:", "https:")
        with Session(secure) as session:
            assert session.post("/", b"body", limit=5).body == b"hello"
        started = time.monotonic()
        late = pytest.raises(FetchError, match="no whole answer")
        with Session(secure, patience=0.5) as session, late:
            session.get("/", limit=5)
        assert time.monotonic() - started < 2


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_the_twins_a_certificate_nobody_knows_and_one_of_another_host(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = certificate(tmp_path, host)
    if host == "127.0.0.2":
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with serving(over_tls(path, says(body(b"hello"))), raw=True) as (address, _):
        session = Session(address.replace("http:", "https:"), patience=9)
        with pytest.raises(FetchError, match="certificate verify failed"):
            session.post("/", b"body", limit=5)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://market.example", "use https"),
        ("http://10.0.0.1", "use https"),
        ("ftp://localhost", "no address"),
        ("https://", "no address"),
        ("https://host:99999", "no address"),
        ("https://host:0", "no address"),
        ("", "no address"),
        ("host", "no address"),
        ("http:///x", "no address"),
        ("http://[::1", "no address"),
        ("file:///etc/hosts", "no address"),
        ("data:,x", "no address"),
        ("https://host/#f", "holds a user"),
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


def test_plain_http_leaves_this_machine_only_where_nothing_is_hidden():
    assert Session("http://host", insecure_http=True).address == "http://host"
    with pytest.raises(FetchError, match="use https"):
        Session("http://host", insecure_http=True, token="secret")


@pytest.mark.parametrize("address", ["http://localhost:1", "http://[::1]:1", "https://host"])
def test_addresses_that_may_be_asked(address: str):
    assert Session(address).address == address


def test_a_token_is_one_line():
    with pytest.raises(FetchError, match="API key") as caught:
        Session("https://host", token="a\nb")
    assert "a\nb" not in str(caught.value)
