"""A key that holders share, by command: dealt, submitted under, opened by two, and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import ServedMarket
from tests.dealt import share_fixed
from tests.served import PURPOSE, home, run_here


def enrolled(market: ServedMarket, folder: Path, name: str) -> str:
    """Enrol a holder by command; return its participant id."""
    code = run_here("operator", "code", "--data", market.folder, "--role", "provider").strip()
    where = ("--service", market.served.address, "--log-key", market.served.log_key)
    who = ("--code", code, "--name", name, "--role", "provider")
    run_here("enrol", "--home", folder / name, *where, *who)
    return str(json.loads((folder / name / "party.json").read_text())["participant"])


@pytest.mark.slow
def test_two_of_three_holders_open_a_job_and_one_does_not(market: ServedMarket, tmp_path: Path):
    lab, names = home(market.folder, "lab"), ("alba", "bruno", "carla")
    holders = ",".join(enrolled(market, tmp_path, name) for name in names)
    dealt = tmp_path / "dealt"
    words = ("key", "deal", "--holders", holders, "--out", dealt, "--bits", 2048)
    told = json.loads(run_here(*words, "--json"))
    assert list(told["shares"].values()) == [str(dealt / f"holder-{at}.share") for at in (1, 2, 3)]
    assert dealt.stat().st_mode & 0o777 == 0o700
    assert all(Path(file).stat().st_mode & 0o777 == 0o600 for file in told["shares"].values())
    assert "exists already" in run_here(*words, code=1)

    asked = ("--name", "shared", "--task", "encrypted_sum", "--columns", "age")
    key = ("--purpose", PURPOSE, "--shared-key", dealt / "key.json")
    assert "--partials" in run_here("job", "submit", "--home", lab, *asked, *key, "--wait", code=1)
    run_here("job", "submit", "--home", lab, *asked, *key)
    run_here("job", "wait", "--home", lab, "shared", "--timeout", 60)

    parts = []
    for at, name in ((1, "alba"), (3, "carla")):
        part = tmp_path / f"{name}.partial"
        share = ("--share", dealt / f"holder-{at}.share", "--out", part)
        said = run_here("key", "decrypt", "--home", tmp_path / name, *share, "shared")
        assert "the released sum is that of the contributions" in said
        parts.append(part)
    anothers = ("--share", dealt / "holder-1.share", "--out", tmp_path / "x")
    complaint = run_here(
        "key", "decrypt", "--home", tmp_path / "carla", *anothers, "shared", code=1
    )
    assert "another participant's" in complaint

    result = ("job", "result", "--home", lab, "shared")
    assert "0 of the 2 partial decryptions" in run_here(*result, code=1)
    assert "1 of the 2" in run_here(*result, "--partials", parts[0], code=1)
    found = json.loads(run_here(*result, "--json", "--partials", *parts))
    assert found["result"] == {"sums": {"age": 318 + 287}}
    assert found["verified"] is True


def test_holders_are_participants(tmp_path: Path):
    for holders in ("alba,bruno", "job:" + "0" * 64):
        words = ("key", "deal", "--holders", holders, "--out", tmp_path / "dealt")
        complaint = run_here(*words, code=1)
        assert "id" in complaint
    assert not (tmp_path / "dealt").exists()


def test_a_file_that_is_no_key_is_refused(market: ServedMarket, tmp_path: Path):
    lab, file = home(market.folder, "lab"), tmp_path / "key.json"
    asked = ("--name", "none", "--task", "encrypted_sum", "--columns", "age")
    for text in ("", "[", "{}", json.dumps({"n": "f"})):
        file.write_text(text)
        words = ("job", "submit", "--home", lab, *asked, "--purpose", PURPOSE)
        assert "--shared-key: " in run_here(*words, "--shared-key", file, code=1)
    # The twin: a key that is one gets past, and is refused for its holders by the service.
    file.write_text(json.dumps(share_fixed(["a", "b", "c"])[0].key.to_json()))
    assert "is no participant" in run_here(*words, "--shared-key", file, code=1)


def test_partials_are_for_jobs_under_a_shared_key(market: ServedMarket, tmp_path: Path):
    lab = home(market.folder, "lab")
    words = ("--name", "plain", "--task", "statistics", "--columns", "age", "--purpose", PURPOSE)
    run_here("job", "submit", "--home", lab, *words, "--wait")
    complaint = run_here("job", "result", "--home", lab, "plain", "--partials", tmp_path, code=1)
    assert "not under a key that holders share" in complaint
    assert "mean" in run_here("job", "result", "--home", lab, "plain")
