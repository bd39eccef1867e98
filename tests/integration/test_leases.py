"""Whose requests a node answers: the operator's coordinator's, in one Flower run for each fence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from federated.lease import Lease
from federated.messages import (
    Beside,
    Contribution,
    Failure,
    FinishReply,
    FinishRequest,
    KeysReply,
    Reply,
    body_digest,
    read_reply,
)
from federated.node import leases
from federated.node.journal import FINISH
from ledger.client import LogClient
from ledger.keys import SigningKey
from ledger.statements import Receipt, Rotation, read
from tests.drafts import key_of
from tests.stage import FENCE, RUN, Play, word
from tests.talk import Conversation, begun, lenient_stage, no_data_opened, shared_stage

OTHER_JOB = "job:" + "7" * 64
LATER = {"fence": FENCE + 1, "run_id": RUN + 1}


@pytest.fixture(scope="module", name="play")
def _play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    with shared_stage(tmp_path_factory.mktemp("leases")) as play:
        yield play


@pytest.fixture(name="fresh")
def _fresh(tmp_path: Path) -> Iterator[Play]:
    with lenient_stage(tmp_path) as play:
        yield play


@contextmanager
def driving(play: Play, **how: int) -> Iterator[None]:
    """Ask under other leases for a while."""
    before = {name: getattr(play, name) for name in how}
    vars(play).update(how)
    yield
    vars(play).update(before)


def operator_key(play: Play) -> SigningKey:
    key: SigningKey = play.market.app.state.context.operator_key
    return key


@dataclass(frozen=True)
class Wrong:
    """What is wrong with a lease: its fields, who signs it, and in which run it comes."""

    word: str = "bad_lease"
    changes: dict[str, Any] | None = None
    stranger: bool = False
    run: int = RUN
    data: bytes | None = None

    def beside(self, play: Play, request: Any) -> Beside:
        if self.changes is None:
            return Beside(None, self.data, self.run)
        lease = replace(Lease(request.job, request.attempt, FENCE, RUN), **self.changes)
        key = key_of("stranger") if self.stranger else operator_key(play)
        return Beside(None, lease.sign(key), self.run)


WRONG = {
    "none": Wrong(),
    "unreadable": Wrong(data=b"lease"),
    "another key's": Wrong(changes={}, stranger=True),
    "another key's, later": Wrong(changes={"fence": FENCE + 1}, stranger=True),
    "another job's": Wrong(changes={"job": OTHER_JOB}),
    "another attempt's": Wrong(changes={"attempt": 2}),
    "another run's": Wrong(changes={}, run=RUN + 1),
}
STALE = {
    "a lower fence": Wrong("stale_lease", {"fence": FENCE - 1}),
    "a lower fence in another run": Wrong(
        "stale_lease", {"fence": FENCE - 1, "run": RUN + 1}, run=RUN + 1
    ),
    "the same fence in another run": Wrong("stale_lease", {"run": RUN + 1}, run=RUN + 1),
}


def is_not_followed(play: Play, request: Any, beside: Beside, reason: str, at: int = 0) -> None:
    """Check that a node answers with the word, and that nothing else happens."""
    node = play.nodes[at]
    before = node._journal.lines()
    with no_data_opened(play):
        reply = read_reply(node.handle(request.to_bytes(), beside))
    assert reply == Failure(request.job, node.asset, reason)
    assert node._journal.lines() == before


def completes(talk: Conversation) -> None:
    """Play a job to its end, from the second question on."""
    talk.round(talk.question("spread", {"mean": [220.0]}))
    for at in range(len(talk.assets)):
        reply = talk.finish(at)
        assert isinstance(reply, FinishReply), word(reply)
        assert state_of(reply) == "completed"


def state_of(reply: Reply) -> str:
    assert isinstance(reply, FinishReply)
    receipt = read(reply.receipt).statement
    assert isinstance(receipt, Receipt)
    return receipt.state


# --- no lease to follow


@pytest.mark.parametrize("what", WRONG)
def test_a_job_does_not_begin_without_the_operators_word(play: Play, what: str):
    job = play.job()
    talk = Conversation(play, job, play.grant_all(job))
    request = play.keys_request(job, grant=talk.grants[talk.assets[0]])
    wrong = WRONG[what]
    is_not_followed(play, request, wrong.beside(play, request), wrong.word)
    # The twin: the same request with its lease.
    assert isinstance(play.ask(0, request), KeysReply)
    talk.begin().round()
    completes(talk)


@pytest.mark.parametrize("what", [*WRONG, *STALE])
def test_a_request_without_a_lease_to_follow_gets_one_word_and_the_job_goes_on(
    play: Play, what: str
):
    wrong, talk = {**WRONG, **STALE}[what], begun(play)
    question, end = talk.request(), FinishRequest(talk.job, 1, 0, "failed")
    # What was answered already, what comes next, and what would end the job.
    answered = play.keys_request(talk.job, grant=talk.grants[talk.assets[0]])
    for request in (answered, question, end):
        is_not_followed(play, request, wrong.beside(play, request), wrong.word)
    assert isinstance(play.ask(0, answered), KeysReply)
    assert isinstance(play.ask(0, question), Contribution)
    for request in (question, end):
        is_not_followed(play, request, wrong.beside(play, request), wrong.word)
    talk.round()
    completes(talk)


def test_one_that_is_no_request_of_a_run_is_not_followed(play: Play):
    talk = begun(play)
    lease = play.beside(talk.request()).lease
    is_not_followed(play, talk.request(), Beside(lease=lease), "bad_lease")


def ends(play: Play, beside: Callable[[Any], Beside]) -> Reply:
    """Try to end a job that is under way at a node."""
    talk = begun(play)
    request = FinishRequest(talk.job, 1, 0, "failed")
    return read_reply(play.nodes[0].handle(request.to_bytes(), beside(request)))


@pytest.mark.parametrize("what", ["none", "another key's", "a lower fence"])
def test_with_the_check_off_whoever_asks_ends_a_job(
    fresh: Play, monkeypatch: pytest.MonkeyPatch, what: str
):
    """The twin of the test before: this is what a stranger, or one before, would be obeyed in."""
    wrong = {**WRONG, **STALE}[what]
    assert word(ends(fresh, lambda request: wrong.beside(fresh, request))) == wrong.word
    monkeypatch.setattr(leases.Leases, "check", lambda *_: None)
    assert state_of(ends(fresh, lambda request: wrong.beside(fresh, request))) == "failed"


def test_with_the_rule_off_one_fence_would_be_two_runs(
    fresh: Play, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(leases, "follow", lambda _held, lease, **_: lease)
    wrong = STALE["the same fence in another run"]
    assert state_of(ends(fresh, lambda request: wrong.beside(fresh, request))) == "failed"


# --- a job that is taken over


def test_who_takes_a_job_over_gets_the_stored_replies_and_the_one_before_none(play: Play):
    talk = begun(play)
    keys = play.keys_request(talk.job, grant=talk.grants[talk.assets[0]])
    asked = [keys, talk.shares_request(), talk.request()]
    replies = [play.tell(0, request) for request in asked]
    before = play.nodes[0]._journal.lines()
    with driving(play, **LATER), no_data_opened(play):
        assert [play.tell(0, request) for request in asked] == replies
    assert play.nodes[0]._journal.lines() == before
    for request in (*asked, FinishRequest(talk.job, 1, 0, "failed")):
        is_not_followed(play, request, play.beside(request), "stale_lease")
    with driving(play, **LATER):
        talk.round()
        completes(talk)


def test_a_worker_takes_over_what_a_coordinator_before_it_began(fresh: Play):
    """The market's own worker, under the lease that it signs for its claim."""
    fresh.fence = 1
    talk = begun(fresh).ask()
    # The last grant was kept from the service until now; the job may run.
    fresh.nodes[-1].approve(talk.job)
    view = fresh.stage.wait(talk.job)
    assert view["state"] == "released", view
    history = fresh.market.app.state.context.log.history
    sent = {each.statement.asset: each.statement for each in history.completed[talk.job]}
    for asset, reply in talk.replies.items():
        first = sent[asset].contributions[0]
        assert first.reply == body_digest(reply.to_bytes())
    assert not any(node._leases._held[talk.job][1].run == RUN for node in fresh.nodes)
    is_not_followed(fresh, talk.request(), fresh.beside(talk.request()), "stale_lease")


