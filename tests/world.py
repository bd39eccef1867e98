"""A small world on the product's own interfaces: operator, log, providers and a researcher.

    world = World(tmp_path, providers=4)             # enrolled, assets offered and agreed upon
    job = world.put(world.job(purpose="research"))   # `put` checks, logs and returns the id
    grants = [world.put(world.grant(p, job)) for p in world.providers]
    receipts = [
        world.put(world.receipt(p, job, g))
        for p, g in zip(world.providers, grants, strict=True)
    ]
    release = world.put(world.release(job, receipts))
    world.put(world.settlement(job, release))
    world.put(world.revoke(world.providers[0], world.providers[0].agreement))
    world.export(tmp_path / "export")                # opened=[0, 1] opens two entries alone
    verdict = verify(tmp_path / "export", world.log.vkey)

or the whole life of one use at once: `World.with_one_use(tmp_path).use.release`.

`world.job(...)` and its like build an unsigned statement with defaults that keep every rule; any
field is changed by keyword. `put` and `insecure_put` take a statement, which is signed by its
rightful authors, or a signed envelope as it is. `insecure_put` is the dishonest operator: what it
is given is logged unchecked. For lies that a log cannot be made to hold, `insecure_export` writes
a folder from whatever entries and openings it is given, signed by any key.

All keys follow from names, the clock is moved by hand (a second for each statement), nothing
sleeps. A test that wants equal bytes in two runs fixes the salts (`fixed_salts`).
"""

import hashlib
import itertools
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import sqlalchemy as sa

from ledger import note, store
from ledger.checkpoint import Checkpoint
from ledger.checkpoint import sign as sign_checkpoint
from ledger.encoding import canonical, sha256_text
from ledger.entry import NO_PREDECESSOR, SALT_BYTES, Entry, Opening
from ledger.export import NO_EXTRAS, Extras, export
from ledger.journal import FINISH, LAUNCH, JournalLine, count, first_head, next_head, write_journal
from ledger.keys import SigningKey
from ledger.log import Log
from ledger.manifest import (
    CHECKPOINT,
    CLAIMED_KEY,
    FILE,
    FILES,
    HEADING,
    SPANS,
    File,
    Manifest,
    Openness,
    Table,
    files_table,
    openings_path,
    spans_table,
)
from ledger.merkle import Tree, leaf_hash
from ledger.statements import (
    Agreement,
    Asset,
    Author,
    Column,
    Contribution,
    Epoch,
    Grant,
    Job,
    JournalPosition,
    JournalSpan,
    Line,
    Measurement,
    Offer,
    Participant,
    Quality,
    Receipt,
    Release,
    Revocation,
    Rotation,
    Schedule,
    Settlement,
    Shred,
    Statement,
    Summand,
    TaggedAsset,
    UseIndex,
    Valuation,
    postings,
    read,
)
from ledger.statements.envelope import payload_type
from ledger.statements.envelope import sign as sign_payload
from ledger.terms import Terms
from ledger.tiles import WIDTH, layout, tile_bytes
from ledger.use_index import commit, root_of, sorted_tags, tag
from ledger.verify import Verdict, verify

START = 1_767_225_600_000  # 2026-01-01T00:00:00Z
SECOND = 1000
YEAR = 365 * 24 * 3600 * SECOND
LOG_NAME = "rongshu.example/log"
CODE = sha256_text(b"installed code")


def key_of(name: str) -> SigningKey:
    """The one key of a name in every test."""
    return SigningKey.from_seed(name, hashlib.sha256(b"test key of " + name.encode()).digest())


@contextmanager
def fixed_salts() -> Iterator[None]:
    """Count salts up instead of drawing them, so that two runs give equal bytes."""
    counter = itertools.count()
    with patch("ledger.store.secrets") as secrets:
        secrets.token_bytes = lambda size: hashlib.sha256(b"%d" % next(counter)).digest()[:size]
        yield


def tag_key_of(name: str) -> bytes:
    """The one tag key of a provider's asset in every test."""
    return hashlib.sha256(b"test tag key of " + name.encode()).digest()


