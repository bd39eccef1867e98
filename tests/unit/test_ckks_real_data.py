"""Scoring with models fitted to real data: breast cancer here, credit default where it is."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LinearRegression, LogisticRegression

from privacy.ckks.batches import Packing
from privacy.ckks.model import LinearModel, Link
from privacy.ckks.parameters import LINEAR
from tests.ckks_pair import pair

CREDIT = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "default_credit"


def standardised(rows: np.ndarray) -> np.ndarray:
    return (rows - rows.mean(axis=0)) / rows.std(axis=0)


def bounds_of(rows: np.ndarray) -> tuple[float, ...]:
    """A power of two for each column, as a data card declares."""
    return tuple((2.0 ** np.ceil(np.log2(np.abs(rows).max(axis=0)))).tolist())


def model_of(fitted: LogisticRegression | LinearRegression, link: Link) -> LinearModel:
    weights = np.ravel(fitted.coef_).tolist()
    return LinearModel(tuple(weights), float(np.ravel(fitted.intercept_)[0]), link)


def credit(name: str) -> tuple[np.ndarray, np.ndarray]:
    path = CREDIT / f"default_credit_homo_{name}.csv.gz"
    if not path.exists():
        pytest.skip("the data set of credit defaults is not part of the repository")
    with gzip.open(path, "rt") as file:
        lines = list(csv.DictReader(file))
    names = [f"x{at}" for at in range(23)]
    rows = np.array([[float(line[one]) for one in names] for line in lines])
    return rows, np.array([int(float(line["y"])) for line in lines])


def test_breast_cancer_is_scored_as_in_the_clear():
    data, labels = load_breast_cancer(return_X_y=True)
    rows = standardised(data)
    fitted = LogisticRegression(max_iter=1000).fit(rows, labels)
    with pair(LINEAR) as both:
        columns = both.owner.encrypt(rows, bounds_of(rows))
        scores = both.scorer.score(model_of(fitted, Link.LOGISTIC), columns)
        raw = both.owner.decrypt_scores(scores)
        size = LinearRegression().fit(rows[:, 1:], data[:, 0])
        columns = both.owner.encrypt(np.ascontiguousarray(rows[:, 1:]), bounds_of(rows[:, 1:]))
        linear = both.owner.decrypt_scores(
            both.scorer.score(model_of(size, Link.IDENTITY), columns)
        )
    plain = fitted.predict_proba(rows)[:, 1]
    assert np.abs(raw.probabilities() - plain).max() < 1e-5
    assert ((raw.values > 0) == fitted.predict(rows)).all()
    assert np.abs(linear.values - size.predict(rows[:, 1:])).max() < 1e-4


@pytest.mark.slow
def test_credit_defaults_are_scored_as_in_the_clear():
    rows, labels = credit("guest")
    fitted = LogisticRegression(max_iter=1000).fit(rows, labels)
    fresh, _ = credit("test")
    with pair(LINEAR) as both:
        columns = both.owner.encrypt(fresh, bounds_of(fresh), Packing.PAIRED)
        scores = both.scorer.score(model_of(fitted, Link.LOGISTIC), columns)
        raw = both.owner.decrypt_scores(scores)
    assert raw.values.shape == (6000,)
    assert np.abs(raw.probabilities() - fitted.predict_proba(fresh)[:, 1]).max() < 1e-5
