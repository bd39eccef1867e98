"""Published figures of vertical regressions, and the pooled fit of a real table.

secretflow's tutorial lr_with_spu (docs/tutorial in secretflow/secretflow): scikit-learn's breast
cancer table under one min-max over the whole matrix, train_test_split(test_size=0.2,
random_state=42), features 0 to 14 at one party, 15 to 29 and the label at the other, ten full-batch
steps of 0.01 from zero: test AUC 0.9878807730101539 in the clear, 0.987880773010154 in MPC.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from tests.joint import converse, csv_text, staged
from tests.scenarios import Scenario, write_scenario
from tests.served import argv_of, environment
from tests.verticals import MATCH, A, B, C, result, steps, task

TUTORIAL = 0.9878807730101539
CREDIT = Path(__file__).resolve().parents[3] / "shared" / "data" / "default_credit"
IDLE = csv_text([{"other": at} for at in range(20)])


def fit(texts: dict[str, str], **parameters: Any) -> Any:
    plan, rows = staged(task(), texts, {"match": MATCH}, computes="third", **parameters)
    task().check_plan(plan)
    return result(plan, converse(task(), plan, rows))


def rows_of(x: Any, names: list[str], label: Any = None, order: Any = None) -> str:
    more = [{}] * len(x) if label is None else [{"y": int(each)} for each in label]
    order = range(len(x)) if order is None else order
    return csv_text(
        [
            {"id": f"p{at}", **dict(zip(names, map(repr, x[at].tolist()), strict=True)), **more[at]}
            for at in order
        ]
    )


def test_the_published_vertical_regression_comes_out():
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.min()) / (x.max() - x.min())
    train, test, label, test_label = train_test_split(x, y, test_size=0.2, random_state=42)
    names = [f"f{at}" for at in range(30)]
    found = fit(
        {
            A: rows_of(train[:, :15], names[:15]),
            B: rows_of(train[:, 15:], names[15:], label, reversed(range(len(train)))),
            C: IDLE,
        },
        columns=names,
        label="y",
        scaling="none",
        steps=10,
        step="0.01",
    )
    weights = np.array([found["coefficients"][name] for name in names])
    scores = test @ weights + found["intercept"]
    assert roc_auc_score(test_label, scores) == pytest.approx(TUTORIAL, abs=1e-9)
    plain = steps(np.column_stack([np.ones(len(train)), train]), label, length=0.01, count=10)
    assert np.abs(weights - plain[1:]).max() < 2e-6
    assert abs(found["intercept"] - plain[0]) < 2e-6
    assert np.abs(plain).max() > 0.01


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not CREDIT.is_dir(), reason="the table of card holders is not here")
def test_two_banks_fit_30000_card_holders_as_the_pooled_table_does(tmp_path: Path):
    """In a whole market, in a process of its own, whose memory is bounded."""
    texts = {"guest": credit("guest", "g"), "host": credit("host", "h"), "idle": IDLE}
    columns = [f"gx{at}" for at in range(13)] + [f"hx{at}" for at in range(10)]
    found, kilobytes = played(tmp_path, texts, columns)
    assert found["rows"] == 30_000
    guest, host = (numbers(texts[name]) for name in ("guest", "host"))
    y, own, other = guest[:, 1], guest[:, 2:], host[:, 1:]
    weights = np.array([found["coefficients"][name] for name in columns])
    joined = np.hstack([own, other])
    joined = (joined - joined.mean(axis=0)) / joined.std(axis=0, ddof=1)
    ours = roc_auc_score(y, joined @ weights)
    pooled, alone = (area_of(x, y) for x in (joined, own))
    assert ours == pytest.approx(pooled, abs=0.0005)
    assert found["metrics"]["auc"] == pytest.approx(ours, abs=1e-6)
    assert pooled == pytest.approx(0.7242, abs=0.0005)
    assert alone == pytest.approx(0.6586, abs=0.0005)
    # 7.9 GB where every round of parcels is kept.
    assert kilobytes < 4_000_000


def played(folder: Path, texts: dict[str, str], columns: list[str]) -> tuple[Any, int]:
    """Play a scenario of three providers, of whom the last has nothing but a computer.

    Returns:
        the result, and the most memory that the process had, in KiB.
    """

    def change(scenario: Scenario) -> None:
        scenario["provider"] = [
            {"name": name, "file": f"{name}.csv", "price": 100} for name in texts
        ]
        scenario["terms"]["tasks"] = ["vertical"]
        scenario["prepare"] = {"match": MATCH}
        fit = {"name": "fit", "task": "vertical", "purpose": "tests", "columns": columns}
        scenario["job"] = [fit | {"label": "y", "scores": "label", "computes": "third"}]

    files = {f"{name}.csv": text for name, text in texts.items()}
    file = write_scenario(folder, change, files, providers=0)
    argv = argv_of("scenario", "run", file, "--out", folder / "out", "--json")
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(argv, stdout=said, env=environment())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    outcome = json.loads((folder / "said").read_text())
    return outcome["jobs"][0]["result"], usage.ru_maxrss


def credit(which: str, prefix: str) -> str:
    """A bank's table, its columns named apart from the other's."""
    file = CREDIT / f"default_credit_hetero_{which}.csv.gz"
    head, _, rest = gzip.decompress(file.read_bytes()).decode().partition("\n")
    names = [name if name in ("id", "y") else prefix + name for name in head.split(",")]
    return ",".join(names) + "\n" + rest


def numbers(text: str) -> Any:
    """The table's numbers in the order of its ids."""
    lines = text.split()[1:]
    values = np.array([[float(cell) for cell in line.split(",")] for line in lines])
    return values[values[:, 0].argsort()]


def area_of(x: Any, y: Any) -> float:
    """The AUC of scikit-learn's own fit, without a penalty."""
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", max_iter=200)
    return float(roc_auc_score(y, model.fit(x, y).decision_function(x)))
