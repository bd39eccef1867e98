"""A scenario gives the same, whether all roles live in one process or each in one of its own."""

import json
from pathlib import Path
from typing import Any

import pytest

from ledger.encoding import canonical, sha256_text
from tests.deployed import children
from tests.served import ROOT, run_here

EXAMPLES = ROOT / "examples"


def played(file: Path, folder: Path, *words: str) -> Any:
    return json.loads(run_here("scenario", "run", file, "--out", folder, "--json", *words))


def results(outcome: Any) -> dict[str, bytes]:
    """Canonical bytes of each job's result: no float is rounded on the way."""
    return {job["name"]: canonical(_exact(job["result"])) for job in outcome["jobs"]}


def _exact(value: Any) -> Any:
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, dict):
        return {key: _exact(item) for key, item in value.items()}
    return [_exact(item) for item in value] if isinstance(value, list) else value


def compare(file: Path, folder: Path) -> None:
    before = set(children(_own_pid()))
    embedded = played(file, folder / "embedded")
    deployed = played(file, folder / "deployed", "--processes")
    assert embedded["held"]
    assert deployed["held"], deployed
    assert [job["state"] for job in deployed["jobs"]] == [job["state"] for job in embedded["jobs"]]
    assert results(deployed) == results(embedded)
    tried = [(each["name"], each["held"]) for each in deployed.get("refusals", [])]
    assert tried == [(each["name"], each["held"]) for each in embedded.get("refusals", [])]
    # Nothing is left behind, and the nodes did keep to their folders.
    assert set(children(_own_pid())) <= before
    market = folder / "deployed" / "market"
    keys = {sha256_text(path.read_bytes()) for path in market.glob("nodes/*/*.key")}
    assert len(keys) == 3 * len(list(market.glob("nodes/*/node.json")))


def _own_pid() -> int:
    return int(Path("/proc/self").readlink().name)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_small_example_holds_in_processes_of_its_own(tmp_path: Path):
    compare(EXAMPLES / "own" / "scenario.toml", tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_hospitals_results_are_the_same_bytes_in_both_ways_to_run(tmp_path: Path):
    compare(EXAMPLES / "hospitals" / "scenario.toml", tmp_path)