class Clock:
    """Unix milliseconds, moved by hand."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, milliseconds: int = SECOND) -> None:
        self.now += milliseconds


@dataclass
class Party:
    """A participant: its name, its key and, once enrolled, its id."""

    name: str
    key: SigningKey
    id: str = ""


@dataclass
class Provider(Party):
    """A provider with one node; the ids are those of its asset, offer and agreement."""

    node_key: SigningKey | None = None
    asset: str = ""
    offer: str = ""
    agreement: str = ""


@dataclass(frozen=True)
class Use:
    """The ids of everything that one use put into the log."""

    job: str
    grants: tuple[str, ...]
    receipts: tuple[str, ...]
    release: str
    settlement: str


class World:
    """Operator, log, providers and one researcher; see the module's docstring.

    Args:
        folder: an empty folder for the log's database and checkpoint.
        providers: how many; each has an asset, an offer and an agreement with the researcher.
        terms: changes to the terms of every offer and agreement.
        enrolled: False leaves the log empty: no participant, no asset.
        engine: another database for the log than a file in the folder, with the log's tables.
    """

    def __init__(
        self,
        folder: Path,
        providers: int = 4,
        *,
        terms: Mapping[str, Any] | None = None,
        enrolled: bool = True,
        engine: sa.Engine | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.clock = Clock()
        self.engine = engine or _file(folder / "log.sqlite")
        self.log_key = key_of(LOG_NAME)
        self.log = self.open_log()
        self.keys: dict[str, SigningKey] = {}
        self.statements: dict[str, Statement] = {}
        self.terms = replace(
            Terms(
                tasks=("statistics", "logistic"),
                purposes=("research",),
                recipients=("*",),
                uses=3,
                until=START + YEAR,
                exact=True,
                minimum_parties=min(3, providers),
            ),
            **(terms or {}),
        )
        self.operator = Party("operator.example", key_of("operator.example"))
        self.researcher = Party("researcher.example", key_of("researcher.example"))
        self.providers = [
            Provider(name, key_of(name), node_key=key_of(f"{name}/node"))
            for name in (f"hospital{number}.example" for number in range(1, providers + 1))
        ]
        self.use: Use | None = None
        self.journals: dict[str, list[JournalLine]] = {}
        self.new_keys: list[SigningKey] = []
        self._nonces = itertools.count(1)
        if enrolled:
            self.enrol(self.operator, "operator")
            self.enrol(self.researcher, "researcher")
            for provider in self.providers:
                self.enrol(provider, "provider")
                self.list_asset(provider)

    @classmethod
    def with_one_use(cls, folder: Path, providers: int = 4) -> "World":
        """A world in which one job went through its whole life: `world.use` has the ids."""
        world = cls(folder, providers)
        world.use = world.one_use()
        return world

    @classmethod
    def with_every_kind(cls, folder: Path, providers: int = 2) -> "World":
        """A world whose log has a statement of every kind: epochs, a new key, an erasure."""
        world = cls(folder, providers)
        world.put(world.schedule())
        world.use = world.one_use()
        first = world.providers[0]
        world.put(world.rotate(first, first.id, key_of(f"{first.name}/second")))
        first.key = world.keys[first.id] = key_of(f"{first.name}/second")
        world.close_epochs()
        for provider in world.providers:
            world.put(world.revoke(provider, provider.agreement))
        settled = world.log.index_of(world.use.settlement)
        world.put(world.shred([settled], "settlement"))
        return world

    def copy(self, folder: Path) -> "World":
        """The same world in another folder; quicker than living its life again."""
        shutil.copytree(self.folder, folder)
        twin = World(folder, len(self.providers), enrolled=False)
        twin.terms, twin.use, twin.clock.now = self.terms, self.use, self.clock.now
        twin.operator, twin.researcher = replace(self.operator), replace(self.researcher)
        twin.providers = [replace(provider) for provider in self.providers]
        twin.keys, twin.statements = dict(self.keys), dict(self.statements)
        twin.journals = {asset: list(lines) for asset, lines in self.journals.items()}
        return twin

    def open_log(self) -> Log:
        """A log over the same database and folder, as after a restart."""
        return Log(self.engine, self.log_key, self.folder / "checkpoints", self.clock)

    # Putting things into the log.

    def put(self, item: Statement | bytes) -> str:
        """Check, log and return the id."""
        envelope = item if isinstance(item, bytes) else self.sign(item)
        self.log.check(envelope)
        self.clock.advance()
        with self.engine.begin() as connection:
            self.log.submit(connection, envelope)
        return self._sequence(envelope)

    def insecure_put(self, item: Statement | bytes) -> str:
        """Log without any check, as a dishonest operator can, and return the id."""
        envelope = item if isinstance(item, bytes) else self.sign(item)
        self.clock.advance()
        with self.engine.begin() as connection:
            connection.execute(
                store.pending.insert().values(
                    statement_id=read(envelope).id,
                    envelope=envelope,
                    salt=store.secrets.token_bytes(SALT_BYTES),
                    received=self.clock(),
                )
            )
        return self._sequence(envelope)

    def _sequence(self, envelope: bytes) -> str:
        self.log.sequence()
        unverified = read(envelope)
        self.statements[unverified.id] = unverified.statement
        if isinstance(unverified.statement, Receipt):
            self._journal_end(unverified.id, unverified.statement)
        return unverified.id

    # What a node's journal says: a line for each launch, and one for each end, with its receipt.

    def journal_line(self, guarded: str, kind: str, **body: Any) -> JournalLine:
        """Append a line to the journal of an asset's node."""
        lines = self.journals.setdefault(guarded, [])
        previous, number = self.journal_position(guarded).head, len(lines) + 1
        head = next_head(previous, number, self.clock(), kind, body)
        lines.append(JournalLine(number, self.clock(), kind, body, head))
        return lines[-1]

    def journal_position(self, asset: str) -> JournalPosition:
        """Where the journal of an asset's node stands."""
        lines = self.journals.get(asset, [])
        return JournalPosition(len(lines), lines[-1].head if lines else first_head())

    def journal(self, provider: Provider) -> bytes:
        """The journal of a provider's node, as an auditor gets it."""
        lines = self.journals.get(provider.asset, [])
        return write_journal(provider.asset, lines, self.node_key(provider), now=self.clock())

    def _journal_end(self, receipt_id: str, receipt: Receipt) -> None:
        body = {"asset": receipt.asset, "job": receipt.job, "state": receipt.state}
        self.journal_line(receipt.asset, FINISH, receipt=receipt_id, **body)

    def sign(self, statement: Statement) -> bytes:
        """The statement in an envelope that its rightful authors signed."""
        return statement.sign(*(self._key(author) for author in statement.authors()))

    def insecure_sign(self, kind: type[Statement], payload: Any, *keys: SigningKey) -> bytes:
        """An envelope around any payload, however wrong."""
        return sign_payload(payload_type(kind.kind, kind.version), payload, *keys)

    def _key(self, author: Author) -> SigningKey:
        if author.role == "operator":
            return self.operator.key
        if author.role == "key":
            return self.known_keys[author.subject]
        if author.role == "recovery":
            return key_of(f"{self.names[author.subject]}/recovery")
        return self.keys[author.subject]

    @property
    def known_keys(self) -> dict[str, SigningKey]:
        """Every key that somebody enrols or rotates to, by the text of its verifier key."""
        keys = [party.key for party in self.parties] + self.new_keys
        return {key.verify_key.text: key for key in keys}

    @property
    def names(self) -> dict[str, str]:
        """The name of each participant, by id."""
        return {party.id: party.name for party in self.parties}

    @property
    def parties(self) -> list[Party]:
        """Everybody."""
        return [self.operator, self.researcher, *self.providers]

    # Enrolment and listing.

    def enrol(self, party: Party, *roles: str) -> None:
        """Log a participant and remember its id."""
        party.id = self.put(self.participant(party, *roles))
        self.keys[party.id] = party.key

    def list_asset(self, provider: Provider) -> None:
        """Log the asset, offer and agreement of a provider and remember their ids."""
        provider.asset = self.put(self.asset(provider))
        self.keys[provider.asset] = self.node_key(provider)
        provider.offer = self.put(self.offer(provider))
        provider.agreement = self.put(self.agreement(provider))

    def node_key(self, provider: Provider) -> SigningKey:
        """The key of a provider's node."""
        return provider.node_key or provider.key

    # Statements with defaults that keep every rule. Any field is changed by keyword.

    def participant(self, party: Party, *roles: str, **changes: Any) -> Participant:
        statement = Participant(
            name=party.name,
            roles=roles,
            key=party.key.verify_key.text,
            recovery_key=None,
            issued=self.clock(),
        )
        return replace(statement, **changes)

    def measurement(self, provider: Provider, **changes: Any) -> Measurement:
        measurement = Measurement(
            rows=100,
            columns=(Column("age", "integer", 0, 7), Column("chol", "number", 4, 10)),
            content_digest=sha256_text(provider.name.encode()),
            quality=Quality.of(
                completeness_ppm=980_000,
                duplicate_rows_ppm=0,
                consistency_ppm=1_000_000,
                not_assessed=("accuracy",),
            ),
            issued=self.clock(),
        )
        return replace(measurement, **changes)

    def asset(self, provider: Provider, **changes: Any) -> Asset:
        measured = self.measurement(provider)
        statement = TaggedAsset(
            provider=provider.id,
            name=f"heart disease, {provider.name}",
            description="Angiography patients",
            use_rights="CC BY 4.0",
            node_key=self.node_key(provider).verify_key.text,
            measurement=measured.sign(self.node_key(provider)),
            valuation=Valuation.of(50_000, measured.quality.score_ppm),
            issued=self.clock(),
            tag_commitment=commit(tag_key_of(provider.name)),
        )
        return replace(statement, **changes)

    def offer(self, provider: Provider, **changes: Any) -> Offer:
        statement = Offer(
            provider=provider.id,
            asset=provider.asset,
            terms=self.terms,
            price_cents=1_000,
            issued=self.clock(),
        )
        return replace(statement, **changes)

    def agreement(self, provider: Provider, **changes: Any) -> Agreement:
        statement = Agreement(
            provider=provider.id,
            researcher=self.researcher.id,
            asset=provider.asset,
            offer=provider.offer,
            terms=self.terms,
            preparation={"complete_rows": True},
            price_cents=1_000,
            fee_ppm=100_000,
            issued=self.clock(),
        )
        return replace(statement, **changes)

    def job(self, **changes: Any) -> Job:
        statement = Job(
            researcher=self.researcher.id,
            name="first look",
            task="statistics",
            task_version=1,
            code_digest=CODE,
            parameters={"columns": ["age", "chol"]},
            preparation={"complete_rows": True},
            purpose="research",
            assets=tuple(provider.asset for provider in self.providers),
            agreements=tuple(provider.agreement for provider in self.providers),
            encryption_key=None,
            nonce=f"nonce {next(self._nonces)}",
            issued=self.clock(),
        )
        return replace(statement, **changes)

    def grant(self, provider: Provider, job: str, **changes: Any) -> Grant:
        statement = Grant(
            provider=provider.id,
            asset=provider.asset,
            agreement=provider.agreement,
            job=job,
            cohort=tuple(provider.asset for provider in self.providers),
            minimum_parties=self.terms.minimum_parties,
            rounds=2,
            until=min(self.clock() + 3600 * SECOND, self.terms.until),
            issued=self.clock(),
        )
        return replace(statement, **changes)

    def receipt(self, provider: Provider, job: str, grant: str | None, **changes: Any) -> Receipt:
        """A completed receipt; with `state="refused", reason=…` a refusal that sends nothing."""
        refused = changes.get("state") == "refused"
        if not refused:
            self.journal_line(provider.asset, LAUNCH, asset=provider.asset, job=job)
        statement = Receipt(
            asset=provider.asset,
            job=job,
            grant=grant,
            state="completed",
            reason=None,
            code_digest=CODE,
            log_size=self.log.size,
            rows=0 if refused else 100,
            contributions=() if refused else self.contributions(provider, job),
            journal=self.journal_position(provider.asset),
            issued=self.clock(),
        )
        return replace(statement, **changes)

    def contributions(self, provider: Provider, job: str, rounds: int = 2) -> tuple[Any, ...]:
        """What a provider sent in each round, by digest."""
        return tuple(
            Contribution(
                number,
                sha256_text(f"request {number} {job}".encode()),
                sha256_text(f"reply {number} {job} {provider.name}".encode()),
            )
            for number in range(1, rounds + 1)
        )

    def release(self, job: str, receipts: Sequence[str], **changes: Any) -> Release:
        """A release of exactly the contributions of these receipts."""
        found = [(name, self.statements[name]) for name in receipts]
        statement = Release(
            job=job,
            receipts=tuple(receipts),
            contributions=tuple(
                Summand(name, item.round, item.reply)
                for name, receipt in found
                if isinstance(receipt, Receipt)
                for item in receipt.contributions
            ),
            result=sha256_text(b"result"),
            decision="automatic",
            checks=("minimum_parties",),
            issued=self.clock(),
        )
        return replace(statement, **changes)

    def settlement(self, job: str, release: str, **changes: Any) -> Settlement:
        """The bill: a tenth of each price is the operator's fee."""
        lines = tuple(
            Line(provider.agreement, provider.id, 1_000, 100, 900) for provider in self.providers
        )
        statement = Settlement(
            job=job,
            release=release,
            researcher=self.researcher.id,
            lines=changes.get("lines", lines),
            total_cents=sum(line.price_cents for line in changes.get("lines", lines)),
            postings=postings(self.researcher.id, changes.get("lines", lines)),
            issued=self.clock(),
        )
        return replace(statement, **changes)

    def revoke(self, issuer: Party, target: str, cause: str = "withdrawn") -> Revocation:
        """The end of a participant's key, an asset, an offer, an agreement or a grant."""
        return Revocation(issuer.id, target, cause, self.clock())

    def rotate(self, issuer: Party, subject: str, new_key: SigningKey, **changes: Any) -> Rotation:
        """A new key for a participant, or for the node of an asset."""
        self.new_keys.append(new_key)
        text = new_key.verify_key.text
        return replace(Rotation(issuer.id, subject, text, "key", None, self.clock()), **changes)

    # Epochs: what shows that nothing is missing.

    def schedule(self, **changes: Any) -> Schedule:
        """Short epochs."""
        return replace(Schedule(8, 32, self.clock()), **changes)

    def epoch(self, provider: Provider, **changes: Any) -> Epoch:
        """The next close of a provider's node: its journal since the last one."""
        history, lines = self.log.history, self.journals.get(provider.asset, [])
        schedule = history.schedule or self.schedule()
        listed, before = history.by_id[provider.asset].index, history.last_close(provider.asset)
        number = schedule.epoch_of(listed) if before is None else before[1].number + 1
        first = 1 if before is None else before[1].journal.last + 1
        start, stop = schedule.start(number), schedule.start(number + 1)
        statement = Epoch(
            asset=provider.asset,
            number=number,
            start=start,
            stop=stop,
            previous=None if before is None else before[0].id,
            journal=JournalSpan(first, len(lines), self.journal_position(provider.asset).head),
            counts=count(lines[first - 1 :]),
            uses=len(history.uses(listed, provider.asset, start, stop)),
            issued=self.clock(),
        )
        return replace(statement, **changes)

    def use_index(self, **changes: Any) -> UseIndex:
        """The next index of used assets."""
        history = self.log.history
        schedule = history.schedule or self.schedule()
        number = changes.get("number", len(history.use_indexes))
        start, stop = schedule.start(number), schedule.start(number + 1)
        used = history.used_assets(start, stop)
        owners = {provider.asset: provider.name for provider in self.providers}
        tags = sorted_tags(tag(tag_key_of(owners[item]), item, number) for item in used)
        statement = UseIndex(number, start, stop, len(tags), root_of(tags), self.clock())
        return replace(statement, **changes)

    def close_epochs(self, upto: int | None = None) -> None:
        """Log every close and index of all epochs that have ended, or of those before `upto`."""
        while self.log.history.schedule is not None:
            schedule = self.log.history.schedule
            ended = schedule.ended(self.log.size) if upto is None else upto
            number = len(self.log.history.use_indexes)
            if number >= ended:
                return
            for provider in self.providers:
                listed = self.log.history.by_id[provider.asset].index
                if schedule.epoch_of(listed) <= number:
                    self.put(self.epoch(provider))
            self.put(self.use_index())

    def shred(self, entries: Sequence[int], kind: str, **changes: Any) -> Shred:
        """The erasure of statements of one kind."""
        statement = Shred(tuple(entries), kind, "retention period over", self.clock())
        return replace(statement, **changes)

    # Whole stretches.

    def granted_job(self, **changes: Any) -> tuple[str, list[str]]:
        """Log a job and every provider's grant for it."""
        job = self.put(self.job(**changes))
        return job, [self.put(self.grant(provider, job)) for provider in self.providers]

    def receipted_job(self, **changes: Any) -> tuple[str, list[str], list[str]]:
        """Log a job, every grant and every receipt."""
        job, grants = self.granted_job(**changes)
        pairs = zip(self.providers, grants, strict=True)
        return job, grants, [self.put(self.receipt(p, job, grant)) for p, grant in pairs]

    def one_use(self) -> Use:
        """Log the whole life of one job."""
        job, grants, receipts = self.receipted_job()
        release = self.put(self.release(job, receipts))
        settlement = self.put(self.settlement(job, release))
        return Use(job, tuple(grants), tuple(receipts), release, settlement)

    # Exporting and auditing.

    def export(
        self,
        path: Path,
        opened: Iterable[int] | None = None,
        scope: str = "everything",
        extras: Extras = NO_EXTRAS,
    ) -> Path:
        """Export the log honestly; every entry is opened unless told otherwise."""
        indexes = range(self.log.size) if opened is None else opened
        export(
            self.log,
            self.log_key,
            path,
            opened=indexes,
            scope=scope,
            now=self.clock(),
            extras=extras,
        )
        return path

    def audit(self, opened: Iterable[int] | None = None) -> Verdict:
        """Export to a new folder and verify it with the log's key."""
        path = self.folder / f"export at {self.log.size} {next(self._nonces)}"
        return verify(self.export(path, opened), self.log.vkey)

    def entries(self) -> list[Entry]:
        """All entries of the log, to be tampered with."""
        return [Entry.from_bytes(data) for data in self.log.entry_bytes(0, self.log.size)]

    def openings(self) -> list[Opening]:
        """All openings of the log, to be tampered with."""
        return self.log.openings(0, self.log.size)


