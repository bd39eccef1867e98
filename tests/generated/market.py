"""A market that lives quickly: many jobs over twenty nodes, really signed, written as an export.

    with Market(Plan(jobs=300, seed=7), folder) as market:
        market.run()
        market.export(folder / "export")
        market.journals()                  # the nodes' journals, one at a time

The same seed gives the same bytes. Jobs overlap: each is a generator that logs one statement and
yields. What an honest job does is in `tests.generated.lives`; what a dishonest signer does in
`tests.generated.injector`. Nobody checks anything here.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from ledger.export import Extras, export
from ledger.journal import JournalLine
from ledger.keys import SigningKey
from ledger.statements import (
    Agreement,
    BudgetedAgreement,
    Epoch,
    JournalSpan,
    Offer,
    Participant,
    Revocation,
    Rotation,
    Schedule,
    Shred,
    Statement,
    UseIndex,
)
from ledger.statements import Counts as EpochCounts
from ledger.statements.asset import Column, Measurement, Quality, TaggedAsset, Valuation
from ledger.terms import Terms
from ledger.use_index import root_of, sorted_tags, tag, write_tag_keys
from tests.drafts import START, YEAR, key_of
from tests.generated.book import Book, seal, statement_id
from tests.generated.node import Node, Party, digest_of, party

LOG = "generated.example/log"
ACTIVE_NODES = 20
PRICE, FEE_PPM = 1_000, 100_000
SPENT_MICRO = 250


@dataclass(frozen=True)
class Plan:
    """How large the history is.

    Attributes:
        quota: uses of one agreement.
        active: jobs under way at a time.
        erasures: how many ended agreements have their statements erased.
    """

    jobs: int = 300
    seed: int = 1
    researchers: int = 4
    epoch_entries: int = 100
    grace_entries: int = 80
    quota: int = 5
    active: int = 8
    erasures: int = 2


@dataclass
class Deal:
    """An agreement, and what was promised under it."""

    id: str
    index: int
    node: Node
    researcher: Party
    left: int
    price: int = PRICE
    budget: int | None = None
    active: int = 0
    jobs: list[Any] = field(default_factory=list)


class Market:
    """See the module's docstring."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.plan = plan
        self.folder = folder
        self.random = random.Random(plan.seed)
        self.log_key = key_of(LOG)
        self.book = Book(self.log_key, folder, plan.seed)
        self.now = START
        self.at: dict[str, int] = {}
        self.operator = party("operator.example")
        self.researchers = [party(f"lab{n}.example") for n in range(1, plan.researchers + 1)]
        self.nodes: list[Node] = []
        self.deals: dict[tuple[str, str], Deal] = {}
        self.ended: list[Deal] = []
        self.lives: list[Iterator[None]] = []
        self.erased: set[int] = set()
        self.next_epoch = 0
        # The nodes used in each epoch that is not indexed yet.
        self.used: dict[int, dict[str, Node]] = {}
        self.canaries: list[str] = []
        self.results: dict[str, str] = {}
        self.roster: set[str] = set()
        self.serial = 0
        self.erasures = 0
        # What a dishonest signer adds: see `tests.generated.injector`.
        self.injector: Any = None
        self.tampered: dict[str, Callable[[list[JournalLine]], list[JournalLine]]] = {}
        self.silent: set[Node | None] = set()
        self.skipped: dict[Node | None, int] = {}
        self.protected: set[int] = set()
        self.first_job = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files; what was exported stays."""
        self.book.close()
        for node in [*self.nodes, self.leaver]:
            if node.spool is not None:
                node.spool.close()

    # Signing and logging.

    def sign(self, kind: str, payload: dict[str, Any], *keys: SigningKey) -> tuple[str, bytes]:
        envelope = seal(kind, 2 if "spent_micro" in payload else 1, payload, *keys)
        return statement_id(kind, envelope), envelope

    def log(
        self, name: str, envelope: bytes, references: tuple[str | None, ...], **odd: Any
    ) -> int:
        """Log an envelope; `odd` overrides what a sequencer would have written."""
        self.now += self.random.randrange(1, 50)
        indexes = odd.pop("refers_to", [None if i is None else self.at.get(i) for i in references])
        kind = name.partition(":")[0]
        index = self.book.append(kind, indexes, envelope, odd.pop("time", self.now), **odd)
        self.at[name] = index
        if kind == "job":
            self.first_job = self.first_job or index
        return index

    def put(self, statement: Statement, *keys: SigningKey) -> str:
        """Sign and log a statement of the rarer kinds."""
        envelope = seal(statement.kind, statement.version, statement.payload(), *keys)
        name = statement_id(statement.kind, envelope)
        self.log(name, envelope, statement.references())
        return name

    # Who takes part.

    def enrol(self, who: Party, *roles: str) -> None:
        key = who.key.verify_key.text
        self.roster.add(key)
        who.id = self.put(Participant(who.name, roles, key, None, self.now), who.key)

    def list_node(self, name: str, **changes: Any) -> Node:
        """Enrol a provider and list its asset."""
        owner = party(name)
        self.enrol(owner, "provider")
        return self.list_asset(Node(owner, key_of(f"{name}/node")), **changes)

    def list_asset(self, node: Node, **changes: Any) -> Node:
        measured = self.measurement(node)
        statement = TaggedAsset(
            provider=node.owner.id,
            name=f"rows of {node.owner.name}",
            description="",
            use_rights="CC BY 4.0",
            node_key=node.key.verify_key.text,
            measurement=measured.sign(node.key),
            valuation=Valuation.of(50_000, measured.quality.score_ppm),
            issued=self.now,
            tag_commitment=node.tag_commitment,
        )
        node.asset = self.put(replace(statement, **changes), node.owner.key)
        node.index = self.at[node.asset]
        node.open_spool(self.folder)
        self.nodes.append(node)
        return node

    def measurement(self, node: Node) -> Measurement:
        quality = Quality.of(
            completeness_ppm=980_000,
            duplicate_rows_ppm=0,
            consistency_ppm=1_000_000,
            not_assessed=("accuracy",),
        )
        return Measurement(
            100, (Column("age", "integer", 0, 7),), digest_of(node.key.name), quality, self.now
        )

    def terms(self, quota: int, *, exact: bool = True) -> Terms:
        return Terms(
            tasks=("statistics",),
            purposes=("research",),
            recipients=("*",),
            uses=quota,
            until=START + YEAR,
            exact=exact,
            minimum_parties=1,
        )

    def agree(
        self, node: Node, researcher: Party, quota: int | None = None, *, noisy: bool | None = None
    ) -> Deal:
        """Log a new offer and agreement; some nodes give answers with noise alone."""
        uses = quota or self.plan.quota
        noisy = node in self.nodes[10:13] if noisy is None else noisy
        terms = self.terms(uses, exact=not noisy)
        offer = Offer(node.owner.id, node.asset, terms, PRICE, self.now)
        offered = self.put(offer, node.owner.key)
        statement = Agreement(
            node.owner.id,
            researcher.id,
            node.asset,
            offered,
            terms,
            {"complete_rows": True},
            PRICE,
            FEE_PPM,
            self.now,
        )
        budget = uses * 10 * SPENT_MICRO if noisy else None
        if budget is not None:
            statement = BudgetedAgreement(**vars(statement), budget_micro=budget)
        name = self.put(statement, node.owner.key, researcher.key)
        return Deal(name, self.at[name], node, researcher, uses, budget=budget)

    def deal(self, node: Node, researcher: Party) -> Deal:
        """The agreement in force between two, a new one where its uses are promised."""
        place = node.asset, researcher.id
        found = self.deals.get(place)
        if found is None or found.left == 0:
            if found is not None:
                self.ended.append(found)
            found = self.deals[place] = self.agree(node, researcher)
        return found

    # Time passes.

    def run(self) -> None:
        """Live from the first enrolment until every epoch that had a job is settled."""
        self.open()
        waiting = iter(self.schedule())
        closing: Iterator[None] | None = None
        more = True
        while more or self.lives:
            while more and len(self.lives) < self.plan.active:
                life = next(waiting, None)
                more = life is not None
                if life is not None:
                    self.lives.append(life)
            closing = self.step_closes(closing)
            if self.lives:
                life = self.random.choice(self.lives)
                if next(life, self) is self:
                    self.lives.remove(life)
        self.wind_up(closing)

    def open(self) -> None:
        self.enrol(self.operator, "operator")
        plan = Schedule(self.plan.epoch_entries, self.plan.grace_entries, self.now)
        self.put(plan, self.operator.key)
        for researcher in self.researchers:
            self.enrol(researcher, "researcher")
        for number in range(1, ACTIVE_NODES + 1):
            self.list_node(f"clinic{number:02d}.example")
        self.idle = self.list_node("idle.example")
        self.leaver = self.list_node("leaver.example")

    def schedule(self) -> Iterator[Iterator[None]]:
        """Yield every job's life, in the order in which they begin."""
        # Imported late: lives are written in terms of a market.
        from tests.generated.lives import honest

        step = max(1, self.plan.jobs // 8)
        for number in range(self.plan.jobs):
            if number % step == step - 1:
                self.housekeeping(number // step)
            fault = self.injector and self.injector.life(number)
            yield (fault or honest(self, number)).play()

    def housekeeping(self, turn: int) -> None:
        """New keys, ended agreements, an asset that leaves."""
        node, researcher = self.nodes[turn % ACTIVE_NODES], self.researchers[0]
        if turn % 3 == 0:
            self.rotate(node.owner, node.owner.id, f"{node.owner.name}/key{turn}")
        elif turn % 3 == 1:
            new = key_of(f"{node.key.name}{turn}")
            text = new.verify_key.text
            rotation = Rotation(node.owner.id, node.asset, text, "key", None, self.now)
            self.put(rotation, node.key, new)
            node.key = new
        else:
            self.rotate(researcher, researcher.id, f"{researcher.name}/key{turn}")
        if turn == 4:
            self.put(Revocation(self.leaver.owner.id, self.leaver.asset, "left", self.now),
                     self.leaver.owner.key)  # fmt: skip
            self.nodes.remove(self.leaver)
        self.end_agreements()

    def rotate(self, who: Party, subject: str, name: str) -> None:
        new = key_of(name)
        text = new.verify_key.text
        rotation = Rotation(who.id, subject, text, "key", None, self.now)
        self.put(rotation, who.key, new)
        who.key = new

    def end_agreements(self) -> None:
        """Revoke agreements that are used up, and erase what rested on some of them."""
        for deal in [item for item in self.ended if not item.active]:
            self.ended.remove(deal)
            owner = deal.node.owner
            self.put(Revocation(owner.id, deal.id, "used up", self.now), owner.key)
            if self.may_erase(deal) and self.erasures < self.plan.erasures:
                self.erasures += 1
                self.erase(deal)

    def may_erase(self, deal: Deal) -> bool:
        """Keep faults apart from erasures, and the auditor's planted jobs too."""
        erasing = deal.node.owner.name in ("clinic16.example", "clinic17.example")
        return erasing and deal.researcher is not self.researchers[-1]

    def erase(self, deal: Deal) -> None:
        """Erase the statements of jobs that rested on this agreement alone."""
        closed = (self.next_epoch - 1) * self.plan.epoch_entries
        jobs = [
            life
            for life in deal.jobs
            if len(life.deals) == 1
            and life.erasable
            and max(life.entries, default=0) < closed
            and not {i // self.plan.epoch_entries for i in life.entries} & self.protected
        ]
        for kind in ("settlement", "release", "receipt", "grant", "job"):
            found = sorted(i for life in jobs for i, what in life.entries.items() if what == kind)
            if found:
                shred = Shred(tuple(found), kind, "agreement ended", self.now)
                self.put(shred, self.operator.key)
                self.erased.update(found)

    # Epochs.

    def step_closes(self, closing: Iterator[None] | None) -> Iterator[None] | None:
        if closing is None and self.book.size >= (self.next_epoch + 1) * self.plan.epoch_entries:
            closing = self.close_epoch(self.next_epoch)
            self.next_epoch += 1
        if closing is not None and next(closing, self) is self:
            closing = None
        return closing

    def close_epoch(self, number: int) -> Iterator[None]:
        start = number * self.plan.epoch_entries
        stop = start + self.plan.epoch_entries
        for node in self.random.sample(self.nodes, len(self.nodes)):
            if node.index < stop and node in self.nodes:
                if not (self.injector and self.injector.lie_at(node, number)):
                    self.close(node, number)
                yield
        if not (self.injector and self.injector.lie_at(None, number)):
            self.index_uses(number)

    def close(self, node: Node, number: int, **changes: Any) -> None:
        """Log a node's close of an epoch; `changes` is what a dishonest one says instead."""
        skipped = changes.pop("skipped", 0)
        start = number * self.plan.epoch_entries
        stop = start + self.plan.epoch_entries
        first = 1 + (node.closed[1] if node.closed else 0)
        statement = Epoch(
            asset=node.asset,
            number=number,
            start=start,
            stop=stop,
            previous=node.closed[0] if node.closed else None,
            journal=JournalSpan(first + skipped, node.line, node.head),
            counts=EpochCounts(**node.counts(skipped)),
            uses=sum(start <= index < stop for index in node.uses),
            issued=self.now,
        )
        name = self.put(replace(statement, **changes), node.key)
        node.closed = name, node.line, number
        node.since.clear()
        node.uses = [index for index in node.uses if index >= stop]
        node.write(self.now, "close", {"epoch": name, "number": number})

    def index_uses(self, number: int, **changes: Any) -> None:
        start = number * self.plan.epoch_entries
        tags = self.tags(number)
        statement = UseIndex(
            number, start, start + self.plan.epoch_entries, len(tags), root_of(tags), self.now
        )
        self.put(replace(statement, **changes), self.operator.key)
        self.used.pop(number, None)

    def tags(self, number: int) -> list[bytes]:
        used = self.used.get(number, {})
        return list(sorted_tags(tag(node.tag_key, node.asset, number) for node in used.values()))

    def count_use(self, node: Node, index: int) -> None:
        node.uses.append(index)
        self.used.setdefault(index // self.plan.epoch_entries, {})[node.asset] = node

    def wind_up(self, closing: Iterator[None] | None) -> None:
        """Let the log grow until nothing of any job is pending."""
        length, grace = self.plan.epoch_entries, self.plan.grace_entries
        full = -(-self.book.size // length) * length + 2 * grace + 4 * len(self.nodes)
        while self.book.size < full or closing is not None:
            closing = self.step_closes(closing)
            offer = Offer(self.idle.owner.id, self.idle.asset, self.terms(1), PRICE, self.now)
            self.put(offer, self.idle.owner.key)

    # What auditors get.

    def tag_keys(self) -> dict[str, bytes]:
        return {node.asset: node.tag_key for node in [*self.nodes, self.leaver]}

    def journals(self) -> Iterator[tuple[str, bytes]]:
        for number, node in enumerate([*self.nodes, self.leaver]):
            yield f"journals/{number:03d}", node.journal(self.now)

    def export(self, path: Path) -> Path:
        opened = [index for index in range(self.book.size) if index not in self.erased]
        journals = (data for _, data in self.journals())
        keys = write_tag_keys(self.tag_keys())
        extras = Extras(erased=sorted(self.erased), tag_keys=keys, journals=journals)
        export(
            self.book, self.log_key, path, opened=opened, scope="everything", now=self.now,
            extras=extras,
        )  # fmt: skip
        return path
