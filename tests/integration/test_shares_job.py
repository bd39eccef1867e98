"""Numbers compared in a real market: nodes hold shares, an operator carries them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from federated.messages import RelayReply
from ledger.encoding import b64decode, b64encode, canonical, sha256_text
from ledger.statements import Receipt
from marketplace.gathering import gather
from marketplace.recompute import ResultError, read_exchanges, recompute
from privacy import sealed_box
from privacy.mpc.party import Party
from tests.joint import csv_text
from tests.searcher import Searcher, folder_bytes
from tests.stage import Play, open_stage, terms

pytestmark = pytest.mark.slow

# Each table's bid is its sum: the data card's power of two is that of the second row.
BIDS = {"north": 73_915_004_211, "south": 81_204_774_530, "east": 68_370_112_967}
HIDDEN = 1 << 40
TABLES = {
    name: csv_text([{"cents": bid + HIDDEN, "other": 1}, {"cents": -HIDDEN, "other": 2}])
    for name, bid in BIDS.items()
} | {"west": csv_text([{"other": 7}, {"other": 8}])}
AGREED = terms(tasks=("order_statistic", "auction"), uses=999)
SECOND = {"column": "cents", "computing_only": [4]}


@pytest.fixture(scope="module", name="play")
def _play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    with open_stage(tmp_path_factory.mktemp("shares"), TABLES, agreed=AGREED) as play:
        for node in play.nodes:
            node._limits = replace(node._limits, unfinished=999)
        yield play


def test_the_researcher_gets_a_price_and_recomputes_it(play: Play):
    job = play.run("auction", **SECOND)
    found = play.researcher.result(job)
    assert found["winner"]["asset"] == play.seats[1].asset
    assert found["price"] == BIDS["north"]
    history = play.market.app.state.context.log.history
    receipts = [each.statement for each in history.completed[job]]
    rounds = {len(each.contributions) for each in receipts if isinstance(each, Receipt)}
    assert (len(receipts), rounds) == (4, {found["rounds"] + 1})


def test_a_median_and_a_comparison_are_those_of_plain_numbers(play: Play):
    job = play.run("order_statistic", statistic="median", **SECOND)
    assert play.researcher.result(job)["value"] == BIDS["north"]
    job = play.run("order_statistic", statistic="comparison", column="cents", computing_only=[2, 4])
    assert play.researcher.result(job)["more"]["asset"] == play.seats[0].asset


def test_an_operator_who_changes_the_price_is_noticed(play: Play):
    job = play.run("auction", **SECOND)
    exchanges = play.researcher.call("GET", f"/jobs/{job}/contributions")
    true = play.researcher.result(job)
    assert recomputed(play, job, true, exchanges) == true
    false = true | {"price": true["price"] - 1}
    with pytest.raises(ResultError, match="not that of the contributions"):
        recomputed(play, job, false, exchanges)
    last = max(item["round"] for item in exchanges)
    for item in exchanges:
        reply = RelayReply.from_bytes(b64decode(item["reply"]))
        if item["round"] == last:
            report = canonical({"opened": ["1", str(false["price"])], "numbers": 3, "rounds": 15})
            item["reply"] = b64encode(replace(reply, report=report).to_bytes())
    with pytest.raises(ResultError, match=f"round {last} differs from what a node receipted"):
        recomputed(play, job, false, exchanges)


def recomputed(play: Play, job: str, released: Any, exchanges: Any) -> Any:
    """What the buyer's client says to these, with a release that fits the document."""
    _, evidence = gather(play.researcher.call, play.researcher.log, job)
    evidence = replace(evidence, exchanges=read_exchanges(exchanges, []))
    release = replace(evidence.release, result=sha256_text(canonical(released)))
    return recompute(replace(evidence, release=release), released, None)


def test_a_process_that_dies_ends_the_job_and_names_its_node(
    play: Play, monkeypatch: pytest.MonkeyPatch
):
    hear, parties = Party.hear, set()

    def dying(self: Party, parcels: Any) -> Any:
        parties.add(self)
        if self._index == 2 and self._silent == 0 and self.outcome is None:
            self._child._process.kill()
        return hear(self, parcels)

    monkeypatch.setattr(Party, "hear", dying)
    job = play.job("auction", parameters=SECOND)
    play.market.decide()
    view = play.stage.wait(job)
    assert (view["state"], view["error"]["reason"]) == ("failed", "child_died")
    assert f"({play.seats[2].asset[:18]}): child_died" in view["error"]["message"]
    history = play.market.app.state.context.log.history
    states = {
        logged.statement.state
        for logged in history.by_id.values()
        if logged.statement.kind == "receipt" and logged.statement.job == job
    }
    assert "completed" not in states
    # Nobody's process outlives the job.
    assert len(parties) == 4
    assert all(party._child._process.poll() is not None for party in parties)
    # The twin: with processes that live, the next job goes through.
    monkeypatch.setattr(Party, "hear", hear)
    assert play.researcher.result(play.run("auction", **SECOND))["price"] == BIDS["north"]


def test_no_bid_but_the_price_leaves_a_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    caplog.set_level(logging.DEBUG)
    assert overheard(tmp_path / "sealed", caplog) == set()
    # The first twin: parcels are only packed up. Shares alone say nothing either.
    monkeypatch.setattr(sealed_box, "seal", lambda _n, plain, *_: b"=" + plain)
    monkeypatch.setattr(sealed_box, "open_", lambda _n, box, *_: box[1:])
    assert overheard(tmp_path / "open", caplog) == set()
    # The second: each share is the number itself.
    monkeypatch.setattr("privacy.mpc.party.PROGRAM", "tests.shares:serve_without_sharing")
    found = overheard(tmp_path / "unshared", caplog)
    assert {f"{BIDS[name]} little-endian" for name in ("south", "east")} <= found


def overheard(folder: Path, caplog: pytest.LogCaptureFixture) -> set[str]:
    """Which bids but the second highest stand in anything that was sent, logged or stored."""
    folder.mkdir()
    searcher = Searcher()
    for name in ("south", "east"):
        searcher.seek_integer(BIDS[name])
    with open_stage(folder, TABLES, agreed=AGREED) as play:
        job = play.run("auction", **SECOND)
        assert play.researcher.result(job)["price"] == BIDS["north"]
    said = [data for _, _, data in play.crossed] + [data for _, data in play.spoken]
    said += [record.getMessage().encode() for record in caplog.records]
    return searcher.found(said + folder_bytes(folder / "market" / "service"))
