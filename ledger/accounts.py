"""What became of every agreement, counted from the log: asked, granted, started, ended, paid.

    accounts = Accounts.of(history)
    accounts.agreements[agreement_id].uses

Decides nothing about single statements; that is in `ledger.rules`. Finds the jobs that stopped on
their way although nobody said why: every receipt there and no release, a release and no bill.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from ledger.entry import Entry
from ledger.finding import Finding
from ledger.history import History, Logged
from ledger.ids import short
from ledger.statements import Agreement, Grant, Job, Receipt, Release, Settlement

STAGES = (
    "asked", "granted", "started", "completed", "failed", "refused", "released", "settled",
)  # fmt: skip
"""How far jobs came under an agreement: jobs that name it, grants, launches by the node's journal,
ends by receipt, jobs released and jobs billed."""


@dataclass
class AgreementAccount:
    """What happened under one agreement.

    Attributes:
        index: its entry.
        uses: completed jobs that the terms permit.
        stages: how many jobs reached each of `STAGES`.
        budget_micro: the privacy budget; None where the agreement has none.
        spent_micro: privacy loss that receipts name.
        billed_cents: sum of the prices billed; `fee_cents` and `share_cents` are its parts.
        due_cents: the agreed price times the jobs released.
    """

    index: int
    agreement: str
    asset: str
    provider: str
    researcher: str
    uses: int
    price_cents: int
    stages: Counter[str] = field(default_factory=Counter)
    budget_micro: int | None = None
    spent_micro: int = 0
    billed_cents: int = 0
    fee_cents: int = 0
    share_cents: int = 0

    @property
    def due_cents(self) -> int:
        """What the released jobs cost by the terms."""
        return self.price_cents * self.stages["released"]


@dataclass
class JobAccount:
    """How far one job came.

    Attributes:
        logged: its entry.
        ends: the state of each asset's receipt.
        last: index of its newest entry.
    """

    logged: Logged
    job: Job
    ends: dict[str, str] = field(default_factory=dict)
    released: bool = False
    settled: bool = False
    last: int = 0

    def is_recent(self, history: History) -> bool:
        """Whether its next step may still come; in a log without a schedule it always may."""
        schedule = history.schedule
        return schedule is None or self.last + schedule.grace_entries > history.size

    def agreement_of(self, asset: str) -> str | None:
        """Return the agreement under which the job uses an asset."""
        return dict(zip(self.job.assets, self.job.agreements, strict=True)).get(asset)


@dataclass
class Accounts:
    """All agreements and jobs, and the money by account.

    Attributes:
        agreements: by id, in the order of the log.
        jobs: by id, in the order of the log.
        postings: balance of each account of the bills, in cents; together they are 0.
    """

    agreements: dict[str, AgreementAccount] = field(default_factory=dict)
    jobs: dict[str, JobAccount] = field(default_factory=dict)
    postings: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, history: History) -> Accounts:
        """Count everything opened; what broke a rule counts as what it says, but once."""
        accounts = cls()
        for entry in history.entries:
            logged = history.by_index.get(entry.index)
            if logged is not None:
                accounts._take(history, logged)
            elif entry.kind in ("receipt", "release", "settlement"):
                accounts._take_sealed(history, entry)
        for name, account in accounts.agreements.items():
            account.spent_micro = history.spent_micro[name]
        return accounts

    @property
    def totals(self) -> Counter[str]:
        """Sums over all agreements: each stage, and `billed_cents`, `fee_cents`, `share_cents`."""
        sums: Counter[str] = Counter()
        for item in self.agreements.values():
            sums.update(item.stages)
            sums["billed_cents"] += item.billed_cents
            sums["fee_cents"] += item.fee_cents
            sums["share_cents"] += item.share_cents
            sums["due_cents"] += item.due_cents
        return sums

    def start(self, asset: str, jobs: Collection[str]) -> None:
        """Count launches that an asset's journal tells."""
        for job in jobs:
            self._count(job, asset, "started")

    def stopped_jobs(self, history: History, explained: Collection[str]) -> Iterator[Finding]:
        """Yield a finding for each job that stopped on its way and nobody said why.

        Args:
            history: the log, read to its end; its schedule says when a step is late.
            explained: ids of jobs of which another finding tells already.
        """
        for job_id, job in self.jobs.items():
            if job_id not in explained and not job.is_recent(history):
                finding = _stopped(history, job_id, job)
                if finding is not None:
                    yield finding

    def _take(self, history: History, logged: Logged) -> None:
        statement = logged.statement
        if isinstance(statement, Agreement):
            self.agreements[logged.id] = AgreementAccount(
                logged.index,
                logged.id,
                statement.asset,
                statement.provider,
                statement.researcher,
                statement.terms.uses,
                statement.price_cents,
                budget_micro=getattr(statement, "budget_micro", None),
            )
        elif isinstance(statement, Job):
            self.jobs[logged.id] = JobAccount(logged, statement, last=logged.index)
            for asset in statement.assets:
                self._count(logged.id, asset, "asked")
        elif isinstance(statement, Grant | Receipt | Release | Settlement):
            job = self.jobs.get(statement.job)
            if job is not None:
                job.last = logged.index
            self._take_step(history, logged, job)

    def _take_step(self, history: History, logged: Logged, job: JobAccount | None) -> None:
        statement = logged.statement
        if isinstance(statement, Grant):
            self._count(statement.job, statement.asset, "granted")
        elif isinstance(statement, Receipt):
            # The same end told twice is one.
            if job is not None and statement.asset not in job.ends:
                job.ends[statement.asset] = statement.state
                self._count(statement.job, statement.asset, statement.state)
        elif isinstance(statement, Release) and job is not None and not job.released:
            job.released = True
            for asset in job.job.assets:
                self._count(statement.job, asset, "released")
        elif isinstance(statement, Settlement) and history.settled.get(statement.job) is logged:
            self._take_bill(statement, job)

    def _take_sealed(self, history: History, entry: Entry) -> None:
        """Take from a sealed entry's references that the step was made."""
        # One that refers wrongly is a finding of the rules, and may refer to nothing at all.
        first, second, *_ = (*entry.references, None, None)
        asset, job_index = (first, second) if entry.kind == "receipt" else (None, first)
        known = history.by_index.get(job_index) if job_index is not None else None
        job = self.jobs.get(known.id) if known is not None else None
        if job is None:
            return
        job.last = entry.index
        job.released |= entry.kind == "release"
        job.settled |= entry.kind == "settlement"
        listed = history.by_index.get(asset) if asset is not None else None
        if listed is not None:
            job.ends.setdefault(listed.id, "sealed")

    def _take_bill(self, bill: Settlement, job: JobAccount | None) -> None:
        if job is not None:
            job.settled = True
        for line in bill.lines:
            account = self.agreements.get(line.agreement)
            if account is not None:
                account.stages["settled"] += 1
                account.billed_cents += line.price_cents
                account.fee_cents += line.fee_cents
                account.share_cents += line.share_cents
        for posting in bill.postings:
            self.postings[posting.account] += posting.amount_cents

    def _count(self, job_id: str, asset: str, stage: str) -> None:
        job = self.jobs.get(job_id)
        account = self.agreements.get((job.agreement_of(asset) if job else None) or "")
        if account is not None:
            account.stages[stage] += 1


def _stopped(history: History, job_id: str, job: JobAccount) -> Finding | None:
    """Say what a job lacks, unless its receipts tell why it went no further."""
    where, name = f"entry {job.logged.index}", short(job_id)
    proof = (job.logged.index, job.last)
    if job.settled or set(job.ends.values()) != {"completed"}:
        return None
    if len(job.ends) < len(job.job.assets):
        if _may_be_sealed(history, job):
            return None
        message = f"{name} was completed by {len(job.ends)} of {len(job.job.assets)} nodes"
        return Finding("unfinished_job", where, f"{message}, the others say nothing", proof)
    if not job.released:
        return Finding("unreleased_job", where, f"{name} was completed and not released", proof)
    return Finding("unsettled_job", where, f"{name} was released and not billed", proof)


def _may_be_sealed(history: History, job: JobAccount) -> bool:
    listed = (history.by_id.get(asset) for asset in job.job.assets)
    return any(item is None or item.index in history.sealed_receipts for item in listed)
