"""Runs jobs over a Flower Grid: the service's side of `federated.coordinator`.

Where the Grid comes from is the composition root's business: nodes in this process, or a SuperLink.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from federated import coordinator
from federated.coordinator import Grid
from federated.plan import Plan
from ledger.keys import VerifyKey
from ledger.statements import read
from marketplace.jobs.engine import (
    Completed,
    Contribution,
    Failed,
    JobRequest,
    Opening,
    Outcome,
    Progress,
    Refused,
)

NOT_ENROLLED = "not_enrolled"

OpenGrid = Callable[[tuple[str, ...]], AbstractContextManager[tuple[Grid, Mapping[str, int]]]]
"""Given asset ids, a context with a Grid that reaches their nodes, and Flower's number for each."""


class GridEngine:
    """A `JobEngine` over whatever Grid it is given.

    Args:
        open_grid: see `OpenGrid`.
        timeout: seconds that one exchange with the nodes may take.
    """

    def __init__(self, open_grid: OpenGrid, timeout: float = 300.0) -> None:
        self._open_grid = open_grid
        self._timeout = timeout

    def run(self, request: JobRequest, progress: Callable[[Progress], None]) -> Outcome:
        """Run a job to its end; see `JobEngine.run`."""
        assets = tuple(member.asset for member in request.cohort)
        with self._open_grid(assets) as (grid, node_ids):
            absent = [asset for asset in assets if asset not in node_ids]
            if absent:
                return Failed(
                    dict.fromkeys(absent, NOT_ENROLLED),
                    "",
                    "a node has not enrolled; its provider runs `rongshu node enrol`",
                )
            assignment = coordinator.Assignment(
                job=request.id,
                attempt=request.attempt,
                plan=Plan.from_json(request.plan),
                seats={
                    member.asset: coordinator.Seat(
                        node_ids[member.asset],
                        VerifyKey.from_text(member.node_key),
                        member.grant,
                    )
                    for member in request.cohort
                },
                encryption_key=request.statement.encryption_key,
                timeout=self._timeout,
                minimum=request.minimum_parties,
            )
            outcome = coordinator.run(grid, assignment, _Counter(len(assets), progress))
        return _translated(outcome)


class _Counter:
    """Turns one call for each node into how many of all have answered the present step."""

    def __init__(self, parties: int, progress: Callable[[Progress], None]) -> None:
        self._parties = parties
        self._progress = progress
        self._step = (-1, "")
        self._done = 0

    def __call__(self, seen: coordinator.Progress) -> None:
        if (seen.round, seen.step) != self._step:
            self._step, self._done = (seen.round, seen.step), 0
        self._done += 1
        self._progress(Progress(seen.round, self._done, self._parties, seen.step))


def _translated(outcome: coordinator.Outcome) -> Outcome:
    if isinstance(outcome, coordinator.Completed):
        return Completed(
            coordinator.document(outcome),
            tuple(
                Contribution(asset, record.number, record.request, reply)
                for record in outcome.rounds
                for asset, reply in record.contributions.items()
            ),
            tuple(read(receipt).id for receipt in outcome.receipts.values()),
            tuple(Opening(record.number, record.opened.to_json()) for record in outcome.rounds),
            outcome.dropped,
        )
    if isinstance(outcome, coordinator.Refused):
        return Refused({**outcome.failures, **outcome.reasons})
    reason = getattr(outcome.error, "reason", "failed") if outcome.error else ""
    return Failed(outcome.reasons, reason, str(outcome.error or ""))
