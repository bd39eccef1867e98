"""Every byte that nodes hand to their TLS layer during three real jobs over a real SuperLink.

Operator and SuperLink are processes. The nodes run in this one, so that each write to a TLS
connection can be kept before it is encrypted; what else this process sends (provider, researcher)
is kept too. What is sought is the same as in `test_wiretap`.
"""

import logging
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federated.address import reach
from federated.node.home import NodeHome
from federated.node.serving import Serving
from federated.node.work import Work
from federated.plan import Field
from federated.preparation import Preparation
from federated.tasks import JointTask, known_tasks
from marketplace.client import now_ms
from privacy.fixedpoint import plan_scale
from tests.deployed import Town, open_town, until
from tests.integration.test_wiretap import (
    CANARIES,
    JOBS,
    LEAKS,
    LONE,
    TABLES,
    _cells,
    _own,
)
from tests.searcher import Searcher, folder_bytes
from tests.stage import LABEL

LOOK_SECONDS = 0.2


@dataclass
class Wire:
    """What was written to TLS connections, in plain, by connection and thread."""

    said: dict[Any, bytearray] = field(default_factory=dict)
    threads: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def tap(self, patch: pytest.MonkeyPatch) -> None:
        """Keep every write of this process from now on."""
        send, sendall = ssl.SSLSocket.send, ssl.SSLSocket.sendall

        def keep(connection: ssl.SSLSocket, data: Any) -> None:
            with self.lock:
                # By connection: a number may be cut between two writes.
                self.said.setdefault(connection, bytearray()).extend(data)
                self.threads.add(threading.current_thread().name)

        def sending(connection: ssl.SSLSocket, data: Any, flags: int = 0) -> int:
            sent = send(connection, data, flags)
            keep(connection, memoryview(data)[:sent])
            return sent

        def sending_all(connection: ssl.SSLSocket, data: Any, flags: int = 0) -> None:
            # It may call `send`; then its bytes are kept twice, which harms nothing.
            keep(connection, data)
            sendall(connection, data, flags)

        patch.setattr(ssl.SSLSocket, "send", sending)
        patch.setattr(ssl.SSLSocket, "sendall", sending_all)

    def heard(self) -> list[bytes]:
        with self.lock:
            return [bytes(data) for data in self.said.values()]


def watch_insides(patch: pytest.MonkeyPatch) -> list[tuple[Field, float]]:
    """Keep each number that a node computes, in the clear, with the scale it is encoded at."""
    insides: list[tuple[Field, float]] = []

    def watch(kind: Any) -> None:
        honest = kind.answer

        def answer(self: Any, plan: Any, question: Any, rows: Any) -> Any:
            values = honest(self, plan, question, rows)
            for each in question.layout:
                insides.extend((each, float(number)) for number in values[each.name])
            return values

        patch.setattr(kind, "answer", answer)

    for task in known_tasks().values():
        # What nodes of a joint job tell each other is sealed; only sums have answers to watch.
        if not isinstance(task, JointTask):
            watch(type(task))
    return insides


@contextmanager
def nodes_here(town: Town, said: list[str]) -> Iterator[None]:
    """Run the town's nodes in this process, as `rongshu node run` does in its own."""
    stop = threading.Event()
    with ExitStack() as stack:
        for remote in town.nodes.values():
            remote.process.stop()
            home = NodeHome.load(remote.home.folder)
            address = town.market.address
            node = home.open(stack.enter_context(reach(home.folder, address)), now_ms)
            stack.callback(node._journal.close)

            def keep(node: Any = node) -> None:
                while not stop.wait(LOOK_SECONDS):
                    node.decide_by_rule(lambda: True)
                    node.keep_books()

            books = threading.Thread(target=keep, name="books")
            stack.enter_context(Serving(home, node, address, now_ms, said.append, end=stop.set))
            books.start()
            stack.callback(books.join)
            stack.callback(stop.set)
        until(lambda: said.count("connected") == len(town.nodes), "all nodes")
        yield


def listen(
    folder: Path, patch: pytest.MonkeyPatch, jobs: Any
) -> tuple[Wire, list[tuple[Field, float]], list[bytes]]:
    """Run jobs; return what crossed, what nodes computed, and what the operator holds then."""
    wire, said = Wire(), []
    wire.tap(patch)
    insides = watch_insides(patch)
    preparation = Preparation.parse({"label": LABEL}).to_json()
    with open_town(folder, TABLES, preparation) as town, nodes_here(town, said):
        for task, parameters in jobs:
            job = town.run(task, preparation=preparation, **parameters)
            town.researcher.result(job)
        town.market.export(folder / "export")
    held = folder_bytes(folder / "market" / "service") + folder_bytes(folder / "export")
    return wire, insides, [*held, *(line.encode() for line in said)]


@pytest.mark.slow
def test_no_number_of_a_row_or_of_one_party_leaves_its_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    wire, insides, held = listen(tmp_path, monkeypatch, JOBS)
    # All that nodes say was kept: signs of life, messages, decisions and receipts.
    assert {"heart", "fleet", "books"} <= wire.threads
    heard = wire.heard()
    assert sum(map(len, heard)) > 100_000
    for path in (b"/v1/fleet/push-object", b"/v1/nodes/heartbeats", b"/v1/grants", b"/v1/receipts"):
        assert any(path in data for data in heard), path
    assert len(insides) > 100
    logged = [record.getMessage().encode() for record in caplog.records]
    said = heard + logged
    assert _own(insides).found(said) == set()
    assert _cells(insides).found(said) == set()
    # A word of which six bytes are zero is found by chance among the free pages of a database.
    for searcher in (_own(insides), _cells(insides)):
        assert {hit for hit in searcher.found(held) if "bits in" not in hit} == set()


@pytest.mark.slow
def test_a_task_that_puts_a_cell_into_its_answer_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    honest = Work.contribution

    def leaking(work: Work, request: Any, masked: Any) -> Any:
        assert work.rows is not None
        cell = float(work.rows.column("chol", "all")[0])
        leak = np.frombuffer(b"".join(made(cell) for made in LEAKS.values()), dtype="<u8")
        return honest(work, request, np.concatenate([leak, masked[len(leak) :]]))

    monkeypatch.setattr(Work, "contribution", leaking)
    wire, said = Wire(), []
    wire.tap(monkeypatch)
    preparation = Preparation.parse({"label": LABEL}).to_json()
    with open_town(tmp_path, TABLES, preparation) as town, nodes_here(town, said):
        town.wait(town.submit(preparation=preparation, columns=["chol", "pressure"]))
    searcher = Searcher()
    for cell in (*CANARIES, *LONE):
        searcher.seek_number(cell)
        searcher.seek_encoded(cell, plan_scale(2.0**16, 3))
    caught = searcher.found(wire.heard())
    for form in ("as text", "as float64", "bits in"):
        assert any(repr(CANARIES[0]) in hit and form in hit for hit in caught), (form, caught)
