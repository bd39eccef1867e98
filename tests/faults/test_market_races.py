"""Two requests race for the last permitted use: exactly one gets it."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from ledger.statements import read
from ledger.store import LOG_WRITER
from marketplace.agreements import uses
from tests.drafts import START, YEAR
from tests.market import Market

QUICK_TRIES = 24
SLOW_TRIES = 200
REFUSED = {"state": "refused", "reason": "revoked"}
FAR = START + 100 * YEAR

SERVER = """
import sys
from pathlib import Path
import uvicorn
from marketplace.app import create_app
from marketplace.settings import Settings

app = create_app(Settings(folder=Path(sys.argv[1]), database=sys.argv[3]))
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
"""

CLIENT = """
import sys
import httpx

address, key = sys.argv[1:]
with httpx.Client(base_url=address, headers={"Authorization": "Bearer " + key}, timeout=60) as http:
    http.get("/v1/me").raise_for_status()
    print("ready", flush=True)
    for line in sys.stdin:
        answer = http.post(
            "/v1/jobs", content=line, headers={"content-type": "application/json"}
        )
        print(answer.status_code, answer.json().get("code", "accepted"), flush=True)
"""


def rivals(market: Market) -> tuple[str, str]:
    """Two different jobs, as request bodies, for one fresh agreement's only use."""
    first, *others = market.providers
    last_use = market.agree(first, terms=market.terms(uses=1, until=FAR))
    agreements = (last_use, *(party.agreement for party in others))
    bodies = [
        {"statement": json.loads(market.sign(market.job_statement(agreements=agreements)))}
        for _ in range(2)
    ]
    return json.dumps(bodies[0]), json.dumps(bodies[1])


def with_plenty(market: Market) -> None:
    for party in market.providers[1:]:
        party.agreement = market.agree(party, terms=market.terms(uses=10_000, until=FAR))


def race(market: Market, bodies: tuple[str, str]) -> list[tuple[int, str]]:
    def submit(body: str) -> tuple[int, str]:
        headers = market.headers(market.researcher) | {"content-type": "application/json"}
        answer = market.http.post("/v1/jobs", headers=headers, content=body)
        return answer.status_code, answer.json().get("code", "accepted")

    with ThreadPoolExecutor(2) as pool:
        return sorted(pool.map(submit, bodies))


ONE_OF_TWO = [(201, "accepted"), (409, "quota_used_up")]


@pytest.fixture(name="postgres_market")
def _postgres_market(tmp_path: Path, postgres: str) -> Iterator[Market]:
    """A market like the other one, on PostgreSQL."""
    with Market(tmp_path / "data", database=postgres) as market:
        market.populate()
        yield market


