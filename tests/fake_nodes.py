"""Four hospitals in one process, on the product's own Grid, ServerApp, ClientApps and tasks.

The nodes are fakes in one respect: they check no evidence and keep no journal. They really compute,
encode, mask, sign and encrypt.

    bench = make_bench("statistics")
    outcome = bench.run()                       # Completed(result, …)
    bench.crossed                               # every serialised message, both directions

    bench.services[ASSETS[1]] = Saying(lambda body, ask: ask(body), bench.nodes[ASSETS[1]])
    bench.nodes[ASSETS[1]].masked = False       # the twin that shows a test can see
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Context, RecordDict

from federated.code import code_digest
from federated.grid import InProcessGrid
from federated.messages import (
    Contribution,
    FinishReply,
    FinishRequest,
    KeysReply,
    KeysRequest,
    PublicMaskKey,
    RoundRequest,
    body_digest,
    cohort_digest,
    open_mask_key,
    read_reply,
    read_request,
)
from federated.node.client_app import make_client_app
from federated.plan import ColumnFacts, Floats, Party, Plan, Question, Words
from federated.rounds import (
    words_to_bytes,
    write_ciphertexts,
)
from federated.server_app import (
    Failed,
    Member,
    Outcome,
    Progress,
    Session,
    make_server_app,
    run_in_process,
)
from federated.tasks import encode_answer, find_task
from ledger.keys import SigningKey, VerifyKey
from ledger.statements.receipt import Contribution as Receipted
from ledger.statements.receipt import JournalPosition, Receipt
from privacy import paillier
from privacy.masking import MaskKey, mask, mask_context

JOB = "job:" + "1" * 64
GRANT = "grant:" + "2" * 64
ASSETS = tuple(f"asset:{i}" + "0" * 63 for i in range(4))
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
    secrets: dict[int, MaskKey] = field(default_factory=dict)
    sent: list[Receipted] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)

    def handle(self, body: bytes) -> bytes:
        request = read_request(body)
        if isinstance(request, KeysRequest):
            return KeysReply(self.asset, self.new_key(request, 1)).to_bytes()
        if isinstance(request, RoundRequest):
            reply = self.contribute(request).to_bytes()
            self.sent.append(Receipted(request.round, body_digest(body), body_digest(reply)))
            return reply
        return FinishReply(self.receipt(request)).to_bytes()

    def new_key(self, request: KeysRequest | RoundRequest, number: int) -> bytes:
        self.secrets[number] = MaskKey.generate()
        digest = cohort_digest(self.peers)
        public = self.secrets[number].public
        made = PublicMaskKey(self.asset, request.job, request.attempt, number, digest, public)
        return made.sign(self.key)

    def contribute(self, request: RoundRequest) -> Contribution:
        task = find_task(self.plan.task)
        question = Question.from_json(request.question)
        words = encode_answer(question.layout, task.answer(self.plan, question, self.table))
        if self.masked:
            words = self.hide(words, request)
        sealed = None
        if self.encryption_key is not None:
            sealed = write_ciphertexts(
                paillier.encrypt(self.encryption_key, words), self.encryption_key
            )
        return Contribution(
            self.asset,
            request.job,
            request.attempt,
            request.round,
            words_to_bytes(words) if sealed is None else None,
            sealed,
            self.new_key(request, request.round + 1),
        )

    def hide(self, words: Words, request: RoundRequest) -> Words:
        cohort = sorted(self.peers)
        public = {
            asset: open_mask_key(
                request.mask_keys[asset],
                key,
                asset=asset,
                job=request.job,
                attempt=request.attempt,
                round_number=request.round,
                cohort=cohort,
            ).public
            for asset, key in self.peers.items()
            if asset != self.asset
        }
        context = mask_context(request.job, request.attempt, request.round, cohort)
        own = self.secrets[request.round]
        return mask(words, own_id=self.asset, own=own, peers=public, context=context)

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
    grid: type[InProcessGrid] = InProcessGrid
    crossed: list[tuple[str, int, bytes]] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)

    def run(self, attempt: int = 1) -> Outcome:
        outcomes: list[Outcome] = []
        members = {
            asset: Member(at, self.keys[asset].verify_key, {"grant": GRANT})
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
            run_in_process(make_server_app(session), grid)
        (outcome,) = outcomes
        return outcome


def make_bench(task: str = "statistics", **parameters: Any) -> Bench:
    generator = np.random.default_rng(7)
    tables = {}
    for at, asset in enumerate(ASSETS):
        age = generator.normal(50 + at, 9, size=30 + at)
        visits = generator.integers(0, 9, size=30 + at).astype(np.float64)
        age[0] = CANARY
        age[3] = np.nan
        tables[asset] = Table({"age": age, "visits": visits})
    facts = {"age": ColumnFacts("number", 7), "visits": ColumnFacts("integer", 4)}
    cohort = tuple(Party(asset, asset[:7], tables[asset].count("all"), facts) for asset in ASSETS)
    found = find_task(task)
    given = {"columns": ["age", "visits"], **parameters}
    plan = Plan(task, found.version, found.parse_parameters(given), cohort)
    keys = {asset: SigningKey.generate("node") for asset in ASSETS}
    peers = {asset: key.verify_key for asset, key in keys.items()}
    nodes = {asset: FakeNode(asset, keys[asset], tables[asset], plan, peers) for asset in ASSETS}
    return Bench(tables, plan, keys, nodes, dict(nodes))


class Saying:
    """A node of which a test changes what it says: `say(body, ask)`, where `ask` is the node."""

    def __init__(
        self, say: Callable[[bytes, Callable[[bytes], bytes]], bytes], node: FakeNode
    ) -> None:
        self._say, self._node = say, node

    def handle(self, body: bytes) -> bytes:
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


def pooled(bench: Bench, column: str) -> Floats:
    values = np.concatenate([table.columns[column] for table in bench.tables.values()])
    return values[~np.isnan(values)]
