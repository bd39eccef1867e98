"""Talking to a node by hand, with the operator's own checks off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from federated.messages import Contribution, FinishRequest, KeysReply, Refusal, RoundRequest
from federated.node.home import NodeHome
from federated.plan import Question
from federated.planning import plan_of
from ledger.ids import statement_id
from ledger.journal_check import GRACE_MILLISECONDS, check_journal
from ledger.statements import Asset, Job, Receipt
from tests.stage import LABEL, WATCH, Play, open_stage, terms, word

TABLES = {
    name: "chol,age,sick\n"
    + "".join(f"{200 + at * 1.5},{40 + at},{at % 2}\n" for at in range(rows))
    for name, rows in (("basel", 30), ("bern", 26), ("geneva", 22))
}


@contextmanager
def lenient_stage(folder: Path) -> Iterator[Play]:
    with (
        open_stage(folder, TABLES, preparation={"label": LABEL}, agreed=terms(uses=999)) as play,
        play.market.insecure_operator(),
    ):
        yield play


@contextmanager
def shared_stage(folder: Path) -> Iterator[Play]:
    """One for many tests, whose nodes do not count jobs that nobody went on with."""
    with lenient_stage(folder) as play:
        for node in play.nodes:
            node._limits = replace(node._limits, unfinished=999)
        yield play
        journals_agree(play)


def journals_agree(play: Play) -> None:
    """Check that honest nodes' journals and the log tell one story, whatever was put to them."""
    play.clock.advance(2 * GRACE_MILLISECONDS)
    play.job()
    history = play.market.app.state.context.log.history
    for node in play.nodes:
        journal, _ = NodeHome.load(node._log._memory.parent).signed_journal(play.clock)
        account = check_journal(history, journal, node.asset)
        assert account.launched
        assert account.findings == []


@contextmanager
def no_data_opened(play: Play) -> Iterator[None]:
    with WATCH.watching(play.files) as opened:
        yield
    assert opened == []


def ask_keys(play: Play, job: str, grant: str = "", at: int = 0, **changes: Any) -> Any:
    return play.ask(at, play.keys_request(job, grant=grant, **changes))


def refused(play: Play, reply: Any, reason: str, at: int = 0) -> Receipt:
    """Check the word, the receipt's signature and that the ledger holds it; return the receipt."""
    assert word(reply) == reason
    receipt = play.receipt(at, reply)
    assert receipt.state == "refused"
    assert receipt.reason == reason
    assert receipt.rows == 0
    assert receipt.contributions == ()
    assert isinstance(reply, Refusal)
    logged = play.market.app.state.context.log.history.by_id
    assert statement_id("receipt", reply.receipt or b"") in logged
    return receipt


class Conversation:
    """A coordinator by hand: as honest as the test lets it be."""

    def __init__(self, play: Play, job: str, grants: dict[str, str], attempt: int = 1) -> None:
        self.play, self.job, self.attempt = play, job, attempt
        history = play.market.app.state.context.log.history
        statement = history.get(job, Job)
        self.task, self.plan = plan_of(
            statement, {name: history.get(name, Asset) for name in statement.assets}
        )
        self.grants = grants
        self.number = 1
        self.keys: dict[str, bytes] = {}

    def begin(self) -> Conversation:
        for at, seat in enumerate(self.play.seats):
            reply = ask_keys(self.play, self.job, self.grants[seat.asset], at, attempt=self.attempt)
            assert isinstance(reply, KeysReply), word(reply)
            self.keys[seat.asset] = reply.mask_key
        return self

    def question(self, step: str = "moments", parameters: Any = None) -> Question:
        return self.task.question(self.plan, step, parameters or {})

    def request(self, question: Question | None = None, **changes: Any) -> RoundRequest:
        asked = (question or self.question()).to_json()
        request = RoundRequest(self.job, self.attempt, self.number, asked, self.keys)
        return replace(request, **changes)

    def round(self, question: Question | None = None) -> None:
        request, keys = self.request(question), {}
        for at, seat in enumerate(self.play.seats):
            reply = self.play.ask(at, request)
            assert isinstance(reply, Contribution), word(reply)
            keys[seat.asset] = reply.next_mask_key
        self.keys, self.number = keys, self.number + 1

    def finish(self, at: int = 0, state: str = "completed", **changes: Any) -> Any:
        request = FinishRequest(self.job, self.attempt, self.number - 1, state)
        return self.play.ask(at, replace(request, **changes))


def begun(play: Play, task: str = "statistics", **changes: Any) -> Conversation:
    job = play.job(task, **changes)
    return Conversation(play, job, play.grant_all(job)).begin()
