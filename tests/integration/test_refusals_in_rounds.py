"""What a node must refuse once a job has begun, and at its end; see `test_refusals.py`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from federated.messages import Failure, FinishReply, KeysReply, Refusal
from federated.node import granting
from federated.peers import PublicMaskKey, Use
from ledger.client import LogClient
from ledger.keys import SigningKey
from ledger.statements import Receipt, read
from privacy.masking import MaskKey
from tests.stage import Play, word
from tests.talk import (
    Conversation,
    ask_keys,
    begun,
    lenient_stage,
    no_data_opened,
    refused,
    shared_stage,
)


@pytest.fixture(scope="module", name="play")
def _play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """One stage for all tests that leave agreements, parties and clock as they are."""
    with shared_stage(tmp_path_factory.mktemp("shared")) as play:
        yield play


@pytest.fixture(name="fresh")
def _fresh(tmp_path: Path) -> Iterator[Play]:
    """A stage of one's own, to be spoilt."""
    with lenient_stage(tmp_path) as play:
        yield play


# --- during the rounds


def test_a_revocation_between_rounds_stops_the_job(play: Play):
    talk = begun(play)
    talk.round()
    play.seats[0].client.revoke(talk.grants[play.seats[0].asset], "stop")
    request = talk.request(talk.question("spread", {"mean": [210.0]}))
    with no_data_opened(play):
        reply = play.ask(0, request)
    assert word(reply) == "revoked"
    # What was sent before stands in the account: a refusal would say that nothing was.
    receipt = play.receipt(0, reply)
    assert (receipt.state, receipt.reason) == ("failed", "cancelled")
    assert [item.round for item in receipt.contributions] == [1]


def test_a_revocation_that_the_checkpoint_beside_a_question_covers_stops_the_job(fresh: Play):
    talk = begun(fresh)
    talk.round()
    fresh.seats[0].client.revoke(talk.grants[fresh.seats[0].asset], "stop")
    handed = fresh.market.app.state.context.log.checkpoint()
    request = talk.request(talk.question("spread", {"mean": [210.0]}))
    with no_data_opened(fresh):
        assert word(fresh.ask(0, request, handed)) == "revoked"


def test_an_older_checkpoint_beside_a_question_hides_nothing_that_the_node_knows(fresh: Play):
    talk = begun(fresh)
    talk.round()
    handed = fresh.market.app.state.context.log.checkpoint()
    fresh.seats[0].client.revoke(talk.grants[fresh.seats[0].asset], "stop")
    fresh.nodes[0].keep_books()
    request = talk.request(talk.question("spread", {"mean": [210.0]}))
    with no_data_opened(fresh):
        assert word(fresh.ask(0, request, handed)) == "revoked"


def test_a_question_with_its_checkpoint_asks_nothing_of_the_log(
    fresh: Play, monkeypatch: pytest.MonkeyPatch
):
    talk = begun(fresh)
    handed = fresh.market.app.state.context.log.checkpoint()
    asked: list[str] = []
    reading = LogClient._get

    def counted(client: LogClient, path: str) -> bytes:
        asked.append(path)
        return reading(client, path)

    monkeypatch.setattr(LogClient, "_get", counted)
    fresh.tell(0, talk.request(), handed)
    assert asked == []
    # The twin: without it the node asks for itself.
    fresh.tell(1, talk.request())
    assert asked == ["/v1/log/checkpoint"]


@pytest.mark.parametrize("handed", [b"", b"no note", b"log\n1\nAAAA\n\n"])
def test_what_is_no_checkpoint_of_the_log_is_no_ground_to_compute(fresh: Play, handed: bytes):
    talk = begun(fresh)
    with no_data_opened(fresh):
        reply = fresh.ask(0, talk.request(), handed)
    assert isinstance(reply, Refusal)
    assert fresh.receipt(0, reply).reason == reply.reason


