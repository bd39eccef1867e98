"""`rongshu audit witness`: steps, files, and the protocol over a real socket."""

import http.client
import io
import json
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger.audit import build_parser, command
from ledger.audit.witness import EXAMPLES
from ledger.audit.witness_server import WitnessServer
from ledger.checkpoint import Checkpoint, sign
from ledger.cosignature import attach, verify_cosignature
from ledger.keys import CosignatureKey, SigningKey
from ledger.merkle import Tree, leaf_hash
from ledger.note import split_unverified
from ledger.tiles import layout, tile_bytes
from ledger.witness import MAX_REQUEST, Request, Witness

ROOT = Path(__file__).resolve().parents[2]
LOG = SigningKey.from_seed("log.example", bytes(32))
TREE = Tree.from_leaf_hashes(leaf_hash(b"%d" % at) for at in range(700))
FORK = Tree.from_leaf_hashes(leaf_hash(b"%d'" % at) for at in range(700))
NAME = "witness.example/north"

Captured = pytest.CaptureFixture[str]


def signed(size: int, tree: Tree = TREE) -> bytes:
    return sign(Checkpoint(LOG.name, size, tree.root(size)), LOG)


def request(old: int, size: int, tree: Tree = TREE) -> bytes:
    proof = tree.consistency(old, size) if 0 < old < size else ()
    return Request(old, proof, signed(size, tree)).to_bytes()


def export(folder: Path, size: int) -> Path:
    """The files of an export that a request is made from."""
    folder.mkdir()
    (folder / "checkpoint").write_bytes(signed(size))
    for tile in layout(size):
        if tile.level == 0:
            path = folder / tile.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tile_bytes(TREE, tile, lambda _start, _stop: []))
    return folder


def run(*words: object) -> int:
    return command(["witness", *(str(word) for word in words)])


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, capsys: Captured) -> Path:
    folder = tmp_path / "witness"
    assert run("init", folder, "--name", NAME, "--log", LOG.verify_key.text) == 0
    capsys.readouterr()
    return folder


# --- steps


