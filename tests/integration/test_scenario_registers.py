"""The example that compares two registers holds as it stands; its list is where it should be."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from federated.node import cli as node_cli
from marketplace.scenario.cli import command

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "registers"


def digits(text: str) -> str:
    return re.sub(r"\D", "", text)


@pytest.mark.slow
def test_the_example_holds_and_the_clinic_gets_its_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copytree(EXAMPLE, tmp_path / "mine")
    out = tmp_path / "out"
    arguments = [str(tmp_path / "mine" / "scenario.toml"), "--out", str(out), "--json"]
    assert command(["run", *arguments]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["held"], [job["state"] for job in told["jobs"]]) == (True, ["released"] * 3)
    with (EXAMPLE / "fund.csv").open() as file:
        fund = {digits(row["insured"]): int(row["paid_cents"]) for row in csv.DictReader(file)}
    with (EXAMPLE / "clinic.csv").open() as file:
        clinic = [digits(row["insured"]) for row in csv.DictReader(file)]
    common = [name for name in clinic if name in fund]
    sizes = {"size": len(common), "sizes": {"receiver": len(clinic), "sender": len(fund)}}
    paid = sum(fund[name] for name in common)
    assert [job["result"] for job in told["jobs"]] == [sizes, sizes | {"sum": paid}, sizes]

    assert node_cli.command(["results", str(out / "market" / "nodes" / "clinic"), "--json"]) == 0
    (left,) = json.loads(capsys.readouterr().out)
    assert left["rows"] == len(common)
    with Path(left["file"]).open() as file:
        assert [digits(row["insured"]) for row in csv.DictReader(file)] == common
    assert node_cli.command(["results", str(out / "market" / "nodes" / "fund")]) == 0
    assert capsys.readouterr().out == "no job has left anything here\n"
