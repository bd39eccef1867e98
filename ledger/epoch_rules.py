"""What closes of epochs, use indexes, erasures and new keys may say, given what was logged before.

One pure function a kind, as in `ledger.kind_rules`. What is *missing* from a log is not decided
here but at its end, in `ledger.completeness`.
"""

from __future__ import annotations

from ledger.errors import EvidenceError, RuleError
from ledger.history import Logged
from ledger.keys import VerifyKey
from ledger.kind_rules import Case, as_kind
from ledger.statements import (
    Agreement,
    Asset,
    Epoch,
    Participant,
    Rotation,
    Schedule,
    Shred,
    UseIndex,
)


def check_schedule(case: Case) -> None:
    """A log has one schedule, for good: epochs are counted from its first entry."""
    as_kind(case, Schedule)
    case.require("second_schedule", case.history.schedule is None, "a log has one schedule")


def check_epoch(case: Case) -> None:
    """A node closes epoch after epoch, and its journal goes on where it stopped."""
    statement = as_kind(case, Epoch)
    history = case.history
    schedule = _check_span(case, statement.number, statement.start, statement.stop)
    listed, _ = case.find(statement.asset, Asset)
    before = history.last_close(statement.asset)
    sealed = history.sealed_closes.get(listed.index, [])
    if sealed and (before is None or before[0].index < sealed[-1]):
        raise EvidenceError(f"entry {sealed[-1]} (epoch) stayed sealed")
    if before is None:
        expected, previous, first = schedule.epoch_of(listed.index), None, 1
    else:
        logged, last = before
        expected, previous, first = last.number + 1, logged.id, last.journal.last + 1
    case.require(
        "close_gap",
        (statement.number, statement.previous) == (expected, previous),
        f"closes epoch {statement.number}, the node's next one is {expected}",
    )
    case.require(
        "journal_gap",
        statement.journal.first == first,
        f"its journal goes on at line {statement.journal.first}, expected {first}",
    )
    uses = history.uses(listed.index, statement.asset, statement.start, statement.stop)
    case.require(
        "wrong_uses",
        statement.uses == len(uses),
        f"counts {statement.uses} uses in the log, there are {len(uses)}",
    )


def check_use_index(case: Case) -> None:
    """The operator indexes epoch after epoch, each asset that was used once."""
    statement = as_kind(case, UseIndex)
    history = case.history
    _check_span(case, statement.number, statement.start, statement.stop)
    expected = history.next_use_index
    case.require(
        "index_gap",
        statement.number == expected,
        f"indexes epoch {statement.number}, the next one is {expected}",
    )
    used = history.used_assets(statement.start, statement.stop)
    case.require(
        "wrong_index",
        statement.tags == len(used),
        f"has {statement.tags} tags, {len(used)} assets were used",
    )


def check_shred(case: Case) -> None:
    """Only what nothing rests on any more is erased, once, and under its own kind."""
    statement = as_kind(case, Shred)
    history = case.history
    for index in statement.entries:
        known = index < case.logged.index and index < len(history.entries)
        case.require("wrong_shred", known, f"erases entry {index}, which is not before it")
        kind = history.entries[index].kind
        case.require("wrong_shred", kind == statement.erased_kind, f"entry {index} is a {kind}")
        case.require("wrong_shred", index not in history.shredded, f"erases entry {index} again")
        for agreement in history.agreements_under(index):
            _check_ended(case, agreement)


def check_rotation(case: Case) -> None:
    """An owner gives itself or its node a new key that nobody has used."""
    statement = as_kind(case, Rotation)
    history = case.history
    if statement.of_node:
        _, asset = case.find(statement.subject, Asset)
        case.require("not_owner", asset.provider == statement.issuer, "the asset is another's")
    else:
        history.get(statement.subject, Participant)
    public = VerifyKey.from_text(statement.new_key).public
    case.require("duplicate_key", public not in history.keys, "this key was in use already")


def _check_span(case: Case, number: int, start: int, stop: int) -> Schedule:
    schedule = case.history.schedule
    if schedule is None and case.history.sealed_schedule:
        raise EvidenceError("the schedule stayed sealed")
    if schedule is None:
        raise RuleError("no_schedule", f"entry {case.logged.index}: this log has no epochs")
    expected = (schedule.start(number), schedule.start(number + 1))
    case.require("wrong_span", (start, stop) == expected, f"epoch {number} has other entries")
    case.require("not_seen_yet", stop <= case.logged.index, "the epoch has not ended yet")
    return schedule


def _check_ended(case: Case, index: int) -> None:
    history = case.history
    if index in history.shredded:
        return
    logged: Logged | None = history.by_index.get(index)
    if logged is None or not isinstance(logged.statement, Agreement):
        raise EvidenceError(f"entry {index} (agreement) stayed sealed or was refused")
    ended = logged.statement.terms.until < case.logged.time
    revoked = history.revoked_before(logged.id, case.logged.index)
    case.require(
        "shred_too_early", ended or revoked, f"the agreement of entry {index} is still in force"
    )
