"""Several workers over the same nodes: jobs run side by side, and the ledger shows nothing odd."""

import json
import time
from pathlib import Path

import pytest

from ledger.audit import command as audit
from tests.served import PURPOSE, home, run_here, serving, small_market

JOBS = 6


@pytest.mark.slow
def test_jobs_run_side_by_side_and_the_ledger_is_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = small_market(tmp_path / "market")
    lab, most = home(folder, "lab"), 0
    monkeypatch.setenv("RONGSHU_WORKERS", "3")
    with serving("--embedded", folder) as served:
        for number in range(JOBS):
            task = ("statistics", "encrypted_sum")[number % 2]
            words = ("--name", f"job {number}", "--task", task, "--columns", "age,chol")
            run_here("job", "submit", "--home", lab, *words, "--purpose", PURPOSE)
        deadline, states = time.monotonic() + 100, list[str]()
        while states.count("released") < JOBS:
            assert time.monotonic() < deadline, states
            states = [job["state"] for job in listed(lab)]
            most = max(most, states.count("running"))
        for number in range(JOBS):
            assert "checked here" in run_here("job", "result", "--home", lab, f"job {number}")
        run_here("ledger", "export", tmp_path / "x", "--data", folder)
        assert audit(["verify", str(tmp_path / "x"), "--key", served.log_key]) == 0
        assert served.stop() == 0
    assert 1 < most <= 3


def listed(lab: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(run_here("job", "list", "--home", lab, "--json"))
    return found
