"""Four hospitals in one process, on the product's own Grid, ServerApp, ClientApps and tasks.

The nodes are fakes in one respect: they check no evidence and keep no journal. They really compute,
encode, deal shares, mask, sign, reveal and encrypt.

    bench = make_bench("statistics")
    outcome = bench.run()                       # Completed(result, …)
    bench.crossed                               # every serialised message, both directions

    bench.services[ASSETS[1]] = Saying(lambda body, ask: ask(body), bench.nodes[ASSETS[1]])
    bench.nodes[ASSETS[1]].masked = False       # the twin that shows a test can see

    bench = make_bench("statistics", parties=40, minimum=27)
    bench.lose[ASSET] = "survivors 1"           # its replies are lost from there on
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Context, Message, RecordDict

from federated.code import code_digest
from federated.grid import InProcessGrid
from federated.messages import (
    ALONE,
    Beside,
    Contribution,
    FinishReply,
    FinishRequest,
    KeysReply,
    KeysRequest,
    Reply,
    Request,
    RoundRequest,
    SharesReply,
    SharesRequest,
    SurvivorsReply,
    UnmaskReply,
    UnmaskRequest,
    body_digest,
    read_reply,
    read_request,
)
from federated.node.client_app import make_client_app
from federated.node.journal import step_of
from federated.node.masks import RoundSecrets
from federated.peers import Use
from federated.plan import ColumnFacts, Floats, Party, Plan, Question
from federated.records import unpack
from federated.rounds import encrypt_words, words_to_bytes
from federated.server_app import make_server_app, run_in_process
from federated.session import Failed, Member, Outcome, Progress, Session
from federated.tasks import encode_answer, find_task
from ledger.keys import SigningKey, VerifyKey
from ledger.statements.receipt import Contribution as Receipted
from ledger.statements.receipt import JournalPosition, Receipt
from privacy import paillier

JOB = "job:" + "1" * 64
GRANT = "grant:" + "2" * 64
ASSETS = tuple(f"asset:{i:02d}" + "0" * 62 for i in range(4))
CANARY = 63.515625


@dataclass
class Table:
    """What a task sees of a node's data."""

    columns: Mapping[str, Floats]

    def count(self, which: str) -> int:
        del which
        return len(next(iter(self.columns.values())))

    def column(self, name: str, which: str) -> Floats:
        del which
        return self.columns[name]

    def matrix(self, features: tuple[str, ...], which: str) -> Floats:
        return np.column_stack([self.column(name, which) for name in features])

    def labels(self, which: str) -> Floats:
        return self.column("label", which)


