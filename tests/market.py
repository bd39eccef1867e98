"""The real service in this process, with parties that sign by themselves, for API tests.

    with Market(tmp_path) as market:                 # operator enrolled, log running
        market.populate()                            # three providers, a researcher, an auditor
        job = market.submit()                        # accepted: waits for grants
        market.grant_all(job)
        market.work()                                # the worker, by hand
        market.get(f"/jobs/{job}", market.researcher).json()["state"]

Requests travel over ASGI, the log and the database are real files. The engine is a small honest
one: it computes nothing, but sends bytes, writes receipts as nodes do and hands them in over HTTP.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import sqlalchemy as sa

from federated.code import code_digest
from ledger.encoding import sha256_text
from ledger.keys import SigningKey
from ledger.statements import (
    Agreement,
    Asset,
    Column,
    Contribution,
    Grant,
    Job,
    JournalPosition,
    Measurement,
    Offer,
    Participant,
    Quality,
    Receipt,
    Revocation,
    Statement,
    Valuation,
)
from ledger.statements.envelope import countersign
from ledger.terms import Terms
from marketplace.app import create_app
from marketplace.context import Context
from marketplace.jobs import engine as engines
from marketplace.jobs.worker import Worker
from marketplace.settings import Settings
from marketplace.settlement.service import settle
from marketplace.transport import AppTransport
from tests.drafts import START, YEAR, Clock, key_of

PREPARATION = {"complete_rows": True}
PRICE = 1001
_ROUTES: list[Any] = []


@dataclass
class Party:
    """Somebody with a key and, once enrolled, an id and an API key."""

    name: str
    roles: tuple[str, ...]
    id: str = ""
    api_key: str = ""
    asset: str = ""
    offer: str = ""
    agreement: str = ""

    @property
    def key(self) -> SigningKey:
        return key_of(self.name)

    @property
    def node_key(self) -> SigningKey:
        return key_of(f"{self.name}/node")


def contribution(asset: str, number: int, asked: bytes, said: bytes) -> engines.Contribution:
    """What an engine tells of one request to a node and its reply."""
    digests = sha256_text(asked), sha256_text(said)
    return engines.Contribution(asset, number, *digests, (asked, said))


class FakeEngine:
    """Answers as honest nodes would; `lie` changes the outcome, `during` runs between rounds."""

    def __init__(self, market: "Market") -> None:
        self.market = market
        self.requests: list[engines.JobRequest] = []
        self.lie: Callable[[engines.Outcome], engines.Outcome] = lambda outcome: outcome
        self.during: Callable[[str], None] = lambda _job: None
        self.outcome: engines.Outcome | None = None
        self.error: Exception | None = None
        self.journal: dict[tuple[str, str], Receipt] = {}

    def run(
        self, request: engines.JobRequest, progress: Callable[[engines.Progress], None]
    ) -> engines.Outcome:
        self.requests.append(request)
        parties = len(request.cohort)
        progress(engines.Progress(1, 0, parties, "moments"))
        self.during(request.id)
        progress(engines.Progress(1, parties, parties, "moments"))
        if self.error:
            raise self.error
        if self.outcome:
            return self.outcome
        sent = [
            contribution(member.asset, 1, b"asked", f"masked {member.asset}".encode())
            for member in request.cohort
        ]
        # As a node's journal does: a job that is asked for again gets the receipt it got before.
        receipts = [
            self.journal.setdefault(
                (request.id, member.asset),
                self.market.receipt(self.market.owner(member.asset), request.id, member.grant),
            )
            for member in request.cohort
        ]
        answers = [
            self.market.post("/receipts", self.market.owner(statement.asset), statement)
            for statement in receipts
        ]
        ids = {
            member.asset: answer.json()["id"]
            for member, answer in zip(request.cohort, answers, strict=True)
        }
        return self.lie(engines.Completed({"age": {"mean": 54.5}}, tuple(sent), ids))


class Market:
    """A service over a folder; see the module's docstring."""

    def __init__(self, folder: Path, *, insecure: bool = False, **settings: Any) -> None:
        self.clock = Clock()
        self.settings = Settings(folder=folder, **settings)
        self.app = create_app(self.settings, clock=self.clock, insecure_skip_checks=insecure)
        # FastAPI works a route out when it is first asked for; that costs more than most tests.
        # Routes know no settings, so all markets share those of the first.
        _ROUTES.extend([] if _ROUTES else self.app.router.routes)
        self.app.router.routes[:] = _ROUTES
        self.engine = FakeEngine(self)
        self.providers = [Party(f"hospital{n}.example", ("provider",)) for n in (1, 2, 3)]
        self.researcher = Party("researcher.example", ("researcher",))
        self.auditor = Party("auditor.example", ("auditor",))
        self.operator = Party("operator", ("operator",))
        self.nonce = 0

    def __enter__(self) -> Self:
        self.transport = AppTransport(self.app)
        # An unexpected error must become an answer, as it does behind a real server.
        self.transport._inner.raise_app_exceptions = False
        self.http = httpx.Client(transport=self.transport, base_url="http://market")
        self.http.__enter__()
        self.operator.api_key = self.settings.operator_api_key.read_text().strip()
        self.operator.id = self.context.operator
        return self

    def __exit__(self, *error: object) -> None:
        self.http.__exit__(None, None, None)

    @property
    def context(self) -> Context:
        context = self.app.state.context
        assert isinstance(context, Context)
        return context

    @property
    def everybody(self) -> list[Party]:
        return [*self.providers, self.researcher, self.auditor]

    # Talking.

    def get(self, path: str, caller: Party | str | None = None) -> httpx.Response:
        return self.http.get(f"/v1{path}", headers=self.headers(caller))

    def post(
        self, path: str, caller: Party | str | None, body: Statement | bytes | Mapping[str, Any]
    ) -> httpx.Response:
        self.clock.advance(1)
        if isinstance(body, Statement):
            body = self.sign(body)
        if isinstance(body, bytes):
            body = {"statement": json.loads(body)}
        return self.http.post(f"/v1{path}", headers=self.headers(caller), json=body)

    def must(self, answer: httpx.Response, status: int = 201) -> Any:
        assert answer.status_code == status, answer.text
        return answer.json()

    def headers(self, caller: Party | str | None) -> dict[str, str]:
        key = caller.api_key if isinstance(caller, Party) else caller
        return {} if key is None else {"Authorization": f"Bearer {key}"}

    def counts(self) -> dict[str, int]:
        """Rows of every table: a refused request changes none."""
        with self.context.reading() as session:
            connection = session.connection()
            names = [name for name in sa.inspect(connection).get_table_names() if name != "job"]
            found = {
                name: connection.execute(sa.text(f'SELECT count(*) FROM "{name}"')).scalar_one()  # noqa: S608
                for name in [*names, "job"]
            }
            moved = "SELECT coalesce(sum(fence), 0) FROM job"
            return {**found, "job fences": connection.execute(sa.text(moved)).scalar_one()}

    # Signing.

    def sign(self, statement: Statement) -> bytes:
        return statement.sign(*(self.author_key(a.role, a.subject) for a in statement.authors()))

    def author_key(self, role: str, subject: str) -> SigningKey:
        if role == "operator":
            return self.context.operator_key
        if role == "node":
            return self.owner(subject).node_key
        if subject == self.operator.id:
            return self.context.operator_key
        return next(p.key for p in self.everybody if subject in (p.id, p.key.verify_key.text))

    def owner(self, asset: str) -> Party:
        return next(party for party in self.providers if party.asset == asset)

    # Statements.

    def terms(self, **changes: Any) -> Terms:
        terms = Terms(("statistics",), ("research",), ("*",), 3, START + YEAR, True, 2)  # noqa: FBT003
        return replace(terms, **changes)

    def participant(self, party: Party, **changes: Any) -> Participant:
        statement = Participant(
            party.name, party.roles, party.key.verify_key.text, None, self.clock()
        )
        return replace(statement, **changes)

    def asset_statement(self, party: Party, **changes: Any) -> Asset:
        quality = Quality.of(
            completeness_ppm=980_000,
            duplicate_rows_ppm=0,
            consistency_ppm=1_000_000,
            not_assessed=("accuracy",),
        )
        measured = Measurement(
            rows=100,
            columns=(Column("age", "integer", 0, 7), Column("chol", "number", 4, 10)),
            content_digest=sha256_text(party.name.encode()),
            quality=quality,
            issued=self.clock(),
        )
        statement = Asset(
            provider=party.id,
            name=f"hearts of {party.name}",
            description="Angiography",
            use_rights="CC BY 4.0",
            node_key=party.node_key.verify_key.text,
            measurement=measured.sign(party.node_key),
            valuation=Valuation.of(50_001, measured.quality.score_ppm),
            issued=self.clock(),
        )
        return replace(statement, **changes)

    def offer_statement(self, party: Party, **changes: Any) -> Offer:
        return replace(Offer(party.id, party.asset, self.terms(), PRICE, self.clock()), **changes)

    def agreement_statement(self, party: Party, **changes: Any) -> Agreement:
        statement = Agreement(
            provider=party.id,
            researcher=self.researcher.id,
            asset=party.asset,
            offer=party.offer,
            terms=self.terms(),
            preparation=PREPARATION,
            price_cents=PRICE,
            fee_ppm=self.settings.fee_ppm,
            issued=self.clock(),
        )
        return replace(statement, **changes)

    def job_statement(self, **changes: Any) -> Job:
        self.nonce += 1
        statement = Job(
            researcher=self.researcher.id,
            name="first look",
            task="statistics",
            task_version=1,
            code_digest=code_digest("statistics", 1),
            parameters={"columns": ["age"]},
            preparation=PREPARATION,
            purpose="research",
            assets=tuple(party.asset for party in self.providers),
            agreements=tuple(party.agreement for party in self.providers),
            encryption_key=None,
            nonce=f"nonce {self.nonce}",
            issued=self.clock(),
        )
        return replace(statement, **changes)

    def grant_statement(self, party: Party, job: str, **changes: Any) -> Grant:
        statement = Grant(
            provider=party.id,
            asset=party.asset,
            agreement=party.agreement,
            job=job,
            cohort=tuple(each.asset for each in self.providers),
            minimum_parties=2,
            rounds=10,
            until=START + YEAR,
            issued=self.clock(),
        )
        return replace(statement, **changes)

    def receipt(self, party: Party, job: str, grant: str | None, **changes: Any) -> Receipt:
        refused = changes.get("state", "completed") != "completed"
        reply = sha256_text(b"masked " + party.asset.encode())
        done = (Contribution(1, sha256_text(b"asked"), reply),)
        statement = Receipt(
            asset=party.asset,
            job=job,
            grant=grant,
            state="completed",
            reason=None,
            code_digest=code_digest("statistics", 1),
            log_size=self.context.log.size,
            rows=0 if refused else 100,
            contributions=() if refused else done,
            journal=JournalPosition(1, sha256_text(b"journal")),
            issued=self.clock(),
        )
        return replace(statement, **changes)

    def revocation(self, issuer: Party, target: str) -> Revocation:
        return Revocation(issuer.id, target, "withdrawn", self.clock())

    # Whole stretches.

    def enrol(self, party: Party) -> None:
        code = self.must(self.post("/enrolments", self.operator, {"roles": list(party.roles)}))
        body = {"code": code["code"], "statement": json.loads(self.sign(self.participant(party)))}
        found = self.must(self.post("/participants", None, body))
        party.id, party.api_key = found["participant"], found["api_key"]

    def negotiate(self, party: Party, **changes: Any) -> str:
        body = {
            "offer": party.offer,
            "terms": self.terms().payload(),
            "preparation": PREPARATION,
            "price_cents": PRICE,
        } | changes
        return str(self.must(self.post("/negotiations", self.researcher, body))["id"])

    def agree(self, party: Party, **changes: Any) -> str:
        """A new agreement between a provider and the researcher."""
        terms = changes.get("terms", self.terms())
        negotiation = self.negotiate(party, terms=terms.payload())
        signed = self.agreement_statement(party, **changes).sign(party.key)
        self.must(self.post(f"/negotiations/{negotiation}/agreement", party, signed), 200)
        signed = countersign(signed, self.researcher.key)
        path = f"/negotiations/{negotiation}/verification"
        return str(self.must(self.post(path, self.researcher, signed), 200)["agreement"])

    def populate(self) -> None:
        for party in self.everybody:
            self.enrol(party)
        for party in self.providers:
            party.asset = self.must(self.post("/assets", party, self.asset_statement(party)))["id"]
            party.offer = self.must(self.post("/offers", party, self.offer_statement(party)))["id"]
            party.agreement = self.agree(party)

    def submit(self, **changes: Any) -> str:
        found = self.must(self.post("/jobs", self.researcher, self.job_statement(**changes)))
        return str(found["job"])

    def grant_all(self, job: str) -> list[str]:
        return [
            self.must(self.post("/grants", party, self.grant_statement(party, job)))["id"]
            for party in self.providers
        ]

    def worker(self) -> Worker:
        return Worker(self.context, self.engine, settle)

    def work(self) -> str | None:
        return self.worker().run_once()

    def released_job(self, **changes: Any) -> str:
        job = self.submit(**changes)
        self.grant_all(job)
        assert self.work() == job
        assert self.state(job) == "released"
        return job

    def state(self, job: str) -> str:
        return str(self.must(self.get(f"/jobs/{job}", self.researcher), 200)["state"])

    def copy_to(self, folder: Path, **options: Any) -> "Market":
        """The same market (stopped) in another folder."""
        shutil.copytree(self.settings.folder, folder)
        twin = Market(folder, **options)
        twin.providers = [replace(party) for party in self.providers]
        twin.clock.now = self.clock.now
        twin.researcher, twin.auditor = replace(self.researcher), replace(self.auditor)
        return twin


@pytest.fixture(scope="session", name="populated_market")
def _populated_market(tmp_path_factory: pytest.TempPathFactory) -> Market:
    """A stopped market that everybody has joined; copy it."""
    with Market(tmp_path_factory.mktemp("populated") / "data") as market:
        market.populate()
    return market


@pytest.fixture(name="market")
def _market(populated_market: Market, tmp_path: Path) -> Iterator[Market]:
    """A running market with three providers, a researcher and an auditor, all agreed."""
    with populated_market.copy_to(tmp_path / "data") as market:
        yield market
