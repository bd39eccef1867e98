"""The rules that every entry of the log must keep, as pure functions over what came before.

`admit` takes the next entry, the hash of its leaf and, where it was opened, its statement, in this
fixed order: place in the chain; references; signatures of the right authors, none of them revoked;
then the rule of its kind. It returns the verified statement or raises; either way the history
moves on, so that one bad entry does not hide the next.

    history = History()
    for index, entry in enumerate(entries):
        admit(history, entry, leaf_hash, openings[index].reveal(entry))

Server, node and auditor call this same function: the server before it accepts, the node before it
computes, the auditor afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ledger.entry import Entry
from ledger.errors import EvidenceError, LedgerError, RuleError, SignatureError, StatementError
from ledger.history import History, Logged
from ledger.ids import parse_id
from ledger.keys import VerifyKey
from ledger.statements import (
    Agreement,
    Asset,
    Author,
    Grant,
    Job,
    Offer,
    Participant,
    Receipt,
    Release,
    Revocation,
    Settlement,
    Statement,
    Unverified,
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


def admit(
    history: History, entry: Entry, leaf: bytes, opened: Unverified | None
) -> Statement | None:
    """Take the next entry of the log.

    Args:
        history: all entries before it; this one is added.
        entry: the entry.
        leaf: hash of its leaf.
        opened: its statement, unverified; None where it stayed sealed.

    Returns:
        The verified statement; None where it stayed sealed.

    Raises:
        RuleError: the entry breaks a rule; `code` names it.
        EvidenceError: a rule needs an entry that stayed sealed.
        SignatureError: not signed by exactly its authors.
    """
    history.extend(entry, leaf)
    _check_reference_kinds(history, entry)
    if opened is None:
        history.checked["sealed"] += 1
        return None
    statement = opened.statement
    references = _match_references(history, entry, statement)
    logged = Logged(entry.index, entry.time, opened.id, statement)
    _verify_authors(history, logged, opened)
    case = Case(history, logged, references)
    try:
        _RULES[statement.kind](case)
    except LedgerError as error:
        # Its authors did say it, though it was not allowed: later entries may name it.
        history.record(logged)
        if isinstance(error, RuleError):
            history.broken[logged.id] = error.code
        raise
    history.record(logged)
    history.take_effect(logged)
    return statement


def check(history: History, opened: Unverified, time: int) -> Statement:
    """Verify a statement that is not in the log yet against all that is.

    Args:
        history: the log so far; left as it was.
        opened: the statement, unverified.
        time: now, Unix milliseconds.

    Raises:
        RuleError, EvidenceError, SignatureError: as `admit`.
    """
    statement = opened.statement
    logged = Logged(history.size, time, opened.id, statement)
    _verify_authors(history, logged, opened)
    indexes = {
        reference: history.by_id[reference].index if reference in history.by_id else None
        for reference in statement.references()
        if reference is not None
    }
    _RULES[statement.kind](Case(history, logged, indexes))
    return statement


# Kinds that the references of each kind of entry may have, for entries that stay sealed too.
_REFERENCE_KINDS: dict[str, str] = {
    "participant": "",
    "asset": "participant",
    "offer": "participant asset",
    "agreement": "participant participant asset offer",
    "job": "participant asset* agreement*",
    "grant": "participant asset agreement job",
    "receipt": "asset job grant",
    "release": "job receipt*",
    "settlement": "job release agreement*",
    "revocation": "participant participant|asset|offer|agreement|grant",
}


def _check_reference_kinds(history: History, entry: Entry) -> None:
    kinds = [None if i is None else history.entries[i].kind for i in entry.references]
    if not _matches(_REFERENCE_KINDS[entry.kind].split(), kinds):
        raise RuleError(
            "references_mismatch", f"entry {entry.index} ({entry.kind}) refers to the wrong kinds"
        )
    # A refusal may name a job that is not in the log, or have no grant; its asset is always there.
    absent = kinds[:1] if entry.kind == "receipt" else kinds
    if None in absent:
        raise RuleError("references_mismatch", f"entry {entry.index} lacks a reference")


def _matches(pattern: list[str], kinds: list[str | None]) -> bool:
    position = 0
    for item in pattern:
        allowed = item.removesuffix("*").split("|")
        start = position
        while position < len(kinds) and (kinds[position] is None or kinds[position] in allowed):
            position += 1
            if not item.endswith("*"):
                break
        if position == start:
            return False
    return position == len(kinds)


def _match_references(
    history: History, entry: Entry, statement: Statement
) -> dict[str, int | None]:
    named = statement.references()
    if len(named) != len(entry.references):
        raise RuleError(
            "references_mismatch",
            f"entry {entry.index} and its statement refer to different things",
        )
    for statement_id, index in zip(named, entry.references, strict=True):
        _match_reference(history, entry, statement_id, index)
    return {
        statement_id: index
        for statement_id, index in zip(named, entry.references, strict=True)
        if statement_id is not None
    }


def _match_reference(
    history: History, entry: Entry, statement_id: str | None, index: int | None
) -> None:
    known = history.by_id.get(statement_id) if statement_id is not None else None
    at_index = history.by_index.get(index) if index is not None else None
    wrong_id = at_index is not None and at_index.id != statement_id
    wrong_index = known is not None and known.index != index
    wrong_kind = (
        statement_id is not None
        and index is not None
        and parse_id(statement_id)[0] != history.entries[index].kind
    )
    if wrong_id or wrong_index or wrong_kind or (statement_id is None and index is not None):
        raise RuleError(
            "references_mismatch",
            f"entry {entry.index} refers to entry {index}, its statement to another",
        )


def _verify_authors(history: History, logged: Logged, opened: Unverified) -> None:
    authors = logged.statement.authors()
    keys = [_author_key(history, author, logged) for author in authors]
    try:
        opened.verify(*keys)
    except SignatureError as error:
        raise SignatureError(f"entry {logged.index} ({logged.statement.kind}): {error}") from error


def _author_key(history: History, author: Author, logged: Logged) -> VerifyKey:
    if author.role == "key":
        return VerifyKey.from_text(author.subject)
    if author.role == "operator":
        if history.operator is None:
            raise RuleError("no_operator", f"entry {logged.index}: no operator has enrolled yet")
        owner = history.operator.id
        key = history.participant_key(owner)
    elif author.role == "node":
        owner = history.get(author.subject, Asset).provider
        key = history.node_key(author.subject)
    else:
        owner = author.subject
        key = history.participant_key(owner)
    for subject in (owner, author.subject):
        if subject and history.revoked_before(subject, logged.index):
            raise RuleError(
                "revoked_key",
                f"entry {logged.index} ({logged.statement.kind}) is signed by a key that was "
                f"revoked in entry {history.revoked[subject]}",
            )
    return key


def _participant(case: Case) -> None:
    statement: Participant = _as(case, Participant)
    is_operator = "operator" in statement.roles
    known = case.history.operator
    case.require("second_operator", not (is_operator and known), "a log has one operator")
    case.require("no_operator", is_operator or known is not None, "the operator enrols first")
    public = VerifyKey.from_text(statement.key).public
    case.require("duplicate_key", public not in case.history.keys, "this key is enrolled already")


def _asset(case: Case) -> None:
    statement = _as(case, Asset)
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
    statement = _as(case, Offer)
    case.in_force(statement.asset, "asset")
    _, asset = case.find(statement.asset, Asset)
    case.require("not_owner", asset.provider == statement.provider, "offers another's asset")


def _agreement(case: Case) -> None:
    statement = _as(case, Agreement)
    _has_role(case, statement.researcher, "researcher")
    case.in_force(statement.offer, "offer")
    case.in_force(statement.asset, "asset")
    _, offer = case.find(statement.offer, Offer)
    case.require("not_owner", offer.provider == statement.provider, "the offer is another's")
    case.require("agreement_mismatch", offer.asset == statement.asset, "is on another asset")


def _job(case: Case) -> None:
    statement = _as(case, Job)
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
    statement = _as(case, Grant)
    _, job = case.find(statement.job, Job)
    _, agreement = case.find(statement.agreement, Agreement)
    case.in_force(statement.agreement, "agreement")
    case.in_force(statement.asset, "asset")
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
    request = Request(
        task=job.task,
        purpose=job.purpose,
        recipient=job.researcher,
        parties=len(job.assets),
        exact=True,
        time=case.logged.time,
    )
    decision = evaluate(agreement.terms, request, case.history.completed_uses[statement.agreement])
    case.require("outside_terms", decision.permitted, decision.detail)


def _receipt(case: Case) -> None:
    statement = _as(case, Receipt)
    case.require(
        "not_seen_yet",
        statement.log_size <= case.logged.index,
        "claims to have read entries that came later",
    )
    if statement.state == "completed":
        _completed_receipt(case, statement)


def _completed_receipt(case: Case, statement: Receipt) -> None:
    grant_id = statement.grant or ""
    granted, grant = case.find(grant_id, Grant)
    requested, job = case.find(statement.job, Job)
    case.require(
        "grant_mismatch",
        grant.job == statement.job and grant.asset == statement.asset,
        "the grant is for another job or asset",
    )
    seen = max(granted.index, requested.index) < statement.log_size
    case.require("not_proven", seen, "computed before job and grant were in the log")
    case.require(
        "code_unknown",
        statement.code_digest == job.code_digest,
        "ran other code than the job names",
    )
    for subject in (grant_id, grant.agreement, statement.asset, job.researcher):
        case.require(
            "revoked",
            not case.history.revoked_before(subject, statement.log_size),
            "computed under something revoked",
        )
    case.require(
        "too_many_rounds", len(statement.contributions) <= grant.rounds, "more rounds than granted"
    )
    before = case.history.completed.get(statement.job, [])
    repeats = any(
        isinstance(item.statement, Receipt) and item.statement.asset == statement.asset
        for item in before
    )
    case.require("duplicate_receipt", not repeats, "this job was receipted already")
    agreement = case.history.get(grant.agreement, Agreement)
    uses = case.history.completed_uses[grant.agreement] + 1
    case.require(
        "over_quota",
        uses <= agreement.terms.uses,
        f"use {uses} of {agreement.terms.uses} under the agreement",
    )


def _release(case: Case) -> None:
    statement = _as(case, Release)
    requested, job = case.find(statement.job, Job)
    case.require(
        "duplicate_release", statement.job not in case.history.released, "a second release"
    )
    receipts = {item: case.find(item, Receipt)[1] for item in statement.receipts}
    case.require(
        "release_without_receipts",
        sorted(receipt.asset for receipt in receipts.values()) == sorted(job.assets),
        "not every party's receipt is there",
    )
    for receipt in receipts.values():
        case.require(
            "release_without_receipts",
            receipt.state == "completed" and receipt.job == requested.id,
            "rests on a receipt that is not a completed one of this job",
        )
    claimed = [(item.receipt, item.round, item.reply) for item in statement.contributions]
    receipted = [
        (name, item.round, item.reply)
        for name, receipt in receipts.items()
        for item in receipt.contributions
    ]
    case.require(
        "contributions_differ",
        sorted(claimed) == sorted(receipted),
        "its contributions are not those of the receipts",
    )


def _settlement(case: Case) -> None:
    statement = _as(case, Settlement)
    _, release = case.find(statement.release, Release)
    _, job = case.find(statement.job, Job)
    case.require("settlement_mismatch", release.job == statement.job, "bills another job's release")
    case.require("settlement_mismatch", job.researcher == statement.researcher, "bills another")
    case.require("duplicate_settlement", statement.job not in case.history.settled, "a second bill")
    billed = tuple(line.agreement for line in statement.lines)
    case.require("settlement_mismatch", billed == job.agreements, "not one line per agreement")
    for line in statement.lines:
        _, agreement = case.find(line.agreement, Agreement)
        case.require(
            "wrong_price",
            (line.price_cents, line.provider) == (agreement.price_cents, agreement.provider),
            "a line is not the price agreed",
        )
    balanced = statement.postings == postings(statement.researcher, statement.lines)
    case.require("unbalanced", balanced, "the postings do not balance what the lines bill")


def _revocation(case: Case) -> None:
    statement = _as(case, Revocation)
    owners = _owners(case, statement.target)
    operator = case.history.operator
    kind = parse_id(statement.target)[0]
    # The operator may end a participant's key (lost or stolen), never an agreement between others.
    by_operator = kind == "participant" and operator is not None and statement.issuer == operator.id
    case.require(
        "not_owner", statement.issuer in owners or by_operator, "revokes what is not the issuer's"
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


def _as(case: Case, kind: type[S]) -> S:
    statement = case.logged.statement
    if not isinstance(statement, kind):
        raise StatementError(f"entry {case.logged.index} is no {kind.kind}")
    return statement


_RULES: dict[str, Callable[[Case], Any]] = {
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
