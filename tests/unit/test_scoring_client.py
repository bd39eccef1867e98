"""The buyer's side of scoring: bounds, the key in its folder, what is refused before sending."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated.scoring_limits import MOST_ROWS
from ledger.encoding import sha256_text
from marketplace import scoring
from marketplace.scoring import KEY, ScoresError, bounds_of, seal
from privacy.ckks.encrypted import EncryptedColumns
from privacy.ckks.keys import PublicContext


@given(st.lists(st.floats(-1e90, 1e90), min_size=1, max_size=20))
def test_a_bound_is_the_smallest_power_of_two_that_no_value_exceeds(values: list[float]):
    (bound,) = bounds_of(np.array([values]).T)
    largest = max(abs(value) for value in values)
    assert np.frexp(bound)[0] == 0.5
    assert largest <= bound
    assert bound < 2 * largest or (bound == 1.0 and largest <= 1e-99)


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((0, 2)),
        np.zeros((2, 0)),
        np.zeros(3),
        np.array([[np.nan]]),
        np.array([[np.inf]]),
        np.array([[1e300]]),
    ],
)
def test_rows_without_bounds_are_refused(rows: np.ndarray):
    assert bounds_of(np.array([[0.0, 3.0]])) == (1.0, 4.0)
    with pytest.raises(ScoresError):
        bounds_of(rows)


def test_two_jobs_of_one_folder_are_under_one_key_and_of_two_folders_under_two(tmp_path: Path):
    rows = np.array([[1.0, 2.0]])
    made = []
    for name in ("lab", "lab", "ward"):
        (tmp_path / name).mkdir(exist_ok=True)
        made.append(seal(tmp_path / name, rows, ("age", "chol"), "predictor"))
    first, second, other = (each.parameters for each in made)
    assert first["context"] == second["context"] != other["context"]
    # Encrypted anew, so nobody sees that the rows are the same.
    assert first["columns"] != second["columns"]
    context, columns = made[0].inputs
    public = PublicContext.from_bytes(context, sha256=first["context"].partition(":")[2])
    read = EncryptedColumns.from_bytes(columns, sha256=sha256_text(columns).partition(":")[2])
    assert (read.key, read.rows, read.bounds) == (public.sha256, 1, (1.0, 2.0))


def test_a_key_that_is_damaged_is_not_replaced(tmp_path: Path):
    path = tmp_path / KEY
    path.touch(0o600)
    with pytest.raises(ScoresError, match="not an undamaged key"):
        seal(tmp_path, np.ones((1, 1)), ("age",), "predictor")
    assert path.read_bytes() == b""


def test_more_than_one_job_takes_is_refused_before_it_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = np.ones((2, 1))
    seal(tmp_path, rows, ("age",), "predictor")
    monkeypatch.setattr(scoring, "MOST_INPUT_BYTES", 1000)
    with pytest.raises(ScoresError, match="in several jobs"):
        seal(tmp_path, rows, ("age",), "predictor")
    monkeypatch.undo()
    with pytest.raises(Exception, match=f"1 to {MOST_ROWS}"):
        seal(tmp_path, np.ones((MOST_ROWS + 1, 1)), ("age",), "predictor")