@pytest.mark.parametrize("handed", [b"", b"no note", b"log\n1\nAAAA\n\n"])
def test_nor_is_it_ground_to_reserve_a_use(fresh: Play, handed: bytes):
    job = fresh.job()
    request = fresh.keys_request(job, grant=fresh.grant_all(job)[fresh.seats[0].asset])
    with no_data_opened(fresh):
        reply = fresh.ask(0, request, handed)
    assert isinstance(reply, Refusal)
    assert fresh.receipt(0, reply).reason == reply.reason
    # The twin: the same request with the log's own.
    honest = fresh.market.app.state.context.log.checkpoint()
    second = fresh.job()
    granted = fresh.grant_all(second)[fresh.seats[0].asset]
    assert isinstance(fresh.ask(0, fresh.keys_request(second, grant=granted), honest), KeysReply)


def substituted(talk: Conversation, at: int, key: SigningKey) -> dict[str, bytes]:
    """The mask keys of a round with one made by the operator."""
    asset = talk.assets[at]
    use = Use(talk.job, talk.attempt, talk.number, tuple(sorted(talk.assets)))
    made = PublicMaskKey(asset, use, MaskKey.generate().public, MaskKey.generate().public)
    return {**talk.keys, asset: made.sign(key)}


@pytest.mark.parametrize("victim", [1, 0], ids=["a peer's", "its own"])
@pytest.mark.parametrize("step", ["shares", "question"])
def test_a_mask_key_that_the_operator_made_is_refused(play: Play, victim: int, step: str):
    job = play.job()
    talk = Conversation(play, job, play.grant_all(job)).exchange_keys()
    keys = substituted(talk, victim, SigningKey.generate("operator"))
    request: Any = talk.shares_request(mask_keys=keys)
    if step == "question":
        request = talk.deal().request(mask_keys=keys)
    with no_data_opened(play):
        refused(play, play.ask(0, request), "not_proven")


@pytest.mark.parametrize("step", ["shares", "question"])
def test_its_own_mask_key_exchanged_for_an_older_one_is_refused(play: Play, step: str):
    job = play.job()
    talk = Conversation(play, job, play.grant_all(job)).exchange_keys()
    keys = substituted(talk, 0, play.nodes[0]._identity.node_key)
    request: Any = talk.shares_request(mask_keys=keys)
    if step == "question":
        request = talk.deal().request(mask_keys=keys)
    with no_data_opened(play):
        refused(play, play.ask(0, request), "not_proven")


def test_a_party_left_out_of_the_masks_is_refused(play: Play):
    job = play.job()
    talk = Conversation(play, job, play.grant_all(job)).exchange_keys()
    keys = {seat.asset: talk.keys[seat.asset] for seat in play.seats[:2]}
    with no_data_opened(play):
        refused(play, play.ask(0, talk.shares_request(mask_keys=keys)), "grant_mismatch")
    talk = begun(play)
    keys = {seat.asset: talk.keys[seat.asset] for seat in play.seats[:2]}
    with no_data_opened(play):
        refused(play, play.ask(0, talk.request(mask_keys=keys)), "grant_mismatch")


def test_a_repeated_round_gets_the_same_bytes_and_another_question_none(play: Play):
    talk = begun(play)
    request = talk.request()
    first = play.tell(0, request)
    with no_data_opened(play):
        assert play.tell(0, request) == first
        other = talk.request(talk.question("spread", {"mean": [210.0]}))
        reply = play.ask(0, other)
    assert word(reply) == "grant_mismatch"
    assert play.receipt(0, reply).state == "failed"


def test_a_skipped_round_is_refused(play: Play):
    talk = begun(play)
    with no_data_opened(play):
        refused(play, play.ask(0, talk.request(round=2)), "grant_mismatch")