def test_init_makes_keys_and_prints_them(tmp_path: Path, capsys: Captured):
    (tmp_path / "log.vkey").write_text(LOG.verify_key.text + "\n")
    words = (
        "init",
        tmp_path / "w",
        "--name",
        NAME,
        "--ml-dsa",
        "--log",
        f"@{tmp_path / 'log.vkey'}",
    )
    assert run(*words, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    keys = [CosignatureKey.from_text(text) for text in shown["keys"]]
    assert [(key.name, key.algorithm) for key in keys] == [(NAME, b"\x04"), (NAME, b"\x06")]
    log = {"keys": [LOG.verify_key.text], "size": 0, "time": 0}
    assert shown["logs"] == {"log.example": log}
    secrets = [path.read_text().strip() for path in (tmp_path / "w").glob("*.key")]
    assert len(secrets) == 2
    assert not any(secret.split("+", 4)[4] in json.dumps(shown) for secret in secrets)
    assert run(*words) == 64
    assert "holds a witness already" in capsys.readouterr().err


def test_show_tells_a_person_the_same(folder: Path, capsys: Captured):
    assert run("show", folder) == 0
    out = capsys.readouterr().out
    assert f"key:  {NAME}+" in out
    assert "SHA256:" in out
    assert "log:  log.example, cosigned up to 0 entries" in out


def test_a_witness_without_a_log_says_how_to_add_one(tmp_path: Path, capsys: Captured):
    assert run("init", tmp_path / "w", "--name", NAME) == 0
    assert "rongshu audit witness trust" in capsys.readouterr().out
    assert run("trust", tmp_path / "w", "--log", LOG.verify_key.text) == 0
    assert "log.example" in capsys.readouterr().out


def test_requests_and_answers_travel_as_files(folder: Path, tmp_path: Path, capsys: Captured):
    key = Witness(folder, lambda: 0).keys[0]
    for old, size in ((0, 5), (5, 300), (300, 700)):
        exported = export(tmp_path / str(size), size)
        assert run("request", exported, "--old", old, "--out", tmp_path / "request") == 0
        assert (tmp_path / "request").read_bytes() == request(old, size)
        assert run("cosign", folder, tmp_path / "request", "--out", tmp_path / "cosignature") == 0
        whole = attach(signed(size), [(tmp_path / "cosignature").read_bytes()])
        text, lines = split_unverified(whole)
        assert verify_cosignature(text, lines[1], key) > 1_700_000_000
    assert capsys.readouterr().out == ""


def test_a_refusal_names_the_reason_and_the_size(
    folder: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "request").write_bytes(request(0, 9))
    assert run("cosign", folder, tmp_path / "request") == 0
    assert capsys.readouterr().out.startswith(f"— {NAME} ")
    assert run("cosign", folder, tmp_path / "request") == 1
    assert "cosigned last: 9" in capsys.readouterr().err
    assert run("cosign", folder, tmp_path / "request", "--json") == 1
    refusal = {"status": 409, "size": 9, "message": "cosigned last: 9"}
    assert json.loads(capsys.readouterr().out) == refusal
    stream = io.TextIOWrapper(io.BytesIO(request(9, 12, FORK)))
    monkeypatch.setattr(sys, "stdin", stream)
    assert run("cosign", folder, "-") == 1
    assert "consistency proof" in capsys.readouterr().err


def test_wrong_usage_ends_with_64_and_changes_nothing(
    folder: Path, tmp_path: Path, capsys: Captured
):
    exported = export(tmp_path / "export", 300)
    (tmp_path / "long").write_bytes(b"x" * (MAX_REQUEST + 1))
    for words in (
        ("init", tmp_path / "new", "--name", "a b"),
        ("init", tmp_path / "new", "--name", NAME, "--log", "nonsense"),
        ("trust", folder, "--log", f"@{tmp_path / 'missing'}"),
        ("trust", folder),
        ("cosign", folder, tmp_path / "missing"),
        ("cosign", folder, tmp_path / "long"),
        ("request", exported, "--old", "301"),
        ("request", exported, "--old", "-1"),
        ("request", tmp_path / "missing"),
        ("serve", folder, "--listen", "8449"),
        ("serve", folder, "--listen", "127.0.0.1:70000"),
        ("show",),
        (),
    ):
        assert run(*words) == 64, words
        assert capsys.readouterr().err
    assert not (tmp_path / "new" / "cosigner.key").exists()
    (exported / "tile/0/000").write_bytes(b"short")
    assert run("request", exported) == 64
    assert "does not hold 256 hashes" in capsys.readouterr().err


def test_a_folder_without_a_witness_is_refused(tmp_path: Path, capsys: Captured):
    assert run("show", tmp_path) == 1
    assert "holds no witness" in capsys.readouterr().err


def test_the_examples_are_valid():
    lines = [line.strip() for line in EXAMPLES.splitlines() if line.startswith("  ")]
    assert len(lines) == 4
    for line in lines:
        build_parser().parse_args(shlex.split(line)[2:])


# --- over HTTP


@contextmanager
def serving(folder: Path, **options: float) -> Iterator[tuple[str, int]]:
    told: list[str] = []
    witness = Witness(folder, lambda: 1_767_225_600)
    with WitnessServer(("127.0.0.1", 0), witness, told.append, **options) as server:  # type: ignore[arg-type]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield "127.0.0.1", server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


Answer = tuple[int, str, bytes]


def ask(
    connection: http.client.HTTPConnection, body: bytes, path: str = "/add-checkpoint"
) -> Answer:
    connection.request("POST", path, body)
    answer = connection.getresponse()
    return answer.status, answer.headers["Content-Type"], answer.read()


@pytest.fixture(name="connection")
def _connection(folder: Path) -> Iterator[http.client.HTTPConnection]:
    with serving(folder) as (host, port):
        connection = http.client.HTTPConnection(host, port, timeout=10)
        yield connection
        connection.close()


def test_the_statuses_of_the_protocol(connection: http.client.HTTPConnection):
    status, _, lines = ask(connection, request(0, 8))
    assert status == 200
    assert lines.startswith(f"— {NAME} ".encode())
    assert lines.endswith(b"\n")
    # One connection is kept for all of them.
    assert ask(connection, request(0, 13)) == (409, "text/x.tlog.size", b"8\n")
    assert ask(connection, request(8, 8, FORK)) == (409, "text/x.tlog.size", b"8\n")
    assert ask(connection, request(8, 13, FORK))[0] == 422
    assert ask(connection, b"nonsense")[0] == 400
    assert (
        ask(connection, request(8, 13).replace(b"log.example\n13", b"alog.example\n13"))[0] == 404
    )
    assert ask(connection, request(8, 13).replace(b"\n13\n", b"\n14\n"))[0] == 403
    assert ask(connection, request(8, 13))[0] == 200


def test_other_paths_methods_and_lengths_are_refused(folder: Path):
    head = b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\n"
    with serving(folder) as address:
        for raw, status in (
            (b"POST /elsewhere HTTP/1.1\r\nHost: w\r\nContent-Length: 0\r\n\r\n", 404),
            (b"GET / HTTP/1.1\r\nHost: w\r\n\r\n", 404),
            (b"GET /add-checkpoint HTTP/1.1\r\nHost: w\r\n\r\n", 405),
            (b"PUT /add-checkpoint HTTP/1.1\r\nHost: w\r\n\r\n", 501),
            (head + b"\r\n", 411),
            (head + b"Content-Length: -1\r\n\r\n", 411),
            (head + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
            (head + b"Content-Length: 10000000000\r\n\r\n", 411),
            (head + b"Content-Length: %d\r\n\r\n" % (MAX_REQUEST + 1), 413),
        ):
            with socket.create_connection(address, timeout=10) as raw_socket:
                raw_socket.sendall(raw)
                answer = raw_socket.makefile("rb").read()
            assert answer.startswith(b"HTTP/1.1 %d " % status), (raw, answer)


def test_half_a_request_is_no_request(folder: Path):
    body = request(0, 8)
    with serving(folder) as address, socket.create_connection(address, timeout=10) as connection:
        head = b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: %d\r\n\r\n" % len(body)
        connection.sendall(head + body[:-5])
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as file:
            assert file.read() == b""
    assert Witness(folder, lambda: 0).seen(LOG.name).size == 0


def test_a_connection_that_speaks_too_slowly_is_cut(folder: Path):
    with (
        serving(folder, lifetime=0.05) as address,
        socket.create_connection(address, timeout=10) as connection,
    ):
        connection.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost:")
        assert connection.recv(1) == b""


def test_more_connections_than_threads_are_closed_at_once(folder: Path):
    with serving(folder, connections=1) as address:
        with socket.create_connection(address, timeout=10) as first:
            first.sendall(b"POST /add-checkpoint HTTP/1.1\r\n")
            with socket.create_connection(address, timeout=10) as second:
                assert second.recv(1) == b""
        # The first one's place is free again.
        for _ in range(1000):
            connection = http.client.HTTPConnection(*address, timeout=10)
            try:
                assert ask(connection, request(0, 8))[0] == 200
                break
            except OSError:
                continue
            finally:
                connection.close()
        else:
            pytest.fail("the witness answers nobody any more")


@pytest.mark.slow
def test_the_program_serves(folder: Path):
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "ledger.cli", "audit", "witness", "serve", str(folder)),
            *("--listen", "127.0.0.1:0", "--json"),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        host, port = told["address"].removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        assert ask(connection, request(0, 8))[0] == 200
        connection.close()
    finally:
        process.terminate()
        process.communicate()
