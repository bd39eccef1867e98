"""`rongshu job score` and `rongshu job model`: files in, files out, and what is refused by line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from federated.node.table import ReadingSpec, read_table
from federated.tasks.scoring import FEATURE, INTERCEPT, WEIGHT
from ledger.terms import Terms
from marketplace.cli.arguments import ArgumentError
from marketplace.cli.scoring import read_rows, scores_text, write_model
from marketplace.client import Provider, Researcher, now_ms
from marketplace.embedded import Embedded
from marketplace.settings import Settings
from tests.cli.test_job_wait import PURPOSE
from tests.models import FEATURES, MODEL, ROWS, model_text
from tests.served import YEAR_MS, home, run_here, serving


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_columns_that_are_named_are_read_in_that_order(tmp_path: Path):
    file = written(tmp_path / "rows.csv", '\ufeffname,age,chol\n"A, B",50,2e2\nC, 61 ,-.5\n')
    names, rows = read_rows(file, ["chol", "age"])
    assert (names, rows.tolist()) == (("chol", "age"), [[200.0, 50.0], [-0.5, 61.0]])
    assert read_rows(written(tmp_path / "few.csv", "age\n1\n"), None)[0] == ("age",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("age,chol\n", "at least one row"),
        ("age,chol\n50,secret\n", "line 2, 'chol': a finite number"),
        ("age,chol\n50,1e999\n", "line 2, 'chol': a finite number"),
        ("age,chol\n50,1_0\n", "line 2, 'chol': a finite number"),
        ("age,chol\n50,nan\n", "line 2, 'chol': a finite number"),
        ("age,chol\n50,\n", "line 2, 'chol': a finite number"),
        ("age,chol\n50,1,2\n", "line 2: 3 cells instead of 2"),
        ("age,age,chol\n1,1,1\n", "'age' not exactly once"),
        ("age\n1\n", "'chol' not exactly once"),
        ('age,chol\n"1,1\n', "quotation mark"),
    ],
)
def test_rows_that_cannot_be_read_are_refused_without_a_cell(tmp_path: Path, text: str, says: str):
    with pytest.raises(ArgumentError, match=says) as caught:
        read_rows(written(tmp_path / "rows.csv", text), ["age", "chol"])
    assert "secret" not in str(caught.value)


def test_what_is_no_file_or_no_text_is_refused(tmp_path: Path):
    with pytest.raises(ArgumentError, match="No such file"):
        read_rows(tmp_path / "none.csv", None)
    (tmp_path / "rows.csv").write_bytes(b"age\n\xff\n")
    with pytest.raises(ArgumentError, match="not UTF-8"):
        read_rows(tmp_path / "rows.csv", None)


def test_a_model_is_written_as_a_node_reads_it_and_never_over_a_file(tmp_path: Path):
    path = tmp_path / "model.csv"
    found = {"coefficients_original": {"intercept": -1.5, "age": 0.1, "cp, 2": 1e-7}}
    assert write_model(path, found) == 2
    table = read_table(path.read_bytes(), ReadingSpec(), "model.csv")
    assert table.names == (FEATURE, WEIGHT)
    assert table.column(FEATURE).values.tolist() == [INTERCEPT, "age", "cp, 2"]
    assert table.column(WEIGHT).values.tolist() == [-1.5, 0.1, 1e-7]
    with pytest.raises(ArgumentError, match="File exists"):
        write_model(path, found)


def test_scores_are_a_column_that_reads_back():
    lines = scores_text({"rows": 2, "scores": [0.1, -2e-9]}, "predictor").splitlines()
    assert lines[0] == "predictor"
    assert [float(line) for line in lines[1:]] == [0.1, -2e-9]


# --- on a served market


@pytest.fixture(scope="module", name="lab")
def _lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The home of a researcher with an agreement on a model, in a market that is being served."""
    folder = tmp_path_factory.mktemp("models") / "market"
    terms = Terms(("scoring",), (PURPOSE,), ("*",), 9, now_ms() + YEAR_MS, True, 1)  # noqa: FBT003
    folder.mkdir()
    with Embedded(folder, Settings(folder=folder / "service")) as market:
        researcher = Researcher(market.enrol("Lab", "researcher"), market.http())
        provider = Provider(market.enrol("Maker", "provider"), market.http())
        file = written(folder.parent / "model.csv", model_text())
        asset = market.add_node(provider.home, file, {"header": True}).asset
        provider.offer(asset, terms, 12_00)
        (offer,) = researcher.call("GET", f"/offers?asset={asset}")
        negotiation = researcher.negotiate(offer, {"score": {"most_rows": 10}})
        provider.agree_by_rule()
        researcher.countersign(negotiation)
    with serving("--embedded", folder) as served:
        yield home(folder, "lab"), served.address


@pytest.mark.slow
def test_a_file_of_rows_becomes_a_column_of_scores(lab: tuple[Path, str], tmp_path: Path):
    place, _ = lab
    file = tmp_path / "patients.csv"
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["name", *FEATURES])
        writer.writerows([f"patient {at}", *row] for at, row in enumerate(ROWS[:10].tolist()))
    words = ("--home", place, "--rows", file, "--features", ",".join(FEATURES))
    more = ("--purpose", PURPOSE, "--name", "ward")
    told = run_here("job", "score", *words, *more, "--wait").splitlines()
    assert told[0] == "predictor"
    scores = np.array([float(line) for line in told[1:]])
    assert np.abs(scores - MODEL.predict(ROWS[:10])).max() < 1e-5
    assert '"verified": true' in run_here("job", "result", "--home", place, "ward", "--json")
    complaint = run_here("job", "model", "--home", place, "--out", tmp_path / "m", "ward", code=1)
    assert "a job of scoring has no model" in complaint


@pytest.mark.slow
def test_a_file_with_another_column_is_told_what_to_do(lab: tuple[Path, str], tmp_path: Path):
    place, _ = lab
    file = written(tmp_path / "patients.csv", "age,chol\n50,200\n")
    words = ("--home", place, "--rows", file, "--purpose", PURPOSE, "--name", "few")
    assert "4 coefficients" in run_here("job", "score", *words, code=1)
