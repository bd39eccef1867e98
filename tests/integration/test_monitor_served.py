"""A monitor over a service's own read API: real HTTP on this machine, a real market behind it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ledger.mirror import Mirror
from ledger.monitor import Monitor
from ledger.reconcile import reconcile
from ledger.session import Session
from ledger.source import ServerSource
from ledger.standing import standing
from ledger.trust import Policy
from tests.market import Market


class Served:
    """Hands requests on to a market, which knows only ASGI; answers may be exchanged."""

    def __init__(self, market: Market) -> None:
        lock = threading.Lock()
        self.changed: dict[str, bytes] = {}
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with lock:
                    key = self.headers.get("Authorization")
                    headers = {} if key is None else {"Authorization": key}
                    answer = market.http.get(self.path, headers=headers)
                body = served.changed.get(self.path.partition("?")[0], answer.content)
                self.send_response(answer.status_code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()


@pytest.fixture(name="served")
def _served(market: Market) -> Iterator[Served]:
    served = Served(market)
    yield served
    served.server.shutdown()
    served.server.server_close()
    served.thread.join(timeout=10)


def look(market: Market, served: Served, state: Path, key: str | None) -> Any:
    policy = Policy.of(market.context.log.vkey)
    with Mirror(state) as mirror, Session(served.address, token=key, patience=20) as session:
        monitor = Monitor(mirror, policy)
        report = monitor.look(ServerSource(session, scoped=key is not None))
        verdict = standing(monitor, reconcile(monitor.history), report)
        return monitor, verdict, report


def test_an_auditor_follows_a_market(market: Market, served: Served, tmp_path: Path):
    market.released_job()
    log, key = market.context.log, market.auditor.api_key
    monitor, verdict, _ = look(market, served, tmp_path, key)
    assert (verdict.status, monitor.size) == ("sound", log.size)
    assert verdict.checked["signatures"] == log.history.checked["signatures"]
    market.submit()
    monitor, verdict, _ = look(market, served, tmp_path, key)
    assert (verdict.status, monitor.size) == ("sound", log.size)
    assert verdict.checked["reconciled_jobs"] == 2


def test_a_stranger_sees_the_structure_alone(market: Market, served: Served, tmp_path: Path):
    market.released_job()
    monitor, verdict, _ = look(market, served, tmp_path, None)
    assert monitor.size == market.context.log.size
    assert (verdict.status, verdict.checked["entries"]) == ("incomplete", monitor.size)
    assert verdict.sealed == monitor.size


def test_a_party_sees_its_own_side(market: Market, served: Served, tmp_path: Path):
    market.released_job()
    monitor, verdict, _ = look(market, served, tmp_path, market.providers[0].api_key)
    assert verdict.findings == []
    assert 0 < verdict.sealed < monitor.size


@pytest.mark.parametrize(
    ("path", "answer", "code"),
    [
        ("/v1/log/checkpoint", b"x" * 1_100_000, "unreadable"),
        ("/v1/log/checkpoint", b"no note", "damaged"),
        ("/v1/log/openings", b"no JSON", "damaged"),
        ("/v1/log/openings", b"[" * 100_000, "damaged"),
        ("/v1/log/openings", b'{"openings":{}}', "damaged"),
        ("/v1/log/openings", b'{"openings":[{}]}', "damaged"),
        (
            "/v1/log/openings",
            b'{"openings":[{"index":999,"salt":"","envelope":""}]}',
            "damaged",
        ),
        ("/v1/log/openings", b'{"openings":[' + b"0," * 256 + b"0]}", "damaged"),
        ("tile", b"", "damaged"),
        ("tile", b"\x00", "damaged"),
        ("tile", b"\x00\x00" * 300, "damaged"),
    ],
)
def test_a_malicious_service_is_found_out(
    market: Market, served: Served, tmp_path: Path, path: str, answer: bytes, code: str
):
    if path == "tile":
        path = f"/v1/log/tile/entries/000.p/{market.context.log.size}"
    served.changed[path] = answer
    monitor, verdict, report = look(market, served, tmp_path, market.auditor.api_key)
    assert monitor.size == 0
    assert code in {item.code for item in (*report.findings, *report.missing)}
    assert verdict.status != "sound"
    # Once it answers honestly the monitor goes on; what was wrong is remembered.
    served.changed.clear()
    monitor, verdict, _ = look(market, served, tmp_path / "new", market.auditor.api_key)
    assert (verdict.status, monitor.size) == ("sound", market.context.log.size)


def test_another_opening_than_the_committed_one_is_found(
    market: Market, served: Served, tmp_path: Path
):
    answer = market.get("/log/openings", market.auditor).json()
    first, second, *rest = answer["openings"]
    swapped = [first | {"envelope": second["envelope"]}, second, *rest]
    served.changed["/v1/log/openings"] = json.dumps({"openings": swapped}).encode()
    _, verdict, report = look(market, served, tmp_path, market.auditor.api_key)
    assert "wrong_opening" in {item.code for item in report.findings}
    assert verdict.status == "tampered"
