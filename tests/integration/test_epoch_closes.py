"""Closes of epochs: which the market takes, and nodes that were away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from federated.errors import JournalCutError
from federated.messages import Failure
from federated.node.service import HttpService
from ledger.reconcile import reconcile
from ledger.statements import Counts, Epoch, JournalSpan
from marketplace.epochs import service
from tests.epochs import close_of, closes, context_of, fill, history_of, home_of, stage
from tests.stage import Play


@pytest.fixture(name="play")
def _play(tmp_path: Path) -> Iterator[Play]:
    with stage(tmp_path) as play:
        yield play


@pytest.fixture(scope="module", name="shared")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """A market to which each test adds epochs of its own."""
    with stage(tmp_path_factory.mktemp("shared")) as play:
        yield play


# --- the market's own check of a close


def hand_in(play: Play, statement: Epoch, at: int = 0, by: int = 0) -> Any:
    """Hand in a close, signed by node `at`, with the credentials of node `by`."""
    http = play.market.http()
    http.headers["Authorization"] = f"Bearer {home_of(play, by).api_key()}"
    envelope = json.loads(statement.sign(home_of(play, at).node_key()))
    return http.post("/v1/closes", json={"statement": envelope})


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "other uses than the log": ({"uses": 99}, "wrong_uses"),
    "an epoch long past": ({"number": 0, "start": 0, "stop": 12}, "close_gap"),
    "other entries": ({"stop": 1 << 20}, "wrong_span"),
    "lines left out": ({"journal": JournalSpan(99, 99, "sha256:" + 64 * "0")}, "journal_gap"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_close_that_breaks_a_rule_is_not_taken(shared: Play, what: str):
    # Whichever test came before: the node has closed an epoch, and one more ends.
    fill(shared)
    assert hand_in(shared, close_of(shared)).status_code == 201
    fill(shared)
    changes, code = WRONG[what]
    size, before = history_of(shared).size, closes(shared, 0)
    answer = hand_in(shared, close_of(shared, **changes))
    assert (answer.status_code, answer.json()["code"]) == (409, code)
    assert closes(shared, 0) == before
    # The twin.
    answer = hand_in(shared, close_of(shared))
    assert answer.status_code == 201, answer.text
    assert answer.json()["index"] >= size


def test_a_close_belongs_to_the_provider_of_its_asset(shared: Play):
    fill(shared)
    answer = hand_in(shared, close_of(shared), by=1)
    assert (answer.status_code, answer.json()["code"]) == (403, "not_author")
    assert hand_in(shared, close_of(shared)).status_code == 201


def test_the_same_close_is_taken_once_and_another_one_not(shared: Play):
    fill(shared)
    statement = close_of(shared)
    first = hand_in(shared, statement)
    assert hand_in(shared, statement).json() == first.json()
    # Raced past the rules, the table still decides.
    context = context_of(shared)
    other = replace(statement, issued=statement.issued + 1)
    envelope = other.sign(home_of(shared, 0).node_key())
    from ledger.statements import read
    from marketplace.context import Verified
    from marketplace.errors import ConflictError
    from marketplace.participants.access import Caller

    caller = Caller(shared.seats[0].home.participant(), "basel", frozenset({"node"}))
    verified = Verified(read(envelope).id, other, envelope)
    with pytest.raises(ConflictError, match="other words"), context.writing() as session:
        service.close(session, context, caller, verified)


def test_a_node_that_counts_wrongly_is_found_by_its_receipts(play: Play):
    play.run("statistics", columns=["chol"])
    fill(play)
    lie = close_of(play, counts=Counts(0, 0, 0, 0))
    assert hand_in(play, lie).status_code == 201
    fill(play, 2)
    found = {finding.code for finding in reconcile(history_of(play)).findings}
    assert "uncounted_receipt" in found


# --- being away, and coming back


def test_a_node_that_was_away_closes_several_epochs_in_a_row(shared: Play):
    fill(shared, 3)
    node = shared.reopened(1)
    assert node.keep_books() >= 3
    # Its own closes, and indexes that the service adds meanwhile, may end further ones.
    assert any(node.keep_books() == 0 for _ in range(10))
    assert [close.number for close in closes(shared, 1)] == list(range(len(closes(shared, 1))))
    shared.market._open(home_of(shared, 1))


def test_a_market_closes_what_ended_while_it_was_away(tmp_path: Path):
    with stage(tmp_path) as play:
        fill(play, 2)
        assert history_of(play).closes == {}
        settings, clock = context_of(play).settings, play.clock
    from marketplace.embedded import Embedded

    with Embedded(tmp_path / "market", settings, clock) as market:
        history = market.app.state.context.log.history
        assert {len(found) >= 2 for found in history.closes.values()} == {True}
        assert len(history.closes) == 2


def test_a_node_whose_journal_was_cut_refuses_all_and_says_why(
    play: Play, caplog: pytest.LogCaptureFixture
):
    play.run("statistics", columns=["chol"])
    node = play.nodes[0]
    node._journal.close()
    (home_of(play, 0).folder / "journal.db").unlink()
    node = play.market._open(home_of(play, 0))
    size = history_of(play).size
    with pytest.raises(JournalCutError, match=r"Put the newest journal\.db back"):
        node.keep_books()
    job = play.job()
    with pytest.raises(JournalCutError):
        node.approve(job)
    with pytest.raises(JournalCutError):
        node.reject(job, "purpose_not_allowed")
    reply = play.ask(0, play.keys_request(job))
    assert reply == Failure(job, node.asset, "internal")
    # Nothing was signed over what is left.
    assert node._journal.lines() == []
    assert history_of(play).size == size + 1
    assert "cut, changed or restored" in caplog.text


def test_a_job_that_nobody_goes_on_with_ends_at_its_nodes(play: Play):
    job = play.job()
    grants = play.grant_all(job)
    asset = play.seats[0].asset
    play.ask(0, play.keys_request(job, grant=grants[asset]))
    node = play.nodes[0]
    node.keep_books()
    with node._journal.write() as book:
        assert book.is_reserved(job, asset)
    play.clock.advance(3_600_000)
    node.keep_books()
    with node._journal.write() as book:
        assert book.has_ended(job, asset)
    logged = history_of(play).receipts[history_of(play).by_id[asset].index][-1]
    assert (logged.statement.job, logged.statement.state) == (job, "failed")  # type: ignore[attr-defined]


def test_a_node_says_what_the_market_refused_for_good(shared: Play):
    from federated.errors import NotTakenError

    fill(shared)
    http = shared.market.http()
    http.headers["Authorization"] = f"Bearer {home_of(shared, 0).api_key()}"
    with pytest.raises(NotTakenError, match="409"):
        HttpService(http).submit(
            "epoch", close_of(shared, uses=7).sign(home_of(shared, 0).node_key())
        )
