"""What a statement of each kind may say, given everything logged before it.

One pure function a kind, over a `Case`; each raises the first rule that the statement breaks.
`ledger.rules` calls them after it has checked the statement's place, references and signatures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from ledger.errors import EvidenceError, RuleError, SignatureError, StatementError
from ledger.history import History, Logged
from ledger.ids import parse_id
from ledger.keys import VerifyKey
from ledger.statements import (
    Agreement,
    Asset,
    BudgetedAgreement,
    Grant,
    Job,
    MeteredReceipt,
    Offer,
    Participant,
    Receipt,
    Release,
    Revocation,
    Settlement,
    Statement,
    postings,
)
from ledger.terms import Request, evaluate

S = TypeVar("S", bound=Statement)


@dataclass(frozen=True)
class Case:
    """One statement before its rule: the history so far, and where its references point."""

    history: History
    logged: Logged
    references: dict[str, int | None]

    def find(self, statement_id: str, kind: type[S]) -> tuple[Logged, S]:
        """Return a referenced statement; see `History.find`."""
        return self.history.find(statement_id, self.references.get(statement_id), kind)

    def require(self, code: str, holds: bool, message: str) -> None:  # noqa: FBT001
        """Raise a finding unless the rule holds.

        Raises:
            RuleError: it does not.
        """
        if not holds:
            raise RuleError(
                code, f"entry {self.logged.index} ({self.logged.statement.kind}): {message}"
            )

    def in_force(self, statement_id: str, what: str) -> None:
        """Refuse to rest on something that was revoked before this entry.

        Raises:
            RuleError: it was.
        """
        revoked = self.history.revoked_before(statement_id, self.logged.index)
        self.require("revoked", not revoked, f"rests on a revoked {what}")


def _participant(case: Case) -> None:
    statement: Participant = as_kind(case, Participant)
    history, is_operator = case.history, "operator" in statement.roles
    # A sealed one before it was the operator: whoever enrols first is.
    is_first = history.operator is None and not history.sealed_participant
    case.require("second_operator", is_first or not is_operator, "a log has one operator")
    case.require("no_operator", is_operator or not is_first, "the operator enrols first")
    public = VerifyKey.from_text(statement.key).public
    case.require("duplicate_key", public not in history.keys, "this key is enrolled already")


def _asset(case: Case) -> None:
    statement = as_kind(case, Asset)
    _has_role(case, statement.provider, "provider")
    try:
        measured = statement.measured()
    except (SignatureError, StatementError) as error:
        raise RuleError(
            "measurement_invalid", f"entry {case.logged.index} (asset): {error}"
        ) from error
    case.require(
        "wrong_valuation",
        statement.valuation.quality_ppm == measured.quality.score_ppm,
        "the valuation does not use the measured quality",
    )


def _offer(case: Case) -> None:
    statement = as_kind(case, Offer)
    case.in_force(statement.asset, "asset")
    _, asset = case.find(statement.asset, Asset)
    case.require("not_owner", asset.provider == statement.provider, "offers another's asset")


def _agreement(case: Case) -> None:
    statement = as_kind(case, Agreement)
    _has_role(case, statement.researcher, "researcher")
    case.in_force(statement.offer, "offer")
    case.in_force(statement.asset, "asset")
    _, offer = case.find(statement.offer, Offer)
    case.require("not_owner", offer.provider == statement.provider, "the offer is another's")
    case.require("agreement_mismatch", offer.asset == statement.asset, "is on another asset")


def _job(case: Case) -> None:
    statement = as_kind(case, Job)
    _has_role(case, statement.researcher, "researcher")
    for asset, agreement_id in zip(statement.assets, statement.agreements, strict=True):
        _, agreement = case.find(agreement_id, Agreement)
        case.require(
            "agreement_mismatch", agreement.asset == asset, "an agreement on another asset"
        )
        case.require(
            "agreement_mismatch",
            agreement.researcher == statement.researcher,
            "uses another researcher's agreement",
        )


def _grant(case: Case) -> None:
    statement = as_kind(case, Grant)
    _, job = case.find(statement.job, Job)
    _, agreement = case.find(statement.agreement, Agreement)
    case.in_force(statement.agreement, "agreement")
    case.in_force(statement.asset, "asset")
    case.in_force(statement.job, "job")
    case.in_force(job.researcher, "researcher's key")
    case.require("not_owner", agreement.provider == statement.provider, "grants another's asset")
    used = (statement.asset, statement.agreement) in zip(job.assets, job.agreements, strict=True)
    # Asked here too: a node that may not read the other parties' agreements cannot check the job.
    fits = (agreement.asset, agreement.researcher) == (statement.asset, job.researcher)
    case.require("grant_mismatch", used and fits, "is not what the job uses under this agreement")
    case.require("grant_mismatch", statement.cohort == job.assets, "names another cohort")
    case.require(
        "grant_mismatch",
        statement.minimum_parties >= agreement.terms.minimum_parties,
        "permits fewer parties than the terms",
    )
    case.require("outside_terms", job.preparation == agreement.preparation, "another row selection")
    case.require(
        "outside_terms", statement.until <= agreement.terms.until, "lasts longer than the terms"
    )
    request = Request(
        task=job.task,
        purpose=job.purpose,
        recipient=job.researcher,
        parties=case.history.providers(job),
        # Under a privacy budget answers carry noise; there is no way to spend it on exact ones.
        exact=not isinstance(agreement, BudgetedAgreement),
        time=case.logged.time,
    )
    decision = evaluate(agreement.terms, request, case.history.completed_uses[statement.agreement])
    case.require("outside_terms", decision.permitted, decision.detail)


def _receipt(case: Case) -> None:
    statement = as_kind(case, Receipt)
    case.require(
        "not_seen_yet",
        statement.log_size <= case.logged.index,
        "claims to have read entries that came later",
    )
    if statement.state != "refused":
        _one_end(case, statement)
    # One that is completed has both. A node that lost its memory names no grant for what it sent.
    if statement.contributions and statement.grant:
        grant = _use(case, statement)
        # Of a job that was revoked since it was computed, nothing is used up.
        counts = not case.history.revoked_before(statement.job, case.logged.index)
        if statement.state == "completed" and counts:
            _one_more(case, grant.agreement)
    _spend(case, statement)


def _one_end(case: Case, receipt: Receipt) -> None:
    """A job ends once at a node, which may refuse it before, and whoever asks again after."""
    history = case.history
    for state, ends in (("completed", history.completed), ("failed", history.failed)):
        told = any(
            item.read_as(Receipt).asset == receipt.asset for item in ends.get(receipt.job, ())
        )
        if state == receipt.state:
            case.require("duplicate_receipt", not told, "this job was receipted already")
        else:
            case.require(
                "contradicting_receipt", not told, f"this job was receipted as {state} before"
            )


def _spend(case: Case, receipt: Receipt) -> None:
    """What was sent under a privacy budget is metered, and never more than the budget holds."""
    name = case.history.agreement_used(receipt)
    found = case.history.by_id.get(name or "")
    agreement = found.statement if found is not None else None
    if not isinstance(agreement, BudgetedAgreement) or name is None or not receipt.contributions:
        return
    if not isinstance(receipt, MeteredReceipt):
        raise RuleError(
            "unmetered", f"entry {case.logged.index} (receipt): does not say what it spent"
        )
    spent = case.history.spent_micro[name] + receipt.spent_micro
    case.require(
        "overspent_budget",
        spent <= agreement.budget_micro,
        f"{spent} of {agreement.budget_micro} micro-units are spent under the agreement",
    )


def _use(case: Case, statement: Receipt) -> Grant:
    """What a node did under a grant it was granted, proven and in force, when it did it."""
    history, grant_id = case.history, statement.grant or ""
    granted, grant = case.find(grant_id, Grant)
    requested, job = case.find(statement.job, Job)
    case.require(
        "grant_mismatch",
        grant.job == statement.job and grant.asset == statement.asset,
        "the grant is for another job or asset",
    )
    seen = max(granted.index, requested.index) < statement.log_size
    case.require("not_proven", seen, "computed before job and grant were in the log")
    last = history.entries[statement.log_size - 1]
    case.require(
        "expired_grant", last.time <= grant.until, f"had read entry {last.index}, after its end"
    )
    case.require(
        "code_unknown",
        statement.code_digest == job.code_digest,
        "ran other code than the job names",
    )
    for subject in _grounds(history, grant_id, grant, job) if history.revoked else ():
        case.require(
            "revoked",
            not history.revoked_before(subject, statement.log_size),
            "computed under something revoked",
        )
    case.require(
        "too_many_rounds", len(statement.contributions) <= grant.rounds, "more rounds than granted"
    )
    return grant


def _grounds(history: History, grant_id: str, grant: Grant, job: Job) -> Iterator[str]:
    """Everything by whose revocation a granted job ends, as far as it is open here."""
    yield from (grant_id, grant.job, grant.agreement, job.researcher)
    for asset in job.assets:
        yield asset
        listed = history.by_id.get(asset)
        if listed is not None:
            # A party whose key was lost may be anybody; masks against it would hide nothing.
            yield listed.read_as(Asset).provider


def _one_more(case: Case, agreement_id: str) -> None:
    agreement = case.history.get(agreement_id, Agreement)
    uses = case.history.completed_uses[agreement_id] + 1
    case.require(
        "over_quota",
        uses <= agreement.terms.uses,
        f"use {uses} of {agreement.terms.uses} under the agreement",
    )


def _release(case: Case) -> None:
    statement = as_kind(case, Release)
    requested, job = case.find(statement.job, Job)
    case.require(
        "duplicate_release", statement.job not in case.history.released, "a second release"
    )
    case.in_force(statement.job, "job")
    receipts = {item: case.find(item, Receipt)[1] for item in statement.receipts}
    _enough_parties(case, job, list(receipts.values()))
    for receipt in receipts.values():
        case.require(
            "release_without_receipts",
            receipt.state == "completed" and receipt.job == requested.id,
            "rests on a receipt that is not a completed one of this job",
        )
    claimed = [(item.receipt, item.round, item.reply) for item in statement.contributions]
    numbers = {item.round for item in statement.contributions}
    unused = _unused_rounds(job, list(receipts.values()), min(numbers))
    receipted = [
        (name, item.round, item.reply)
        for name, receipt in receipts.items()
        for item in receipt.contributions
        if item.round in numbers or item.round not in unused
    ]
    case.require(
        "contributions_differ",
        sorted(claimed) == sorted(receipted),
        "its contributions are not those of the receipts",
    )


def _unused_rounds(job: Job, receipts: list[Receipt], first: int) -> set[int]:
    """Return the rounds that were answered and may be in no result.

    Where a party left, those before the `first` of those who stayed: they were asked anew. And
    rounds that a party of the result did not answer: such a sum is never opened.
    """
    times = Counter(item.round for receipt in receipts for item in receipt.contributions)
    answered = set(times)
    missed = {number for number in answered if times[number] < len(receipts)}
    left = len(receipts) < len(job.assets)
    return missed | {number for number in answered if left and number < first}


def _enough_parties(case: Case, job: Job, receipts: list[Receipt]) -> None:
    """A release rests on one receipt of each party, or of as many as every grant among them asks.

    Raises:
        RuleError: it does not.
    """
    assets = [receipt.asset for receipt in receipts]
    one_each = len(set(assets)) == len(assets) and set(assets) <= set(job.assets)
    needed = len(job.assets)
    if one_each and len(assets) < needed:
        grants = (case.history.by_id.get(receipt.grant or "") for receipt in receipts)
        needed = max(
            (item.read_as(Grant).minimum_parties for item in grants if item is not None),
            default=needed,
        )
    # Two assets of one provider hide nothing from each other, so the terms count providers.
    stayed = {case.history.get(asset, Asset).provider for asset in assets}
    case.require(
        "release_without_receipts",
        one_each and (len(assets) == len(job.assets) or len(stayed) >= needed),
        f"not every party's receipt is there, and {needed} must be",
    )


def _settlement(case: Case) -> None:
    statement = as_kind(case, Settlement)
    _, release = case.find(statement.release, Release)
    _, job = case.find(statement.job, Job)
    case.require("settlement_mismatch", release.job == statement.job, "bills another job's release")
    case.require("settlement_mismatch", job.researcher == statement.researcher, "bills another")
    case.require("duplicate_settlement", statement.job not in case.history.settled, "a second bill")
    billed = tuple(line.agreement for line in statement.lines)
    assets = {case.history.get(name, Receipt).asset for name in release.receipts}
    used = zip(job.assets, job.agreements, strict=True)
    due = tuple(agreement for asset, agreement in used if asset in assets)
    case.require("settlement_mismatch", billed == due, "not one line per agreement used")
    for line in statement.lines:
        _, agreement = case.find(line.agreement, Agreement)
        case.require(
            "wrong_price",
            (line.price_cents, line.provider) == (agreement.price_cents, agreement.provider),
            "a line is not the price agreed",
        )
        case.require("wrong_fee", line.fee_cents == agreement.fee_cents, "not the fee agreed")
    balanced = statement.postings == postings(statement.researcher, statement.lines)
    case.require("unbalanced", balanced, "the postings do not balance what the lines bill")


def _revocation(case: Case) -> None:
    statement = as_kind(case, Revocation)
    operator = case.history.operator
    kind = parse_id(statement.target)[0]
    # The operator may end a participant's key (lost or stolen), never an agreement between others.
    # And it alone says of a job that nothing of it will be released: that gives uses back.
    theirs = kind in ("participant", "job")
    by_operator = theirs and operator is not None and statement.issuer == operator.id
    may = by_operator or (kind != "job" and statement.issuer in _owners(case, statement.target))
    case.require("not_owner", may, "revokes what is not the issuer's")
    case.require(
        "revoked_release",
        statement.target not in case.history.released,
        "revokes a job whose result was released",
    )


def _owners(case: Case, target: str) -> tuple[str, ...]:
    history = case.history
    logged = history.by_id.get(target)
    if logged is None:
        raise EvidenceError(f"entry {case.logged.index} revokes an entry that stayed sealed")
    statement = logged.statement
    if isinstance(statement, Agreement):
        return (statement.provider, statement.researcher)
    if isinstance(statement, Asset | Offer | Grant):
        return (statement.provider,)
    return (target,)


def _has_role(case: Case, participant: str, role: str) -> None:
    statement = case.history.get(participant, Participant)
    case.require("wrong_role", role in statement.roles, f"{statement.name} is no {role}")


def as_kind(case: Case, kind: type[S]) -> S:
    """Return the statement of a case as the kind whose rule asks.

    Raises:
        StatementError: it is of another kind.
    """
    return case.logged.read_as(kind)


RULES: dict[str, Callable[[Case], Any]] = {
    "participant": _participant,
    "asset": _asset,
    "offer": _offer,
    "agreement": _agreement,
    "job": _job,
    "grant": _grant,
    "receipt": _receipt,
    "release": _release,
    "settlement": _settlement,
    "revocation": _revocation,
}
