"""`schedule`: how long an epoch of this log is, and when its closes are due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ledger.record import not_negative, positive
from ledger.statements.statement import Author, Statement


@dataclass(frozen=True)
class Schedule(Statement):
    """Epochs are ranges of log index: epoch k holds entries k·n to (k+1)·n, exclusive.

    Attributes:
        epoch_entries: n, the length of an epoch in entries.
        grace_entries: how many entries later the closes of an epoch are missing.
    """

    kind: ClassVar[str] = "schedule"

    epoch_entries: Annotated[int, positive]
    grace_entries: Annotated[int, positive]
    issued: Annotated[int, not_negative]

    def epoch_of(self, index: int) -> int:
        """Return the number of the epoch that an entry belongs to."""
        return index // self.epoch_entries

    def start(self, number: int) -> int:
        """Return the index of an epoch's first entry; that of the next epoch is its end."""
        return number * self.epoch_entries

    def ended(self, size: int) -> int:
        """Return how many epochs a log of this size has behind it, closes due or not."""
        return size // self.epoch_entries

    def overdue(self, size: int) -> int:
        """Return how many epochs must be closed in a log of this size."""
        return max(0, (size - self.grace_entries) // self.epoch_entries)

    def references(self) -> tuple[str | None, ...]:  # noqa: D102
        return ()

    def authors(self) -> tuple[Author, ...]:  # noqa: D102
        return (Author("operator"),)

    def parties(self) -> tuple[str, ...]:  # noqa: D102
        return ("*",)
