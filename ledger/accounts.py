"""What became of every agreement, counted from the log: asked, granted, started, ended, paid.

    accounts = Accounts.of(history)
    accounts.agreements[agreement_id].uses
    accounts.go_on()                      # the history has grown: count what is new

Decides nothing about single statements; that is in `ledger.rules`. Finds the jobs that stopped on
their way although nobody said why: every receipt there and no release, a release and no bill.

A job that went all its way is folded: its agreements keep the count, and of the job only its entry
is remembered. So accounts can be written down (`facts`) and go on from there (`recall`) without
reading a statement that was counted before.
"""

from __future__ import annotations

import hashlib
from binascii import a2b_base64, b2a_base64
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ledger.entry import Entry
from ledger.finding import Finding
from ledger.history import History, Logged
from ledger.ids import short
from ledger.statements import Agreement, Grant, Job, Receipt, Release, Revocation, Settlement

STAGES = (
    "asked", "granted", "started", "completed", "revoked", "failed", "refused", "released",
    "settled",
)  # fmt: skip
"""How far jobs came under an agreement: jobs that name it, grants, launches by the node's journal,
ends by receipt, jobs released and jobs billed. A job counts under one end, the furthest; one that
was completed and revoked under `revoked` alone."""

# Each further than the one before it: a node may refuse a job that it computes later.
_ENDS = (None, "sealed", "refused", "failed", "completed", "revoked")

# Where the references of a step name the asset and the job.
_SEALED_STEPS = {"grant": (1, 3), "receipt": (0, 1), "release": (None, 0), "settlement": (None, 0)}

_NONCE_BYTES = 16

T = TypeVar("T")


@dataclass
class AgreementAccount:
    """What happened under one agreement.

    Attributes:
        logged: its entry.
        price_cents: what a use costs by its terms.
        stages: how many jobs reached each of `STAGES`.
        spent_micro: privacy loss that receipts name.
        billed_cents: sum of the prices billed; `fee_cents` and `share_cents` are its parts.
    """

    logged: Logged
    price_cents: int
    stages: Counter[str] = field(default_factory=Counter)
    spent_micro: int = 0
    billed_cents: int = 0
    fee_cents: int = 0
    share_cents: int = 0

    @property
    def index(self) -> int:
        """Its entry."""
        return self.logged.index

    @property
    def agreement(self) -> Agreement:
        """The agreement itself."""
        return self.logged.read_as(Agreement)

    @property
    def budget_micro(self) -> int | None:
        """The privacy budget; None where the agreement has none."""
        return getattr(self.logged.statement, "budget_micro", None)

    @property
    def due_cents(self) -> int:
        """What the released jobs cost by the terms."""
        return self.price_cents * self.stages["released"]


@dataclass
class JobAccount:
    """How far one job came.

    Attributes:
        logged: its entry.
        granted: assets for which it was granted, whether the grant is open or not.
        ends: how it ended for each of its assets, as far as receipts say; `sealed` where none
            that is open does.
        last: index of its newest entry.
    """

    logged: Logged
    granted: set[str] = field(default_factory=set)
    ends: dict[str, str] = field(default_factory=dict)
    released: bool = False
    settled: bool = False
    last: int = 0

    @property
    def job(self) -> Job:
        """What was asked."""
        return self.logged.read_as(Job)

    def is_recent(self, history: History) -> bool:
        """Whether its next step may still come; in a log without a schedule it always may."""
        schedule = history.schedule
        return schedule is None or self.last + schedule.grace_entries > history.size

    def agreement_of(self, asset: str) -> str | None:
        """Return the agreement under which the job uses an asset."""
        return dict(zip(self.job.assets, self.job.agreements, strict=True)).get(asset)

    @property
    def is_done(self) -> bool:
        """Whether it went all its way, and nothing else happened to it."""
        assets = self.job.assets
        return (
            self.settled
            and self.released
            and self.granted == set(assets)
            and self.ends == dict.fromkeys(assets, "completed")
        )