def test_of_two_threads_one_gets_the_last_use_on_postgresql(postgres_market: Market):
    with_plenty(postgres_market)
    for _ in range(QUICK_TRIES // 3):
        assert race(postgres_market, rivals(postgres_market)) == ONE_OF_TWO
    assert postgres_market.context.log.findings == []


def test_without_the_lock_both_get_the_last_use_on_postgresql(
    postgres_market: Market, monkeypatch: pytest.MonkeyPatch
):
    """The twin: both count before either stores, as nothing makes one wait for the other."""
    market = postgres_market
    with_plenty(market)
    bodies = rivals(market)
    engine = market.context.engine.execution_options(**{LOG_WRITER: True})
    unlocked = replace(market.context, engine=engine)
    monkeypatch.setattr(market.app.state, "context", unlocked)
    both, count = threading.Barrier(2, timeout=60), uses.count

    def together(*arguments: Any) -> Any:
        found = count(*arguments)
        both.wait()
        return found

    monkeypatch.setattr(uses, "count", together)
    assert race(market, bodies) == [(201, "accepted"), (201, "accepted")]


def test_of_two_threads_one_gets_the_last_use(market: Market):
    with_plenty(market)
    for _ in range(QUICK_TRIES):
        assert race(market, rivals(market)) == ONE_OF_TWO
    assert len(market.must(market.get("/jobs", market.researcher), 200)) == QUICK_TRIES
    assert market.context.log.findings == []


def test_without_counting_inside_the_transaction_both_would(
    market: Market, monkeypatch: pytest.MonkeyPatch
):
    """The twin: who looks at a count made before the lock was taken lets both pass."""
    with_plenty(market)
    bodies = rivals(market)
    stale = uses.Counter[str]()
    monkeypatch.setattr(uses, "count", lambda *_: stale)
    assert race(market, bodies) == [(201, "accepted"), (201, "accepted")]


@contextmanager
def served(folder: Path, database: str = "") -> Iterator[str]:
    """A real server on the loopback, in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", SERVER, str(folder), str(port), database]
    with subprocess.Popen(command) as server:
        address = f"http://127.0.0.1:{port}"
        try:
            wait_for(address)
            yield address
        finally:
            server.terminate()


def wait_for(address: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{address}/v1/health").raise_for_status()
        except httpx.TransportError:
            continue
        return
    pytest.fail("the server did not start")


@contextmanager
def client(address: str, key: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", CLIENT, address, key]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


def run_processes(market: Market, tries: int, *, empty: bool = False) -> list[list[str]]:
    with market:
        if empty:
            market.populate()
        with_plenty(market)
        prepared = [rivals(market) for _ in range(tries)]
        key = market.researcher.api_key
    with (
        served(market.settings.folder, market.settings.database) as address,
        client(address, key) as one,
        client(address, key) as two,
    ):
        found = []
        for bodies in prepared:
            for process, body in zip((one, two), bodies, strict=True):
                assert process.stdin
                process.stdin.write(body + "\n")
                process.stdin.flush()
            found.append(
                sorted(str(process.stdout.readline()) for process in (one, two) if process.stdout)
            )
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_of_two_processes_one_gets_the_last_use(populated_market: Market, tmp_path: Path):
    market = populated_market.copy_to(tmp_path / "data")
    found = run_processes(market, SLOW_TRIES)
    assert found == [["201 accepted\n", "409 quota_used_up\n"]] * SLOW_TRIES


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_of_two_processes_one_gets_the_last_use_on_postgresql(tmp_path: Path, postgres: str):
    found = run_processes(Market(tmp_path / "data", database=postgres), SLOW_TRIES, empty=True)
    assert found == [["201 accepted\n", "409 quota_used_up\n"]] * SLOW_TRIES


def test_a_revocation_that_waits_for_the_log_is_in_force_already(
    populated_market: Market, tmp_path: Path
):
    """The log's rules do not know of it yet; otherwise the log would get what breaks them."""
    with populated_market.copy_to(tmp_path / "data", log_wait_seconds=1) as market:
        first = market.providers[0]
        job = market.submit()
        grant, offer = market.grant_statement(first, job), market.offer_statement(first)
        market.context.log.stop()
        revocation = market.revocation(first, first.asset)
        assert market.post("/revocations", first, revocation).status_code == 503
        before = market.counts()
        for path, caller, statement, code in (
            ("/jobs", market.researcher, market.job_statement(), "revoked"),
            ("/offers", first, offer, "revoked"),
            ("/grants", first, grant, "not_waiting"),
            ("/receipts", first, market.receipt(first, job, None, **REFUSED), "revoked"),
        ):
            answer = market.post(path, caller, statement)
            assert (answer.status_code, answer.json()["code"]) == (409, code), path
        assert market.counts() == before
        market.context.log.start()
        market.context.logged(read(market.sign(revocation)).id)
        assert market.context.log.findings == []


def test_a_revoked_key_that_waits_for_the_log_opens_nothing(
    populated_market: Market, tmp_path: Path
):
    with populated_market.copy_to(tmp_path / "data", log_wait_seconds=1) as market:
        first = market.providers[0]
        market.context.log.stop()
        answer = market.post("/revocations", first, market.revocation(first, first.id))
        assert answer.status_code == 503
        before = market.counts()
        late = market.post("/offers", first, market.offer_statement(first, price_cents=5))
        assert late.status_code == 401
        assert market.counts() == before
