"""Runs granted jobs in the order of the queue, and releases what the gate lets through.

Every write names the fencing counter that the worker got with its lease. A job that was cancelled,
revoked or taken over meanwhile has another counter: the worker then drops what it has, releases
nothing and bills nothing. A crash anywhere leaves the job `running` until the lease ends; then the
next worker runs it again, and the nodes answer the same requests with the same bytes.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial

from sqlmodel import Session, select

from federated.errors import FederatedError
from federated.lease import Lease
from federated.planning import plan_of
from ledger.encoding import canonical
from ledger.errors import LedgerError, LogError
from ledger.ids import statement_id
from ledger.statements import Asset, Grant, Receipt
from ledger.statements import Job as JobStatement
from marketplace.context import Context
from marketplace.errors import LeaseLostError, ReleaseError
from marketplace.jobs import departures, gate, moves, queue, states
from marketplace.jobs.engine import (
    CohortMember,
    Completed,
    Failed,
    JobEngine,
    JobRequest,
    Outcome,
    Progress,
    Refused,
)
from marketplace.jobs.tables import Job, JobContribution, JobOpening, Result

FIRST_ATTEMPT = 1
"""Whoever takes a job over repeats its attempts: nodes answer the same requests with the same."""

TELL_MS = 250
"""Progress is stored so often at most: rounds among embedded nodes are faster than one can look."""
UNREMARKABLE = frozenset({"waiting", "answered"})

IDLE_SECONDS = 0.05
_logger = logging.getLogger(__name__)

Settle = Callable[[Session, Context, str, JobStatement, str], str]
"""Bills a release in the transaction that stores it: session, context, job id, job, release id."""


@dataclass
class _Lease:
    """What a worker holds: the job, and the fencing counter that its next write must name.

    `untold` is progress that was not stored yet; it goes with the next write.
    """

    job: str
    fence: int
    untold: Progress | None = None


class Worker:
    """Takes granted jobs under a lease.

    Args:
        context: the service's context.
        engine: what computes.
        settle: what bills; it belongs to a feature above this one.
    """

    def __init__(self, context: Context, engine: JobEngine, settle: Settle) -> None:
        self._context = context
        self._engine = engine
        self._settle = settle
        self._stopping = threading.Event()
        self._looking = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Run in threads of its own, as many as the setting `workers` says, until `stop`.

        Jobs that a process before this one was running are taken over at once: one service runs
        over a data folder, and it is this one.
        """
        self._stopping.clear()
        with self._context.writing() as session:
            moves.end_leases(session)
        self._threads = [
            threading.Thread(target=self._run, name=f"jobs-{number}", daemon=True)
            for number in range(1, self._context.settings.workers + 1)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 30.0) -> None:
        """Stop after the jobs under way; one that takes longer is taken over after its lease."""
        self._stopping.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._threads = []

    def run_once(self) -> str | None:
        """Run one job to its end; return its id, or None when none is ready."""
        lease = self._claim()
        if lease is None:
            return None
        self._work(lease)
        return lease.job

    def _work(self, lease: _Lease) -> None:
        try:
            self._finish(lease, self._compute(lease))
        except LeaseLostError:
            _logger.info("%s was ended or taken over by somebody else", lease.job)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                lease = self._wait_for_turn()
                if lease is not None:
                    self._work(lease)
            except Exception:
                # One broken job or a busy database must not stop all later jobs.
                _logger.exception("the job worker met an unexpected error")
                self._stopping.wait(IDLE_SECONDS)

    def _wait_for_turn(self) -> _Lease | None:
        """Claim a job, or look and wait a moment; one thread at a time, so that looks stay few."""
        with self._looking:
            if self._stopping.is_set():
                return None
            lease = self._claim()
            if lease is None:
                self._stopping.wait(IDLE_SECONDS)
            return lease

    def _claim(self) -> _Lease | None:
        now, most = self._context.clock(), self._context.settings.running_per_researcher
        # Looked at without the write lock first: an idle worker must not hold up anybody.
        with self._context.reading() as session:
            if queue.next_job(session, now, most) is None:
                return None
        with self._context.writing() as session:
            job = queue.next_job(session, now, most)
            if job is None:
                return None
            if job.state == "granted":
                moves.move(session, job, "running", now)
            moves.fenced_update(
                session, job, lease_until=self._until(), attempts=job.attempts + 1, claimed=now
            )
            return _Lease(job.id, job.fence)

    def _until(self) -> int:
        return self._context.clock() + self._context.settings.lease_seconds * 1000

    @contextmanager
    def _holding(self, lease: _Lease) -> Iterator[tuple[Session, Job]]:
        """Run one writing transaction in which the lease is known to hold.

        Raises:
            LeaseLostError: it does not.
        """
        with self._context.writing() as session:
            job = session.get_one(Job, lease.job)
            if (job.fence, job.state) != (lease.fence, "running"):
                raise LeaseLostError
            if lease.untold is not None:
                job.progress, lease.untold = _text(lease.untold), None
            yield session, job
            fence = job.fence
        # Only now: had the commit failed, the counter in the database would be the old one.
        lease.fence = fence

    def _check(self, lease: _Lease) -> None:
        """Look, without the database's write lock, whether the lease holds.

        Raises:
            LeaseLostError: it does not.
        """
        query = select(Job.fence, Job.state).where(Job.id == lease.job)
        with self._context.reading() as session:
            if session.exec(query).one() != (lease.fence, "running"):
                raise LeaseLostError

    def _compute(self, lease: _Lease) -> Outcome:
        """Run the engine; whatever it raises but a lost lease is a failure of this job alone."""
        written, exchange = -math.inf, (-1, "")

        def progress(step: Progress) -> None:
            nonlocal written, exchange
            now = self._context.clock()
            plain = set(step.nodes.values()) <= UNREMARKABLE
            if plain and 0 <= now - written < TELL_MS:
                lease.untold = step
                if exchange != (step.round, step.step):
                    exchange = (step.round, step.step)
                    self._check(lease)
                return
            written, lease.untold = now, None
            with self._holding(lease) as (session, job):
                moves.fenced_update(session, job, lease_until=self._until(), progress=_text(step))

        try:
            return self._engine.run(self._request(lease), progress)
        except LeaseLostError:
            raise
        except FederatedError as error:
            return Failed({}, getattr(error, "reason", "task_error"), str(error))
        except Exception:
            _logger.exception("the engine failed at %s", lease.job)
            return Failed({}, "internal", "the computation met an unexpected error")

    def _request(self, lease: _Lease) -> JobRequest:
        statement = self._context.find(lease.job, JobStatement)
        assets = {name: self._context.find(name, Asset) for name in statement.assets}
        _, plan = plan_of(statement, assets)
        with self._context.reading() as session:
            parties = moves.parties(session, lease.job)
            departed = departures.departed(session, lease.job)
        # The last one may have been stored a moment ago: first of all wait until it is shown.
        granted = {each.asset_id: self._context.logged(each.grant_id or "") for each in parties}
        return JobRequest(
            id=lease.job,
            index=self._context.entry(lease.job).index,
            statement=statement,
            attempt=FIRST_ATTEMPT,
            departed=departed,
            leaves=partial(self._leaves, lease),
            plan=plan.to_json(),
            checkpoint=self._context.log.checkpoint,
            # The counter as it was when the job was claimed; each later claim has a higher one.
            lease=partial(self._signed, lease.job, lease.fence),
            minimum_parties=max(
                self._context.find(party.grant_id or "", Grant).minimum_parties for party in parties
            ),
            cohort=tuple(
                CohortMember(
                    asset=party.asset_id,
                    name=assets[party.asset_id].name,
                    provider=party.provider_id,
                    node_key=self._context.log.history.node_key(party.asset_id).text,
                    asset_index=self._context.entry(party.asset_id).index,
                    agreement=party.agreement_id,
                    agreement_index=self._context.entry(party.agreement_id).index,
                    grant=party.grant_id or "",
                    grant_index=granted[party.asset_id],
                )
                for party in parties
            ),
        )

    def _signed(self, job: str, fence: int, attempt: int, run: int) -> bytes:
        """Tell the nodes that this worker drives an attempt, in this Flower run alone."""
        return Lease(job, attempt, fence, run).sign(self._context.operator_key)

    def _leaves(
        self, lease: _Lease, attempt: int, number: int, step: str, gone: Mapping[str, str]
    ) -> None:
        with self._holding(lease) as (session, job):
            departures.keep(session, job.id, (attempt, number, step), gone)

    def _finish(self, lease: _Lease, outcome: Outcome) -> None:
        if not isinstance(outcome, Completed):
            self._end(lease, outcome)
        elif late := self._unlogged(outcome):
            self._end(lease, Failed(dict.fromkeys(late, states.NO_RECEIPT), "", ""))
        else:
            try:
                self._release(lease, outcome)
            except (ReleaseError, LedgerError) as error:
                self._end(lease, Failed({}, "release_refused", str(error)))

    def _unlogged(self, outcome: Completed) -> list[str]:
        """Wait for the nodes' receipts; return whose did not come into the log in time."""
        late, end = [], time.monotonic() + self._context.settings.log_wait_seconds
        for asset, receipt_id in outcome.receipts.items():
            try:
                self._context.log.wait_for(receipt_id, max(0.0, end - time.monotonic()))
            except LogError:
                late.append(asset)
        return late

    def _end(self, lease: _Lease, outcome: Refused | Failed) -> None:
        """End a job without a result: nothing is released and nothing billed."""
        state: states.State = "refused" if isinstance(outcome, Refused) else "failed"
        reason = next(iter(outcome.reasons.values()), state)
        with self._holding(lease) as (session, job):
            message = f"{state}: {moves.listed(session, job.id, outcome.reasons)}"
            if isinstance(outcome, Failed):
                reason, message = outcome.task_reason or reason, outcome.message or message
            moves.end(
                session,
                self._context,
                job,
                state,
                reason=reason,
                message=message,
                reasons=outcome.reasons,
            )

    def _release(self, lease: _Lease, outcome: Completed) -> None:
        """Store result, release and bill in one transaction.

        Raises:
            ReleaseError: the gate holds the result back.
        """
        context = self._context
        statement, now = context.find(lease.job, JobStatement), context.clock()
        release, document = gate.decide(
            lease.job, statement, self._receipts(lease.job), outcome, now=now
        )
        envelope = release.sign(context.operator_key)
        with self._holding(lease) as (session, job):
            moves.move(session, job, "released", now)
            job.release_id = context.submit(session, envelope)
            session.add(Result(job_id=job.id, document=document))
            session.add_all(_rows(job.id, outcome))
            for party in moves.parties(session, job.id):
                if party.receipt_id is None and party.asset_id in outcome.dropped:
                    party.reason = outcome.dropped[party.asset_id]
            self._settle(session, context, job.id, statement, job.release_id)
        context.logged(statement_id("release", envelope))

    def _receipts(self, job_id: str) -> dict[str, Receipt]:
        history = self._context.log.history
        return {
            logged.id: logged.statement
            for logged in history.completed.get(job_id, [])
            if isinstance(logged.statement, Receipt) and logged.id not in history.broken
        }


def _text(step: Progress) -> str:
    return canonical(asdict(step)).decode()


def _rows(job_id: str, outcome: Completed) -> list[JobContribution | JobOpening]:
    openings = [
        JobOpening(job_id=job_id, round=item.round, secrets=canonical(dict(item.secrets)))
        for item in outcome.openings
    ]
    return openings + [
        JobContribution(
            job_id=job_id,
            asset_id=item.asset,
            round=item.round,
            request=item.bodies[0],
            reply=item.bodies[1],
        )
        for item in outcome.contributions
        if item.bodies is not None
    ]
