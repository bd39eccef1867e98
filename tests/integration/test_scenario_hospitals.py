"""The demo against the same figures computed without any of our code: numpy and scikit-learn.

The protocol is FLamby's Fed-Heart-Disease (owkin/FLamby), as the scenario file repeats it.
"""

import json
import shlex
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from ledger.audit import command as audit
from ledger.cli import run_command
from tests.scenarios import SCENARIO

HOSPITALS = Path(__file__).parents[2] / "examples" / "hospitals"
COLUMNS = (
    *("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg"),
    *("thalach", "exang", "oldpeak", "slope", "ca", "thal", "num"),
)
FEATURES = (
    *("age", "sex", "cp_2", "cp_3", "cp_4", "trestbps", "chol", "fbs"),
    *("restecg_1", "restecg_2", "thalach", "exang", "oldpeak"),
)
Floats = npt.NDArray[np.float64]


class Pooled(NamedTuple):
    train: Floats
    train_labels: Floats
    test: Floats
    test_labels: Floats


def raw(name: str) -> Floats:
    return np.genfromtxt(HOSPITALS / f"processed.{name}.data", delimiter=",", missing_values="?")


def features_of(rows: Floats) -> Floats:
    by_name = dict(zip(COLUMNS, rows.T, strict=True))
    by_name |= {f"cp_{level}": by_name["cp"] == level for level in (2, 3, 4)}
    by_name |= {f"restecg_{level}": by_name["restecg"] == level for level in (1, 2)}
    return np.column_stack([by_name[name].astype(np.float64) for name in FEATURES])


def pooled() -> Pooled:
    parts: list[list[Floats]] = [[], [], [], []]
    for name in ("cleveland", "hungarian", "switzerland", "va"):
        rows = raw(name)
        rows = rows[~np.isnan(rows[:, [*range(10), 13]]).any(axis=1)]
        labels = (rows[:, 13] > 0).astype(np.float64)
        stratify = labels if np.bincount(labels.astype(int), minlength=2).min() > 2 else None
        train, test = train_test_split(
            np.arange(len(rows)),
            test_size=1 - 0.66,
            train_size=0.66,
            random_state=43,
            shuffle=True,
            stratify=stratify,
        )
        features = features_of(rows)
        for at, part in enumerate((features[train], labels[train], features[test], labels[test])):
            parts[at].append(part)
    return Pooled(*(np.concatenate(part) for part in parts))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Play the demo once, with --json."""
    out = tmp_path_factory.mktemp("demo") / "out"
    text = StringIO()
    with redirect_stdout(text):
        arguments = ["run", str(HOSPITALS / "scenario.toml"), "--out", str(out), "--json"]
        code = run_command(SCENARIO, arguments)
    found = json.loads(text.getvalue())
    assert code == 0, found
    return found


def result_of(demo: dict[str, Any], name: str) -> dict[str, Any]:
    (job,) = [job for job in demo["jobs"] if job["name"] == name]
    assert job["state"] == "released"
    found = job["result"]
    assert isinstance(found, dict)
    return found


def test_everything_held(demo: dict[str, Any]):
    assert demo["held"] is True
    assert len(demo["refusals"]) == 8
    assert len({each["reason"] for each in demo["refusals"]}) == 8
    assert all(each["held"] for each in demo["refusals"])


@pytest.mark.parametrize(
    ("name", "penalty", "right"),
    [("risk model", 1.0, 202), ("risk model without ridge", np.inf, 201)],
)
def test_the_regression_is_the_pooled_one(
    demo: dict[str, Any], name: str, penalty: float, right: int
):
    data, found = pooled(), result_of(demo, name)
    assert (len(data.train), len(data.test)) == (486, 254)
    mean, sd = data.train.mean(axis=0), data.train.std(axis=0, ddof=1)
    with warnings.catch_warnings():
        # scikit-learn asks newer code to write "no penalty" in another way.
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=penalty, solver="newton-cholesky", tol=1e-12)
        model.fit((data.train - mean) / sd, data.train_labels)
    assert tuple(found["coefficients"]) == FEATURES
    ours = np.array([found["coefficients"][name] for name in FEATURES])
    assert np.abs(ours - model.coef_[0]).max() < 1e-6
    assert abs(found["intercept"] - model.intercept_[0]) < 1e-6
    assert found["rows"] == 486
    scaling = np.array([[found["scaling"][f][key] for key in ("mean", "sd")] for f in FEATURES])
    np.testing.assert_allclose(scaling, np.column_stack([mean, sd]), rtol=1e-12, atol=1e-12)

    # Predictions by hand, from the coefficients in the columns' own units.
    original = found["coefficients_original"]
    eta = original["intercept"] + data.test @ np.array([original[name] for name in FEATURES])
    np.testing.assert_array_equal(eta > 0, model.predict((data.test - mean) / sd) > 0)
    assert int(((eta > 0) == (data.test_labels > 0)).sum()) == right
    assert (found["metrics"]["correct"], found["metrics"]["rows"]) == (right, 254)


def test_statistics_are_those_of_the_raw_files(demo: dict[str, Any]):
    rows = np.concatenate([raw(name) for name in ("cleveland", "hungarian", "switzerland", "va")])
    for column, found in result_of(demo, "overview").items():
        values = rows[:, COLUMNS.index(column)]
        present = values[~np.isnan(values)]
        assert (found["count"], found["missing"]) == (len(present), len(values) - len(present))
        assert found["mean"] == pytest.approx(present.mean(), rel=1e-12)
        assert found["variance"] == pytest.approx(present.var(ddof=1), rel=1e-12)


def test_encrypted_sums_are_the_plain_sums(demo: dict[str, Any]):
    rows = np.concatenate([raw(name) for name in ("cleveland", "hungarian", "switzerland", "va")])
    sums = {name: np.nansum(rows[:, COLUMNS.index(name)]) for name in ("age", "sex", "oldpeak")}
    found = result_of(demo, "encrypted totals")["sums"]
    assert (found["age"], found["sex"]) == (int(sums["age"]), int(sums["sex"]))
    assert type(found["age"]) is int
    assert found["oldpeak"] == pytest.approx(sums["oldpeak"], abs=1e-6)


def test_the_export_is_sound_by_the_key_of_the_page_alone(
    demo: dict[str, Any], capsys: pytest.CaptureFixture[str]
):
    ledger = demo["ledger"]
    assert audit(["verify", ledger["export"], "--key", ledger["vkey"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert audit(["verify", ledger["export"]]) == 3
    assert shlex.quote(ledger["vkey"]) == ledger["vkey"]