@dataclass
class FakeNode:
    """Answers as PROTOCOL.md says, without evidence and without a journal."""

    asset: str
    key: SigningKey
    table: Table
    plan: Plan
    peers: dict[str, VerifyKey]
    encryption_key: paillier.PublicKey | None = None
    masked: bool = True
    minimum: int = 0
    secrets: dict[int, RoundSecrets] = field(default_factory=dict)
    sent: list[Receipted] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    parties: set[str] = field(default_factory=set)
    first: int = 0

    def handle(self, body: bytes, _beside: Beside = ALONE) -> bytes:
        request = read_request(body)
        reply = self.answer(request, body_digest(body)).to_bytes()
        if isinstance(request, RoundRequest):
            self.sent.append(Receipted(request.round, body_digest(body), body_digest(reply)))
        return reply

    def answer(self, request: Request, asked: str) -> Reply:
        if isinstance(request, KeysRequest):
            self.first = 0
            return KeysReply(self.asset, self.new_key(request, 1))
        if isinstance(request, FinishRequest):
            return FinishReply(self.receipt(request))
        secrets = self.secrets[request.round]
        place = (self.asset, request.job, request.attempt, request.round)
        if isinstance(request, SharesRequest):
            return SharesReply(*place, secrets.deal(request.mask_keys, self.peers))
        if isinstance(request, RoundRequest):
            return self.contribute(request, asked)
        if not isinstance(request, UnmaskRequest):
            return SurvivorsReply(*place, secrets.agree(request.survivors, self.key))
        after = self.secrets[request.round + 1]
        boxes = after.deal(request.mask_keys, self.peers)
        shares = secrets.reveal(request.lists, request.boxes, self.peers, after)
        if request.round == self.first:
            self.parties = set(secrets.survivors)
        return UnmaskReply(*place, shares, boxes)

    def new_key(
        self, request: KeysRequest | RoundRequest, number: int, answered: str = ""
    ) -> bytes:
        use = Use(request.job, request.attempt, number, tuple(sorted(self.peers)))
        minimum = self.minimum or len(self.peers)
        self.secrets[number] = RoundSecrets.fresh(
            use, self.asset, self.key, minimum, answered=answered
        )
        return self.secrets[number].signed

    def contribute(self, request: RoundRequest, asked: str) -> Contribution:
        task, secrets = find_task(self.plan.task), self.secrets[request.round]
        question = Question.from_json(request.question)
        secrets.check_question(request.mask_keys)
        # Questions go on among the same, and begin anew among fewer.
        parties, begins = set(request.mask_keys), request.first == request.round
        assert not self.first or (parties < self.parties if begins else parties == self.parties)
        self.parties, self.first = parties, request.first
        words = encode_answer(question.layout, task.answer(self.plan, question, self.table))
        masked = secrets.mask(words, request.mask_keys, asked)
        words = masked if self.masked else words
        sealed = None
        if self.encryption_key is not None:
            sealed = encrypt_words(self.encryption_key, words, request.mask_keys)
        return Contribution(
            self.asset,
            request.job,
            request.attempt,
            request.round,
            words_to_bytes(words) if sealed is None else None,
            sealed,
            secrets.commitment(),
            self.new_key(request, request.round + 1, asked),
        )

    def receipt(self, request: FinishRequest) -> bytes:
        self.finished.append(request.state)
        completed = request.state == "completed"
        receipt = Receipt(
            asset=self.asset,
            job=request.job,
            grant=GRANT,
            state=request.state,
            reason=None if completed else "cancelled",
            code_digest=code_digest(self.plan.task, self.plan.version),
            rows=self.table.count("all"),
            contributions=tuple(self.sent),
            log_size=1,
            journal=JournalPosition(1, body_digest(b"")),
            issued=0,
        )
        return receipt.sign(self.key)


def place_of(step: str) -> tuple[float, int]:
    """Return where a step of `step_of` comes in a job: by round, and within it."""
    word, _, number = step.rpartition(" ")
    if step in ("keys", "finish"):
        return (0.0 if step == "keys" else math.inf, 0)
    return float(number), ("shares", "", "survivors", "unmask").index(word)


class Losing(InProcessGrid):
    """Loses what a node says to a step and to all later ones: it computes, and nobody hears it.

    Attributes:
        lose: by node id, the step of `step_of` from which on its replies are lost.
    """

    lose: Mapping[int, str]

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.lose, self._lost = {}, set[int]()

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Message]:
        kept = list(messages)
        for message in kept:
            node_id = message.metadata.dst_node_id
            step, begins = step_of(read_request(unpack(message))), self.lose.get(node_id)
            # A list is signed only where somebody has dropped out: the step after it, then.
            if begins is not None and place_of(step) >= place_of(begins):
                self._lost.add(node_id)
        replies = super().send_and_receive(kept, timeout=timeout)
        return [reply for reply in replies if reply.metadata.src_node_id not in self._lost]