def _file(path: Path) -> sa.Engine:
    # No pool: a connection that a test forgets is closed all the same.
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
    # Nobody pulls the plug on a test; crashes between the steps of the log are tested as such.
    sa.event.listen(engine, "connect", _no_sync)
    store.metadata.create_all(engine)
    return engine


def _no_sync(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")


def chain(entries: Iterable[Entry]) -> list[Entry]:
    """The same entries with every predecessor's hash written anew."""
    previous, chained = NO_PREDECESSOR, []
    for entry in entries:
        chained.append(replace(entry, previous=previous))
        previous = leaf_hash(chained[-1].to_bytes())
    return chained


def insecure_export(
    path: Path,
    key: SigningKey,
    entries: Sequence[Entry | bytes],
    openings: Iterable[Opening],
    *,
    opened: Iterable[int] | None = None,
    changed: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a folder as a dishonest operator can: consistent in itself, whatever it says.

    Args:
        path: a new folder.
        key: signs checkpoint and manifest.
        entries: the leaves, unchecked.
        openings: written as they are.
        opened: what the manifest declares open; all that have an opening, unless told otherwise.
        changed: files whose contents are replaced before the manifest is made over them.
    """
    raw = [item if isinstance(item, bytes) else item.to_bytes() for item in entries]
    listed = list(openings)
    tree = Tree.from_leaf_hashes(leaf_hash(data) for data in raw)
    declared = Openness.of(tree.size, [item.index for item in listed] if opened is None else opened)
    contents = {
        CHECKPOINT: sign_checkpoint(Checkpoint(key.name, tree.size, tree.root()), key),
        CLAIMED_KEY: key.verify_key.text.encode() + b"\n",
    }
    for tile in layout(tree.size):
        contents[tile.path] = tile_bytes(tree, tile, lambda start, stop: raw[start:stop])
    for number in range((tree.size + WIDTH - 1) // WIDTH):
        lines = [item.to_bytes() + b"\n" for item in listed if item.index // WIDTH == number]
        if lines:
            contents[openings_path(number)] = b"".join(lines)
    write_files(path, insecure_manifest(key, declared, contents | (changed or {})))
    return path


def repeating(world: World, path: Path, kind: str) -> Path:
    """An export in which the first statement of a kind stands once more at the end."""
    entries, openings = world.entries(), world.openings()
    first = next(item for item in openings if entries[item.index].kind == kind)
    index, time = len(entries), entries[-1].time
    entries.append(replace(entries[first.index], index=index, time=time))
    openings.append(replace(first, index=index))
    return insecure_export(path, world.log_key, chain(entries), openings)


def insecure_manifest(
    key: SigningKey, openness: Openness, contents: Mapping[str, bytes], **changes: Any
) -> dict[str, bytes]:
    """The contents of an export with tables and a signed manifest over them, whatever they say.

    Args:
        key: signs the manifest.
        openness: what the manifest declares open, sealed or erased.
        contents: all other files; tables and a manifest among them are replaced.
        changes: fields of the manifest that are changed before it is signed.
    """
    listed = {n: data for n, data in contents.items() if n not in (FILE, FILES, SPANS)}
    files = files_table(File.of(name, data) for name, data in listed.items())
    spans = spans_table(openness)
    manifest = Manifest(
        origin=key.name,
        size=openness.size,
        created=START,
        scope="everything",
        files=Table.of(files),
        spans=Table.of(spans),
    )
    # Not `Manifest.sign`, which refuses to sign what no verifier accepts.
    text = f"{HEADING}\n{canonical(manifest.payload() | changes).decode()}\n"
    return listed | {FILES: files, SPANS: spans, FILE: note.sign(text, [key])}


def write_files(path: Path, contents: Mapping[str, bytes]) -> None:
    """Write files below a folder that is made where needed."""
    for name, data in contents.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def read_files(path: Path) -> dict[str, bytes]:
    """All files below a folder, by path."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }
