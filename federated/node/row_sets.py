"""Which rows a job's answers cover, and whether those come too close to others answered before.

Decides on bitmaps alone; whether the job is permitted is the guard's business.
"""

from __future__ import annotations

from federated.errors import RefusedError
from federated.node.rows import Rows, row_set_distance
from federated.plan import Plan
from federated.tasks import Task


def row_sets(task: Task, plan: Plan, rows: Rows) -> list[bytes]:
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
