"""Parties that join, list, offer and negotiate by command, and what goes wrong on the way."""

import json
from pathlib import Path

import pytest

from federated.node.home import NodeHome
from tests.cli.conftest import ServedMarket
from tests.served import PURPOSE, home, run_here

TERMS = ("--task", "statistics", "--purpose", PURPOSE, "--uses", "2", "--until", "2090-12-31")


def code_for(market: ServedMarket, role: str) -> str:
    return run_here("operator", "code", "--data", market.folder, "--role", role).strip()


def enrol(market: ServedMarket, folder: Path, name: str, code_: str, **changed: str) -> list[str]:
    options = {
        "--service": market.served.address,
        "--log-key": market.served.log_key,
        "--code": code_,
        "--name": name,
        "--role": "provider",
    } | {f"--{key.replace('_', '-')}": value for key, value in changed.items()}
    words = [word for pair in options.items() for word in pair]
    return ["enrol", "--home", str(folder), *words]


@pytest.fixture(scope="module")
def east(market: ServedMarket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A provider with a folder of its own, apart from the market's."""
    folder = tmp_path_factory.mktemp("east") / "home"
    run_here(*enrol(market, folder, "East", code_for(market, "provider")))
    return folder


def test_enrolment_makes_private_keys(east: Path):
    for name in ("signing.key", "api.key"):
        assert (east / name).stat().st_mode & 0o077 == 0


def test_a_failed_enrolment_can_be_tried_again(market: ServedMarket, tmp_path: Path):
    folder = tmp_path / "west"
    complaint = run_here(*enrol(market, folder, "West", "rse_wrong"), code=1)
    assert "the enrolment code is unknown, used or over" in complaint
    key = (folder / "signing.key").read_bytes()
    good = code_for(market, "provider")
    complaint = run_here(*enrol(market, folder, "Waste", good), code=1)
    assert "is the home of West" in complaint
    assert run_here(*enrol(market, folder, "West", good)).startswith("West is enrolled")
    assert (folder / "signing.key").read_bytes() == key
    complaint = run_here(*enrol(market, folder, "West", good), code=1)
    assert "has enrolled already" in complaint


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"log_key": "rongshu.local/log+00000000+AAAA"}, "--log-key"),
        (
            {"log_key": "rongshu.local/log+08fb7b7e+AaArhsfxf5Wda/Jn6C4BPvyg8RR1BO2lqJDXxvRE7wmc"},
            "this service's log has another key",
        ),
        ({"service": "127.0.0.1"}, "is no address such as"),
        ({"service": "http://127.0.0.1:9"}, "cannot be reached"),
    ],
)
def test_a_service_that_is_not_the_one_meant(
    market: ServedMarket, tmp_path: Path, changed: dict[str, str], message: str
):
    complaint = run_here(*enrol(market, tmp_path / "x", "X", "rse_1", **changed), code=1)
    assert message in complaint
    assert not (tmp_path / "x").exists()


def test_unusable_data_leave_nothing_behind(market: ServedMarket, east: Path, tmp_path: Path):
    file = tmp_path / "bad.csv"
    file.write_text("age,chol\n50\n")
    words = ("--home", east, "--file", file, "--name", "Bad", "--node", tmp_path / "node")
    complaint = run_here("asset", "add", *words, code=1)
    assert "bad.csv, line 2" in complaint
    assert not (tmp_path / "node").exists()
    assert "Bad" not in run_here("asset", "list", "--home", home(market.folder, "lab"))
    complaint = run_here("asset", "add", *words[:2], *words[4:], code=1)
    assert "--file" in complaint
    complaint = run_here("asset", "add", *words, "--cost", "12,50", code=1)
    assert "--cost: '12,50' is no amount" in complaint


