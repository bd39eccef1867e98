"""Whether a node may compute: a pure decision over verified evidence.

Takes what the node has *seen proven* in the ledger, what its own journal says, and the time; reads
nothing, writes nothing. Returns a permit or raises a refusal with one of the fixed words. The
order is fixed, so that the same request gets the same word everywhere:

1. the job is in the log, whole and unbroken (`not_proven`);
2. so is the agreement for this asset, and they fit each other (`not_proven`, `grant_mismatch`);
3. nothing they rest on was revoked (`revoked`);
4. the job names exactly the code that runs here (`code_unknown`);
5. the rows are those of the agreement, and close to none answered before
   (`row_selection_not_allowed`);
6. the terms permit task, purpose, recipient, parties, time and one more use
   (`purpose_not_allowed`, `agreement_expired`, `quota_used_up`, `grant_mismatch`);
7. the asset had no more joint jobs in a month than agreed (`quota_used_up`);
8. an encrypted sum is under a key that nobody opens alone, if that was agreed (`grant_mismatch`);
9. before computing: the grant is in the log, for this job, asset and cohort, and still valid
   (`not_proven`, `grant_mismatch`, `agreement_expired`).

    permit = decide(Ask(job, asset), history, spent, now=…, code=…, limits=Limits())

What the operator says plays no part: its own checks may be off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from federated.errors import PreparationError, RefusedError
from federated.matching import MONTH_DAYS
from federated.preparation import Preparation
from federated.tasks import JointTask, known_tasks
from federated.tasks.scoring import ScoringTask
from ledger.history import History
from ledger.keys import VerifyKey
from ledger.statements import Agreement, Asset, Grant, Job, Receipt, Statement
from ledger.terms import Request, evaluate

S = TypeVar("S", bound=Statement)

_DAY = 86_400_000


@dataclass(frozen=True)
class Ask:
    """What somebody wants of this node.

    Attributes:
        job: id of the job statement.
        asset: id of this node's asset.
        grant: id of the grant to compute under; None while the grant is still to be given.
        cohort: assets named as the cohort by whoever asks; None while nobody has.
    """

    job: str
    asset: str
    grant: str | None = None
    cohort: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Spent:
    """What the node's journal says of earlier jobs on this asset, this job left out.

    Attributes:
        jobs: ids of completed jobs and open reservations under an agreement, by its id.
        unfinished: jobs under an agreement that ended without a result after an answer had left.
        every: ids of all jobs that were granted here, under whatever agreement.
        answered: preparations that were answered, or reserved to be.
    """

    jobs: Callable[[str], frozenset[str]]
    unfinished: Callable[[str], int]
    answered: tuple[Preparation, ...]
    every: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Limits:
    """What this node permits beyond the terms.

    Attributes:
        row_selections: most different row selections ever answered on one asset, over all buyers.
        grant_days: how long a grant given by rule stays valid.
        unfinished: most jobs under one agreement that may end without a result after an answer
            left. Such a job gives its use back, and it is the operator who says that it ended: to
            the node, or after the node receipted it as completed by revoking it.
    """

    row_selections: int = 4
    grant_days: int = 7
    unfinished: int = 8


@dataclass(frozen=True)
class Permit:
    """A decision to go on: every statement in it is proven and in force.

    Attributes:
        log_size: number of entries read when the decision was made.
        node_keys: key of each cohort member's node, by asset id.
    """

    job_id: str
    job: Job
    agreement_id: str
    agreement: Agreement
    preparation: Preparation
    grant_id: str | None
    grant: Grant | None
    log_size: int
    assets: dict[str, Asset]
    node_keys: dict[str, VerifyKey]


def decide(
    ask: Ask,
    history: History,
    spent: Spent,
    *,
    now: int,
    code: Callable[[Job], str],
    limits: Limits,
) -> Permit:
    """Permit a job or refuse it.

    Args:
        ask: what is wanted.
        history: every entry up to a verified checkpoint.
        spent: from this node's journal.
        now: this node's clock, Unix milliseconds; the newest entry's time counts where it is later.
        code: returns the digest of the code that would run a job here.
        limits: this node's own.

    Raises:
        RefusedError: `reason` is one of the fixed words above.
    """
    job = _proven(history, ask.job, Job)
    # The log's own time counts too: in it, anybody can see that this was permitted in time.
    now = max(now, history.entries[-1].time)
    if ask.asset not in job.assets:
        raise RefusedError("grant_mismatch", "the job does not name this asset")
    agreement_id = job.agreements[job.assets.index(ask.asset)]
    agreement = _proven(history, agreement_id, Agreement)
    if (agreement.asset, agreement.researcher) != (ask.asset, job.researcher):
        raise RefusedError("grant_mismatch", "the agreement is another's, or on another asset")
    _in_force(history, (ask.job, job.researcher, agreement_id, agreement.provider, *job.assets))
    if job.code_digest != code(job):
        raise RefusedError("code_unknown", "the job names code that is not installed here")
    preparation = _row_selection(job, agreement, spent, limits)
    uses, fruitless = _uses(history, ask, agreement_id, spent)
    _terms(history, ask, agreement, uses, now)
    if spent.unfinished(agreement_id) + fruitless >= limits.unfinished:
        raise RefusedError("quota_used_up", "too many jobs ended here after an answer had left")
    _matched_seldom(history, ask, preparation, spent.every, now)
    _opened_together(job, preparation)
    grant = None if ask.grant is None else _granted(history, ask, job, agreement_id, now)
    assets = {asset: _proven(history, asset, Asset) for asset in job.assets}
    # A party whose key was lost may be anybody; masks against it would hide nothing.
    _in_force(history, tuple(asset.provider for asset in assets.values()))
    return Permit(
        job_id=ask.job,
        job=job,
        agreement_id=agreement_id,
        agreement=agreement,
        preparation=preparation,
        grant_id=ask.grant,
        grant=grant,
        log_size=history.size,
        assets=assets,
        node_keys={name: history.node_key(name) for name in assets},
    )


def _proven(history: History, statement_id: str, kind: type[S]) -> S:
    logged = history.by_id.get(statement_id)
    if logged is None or not isinstance(logged.statement, kind):
        raise RefusedError("not_proven", f"no such {kind.kind} was seen in the log")
    broken = history.broken.get(statement_id)
    if broken in ("revoked", "revoked_key"):
        raise RefusedError("revoked", f"the {kind.kind} rests on something revoked")
    if broken is not None and broken != "outside_terms":
        # The terms are evaluated here once more, for their own word.
        raise RefusedError("grant_mismatch", f"the {kind.kind} breaks a rule of the log: {broken}")
    return logged.statement


def _in_force(history: History, statement_ids: tuple[str, ...]) -> None:
    for statement_id in statement_ids:
        if history.revoked_before(statement_id, history.size):
            kind = statement_id.partition(":")[0]
            raise RefusedError("revoked", f"the {kind} was revoked")


def _row_selection(job: Job, agreement: Agreement, spent: Spent, limits: Limits) -> Preparation:
    if job.preparation != agreement.preparation:
        raise RefusedError("row_selection_not_allowed", "not the rows that the agreement fixes")
    try:
        wanted = Preparation.parse(job.preparation)
    except PreparationError as error:
        raise RefusedError("row_selection_not_allowed", str(error)) from error
    others = {_row_key(item) for item in spent.answered} - {_row_key(wanted)}
    if any(_splits_differently(item, wanted) for item in spent.answered):
        # Two splits of the same rows differ in few of them; their difference is those few.
        raise RefusedError("row_selection_not_allowed", "another split of these rows was answered")
    if len(others) >= limits.row_selections:
        raise RefusedError(
            "row_selection_not_allowed", f"{len(others)} row selections were answered already"
        )
    _scores_few(job, wanted)
    return wanted


def _scores_few(job: Job, preparation: Preparation) -> None:
    """Refuse to score more rows in one use than the agreement says, or any where it says none."""
    if job.task != ScoringTask.name:
        return
    most = 0 if preparation.score is None else preparation.score.most_rows
    rows = job.parameters.get("rows")
    if type(rows) is not int or not 1 <= rows <= most:
        raise RefusedError(
            "row_selection_not_allowed", f"a use of this model scores at most {most} rows"
        )


def _splits_differently(one: Preparation, other: Preparation) -> bool:
    if one.split is None or other.split is None:
        return False
    # A stratified split follows the label: another label divides the rows anew, whatever the seed.
    relabelled = one.split.stratify and one.label != other.label and _base(one) == _base(other)
    return one.split != other.split or relabelled


def _base(preparation: Preparation) -> tuple[str, ...] | None:
    return tuple(sorted(preparation.drop)) if preparation.complete_rows else None


def _row_key(preparation: Preparation) -> str:
    """Return what decides which rows are chosen: features and labels do not, splits by them do."""
    chosen: dict[str, Any] = preparation.to_json()
    for other in ("match", "link", "score", "shared_key"):
        chosen.pop(other, None)
    if not preparation.complete_rows:
        chosen.pop("drop", None)
    chosen.pop("one_hot", None)
    if preparation.split is None:
        chosen.pop("label", None)
    return repr(sorted(chosen.items(), key=lambda item: item[0]))


def _uses(history: History, ask: Ask, agreement_id: str, spent: Spent) -> tuple[int, int]:
    """Count the uses of an agreement, and the jobs under it that were revoked without a result.

    The log knows uses that a journal restored from a backup has forgotten, and the journal knows
    those under way: what either knows counts, and the job that is asked for does not.
    """
    jobs = spent.jobs(agreement_id) | _completed_jobs(history, ask.asset, agreement_id)
    fruitless = {each for each in jobs if history.revoked_before(each, history.size)}
    return len(jobs - fruitless - {ask.job}), len(fruitless)


def _terms(history: History, ask: Ask, agreement: Agreement, uses: int, now: int) -> None:
    job = history.get(ask.job, Job)
    request = Request(
        task=job.task,
        purpose=job.purpose,
        recipient=job.researcher,
        # Two assets of one provider hide nothing from each other.
        parties=len({_proven(history, asset, Asset).provider for asset in job.assets}),
        exact=True,
        time=now,
    )
    decision = evaluate(agreement.terms, request, uses)
    if decision.reason is not None:
        raise RefusedError(decision.reason, decision.detail)


def _completed_jobs(history: History, asset: str, agreement_id: str) -> frozenset[str]:
    found = set()
    for job_id, receipts in history.completed.items():
        for logged in receipts:
            receipt = logged.statement
            if isinstance(receipt, Receipt) and receipt.asset == asset and receipt.grant:
                grant = history.by_id.get(receipt.grant)
                if grant and isinstance(grant.statement, Grant):
                    found |= {job_id} if grant.statement.agreement == agreement_id else set()
    return frozenset(found)


def _matched_seldom(
    history: History, ask: Ask, preparation: Preparation, granted: frozenset[str], now: int
) -> None:
    """Refuse a joint job on an asset that had as many in a month as its agreement permits.

    Whoever may ask for intersections again and again may guess who is in the data. So all count,
    whoever asked and however they ended, by this node's journal and by the log.
    """
    monthly = preparation.monthly
    if monthly is None or not _is_joint(history, ask.job):
        return
    since = now - MONTH_DAYS * _DAY
    others = (granted | _receipted_jobs(history, ask.asset)) - {ask.job}
    recent = {
        job
        for job in others
        if job in history.by_id
        and history.entries[history.by_id[job].index].time > since
        and _is_joint(history, job)
    }
    if len(recent) >= monthly:
        raise RefusedError(
            "quota_used_up", f"{len(recent)} joint jobs used this asset in {MONTH_DAYS} days"
        )


def _opened_together(job: Job, preparation: Preparation) -> None:
    """Refuse an encrypted sum that others, or fewer, can open than the agreement says."""
    if preparation.shared_key is None or job.encryption_key is None:
        return
    if missing := preparation.shared_key.missing(job.encryption_key):
        raise RefusedError("grant_mismatch", missing)


def _is_joint(history: History, job_id: str) -> bool:
    task = known_tasks().get(history.get(job_id, Job).task)
    return isinstance(task, JointTask)


def _receipted_jobs(history: History, asset: str) -> set[str]:
    """Return the jobs for which the asset's node sent something, by the receipts in the log."""
    return {
        receipt.job
        for logged in (*history.completed.values(), *history.failed.values())
        for receipt in (each.statement for each in logged)
        if isinstance(receipt, Receipt) and receipt.asset == asset and receipt.contributions
    }


def _granted(history: History, ask: Ask, job: Job, agreement_id: str, now: int) -> Grant:
    grant = _proven(history, ask.grant or "", Grant)
    _in_force(history, (ask.grant or "",))
    if (grant.job, grant.asset, grant.agreement) != (ask.job, ask.asset, agreement_id):
        raise RefusedError("grant_mismatch", "the grant is for another job, asset or agreement")
    if ask.cohort is not None and set(ask.cohort) != set(grant.cohort):
        raise RefusedError("grant_mismatch", "the cohort is not the one granted")
    if set(grant.cohort) != set(job.assets) or len(job.assets) < grant.minimum_parties:
        raise RefusedError("grant_mismatch", "the job's parties are not those granted")
    if now > grant.until:
        raise RefusedError("agreement_expired", "the grant has ended")
    return grant
