"""`use_index`: the operator commits to which assets were used in an epoch, by tag."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ledger.record import hex_digest, not_negative, positive
from ledger.statements.statement import Author, Statement, check_span


@dataclass(frozen=True)
class UseIndex(Statement):
    """Root of the tree over the sorted tags of all assets used in an epoch; see `ledger.use_index`.

    Attributes:
        number: which epoch; it covers the log's entries `start` to `stop`, exclusive.
        tags: how many assets were used.
        root: `sha256:` and the root in hex (RFC 6962, section 2.1).
    """

    kind: ClassVar[str] = "use_index"

    number: Annotated[int, not_negative]
    start: Annotated[int, not_negative]
    stop: Annotated[int, positive]
    tags: Annotated[int, not_negative]
    root: Annotated[str, hex_digest]
    issued: Annotated[int, not_negative]

    def references(self) -> tuple[str | None, ...]:  # noqa: D102
        return ()

    def authors(self) -> tuple[Author, ...]:  # noqa: D102
        return (Author("operator"),)

    def parties(self) -> tuple[str, ...]:  # noqa: D102
        return ("*",)

    def check(self, where: str) -> None:  # noqa: D102
        check_span(self.start, self.stop, where)
