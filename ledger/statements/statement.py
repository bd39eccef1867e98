"""What every kind of statement has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

from ledger.errors import StatementError
from ledger.keys import SigningKey
from ledger.record import Record
from ledger.statements import envelope


class Author(NamedTuple):
    """Whose signature a statement needs.

    `role` is `participant` (the key of the participant statement `subject`), `node` (the node key
    of the asset statement `subject`), `recovery` (the recovery key of the participant statement
    `subject`), `operator` (the log's operator; no subject) or `key` (the key written in `subject`
    itself).
    """

    role: str
    subject: str = ""


def check_span(start: int, stop: int, where: str) -> None:
    """Return only if there are log entries from `start` to `stop`, exclusive.

    Raises:
        StatementError: otherwise; `where` is the path of the statement, as in `Record.check`.
    """
    if stop <= start:
        raise StatementError(f"{where}.stop: not after start")


class Statement(Record, ABC):
    """A fact that its authors sign and the log records."""

    kind: ClassVar[str]
    version: ClassVar[int] = 1

    @abstractmethod
    def references(self) -> tuple[str | None, ...]:
        """Return the ids of the statements this one rests on, in the order of its log entry."""

    @abstractmethod
    def authors(self) -> tuple[Author, ...]:
        """Return whose signatures it must carry, all of them and no others."""

    @abstractmethod
    def parties(self) -> tuple[str, ...]:
        """Return the participants and assets whose owners may read it; `*` is every participant."""

    @classmethod
    def media_type(cls) -> str:
        """Return the payload type that its signatures cover."""
        return envelope.payload_type(cls.kind, cls.version)

    def sign(self, *keys: SigningKey) -> bytes:
        """Return the statement in an envelope signed by each key.

        Raises:
            StatementError: the statement contradicts itself.
        """
        payload: dict[str, Any] = self.payload()
        type(self).from_payload(payload)
        return envelope.sign(self.media_type(), payload, *keys)
