"""The same task over the same Grid with nothing that governs it: baseline of the federated bench.

Nodes answer whoever asks, unmasked, and write nothing down. Task, encoding, message form, threads
and serialisation are those of the governed run, so what the two differ by is governance.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from bench.federated_trace import Run, Tap
from federated.grid import InProcessGrid
from federated.plan import Plan, Question, Words
from federated.records import ACTION, MESSAGE_TYPE, pack, unpack
from federated.tasks import encode_answer, find_task, replay
from federated.tasks.question import PreparedRows
from ledger.encoding import canonical, parse

WORD = np.dtype("<u8")


@dataclass(frozen=True)
class Plain:
    """A task over prepared rows, one set for each node."""

    plan: Plan
    rows: Sequence[PreparedRows]

    def run(self) -> tuple[Run, tuple[str, ...]]:
        """Compute once; return what it took, and the step that each round asked."""
        tap = Tap()
        results: list[dict[str, Any]] = []
        steps: list[str] = []
        tap.start()
        begun = time.perf_counter()
        nodes = {
            number: (_client_app(self.plan, rows), _context(number))
            for number, rows in enumerate(self.rows, start=2)
        }
        with InProcessGrid(nodes, tap=tap) as grid:
            _server_app(self.plan, results, steps)(grid, _context(0))
        seconds = time.perf_counter() - begun
        return Run(tap.rounds(), seconds, tap.conversation(), results[0]), tuple(steps)


def _client_app(plan: Plan, rows: PreparedRows) -> ClientApp:
    app, task = ClientApp(), find_task(plan.task)

    @app.query(ACTION)
    def answer(message: Message, context: Context) -> Message:
        del context
        question = Question.from_json(parse(unpack(message)))
        words = encode_answer(question.layout, task.answer(plan, question, rows))
        return Message(pack(words.astype(WORD).tobytes()), reply_to=message)

    return app


def _server_app(plan: Plan, results: list[dict[str, Any]], steps: list[str]) -> ServerApp:
    """An app that appends the task's result to `results` and each question's step to `steps`."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        del context

        def total(question: Question) -> Words:
            steps.append(question.step)
            return _ask(grid, question, len(steps))

        results.append(replay(find_task(plan.task), plan, total))

    return app


def _ask(grid: Grid, question: Question, number: int) -> Words:
    """Put a question to all nodes and add their words."""
    body, nodes = canonical(question.to_json()), list(grid.get_node_ids())
    messages = [grid.create_message(pack(body), MESSAGE_TYPE, node, str(number)) for node in nodes]
    replies = [np.frombuffer(unpack(each), WORD) for each in grid.send_and_receive(messages)]
    if len(replies) != len(nodes):
        raise RuntimeError(f"{len(nodes) - len(replies)} nodes did not reply in round {number}")
    total: Words = np.sum(replies, axis=0, dtype=np.uint64)
    return total


def _context(node_id: int) -> Context:
    return Context(run_id=1, node_id=node_id, node_config={}, state=RecordDict(), run_config={})
