import pytest

from bench import privacy_mpc as bench


@pytest.mark.slow
def test_both_computations_are_measured_beside_plain_python():
    rows = {row.name: row for row in bench.rows(quick=True)}
    assert set(rows) == {"mpc maximum of 4 parties", "mpc median of 9 values"}
    for row in rows.values():
        assert row.value
        assert row.baseline
        assert row.value < row.baseline
        assert 8 < float(row.details["rounds"]) < 25
        assert float(row.details["bytes sent by all"]) > 1000


@pytest.mark.slow
def test_a_wrong_outcome_is_no_figure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench, "together", lambda *_: bench.Measured([1], 1.0, 1.0, 1, 1))
    with pytest.raises(bench.BenchError, match="not that of plain numbers"):
        bench.rows(quick=True)
