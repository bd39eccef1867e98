"""What the log has said so far, in log order.

Holds statements by id and by index, keys, revocations and the uses made of agreements, so that the
rules can ask. Decides only what belongs to the sequence itself: entries without a gap, each naming
the one before it, times that never go back. What a statement may say is decided in `ledger.rules`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from ledger.entry import NO_PREDECESSOR, Entry
from ledger.errors import EvidenceError, RuleError, StatementError
from ledger.keys import VerifyKey
from ledger.statements import (
    Asset,
    Author,
    Epoch,
    Grant,
    Job,
    MeteredReceipt,
    Participant,
    Receipt,
    Release,
    Revocation,
    Rotation,
    Schedule,
    Settlement,
    Shred,
    Statement,
    TaggedAsset,
    UseIndex,
)

S = TypeVar("S", bound=Statement)

# Kinds that are looked up by id alone; most entries are of these.
_PLAIN = frozenset({"asset", "offer", "agreement", "job", "grant"})


@dataclass(frozen=True)
class Logged:
    """A statement with its place in the log; its signatures were verified."""

    index: int
    time: int
    id: str
    statement: Statement

    def read_as(self, kind: type[S]) -> S:
        """Return the statement, which is of this kind.

        Raises:
            StatementError: it is of another.
        """
        if not isinstance(self.statement, kind):
            raise StatementError(f"entry {self.index} is no {kind.kind}")
        return self.statement


class Signer(NamedTuple):
    """A key, and those by whose revocation it ends."""

    key: VerifyKey
    subjects: tuple[str, ...]


class History:
    """Everything read so far. Feed it entries in order; see `ledger.rules.admit`."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.last_leaf = NO_PREDECESSOR
        self.checked: Counter[str] = Counter()
        self.by_id: dict[str, Logged] = {}
        self.by_index: dict[int, Logged] = {}
        self.broken: dict[str, str] = {}
        # Entries that repeat a statement, which stands where it stood first.
        self.repeats: set[int] = set()
        # Statements that nobody signed as they stand, or that point elsewhere than their entries.
        self.refused: dict[str, Logged] = {}
        # Ids of sealed statements, as far as opened ones name them.
        self.named: dict[str, int] = {}
        self.operator: Logged | None = None
        self.keys: dict[bytes, str] = {}
        self.revoked: dict[str, int] = {}
        # Receipts by the job that they end.
        self.completed: dict[str, list[Logged]] = {}
        self.failed: dict[str, list[Logged]] = {}
        self.completed_uses: Counter[str] = Counter()
        # Privacy loss under each budgeted agreement, whatever became of the job.
        self.spent_micro: Counter[str] = Counter()
        self.released: dict[str, Logged] = {}
        self.settled: dict[str, Logged] = {}
        self.schedule: Schedule | None = None
        self.closes: dict[str, list[Logged]] = {}
        self.use_indexes: list[Logged] = []
        self.next_use_index = 0
        self.shredded: dict[int, int] = {}
        # Receipts of each asset by its entry, in log order.
        self.receipts: dict[int, list[Logged]] = {}
        # Of each asset by its entry: indexes of what stayed sealed.
        self.sealed_receipts: dict[int, list[int]] = {}
        self.sealed_jobs: dict[int, list[int]] = {}
        self.sealed_closes: dict[int, list[int]] = {}
        self.sealed_schedule = False
        self.sealed_participant = False
        # Whose signature counts as whose, as far as somebody asked since the last rotation.
        self.signers: dict[Author, Signer] = {}
        self._keys: dict[str, VerifyKey] = {}
        self._recovery_keys: dict[str, VerifyKey] = {}

    @property
    def size(self) -> int:
        """Number of entries read."""
        return len(self.entries)

    def extend(self, entry: Entry, leaf: bytes) -> None:
        """Take the next entry of the sequence; it is counted even when it does not fit.

        Raises:
            RuleError: it is not the next one, does not name its predecessor, or time goes back.
        """
        entries, previous = self.entries, self.last_leaf
        expected, last = len(entries), entries[-1] if entries else entry
        entries.append(entry)
        self.last_leaf = leaf
        if entry.index != expected:
            raise RuleError("chain_broken", f"entry {expected} says that it is entry {entry.index}")
        if entry.previous != previous:
            raise RuleError("chain_broken", f"entry {expected} does not name its predecessor")
        if entry.time < last.time:
            raise RuleError("time_goes_back", f"entry {expected} is older than the one before it")

    def seal(self, entry: Entry) -> None:
        """Take the last entry as one whose statement nobody opened."""
        self.checked["sealed"] += 1
        self.pass_over(entry)

    def pass_over(self, entry: Entry) -> None:
        """Take the last entry as one of which nobody knows what it says, or whether it was said."""
        index, listed = entry.index, entry.references[:1]
        if entry.kind == "job":
            for asset in entry.references:
                if asset is not None and self.entries[asset].kind == "asset":
                    self.sealed_jobs.setdefault(asset, []).append(index)
        elif entry.kind == "receipt" and listed[0] is not None:
            self.sealed_receipts.setdefault(listed[0], []).append(index)
        elif entry.kind == "epoch" and listed[0] is not None:
            self.sealed_closes.setdefault(listed[0], []).append(index)
        elif entry.kind == "use_index":
            self.next_use_index += 1
        elif entry.kind == "schedule":
            self.sealed_schedule = True
        elif entry.kind == "participant":
            self.sealed_participant = True

    def name(self, references: Mapping[str, int | None]) -> None:
        """Learn the ids of sealed statements from one that refers to them."""
        for statement_id, index in references.items():
            if index is not None and index not in self.by_index:
                self.named.setdefault(statement_id, index)

    def place(self, statement_id: str) -> int | None:
        """Return the entry of a statement; of a sealed one where later statements name it."""
        known = self.by_id.get(statement_id)
        return self.named.get(statement_id) if known is None else known.index

    def repeat(self, entry: Entry) -> None:
        """Take the last entry as one that repeats a statement."""
        self.repeats.add(entry.index)

    def refuse(self, logged: Logged, code: str) -> None:
        """Remember a statement that does not count as said, so that nobody looks for it."""
        self.refused.setdefault(logged.id, logged)
        self.broken.setdefault(logged.id, code)

    def record(self, logged: Logged) -> None:
        """Remember a statement whose signatures were verified, allowed or not."""
        self.by_id[logged.id] = logged
        self.by_index[logged.index] = logged
        statement = logged.statement
        if statement.kind in _PLAIN:
            return
        if isinstance(statement, Participant):
            self.keys.setdefault(VerifyKey.from_text(statement.key).public, logged.id)
            if "operator" in statement.roles and self.operator is None:
                self.operator = logged
        elif isinstance(statement, Receipt):
            self._record_receipt(logged, statement)
        elif isinstance(statement, Release):
            self.released.setdefault(statement.job, logged)
        elif isinstance(statement, Settlement):
            self.settled.setdefault(statement.job, logged)
        else:
            self._record_upkeep(logged, statement)

    def _record_upkeep(self, logged: Logged, statement: Statement) -> None:
        """Remember what keeps the log itself in order."""
        if isinstance(statement, Epoch):
            before = self.last_close(statement.asset)
            # One that goes back does not move the chain, or all later ones would seem wrong too.
            if before is None or statement.number > before[1].number:
                self.closes.setdefault(statement.asset, []).append(logged)
        elif isinstance(statement, UseIndex):
            if statement.number >= self.next_use_index:
                self.next_use_index = statement.number + 1
                self.use_indexes.append(logged)
        elif isinstance(statement, Shred):
            # Allowed or not, it was said; and once an agreement is erased, nobody can read in it
            # that it had ended.
            for index in statement.entries:
                self.shredded.setdefault(index, logged.index)

    def _record_receipt(self, logged: Logged, receipt: Receipt) -> None:
        # The asset is there: it names the key of the node whose signature was verified.
        self.receipts.setdefault(self.by_id[receipt.asset].index, []).append(logged)
        # What was said twice was used once.
        twice = self.broken.get(logged.id) == "duplicate_receipt"
        if receipt.state == "completed" and not twice:
            self.completed.setdefault(receipt.job, []).append(logged)
            if receipt.job not in self.revoked:
                self._count_use(receipt, 1)
        elif receipt.state == "failed":
            self.failed.setdefault(receipt.job, []).append(logged)
        if isinstance(receipt, MeteredReceipt):
            self.spent_micro[self.agreement_used(receipt) or ""] += receipt.spent_micro

    def _count_use(self, receipt: Receipt, count: int) -> None:
        agreement = self.agreement_used(receipt)
        if agreement is not None:
            self.completed_uses[agreement] += count

    def _revoke(self, logged: Logged, target: str) -> None:
        """End what was revoked; a job gives back the uses that were made of it."""
        if target not in self.revoked:
            self.revoked[target] = logged.index
            for each in self.completed.get(target, ()):
                self._count_use(each.read_as(Receipt), -1)

    def agreement_used(self, receipt: Receipt) -> str | None:
        """Return the agreement that a use counts under, even where its grant is another job's."""
        found = self.by_id.get(receipt.grant or "")
        grant = found.statement if found is not None else None
        if isinstance(grant, Grant) and (grant.job, grant.asset) == (receipt.job, receipt.asset):
            return grant.agreement
        asked = self.by_id.get(receipt.job)
        job = asked.statement if asked is not None else None
        if not isinstance(job, Job):
            return None
        return dict(zip(job.assets, job.agreements, strict=True)).get(receipt.asset)

    def take_effect(self, logged: Logged) -> None:
        """Count a statement that kept every rule, and let a revocation end its target."""
        statement = logged.statement
        self.checked[statement.kind] += 1
        self.checked["signatures"] += len(statement.authors())
        if statement.kind in _PLAIN:
            return
        if isinstance(statement, Revocation):
            self._revoke(logged, statement.target)
        elif isinstance(statement, Release):
            self.checked["contributions"] += len(statement.contributions)
        elif isinstance(statement, Settlement):
            self.checked["settled_cents"] += statement.total_cents
        elif isinstance(statement, Schedule):
            self.schedule = statement
        elif isinstance(statement, Rotation):
            self._rotate(statement)

    def find(self, statement_id: str, index: int | None, kind: type[S]) -> tuple[Logged, S]:
        """Return an opened statement that an entry refers to.

        Raises:
            EvidenceError: it stands in the log but was not opened.
            RuleError: there is no such statement.
        """
        logged = self.by_id.get(statement_id)
        if logged is None:
            if index is not None:
                raise EvidenceError(f"entry {index} ({kind.kind}) stayed sealed or was refused")
            raise RuleError("unknown_reference", f"{kind.kind} is not in the log")
        if not isinstance(logged.statement, kind):
            raise RuleError("unknown_reference", f"entry {logged.index} is no {kind.kind}")
        return logged, logged.statement

    def get(self, statement_id: str, kind: type[S]) -> S:
        """Return an opened statement by id.

        Raises:
            EvidenceError: it was not opened, or is not in the log.
        """
        logged = self.by_id.get(statement_id)
        if logged is None or not isinstance(logged.statement, kind):
            raise EvidenceError(f"no opened {kind.kind} with this id")
        return logged.statement

    def providers(self, job: Job) -> int:
        """Return how many different providers' assets a job uses.

        Raises:
            EvidenceError: one of its assets was not opened.
        """
        return len({self.get(asset, Asset).provider for asset in job.assets})

    def revoked_before(self, statement_id: str, size: int) -> bool:
        """Whether a revocation of this statement stands among the first `size` entries."""
        index = self.revoked.get(statement_id)
        return index is not None and index < size

    def agreements_under(self, index: int) -> set[int]:
        """Return the entries of all agreements that an entry rests on, by public references."""
        found, waiting, seen = set(), [index], {index}
        while waiting:
            position = waiting.pop()
            entry = self.entries[position]
            if entry.kind == "agreement":
                found.add(position)
            elif entry.kind in ("job", "grant", "receipt", "release", "settlement", "revocation"):
                # One that gives itself a later number can refer to what is not there.
                named = {item for item in entry.references if item is not None and item < position}
                fresh = named - seen
                seen |= fresh
                waiting.extend(fresh)
        return found

    def participant_key(self, participant: str) -> VerifyKey:
        """Return the key that a participant signs with from here on.

        Raises:
            EvidenceError: the participant is not among the opened entries.
        """
        enrolled = self.get(participant, Participant).key
        return self._keys.get(participant) or VerifyKey.from_text(enrolled)

    def recovery_key(self, participant: str) -> VerifyKey:
        """Return the key that may replace a participant's key.

        Raises:
            EvidenceError: the participant is not among the opened entries.
            RuleError: it named none.
        """
        named = self.get(participant, Participant).recovery_key
        if participant in self._recovery_keys:
            return self._recovery_keys[participant]
        if named is None:
            raise RuleError("no_recovery_key", "the participant named no recovery key")
        return VerifyKey.from_text(named)

    def node_key(self, asset: str) -> VerifyKey:
        """Return the key that the node of an asset signs with from here on.

        Raises:
            EvidenceError: the asset is not among the opened entries.
        """
        listed = self.get(asset, Asset).node_key
        return self._keys.get(asset) or VerifyKey.from_text(listed)

    def signer(self, author: Author) -> Signer:
        """Return the key that an author signs with from here on, and remember it.

        Args:
            author: any but those who name their key themselves; an operator must have enrolled.

        Raises:
            EvidenceError: it is not among the opened entries.
            RuleError: its recovery key is asked for, and it named none.
        """
        owner = author.subject
        if author.role == "operator":
            owner = "" if self.operator is None else self.operator.id
        if author.role == "recovery":
            found = Signer(self.recovery_key(owner), (owner,))
        elif author.role == "node":
            provider = self.get(owner, Asset).provider
            found = Signer(self.node_key(owner), (provider, owner))
        else:
            found = Signer(self.participant_key(owner), (owner,))
        self.signers[author] = found
        return found

    def _rotate(self, rotation: Rotation) -> None:
        self.signers.clear()
        key = VerifyKey.from_text(rotation.new_key)
        self._keys[rotation.subject] = key
        self.keys.setdefault(key.public, rotation.issuer)
        if rotation.recovery_key is not None:
            self._recovery_keys[rotation.subject] = VerifyKey.from_text(rotation.recovery_key)

    # What was used when.

    def last_close(self, asset: str) -> tuple[Logged, Epoch] | None:
        """Return the newest close of an asset's node."""
        closes = self.closes.get(asset)
        return (closes[-1], closes[-1].read_as(Epoch)) if closes else None

    def uses(self, asset_index: int, asset: str, start: int, stop: int) -> list[Logged]:
        """Return the receipts of an asset, with contributions, logged in a range of entries.

        Raises:
            EvidenceError: one of its receipts there stayed sealed.
        """
        if _between(self.sealed_receipts.get(asset_index, []), start, stop):
            raise EvidenceError(f"receipts of {asset} stayed sealed")
        found = self.receipts.get(asset_index, [])
        low = bisect_left(found, start, key=_index)
        high = bisect_left(found, stop, key=_index)
        return [logged for logged in found[low:high] if logged.read_as(Receipt).contributions]

    def used_assets(self, start: int, stop: int) -> set[str]:
        """Return the assets with a tag key that have a receipt with contributions in a range.

        Raises:
            EvidenceError: a receipt there stayed sealed.
        """
        if any(_between(sealed, start, stop) for sealed in self.sealed_receipts.values()):
            raise EvidenceError("receipts of this epoch stayed sealed")
        found = set()
        for logged in self._opened(start, stop):
            receipt = logged.statement
            if isinstance(receipt, Receipt) and receipt.contributions:
                listed = self.by_id.get(receipt.asset)
                if listed is not None and isinstance(listed.statement, TaggedAsset):
                    found.add(receipt.asset)
        return found

    def _opened(self, start: int, stop: int) -> Iterable[Logged]:
        known = (self.by_index.get(index) for index in range(start, min(stop, self.size)))
        return (logged for logged in known if logged is not None)


def _index(logged: Logged) -> int:
    return logged.index


def _between(indexes: list[int], start: int, stop: int) -> bool:
    position = bisect_left(indexes, start)
    return position < len(indexes) and indexes[position] < stop
