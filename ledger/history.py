"""What the log has said so far, in log order.

Holds statements by id and by index, keys, revocations and the uses made of agreements, so that the
rules can ask. Decides only what belongs to the sequence itself: entries without a gap, each naming
the one before it, times that never go back. What a statement may say is decided in `ledger.rules`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TypeVar

from ledger.entry import NO_PREDECESSOR, Entry
from ledger.errors import EvidenceError, RuleError
from ledger.keys import VerifyKey
from ledger.statements import (
    Asset,
    Grant,
    Job,
    Participant,
    Receipt,
    Release,
    Revocation,
    Settlement,
    Statement,
)

S = TypeVar("S", bound=Statement)


@dataclass(frozen=True)
class Logged:
    """A statement with its place in the log; its signatures were verified."""

    index: int
    time: int
    id: str
    statement: Statement


class History:
    """Everything read so far. Feed it entries in order; see `ledger.rules.admit`."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.last_leaf = NO_PREDECESSOR
        self.checked: Counter[str] = Counter()
        self.by_id: dict[str, Logged] = {}
        self.by_index: dict[int, Logged] = {}
        self.broken: dict[str, str] = {}
        self.operator: Logged | None = None
        self.keys: dict[bytes, str] = {}
        self.revoked: dict[str, int] = {}
        self.completed: dict[str, list[Logged]] = {}
        self.completed_uses: Counter[str] = Counter()
        self.released: dict[str, Logged] = {}
        self.settled: dict[str, Logged] = {}

    @property
    def size(self) -> int:
        """Number of entries read."""
        return len(self.entries)

    def extend(self, entry: Entry, leaf: bytes) -> None:
        """Take the next entry of the sequence; it is counted even when it does not fit.

        Raises:
            RuleError: it is not the next one, does not name its predecessor, or time goes back.
        """
        expected, previous, last = self.size, self.last_leaf, self.entries[-1:]
        self.entries.append(entry)
        self.last_leaf = leaf
        if entry.index != expected:
            raise RuleError("chain_broken", f"entry {expected} says that it is entry {entry.index}")
        if entry.previous != previous:
            raise RuleError("chain_broken", f"entry {expected} does not name its predecessor")
        if last and entry.time < last[0].time:
            raise RuleError("time_goes_back", f"entry {expected} is older than the one before it")

    def record(self, logged: Logged) -> None:
        """Remember a statement whose signatures were verified, allowed or not."""
        self.by_id[logged.id] = logged
        self.by_index[logged.index] = logged
        statement = logged.statement
        if isinstance(statement, Participant):
            self.keys.setdefault(VerifyKey.from_text(statement.key).public, logged.id)
            if "operator" in statement.roles and self.operator is None:
                self.operator = logged
        elif isinstance(statement, Receipt) and statement.state == "completed":
            self.completed.setdefault(statement.job, []).append(logged)
            grant = self.by_id.get(statement.grant or "")
            if grant is not None and isinstance(grant.statement, Grant):
                self.completed_uses[grant.statement.agreement] += 1
        elif isinstance(statement, Release):
            self.released.setdefault(statement.job, logged)
        elif isinstance(statement, Settlement):
            self.settled.setdefault(statement.job, logged)

    def take_effect(self, logged: Logged) -> None:
        """Count a statement that kept every rule, and let a revocation end its target."""
        statement = logged.statement
        self.checked[statement.kind] += 1
        self.checked["signatures"] += len(statement.authors())
        if isinstance(statement, Revocation):
            self.revoked.setdefault(statement.target, logged.index)
        elif isinstance(statement, Release):
            self.checked["contributions"] += len(statement.contributions)
        elif isinstance(statement, Settlement):
            self.checked["settled_cents"] += statement.total_cents

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

    def participant_key(self, participant: str) -> VerifyKey:
        """Return the key that a participant signs with.

        Raises:
            EvidenceError: the participant is not among the opened entries.
        """
        return VerifyKey.from_text(self.get(participant, Participant).key)

    def node_key(self, asset: str) -> VerifyKey:
        """Return the key of the node that guards an asset.

        Raises:
            EvidenceError: the asset is not among the opened entries.
        """
        return VerifyKey.from_text(self.get(asset, Asset).node_key)