@dataclass
class Bench:
    """Four hospitals, a coordinator, and everything that crossed between them."""

    tables: dict[str, Table]
    plan: Plan
    keys: dict[str, SigningKey]
    nodes: dict[str, FakeNode]
    services: dict[str, Any]
    encryption_key: paillier.PublicKey | None = None
    timeout: float | None = 30.0
    minimum: int = 0
    grid: type[InProcessGrid] = Losing
    lose: dict[str, str] = field(default_factory=dict)
    providers: dict[str, str] = field(default_factory=dict)
    crossed: list[tuple[str, int, bytes]] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)

    def run(self, attempt: int = 1) -> Outcome:
        outcomes: list[Outcome] = []
        members = {
            asset: Member(
                at, self.keys[asset].verify_key, {"grant": GRANT}, self.providers.get(asset, "")
            )
            for at, asset in enumerate(self.nodes, start=1)
        }
        session = Session(
            job=JOB,
            attempt=attempt,
            plan=self.plan,
            task=find_task(self.plan.task),
            members=members,
            deliver=outcomes.append,
            encryption_key=self.encryption_key,
            timeout=self.timeout,
            minimum=self.minimum,
            progress=self.progress.append,
        )
        apps = {
            members[asset].node_id: (
                make_client_app(self.services[asset]),
                Context(1, members[asset].node_id, {}, RecordDict(), {}),
            )
            for asset in self.nodes
        }
        with self.grid(apps, tap=lambda *seen: self.crossed.append(seen)) as grid:
            if isinstance(grid, Losing):
                grid.lose = {members[asset].node_id: step for asset, step in self.lose.items()}
            run_in_process(make_server_app(session), grid)
        (outcome,) = outcomes
        return outcome


def make_bench(
    task: str = "statistics", *, parties: int = len(ASSETS), minimum: int = 0, **parameters: Any
) -> Bench:
    """Make a bench; all parties are needed unless a `minimum` is given."""
    assets = tuple(f"asset:{at:02d}" + "0" * 62 for at in range(parties))
    generator = np.random.default_rng(7)
    tables = {}
    for at, asset in enumerate(assets):
        age = generator.normal(50 + at, 9, size=30 + at)
        visits = generator.integers(0, 9, size=30 + at).astype(np.float64)
        age[0] = CANARY
        age[3] = np.nan
        tables[asset] = Table({"age": age, "visits": visits})
    facts = {"age": ColumnFacts("number", 7), "visits": ColumnFacts("integer", 4)}
    cohort = tuple(Party(asset, asset[:8], tables[asset].count("all"), facts) for asset in assets)
    found = find_task(task)
    given = {"columns": ["age", "visits"], **parameters}
    plan = Plan(task, found.version, found.parse_parameters(given), cohort)
    keys = {asset: SigningKey.generate("node") for asset in assets}
    peers = {asset: key.verify_key for asset, key in keys.items()}
    nodes = {
        asset: FakeNode(asset, keys[asset], tables[asset], plan, peers, minimum=minimum)
        for asset in assets
    }
    return Bench(tables, plan, keys, nodes, dict(nodes), minimum=minimum)


class Saying:
    """A node of which a test changes what it says: `say(body, ask)`, where `ask` is the node."""

    def __init__(
        self, say: Callable[[bytes, Callable[[bytes], bytes]], bytes], node: FakeNode
    ) -> None:
        self._say, self._node = say, node

    def handle(self, body: bytes, _beside: Beside = ALONE) -> bytes:
        return self._say(body, self._node.handle)


def spoil(bench: Bench, asset: str, change: Callable[[Contribution], Contribution]) -> None:
    """Lets one node change each contribution before it is sent."""

    def say(body: bytes, ask: Callable[[bytes], bytes]) -> bytes:
        reply = read_reply(ask(body))
        return (change(reply) if isinstance(reply, Contribution) else reply).to_bytes()

    bench.services[asset] = Saying(say, bench.nodes[asset])


def expect_failure(bench: Bench, reasons: dict[str, str]) -> Failed:
    """Runs a job that these nodes must spoil, and checks that the others are released."""
    outcome = bench.run()
    assert isinstance(outcome, Failed)
    assert outcome.reasons == reasons
    assert outcome.error is None
    # The others are told, so that they close their reservations.
    for asset in set(ASSETS) - set(reasons):
        assert bench.nodes[asset].finished == ["failed"]
        assert asset in outcome.receipts
    return outcome


def pooled(bench: Bench, column: str, without: Collection[str] = ()) -> Floats:
    tables = [table for asset, table in bench.tables.items() if asset not in without]
    values = np.concatenate([table.columns[column] for table in tables])
    return values[~np.isnan(values)]
