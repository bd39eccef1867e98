"""What tests of a node's journal do to it again and again."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from federated.node.journal import Journal
from federated.preparation import Preparation
from tests.drafts import Clock

ROWS = Preparation.parse({"complete_rows": True})
ASSET = "asset:one"


def jobs(journal: Journal, job: str = "job:next") -> set[str]:
    with journal.write() as book:
        return set(book.spent(ASSET, job).jobs("agreement:a"))


def use(journal: Journal, job: str, state: str | None = None, *, answered: bool = False) -> None:
    with journal.write() as book:
        book.reserve(job, ASSET, "agreement:a", ROWS)
        if answered:
            book.answer_rows(job, ASSET, [b"\xf0"], 4)
            book.record_reply(job, ASSET, 1, "1", "sha256:asked", b"masked " + job.encode())
        if state is not None:
            book.finish(job, ASSET, state, b"receipt of " + job.encode())


def filled(path: Path) -> None:
    journal = Journal(path, Clock())
    use(journal, "job:one", "completed", answered=True)
    use(journal, "job:two", "failed", answered=True)
    with journal.write() as book:
        book.launch("job:four", ASSET, 1, "grant:one")
        book.fail("job:four", ASSET, "internal")
        book.finish("job:three", ASSET, "refused", b"receipt of job:three")
        book.decide("job:three", ASSET, "revoked", b"receipt of job:three")
        book.close(ASSET, 0, b"close of epoch 0")
    journal.verify()
    journal.close()


class FullDisk:
    """A connection on which one statement fails as on a full disk."""

    def __init__(self, inner: sqlite3.Connection, fails: str) -> None:
        self._inner, self.fails = inner, fails

    def execute(self, statement: str, *rest: object) -> object:
        if self.fails and statement.startswith(self.fails):
            raise sqlite3.OperationalError("database or disk is full")
        return self._inner.execute(statement, *rest)

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)
