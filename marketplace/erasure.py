"""Erases what the service's own tables hold of statements that a `shred` entry names.

The log's rows are emptied by `ledger.sealing`. Beside them the service keeps words and numbers of
the same statements, to list and to search them; these go in the same transaction:

- an agreement's terms, row selection, signed proposal and the reason of a refusal; the price and
  who agreed stay;
- a job's name, task, purpose, progress and error, and what nodes were asked and sent; who asked,
  when, and its state stay;
- why a node refused, of a receipt; the state of the party stays;
- the released document, of a release;
- nothing of a settlement: its total and postings are the accounts.

Ids stay everywhere. They are hashes of signed statements: whoever holds a whole statement knows its
id again, and nobody else learns anything from it.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlmodel import SQLModel

from ledger.log import Log
from ledger.sealing import CHUNK, Erased, finish_erasure
from marketplace.agreements.tables import Negotiation
from marketplace.jobs.tables import Job, JobContribution, JobParty, Result
from marketplace.settings import Settings

ERASED = "(erased)"
MARKER = "erasing"


def finish(settings: Settings, engine: sa.Engine, log: Log) -> int:
    """Destroy what the log says was erased and is still there; return how many statements.

    Nobody else may use the database meanwhile.

    Raises:
        LogError: somebody does.
    """
    return finish_erasure(log, engine, settings.log_folder / MARKER, erase_copies)


def erase_copies(connection: sa.Connection, erased: Sequence[Erased]) -> None:
    """Erase what the features' tables hold of these statements; see the module."""
    ids: dict[str, list[str]] = {}
    for item in erased:
        ids.setdefault(item.kind, []).append(item.statement_id)
    blank: dict[str, object] = {"name": ERASED, "task": ERASED, "purpose": ERASED}
    blank |= {"progress": "{}", "error_message": None}
    _update(connection, Job, "id", ids.get("job", ()), blank)
    _delete(connection, JobContribution, ids.get("job", ()))
    _delete(connection, Result, _jobs_of(connection, ids.get("release", ())))
    _update(connection, JobParty, "receipt_id", ids.get("receipt", ()), {"reason": None})
    terms: dict[str, object] = {"terms": "{}", "preparation": "{}"}
    terms |= {"proposal": None, "reason": None}
    _update(connection, Negotiation, "agreement_id", ids.get("agreement", ()), terms)


def _table(model: type[SQLModel]) -> sa.Table:
    return SQLModel.metadata.tables[str(model.__tablename__)]


def _update(
    connection: sa.Connection,
    model: type[SQLModel],
    column: str,
    ids: Sequence[str],
    values: dict[str, object],
) -> None:
    table = _table(model)
    for some in _chunks(ids):
        connection.execute(table.update().where(table.c[column].in_(some)).values(**values))


def _delete(connection: sa.Connection, model: type[SQLModel], jobs: Sequence[str]) -> None:
    table = _table(model)
    for some in _chunks(jobs):
        connection.execute(table.delete().where(table.c.job_id.in_(some)))


def _jobs_of(connection: sa.Connection, releases: Sequence[str]) -> list[str]:
    table, found = _table(Job), []
    for some in _chunks(releases):
        query = sa.select(table.c.id).where(table.c.release_id.in_(some))
        found += list(connection.execute(query).scalars())
    return found


def _chunks(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
