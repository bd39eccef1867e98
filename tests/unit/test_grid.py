"""federated.grid: a real Flower Grid in one process, and what it keeps apart."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from federated.errors import GridError, MessageError
from federated.grid import APP_RAISED, BAD_REPLY, TO_NODE, TO_SERVER, InProcessGrid
from federated.messages import ALONE, Beside, Failure, read_reply
from federated.node.client_app import make_client_app
from federated.records import ACTION, MESSAGE_TYPE, beside_of, pack, unpack

Handler = Callable[[Message, Context], Message]

RUN = 2**64 - 1
"""As large as Flower's numbers get."""


def _context(node_id: int) -> Context:
    return Context(1, node_id, {}, RecordDict(), {})


def _app(handler: Handler) -> ClientApp:
    app = ClientApp()
    app.query(ACTION)(handler)
    return app


@contextmanager
def _grid(*handlers: Handler, **options: object) -> Iterator[InProcessGrid]:
    nodes = {i: (_app(handler), _context(i)) for i, handler in enumerate(handlers, start=1)}
    with InProcessGrid(nodes, **options) as grid:  # type: ignore[arg-type]
        yield grid


def _echo(message: Message, _: Context) -> Message:
    return Message(message.content, reply_to=message)


def _ask(grid: Grid, *node_ids: int, body: bytes = b"hello") -> list[Message]:
    return [grid.create_message(pack(body), MESSAGE_TYPE, node_id, "1") for node_id in node_ids]


def test_it_carries_a_message_there_and_back():
    with _grid(_echo, _echo) as grid:
        assert isinstance(grid, Grid)
        assert grid.get_node_ids() == [1, 2]
        replies = grid.send_and_receive(_ask(grid, 2, 1))
        assert [reply.metadata.src_node_id for reply in replies] == [2, 1]
        assert [unpack(reply) for reply in replies] == [b"hello", b"hello"]


def _vandal(message: Message, _: Context) -> Message:
    message.content["rongshu"]["body"] = b"changed by a node"
    return Message(message.content, reply_to=message)


def _shared(run: Callable[[list[Message]], None]) -> bytes:
    """Sends one shared record to a vandal and then to an honest node; what the second one saw."""
    seen: list[bytes] = []

    def honest(message: Message, _: Context) -> Message:
        seen.append(unpack(message))
        return Message(message.content, reply_to=message)

    with _grid(_vandal, honest) as grid:
        messages = _ask(grid, 1, 2)
        messages[1].content = messages[0].content
        if run is None:
            grid.send_and_receive(messages[:1])
            grid.send_and_receive(messages[1:])
        else:
            _vandal(messages[0], _context(1))
            honest(messages[1], _context(2))
    return seen[0]


def test_a_node_cannot_change_a_record_that_another_node_gets():
    assert _shared(None) == b"hello"


def test_twin_without_copies_it_can():
    assert _shared(lambda _: None) == b"changed by a node"


def test_a_node_cannot_change_its_reply_after_sending_it():
    kept = []

    def keeps(message: Message, _: Context) -> Message:
        content = pack(b"first")
        kept.append(content)
        return Message(content, reply_to=message)

    with _grid(keeps) as grid:
        reply = grid.send_and_receive(_ask(grid, 1))[0]
        kept[0]["rongshu"]["body"] = b"second"
        assert unpack(reply) == b"first"


def test_an_exception_becomes_a_fixed_word():
    def raises(_message: Message, _: Context) -> Message:
        raise ValueError("patient 7 has 63.5")

    seen: list[bytes] = []
    with _grid(raises, _echo, tap=lambda *crossed: seen.append(crossed[2])) as grid:
        bad, good = grid.send_and_receive(_ask(grid, 1, 2))
    assert bad.has_error()
    assert bad.error.reason == APP_RAISED
    assert unpack(good) == b"hello"
    assert not any(b"63.5" in data for data in seen)