def test_each_job_of_a_market_is_a_run_of_its_own(fresh: Play):
    runs = set()
    for _ in range(2):
        job = fresh.run("statistics", columns=["chol"])
        runs.add(fresh.nodes[0]._leases._held[job][1].run)
    assert len(runs) == 2


# --- whose key


def rotate(play: Play) -> SigningKey:
    """Give the operator a new key behind the nodes' backs; return the old one."""
    context = play.market.app.state.context
    old, new = context.operator_key, SigningKey.generate("rongshu/operator")
    statement = Rotation(
        context.operator, context.operator, new.verify_key.text, "key", None, play.clock()
    )
    play.put(statement.sign(old, new))
    play.market.app.state.context = replace(context, operator_key=new)
    return old


def test_a_node_that_is_behind_reads_on_to_the_operators_new_key(fresh: Play):
    talk = begun(fresh)
    old = rotate(fresh)
    size = fresh.nodes[0]._log.size
    talk.round()
    assert fresh.nodes[0]._log.size > size
    request = talk.request(talk.question("spread", {"mean": [220.0]}))
    lease = Lease(talk.job, 1, FENCE + 1, RUN)
    is_not_followed(fresh, request, Beside(None, lease.sign(old), RUN), "bad_lease")
    completes(talk)


def test_a_node_that_cannot_read_on_follows_nobody_new(
    fresh: Play, monkeypatch: pytest.MonkeyPatch
):
    talk = begun(fresh)
    rotate(fresh)
    node = fresh.nodes[0]
    with monkeypatch.context() as patch:
        patch.setattr(node._log, "_http", Unreachable())
        is_not_followed(fresh, talk.request(), fresh.beside(talk.request()), "bad_lease")
    talk.round()


