"""The parties of the ledger's tests, and drafts of all that they may say.

`Drafts.job(...)` and its like build an unsigned statement as it fits to what is logged. Putting it
into a log is the business of `tests.world`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ledger.encoding import sha256_text
from ledger.journal import LAUNCH, JournalLine, count, first_head, next_head
from ledger.keys import SigningKey
from ledger.log import Log
from ledger.statements import (
    Agreement,
    Asset,
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
)
from ledger.terms import Terms
from ledger.use_index import commit, root_of, sorted_tags, tag

START = 1_767_225_600_000  # 2026-01-01T00:00:00Z
SECOND = 1000
YEAR = 365 * 24 * 3600 * SECOND
CODE = sha256_text(b"installed code")


def key_of(name: str) -> SigningKey:
    """The one key of a name in every test."""
    return SigningKey.from_seed(name, hashlib.sha256(b"test key of " + name.encode()).digest())


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


class Drafts:
    """Unsigned statements with defaults that keep every rule; any field is changed by keyword."""

    clock: Clock
    log: Log
    terms: Terms
    researcher: Party
    providers: list[Provider]
    statements: dict[str, Statement]
    new_keys: list[SigningKey]
    journals: dict[str, list[JournalLine]]
    nonces: Iterator[int]

    def node_key(self, provider: Provider) -> SigningKey:
        """The key of a provider's node."""
        return provider.node_key or provider.key

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
            nonce=f"nonce {next(self.nonces)}",
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
        """The end of a participant's key, an asset, an offer, an agreement, a grant or a job."""
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

    def shred(self, entries: Sequence[int], kind: str, **changes: Any) -> Shred:
        """The erasure of statements of one kind."""
        statement = Shred(tuple(entries), kind, "retention period over", self.clock())
        return replace(statement, **changes)

    # Journals, which receipts and closes refer to.

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
