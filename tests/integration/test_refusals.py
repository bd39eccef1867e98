"""What a node must refuse, asked of it directly with the operator's own checks off.

Each refusal names its reason in one of the fixed words, is signed by the node's key, and comes
before the data file is opened.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from federated.errors import RefusedError
from federated.messages import Failure, FinishReply, FinishRequest, read_reply
from federated.node.leases import Leases
from federated.node.runner import Node
from ledger.ids import statement_id
from ledger.keys import SigningKey
from ledger.statements import Grant, Receipt, Revocation, read
from ledger.statements.envelope import payload_type, sign
from tests.stage import LABEL, WATCH, Play, open_stage, terms, word
from tests.talk import TABLES, ask_keys, begun, lenient_stage, no_data_opened, refused, shared_stage

SPLIT = {"train": "0.66", "seed": 43, "stratify": False, "unless_class_at_most": 1}


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


# --- the honest run, which the watch does see


def test_an_honest_run_opens_every_file_and_only_when_the_first_question_comes(play: Play):
    with no_data_opened(play):
        talk = begun(play)
    with WATCH.watching(play.files) as opened:
        talk.round()
    assert sorted(opened) == sorted(play.files)
    talk.round(talk.question("spread", {"mean": [210.0]}))
    reply = talk.finish()
    assert isinstance(reply, FinishReply)
    receipt = read(reply.receipt)
    receipt.verify(play.node_key(0))
    statement = receipt.statement
    assert isinstance(statement, Receipt)
    assert (statement.state, statement.rows, len(statement.contributions)) == ("completed", 30, 2)


# --- the eight reasons, before a grant is given


def by_terms(**changes: Any) -> Callable[[Play], str]:
    def job(play: Play) -> str:
        agreements = {
            seat.asset: play.stage.agree_apart(seat, terms(**changes)) for seat in play.seats
        }
        return play.job(agreements=agreements)

    return job


def expired(play: Play) -> str:
    return by_terms(until=play.clock() - 1)(play)


def revoked(play: Play) -> str:
    job = play.job()
    play.seats[0].client.revoke(play.stage.agreements[play.seats[0].asset], "over")
    return job


def key_revoked(play: Play) -> str:
    job = play.job()
    play.researcher.revoke(play.researcher.home.participant(), "lost")
    return job


def asset_revoked(play: Play) -> str:
    job = play.job()
    play.seats[1].client.revoke(play.seats[1].asset, "withdrawn")
    return job


def unlogged(play: Play) -> str:
    envelope = play.statement("statistics").sign(play.researcher.home.signing_key())
    return statement_id("job", envelope)


BEFORE_GRANT: dict[str, tuple[Callable[[Play], str], str]] = {
    "purpose": (lambda play: play.job(purpose="advertising"), "purpose_not_allowed"),
    "no use left": (by_terms(uses=0), "quota_used_up"),
    "expired": (expired, "agreement_expired"),
    "foreign code": (
        lambda play: play.job(code_digest="sha256:" + "0" * 64),
        "code_unknown",
    ),
    "a task outside the terms": (by_terms(tasks=("logistic",)), "grant_mismatch"),
    "no exact answers": (by_terms(exact=False), "grant_mismatch"),
    "too few parties": (by_terms(minimum_parties=4), "grant_mismatch"),
    "missing job": (unlogged, "not_proven"),
    "other rows": (
        lambda play: play.job(preparation={**play.rows(), "complete_rows": True}),
        "row_selection_not_allowed",
    ),
}


@pytest.mark.parametrize("what", BEFORE_GRANT)
def test_no_grant_is_given_and_no_data_opened(play: Play, what: str):
    prepare, reason = BEFORE_GRANT[what]
    job = prepare(play)
    with no_data_opened(play):
        with pytest.raises(RefusedError) as refusal:
            play.nodes[0].approve(job)
        # Asked to begin all the same, it says the same, and hands over the receipt.
        reply = ask_keys(play, job)
    assert refusal.value.reason == reason
    refused(play, reply, reason)


@pytest.mark.parametrize("prepare", [revoked, key_revoked, asset_revoked])
def test_what_was_revoked_is_granted_to_nobody(fresh: Play, prepare: Callable[[Play], str]):
    job = prepare(fresh)
    with no_data_opened(fresh):
        refused(fresh, ask_keys(fresh, job), "revoked")


# --- grants


def test_a_grant_of_another_job_is_refused(play: Play):
    first, second = play.job(), play.job()
    grants = play.grant_all(first)
    with no_data_opened(play):
        refused(play, ask_keys(play, second, grants[play.seats[0].asset]), "grant_mismatch")
        # Nor is another party's grant for the same job.
        refused(play, ask_keys(play, first, grants[play.seats[1].asset]), "grant_mismatch")


def test_a_grant_that_was_never_logged_is_refused(play: Play):
    job = play.job()
    node = play.nodes[0]
    node._log.sync()
    grant = statement_id("grant", node._grant(job))
    with no_data_opened(play):
        refused(play, ask_keys(play, job, grant), "not_proven")


def test_a_grant_signed_by_another_key_is_refused(play: Play):
    job = play.job()
    seat = play.seats[0]
    honest = read(_signed_grant(play, job)).statement
    assert isinstance(honest, Grant)
    stranger = SigningKey.generate("stranger")
    envelope = sign(payload_type("grant", 1), replace(honest, rounds=9).payload(), stranger)
    with no_data_opened(play):
        refused(play, ask_keys(play, job, statement_id("grant", envelope)), "not_proven")
    assert seat.asset == honest.asset


def _signed_grant(play: Play, job: str) -> bytes:
    node = play.nodes[0]
    node._log.sync()
    return node._grant(job)


def test_a_revoked_or_expired_grant_is_refused(fresh: Play):
    first, second = fresh.job(), fresh.job()
    grants, others = fresh.grant_all(first), fresh.grant_all(second)
    asset = fresh.seats[0].asset
    fresh.seats[0].client.revoke(grants[asset], "second thoughts")
    with no_data_opened(fresh):
        refused(fresh, ask_keys(fresh, first, grants[asset]), "revoked")
        fresh.clock.advance(8 * 24 * 3600 * 1000)
        refused(fresh, ask_keys(fresh, second, others[asset]), "agreement_expired")


def test_another_cohort_than_the_granted_is_refused(play: Play):
    job = play.job()
    grants = play.grant_all(job)
    assets = sorted(seat.asset for seat in play.seats)
    with no_data_opened(play):
        reply = ask_keys(play, job, grants[play.seats[0].asset], cohort=tuple(assets[:2]))
        refused(play, reply, "grant_mismatch")


# --- uses and rows


def test_the_last_use_is_granted_once(play: Play):
    agreements = {seat.asset: play.stage.agree_apart(seat, terms(uses=1)) for seat in play.seats}
    first, second = play.job(agreements=agreements), play.job(agreements=agreements)
    play.nodes[0].approve(first)
    with no_data_opened(play):
        refused(play, ask_keys(play, second), "quota_used_up")
    # The same job is granted again, with the same statement.
    assert play.nodes[0].approve(first) == "granted"


def test_a_second_split_seed_is_refused_after_the_first_was_answered(tmp_path: Path):
    rows = {"label": LABEL, "split": SPLIT}
    with open_stage(tmp_path, TABLES, preparation=rows) as play:
        with play.market.insecure_operator():
            again = {**play.rows(), "split": {**SPLIT, "seed": 44}}
            agreements = {
                seat.asset: play.stage.agree_apart(seat, terms(), again) for seat in play.seats
            }
            early = play.job(agreements=agreements, preparation=again)
            # Nothing was answered yet: another split may still be the first one.
            assert play.nodes[0].approve(early) == "granted"
        play.tell(0, FinishRequest(early, 1, 0, "failed"))
        play.run("statistics", columns=["chol"], rows="train")
        with play.market.insecure_operator():
            late = play.job(agreements=agreements, preparation=again)
            with no_data_opened(play):
                refused(play, ask_keys(play, late), "row_selection_not_allowed")


def test_rows_that_are_nearly_those_answered_before_are_refused(tmp_path: Path):
    # Two cells are missing: the complete rows are all rows but two.
    tables = {name: text.replace("41,1\n", ",1\n") for name, text in TABLES.items()}
    with open_stage(tmp_path, tables) as play, play.market.insecure_operator():
        whole = begun(play, parameters={"columns": ["chol"], "rows": "all"})
        whole.round()
        nearly = begun(play, parameters={"columns": ["chol"], "rows": "complete"})
        reply = play.ask(0, nearly.request())
        # This needs the data: only the row sets show how near they are. Nothing is sent of it.
        refused(play, reply, "row_selection_not_allowed")
        # The same rows again are no other rows.
        begun(play, parameters={"columns": ["age"], "rows": "all"}).round()


# --- a log that lies


@contextmanager
def lying(node: Node, path: str, answer: Callable[[bytes], bytes]) -> Iterator[None]:
    """Give a node's reader of the log something else than the truth."""
    honest = node._log._get

    def get(asked: str) -> bytes:
        return answer(honest(asked)) if asked.startswith(path) else honest(asked)

    node._log._get = get  # type: ignore[method-assign]
    yield
    del node._log._get


