"""The way to the SuperLink: what is held, what ends the wait, and what is never taken in vain."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import Request

from federated.superlink.process import Access
from marketplace.errors import NotFoundError
from marketplace.fleet import proxy as proxies
from marketplace.fleet.proxy import PATHS, Proxy

MESSAGE = b"a message"


class Line:
    """A link whose SuperLink answers by hand; messages are handed over once, as Flower does."""

    def __init__(self) -> None:
        self.access: Access | None = Access("127.0.0.1:1", b"", b"")
        self.waiting: list[bytes] = []
        self.asked: list[str] = []
        self.stirs = 0
        self.ears: list[Callable[[], None]] = []
        self.status = 200

    def stir(self) -> None:
        self.stirs += 1

    def listen(self, ear: Callable[[], None]) -> None:
        self.ears.append(ear)

    def send(self, data: bytes) -> None:
        self.waiting.append(data)
        for ear in self.ears:
            ear()

    def answer(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        self.asked.append(name)
        pulls = name == "pull-messages" and self.waiting
        return httpx.Response(self.status, content=self.waiting.pop(0) if pulls else b"")


class Node:
    """A node's connection: what it asks, and whether it is still there."""

    def __init__(self) -> None:
        self.gone = False
        self.asked = False

    def request(self, name: str, **headers: str) -> Request:
        async def receive() -> dict[str, Any]:
            if not self.asked:
                self.asked = True
                return {"type": "http.request", "body": b"asked", "more_body": False}
            if self.gone:
                return {"type": "http.disconnect"}
            await asyncio.sleep(3600)
            raise AssertionError

        given = [(key.replace("_", "-").encode(), text.encode()) for key, text in headers.items()]
        scope = {"type": "http", "method": "POST", "path": f"/v1/fleet/{name}", "headers": given}
        return Request(scope, receive)


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def proxy(line: Line, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    made = Proxy(line)  # type: ignore[arg-type]

    def connected(_: bytes) -> httpx.AsyncClient:
        if made._client is None:
            made._client = httpx.AsyncClient(transport=httpx.MockTransport(line.answer))
            made._loop = asyncio.get_running_loop()
            line.listen(made._heard)
        return made._client

    monkeypatch.setattr(made, "_connected", connected)
    return made


async def held(line: Line, task: "asyncio.Task[Any]") -> None:
    """Wait until a request has asked in vain and is being held."""
    for _ in range(50):
        await asyncio.sleep(0)
    assert line.asked
    assert not task.done()


def test_a_request_is_held_until_a_message_comes(line: Line, proxy: Proxy):
    async def play() -> None:
        task = asyncio.ensure_future(proxy.pass_on("pull-messages", Node().request("x")))
        await held(line, task)
        line.send(MESSAGE)
        assert (await task).body == MESSAGE
        assert line.asked == ["pull-messages"] * 2

    asyncio.run(play())


def test_a_message_that_waits_is_handed_over_at_once(line: Line, proxy: Proxy):
    line.waiting.append(MESSAGE)
    answer = asyncio.run(proxy.pass_on("pull-messages", Node().request("x")))
    assert answer.body == MESSAGE
    assert line.asked == ["pull-messages"]


def test_a_message_is_not_taken_for_a_node_that_hung_up(line: Line, proxy: Proxy):
    """Guards: the dead process's request took the message that its successor waited for."""

    async def play() -> None:
        node = Node()
        task = asyncio.ensure_future(proxy.pass_on("pull-messages", node.request("x")))
        await held(line, task)
        node.gone = True
        line.send(MESSAGE)
        assert (await task).body == b""
        assert line.waiting == [MESSAGE]
        successor = await proxy.pass_on("pull-messages", Node().request("x"))
        assert successor.body == MESSAGE

    asyncio.run(play())


def test_a_request_is_not_held_for_ever(line: Line, proxy: Proxy, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(proxies, "HOLD_SECONDS", 0.01)
    answer = asyncio.run(proxy.pass_on("pull-messages", Node().request("x")))
    assert (answer.status_code, answer.body) == (200, b"")
    assert line.asked == ["pull-messages"] * 2


def test_what_another_process_sent_is_found_too(
    line: Line, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(proxies, "LOOK_SECONDS", 0.01)

    async def play() -> None:
        task = asyncio.ensure_future(proxy.pass_on("pull-messages", Node().request("x")))
        await held(line, task)
        # Nobody rings.
        line.waiting.append(MESSAGE)
        assert (await task).body == MESSAGE

    asyncio.run(play())


def test_a_refused_request_is_not_held(line: Line, proxy: Proxy):
    line.status = 401
    answer = asyncio.run(proxy.pass_on("pull-messages", Node().request("x")))
    assert answer.status_code == 401
    assert line.asked == ["pull-messages"]


def test_a_node_that_leaves_ends_its_own_wait(line: Line, proxy: Proxy):
    async def play() -> None:
        first, second = (
            asyncio.ensure_future(proxy.pass_on("pull-messages", Node().request("x", **of)))
            for of in ({"flwr_public_key": "first"}, {"flwr_public_key": "second"})
        )
        await held(line, second)
        await proxy.pass_on("deactivate-node", Node().request("x", flwr_public_key="first"))
        assert (await first).body == b""
        # Another node's is held on.
        await held(line, second)
        line.send(MESSAGE)
        assert (await second).body == MESSAGE

    asyncio.run(play())


@pytest.mark.parametrize("name", sorted(PATHS))
def test_a_push_wakes_the_coordinator_and_nothing_else_does(
    line: Line, proxy: Proxy, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(proxies, "HOLD_SECONDS", 0.01)
    monkeypatch.setattr(proxies, "STIR_SECONDS", 0.0)

    async def play() -> None:
        await proxy.pass_on(name, Node().request("x"))
        await asyncio.sleep(0.01)

    asyncio.run(play())
    assert line.stirs == (1 if name.startswith("push-") else 0)


def test_a_reply_wakes_the_coordinator_once_when_it_is_there_whole(line: Line, proxy: Proxy):
    async def play() -> None:
        for node in ("first", "second"):
            await proxy.pass_on("push-messages", Node().request("x", flwr_public_key=node))
        assert line.stirs == 0
        await proxy.pass_on("push-object", Node().request("x", flwr_public_key="first"))
        assert line.stirs == 1
        # The second needs none, and is told by and by.
        await asyncio.sleep(2 * proxies.STIR_SECONDS)
        assert line.stirs == 2

    asyncio.run(play())


def test_the_superlink_is_not_asked_again_before_more_was_sent(line: Line, proxy: Proxy):
    async def play() -> None:
        line.waiting.append(MESSAGE)
        assert (await proxy.pass_on("pull-messages", Node().request("x"))).body == MESSAGE
        task = asyncio.ensure_future(proxy.pass_on("pull-messages", Node().request("x")))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert line.asked == ["pull-messages"]
        line.send(MESSAGE)
        assert (await task).body == MESSAGE
        assert line.asked == ["pull-messages"] * 2

    asyncio.run(play())


def test_messages_of_two_jobs_are_handed_over_one_after_the_other_at_once(line: Line, proxy: Proxy):
    """Guards: the second waited until the SuperLink was looked at again, two seconds later."""

    async def play() -> None:
        task = asyncio.ensure_future(proxy.pass_on("pull-messages", Node().request("x")))
        await held(line, task)
        line.send(MESSAGE)
        line.send(b"another job's")
        assert (await task).body == MESSAGE
        second = proxy.pass_on("pull-messages", Node().request("x"))
        assert (await asyncio.wait_for(second, 1.0)).body == b"another job's"

    asyncio.run(play())


def test_whoever_is_held_without_a_look_is_let_in_by_the_superlink_alone(line: Line, proxy: Proxy):
    async def play() -> None:
        line.waiting.append(MESSAGE)
        assert (await proxy.pass_on("pull-messages", Node().request("x"))).body == MESSAGE
        task = asyncio.ensure_future(proxy.pass_on("pull-messages", Node().request("x")))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not task.done()
        line.status = 401
        for ear in line.ears:
            ear()
        answer = await asyncio.wait_for(task, 1.0)
        assert (answer.status_code, answer.body) == (401, b"")

    asyncio.run(play())


def test_what_was_sent_while_a_node_worked_is_handed_over_at_once(line: Line, proxy: Proxy):
    async def play() -> None:
        line.waiting.append(MESSAGE)
        assert (await proxy.pass_on("pull-messages", Node().request("x"))).body == MESSAGE
        line.send(MESSAGE)
        await asyncio.sleep(0.01)
        task = asyncio.ensure_future(proxy.pass_on("pull-messages", Node().request("x")))
        assert (await asyncio.wait_for(task, 1.0)).body == MESSAGE

    asyncio.run(play())


def test_only_what_authenticates_a_node_is_passed_on(
    line: Line, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
):
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=b"x", headers={"set-cookie": "a=b", "x-own": "1"})

    monkeypatch.setattr(line, "answer", answer)
    proof = {"flwr_public_key": "k", "flwr_signature": "s", "flwr_timestamp": "t"}
    request = Node().request("x", authorization="Bearer rsk", cookie="a=b", **proof)
    found = asyncio.run(proxy.pass_on("push-object", request))
    assert seen[0].content == b"asked"
    assert seen[0].headers["flwr-signature"] == "s"
    assert not {"authorization", "cookie"} & set(seen[0].headers)
    assert not {"set-cookie", "x-own"} & set(found.headers)


@pytest.mark.parametrize(
    "name",
    ["register-node", "unregister-node", "get-fab", "../control/list-nodes", "", "Pull-object"],
)
def test_no_other_path_is_passed_on(line: Line, proxy: Proxy, name: str):
    with pytest.raises(NotFoundError):
        asyncio.run(proxy.pass_on(name, Node().request("x")))
    assert line.asked == []


def test_while_no_superlink_answers_a_node_is_told_to_ask_again(line: Line, proxy: Proxy):
    line.access = None
    answer = asyncio.run(proxy.pass_on("pull-messages", Node().request("x")))
    assert answer.status_code == 503
    assert line.asked == []
