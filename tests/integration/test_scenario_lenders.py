"""The example in which a bank and a shop fit one model: it is the fit of the joined table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from marketplace.scenario.cli import command

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "lenders"
OF_THE_BANK = ["income", "loan", "years_with_us"]
OF_THE_SHOP = ["orders", "paid_late", "basket"]


def people(name: str) -> dict[str, dict[str, str]]:
    with (EXAMPLE / f"{name}.csv").open() as file:
        return {row["person"]: row for row in csv.DictReader(file)}


@pytest.mark.slow
def test_the_model_is_that_of_the_joined_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = [str(EXAMPLE / "scenario.toml"), "--out", str(tmp_path / "out"), "--json"]
    assert command(["run", *arguments]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["held"]
    (found,) = (job["result"] for job in told["jobs"])
    bank, shop = people("bank"), people("shop")
    common = sorted(bank.keys() & shop.keys())
    assert found["rows"] == len(common)
    own = [[float(bank[each][name]) for name in OF_THE_BANK] for each in common]
    other = [[float(shop[each][name]) for name in OF_THE_SHOP] for each in common]
    y = np.array([int(bank[each]["defaulted"]) for each in common])
    joined = np.hstack([own, other])
    x = (joined - joined.mean(axis=0)) / joined.std(axis=0, ddof=1)
    pooled = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12).fit(x, y)
    weights = np.array([found["coefficients"][name] for name in OF_THE_BANK + OF_THE_SHOP])
    # Twenty steps come so near; the bank alone does much worse.
    assert np.abs(weights - pooled.coef_[0]).max() < 0.02
    assert roc_auc_score(y, x @ weights) == pytest.approx(found["metrics"]["auc"], abs=1e-6)
    alone = LogisticRegression(C=np.inf, solver="newton-cholesky").fit(x[:, :3], y)
    assert found["metrics"]["auc"] > roc_auc_score(y, alone.decision_function(x[:, :3])) + 0.05
