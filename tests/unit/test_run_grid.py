"""A node that Flower takes for gone: for how long its message is sent again, and when it is not."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.message_pb2 import ObjectTree

from federated.errors import SuperLinkError
from federated.records import MESSAGE_TYPE, pack
from federated.superlink import run_grid
from federated.superlink.bell import NoBell
from federated.superlink.process import Access
from federated.superlink.run_grid import RETURN_SECONDS, Patience, RunGrid


@dataclass
class SuperLink:
    """Takes every message, and has one answer for each question: the node is away, or nothing."""

    now: float = 1000.0
    away: bool = True
    pushed: int = 0

    def monotonic(self) -> float:
        return self.now

    def PullTaskInput(self, _: Any) -> Any:  # noqa: N802 - Flower's name
        return SimpleNamespace(run=None)

    def PushMessages(self, request: Any) -> Any:  # noqa: N802
        self.pushed += 1
        ids = [each.metadata.message_id for each in request.messages_list]
        return SimpleNamespace(message_ids=ids, objects_to_push=[], session_id="")

    def PullMessages(self, request: Any) -> Any:  # noqa: N802
        heads = [self._gone(name) for name in request.message_ids] if self.away else []
        return SimpleNamespace(
            messages_list=heads, message_object_trees=[ObjectTree() for _ in heads]
        )

    def _gone(self, name: str) -> MessageProto:
        head = MessageProto()
        head.metadata.reply_to_message_id = name
        head.error.code = ErrorCode.NODE_UNAVAILABLE
        return head


@pytest.fixture(name="link")
def _link(monkeypatch: pytest.MonkeyPatch) -> SuperLink:
    link = SuperLink()
    monkeypatch.setattr(run_grid, "runtime", lambda *_: link)
    monkeypatch.setattr(run_grid, "run_from_proto", lambda _: SimpleNamespace(run_id=7))
    monkeypatch.setattr(run_grid, "time", link)
    monkeypatch.setattr(run_grid.messages, "join", lambda head, *_: head)
    monkeypatch.setattr(RunGrid, "_keep_alive", lambda _: None)
    return link


def asked(link: SuperLink) -> tuple[RunGrid, str]:
    grid = RunGrid(Access("127.0.0.1:1", b"", b""), "token", NoBell(), Patience())
    (name,) = grid.push_messages([grid.create_message(pack(b"body"), MESSAGE_TYPE, 2, "1")])
    assert link.pushed == 1
    return grid, name


def given_up(link: SuperLink, grid: RunGrid, name: str, seconds: float) -> bool:
    """Look for the reply four times a second; whether it comes, as Flower's error."""
    for _ in range(round(seconds * 4)):
        link.now += 0.25
        if grid.pull_messages([name]):
            return True
    return False


def test_a_node_that_is_away_is_asked_again_until_it_was_away_for_too_long(link: SuperLink):
    grid, name = asked(link)
    assert not given_up(link, grid, name, RETURN_SECONDS)
    assert link.pushed > RETURN_SECONDS / 2
    assert given_up(link, grid, name, 2.0)


def test_one_that_was_there_in_between_is_missed_anew(link: SuperLink):
    grid, name = asked(link)
    assert not given_up(link, grid, name, 2.0)
    link.away = False
    assert not given_up(link, grid, name, RETURN_SECONDS)
    # As late as in the test above, where it is given up.
    link.away = True
    assert not given_up(link, grid, name, RETURN_SECONDS)
    assert given_up(link, grid, name, 2.0)


def answered_first_with(status: int) -> list[int]:
    """Call a SuperLink whose first answer is an error; return how many calls were made."""
    request, calls = httpx.Request("POST", "https://127.0.0.1:1"), []

    def call() -> list[int]:
        calls.append(status)
        if len(calls) == 1:
            answer = httpx.Response(status, request=request)
            raise httpx.HTTPStatusError("not what is shown", request=request, response=answer)
        return calls

    return Patience()(call)


@pytest.mark.parametrize("status", [500, 503])
def test_what_passes_is_waited_for(status: int):
    """Guards: 500 says that Flower's database was locked, and ended the job."""
    assert len(answered_first_with(status)) == 2


@pytest.mark.parametrize("status", [401, 404, 412])
def test_what_the_superlink_refuses_is_not_asked_again(status: int):
    with pytest.raises(SuperLinkError, match=f"refuses: HTTP {status}"):
        answered_first_with(status)
