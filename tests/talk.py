"""Talking to a node by hand, with the operator's own checks off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from federated.messages import (
    Answer,
    Contribution,
    FinishRequest,
    KeysReply,
    Refusal,
    RoundRequest,
    SharesReply,
    SharesRequest,
    SurvivorsReply,
    SurvivorsRequest,
    UnmaskReply,
    UnmaskRequest,
)
from federated.node.home import NodeHome
from federated.plan import Question
from federated.planning import plan_of
from ledger.ids import statement_id
from ledger.journal_check import GRACE_MILLISECONDS, check_journal
from ledger.statements import Asset, Job, Receipt
from tests.stage import LABEL, WATCH, Play, open_stage, terms, word

Heard = TypeVar("Heard", bound=Answer)

TABLES = {
    name: "chol,age,sick\n"
    + "".join(f"{200 + at * 1.5},{40 + at},{at % 2}\n" for at in range(rows))
    for name, rows in (("basel", 30), ("bern", 26), ("geneva", 22))
}


FOUR = {
    **TABLES,
    "lausanne": "chol,age,sick\n"
    + "".join(f"{190.25 + at * 1.5},{44 + at},{at % 2}\n" for at in range(24)),
}
"""As many as are needed for one to leave: three of four is more than two thirds."""


@contextmanager
def lenient_stage(folder: Path, tables: Mapping[str, str] = TABLES) -> Iterator[Play]:
    agreed = terms(uses=999)
    with (
        open_stage(folder, tables, preparation={"label": LABEL}, agreed=agreed) as play,
        play.market.insecure_operator(),
    ):
        yield play


@contextmanager
def shared_stage(folder: Path, tables: Mapping[str, str] = TABLES) -> Iterator[Play]:
    """One for many tests, whose nodes do not count jobs that nobody went on with."""
    with lenient_stage(folder, tables) as play:
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
    """A coordinator by hand: as honest as the test lets it be.

    Attributes:
        number: the round to come.
        first: the round in which the present questions began.
        keys: the signed keys of that round, by asset, of everybody who dealt shares for it.
        boxes: what was dealt for it, by receiver and sender; in `before` for the round before.
        asked: the request of the round under way, and in `replies` what came back.
        lists: the survivors' signed lists in it, where somebody left.
    """

    def __init__(self, play: Play, job: str, grants: dict[str, str], attempt: int = 1) -> None:
        self.play, self.job, self.attempt = play, job, attempt
        history = play.market.app.state.context.log.history
        statement = history.get(job, Job)
        self.task, self.plan = plan_of(
            statement, {name: history.get(name, Asset) for name in statement.assets}
        )
        self.grants = grants
        self.number = self.first = 1
        self.keys: dict[str, bytes] = {}
        self.boxes: dict[str, dict[str, bytes]] = {}
        self.before: dict[str, dict[str, bytes]] = {}
        self.asked: RoundRequest | None = None
        self.replies: dict[str, Contribution] = {}
        self.lists: dict[str, bytes] = {}

    @property
    def assets(self) -> list[str]:
        return [seat.asset for seat in self.play.seats]

    def tell(self, asset: str, request: Any) -> Any:
        return self.play.ask(self.assets.index(asset), request)

    def heard(self, asset: str, request: Any, kind: type[Heard]) -> Heard:
        """Ask a node, and insist on this kind of answer."""
        reply = self.tell(asset, request)
        assert isinstance(reply, kind), word(reply)
        return reply

    def begin(self) -> Conversation:
        return self.exchange_keys().deal()

    def exchange_keys(self) -> Conversation:
        for at, asset in enumerate(self.assets):
            reply = ask_keys(self.play, self.job, self.grants[asset], at, attempt=self.attempt)
            assert isinstance(reply, KeysReply), word(reply)
            self.keys[asset] = reply.mask_key
        return self

    def shares_request(self, **changes: Any) -> SharesRequest:
        return replace(SharesRequest(self.job, self.attempt, 1, self.keys), **changes)

    def deal(self) -> Conversation:
        request = self.shares_request()
        self._take({a: self.heard(a, request, SharesReply).boxes for a in self.keys})
        return self

    def _take(self, dealt: dict[str, Any]) -> None:
        """Sort boxes by receiver, as they are handed out in the round to come."""
        self.before = self.boxes
        self.boxes = {
            receiver: {
                sender: boxes[receiver] for sender, boxes in dealt.items() if sender != receiver
            }
            for receiver in dealt
        }

    def question(self, step: str = "moments", parameters: Any = None) -> Question:
        return self.task.question(self.plan, step, parameters or {})

    def request(self, question: Question | None = None, **changes: Any) -> RoundRequest:
        asked = (question or self.question()).to_json()
        request = RoundRequest(self.job, self.attempt, self.number, self.first, asked, self.keys)
        return replace(request, **changes)

    def ask(self, question: Question | None = None, without: Any = ()) -> Conversation:
        """Ask everybody who dealt shares; those `without` whom the round goes on are not asked."""
        self.asked = self.request(question)
        self.replies = {
            asset: self.heard(asset, self.asked, Contribution)
            for asset in self.keys
            if asset not in without
        }
        self.lists = {}
        return self

    @property
    def survivors(self) -> list[str]:
        """Who is in the sum: those on the list, or everybody who answered where there is none."""
        return list(self.lists or self.replies)

    def survivors_request(self, **changes: Any) -> SurvivorsRequest:
        names = tuple(sorted(self.replies))
        request = SurvivorsRequest(self.job, self.attempt, self.number, names)
        return replace(request, **changes)

    def agree(self, **changes: Any) -> Conversation:
        """Have the survivors sign who they are, as is done when somebody dropped out."""
        request = self.survivors_request(**changes)
        replies = {name: self.heard(name, request, SurvivorsReply) for name in request.survivors}
        self.lists = {name: reply.signed for name, reply in replies.items()}
        return self

    def unmask_request(self, asset: str, **changes: Any) -> UnmaskRequest:
        keys = {name: self.replies[name].next_mask_key for name in self.survivors}
        request = UnmaskRequest(
            self.job, self.attempt, self.number, self.lists, self.boxes.get(asset, {}), keys
        )
        return replace(request, **changes)

    def reveal(self) -> dict[str, dict[str, bytes]]:
        """Have everybody reveal; return the shares by holder, and go on to the next round."""
        replies = {
            name: self.heard(name, self.unmask_request(name), UnmaskReply)
            for name in self.survivors
        }
        self.keys = {name: self.replies[name].next_mask_key for name in self.survivors}
        self._take({name: reply.boxes for name, reply in replies.items()})
        self.number += 1
        return {name: dict(reply.shares) for name, reply in replies.items()}

    def round(self, question: Question | None = None, without: Any = ()) -> None:
        self.ask(question, without)
        if without:
            self.agree()
        self.reveal()

    def finish(self, at: int = 0, state: str = "completed", **changes: Any) -> Any:
        request = FinishRequest(self.job, self.attempt, self.number - 1, state)
        return self.play.ask(at, replace(request, **changes))


def begun(play: Play, task: str = "statistics", **changes: Any) -> Conversation:
    job = play.job(task, **changes)
    return Conversation(play, job, play.grant_all(job)).begin()
