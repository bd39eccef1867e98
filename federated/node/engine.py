"""Computes one node's contribution to one round: rows in, masked or encrypted words out.

Decides nothing about whether it may: the guard did. Everything here is arithmetic on values that
the runner hands in; what comes out hides them (see `privacy/CLAIMS.md`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from federated.errors import RefusedError
from federated.node.rows import Rows, row_set_distance
from federated.plan import Plan, Question, Words
from federated.tasks import Task, encode_answer
from privacy.masking import MaskKey, mask, mask_context


@dataclass(frozen=True)
class Round:
    """What binds one round's masks: which job, which try, which round, whose contributions."""

    job: str
    attempt: int
    number: int
    cohort: tuple[str, ...]

    @property
    def context(self) -> bytes:
        """The digest that mask derivation is bound to."""
        return mask_context(self.job, self.attempt, self.number, self.cohort)


def masked_answer(
    task: Task,
    plan: Plan,
    question: Question,
    rows: Rows,
    *,
    asset: str,
    key: MaskKey,
    peers: Mapping[str, bytes],
    bound_to: Round,
) -> Words:
    """Return this node's answer, encoded and masked.

    Args:
        task: the plan's task.
        plan: as this node derived it.
        question: checked against the plan by the task.
        rows: the prepared rows.
        asset: this node's asset id, its name among the masks.
        key: this round's own mask key.
        peers: the other cohort members' public mask keys for this round, verified.
        bound_to: the round.

    Returns:
        uint64[question.words]; alone it is uniformly random to whoever lacks the mask keys.

    Raises:
        TaskError: what the task refuses.
        MaskError: a peer's key that must not be used.
    """
    words = encode_answer(question.layout, task.answer(plan, question, rows))
    return mask(words, own_id=asset, own=key, peers=peers, context=bound_to.context)


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
