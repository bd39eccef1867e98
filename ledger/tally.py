"""What reconciling has taken from the entries so far, so that it need not read them again.

    tally = Tally(history)
    tally.go_on()                              # take what the history has grown by
    reconcile(history, evidence, tally)
    facts = tally.facts()                      # JSON values
    Tally.recall(history, facts)               # in another process

Decides which numbers are kept of statements that were read once, and how they are written down and
read back. What they mean is decided in `ledger.accounts` and `ledger.receipt_lines`, which count,
and in `ledger.completeness` and `ledger.reconcile`, which compare.

A tally says nothing that reading the entries anew would not say: whoever has none, or one that was
written by another version, begins a new one. Format: FORMATS.md, section "Monitor state".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from ledger.accounts import Accounts
from ledger.history import History, Logged
from ledger.journal_mark import Mark
from ledger.receipt_lines import Closes, ReceiptLines

VERSION = 2


@dataclass
class Tags:
    """Which use indexes were recomputed, under which tag keys.

    Attributes:
        keys: digest of the right tag key of each asset, by the asset's id.
        indexes: entries of use indexes that are those of these keys.
    """

    keys: dict[str, str] = field(default_factory=dict)
    indexes: set[int] = field(default_factory=set)

    def hold_against(self, digests: Mapping[str, str]) -> None:
        """Forget everything unless these keys are the same, and perhaps some more."""
        if any(digests.get(asset) != digest for asset, digest in self.keys.items()):
            self.keys.clear()
            self.indexes.clear()


class Tally:
    """What was counted of one history.

    Attributes:
        accounts: agreements, jobs and money.
        lines: of each asset by its entry: the journal lines that its receipts name.
        closes: of each asset by its id: the closes of its node.
        tags: what tag keys have shown to be right.
        marks: of each asset by its id: how far its journal is the log's.

    Args:
        history: the log; `go_on` takes what it has grown by.
    """

    def __init__(self, history: History) -> None:
        self.accounts = Accounts(history)
        self.lines: dict[int, ReceiptLines] = {}
        self.closes: dict[str, Closes] = {}
        self.tags = Tags()
        self.marks: dict[str, Mark] = {}
        self._history = history
        self._assets: list[int] = []
        self._participants: list[int] = []

    @classmethod
    def of(cls, history: History) -> Tally:
        """Return the tally of all entries read so far."""
        tally = cls(history)
        tally.go_on()
        return tally

    @property
    def size(self) -> int:
        """Entries that were taken."""
        return self.accounts.size

    def go_on(self) -> None:
        """Take what the history has grown by."""
        history = self._history
        for index in range(self.size, history.size):
            logged = history.by_index.get(index)
            kind = "" if logged is None else logged.id.partition(":")[0]
            if kind == "asset":
                self._assets.append(index)
            elif kind == "participant":
                self._participants.append(index)
        self.accounts.go_on()
        for asset, receipts in history.receipts.items():
            self.lines.setdefault(asset, ReceiptLines()).take(receipts)
        for name in history.closes:
            self.closes.setdefault(name, Closes()).take(history, name, self.lines_of(name))

    def lines_of(self, asset: str) -> ReceiptLines:
        """Return the lines that an asset's receipts name."""
        listed = self._history.by_id.get(asset)
        found = None if listed is None else self.lines.get(listed.index)
        return found or ReceiptLines()

    def assets(self) -> Iterator[Logged]:
        """Yield every asset that was listed, in the order of the log."""
        return (self._history.by_index[index] for index in self._assets)

    def participants(self) -> Iterator[Logged]:
        """Yield everybody who enrolled, in the order of the log."""
        return (self._history.by_index[index] for index in self._participants)

    def facts(self) -> dict[str, Any]:
        """Return everything as JSON values, which stay as they are when the tally goes on."""
        return {
            "accounts": self.accounts.facts(),
            "assets": [*self._assets],
            "closes": {name: item.facts() for name, item in self.closes.items()},
            "lines": [[asset, item.facts()] for asset, item in self.lines.items()],
            "marks": {name: item.facts(self._reference) for name, item in self.marks.items()},
            "participants": [*self._participants],
            "tags": [dict(self.tags.keys), sorted(self.tags.indexes)],
            "version": VERSION,
        }

    @classmethod
    def recall(cls, history: History, facts: Mapping[str, Any]) -> Self:
        """Return what `facts` wrote down of exactly these entries.

        Raises:
            LookupError, TypeError, ValueError: these are no such facts.
        """
        tally = cls(history)
        if facts["version"] != VERSION or facts["accounts"]["size"] != history.size:
            raise ValueError("another version, or of other entries")
        tally.accounts = Accounts.recall(history, facts["accounts"])
        tally._assets, tally._participants = list(facts["assets"]), list(facts["participants"])
        tally.lines = {asset: ReceiptLines.recall(item) for asset, item in facts["lines"]}
        tally.closes = {name: Closes.recall(item) for name, item in facts["closes"].items()}
        keys, indexes = facts["tags"]
        tally.tags = Tags(dict(keys), set(indexes))
        tally.marks = {
            name: Mark.recall(item, tally._name) for name, item in facts["marks"].items()
        }
        return tally

    def _reference(self, name: str) -> int | str:
        """Return the entry of an id; the id itself where it has none."""
        logged = self._history.by_id.get(name)
        return name if logged is None else logged.index

    def _name(self, reference: int | str) -> str:
        known = self._history.by_index
        return reference if isinstance(reference, str) else known[reference].id
