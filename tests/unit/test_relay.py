"""The coordinator of a joint job: what it carries, and every reply that it does not take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest
from flwr.app import Context, RecordDict

from federated.channel import Channel
from federated.errors import TaskError
from federated.grid import InProcessGrid
from federated.messages import (
    ALONE,
    Beside,
    Failure,
    FinishReply,
    FinishRequest,
    KeysReply,
    KeysRequest,
    Refusal,
    RelayReply,
    RelayRequest,
    body_digest,
    read_request,
)
from federated.node.client_app import make_client_app
from federated.peers import Use
from federated.plan import Party, Plan
from federated.server_app import make_server_app, run_in_process
from federated.session import Completed, Failed, Member, Outcome, Refused, Session
from federated.tasks.joint import JointTask, Part, Place, Talk
from ledger.encoding import canonical
from ledger.keys import SigningKey, VerifyKey
from ledger.statements.receipt import Contribution, JournalPosition, Receipt

JOB, GRANT = "job:" + "1" * 64, "grant:" + "2" * 64
A, B = (f"asset:{at:064d}" for at in range(2))
STRANGER = "asset:" + "9" * 64


class Greeting(JointTask):
    """Each tells the other its name, and reports what it heard."""

    name: ClassVar[str] = "greeting"
    version: ClassVar[int] = 1
    most_rounds: ClassVar[int] = 4

    def parse_parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return dict(given)

    def check_plan(self, plan: Plan) -> None:
        if "refuse" in plan.parameters:
            raise TaskError("bad_parameter", "not this one")

    def row_choices(self, plan: Plan) -> tuple[str, ...]:
        del plan
        return ("all",)

    def check_rows(self, plan: Plan, asset: str, rows: Any) -> None: ...

    def take_part(self, plan: Plan, place: Place, rows: Any) -> Talk:
        del rows
        (peer,) = [each.asset_id for each in plan.cohort if each.asset_id != place.asset]
        while plan.parameters.get("endless"):
            yield {}
        incoming = yield {peer: place.asset.encode()}
        return Part({"heard": incoming[peer].decode()})

    def conclude(self, plan: Plan, reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        del plan
        return {asset: report["heard"] for asset, report in reports.items()}


Twist = Callable[[Any], Any]


@dataclass
class Talker:
    """A node as PROTOCOL.md says, without evidence, guard and journal; `twist` changes a reply."""

    asset: str
    key: SigningKey
    peers: Mapping[str, VerifyKey]
    plan: Plan
    twist: Twist = field(default=lambda reply: reply)
    sent: list[Contribution] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    channel: Channel | None = None
    talk: Talk | None = None
    part: Part | None = None

    def handle(self, body: bytes, _beside: Beside = ALONE) -> bytes:
        request = read_request(body)
        said = self.twist(self.answer(request))
        reply = said if isinstance(said, bytes) else said.to_bytes()
        if isinstance(request, RelayRequest):
            digests = body_digest(body), body_digest(reply)
            self.sent.append(Contribution(request.round, *digests))
        return reply

    def answer(self, request: Any) -> Any:
        if isinstance(request, KeysRequest):
            use = Use(JOB, request.attempt, 1, request.cohort)
            self.channel = Channel.fresh(use, self.asset, self.key)
            return KeysReply(self.asset, self.channel.signed)
        if isinstance(request, FinishRequest):
            self.ended.append(request.state)
            return FinishReply(self.receipt(request.state))
        assert self.channel is not None
        if request.round == 1:
            self.channel.meet(request.keys, self.peers)
        outgoing = self.go_on(self.channel.open(request.round, request.parcels))
        report = None if self.part is None else canonical(dict(self.part.report))
        sealed = self.channel.seal(request.round, outgoing)
        return RelayReply(self.asset, JOB, 1, request.round, sealed, report)

    def go_on(self, incoming: dict[str, bytes]) -> Mapping[str, bytes]:
        if self.part is not None:
            return {}
        try:
            if self.talk is None:
                place = Place(self.asset, bytes(32))
                self.talk = Greeting().take_part(self.plan, place, None)  # type: ignore[arg-type]
                return next(self.talk)
            return self.talk.send(incoming)
        except StopIteration as stop:
            self.part = stop.value
            return {}

    def receipt(self, state: str) -> bytes:
        reason = None if state == "completed" else "cancelled"
        statement = Receipt(
            asset=self.asset,
            job=JOB,
            grant=GRANT,
            state=state,
            reason=reason,
            code_digest="sha256:" + 64 * "0",
            log_size=1,
            rows=1,
            contributions=tuple(self.sent),
            journal=JournalPosition(0, "sha256:" + 64 * "0"),
            issued=1,
        )
        return statement.sign(self.key)


@dataclass
class Stage:
    nodes: dict[str, Talker]
    plan: Plan

    def run(self) -> Outcome:
        outcomes: list[Outcome] = []
        members = {
            asset: Member(at, node.key.verify_key, {"grant": GRANT})
            for at, (asset, node) in enumerate(self.nodes.items(), start=2)
        }
        session = Session(
            job=JOB,
            attempt=1,
            plan=self.plan,
            task=Greeting(),
            members=members,
            deliver=outcomes.append,
            timeout=20.0,
        )
        apps = {
            members[asset].node_id: (
                make_client_app(node),
                Context(1, members[asset].node_id, {}, RecordDict(), {}),
            )
            for asset, node in self.nodes.items()
        }
        with InProcessGrid(apps) as grid:
            run_in_process(make_server_app(session), grid)
        (outcome,) = outcomes
        return outcome


def stage(twist: Twist | None = None, **parameters: Any) -> Stage:
    plan = Plan("greeting", 1, parameters, tuple(Party(name, name, 1, {}) for name in (A, B)))
    keys = {asset: SigningKey.generate("node") for asset in (A, B)}
    peers = {asset: key.verify_key for asset, key in keys.items()}
    nodes = {asset: Talker(asset, keys[asset], peers, plan) for asset in (A, B)}
    if twist is not None:
        nodes[B].twist = twist
    return Stage(nodes, plan)


def test_what_each_says_reaches_the_other_and_the_last_round_is_kept_whole():
    play = stage()
    outcome = play.run()
    assert isinstance(outcome, Completed)
    assert outcome.result == {A: B, B: A}
    assert [record.number for record in outcome.rounds] == [1, 2]
    assert [set(record.bodies) for record in outcome.rounds] == [set(), {A, B}]
    for asset, node in play.nodes.items():
        digests = [record.digests[asset] for record in outcome.rounds]
        assert digests == [(each.request, each.reply) for each in node.sent]
    assert set(outcome.receipts) == {A, B}
    assert [node.ended for node in play.nodes.values()] == [["completed"]] * 2


def in_reply(**changes: Any) -> Twist:
    return lambda said: replace(said, **changes) if isinstance(said, RelayReply) else said


def instead(other: Any) -> Twist:
    return lambda said: other if isinstance(said, RelayReply) else said


def at_the_end(**changes: Any) -> Twist:
    def twist(said: Any) -> Any:
        done = isinstance(said, RelayReply) and said.report is not None
        return replace(said, **changes) if done else said

    return twist


@pytest.mark.parametrize(
    ("twist", "word"),
    [
        (in_reply(asset=A), "wrong_place"),
        (in_reply(job="job:" + "3" * 64), "wrong_place"),
        (in_reply(attempt=2), "wrong_place"),
        (in_reply(round=4), "wrong_place"),
        (in_reply(parcels={STRANGER: b"x"}), "wrong_parcels"),
        (in_reply(parcels={B: b"to itself"}), "wrong_parcels"),
        (at_the_end(report=b"[1]"), "wrong_report"),
        (at_the_end(report=b'{"heard": 1}'), "wrong_report"),
        (lambda said: b"{}" if isinstance(said, RelayReply) else said, "malformed"),
        (lambda said: KeysReply(B, b"x") if isinstance(said, RelayReply) else said, "unexpected"),
        (
            lambda said: Failure(JOB, B, "too_few") if isinstance(said, RelayReply) else said,
            "too_few",
        ),
    ],
)
def test_a_reply_that_is_not_the_nodes_in_this_place_ends_the_job_and_names_it(
    twist: Twist, word: str
):
    play = stage(twist)
    outcome = play.run()
    assert isinstance(outcome, Failed)
    assert outcome.reasons == {B: word}
    assert play.nodes[A].ended == ["failed"]


def test_a_refusal_in_the_middle_ends_the_job_at_the_other():
    play = stage(instead(Refusal(JOB, B, "revoked", None)))
    outcome = play.run()
    assert isinstance(outcome, Refused)
    assert outcome.reasons == {B: "revoked"}
    assert play.nodes[A].ended == ["failed"]


def test_a_receipt_of_other_rounds_is_no_receipt():
    play = stage()

    def forgetful(said: Any) -> Any:
        if isinstance(said, FinishReply):
            play.nodes[B].sent = play.nodes[B].sent[:1]
            return FinishReply(play.nodes[B].receipt("completed"))
        return said

    play.nodes[B].twist = forgetful
    outcome = play.run()
    assert isinstance(outcome, Failed)
    assert outcome.reasons == {B: "bad_receipt"}


def test_a_talk_without_end_is_ended():
    play = stage(endless=True)
    outcome = play.run()
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, TaskError)
    assert "did not end in 4 rounds" in str(outcome.error)
    assert [node.ended for node in play.nodes.values()] == [["failed"]] * 2


def test_a_plan_that_cannot_work_asks_no_node():
    play = stage(refuse=True)
    outcome = play.run()
    assert isinstance(outcome, Failed)
    assert [node.channel for node in play.nodes.values()] == [None, None]
