"""The table of checks in an audit report: what was asked, how often, and what came of it.

Decides which finding belongs to which check, and which checks could not be made and why. Every
check of the verifier has one line here; a finding that no other line claims belongs to the rules of
the kind of its entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from ledger.finding import Finding
from ledger.history import History
from ledger.statements import KINDS


@dataclass(frozen=True)
class Check:
    """One question that was asked of the evidence.

    Attributes:
        name: its fixed word.
        question: in words.
        counts: names of the counts that say how often it was asked; the first that is there counts.
        codes: findings and missing things that belong to it.
        needs: what must be given for it; empty where the log itself is enough.
    """

    name: str
    question: str
    counts: tuple[str, ...]
    codes: frozenset[str] = frozenset()
    needs: str = ""


def _check(name: str, question: str, counts: str, codes: str, needs: str = "") -> Check:
    return Check(name, question, tuple(counts.split()), frozenset(codes.split()), needs)


CHECKS = (
    _check(
        "checkpoint",
        "Is the checkpoint signed by the log, cosigned by a quorum, and an extension of all that "
        "were verified before?",
        "checkpoints",
        "rolled_back split_view untrusted unusable_checkpoint",
    ),
    _check(
        "freshness",
        "Does a quorum of witnesses say that the checkpoint was the newest a short time ago?",
        "fresh_checkpoints",
        "stale",
        "a policy with a quorum of witnesses, and a longest age",
    ),
    _check(
        "kept",
        "Does the log begin with the checkpoints that the auditor kept from before?",
        "kept_checkpoints",
        "",
        "checkpoints kept from before",
    ),
    _check(
        "files",
        "Is every file exactly the one that the signed manifest lists, and no other there?",
        "files",
        "damaged unlisted_file missing_file unreadable check_failed",
        "an exported folder",
    ),
    _check(
        "tiles",
        "Are the hash tiles those of the entries?",
        "tiles",
        "wrong_tile",
        "an exported folder",
    ),
    _check(
        "chain",
        "Is each entry well formed, in its place and time, chained to the one before, and no "
        "repetition; is the signed root theirs?",
        "entries",
        "wrong_root malformed_entry chain_broken time_goes_back backdated duplicate_statement",
    ),
    _check(
        "openings",
        "Does each opened statement match the commitment in its entry?",
        "opened",
        "wrong_opening malformed_statement missing_opening wrong_view nothing_checked",
    ),
    _check(
        "signatures",
        "Is each statement signed by exactly its authors, with keys valid at its index?",
        "signatures",
        "bad_signature revoked_key no_operator second_operator duplicate_key no_recovery_key",
    ),
    _check(
        "references",
        "Does each entry refer to what its statement refers to?",
        "opened",
        "references_mismatch unknown_reference",
    ),
    _check(
        "contributions",
        "Is each release made of exactly the contributions that were receipted?",
        "contributions",
        "contributions_differ",
    ),
    _check(
        "jobs",
        "Was every job that all nodes completed also released and billed, or is its end explained?",
        "reconciled_jobs",
        "unfinished_job unreleased_job unsettled_job",
        "a schedule in the log",
    ),
    _check(
        "closes",
        "Has each node closed every epoch that is due, and do the counts agree with the receipts?",
        "closes",
        "missing_close missing_receipt uncounted_receipt close_gap wrong_uses",
        "a schedule in the log",
    ),
    _check(
        "journals",
        "Do the nodes' own journals and the log tell the same story, line by line?",
        "journal_lines",
        "damaged_journal unknown_journal journal_mismatch journal_gap journal_fork unlogged_job "
        "ungranted_job unlaunched_job wrong_counts",
        "journals from the nodes",
    ),
    _check(
        "use_indexes",
        "Are the logged indexes of used assets complete, and do they have the right roots?",
        "recomputed_use_indexes",
        "missing_index wrong_index_root wrong_tag_key unchecked_index index_gap wrong_index",
        "tag keys of the assets",
    ),
    _check(
        "canaries",
        "Are the jobs that the auditor planted in the log?",
        "canaries",
        "missing_canary unseen_canary",
        "planted jobs",
    ),
    _check(
        "results",
        "Did each buyer get the very result that was released?",
        "compared_results",
        "wrong_result unlogged_result",
        "results that buyers got",
    ),
    _check(
        "roster",
        "Is every participant one that vouched for its key outside the log?",
        "roster",
        "unknown_participant",
        "keys that participants gave the auditor",
    ),
    _check(
        "erasures",
        "Is every erased statement erased by the word of the log, and none kept?",
        "shredded",
        "erased_unlogged unlogged_erasure not_erased wrong_shred shred_too_early",
    ),
)
_CLAIMED: Mapping[str, str] = {code: check.name for check in CHECKS for code in check.codes}


def table(
    checked: Mapping[str, int],
    findings: Iterable[Finding],
    missing: Iterable[Finding],
    kind_of: Callable[[Finding], str | None],
) -> Iterator[dict[str, object]]:
    """Yield one row a check: how often it was made, and how many findings it led to.

    Args:
        checked: how many of each thing were checked.
        findings: what is wrong.
        missing: what lacks.
        kind_of: kind of the entry that a finding is about.
    """
    wrong, lacking = _sorted(findings, kind_of), _sorted(missing, kind_of)
    for check in CHECKS:
        count = next((checked[name] for name in check.counts if name in checked), 0)
        row = (check.name, check.question, count)
        yield _row(*row, wrong.pop(check.name, 0), lacking.pop(check.name, 0), check.needs)
    for kind in sorted(KINDS):
        name = f"rules:{kind}"
        question = f"Does each {kind.replace('_', ' ')} keep the rules of its kind?"
        broken, lacks = wrong.pop(name, 0), lacking.pop(name, 0)
        # Those that rest on sealed statements were not asked everything: they do not count.
        yield _row(name, question, checked.get(kind, 0) + broken, broken, lacks, "")
    left = (sum(wrong.values()), sum(lacking.values()))
    if any(left):
        yield _row("other", "Is there anything else that was noticed?", sum(left), *left, "")


def _row(
    name: str, question: str, count: int, findings: int, missing: int, needs: str
) -> dict[str, object]:
    made = bool(count or findings or missing)
    why = None
    if not made:
        why = f"needs {needs}" if needs else "there was nothing to ask it of"
    return {
        "check": name,
        "question": question,
        "checked": count,
        "findings": findings,
        "missing": missing,
        "not_made": why,
    }


def _sorted(items: Iterable[Finding], kind_of: Callable[[Finding], str | None]) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in items:
        kind = kind_of(item)
        name = _CLAIMED.get(item.code) or (f"rules:{kind}" if kind else "other")
        found[name] = found.get(name, 0) + 1
    return found


def kind_in(history: History) -> Callable[[Finding], str | None]:
    """Return what tells the kind of the entry that a finding is about."""

    def kind_of(item: Finding) -> str | None:
        word, _, number = item.where.partition(" ")
        index = int(number) if word == "entry" and number.isdecimal() else None
        if index is None or index >= history.size:
            return None
        return history.entries[index].kind

    return kind_of
