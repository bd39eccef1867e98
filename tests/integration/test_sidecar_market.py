"""An intersection of a real market through the sidecars of both nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from federated.node import home
from federated.tasks import intersection
from tests.integration.test_intersection_job import (
    AGREED,
    COMMON,
    MATCH,
    SIZES,
    TABLES,
    lists,
)
from tests.sidecars import ready_sidecar
from tests.stage import open_stage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with ready_sidecar(tmp_path_factory.mktemp("sidecar")) as ready:
        yield ready.settings.folder


@pytest.mark.parametrize("outcome", ["one", "both"])
def test_both_nodes_meet_through_their_sidecars(
    folder: Path, tmp_path: Path, outcome: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RONGSHU_SIDECAR_FOLDER", str(folder))
    monkeypatch.setattr(intersection, "FASTER_FROM", 2)
    met: list[Any] = []
    through = home.SidecarEnd.intersect
    monkeypatch.setattr(
        home.SidecarEnd,
        "intersect",
        lambda end, *args: (met.append(args[1]), through(end, *args))[1],
    )
    agreed = {"match": MATCH | {"sidecar": True}}
    with open_stage(tmp_path, TABLES, preparation=agreed, agreed=AGREED) as play:
        job = play.run("intersection", outcome=outcome)
        assert play.researcher.result(job) == {"size": COMMON, "sizes": SIZES}
        north, south = lists(play, job)
        assert len(north.read_text().splitlines()) == COMMON + 1
        assert south.exists() == (outcome == "both")
    assert sorted(met) == [0, 1]


def test_without_a_sidecar_at_one_node_they_do_it_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RONGSHU_SIDECAR_FOLDER", str(tmp_path / "none"))
    monkeypatch.setattr(intersection, "FASTER_FROM", 2)
    agreed = {"match": MATCH | {"sidecar": True}}
    with open_stage(tmp_path, TABLES, preparation=agreed, agreed=AGREED) as play:
        job = play.run("intersection", outcome="one")
        assert play.researcher.result(job)["size"] == COMMON