def test_a_log_that_went_back_is_not_believed(fresh: Play):
    node = fresh.nodes[0]
    old = node._log._get("/v1/log/checkpoint")
    job = fresh.job()
    grants = fresh.grant_all(job)
    fresh.nodes[0]._log.sync()
    restarted = fresh.reopened(0)
    with lying(restarted, "/v1/log/checkpoint", lambda _: old), no_data_opened(fresh):
        reply = ask_keys(fresh, job, grants[fresh.seats[0].asset])
    refused(fresh, reply, "log_rolled_back")


def test_a_forked_log_is_not_believed(fresh: Play):
    job = fresh.job()
    grants = fresh.grant_all(job)
    restarted = fresh.reopened(0)
    with (
        lying(
            restarted,
            "/v1/log/tile",
            lambda data: data.replace(b'"kind":"offer"', b'"kind":"asset"'),
        ),
        no_data_opened(fresh),
    ):
        refused(fresh, ask_keys(fresh, job, grants[fresh.seats[0].asset]), "not_proven")


def test_a_log_signed_by_another_key_is_not_believed(play: Play):
    from ledger.checkpoint import open_checkpoint
    from ledger.checkpoint import sign as sign_checkpoint

    job = play.job()
    grants = play.grant_all(job)
    name = play.market.log_key.name
    stranger = SigningKey.generate(name)

    def resigned(data: bytes) -> bytes:
        return sign_checkpoint(open_checkpoint(data, play.market.log_key), stranger)

    with lying(play.nodes[0], "/v1/log/checkpoint", resigned), no_data_opened(play):
        refused(play, ask_keys(play, job, grants[play.seats[0].asset]), "not_proven")