class Unreachable:
    def get(self, path: str) -> Any:
        raise httpx.ConnectError(path)


def test_a_node_that_was_started_anew_reads_the_log_to_know_the_operator(fresh: Play):
    talk = begun(fresh)
    node = fresh.reopened(0)
    assert node._log.history.operator is None
    # Its lease is followed; that it forgot its secrets is another matter.
    assert word(fresh.ask(0, talk.request())) == "restarted"
    assert node._log.history.operator is not None


# --- what it costs, and when it is forgotten


def test_the_same_lease_is_verified_once(fresh: Play, monkeypatch: pytest.MonkeyPatch):
    verified: list[bytes] = []
    opening = leases.open_lease

    def counted(data: bytes, *key: Any) -> Lease:
        verified.append(data)
        return opening(data, *key)

    talk = begun(fresh)
    monkeypatch.setattr(leases, "open_lease", counted)
    monkeypatch.setattr(LogClient, "_get", lambda *_: pytest.fail("the log was asked"))
    for _ in range(3):
        fresh.tell(0, talk.shares_request())
    assert verified == []
    with driving(fresh, **LATER):
        for _ in range(3):
            fresh.tell(0, talk.shares_request())
    assert len(verified) == 1


def test_what_is_followed_is_forgotten_when_the_job_has_ended(fresh: Play):
    node, talk, ended = fresh.nodes[0], begun(fresh), begun(fresh)
    assert isinstance(ended.finish(state="failed"), FinishReply)
    assert {talk.job, ended.job} <= set(node._leases._held)
    node.keep_books()
    assert set(node._leases._held) == {talk.job}
    with node._journal.read() as book:
        assert book.reply(ended.job, node.asset, 1, FINISH) is not None
    is_not_followed(
        fresh,
        talk.request(),
        STALE["a lower fence"].beside(fresh, talk.request()),
        "stale_lease",
    )


def test_whoever_is_followed_again_after_the_end_changes_nothing_about_it(fresh: Play):
    """A coordinator of before finds the leases forgotten; what nodes signed stands."""
    job = fresh.run("statistics", columns=["chol"])
    for node in fresh.nodes:
        node.keep_books()
    log = fresh.market.app.state.context.log
    used, ended = dict(log.history.completed_uses), list(log.history.completed[job])
    with driving(fresh, fence=0, run_id=RUN + 1), no_data_opened(fresh):
        for at, receipt in enumerate(ended):
            reply = fresh.ask(at, FinishRequest(job, 1, 0, "failed"))
            assert isinstance(reply, FinishReply)
            assert read(reply.receipt).id in {each.id for each in ended}
            grant = receipt.read_as(Receipt).grant
            assert word(
                fresh.ask(at, fresh.keys_request(job, grant=grant, attempt=2, round=9))
            ) == ("grant_mismatch")
    fresh.job()
    assert dict(log.history.completed_uses) == used
    assert log.history.completed[job] == ended != []
    assert job in log.history.released
    assert job not in {*log.history.failed, *log.history.revoked}