@pytest.mark.parametrize("leaving", [SystemExit, KeyboardInterrupt])
def test_an_app_cannot_end_its_thread(leaving: type[BaseException]):
    calls = []

    def leaves(_message: Message, _: Context) -> Message:
        calls.append(1)
        raise leaving("63.5")

    with _grid(leaves) as grid:
        for _ in range(2):
            assert grid.send_and_receive(_ask(grid, 1))[0].error.reason == APP_RAISED
    assert len(calls) == 2


def test_a_reply_in_the_name_of_another_node_is_no_reply():
    other: list[Message] = []

    def keeps(message: Message, _: Context) -> Message:
        other.append(message)
        return Message(message.content, reply_to=message)

    def forges(message: Message, _: Context) -> Message:
        return Message(message.content, reply_to=other[0])

    with _grid(keeps, forges) as grid:
        grid.send_and_receive(_ask(grid, 1))
        reply = grid.send_and_receive(_ask(grid, 2))[0]
    assert reply.error.reason == BAD_REPLY
    assert reply.metadata.src_node_id == 2


@pytest.mark.parametrize("nonsense", [None, 7, b"reply"])
def test_something_that_is_no_message_is_no_reply(nonsense: object):
    with _grid(lambda *_: nonsense) as grid:  # type: ignore[arg-type,return-value]
        assert grid.send_and_receive(_ask(grid, 1))[0].error.reason == BAD_REPLY


def test_a_slow_node_is_left_out_and_its_late_reply_dropped():
    release = threading.Event()
    answered = threading.Event()

    def slow(message: Message, _: Context) -> Message:
        release.wait(10)
        answered.set()
        return Message(message.content, reply_to=message)

    with _grid(slow, _echo) as grid:
        replies = grid.send_and_receive(_ask(grid, 1, 2), timeout=0.2)
        assert [reply.metadata.src_node_id for reply in replies] == [2]
        release.set()
        assert answered.wait(10)
        again = grid.send_and_receive(_ask(grid, 1, body=b"again"))
        assert [unpack(reply) for reply in again] == [b"again"]
        assert grid._pending == {}


def test_nodes_work_at_the_same_time():
    barrier = threading.Barrier(3)

    def meets(message: Message, _: Context) -> Message:
        barrier.wait(10)
        return Message(message.content, reply_to=message)

    with _grid(meets, meets, meets) as grid:
        replies = grid.send_and_receive(_ask(grid, 1, 2, 3), timeout=10)
    assert [reply.has_error() for reply in replies] == [False] * 3


def test_one_node_answers_one_message_at_a_time_in_order():
    busy = threading.Lock()
    order = []

    def alone(message: Message, _: Context) -> Message:
        assert busy.acquire(blocking=False)
        order.append(unpack(message))
        busy.release()
        return Message(message.content, reply_to=message)

    with _grid(alone) as grid:
        bodies = [bytes([i]) for i in range(20)]
        messages = [_ask(grid, 1, body=body)[0] for body in bodies]
        assert [unpack(reply) for reply in grid.send_and_receive(messages)] == bodies
    assert order == bodies


def test_the_tap_sees_what_crosses_in_both_directions():
    seen: list[tuple[str, int, bytes]] = []
    with _grid(_echo, tap=lambda *crossed: seen.append(crossed)) as grid:
        grid.send_and_receive(_ask(grid, 1, body=b"canary 63.5"))
    assert [(direction, node_id) for direction, node_id, _ in seen] == [
        (TO_NODE, 1),
        (TO_SERVER, 1),
    ]
    assert all(b"canary 63.5" in data for _, _, data in seen)


def test_a_failing_tap_is_heard():
    def fails(direction: str, _node_id: int, _data: bytes) -> None:
        if direction == TO_SERVER:
            raise RuntimeError("tap")

    with _grid(_echo, tap=fails) as grid, pytest.raises(RuntimeError, match="tap"):
        grid.send_and_receive(_ask(grid, 1))


def test_an_unknown_node_is_an_error_and_nothing_is_sent():
    seen = []
    with _grid(_echo, tap=lambda *crossed: seen.append(crossed)) as grid:
        with pytest.raises(GridError, match="no node 9"):
            grid.send_and_receive(_ask(grid, 1, 9))
        assert seen == []


