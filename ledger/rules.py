"""The rules that every entry of the log must keep, as pure functions over what came before.

`admit` takes the next entry, the hash of its leaf and, where it was opened, its statement, in this
fixed order: place in the chain; references; signatures of the right authors, none of them revoked;
then its time and the rule of its kind. It returns the verified statement or raises; either way the
history moves on, so that one bad entry does not hide the next.

    history = History()
    for index, entry in enumerate(entries):
        admit(history, entry, leaf_hash, openings[index].reveal(entry))

Server, node and auditor call this same function: the server before it accepts, the node before it
computes, the auditor afterwards.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

from ledger.entry import Entry
from ledger.epoch_rules import (
    check_epoch,
    check_rotation,
    check_schedule,
    check_shred,
    check_use_index,
)
from ledger.errors import (
    EvidenceError,
    LedgerError,
    RuleError,
    SealedGroundsError,
    SignatureError,
)
from ledger.history import History, Logged
from ledger.ids import parse_id
from ledger.keys import VerifyKey
from ledger.kind_rules import RULES as KIND_RULES
from ledger.kind_rules import Case
from ledger.statements import Author, Statement, Unverified

S = TypeVar("S", bound=Statement)

SKEW = 600_000
"""How far an author's clock may be ahead of the log's, milliseconds."""

RULES = {
    **KIND_RULES,
    "schedule": check_schedule,
    "epoch": check_epoch,
    "use_index": check_use_index,
    "shred": check_shred,
    "rotation": check_rotation,
}


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
        SealedGroundsError: signed by its authors, but a rule needs an entry that stayed sealed.
        EvidenceError: its authors' own entry stayed sealed.
        SignatureError: not signed by exactly its authors.
    """
    misplaced: RuleError | None = None
    try:
        history.extend(entry, leaf)
    except RuleError as error:
        misplaced = error
        if entry.index != history.size - 1:
            raise
    # Its place is wrong; what it says is checked all the same, because later entries rest on it.
    try:
        statement = _admit(history, entry, opened)
    except LedgerError:
        if misplaced is None:
            raise
        statement = None
    if misplaced is not None:
        if opened is not None and entry.index not in history.repeats:
            history.broken[opened.id] = misplaced.code
        raise misplaced
    return statement


def _admit(history: History, entry: Entry, opened: Unverified | None) -> Statement | None:
    if opened is None:
        _check_reference_kinds(history, entry)
        history.seal(entry)
        return None
    try:
        _check_new(history, opened, entry.index)
    except RuleError:
        history.repeat(entry)
        raise
    statement = opened.statement
    logged = Logged(entry.index, entry.time, opened.id, statement)
    try:
        _check_reference_kinds(history, entry)
        references = _match_references(history, entry, statement)
        history.name(references)
        verify_authors(history, logged, opened)
    except RuleError as error:
        history.refuse(logged, error.code)
        raise
    except SignatureError:
        history.refuse(logged, "bad_signature")
        raise
    except EvidenceError:
        # Its authors stayed sealed: it may be true. What counts receipts must not call it absent.
        history.pass_over(entry)
        raise
    case = Case(history, logged, references)
    try:
        _keep_rules(case)
    except LedgerError as error:
        # Its authors did say it, though it was not allowed: later entries may name it.
        if isinstance(error, RuleError):
            history.broken[logged.id] = error.code
        history.record(logged)
        if isinstance(error, EvidenceError):
            raise SealedGroundsError(str(error)) from error
        raise
    history.record(logged)
    history.take_effect(logged)
    return statement


def enter(history: History, entry: Entry, leaf: bytes, opened: Unverified) -> Statement:
    """Take the next entry of the log if it keeps every rule; if not, nothing changes.

    For whoever makes the entries, and can still leave one out. What this takes, `admit` takes.

    Args:
        history: all entries before it; this one is added.
        entry: the entry.
        leaf: hash of its leaf.
        opened: its statement, unverified.

    Raises:
        RuleError, EvidenceError, SignatureError: as `admit`; the history is as it was.
    """
    _check_new(history, opened, entry.index)
    _check_reference_kinds(history, entry)
    statement = opened.statement
    references = _match_references(history, entry, statement)
    logged = Logged(entry.index, entry.time, opened.id, statement)
    verify_authors(history, logged, opened)
    _keep_rules(Case(history, logged, references))
    history.extend(entry, leaf)
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
    _check_new(history, opened, history.size)
    statement = opened.statement
    logged = Logged(history.size, time, opened.id, statement)
    verify_authors(history, logged, opened)
    indexes = {
        reference: history.by_id[reference].index if reference in history.by_id else None
        for reference in statement.references()
        if reference is not None
    }
    _keep_rules(Case(history, logged, indexes))
    return statement