def test_an_asset_from_measuring_to_a_withdrawn_offer(
    market: ServedMarket, east: Path, tmp_path: Path
):
    file = tmp_path / "east.data"
    file.write_text("50;200\n61;?\n")
    reading = ("--no-header", "--columns", "age,chol", "--missing", "?", "--delimiter", ";")
    node = tmp_path / "node"
    told = run_here("node", "init", node, "--party", east, "--file", file, *reading)
    assert "2 rows, columns age, chol" in told
    told = run_here("asset", "add", "--home", east, "--node", node, "--name", "East 1")
    assert "2 rows, 1 missing cells" in told
    complaint = run_here("asset", "add", "--home", east, "--node", node, "--name", "2", code=1)
    assert "guards an asset already" in complaint
    assert json.loads(run_here("node", "requests", node, "--json")) == []
    assert run_here("node", "run", node, "--once") == ""
    # One that has a place and not the key for it says so, and what to do.
    NodeHome.load(node).seated("7")
    assert "fleet.key is gone" in run_here("node", "run", node, code=1)
    made = run_here("offer", "add", "--home", east, "East 1", *TERMS, "--price", "3", "--json")
    offer = json.loads(made)["offer"]
    (shown,) = json.loads(run_here("offer", "list", "--home", east, "--asset", "East 1", "--json"))
    assert shown["price_cents"] == 300
    assert shown["terms"]["until"] == 3818448000000  # the end of that day, UTC
    assert (shown["terms"]["exact"], shown["terms"]["minimum_parties"]) == (False, 3)
    lab = home(market.folder, "lab")
    asked = json.loads(run_here("negotiate", "start", "--home", lab, "East 1", "--json"))
    # Nobody signs for East by rule: its folder is not the market's.
    complaint = run_here("negotiate", "countersign", "--home", lab, "East 1", code=1)
    assert "the provider has not signed yet" in complaint
    assert "signed" in run_here("negotiate", "agree", "--home", east, "East 1")
    agreed = run_here("negotiate", "countersign", "--home", lab, asked["negotiation"], "--json")
    assert json.loads(agreed)["agreement"].startswith("agreement:")
    run_here("negotiate", "start", "--home", lab, "East 1")
    words = ("--home", east, "East 1", "--reason", "too cheap")
    assert "ended without agreement" in run_here("negotiate", "terminate", *words)
    assert "is withdrawn" in run_here("offer", "withdraw", "--home", east, offer[:20])
    complaint = run_here("negotiate", "start", "--home", lab, "East 1", code=1)
    assert "there is no offer 'East 1'" in complaint
    revoked = json.loads(agreed)["agreement"]
    run_here("revoke", "--home", east, revoked, "--cause", "the test has ended")


def test_a_job_that_nobody_grants_can_be_cancelled(market: ServedMarket):
    lab, north = home(market.folder, "lab"), market.folder / "nodes" / "north"
    run_here("node", "approval", north, "hand")
    try:
        words = ("--task", "statistics", "--columns", "age", "--purpose", PURPOSE)
        run_here("job", "submit", "--home", lab, "--name", "in vain", *words)
        assert "is cancelled" in run_here("job", "cancel", "--home", lab, "in vain")
        told = run_here("job", "show", "--home", lab, "in vain")
        assert "cancelled by the researcher" in told
    finally:
        run_here("node", "approval", north, "rule")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("--task", "statistcs"), "none of your"),
        (("--purpose", "marketing"), "for 'marketing' and has a use left"),
        (("--columns", "weight"), "weight"),
    ],
)
def test_a_job_that_cannot_be(market: ServedMarket, changed: tuple[str, str], message: str):
    options = {"--name": "x", "--task": "statistics", "--columns": "age", "--purpose": PURPOSE}
    options[changed[0]] = changed[1]
    words = [word for pair in options.items() for word in pair]
    lab = home(market.folder, "lab")
    before = run_here("job", "list", "--home", lab)
    assert message in run_here("job", "submit", "--home", lab, *words, code=1)
    assert run_here("job", "list", "--home", lab) == before


def test_the_service_alone_takes_jobs_and_computes_nothing(tmp_path: Path):
    from tests.served import serving

    with serving("--data", tmp_path / "data") as served:
        made = run_here("operator", "code", "--data", tmp_path / "data", "--role", "auditor")
        assert made.startswith("rse_")
        told = run_here("ledger", "export", tmp_path / "x", "--data", tmp_path / "data", "--json")
        # The operator enrolled, and said how long an epoch is; nobody did anything else.
        assert json.loads(told)["opened"] == 2
        words = ("verify", tmp_path / "x", "--key", served.log_key)
        assert "SOUND" in run_here("audit", *words)
        assert served.stop() == 0