def test_a_closed_grid_sends_nothing():
    with _grid(_echo) as grid:
        messages = _ask(grid, 1)
    with pytest.raises(GridError, match="closed"):
        grid.send_and_receive(messages)


def test_a_context_of_another_node_is_an_error():
    with pytest.raises(GridError, match="node 1 has the context of node 2"):
        InProcessGrid({1: (_app(_echo), _context(2))})


def test_the_context_stays_with_the_node_between_messages():
    def counts(message: Message, context: Context) -> Message:
        record = context.state.setdefault("n", ConfigRecord({"n": 0}))
        record["n"] += 1  # type: ignore[operator]
        return Message(pack(bytes([record["n"]])), reply_to=message)  # type: ignore[list-item]

    with _grid(counts) as grid:
        answers = [unpack(grid.send_and_receive(_ask(grid, 1))[0]) for _ in range(3)]
    assert answers == [b"\x01", b"\x02", b"\x03"]


def test_flower_prints_nothing(capfd: pytest.CaptureFixture[str]):
    def raises(_message: Message, _: Context) -> Message:
        logging.getLogger("flwr").error("63.5")
        raise ValueError("63.5")

    with _grid(raises) as grid:
        grid.send_and_receive(_ask(grid, 1))
    assert capfd.readouterr() == ("", "")


class _Breaking:
    def handle(self, _body: bytes, _beside: Beside = ALONE) -> bytes:
        raise ValueError("patient 7 has 63.5")


def test_the_client_app_answers_a_broken_node_with_one_word():
    app = make_client_app(_Breaking())
    with InProcessGrid({1: (app, _context(1))}) as grid:
        reply = grid.send_and_receive(_ask(grid, 1))[0]
    assert read_reply(unpack(reply)) == Failure("", "", "internal")


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"rongshu": ConfigRecord({"body": "text"})}),
        RecordDict({"rongshu": ConfigRecord({"body": b"a", "more": b"b"})}),
        RecordDict({"rongshu": ConfigRecord({"body": b"a", "checkpoint": "text"})}),
        RecordDict({"rongshu": ConfigRecord({"body": b"a", "lease": "text"})}),
        RecordDict({"rongshu": ConfigRecord({"checkpoint": b"a"})}),
        RecordDict({"rongshu": ConfigRecord({"lease": b"a"})}),
        RecordDict({"rongshu": ConfigRecord({"body": b"a"}), "more": ConfigRecord()}),
        RecordDict({"rongshu": ArrayRecord()}),
    ],
)
def test_a_flower_message_with_anything_but_one_body_is_refused(content: RecordDict):
    with _grid(_echo) as grid:
        unpack(_ask(grid, 1)[0])
        with pytest.raises(MessageError):
            unpack(grid.create_message(content, MESSAGE_TYPE, 1, "1"))


def test_checkpoint_and_lease_travel_beside_a_body_and_are_no_part_of_it():
    with _grid(_echo, run_id=RUN) as grid:
        asked = grid.create_message(pack(b"body", b"note", b"lease"), MESSAGE_TYPE, 1, "1")
        assert (unpack(asked), beside_of(asked)) == (b"body", Beside(b"note", b"lease", RUN))
        assert beside_of(_ask(grid, 1)[0]) == Beside(run=RUN)


def test_a_node_is_handed_what_came_with_a_request_and_in_which_run():
    handed = []

    class Node:
        def handle(self, body: bytes, beside: Beside = ALONE) -> bytes:
            handed.append((body, beside))
            return b"reply"

    with InProcessGrid({1: (make_client_app(Node()), _context(1))}, run_id=RUN) as grid:
        for content in (pack(b"body", b"note"), pack(b"body", lease=b"lease"), pack(b"body")):
            asked = grid.create_message(content, MESSAGE_TYPE, 1, "1")
            (reply,) = grid.send_and_receive([asked])
            assert unpack(reply) == b"reply"
            assert beside_of(reply) == Beside(run=RUN)
    came = [Beside(b"note", None, RUN), Beside(None, b"lease", RUN), Beside(run=RUN)]
    assert handed == [(b"body", each) for each in came]
