"""Runs jobs over a Flower Grid: the service's side of `federated.coordinator`.

Where the Grid comes from is the composition root's business: nodes in this process, or a SuperLink.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from federated import coordinator
from federated.coordinator import Grid, Watch
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
        watch: who hears of nodes besides their replies.
        rejoin: seconds for which a node that is lost is waited for.
    """

    def __init__(
        self,
        open_grid: OpenGrid,
        timeout: float = 300.0,
        watch: Watch | None = None,
        rejoin: float = 0.0,
    ) -> None:
        self._open_grid = open_grid
        self._rejoin = rejoin
        self._watch = watch
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
                        member.provider,
                    )
                    for member in request.cohort
                },
                encryption_key=request.statement.encryption_key,
                timeout=self._timeout,
                minimum=request.minimum_parties,
                departed=request.departed,
                leaves=request.leaves,
                watch=self._watch,
                rejoin=self._rejoin,
                checkpoint=request.checkpoint,
                lease=request.lease,
            )
            outcome = coordinator.run(grid, assignment, _Counter(assets, progress))
        return _translated(outcome)


class _Counter:
    """Turns what is heard of one node after the other into how all stand in the present exchange.

    A node that refused, failed or was lost stays so in the exchanges that follow, until more is
    heard of it: those are not about it.
    """

    def __init__(self, assets: tuple[str, ...], progress: Callable[[Progress], None]) -> None:
        self._progress = progress
        self._exchange = (-1, "")
        self._nodes = dict.fromkeys(assets, "waiting")

    def __call__(self, seen: coordinator.Progress) -> None:
        if (seen.round, seen.step) != self._exchange:
            self._exchange = (seen.round, seen.step)
            for asset, state in self._nodes.items():
                if state == "answered":
                    self._nodes[asset] = "waiting"
        self._nodes[seen.asset] = seen.state
        done = sum(state == "answered" for state in self._nodes.values())
        self._progress(Progress(seen.round, done, len(self._nodes), seen.step, dict(self._nodes)))


def _translated(outcome: coordinator.Outcome) -> Outcome:
    if isinstance(outcome, coordinator.Completed):
        return Completed(
            coordinator.document(outcome),
            tuple(
                Contribution(asset, record.number, *digests, record.bodies.get(asset))
                for record in outcome.rounds
                for asset, digests in record.digests.items()
            ),
            {asset: read(receipt).id for asset, receipt in outcome.receipts.items()},
            tuple(
                Opening(record.number, record.opened.to_json())
                for record in outcome.rounds
                if isinstance(record, coordinator.RoundRecord)
            ),
            outcome.dropped,
        )
    if isinstance(outcome, coordinator.Refused):
        return Refused({**outcome.failures, **outcome.reasons})
    reason = getattr(outcome.error, "reason", "failed") if outcome.error else ""
    return Failed(outcome.reasons, reason, str(outcome.error or ""))
