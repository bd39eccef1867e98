"""A whole embedded marketplace on a few small tables: real service, log, nodes, Grid and keys.

with open_stage(tmp_path, TABLES) as play:           # three hospitals, agreed with a researcher
    job = play.run("statistics", columns=["chol"])   # granted, computed, released
    play.researcher.result(job)
    play.crossed                                     # messages of coordinator and nodes
    play.spoken                                      # HTTP requests and answers

request = play.keys_request(job)                     # straight at a node, the operator bypassed
reply = play.ask(0, request)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from federated.code import code_digest
from federated.lease import Lease
from federated.messages import Beside, KeysReply, KeysRequest, Refusal, Reply, read_reply
from federated.node.home import NodeHome
from federated.node.runner import Node
from federated.node.table import ReadingSpec
from federated.preparation import Preparation
from federated.tasks import find_task
from ledger.keys import VerifyKey
from ledger.statements import Asset, Job, Receipt, Statement, read
from ledger.terms import Terms
from marketplace.client import Researcher
from marketplace.embedded import Embedded
from marketplace.scenario.spec import ProviderPart, Scenario
from marketplace.scenario.stage import Seat, Stage
from marketplace.settings import Settings
from privacy.paillier import SecretKey
from tests.drafts import START, YEAR, Clock

PURPOSE = "research"
TASKS = ("statistics", "logistic", "encrypted_sum")
FENCE = 1_000
"""Of a coordinator by hand: above those of the market's own workers, which count from 1 up."""
RUN = 2**63 + 1
"""Flower's number for the run of a coordinator by hand: as large as they get, and no other's."""
LABEL = {"column": "sick", "above": 0}


def terms(**changes: Any) -> Terms:
    kept = Terms(TASKS, (PURPOSE,), ("*",), 9, START + YEAR, True, 2)  # noqa: FBT003
    return replace(kept, **changes)


class Tapped(httpx.BaseTransport):
    """Passes each request on, and keeps the bytes of request and answer."""

    def __init__(self, inner: httpx.BaseTransport, heard: list[tuple[str, bytes]]) -> None:
        self._inner, self._heard = inner, heard

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        asked = f"{request.method} {request.url} {request.headers}".encode() + request.read()
        self._heard.append(("request", asked))
        answer = self._inner.handle_request(request)
        self._heard.append(("answer", f"{answer.headers}".encode() + answer.read()))
        return answer


@dataclass
class Play:
    """A stage with its parties, and what was overheard.

    Attributes:
        fence: of the leases under which a test asks nodes by hand; likewise `run_id`.
    """

    market: Embedded
    stage: Stage
    clock: Clock
    crossed: list[tuple[str, int, bytes]]
    spoken: list[tuple[str, bytes]] = field(default_factory=list)
    fence: int = FENCE
    run_id: int = RUN

    @property
    def researcher(self) -> Researcher:
        return self.stage.researcher

    @property
    def seats(self) -> list[Seat]:
        return self.stage.seats

    @property
    def nodes(self) -> list[Node]:
        return [self.market.nodes[seat.asset] for seat in self.seats]

    @property
    def files(self) -> list[str]:
        return [str(seat.part.file) for seat in self.seats]

    def rows(self) -> dict[str, Any]:
        return self.stage.scenario.preparation.to_json()

    def statement(
        self, task: str, agreements: Mapping[str, str] | None = None, **changes: Any
    ) -> Job:
        known = find_task(task)
        parameters = changes.pop("parameters", {"columns": ["chol"]})
        agreed = self.stage.agreements if agreements is None else agreements
        job = Job(
            researcher=self.researcher.home.participant(),
            name=task,
            task=task,
            task_version=known.version,
            code_digest=code_digest(task, known.version),
            parameters=known.parse_parameters(parameters),
            preparation=self.rows(),
            purpose=PURPOSE,
            assets=tuple(agreed),
            agreements=tuple(agreed.values()),
            encryption_key=self.researcher.home.encryption_key().public.to_json()
            if known.encrypted
            else None,
            nonce=f"nonce {len(self.market.app.state.context.log.history.entries)}",
            issued=self.clock(),
        )
        return replace(job, **changes)

    def submit(self, job: Job) -> str:
        """Hand in a job as the researcher signed it; return its id."""
        envelope = job.sign(self.researcher.home.signing_key())
        return str(self.researcher.submit("/jobs", envelope)["job"])

    def job(self, task: str = "statistics", **changes: Any) -> str:
        return self.submit(self.statement(task, **changes))

    def run(self, task: str, **parameters: Any) -> str:
        """Let a job run to its release; return its id."""
        job = self.job(task, parameters=parameters)
        self.market.decide()
        view = self.stage.wait(job)
        assert view["state"] == "released", view
        return job

    def grant_all(self, job: str) -> dict[str, str]:
        """Let every node but the last decide, so that the job waits; return grants by asset.

        The last node's grant is signed too, and logged by the operator behind the service's back.
        """
        for node in self.nodes[:-1]:
            node.approve(job)
        last = self.nodes[-1]
        self.put_grant(last, job)
        history = self.market.app.state.context.log.history
        return {
            logged.statement.asset: logged.id
            for logged in history.by_id.values()
            if logged.statement.kind == "grant" and logged.statement.job == job
        }

    def put_grant(self, node: Node, job: str) -> None:
        node._log.sync()
        self.put(node._grant(job))

    def put(self, envelope: bytes) -> str:
        """Log an envelope without the service noticing: the job stays where it is."""
        context = self.market.app.state.context
        with context.writing() as session:
            statement_id = context.submit(session, envelope)
        context.logged(statement_id)
        return statement_id

    def keys_request(self, job: str, at: int = 0, **changes: Any) -> KeysRequest:
        cohort = tuple(sorted(seat.asset for seat in self.seats))
        grant = changes.pop("grant", "")
        del at
        return replace(KeysRequest(job, 1, 1, cohort, {"grant": grant}), **changes)

    def beside(self, request: Any, checkpoint: bytes | None = None) -> Beside:
        """What the operator's coordinator sends with a request."""
        lease = Lease(request.job, request.attempt, self.fence, self.run_id)
        key = self.market.app.state.context.operator_key
        return Beside(checkpoint, lease.sign(key), self.run_id)

    def tell(self, at: int, request: Any, checkpoint: bytes | None = None) -> bytes:
        """Put a request to a node as the operator's coordinator does; return its very bytes."""
        return self.nodes[at].handle(request.to_bytes(), self.beside(request, checkpoint))

    def ask(self, at: int, request: Any, checkpoint: bytes | None = None) -> Reply:
        return read_reply(self.tell(at, request, checkpoint))

    def log_statement(self, statement: Statement, *keys: Any) -> str:
        return self.put(statement.sign(*keys))

    def node_key(self, at: int) -> VerifyKey:
        history = self.market.app.state.context.log.history
        return VerifyKey.from_text(history.get(self.seats[at].asset, Asset).node_key)

    def receipt(self, at: int, reply: Reply) -> Receipt:
        """Return the receipt of a refusal, verified with the node's key from the log."""
        assert isinstance(reply, Refusal)
        assert reply.receipt is not None
        found = read(reply.receipt)
        found.verify(self.node_key(at))
        assert isinstance(found.statement, Receipt)
        return found.statement

    def reopened(self, at: int) -> Node:
        """The same node after a restart: another object on the same folder."""
        node = self.nodes[at]
        node._journal.close()
        folder = node._log._memory.parent
        return self.market._open(NodeHome.load(folder))


