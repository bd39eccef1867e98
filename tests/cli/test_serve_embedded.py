"""`rongshu serve --embedded`: a job from a second terminal runs there, by rule or by hand."""

import json
import time
from pathlib import Path

import httpx
import pytest

from ledger.audit import command as audit
from ledger.journal import read_journal
from tests.cli.conftest import ServedMarket
from tests.served import (
    PURPOSE,
    TABLES,
    home,
    node,
    rongshu,
    rongshu_json,
    run_here,
    serving,
    small_market,
)

PATIENTLY = ("--wait", "60", "--json")


def submit(market: ServedMarket, name: str, *more: object, columns: str = "age") -> str:
    words = ("--name", name, "--task", "statistics", "--columns", columns, "--purpose", PURPOSE)
    made = run_here("job", "submit", "--home", home(market.folder, "lab"), *words, *more, "--json")
    return str(json.loads(made)["job"])


def test_a_job_from_a_second_process_runs_and_its_result_is_checked(market: ServedMarket):
    lab = home(market.folder, "lab")
    words = ("--task", "statistics", "--columns", "age,chol", "--purpose", PURPOSE)
    answer = rongshu_json("job", "submit", "--home", lab, "--name", "first", *words, "--wait")
    assert answer["verified"] is True
    # The pooled figures of the two files in tests/served.py.
    assert answer["result"]["age"]["count"] == 11
    assert answer["result"]["age"]["mean"] == pytest.approx(55.0)
    assert answer["result"]["chol"] == {
        "count": 10,
        "missing": 1,
        "mean": pytest.approx(230.3),
        "variance": pytest.approx(1689.344444),
    }
    text = run_here("job", "result", "--home", lab, answer["job"])
    assert "checked here: the sum of the contributions that 2 nodes receipted" in text
    assert "billed: 24.00" in text


def test_an_encrypted_job(market: ServedMarket):
    lab = home(market.folder, "lab")
    words = ("--task", "encrypted_sum", "--columns", "age", "--purpose", PURPOSE)
    answer = run_here("job", "submit", "--home", lab, "--name", "sums", *words, "--wait", "--json")
    assert json.loads(answer)["result"]["sums"]["age"] == 605


@pytest.fixture
def by_hand(market: ServedMarket):
    """North decides by hand while the test runs."""
    run_here("node", "approval", node(market.folder, "north"), "hand")
    yield
    run_here("node", "approval", node(market.folder, "north"), "rule")


def requests_at(market: ServedMarket, name: str) -> list[str]:
    found = json.loads(run_here("node", "requests", node(market.folder, name), "--json"))
    return [each["job"] for each in found]


@pytest.mark.usefixtures("by_hand")
def test_by_hand_a_job_waits_until_it_is_approved(market: ServedMarket):
    lab, north = home(market.folder, "lab"), node(market.folder, "north")
    job = submit(market, "patient")
    wait = ("job", "wait", "--home", lab, job, "--timeout")
    complaint = run_here(*wait, "1", code=1)
    shown = run_here("job", "show", "--home", lab, job)
    assert "still requested; no answer yet from North" in complaint, shown
    (asked,) = json.loads(run_here("node", "requests", north, "--json"))
    assert (asked["job"], asked["task"], asked["purpose"]) == (job, "statistics", PURPOSE)
    assert asked["parameters"]["columns"] == ["age"]
    assert "is granted" in rongshu("node", "approve", north, job[:20])
    *_, last = run_here(*wait, "60", "--json").splitlines()
    assert json.loads(last)["state"] == "released"
    assert requests_at(market, "north") == []
    complaint = run_here("node", "approve", north, job, code=1)
    assert "names 0 of the jobs that wait here" in complaint


@pytest.mark.usefixtures("by_hand")
def test_by_hand_a_job_is_rejected_with_a_receipt(market: ServedMarket, tmp_path: Path):
    lab, north = home(market.folder, "lab"), node(market.folder, "north")
    job = submit(market, "unwelcome")
    verdict = rongshu_json("node", "reject", north, job, "--reason", "purpose_not_allowed")
    assert verdict == {"job": job, "verdict": "purpose_not_allowed"}
    view = json.loads(run_here("job", "wait", "--home", lab, job, "--json", code=1, errors=False))
    assert view["state"] == "refused"
    parties = {party["provider_name"]: party for party in view["parties"]}
    assert parties["North"]["state"] == "refused"
    assert parties["North"]["reason"] == "purpose_not_allowed"
    assert parties["North"]["receipt"].startswith("receipt:")
    assert requests_at(market, "north") == []
    complaint = run_here("job", "result", "--home", lab, job, code=1)
    assert "nothing was released" in complaint
    export_is_sound(market, tmp_path / "export", says=(job, "purpose_not_allowed"))


def export_is_sound(market: ServedMarket, folder: Path, says: tuple[str, str]) -> None:
    """What was refused stands in the ledger, and a stranger finds nothing wrong with it."""
    run_here("ledger", "export", folder, "--data", market.folder, "--for", "Auditor")
    listed = rongshu_json("audit", "list", folder, "--key", market.served.log_key)
    assert listed["status"] == "sound"
    assert says[1] in {use["reason"] for use in listed["uses"]}


def test_a_provider_hands_its_journal_to_an_auditor(market: ServedMarket, tmp_path: Path):
    journal = tmp_path / "north.journal"
    made = run_here("node", "journal", node(market.folder, "north"), "--out", journal, "--json")
    read = read_journal(journal.read_bytes())
    told = json.loads(made)
    assert (told["lines"], told["asset"]) == (len(read.lines), read.asset)
    complaint = run_here("node", "journal", node(market.folder, "north"), "--out", journal, code=1)
    assert "cannot be written: File exists" in complaint
    folder = tmp_path / "audit"
    words = ("--data", market.folder, "--journal", journal, "--tag-keys")
    run_here("ledger", "export", folder, *words)
    assert (folder / "journals" / "000").read_bytes() == journal.read_bytes()
    journal.write_bytes(journal.read_bytes()[:-2])
    complaint = run_here("ledger", "export", tmp_path / "other", *words, code=1)
    assert "--journal" in complaint
    assert "north.journal" in complaint


