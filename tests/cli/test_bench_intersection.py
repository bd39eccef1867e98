import shutil
from pathlib import Path

import pytest

from bench import privacy_intersection as bench
from bench.environment import NoEnvironmentError, environment


def test_both_parties_of_the_bench_run_and_four_messages_go_between_them():
    measured = bench.intersect(60)
    assert measured.sent == 4 * 32 * 60
    assert 0 < measured.seconds < 60
    assert measured.processor > 0


def test_an_environment_with_the_same_lock_is_used_again(tmp_path: Path):
    python, lock = tmp_path / "own" / "bin" / "python", tmp_path / "lock"
    python.parent.mkdir(parents=True)
    python.touch()
    lock.write_text("nothing\n", encoding="utf-8")
    shutil.copyfile(lock, tmp_path / "own" / "installed.lock")
    assert environment(tmp_path / "own", lock) == python


@pytest.mark.slow
def test_an_environment_with_another_lock_is_made_anew(tmp_path: Path):
    lock = tmp_path / "lock"
    lock.write_text("", encoding="utf-8")
    python = environment(tmp_path / "own", lock)
    left = tmp_path / "own" / "left"
    left.touch()
    assert environment(tmp_path / "own", lock) == python
    assert left.exists()
    # The twin: a lock that pip cannot read. What was there is gone, and no stamp says otherwise.
    lock.write_text("openmined-psi==2.0.6\n", encoding="utf-8")  # without its hashes
    with pytest.raises(NoEnvironmentError):
        environment(tmp_path / "own", lock)
    assert not left.exists()
    assert not (tmp_path / "own" / "installed.lock").exists()


@pytest.mark.slow
def test_without_its_baseline_the_row_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lock = tmp_path / "lock"
    lock.write_text("openmined-psi==2.0.6\n", encoding="utf-8")  # without its hashes
    monkeypatch.setattr(bench, "LOCK", lock)
    monkeypatch.setattr(bench, "OPENMINED", tmp_path / "own")
    (row,) = bench.rows(quick=True)
    assert row.name == "intersection 1000"
    assert row.value is row.baseline is None
    assert str(row.details["not available"]).startswith("openmined-psi: ")
    assert float(row.details["seconds"]) > 0