@contextmanager
def open_stage(
    folder: Path,
    tables: Mapping[str, str],
    *,
    preparation: Mapping[str, Any] | None = None,
    agreed: Terms | None = None,
    key: SecretKey | None = None,
    service: Mapping[str, Any] | None = None,
) -> Iterator[Play]:
    """Put parties with these tables on a stage below a folder.

    Args:
        folder: empty.
        tables: by party, a CSV file with a header.
        preparation: of every agreement.
        agreed: the terms of every offer.
        key: the researcher's decryption key, so that not every test makes one.
        service: further settings of the service.
    """
    clock, crossed, spoken = Clock(), [], []
    parts = []
    for name, text in tables.items():
        file = folder / f"{name}.csv"
        file.write_text(text)
        parts.append(
            ProviderPart(name, file, ReadingSpec(), agreed or terms(), 1000, 50_000, "", "CC0")
        )
    rows = Preparation.parse(preparation or {})
    scenario = Scenario("small", "", tuple(parts), rows, ())
    settings = Settings(folder=folder / "market" / "service", **(service or {}))
    market = Embedded(folder / "market", settings, clock, tap=lambda *seen: crossed.append(seen))
    # Before any client is made, so that whatever a node says passes here.
    market._transport = _TappedMarket(market._transport, spoken)
    with market:
        stage = Stage.set_up(market, scenario)
        if key is not None:
            key.save(stage.researcher.home.folder / "encryption.key")
        for part in parts:
            stage.seat(part)
        for seat in stage.seats:
            stage.agree(seat)
        yield Play(market, stage, clock, crossed, spoken)


class _TappedMarket(Tapped):
    """The market's transport with an ear in it; it starts and stops the application."""

    def __enter__(self) -> Any:
        self._inner.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._inner.__exit__(*error)


class OpenWatch:
    """Hears which files the interpreter opens; an audit hook stays for the life of the process."""

    def __init__(self) -> None:
        self._files: frozenset[str] = frozenset()
        self._opened: list[str] = []
        sys.addaudithook(self._heard)

    @contextmanager
    def watching(self, files: Sequence[str]) -> Iterator[list[str]]:
        opened: list[str] = []
        self._files, self._opened = frozenset(files), opened
        try:
            yield opened
        finally:
            self._files = frozenset()

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        # `open` is raised by open, io.open, os.open and os.fdopen alike.
        if event == "open" and str(arguments[0]) in self._files:
            self._opened.append(str(arguments[0]))


WATCH = OpenWatch()
"""One for all tests: hooks cannot be removed."""


def word(reply: Reply) -> str:
    """Return what a node said: the reason of a refusal or failure, or the kind of its answer."""
    if isinstance(reply, KeysReply):
        return "keys"
    return str(getattr(reply, "reason", type(reply).__name__))
