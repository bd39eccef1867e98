"""Encrypted scoring in a real market: rows that no node sees, and a model that never leaves it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federated.messages import RelayReply
from federated.scoring_limits import MOST_ROWS
from ledger.encoding import b64decode, b64encode, canonical, sha256_text
from ledger.statements import Receipt
from marketplace.cli.scoring import write_model
from marketplace.client import ClientError
from marketplace.gathering import gather
from marketplace.recompute import ResultError, read_exchanges, recompute
from marketplace.scoring import KEY
from privacy.ckks.keys import SecretContext
from privacy.ckks.sigmoid import sigmoid
from tests.models import FEATURES, MODEL, ROWS, Desk, model_text, open_model
from tests.searcher import Searcher, folder_bytes
from tests.stage import LABEL, open_stage


@pytest.fixture(scope="module", name="desk")
def _desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_model(tmp_path_factory.mktemp("model")) as desk:
        yield desk


def receipts(desk: Desk, job: str) -> list[Receipt]:
    completed = desk.play.market.app.state.context.log.history.completed.get(job, [])
    return [each.statement for each in completed if isinstance(each.statement, Receipt)]


def test_scores_are_those_of_the_model_in_the_clear(desk: Desk):
    result = desk.buyer.result(desk.run())
    assert result["rows"] == len(ROWS)
    assert np.abs(np.array(result["scores"]) - MODEL.predict(ROWS)).max() < 1e-5


@pytest.mark.slow
def test_probabilities_are_the_exact_sigmoid_of_the_predictors(desk: Desk):
    result = desk.buyer.result(desk.run(answer="probability"))
    assert np.abs(np.array(result["scores"]) - sigmoid(MODEL.predict(ROWS))).max() < 1e-5


def test_the_receipt_counts_the_rows_that_were_scored(desk: Desk):
    assert [each.rows for each in receipts(desk, desk.run(ROWS[:7]))] == [7]


@pytest.mark.slow
def test_the_secret_key_is_for_its_owner_alone(desk: Desk):
    desk.run(ROWS[:1])
    path = desk.buyer.home.folder / KEY
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(Exception, match="only its owner can read"):
        desk.ask(ROWS[:1])
    path.chmod(0o600)


@pytest.mark.slow
def test_a_model_that_was_fitted_by_a_job_scores_as_it_is(tmp_path: Path):
    numbers = np.random.default_rng(3)
    tables = {}
    for name in ("north", "south", "west"):
        rows = np.column_stack([numbers.uniform(30, 80, 40), numbers.uniform(150, 350, 40)])
        risk = sigmoid((rows[:, 0] - 55) / 10 + (rows[:, 1] - 250) / 80)
        sick = (numbers.uniform(size=40) < risk).astype(int)
        lines = [
            f"{age!r},{chol!r},{ill}" for (age, chol), ill in zip(rows.tolist(), sick, strict=True)
        ]
        tables[name] = "\n".join(["age,chol,sick", *lines, ""])
    for name in ("fit", "sale"):
        (tmp_path / name).mkdir()
    with open_stage(tmp_path / "fit", tables, preparation={"label": LABEL}) as play:
        fitted = play.researcher.result(play.run("logistic", columns=["age", "chol"]))
    assert write_model(tmp_path / "model.csv", fitted) == 2
    rows = np.array([[41.0, 200.0], [66.5, 310.25]])
    with open_model(tmp_path / "sale", text=(tmp_path / "model.csv").read_text()) as desk:
        job = desk.run(rows, features=("age", "chol"), answer="probability")
        scores = desk.buyer.result(job)["scores"]
    found = fitted["coefficients_original"]
    expected = sigmoid(rows @ np.array([found["age"], found["chol"]]) + found["intercept"])
    assert np.abs(np.array(scores) - expected).max() < 1e-5


@pytest.mark.slow
def test_as_many_rows_as_a_job_may_have_are_scored(tmp_path: Path):
    """A report longer than 1 MiB was taken for none."""
    rows = np.tile(ROWS, (1 + MOST_ROWS // len(ROWS), 1))[:MOST_ROWS]
    with open_model(tmp_path, most_rows=MOST_ROWS) as desk:
        job = desk.run(rows)
        result = desk.buyer.result(job)
        assert [each.rows for each in receipts(desk, job)] == [MOST_ROWS]
    assert np.abs(np.array(result["scores"]) - MODEL.predict(rows)).max() < 1e-5


# --- what others see


def overheard(desk: Desk, said: list[bytes], service: Path) -> set[str]:
    searcher = Searcher()
    for row in ROWS[:8]:
        for cell in row[:3].tolist():
            searcher.seek_number(cell, short=False)
    for weight in MODEL.weights:
        searcher.seek_number(weight, short=False)
    secret = SecretContext.load(desk.buyer.home.folder / KEY).raw_secret
    for at in range(0, len(secret) - 32, 32):
        searcher._add(secret[at : at + 32], "the secret key")
    heard = [data for _, _, data in desk.play.crossed] + [data for _, data in desk.play.spoken]
    return searcher.found(said + heard + folder_bytes(service))


@pytest.mark.slow
def test_no_cell_no_weight_and_no_secret_key_reaches_anybody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    service = tmp_path / "market" / "service"
    with open_model(tmp_path) as desk:
        desk.buyer.result(desk.run())
        said = [record.getMessage().encode() for record in caplog.records]
        assert overheard(desk, said, service) == set()
        # The twin: what a careless client hands in, and what node and buyer keep to themselves.
        desk.buyer.hand_in(ROWS.tobytes())
        found = overheard(desk, [model_text().encode()], desk.buyer.home.folder)
        assert len([each for each in found if "as float64 little-endian" in each]) == 24
        assert any("0.0312" in each for each in found)
        assert "the secret key" in found


def test_what_was_handed_in_is_gone_when_the_job_has_ended(desk: Desk):
    counts = []
    job = desk.ask(ROWS[:3])
    for _ in range(2):
        with desk.play.market.app.state.context.reading() as session:
            counts.append(session.connection().exec_driver_sql("SELECT * FROM input").fetchall())
        desk.end(job)
    assert [len(each) for each in counts] == [2, 0]


# --- what a model's owner can count on


def recovered(rows: np.ndarray, scores: list[float]) -> np.ndarray:
    """What least squares makes of scores: weights, then the intercept."""
    design = np.column_stack([rows, np.ones(len(rows))])
    return np.linalg.lstsq(design, np.array(scores), rcond=None)[0]


TRUTH = np.array([*MODEL.weights, MODEL.intercept])


@pytest.mark.slow
def test_rows_times_uses_bound_what_a_buyer_learns_of_the_model(tmp_path: Path):
    rows = np.vstack([np.zeros(4), np.eye(4)])
    with open_model(tmp_path, most_rows=2, uses=2) as desk:
        scores = []
        for at in (0, 2):
            scores += desk.buyer.result(desk.run(rows[at : at + 2]))["scores"]
        with pytest.raises(ClientError) as caught:
            desk.ask(rows[4:])
        assert caught.value.code == "quota_used_up"
    # Four scores of five unknowns: what is left over is any number.
    assert np.abs(recovered(rows[:4], scores) - TRUTH).max() > 0.1


@pytest.mark.slow
def test_as_many_scores_as_coefficients_are_the_model(tmp_path: Path):
    rows = np.vstack([np.zeros(4), np.eye(4)])
    with open_model(tmp_path, most_rows=5, uses=1) as desk:
        scores = desk.buyer.result(desk.run(rows))["scores"]
    assert np.abs(recovered(rows, scores) - TRUTH).max() < 1e-4


# --- what the buyer can count on


def recomputed(desk: Desk, job: str, released: Any, exchanges: Any) -> Any:
    """What the buyer's client says to these, with a release that fits the document."""
    _, evidence = gather(desk.buyer.call, desk.buyer.log, job)
    evidence = replace(evidence, exchanges=read_exchanges(exchanges, []))
    release = replace(evidence.release, result=sha256_text(canonical(released)))
    return recompute(replace(evidence, release=release), released, None)


