"""`rongshu ledger rotate`: the log's key is changed by command, and everybody goes on."""

import json
import stat
from pathlib import Path

import pytest

from ledger.keys import SigningKey
from marketplace.client import Client, Home
from tests.served import home, run_here, serving, small_market


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_market(tmp_path / "market")


def key_file(folder: Path) -> Path:
    return folder / "service" / "keys" / "log" / "signing.key"


def audited(folder: Path, name: str, key: str) -> str:
    export = folder.parent / name
    if not export.exists():
        run_here("ledger", "export", export, "--data", folder)
    return run_here("audit", "verify", export, "--key", key)


def synced(folder: Path) -> int:
    """Let a party that knows the old key read the log over the network; return its size."""
    lab = Client(Home.load(home(folder, "lab")))
    try:
        return lab.log.sync().size
    finally:
        lab.http.close()


@pytest.mark.slow
def test_the_key_is_changed_while_the_service_stands_still(folder: Path):
    old = run_here("operator", "key", "--data", folder).strip()
    audited(folder, "before", old)
    with serving("--embedded", folder) as served:
        size = synced(folder)
        # Whichever of its folders is named: nothing changes while it runs.
        for data in (folder, folder / "service"):
            told = run_here("ledger", "rotate", "--data", data, code=1)
            assert "is being served already" in told
        assert served.log_key == old
        assert served.stop() == 0
    made = json.loads(run_here("ledger", "rotate", "--data", folder, "--json"))
    assert (made["old_log_key"], made["resumed"]) == (old, False)
    assert Path(made["succession"]).read_text().startswith("rongshu/log-succession/v1\n")
    assert stat.S_IMODE(key_file(folder).stat().st_mode) == 0o600
    assert list(key_file(folder).parent.iterdir()) == [key_file(folder)]
    new = run_here("operator", "key", "--data", folder).strip()
    assert new == made["log_key"] != old
    with serving("--embedded", folder) as served:
        assert served.log_key == new
        assert synced(folder) >= made["size"] >= size
        assert run_here("asset", "list", "--home", home(folder, "north"))
        assert served.stop() == 0
    told = audited(folder, "after", old)
    assert told.startswith("SOUND")
    assert f"changed after {made['size']} entries" in told
    assert audited(folder, "after", new).startswith("SOUND")
    assert audited(folder, "before", old).startswith("SOUND")


@pytest.mark.slow
def test_what_a_person_is_told(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    old = run_here("operator", "key", "--data", folder).strip()
    recovery = tmp_path / "log-recovery.key"
    made = run_here("operator", "key", "--data", folder, "--recovery", recovery)
    assert run_here("operator", "key", "--data", folder, "--recovery", recovery) == made
    assert stat.S_IMODE(recovery.stat().st_mode) == 0o600
    told = run_here("ledger", "rotate", "--data", folder, "--recovery-key", recovery)
    assert "Destroy its copies" in told
    # A crash before the key takes its place; the service says so, and the same command goes on.
    words = ("ledger", "rotate", "--data", folder)
    with monkeypatch.context() as patch:
        patch.setattr("marketplace.log_key_change.take_over", lambda _path: None)
        run_here(*words)
    complaint = run_here("ledger", "export", tmp_path / "export", "--data", folder, code=1)
    assert "was retired at" in complaint
    assert "an earlier run had signed this change" in run_here(*words)
    # Its file is gone: only the recovery key can name the next one.
    lost = run_here("operator", "key", "--data", folder).strip()
    assert "leave --lost out" in run_here(
        *words, "--recovery-key", recovery, "--lost", lost, code=1
    )
    key_file(folder).unlink()
    assert "is missing" in run_here(*words, code=1)
    assert "--lost: only" in run_here(*words, "--lost", lost, code=1)
    run_here(*words, "--recovery-key", recovery, "--lost", lost)
    foreign = tmp_path / "foreign.key"
    SigningKey.generate("other.example/log").save(foreign)
    assert "bears its log's name" in run_here(*words, "--recovery-key", foreign, code=1)
    assert "holds a key of" in run_here(
        "operator", "key", "--data", folder, "--recovery", foreign, code=1
    )
    # An auditor who holds the recovery key follows all of it.
    policy = tmp_path / "policy"
    policy.write_text(f"log {old}\nrecovery {made.strip()}\nquorum none\n")
    export = tmp_path / "export"
    run_here("ledger", "export", export, "--data", folder)
    told = run_here("audit", "verify", export, "--policy", policy)
    assert told.count("changed after") == 3
    assert told.count("by a recovery key") == 2
    # The twin: who does not hold it cannot follow past the lost key.
    assert run_here("audit", "verify", export, "--key", f"{old}", code=3, errors=False)