def test_a_market_keeps_the_schedule_of_its_first_start(market: ServedMarket):
    complaint = run_here("operator", "schedule", "--data", market.folder, code=1)
    assert "keeps it for good" in complaint


def test_an_older_market_begins_to_count_epochs(tmp_path: Path):
    folder = small_market(tmp_path / "market", epoch_entries=0)
    with serving("--embedded", folder) as _:
        words = ("--data", folder, "--entries", "10", "--grace", "5", "--json")
        made = json.loads(run_here("operator", "schedule", *words))
        assert made["id"].startswith("schedule:")


def test_an_export_opens_what_its_reader_may_see(market: ServedMarket, tmp_path: Path):
    told = {}
    for reader in ("Auditor", "Lab", "North"):
        words = ("--data", market.folder, "--for", reader, "--json")
        told[reader] = json.loads(run_here("ledger", "export", tmp_path / reader, *words))
    key = market.served.log_key
    assert told["Auditor"]["opened"] == told["Auditor"]["size"]
    assert told["North"]["opened"] < told["North"]["size"]
    assert audit(["verify", str(tmp_path / "Auditor"), "--key", key]) == 0
    assert audit(["verify", str(tmp_path / "Lab"), "--key", key]) == 0
    # The other provider's agreement is not North's to see: sealed, counted, and no damage.
    assert audit(["verify", str(tmp_path / "North"), "--key", key]) == 0
    words = (tmp_path / "Lab", "--data", market.folder)
    assert "is not an empty folder" in run_here("ledger", "export", *words, code=1)


def test_providers_answer_by_rule_and_a_new_agreement_is_used(market: ServedMarket):
    lab = home(market.folder, "lab")
    agreements: list[str] = []
    words = ("--name", "x", "--task", "statistics", "--columns", "age", "--purpose", PURPOSE)
    try:
        for name in TABLES:
            run_here("negotiate", "start", "--home", lab, name)
            signed = run_here("negotiate", "countersign", "--home", lab, name, *PATIENTLY)
            agreements.append(json.loads(signed)["agreement"])
        named = [word for each in agreements for word in ("--agreement", each)]
        job = submit(market, "under new ones", *named)
        assert run_here("job", "wait", "--home", lab, job)
        # With two agreements for each asset, the command asks which are meant.
        complaint = run_here("job", "submit", "--home", lab, *words, code=1)
        assert "--agreement: several for the same asset" in complaint
    finally:
        for each in agreements:
            told = run_here("revoke", "--home", lab, each, "--cause", "the test has ended")
            assert "void from log entry" in told
    complaint = run_here("job", "submit", "--home", lab, *words, *named, code=1)
    assert "revoked" in complaint


def test_the_same_folder_is_not_served_twice(market: ServedMarket):
    complaint = run_here("serve", "--embedded", market.folder, "--port", "0", code=1)
    assert "is being served already" in complaint
    outer = market.folder.parent
    complaint = run_here("serve", "--embedded", outer, "--port", "0", code=1)
    assert f"did you mean {outer / 'market'}?" in complaint
    complaint = run_here("serve", "--data", market.folder, "--port", "0", code=1)
    assert "holds a whole market" in complaint


def test_ctrl_c_ends_cleanly_and_takes_the_address_away(tmp_path: Path):
    with serving("--embedded", tmp_path / "new") as served:
        assert (tmp_path / "new" / "address").read_text() == served.address + "\n"
        assert served.address.startswith("http://127.0.0.1:")
        assert httpx.get(f"{served.address}/v1/health").json()["status"] == "ok"
        key = run_here("operator", "key", "--data", tmp_path / "new").strip()
        assert key == served.log_key
        assert served.stop() == 0
        out, errors = served.process.communicate(timeout=30)
        assert (out, errors) == ("", "")
    assert not (tmp_path / "new" / "address").exists()
    complaint = run_here(
        "operator", "code", "--data", tmp_path / "new", "--role", "auditor", code=1
    )
    assert "is not being served" in complaint


def test_a_taken_port_is_a_sentence(market: ServedMarket, tmp_path: Path):
    port = market.served.address.rpartition(":")[2]
    complaint = run_here("serve", "--data", tmp_path / "x", "--port", port, code=1)
    assert f"cannot listen on 127.0.0.1:{port}" in complaint


@pytest.mark.slow
def test_a_job_under_way_at_ctrl_c_ends_before_the_service(tmp_path: Path):
    """Regression: the nodes' connections were closed first, and the job failed."""
    folder = small_market(tmp_path / "market")
    lab = home(folder, "lab")
    words = ("--task", "encrypted_sum", "--columns", "age", "--purpose", PURPOSE)
    with serving("--embedded", folder) as served:
        for name in ("one", "two", "three"):
            run_here("job", "submit", "--home", lab, "--name", name, *words)
        deadline = time.monotonic() + 60
        while "running" not in run_here("job", "list", "--home", lab):
            assert time.monotonic() < deadline
        assert served.stop() == 0
    with serving("--embedded", folder) as served:
        for name in ("one", "two", "three"):
            *_, last = run_here("job", "wait", "--home", lab, name, "--json").splitlines()
            assert json.loads(last)["state"] == "released"
        run_here("ledger", "export", tmp_path / "x", "--data", folder)
        assert audit(["verify", str(tmp_path / "x"), "--key", served.log_key]) == 0