def test_more_rounds_than_granted_are_refused(play: Play, monkeypatch: pytest.MonkeyPatch):
    for per_question, said in ((1, "grant_mismatch"), (3, "task_error")):
        monkeypatch.setattr(granting, "ROUNDS_PER_QUESTION", per_question)
        talk = begun(play)
        talk.round()
        spread = talk.question("spread", {"mean": [210.0]})
        talk.round(spread)
        with no_data_opened(play):
            reply = play.ask(0, talk.request(spread))
        # With rounds left, the twin meets the task's own order.
        assert word(reply) == said
        if said == "grant_mismatch":
            assert len(play.receipt(0, reply).contributions) == 2


def test_a_round_before_its_turn_is_no_answer(play: Play):
    talk = begun(play, "logistic", parameters={"columns": ["chol"], "ridge": 1})
    point = {"mean": [210.0], "sd": [10.0], "rows": 78, "beta": [0.0], "intercept": 0.0}
    score = talk.question("score", point)
    with no_data_opened(play):
        assert play.ask(0, talk.request(score)) == Failure(
            talk.job, play.seats[0].asset, "task_error"
        )
        # The job goes on: only its first question is asked first.
    talk.round()


def test_a_round_without_a_beginning_or_of_another_attempt_is_refused(play: Play):
    job = play.job()
    talk = Conversation(play, job, play.grant_all(job))
    keys = {seat.asset: b"key" for seat in play.seats}
    with no_data_opened(play):
        refused(play, play.ask(0, talk.request(mask_keys=keys)), "grant_mismatch")
    other = begun(play)
    with no_data_opened(play):
        refused(play, play.ask(0, other.request(attempt=2)), "grant_mismatch")


def test_another_attempt_after_an_answer_is_refused_and_the_answer_receipted(play: Play):
    talk = begun(play)
    talk.round()
    with no_data_opened(play):
        reply = ask_keys(play, talk.job, talk.grants[play.seats[0].asset], attempt=2)
    assert word(reply) == "grant_mismatch"
    assert len(play.receipt(0, reply).contributions) == 1


# --- the end


def test_the_end_of_another_attempt_does_not_hide_what_was_sent(play: Play):
    talk = begun(play)
    talk.round()
    reply = talk.finish(attempt=2, state="failed")
    assert isinstance(reply, FinishReply)
    receipt = read(reply.receipt).statement
    assert isinstance(receipt, Receipt)
    assert receipt.state == "failed"
    assert [item.round for item in receipt.contributions] == [1]
    assert receipt.rows == 30


def test_a_restarted_node_still_accounts_for_what_it_sent(fresh: Play):
    """Guards: a process that had not read the log yet said of a completed job that it failed."""
    talk = begun(fresh)
    talk.round()
    fresh.reopened(0)
    reply = talk.finish(state="completed")
    assert isinstance(reply, FinishReply)
    receipt = read(reply.receipt).statement
    assert isinstance(receipt, Receipt)
    assert (receipt.state, receipt.rows) == ("completed", 30)
    assert [item.round for item in receipt.contributions] == [1]


def test_a_job_ends_once(play: Play):
    talk = begun(play)
    talk.round()
    talk.round(talk.question("spread", {"mean": [210.0]}))
    first = talk.finish()
    assert isinstance(first, FinishReply)
    # Whatever is said later, the receipt stays what it was.
    assert talk.finish() == first
    assert talk.finish(state="failed") == first
    assert talk.finish(rounds=1) == first
    assert talk.finish(attempt=2) == Failure(talk.job, play.seats[0].asset, "internal")
    with no_data_opened(play):
        reply = ask_keys(play, talk.job, talk.grants[play.seats[0].asset], attempt=2)
    refused(play, reply, "grant_mismatch")
    completed = play.market.app.state.context.log.history.completed[talk.job]
    assert len(completed) == 1


def test_a_job_that_is_said_to_have_failed_is_free_only_a_few_times(fresh: Play):
    node = fresh.nodes[0]
    node._limits = replace(node._limits, unfinished=2)
    for _ in range(2):
        talk = begun(fresh)
        talk.round()
        talk.finish(state="failed")
    job = fresh.job()
    with no_data_opened(fresh):
        refused(fresh, ask_keys(fresh, job), "quota_used_up")
