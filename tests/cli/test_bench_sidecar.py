"""The sidecar's part of the bench says why it has no figure, or has one that is right."""

from pathlib import Path

import pytest

from bench import __main__ as harness
from bench import privacy_sidecar
from bench.environment import NoEnvironmentError
from federated.sidecar.intersection import Sidecar
from federated.sidecar.settings import SidecarSettings


def test_without_a_sidecar_there_is_no_figure_and_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RONGSHU_SIDECAR_FOLDER", str(tmp_path / "none"))
    (row,) = privacy_sidecar.rows()
    assert row.name == "intersection 1000000 sidecar"
    assert row.value is row.ratio is None
    assert "rongshu sidecar spu install" in str(row.details["not available"])


def test_it_is_a_part_and_no_bench_of_its_own():
    assert "privacy_sidecar" not in harness.find_benches()


@pytest.mark.slow
def test_with_a_sidecar_half_of_the_ids_are_found(monkeypatch: pytest.MonkeyPatch):
    if not Sidecar(SidecarSettings.load()).available():
        pytest.skip("no sidecar is installed where the settings say")

    def nowhere(_count: int) -> None:
        raise NoEnvironmentError("no index")

    monkeypatch.setattr(privacy_sidecar, "openmined", nowhere)
    (row,) = privacy_sidecar.rows(quick=True)
    assert row.details["shared"] == privacy_sidecar.QUICK_IDS // 2
    assert row.value is not None
    assert row.value > 0
    assert row.baseline is None
    assert row.details["not available"] == "openmined-psi: no index"
