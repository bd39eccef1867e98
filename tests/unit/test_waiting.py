"""Waiting for the nodes of one exchange: who is told as lost, asked again, given up.

The line and what is heard of nodes are scripted against a clock of the test's own; the exchange,
and the messages on the line, are the product's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from flwr.app import Message
from flwr.supercore.run import Run

from federated import exchange
from federated.exchange import NO_REPLY, SHOW_SECONDS, WAIT_SECONDS, Exchange, Replies
from federated.messages import FinishReply
from federated.presence import ALIVE, LOST, LOST_SECONDS, NEVER
from federated.records import new_message, pack
from federated.session import Member, Progress, Session
from federated.tasks import find_task
from ledger.keys import SigningKey
from tests.fake_nodes import make_bench

JOB = "job:" + "1" * 64
NORTH, SOUTH = ("asset:" + digit * 64 for digit in "12")
NODES = {NORTH: 1, SOUTH: 2}
REJOIN = 4.0
TIMEOUT = 100.0

State = Callable[[float], str]


def away(start: float, stop: float = TIMEOUT * 2) -> State:
    """A node that is lost between two moments."""
    return lambda now: LOST if start <= now < stop else ALIVE


@dataclass
class Scene:
    """Two nodes, what is heard of them at each moment, and when each answers what it was sent."""

    states: dict[str, State] = field(default_factory=dict)
    boots: dict[str, Callable[[float], str]] = field(default_factory=dict)
    answers: dict[str, Callable[[float], bool]] = field(default_factory=dict)
    now: float = 0.0
    sent: list[tuple[float, str]] = field(default_factory=list)
    told: list[tuple[float, str, str]] = field(default_factory=list)
    pulled: int = 0
    waiting: dict[str, Message] = field(default_factory=dict)

    # What is heard of nodes: a `Watch`.
    def of(self, asset: str) -> str:
        return self.states.get(asset, lambda _: ALIVE)(self.now)

    def boot(self, asset: str) -> str:
        return self.boots.get(asset, lambda _: "one")(self.now)

    # The line: a `WaitingGrid`.
    run = Run.create_empty(1)

    def create_message(self, content: object, kind: str, node: int, group: str) -> Message:
        return new_message(1, content, kind, node, group)  # type: ignore[arg-type]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        names = []
        for message in messages:
            name = f"sent {len(self.sent)}"
            (asset,) = (a for a, node in NODES.items() if node == message.metadata.dst_node_id)
            self.sent.append((self.now, asset))
            self.waiting[name] = message
            names.append(name)
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        self.pulled += 1
        came = []
        for name in list(message_ids):
            node = self.waiting[name].metadata.dst_node_id
            (asset,) = (a for a, number in NODES.items() if number == node)
            if self._stayed(asset, since=self.sent[int(name.split()[1])][0]) and self._ready(asset):
                reply = Message(
                    pack(FinishReply(asset.encode()).to_bytes()), reply_to=self.waiting[name]
                )
                reply.metadata.__dict__["_reply_to_message_id"] = name
                came.append(reply)
        return came

    def _stayed(self, asset: str, since: float) -> bool:
        """Whether a node was there all the time; what it had taken when it went away is lost."""
        there = self.states.get(asset, lambda _: ALIVE)
        steps = int((self.now - since) / WAIT_SECONDS) + 1
        return {there(since + step * WAIT_SECONDS) for step in range(steps)} == {ALIVE}

    def _ready(self, asset: str) -> bool:
        return self.answers.get(asset, lambda _: True)(self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def progress(self, seen: Progress) -> None:
        self.told.append((self.now, seen.asset, seen.state))

    def send(self, timeout: float = TIMEOUT) -> Replies[FinishReply]:
        bench = make_bench()
        key = SigningKey.generate("rongshu/test").verify_key
        session = Session(
            job=JOB,
            attempt=1,
            plan=bench.plan,
            task=find_task("statistics"),
            members={asset: Member(node, key) for asset, node in NODES.items()},
            deliver=lambda _: None,
            timeout=timeout,
            watch=self,
            rejoin=REJOIN,
            progress=self.progress,
        )
        bodies = dict.fromkeys(NODES, FinishReply(b"asked").to_bytes())
        return Exchange(session, self).send(bodies, FinishReply, 3, "newton")  # type: ignore[arg-type]

    def states_told(self, asset: str) -> list[str]:
        return [state for _, name, state in self.told if name == asset]

    def times_sent(self, asset: str) -> list[float]:
        return [at for at, name in self.sent if name == asset]


@pytest.fixture(name="scene")
def _scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = Scene()
    monkeypatch.setattr(exchange, "time", SimpleNamespace(monotonic=lambda: scene.now))
    return scene


def test_whoever_is_there_is_asked_once(scene: Scene):
    replies = scene.send()
    assert set(replies.answers) == set(NODES)
    assert [asset for _, asset in scene.sent] == [NORTH, SOUTH]
    assert [state for _, _, state in scene.told] == ["answered"] * 2


def test_a_lost_node_is_told_at_once_waited_for_and_then_given_up(scene: Scene):
    scene.states[SOUTH] = away(0.0)
    replies = scene.send()
    assert (set(replies.answers), replies.gone) == ({NORTH}, {SOUTH: NO_REPLY})
    assert (WAIT_SECONDS, SOUTH, "lost") in scene.told
    assert REJOIN <= scene.now < REJOIN + 1.0


def test_one_that_is_back_in_time_is_asked_again_and_answers(scene: Scene):
    scene.states[SOUTH] = away(1.0, 1.0 + REJOIN - 0.5)
    scene.answers[SOUTH] = lambda now: now > 2.0
    replies = scene.send()
    assert set(replies.answers) == set(NODES)
    assert len(scene.times_sent(SOUTH)) == 2
    assert scene.times_sent(NORTH) == [0.0]
    assert [*dict.fromkeys(scene.states_told(SOUTH))] == ["lost", "waiting", "answered"]


def test_one_that_is_back_too_late_is_given_up(scene: Scene):
    scene.states[SOUTH] = away(0.0, REJOIN + 0.5)
    assert scene.send().gone == {SOUTH: NO_REPLY}
    assert scene.times_sent(SOUTH) == [0.0]


def test_each_absence_is_waited_for_anew(scene: Scene):
    def twice(now: float) -> str:
        return LOST if 1.0 <= now < 4.0 or 5.0 <= now < 8.0 else ALIVE

    scene.states[SOUTH] = twice
    scene.answers[SOUTH] = lambda now: now > 8.0
    assert set(scene.send().answers) == set(NODES)
    assert len(scene.times_sent(SOUTH)) == 3


def test_another_process_of_a_node_is_asked_again_though_nobody_saw_it_gone(scene: Scene):
    scene.boots[SOUTH] = lambda now: "one" if now < 1.0 else "two"
    scene.answers[SOUTH] = lambda now: now > 2.0
    assert set(scene.send().answers) == set(NODES)
    assert scene.times_sent(SOUTH) == [0.0, 1.0]


def test_an_operator_that_was_away_itself_gives_nobody_up(scene: Scene):
    # It stood still for an hour, and at its first look has heard of nobody for as long.
    def heard_again(now: float) -> str:
        return LOST if 3600.0 <= now < 3602.0 else ALIVE

    def stood_still(seconds: float) -> None:
        scene.now = 3600.0 if scene.now < 1.0 else scene.now + seconds

    scene.states = dict.fromkeys(NODES, heard_again)
    scene.answers = dict.fromkeys(NODES, lambda now: now > 3602.0)
    scene.wait = stood_still  # type: ignore[method-assign]
    assert set(scene.send(timeout=10_000.0).answers) == set(NODES)


def test_an_operator_that_has_just_begun_listens_before_it_calls_anybody_lost(scene: Scene):
    scene.states[SOUTH] = lambda now: NEVER if now < LOST_SECONDS - 1.0 else ALIVE
    scene.boots[SOUTH] = lambda now: "" if now < LOST_SECONDS - 1.0 else "one"
    assert set(scene.send().answers) == set(NODES)
    assert "lost" not in scene.states_told(SOUTH)


def test_one_that_was_never_heard_is_lost_and_then_given_up(scene: Scene):
    scene.states[SOUTH] = lambda _: NEVER
    assert scene.send().gone == {SOUTH: NO_REPLY}
    assert "lost" in scene.states_told(SOUTH)
    assert LOST_SECONDS + REJOIN <= scene.now < LOST_SECONDS + REJOIN + 1.0


def test_one_that_computes_for_long_is_shown_as_waited_for_and_given_up_at_the_timeout(
    scene: Scene,
):
    scene.answers[SOUTH] = lambda _: False
    replies = scene.send(timeout=20.0)
    assert replies.gone == {SOUTH: NO_REPLY}
    assert 20.0 <= scene.now < 21.0
    told = scene.states_told(SOUTH)
    assert told[:-1] == ["waiting"] * len(told[:-1])
    assert 20.0 / SHOW_SECONDS / 2 < len(told) <= 20.0 / SHOW_SECONDS + 1
    assert scene.times_sent(SOUTH) == [0.0]


def test_nobody_is_asked_for_news_without_a_pause(scene: Scene):
    scene.answers[SOUTH] = lambda now: now > 5.0
    scene.send()
    assert scene.pulled <= 5.0 / WAIT_SECONDS + 3


def test_a_second_reply_to_what_was_sent_again_is_not_waited_for(scene: Scene):
    scene.boots[SOUTH] = lambda now: "one" if now < 1.0 else "two"
    scene.answers = dict.fromkeys(NODES, lambda now: now > 2.0)
    replies = scene.send()
    assert set(replies.answers) == set(NODES)
    assert not replies.failures
