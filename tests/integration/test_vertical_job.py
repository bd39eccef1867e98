"""A regression over columns of several providers in a real market, past its operator."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ledger.encoding import canonical, sha256_text
from ledger.statements import Receipt
from marketplace.client import ClientError
from marketplace.gathering import gather
from marketplace.recompute import ResultError, read_exchanges, recompute
from privacy import sealed_box
from privacy.replicated.party import Party
from tests.joint import csv_text
from tests.searcher import Searcher, folder_bytes
from tests.stage import Play, open_stage, terms

GENERATOR = np.random.default_rng(5)
COUNT = 40
INCOME = np.round(GENERATOR.normal(31234.5, 4000, COUNT), 3)
VISITS = np.round(GENERATOR.normal(517.25, 60, COUNT), 3)
ILL = ((INCOME - 31234.5) / 4000 - (VISITS - 517.25) / 60 + GENERATOR.normal(size=COUNT) > 0) * 1
BANK = csv_text([{"id": f"p{at:04}", "income": INCOME[at].item()} for at in range(COUNT)])
CLINIC = csv_text(
    [
        {"id": f"p{at:04}", "visits": VISITS[at].item(), "ill": ILL[at].item()}
        for at in reversed(range(4, COUNT))
    ]
)
TABLES = {"bank": BANK, "clinic": CLINIC, "weather": csv_text([{"rain": at} for at in range(50)])}
COMMON = slice(4, COUNT)
MATCH = {"columns": {"id": []}, "minimum_size": 10, "minimum_intersection": 10, "monthly": 999}
AGREED = terms(tasks=("vertical",), uses=999)
ASKED: dict[str, Any] = {
    "columns": ["income", "visits"],
    "label": "ill",
    "computes": "third",
    "steps": 3,
    "step": "1",
}


@pytest.fixture(scope="module", name="play")
def _play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    folder = tmp_path_factory.mktemp("columns")
    with open_stage(folder, TABLES, preparation={"match": MATCH}, agreed=AGREED) as play:
        for node in play.nodes:
            node._limits = replace(node._limits, unfinished=999)
        yield play


def expected() -> Any:
    """What plain steps over the pooled columns come to: intercept, income, visits."""
    columns = np.column_stack([INCOME, VISITS])[COMMON]
    scaled = (columns - columns.mean(axis=0)) / columns.std(axis=0, ddof=1)
    x, weights = np.column_stack([np.ones(len(scaled)), scaled]), np.zeros(3)
    for _ in range(ASKED["steps"]):
        weights -= x.T @ (1 / (1 + np.exp(-x @ weights)) - ILL[COMMON]) / len(x)
    return weights


def test_the_researcher_gets_the_coefficients_and_checks_them(play: Play):
    job = play.run("vertical", **ASKED)
    found = play.researcher.result(job)
    weights = [found["intercept"], *found["coefficients"].values()]
    assert np.abs(np.array(weights) - expected()).max() < 2e-3
    assert (list(found["coefficients"]), found["rows"]) == (["income", "visits"], 36)
    name = f"{job.partition(':')[2]}.csv"
    folders = {seat.part.name: node._log._memory.parent for seat, node in _nodes(play)}
    lists = {party: folder / "results" / name for party, folder in folders.items()}
    lines = {party: path.read_text().splitlines() for party, path in lists.items() if path.exists()}
    assert {party: len(each) for party, each in lines.items()} == {"bank": 37, "clinic": 37}
    ids = [{line.partition(",")[2] for line in each[1:]} for each in lines.values()]
    assert ids[0] == ids[1] == {f"p{at:04}" for at in range(4, COUNT)}


def _nodes(play: Play) -> Any:
    return zip(play.seats, play.nodes, strict=True)


def test_every_round_of_each_node_is_receipted(play: Play):
    job = play.run("vertical", **ASKED)
    history = play.market.app.state.context.log.history
    receipts = [each.statement for each in history.completed[job]]
    rounds = {len(each.contributions) for each in receipts if isinstance(each, Receipt)}
    assert len(receipts) == 3
    assert len(rounds) == 1
    assert 60 < rounds.pop() < 100
    # Of the node that only computes no row took part, though it has a file of its own.
    used = {each.asset: each.rows for each in receipts if isinstance(each, Receipt)}
    by_name = {seat.part.name: used[seat.asset] for seat in play.seats}
    assert by_name == {"bank": 40, "clinic": 36, "weather": 0}


def test_an_operator_who_changes_a_coefficient_is_noticed(play: Play):
    job = play.run("vertical", **ASKED)
    true = play.researcher.result(job)
    false = true | {"coefficients": true["coefficients"] | {"income": 0.0}}
    exchanges = play.researcher.call("GET", f"/jobs/{job}/contributions")
    _, evidence = gather(play.researcher.call, play.researcher.log, job)
    evidence = replace(evidence, exchanges=read_exchanges(exchanges, []))

    def recomputed(released: Any) -> Any:
        # A release that fits the document, as the operator would sign it.
        release = replace(evidence.release, result=sha256_text(canonical(released)))
        return recompute(replace(evidence, release=release), released, None)

    assert recomputed(true) == true
    with pytest.raises(ResultError, match="not that of the contributions"):
        recomputed(false)


def test_a_job_that_the_cards_refute_is_not_taken(play: Play):
    with pytest.raises(ClientError, match="no owner has a column 'weight'"):
        play.job("vertical", parameters=ASKED | {"label": "weight"})


@pytest.mark.slow
def test_nothing_of_a_cell_crosses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    caplog.set_level(logging.DEBUG)
    assert overheard(tmp_path / "sealed", caplog) == set()
    # Not even where parcels are only packed up: shares are no cells.
    monkeypatch.setattr(sealed_box, "seal", lambda _n, plain, *_: plain)
    monkeypatch.setattr(sealed_box, "open_", lambda _n, box, *_: box)
    assert overheard(tmp_path / "open", caplog) == set()
    # The twin: packed up, and without the streams that hide.
    monkeypatch.setattr(Party, "noise", lambda _s, _at, words: np.zeros(words, dtype=np.uint64))
    assert overheard(tmp_path / "bare", caplog) != set()


def overheard(folder: Path, caplog: pytest.LogCaptureFixture) -> set[str]:
    """What of any cell stands in messages, requests, logs or the operator's files."""
    folder.mkdir()
    searcher = Searcher()
    with open_stage(folder, TABLES, preparation={"match": MATCH}, agreed=AGREED) as play:
        job = play.run("vertical", **ASKED)
        assert play.researcher.result(job)["rows"] == 36
        for column in (INCOME, VISITS):
            common = column[COMMON]
            scaled = (common - common.mean()) / common.std(ddof=1)
            for cell in column:
                # Cells have few digits: as float32 they could be met by chance.
                searcher.seek_number(cell.item(), short=False)
            for cell in scaled:
                element = round(cell.item() * 2**24)
                searcher._binary(element.to_bytes(16, "little", signed=True), f"{cell} shared")
    said = [data for _, _, data in play.crossed] + [data for _, data in play.spoken]
    said += [record.getMessage().encode() for record in caplog.records]
    return searcher.found(said + folder_bytes(folder / "market" / "service"))