class Lazy(Mapping[str, T]):
    """Accounts by id in the order of the log, each made when somebody looks at it."""

    def __init__(self, known: Mapping[str, int], find: Callable[[str], T]) -> None:
        self._known = known
        self._find = find

    def __getitem__(self, name: str) -> T:
        """Return one; KeyError where there is none."""
        if name not in self._known:
            raise KeyError(name)
        return self._find(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


class Accounts:
    """All agreements and jobs, and the money by account.

    Attributes:
        size: entries that were counted.
        postings: balance of each account of the bills, in cents; together they are 0.

    Args:
        history: the log; `go_on` counts what it has grown by.
    """

    def __init__(self, history: History) -> None:
        self.size = 0
        self.postings: Counter[str] = Counter()
        self._history = history
        # Entries by id, in the order in which they were first logged.
        self._agreements: dict[str, int] = {}
        self._jobs: dict[str, int] = {}
        self._nonces = bytearray()
        # Agreements under which something happened, and jobs that are not folded.
        self._active: dict[str, AgreementAccount] = {}
        self._open: dict[str, JobAccount] = {}

    @classmethod
    def of(cls, history: History) -> Accounts:
        """Count everything opened; what broke a rule counts as what it says, but once."""
        accounts = cls(history)
        accounts.go_on()
        return accounts

    def go_on(self) -> None:
        """Count what the history has grown by."""
        history = self._history
        for index in range(self.size, history.size):
            logged = history.by_index.get(index)
            if logged is not None:
                self._take(logged)
            elif index not in history.repeats:
                self._take_sealed(history.entries[index], index)
        self.size = history.size

    @property
    def agreements(self) -> Mapping[str, AgreementAccount]:
        """Every agreement by id, in the order of the log."""
        return Lazy(self._agreements, self._agreement)

    @property
    def jobs(self) -> Mapping[str, JobAccount]:
        """Every job by id, in the order of the log."""
        return Lazy(self._jobs, self._job)

    @property
    def totals(self) -> Counter[str]:
        """Sums over all agreements: each stage, and `billed_cents`, `fee_cents`, `share_cents`."""
        sums: Counter[str] = Counter()
        if self._agreements:
            sums.update(dict.fromkeys(("billed_cents", "fee_cents", "share_cents", "due_cents"), 0))
        for item in self._active.values():
            sums.update(item.stages)
            sums["billed_cents"] += item.billed_cents
            sums["fee_cents"] += item.fee_cents
            sums["share_cents"] += item.share_cents
            sums["due_cents"] += item.due_cents
        return sums

    def by_nonce(self, nonces: Collection[str]) -> dict[str, str]:
        """Return the ids of the newest jobs with these nonces."""
        wanted = {_digest(nonce): nonce for nonce in nonces}
        found = {}
        for number, job in enumerate(self._jobs if wanted else ()):
            digest = bytes(self._nonces[number * _NONCE_BYTES : (number + 1) * _NONCE_BYTES])
            if digest in wanted:
                found[wanted[digest]] = job
        return found

    def forget_starts(self) -> None:
        """Forget all launches: journals tell them anew each time."""
        for account in self._active.values():
            account.stages.pop("started", None)

    def agreement_of(self, job: str, asset: str) -> str | None:
        """Return the agreement in the log under which a job in the log uses an asset."""
        account = self.jobs.get(job)
        named = account.agreement_of(asset) if account is not None else None
        return named if named in self._agreements else None

    def add_starts(self, counts: Mapping[str, int]) -> None:
        """Count launches that a journal tells, under agreements that are in the log."""
        for agreement, count in counts.items():
            self._touch(agreement).stages["started"] += count

    def stopped_jobs(self, history: History, explained: Collection[str]) -> Iterator[Finding]:
        """Yield a finding for each job that stopped on its way and nobody said why.

        Args:
            history: the log, read to its end; its schedule says when a step is late.
            explained: ids of jobs of which another finding tells already.
        """
        for job_id, job in self._open.items():
            if job_id not in explained and not job.is_recent(history):
                finding = _stopped(history, job_id, job)
                if finding is not None:
                    yield finding

    # Writing down, and going on.

    def facts(self) -> dict[str, Any]:
        """Return what was counted, as JSON values; launches are not in it."""
        return {
            "active": [_row(item) for item in self._active.values()],
            "agreements": list(self._agreements.values()),
            "jobs": list(self._jobs.values()),
            "nonces": b2a_base64(self._nonces, newline=False).decode(),
            "open": [
                [
                    job.logged.index,
                    sorted(job.granted),
                    [list(pair) for pair in job.ends.items()],
                    job.released,
                    job.settled,
                    job.last,
                ]
                for job in self._open.values()
            ],
            "postings": dict(self.postings),
            "size": self.size,
        }

    @classmethod
    def recall(cls, history: History, facts: Mapping[str, Any]) -> Accounts:
        """Return the accounts that `facts` wrote down of this history.

        Raises:
            LookupError, TypeError, ValueError: these are no such facts.
        """
        accounts, logged = cls(history), history.by_index
        accounts.size = facts["size"]
        accounts.postings.update(facts["postings"])
        accounts._agreements = {logged[index].id: index for index in facts["agreements"]}
        accounts._jobs = {logged[index].id: index for index in facts["jobs"]}
        accounts._nonces = bytearray(a2b_base64(facts["nonces"]))
        for index, price, billed, fee, share, *counts in facts["active"]:
            account = AgreementAccount(logged[index], price, Counter(), 0, billed, fee, share)
            pairs = zip(STAGES, counts, strict=True)
            account.stages.update({stage: count for stage, count in pairs if count})
            accounts._active[account.logged.id] = account
        for index, granted, ends, released, settled, last in facts["open"]:
            job = JobAccount(logged[index], set(granted), dict(ends), released, settled, last)
            accounts._open[job.logged.id] = job
        return accounts

    # One agreement, one job.

    def _agreement(self, name: str) -> AgreementAccount:
        account = self._active.get(name)
        if account is None:
            logged = self._history.by_index[self._agreements[name]]
            account = AgreementAccount(logged, 0)
            account.price_cents = account.agreement.price_cents
        account.spent_micro = self._history.spent_micro[name]
        return account

    def _touch(self, name: str) -> AgreementAccount:
        return self._active.setdefault(name, self._agreement(name))

    def _job(self, name: str) -> JobAccount:
        found = self._open.get(name)
        if found is not None:
            return found
        # It was folded: only one that `is_done` is.
        index, bill = self._jobs[name], self._history.settled.get(name)
        job = JobAccount(self._history.by_index[index], released=True, settled=True)
        job.last = index if bill is None else bill.index
        job.granted = set(job.job.assets)
        job.ends = dict.fromkeys(job.job.assets, "completed")
        return job

    def _step(self, name: str, index: int) -> JobAccount | None:
        """Return a job to which something happened."""
        if name not in self._jobs:
            return None
        job = self._open.setdefault(name, self._job(name))
        job.last = index
        return job

    # Counting.

    def _take(self, logged: Logged) -> None:
        statement = logged.statement
        if isinstance(statement, Agreement):
            self._agreements[logged.id] = logged.index
        elif isinstance(statement, Job):
            self._nonces += _digest(statement.nonce)
            self._jobs[logged.id] = logged.index
            self._open[logged.id] = JobAccount(logged, last=logged.index)
            for asset in statement.assets:
                self._count(logged.id, asset, "asked")
        elif isinstance(statement, Grant | Receipt | Release | Settlement):
            job = self._step(statement.job, logged.index)
            self._take_step(logged, job)
            if job is not None and job.is_done:
                del self._open[statement.job]
        elif isinstance(statement, Revocation):
            self._take_revocation(logged, statement.target)

    def _take_step(self, logged: Logged, job: JobAccount | None) -> None:
        statement = logged.statement
        if isinstance(statement, Grant):
            if job is not None:
                job.granted.add(statement.asset)
            self._count(statement.job, statement.asset, "granted")
        elif isinstance(statement, Receipt):
            if job is not None:
                self._take_end(job, statement.asset, statement.state)
        elif isinstance(statement, Release) and job is not None and not job.released:
            job.released = True
            for asset in self._released_assets(statement, job):
                self._count(statement.job, asset, "released")
        elif isinstance(statement, Settlement):
            bill = self._history.settled.get(statement.job)
            if bill is not None and bill.index == logged.index:
                self._take_bill(statement, job)

    def _released_assets(self, release: Release, job: JobAccount) -> Iterator[str]:
        """Yield the assets that a release rests on; all, where a receipt of it is not open."""
        receipts = [self._history.by_id.get(name) for name in release.receipts]
        for item in receipts:
            if item is None:
                yield from job.job.assets
                return
        yield from (item.read_as(Receipt).asset for item in receipts if item is not None)

    def _take_sealed(self, entry: Entry, index: int) -> None:
        """Take from a sealed entry's references that the step was made."""
        if entry.kind not in _SEALED_STEPS:
            return
        # One that refers wrongly is a finding of the rules, and may refer to nothing at all.
        asset, job_index = (
            entry.references[place] if place is not None and place < len(entry.references) else None
            for place in _SEALED_STEPS[entry.kind]
        )
        known = self._history.by_index.get(job_index) if job_index is not None else None
        job = self._step(known.id, index) if known is not None else None
        if job is None:
            return
        job.released |= entry.kind == "release"
        job.settled |= entry.kind == "settlement"
        listed = self._history.by_index.get(asset) if asset is not None else None
        if listed is None:
            return
        if entry.kind == "grant":
            job.granted.add(listed.id)
        else:
            self._take_end(job, listed.id, "sealed")

    def _take_revocation(self, logged: Logged, target: str) -> None:
        """Count what was completed of a job under its revocation, if that took effect."""
        effective = self._history.revoked.get(target) == logged.index
        job = self._step(target, logged.index) if effective else None
        if job is not None:
            for asset in [each for each, state in job.ends.items() if state == "completed"]:
                self._take_end(job, asset, "completed")

    def _take_end(self, job: JobAccount, asset: str, state: str) -> None:
        """Count how a job ended at a node that was to compute it, once."""
        if state == "completed" and job.logged.id in self._history.revoked:
            state = "revoked"
        before = job.ends.get(asset)
        if asset not in job.job.assets or _ENDS.index(state) <= _ENDS.index(before):
            return
        job.ends[asset] = state
        for stage, count in ((before, -1), (state, 1)):
            if stage in STAGES:
                self._count(job.logged.id, asset, stage, count)

    def _take_bill(self, bill: Settlement, job: JobAccount | None) -> None:
        if job is not None:
            job.settled = True
        for line in bill.lines:
            if line.agreement in self._agreements:
                account = self._touch(line.agreement)
                account.stages["settled"] += 1
                account.billed_cents += line.price_cents
                account.fee_cents += line.fee_cents
                account.share_cents += line.share_cents
        for posting in bill.postings:
            self.postings[posting.account] += posting.amount_cents

    def _count(self, job: str, asset: str, stage: str, count: int = 1) -> None:
        agreement = self.agreement_of(job, asset)
        if agreement is not None:
            self._touch(agreement).stages[stage] += count


def _row(account: AgreementAccount) -> list[int]:
    stages = (0 if stage == "started" else account.stages[stage] for stage in STAGES)
    money = account.billed_cents, account.fee_cents, account.share_cents
    return [account.index, account.price_cents, *money, *stages]


def _digest(nonce: str) -> bytes:
    return hashlib.sha256(nonce.encode()).digest()[:_NONCE_BYTES]


def _stopped(history: History, job_id: str, job: JobAccount) -> Finding | None:
    """Say what a job lacks, unless its receipts tell why it went no further."""
    where, name = f"entry {job.logged.index}", short(job_id)
    proof = (job.logged.index, job.last)
    if job.settled:
        return None
    if job.released:
        return Finding("unsettled_job", where, f"{name} was released and not billed", proof)
    if set(job.ends.values()) != {"completed"}:
        return None
    if len(job.ends) < len(job.job.assets):
        if _may_be_sealed(history, job):
            return None
        message = f"{name} was completed by {len(job.ends)} of {len(job.job.assets)} nodes"
        return Finding("unfinished_job", where, f"{message}, the others say nothing", proof)
    return Finding("unreleased_job", where, f"{name} was completed and not released", proof)


def _may_be_sealed(history: History, job: JobAccount) -> bool:
    listed = (history.by_id.get(asset) for asset in job.job.assets)
    return any(item is None or item.index in history.sealed_receipts for item in listed)