def test_a_revocation_that_is_withheld_is_not_believed_away(play: Play):
    job = play.job()
    grants = play.grant_all(job)
    asset = play.seats[0].asset
    play.seats[0].client.revoke(grants[asset], "over")
    with (
        lying(play.nodes[0], "/v1/log/openings", lambda _: b'{"next":null,"openings":[]}'),
        no_data_opened(play),
    ):
        refused(play, ask_keys(play, job, grants[asset]), "not_proven")


@pytest.mark.parametrize(
    "answer", [b"", b"null", b"[]", b'{"openings":1}', b"\xff" * 9, b"[" * 9999]
)
def test_a_log_that_answers_nonsense_is_not_believed(play: Play, answer: bytes):
    job = play.job()
    grants = play.grant_all(job)
    with lying(play.nodes[0], "/v1/log/openings", lambda _: answer), no_data_opened(play):
        refused(play, ask_keys(play, job, grants[play.seats[0].asset]), "not_proven")


def test_a_log_that_does_not_answer_stops_the_node_without_a_verdict(play: Play):
    job = play.job()
    grants = play.grant_all(job)
    node = play.nodes[0]
    base = node._log._http.base_url
    node._log._http.base_url = "http://rongshu.local/elsewhere"
    with no_data_opened(play):
        reply = ask_keys(play, job, grants[play.seats[0].asset])
    node._log._http.base_url = base
    assert reply == Failure(job, node.asset, "internal")


