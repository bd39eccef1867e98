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
is given is logged unchecked. For lies that a log cannot be made to hold, `tests.forgery` writes a
folder from whatever entries and openings it is given, signed by any key.

All keys follow from names, the clock is moved by hand (a second for each statement), nothing
sleeps. A test that wants equal bytes in two runs fixes the salts (`fixed_salts`).
"""

import hashlib
import itertools
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import sqlalchemy as sa

from ledger import store
from ledger.entry import SALT_BYTES, Entry, Opening
from ledger.export import NO_EXTRAS, Extras, export
from ledger.journal import FINISH, JournalLine, write_journal
from ledger.keys import SigningKey
from ledger.log import Log
from ledger.statements import Author, Receipt, Statement, read
from ledger.statements.envelope import payload_type
from ledger.statements.envelope import sign as sign_payload
from ledger.terms import Terms
from ledger.verify import Verdict, verify
from tests.drafts import START, YEAR, Clock, Drafts, Party, Provider, key_of

LOG_NAME = "rongshu.example/log"


@contextmanager
def fixed_salts() -> Iterator[None]:
    """Count salts up instead of drawing them, so that two runs give equal bytes."""
    counter = itertools.count()
    with patch("ledger.store.secrets") as secrets:
        secrets.token_bytes = lambda size: hashlib.sha256(b"%d" % next(counter)).digest()[:size]
        yield


@dataclass(frozen=True)
class Use:
    """The ids of everything that one use put into the log."""

    job: str
    grants: tuple[str, ...]
    receipts: tuple[str, ...]
    release: str
    settlement: str


class World(Drafts):
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
        self.nonces = itertools.count(1)
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

    # Whole stretches.

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
        path = self.folder / f"export at {self.log.size} {next(self.nonces)}"
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
