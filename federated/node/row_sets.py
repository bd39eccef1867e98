"""Which rows a job's answers cover, and whether those come too close to others answered before.

Decides on bitmaps alone; whether the job is permitted is the guard's business.
"""

from __future__ import annotations

from federated.errors import RefusedError
from federated.node.journal import Journal
from federated.node.rows import Rows, prepare, row_set_distance
from federated.node.table import Table
from federated.node.talk import Talk
from federated.node.work import Work
from federated.plan import Plan
from federated.tasks import AnyTask, JointTask


def row_sets(task: AnyTask, plan: Plan, rows: Rows) -> list[bytes]:
    """Return the bitmaps of all row sets that a plan's answers cover, empty ones left out."""
    bitmaps = [rows.row_set(which) for which in task.row_choices(plan)]
    return [bitmap for bitmap in bitmaps if any(bitmap)]


def rows_in(bitmaps: list[bytes]) -> int:
    """Return how many rows are in at least one of the bitmaps."""
    union = 0
    for bitmap in bitmaps:
        union |= int.from_bytes(bitmap, "big")
    return union.bit_count()


def refuse_close_rows(wanted: list[bytes], answered: list[bytes], minimum_rows: int) -> None:
    """Refuse a row set that is almost an answered one: the difference would be those few rows.

    Args:
        wanted: bitmaps about to be answered.
        answered: bitmaps answered before.
        minimum_rows: fewest rows in which two answered sets may differ, unless they are equal.

    Raises:
        RefusedError: `row_selection_not_allowed`.
    """
    for bitmap in wanted:
        for other in answered:
            if 0 < row_set_distance(bitmap, other) < minimum_rows:
                raise RefusedError(
                    "row_selection_not_allowed",
                    f"fewer than {minimum_rows} rows away from a row set answered before",
                )


def open_rows(table: Table, work: Work | Talk, journal: Journal, minimum_rows: int) -> Rows:
    """Prepare the rows of a job, and write down that its answers cover them, before any is given.

    Args:
        table: the asset.
        work: the attempt.
        journal: the node's own.
        minimum_rows: see `refuse_close_rows`.

    Raises:
        RowsError: the preparation does not fit the table.
        RefusedError: `row_selection_not_allowed`.
    """
    rows = prepare(table, work.permit.preparation)
    only_computes = isinstance(work.task, JointTask) and not work.task.has_rows(
        work.plan, work.asset
    )
    wanted = [] if only_computes else row_sets(work.task, work.plan, rows)
    with journal.write() as book:
        refuse_close_rows(wanted, book.row_sets(work.asset), minimum_rows)
        counted = _billed(work.task, work.plan)
        counted = rows_in(wanted) if counted is None else counted
        book.answer_rows(work.permit.job_id, work.asset, wanted, counted)
    return rows


def _billed(task: AnyTask, plan: Plan) -> int | None:
    return task.billed_rows(plan) if isinstance(task, JointTask) else None