# --- nonsense


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"type":"round-request/v1"}', b"\x00" * 64, b'{"type":"refusal/v1"}']
)
def test_what_is_no_request_gets_one_word(play: Play, body: bytes):
    with no_data_opened(play):
        assert read_reply(play.nodes[0].handle(body)) == Failure(
            "", play.seats[0].asset, "internal"
        )


def test_a_job_whose_id_is_none_gets_one_word(play: Play):
    with no_data_opened(play):
        reply = ask_keys(play, "no job's id")
    assert reply == Failure("no job's id", play.seats[0].asset, "internal")


def test_a_job_that_cannot_be_planned_does_not_keep_others_from_being_decided(play: Play):
    parameters = {"columns": ["no such column"], "rows": "all"}
    job = play.statement("statistics")
    bad = play.submit(replace(job, parameters=parameters, nonce="bad"))
    good = play.job()
    verdicts = play.nodes[0].decide_by_rule()
    assert (verdicts[bad], verdicts[good]) == ("task_error", "granted")


def test_a_node_that_decides_by_hand_leaves_jobs_waiting(play: Play):
    job = play.job()
    assert play.nodes[0].decide_by_rule(lambda: False) == {}
    assert job in play.nodes[0].waiting()
    assert play.nodes[0].decide_by_rule(lambda: True)[job] == "granted"


def test_a_rejection_by_hand_takes_only_the_fixed_words(play: Play):
    from federated.errors import NodeError

    job = play.job()
    with pytest.raises(NodeError):
        play.nodes[0].reject(job, "the value is 137.0625")
    play.nodes[0].reject(job, "purpose_not_allowed")
    logged = play.market.app.state.context.log.history.by_id.values()
    receipts = [item.statement for item in logged if isinstance(item.statement, Receipt)]
    mine = [receipt.reason for receipt in receipts if receipt.job == job]
    assert mine == ["purpose_not_allowed"]


@contextmanager
def hiding(node: Node, index: int) -> Iterator[None]:
    """Leave one statement out of what the log shows to a node."""

    def without(answer: bytes) -> bytes:
        value = json.loads(answer)
        value["openings"] = [item for item in value["openings"] if item["index"] != index]
        return json.dumps(value).encode()

    with lying(node, "/v1/log/openings", without):
        yield


def test_the_revocation_of_a_hidden_issuer_still_revokes(
    fresh: Play, monkeypatch: pytest.MonkeyPatch
):
    # The operator may revoke a lost key; it cannot undo that by hiding who it is.
    context = fresh.market.app.state.context
    statement = Revocation(
        context.operator, fresh.seats[0].home.participant(), "lost", fresh.clock()
    )
    job = fresh.job()
    node = fresh.reopened(0)
    with hiding(node, context.log.history.operator.index), no_data_opened(fresh):
        # An operator who hides itself signs no lease that a node could follow.
        assert word(ask_keys(fresh, job)) == "bad_lease"
        monkeypatch.setattr(Leases, "check", lambda *_: None)
        # Its issuer hidden, nothing of the job itself is missing: only the grant is.
        assert word(ask_keys(fresh, job)) == "not_proven"
        later = fresh.job()
        fresh.put(statement.sign(context.operator_key))
        assert word(ask_keys(fresh, later)) == "revoked"
        assert context.operator not in node._log.history.by_id
