"""federated.code: a changed source changes the digest, nothing else does."""

from __future__ import annotations

import os
import shutil
from importlib import resources
from pathlib import Path

import pytest

from federated import code


def _copy(tmp_path: Path) -> dict[str, Path]:
    """Copies the installed packages; the sources are read from there."""
    roots = {}
    for package in code.PACKAGES:
        with resources.as_file(resources.files(package)) as source:
            shutil.copytree(source, tmp_path / package, ignore=shutil.ignore_patterns("*.pyc"))
        roots[package] = tmp_path / package
    return roots


def _digest(roots: dict[str, Path], task: str = "statistics", version: int = 1) -> str:
    files: dict[str, str] = {}
    for package, root in roots.items():
        files |= code.source_digests(package, root)
    return code.digest_of(files, task, version)


def test_a_copied_tree_has_the_digest_of_the_installed_one(tmp_path: Path):
    code._installed.cache_clear()
    assert _digest(_copy(tmp_path)) == code.code_digest("statistics", 1)


def test_one_changed_byte_changes_it(tmp_path: Path):
    roots = _copy(tmp_path)
    before = _digest(roots)
    source = roots["federated"] / "code.py"
    data = bytearray(source.read_bytes())
    data[-2] ^= 1
    source.write_bytes(data)
    assert _digest(roots) != before


@pytest.mark.parametrize("name", ["new.py", "node/new.py"])
def test_an_added_source_changes_it(tmp_path: Path, name: str):
    roots = _copy(tmp_path)
    before = _digest(roots)
    (roots["federated"] / name).write_text("")
    assert _digest(roots) != before


def test_a_renamed_source_changes_it(tmp_path: Path):
    roots = _copy(tmp_path)
    before = _digest(roots)
    (roots["federated"] / "code.py").rename(roots["federated"] / "codes.py")
    assert _digest(roots) != before


def test_compiled_files_times_and_other_files_do_not(tmp_path: Path):
    roots = _copy(tmp_path)
    before = _digest(roots)
    cache = roots["ledger"] / "__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "keys.cpython-311.pyc").write_bytes(b"compiled")
    (roots["ledger"] / "NOTES.md").write_text("notes")
    os.utime(roots["ledger"] / "keys.py", (0, 0))
    assert _digest(roots) == before


def test_the_working_directory_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = code.code_digest("statistics", 1)
    monkeypatch.chdir(tmp_path)
    code._installed.cache_clear()
    assert code.code_digest("statistics", 1) == before


def test_task_and_version_do(tmp_path: Path):
    roots = _copy(tmp_path)
    digests = {
        _digest(roots),
        _digest(roots, "logistic"),
        _digest(roots, version=2),
    }
    assert len(digests) == 3


def test_it_has_the_form_that_a_job_lists():
    prefix, _, digits = code.code_digest("statistics", 1).partition(":")
    assert prefix == "sha256"
    assert len(bytes.fromhex(digits)) == 32
