"""What the log holds in memory, and how statements become its next entries. No input or output.

    state = State()
    row = state.enter(opened, salt=salt, now=now)     # made, if it keeps every rule at its place
    row = state.append(opened, salt=salt, now=now)    # made, whatever it breaks
    state.replay(row)                                 # recovery: the same entry from its row

Decides index, predecessor, time, references and commitment of an entry, and whether a statement
may have its place. Storing, signing and showing are the business of `ledger.log`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ledger import rules
from ledger.entry import Entry, Opening, commitment
from ledger.errors import LedgerError, LogError, SealedGroundsError
from ledger.history import History
from ledger.ids import statement_id
from ledger.keys import VerifyKey
from ledger.merkle import Tree, leaf_hash
from ledger.statements import Statement, Unverified, read


class Checked(Unverified):
    """A statement that remembers under which keys its signatures were verified.

    Only the very same keys are believed again: after a rotation the signatures are looked at anew,
    and a revocation is found by the rules, which look for it before they ask for signatures.
    """

    @cached_property
    def id(self) -> str:  # found once: it is asked for at each step
        """The content id; see `Unverified.id`."""
        return statement_id(self.statement.kind, self.envelope)

    def verify(self, *keys: VerifyKey) -> Statement:
        """Return the statement if exactly these keys signed it; see `Unverified.verify`."""
        if self.__dict__.get("_verified") != keys:
            super().verify(*keys)
            # Set past the frozen dataclass: what is remembered changes no answer.
            self.__dict__["_verified"] = keys
        return self.statement


class Vouched(Unverified):
    """A statement whose signatures this log verified when it logged it, and found right."""

    def verify(self, *_keys: VerifyKey) -> Statement:
        """Return the statement: its commitment stands under a root that the log signed since."""
        return self.statement


@dataclass(frozen=True)
class Row:
    """One entry as the database stores it; `envelope` and `salt` are None once shredded."""

    index: int
    statement_id: str
    data: bytes
    envelope: bytes | None
    salt: bytes | None

    def values(self) -> tuple[int, str, bytes, bytes | None, bytes | None]:
        """Return the columns in the order of the table."""
        return self.index, self.statement_id, self.data, self.envelope, self.salt


class Ticket:
    """What a producer holds while its statement is on its way into the log."""

    __slots__ = ("_answer", "_latch")

    def __init__(self) -> None:
        self._answer: int | BaseException | None = None
        # A bare lock: waking 64 conditions for every batch costs more than the batch.
        self._latch = threading.Lock()
        self._latch.acquire()

    def settle(self, answer: int | BaseException) -> None:
        """Tell the producer its index, or why there is none; only the first answer counts."""
        if self._answer is None:
            self._answer = answer
            self._latch.release()

    def wait(self, timeout: float) -> int:
        """Wait for the index: from then on a shown checkpoint covers the entry.

        Raises:
            LogError: not within `timeout` seconds, or the log has stopped.
            RuleError, EvidenceError, SignatureError: at its place the statement breaks a rule.
        """
        if not self._latch.acquire(timeout=timeout):
            raise LogError(
                f"not in the log after {timeout:g} s; it may still come: the same statement can "
                "be sent again"
            )
        self._latch.release()
        if isinstance(self._answer, int):
            return self._answer
        raise self._answer or LogError("the log gave no answer")


class Waiters:
    """Everybody who waits for an entry: by the place that it has, or by the name alone."""

    def __init__(self) -> None:
        self._placed: deque[tuple[int, Ticket]] = deque()
        self._named: dict[str, list[Ticket]] = {}
        self._lock = threading.Lock()

    @property
    def has_named(self) -> bool:
        """Whether somebody waits for a statement that may not have its place yet."""
        return bool(self._named)

    def place(self, index: int, ticket: Ticket) -> None:
        """Remember who waits for an entry that was made."""
        self._placed.append((index, ticket))

    def name(self, statement_id: str) -> Ticket:
        """Wait for a statement; `forget` it in the end."""
        ticket = Ticket()
        with self._lock:
            self._named.setdefault(statement_id, []).append(ticket)
        return ticket

    def forget(self, statement_id: str, ticket: Ticket) -> None:
        """End what `name` began."""
        with self._lock:
            left = [each for each in self._named.pop(statement_id, ()) if each is not ticket]
            if left:
                self._named[statement_id] = left

    def tell(self, size: int, indexes: Mapping[str, int]) -> int:
        """Tell whoever waits for one of the first `size` entries; return how many had places."""
        told = 0
        while self._placed and self._placed[0][0] < size:
            index, ticket = self._placed.popleft()
            ticket.settle(index)
            told += 1
        if self._named:
            with self._lock:
                found = [(name, list(tickets)) for name, tickets in self._named.items()]
            for name, tickets in found:
                place = indexes.get(name)
                for ticket in tickets if place is not None and place < size else ():
                    ticket.settle(indexes[name])
        return told

    def fail(self, error: BaseException) -> None:
        """Tell everybody that nothing more will come."""
        while self._placed:
            self._placed.popleft()[1].settle(error)
        with self._lock:
            tickets = [ticket for found in self._named.values() for ticket in found]
        for ticket in tickets:
            ticket.settle(error)


@dataclass
class Batch:
    """Entries that were made and admitted, until the database has them.

    Attributes:
        rows: in log order.
        pending: sequence numbers of the pending rows that became entries.
        tried: whether storing them was tried before, so that they may be stored already.
    """

    rows: list[Row] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    tried: bool = False


class State:
    """The log in memory: its tree, its history and where each statement stands.

    Attributes:
        findings: what entries of this log break, in words; every auditor sees the same.
        broken: the indexes of those entries.
    """

    def __init__(self) -> None:
        self.tree = Tree()
        self.history = History()
        self.indexes: dict[str, int] = {}
        self.findings: list[str] = []
        self.broken: list[int] = []
        self.last_time = 0

    def refuse(self, checked: Checked, now: int) -> None:
        """Return only if the statement may be the next entry.

        Raises:
            RuleError, EvidenceError, SignatureError: it may not.
        """
        rules.check(self.history, checked, max(now, self.last_time))

    def enter(self, opened: Checked, *, salt: bytes, now: int) -> Row:
        """Make the next entry if the statement keeps every rule.

        Raises:
            RuleError, EvidenceError, SignatureError: it may not be the next; nothing was changed.
            EntryError: no entry can hold it; nothing was changed.
        """
        entry, data = self._make(opened, salt, now)
        leaf = leaf_hash(data)
        rules.enter(self.history, entry, leaf, opened)
        self._add(entry, leaf, opened.id)
        return Row(entry.index, opened.id, data, opened.envelope, salt)

    def append(self, opened: Checked, *, salt: bytes, now: int) -> Row:
        """Make the next entry; what it breaks becomes a finding.

        Raises:
            EntryError: no entry can hold it; nothing was changed.
        """
        entry, data = self._make(opened, salt, now)
        self._admit(entry, leaf_hash(data), opened.id, opened)
        return Row(entry.index, opened.id, data, opened.envelope, salt)

    def replay(self, row: Row, *, vouched: bool = False) -> None:
        """Take an entry that the database has.

        Args:
            row: the entry.
            vouched: whether its signatures were verified before and found right.

        Raises:
            LedgerError: the row is damaged.
        """
        entry, opened = Entry.from_bytes(row.data), None
        name = row.statement_id
        # A shredded statement left its entry: the commitment, without salt and text.
        if row.envelope is not None and row.salt is not None:
            opened = Opening(entry.index, row.salt, row.envelope).reveal(entry)
            name = opened.id
            if vouched:
                opened = Vouched(opened.statement, opened.envelope)
        self._admit(entry, leaf_hash(row.data), name, opened)

    def _make(self, opened: Checked, salt: bytes, now: int) -> tuple[Entry, bytes]:
        statement, indexes = opened.statement, self.indexes
        entry = Entry(
            index=self.tree.size,
            previous=self.history.last_leaf,
            time=max(now, self.last_time),
            kind=statement.kind,
            references=tuple(
                [None if name is None else indexes.get(name) for name in statement.references()]
            ),
            commitment=commitment(salt, opened.envelope),
        )
        return entry, entry.to_bytes()

    def _admit(self, entry: Entry, leaf: bytes, name: str, opened: Unverified | None) -> None:
        self._add(entry, leaf, name)
        try:
            rules.admit(self.history, entry, leaf, opened)
        except SealedGroundsError:
            # Rests on what was erased since; it kept every rule when it was logged.
            pass
        except LedgerError as error:
            # It is in the log for good; every auditor will see the same finding.
            self.findings.append(str(error))
            self.broken.append(entry.index)

    def _add(self, entry: Entry, leaf: bytes, name: str) -> None:
        self.tree.append(leaf)
        self.indexes[name] = entry.index
        self.last_time = entry.time


def checked(envelope: bytes) -> Checked:
    """Read a statement so that its signatures are verified once.

    Raises:
        StatementError: malformed, or of an unknown kind.
    """
    return Checked(read(envelope).statement, envelope)