def _keep_rules(case: Case) -> None:
    statement, time = case.logged.statement, case.logged.time
    issued: int = vars(statement)["issued"]  # every kind has it
    if issued > time + SKEW:
        raise RuleError(
            "backdated",
            f"entry {case.logged.index} ({statement.kind}): signed {(issued - time) // 1000} "
            "seconds later than the log's time; set the signer's clock right, or the log's",
        )
    RULES[statement.kind](case)


def _check_new(history: History, opened: Unverified, index: int) -> None:
    first = history.place(opened.id)
    if first is not None:
        raise RuleError(
            "duplicate_statement", f"entry {index} ({opened.statement.kind}) repeats entry {first}"
        )


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
    "revocation": "participant participant|asset|offer|agreement|grant|job",
    "rotation": "participant asset?",
    "schedule": "",
    "epoch": "asset epoch?",
    "use_index": "",
    "shred": "",
}


_PATTERNS = {kind: pattern.split() for kind, pattern in _REFERENCE_KINDS.items()}


def _check_reference_kinds(history: History, entry: Entry) -> None:
    entries = history.entries
    kinds = tuple([None if i is None else entries[i].kind for i in entry.references])
    if not _matches(_REFERENCE_KINDS[entry.kind], kinds):
        raise RuleError(
            "references_mismatch", f"entry {entry.index} ({entry.kind}) refers to the wrong kinds"
        )
    # A refusal may name a job that is not in the log, or have no grant; its asset is always there.
    absent = kinds[:1] if entry.kind == "receipt" else kinds
    if None in absent:
        raise RuleError("references_mismatch", f"entry {entry.index} lacks a reference")


# There are few patterns, and most entries of a kind refer to the same kinds.
@lru_cache(1024)
def _matches(pattern: str, kinds: tuple[str | None, ...]) -> bool:
    position = 0
    for item in pattern.split():
        allowed = item.rstrip("*?").split("|")
        start = position
        while position < len(kinds) and (kinds[position] is None or kinds[position] in allowed):
            position += 1
            if not item.endswith("*"):
                break
        if position == start and not item.endswith("?"):
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
    found = {}
    for statement_id, index in zip(named, entry.references, strict=True):
        known = history.by_id.get(statement_id or "")
        if known is None or known.index != index:
            _match_reference(history, entry, statement_id, index)
        if statement_id is not None:
            found[statement_id] = index
    return found


def _match_reference(
    history: History, entry: Entry, statement_id: str | None, index: int | None
) -> None:
    if statement_id is None:
        matches = index is None
    elif (known := history.by_id.get(statement_id)) is not None:
        matches = known.index == index
    else:
        # Not opened here, or not in the log: its kind must fit where it is said to stand.
        matches = index is None or (
            index not in history.by_index
            and parse_id(statement_id)[0] == history.entries[index].kind
        )
    if not matches:
        raise RuleError(
            "references_mismatch",
            f"entry {entry.index} refers to entry {index}, its statement to another",
        )


def verify_authors(history: History, logged: Logged, opened: Unverified) -> None:
    """Return only if exactly its authors signed a statement, with the keys that they had then.

    Raises:
        SignatureError: they did not.
        RuleError: no operator has enrolled, or a key was revoked before.
        EvidenceError: an author is not among the statements read.
    """
    authors = logged.statement.authors()
    keys = [_author_key(history, author, logged) for author in authors]
    try:
        opened.verify(*keys)
    except SignatureError as error:
        raise SignatureError(f"entry {logged.index} ({logged.statement.kind}): {error}") from error


def _author_key(history: History, author: Author, logged: Logged) -> VerifyKey:
    if author.role == "key":
        return VerifyKey.from_text(author.subject)
    signer = history.signers.get(author)
    if signer is None:
        if author.role == "operator" and history.operator is None:
            if history.sealed_participant:
                raise EvidenceError("the operator's enrolment stayed sealed")
            raise RuleError("no_operator", f"entry {logged.index}: no operator has enrolled yet")
        signer = history.signer(author)
    for subject in signer.subjects if history.revoked else ():
        if history.revoked_before(subject, logged.index):
            raise RuleError(
                "revoked_key",
                f"entry {logged.index} ({logged.statement.kind}) is signed by a key that was "
                f"revoked in entry {history.revoked[subject]}",
            )
    return signer.key