def test_an_operator_who_changes_scores_is_noticed(desk: Desk):
    job, other = desk.run(ROWS[:5]), desk.run(ROWS[5:10])
    released = desk.buyer.call("GET", f"/jobs/{job}/result")
    exchanges = desk.buyer.call("GET", f"/jobs/{job}/contributions")
    assert recomputed(desk, job, released, exchanges) == released
    # Scores of other rows under the same key, of another job of the same buyer.
    false = desk.buyer.call("GET", f"/jobs/{other}/result")
    with pytest.raises(ResultError, match="not that of the contributions"):
        recomputed(desk, job, false, exchanges)
    reply = RelayReply.from_bytes(b64decode(exchanges[0]["reply"]))
    exchanges[0]["reply"] = b64encode(replace(reply, report=canonical(false)).to_bytes())
    with pytest.raises(ResultError, match="round 1 differs from what a node receipted"):
        recomputed(desk, job, false, exchanges)


@pytest.mark.slow
def test_scores_open_with_the_key_of_the_job_alone(desk: Desk):
    job = desk.run(ROWS[:2])
    path = desk.buyer.home.folder / KEY
    kept = path.rename(path.with_suffix(".kept"))
    SecretContext.generate(SecretContext.load(kept).public.parameters).save(path)
    with pytest.raises(Exception, match="under another key"):
        desk.buyer.result(job)
    kept.replace(path)
    assert len(desk.buyer.result(job)["scores"]) == 2


@pytest.mark.slow
def test_the_features_go_by_name_and_not_by_place(desk: Desk):
    turned = desk.run(ROWS[:, ::-1].copy(), features=FEATURES[::-1])
    scores = np.array(desk.buyer.result(turned)["scores"])
    assert np.abs(scores - MODEL.predict(ROWS)).max() < 1e-5
