"""Log, journals, bills, tag keys and the auditor's own knowledge, held against each other.

    result = reconcile(history, Evidence(journals=…, tag_keys=…, canaries=…))
    result.findings, result.accounts.totals

Comes after a replay (`ledger.rules.admit` for every entry) and looks at what no single entry
shows: what is missing (`ledger.completeness`), what the nodes wrote down (`ledger.journal_check`),
how far each job came and what was paid (`ledger.accounts`), whether the indexes of used assets are
those of their tags, and what the auditor knows from elsewhere: its planted jobs, the keys that
participants handed it, the results that buyers got.

An invented participant cannot be told from a real one by the log alone, nor a swapped result from
the true one: both need what only somebody outside can know. So those two are checks of `Evidence`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ledger import completeness, use_index
from ledger.accounts import Accounts
from ledger.completeness import Closed
from ledger.encoding import sha256_text
from ledger.errors import EvidenceError
from ledger.finding import Finding
from ledger.history import History
from ledger.ids import short
from ledger.journal_check import JournalAccount, check_journal
from ledger.statements import (
    Grant,
    Job,
    Participant,
    Receipt,
    Release,
    Settlement,
    Statement,
    UseIndex,
)
from ledger.tally import Tags, Tally


@dataclass(frozen=True)
class Evidence:
    """What an auditor holds besides the log; every part is optional.

    Attributes:
        journals: name and bytes of each exported journal; read one at a time.
        tag_keys: the tag key of each asset, by its id; None where nobody gave any.
        canaries: ids or nonces of jobs that the auditor planted.
        planter: the participant in whose name; sealed jobs of others are then known not to be them.
        roster: verifier keys, as text, that participants handed over outside the log; None where
            nobody asked them.
        results: digest of the result that its buyer got, by job.
        opened: entries whose statements an export opens, to compare with what was erased.
    """

    journals: Iterable[tuple[str, bytes]] = ()
    tag_keys: Mapping[str, bytes] | None = None
    canaries: Iterable[str] = ()
    planter: str | None = None
    roster: Collection[str] | None = None
    results: Mapping[str, str] = field(default_factory=dict)
    opened: Collection[int] = ()


@dataclass(frozen=True)
class Reconciliation:
    """What does not fit together, and what was counted.

    Attributes:
        findings: what is wrong; those of the replay are not repeated.
        missing: what could not be checked for want of evidence.
        accounts: every agreement and job, with totals.
        epochs: which epochs each asset's node closed.
        journals: what each journal said; its findings stand in `findings` too.
        checked: counts of what was compared.
    """

    findings: tuple[Finding, ...]
    missing: tuple[Finding, ...]
    accounts: Accounts
    epochs: tuple[Closed, ...]
    journals: tuple[JournalAccount, ...]
    checked: Mapping[str, int]


NOTHING = Evidence()


def reconcile(
    history: History, evidence: Evidence = NOTHING, tally: Tally | None = None
) -> Reconciliation:
    """Hold everything against everything.

    Args:
        history: the log, read to its end.
        evidence: what else the auditor has.
        tally: of this history, so that nothing is read twice; made where it is not given.
    """
    tally = tally or Tally.of(history)
    accounts = tally.accounts
    accounts.forget_starts()
    findings: list[Finding] = []
    explained = {job for item in history.broken for job in _job_of(history, item)}
    journals = []
    for name, data in evidence.journals:
        account = check_journal(history, data, name, tally)
        journals.append(account)
        findings.extend(account.findings)
        accounts.add_starts(account.starts)
    compared = {account.asset for account in journals if account.lines}
    findings.extend(completeness.check(history, tally, journals=compared))
    findings.extend(completeness.kept_after_erasure(history, evidence.opened))
    missing: list[Finding] = []
    tags = _TagCheck(history, evidence.tag_keys, tally.tags)
    findings.extend(tags.check(missing))
    known = explained | _named_jobs(history, findings)
    findings.extend(_check_canaries(history, accounts, evidence, known, missing))
    findings.extend(_check_roster(history, tally, evidence.roster))
    findings.extend(_check_results(history, accounts, evidence.results))
    findings.extend(accounts.stopped_jobs(history, explained | _named_jobs(history, findings)))
    checked = {
        "journals": len(compared),
        "journal_lines": sum(account.lines for account in journals),
        "jobs": len(accounts.jobs),
        "agreements": len(accounts.agreements),
        "use_indexes": tags.recomputed,
        "results": len(evidence.results),
    }
    epochs = tuple(completeness.closed_epochs(history, tally))
    return Reconciliation(
        tuple(findings), tuple(missing), accounts, epochs, tuple(journals), checked
    )


def _job_of(history: History, statement_id: str) -> Iterator[str]:
    logged = history.by_id.get(statement_id) or history.refused.get(statement_id)
    if logged is not None:
        yield from _jobs(logged.id, logged.statement)


def _jobs(statement_id: str, statement: Statement) -> Iterator[str]:
    if isinstance(statement, Job):
        yield statement_id
    elif isinstance(statement, Grant | Receipt | Release | Settlement):
        yield statement.job


def _named_jobs(history: History, findings: Iterable[Finding]) -> set[str]:
    """Return the jobs whose entries prove findings: of these the auditor hears already."""
    found: set[str] = set()
    for finding in findings:
        for index in finding.entries:
            logged = history.by_index.get(index)
            if logged is not None:
                found.update(_jobs(logged.id, logged.statement))
    return found


class _TagCheck:
    """Recomputes use indexes from the assets' tag keys."""

    def __init__(self, history: History, keys: Mapping[str, bytes] | None, known: Tags) -> None:
        self.history = history
        self.known = known
        self.keys = keys
        self.recomputed = 0
        self._wrong: set[str] = set()

    def check(self, missing: list[Finding]) -> Iterator[Finding]:
        """Yield wrong keys and indexes; what lacks evidence is added to `missing`."""
        if self.keys is None:
            return
        digests = {asset: sha256_text(key) for asset, key in self.keys.items()}
        self.known.hold_against(digests)
        for asset, key in self.keys.items():
            if asset not in self.known.keys:
                yield from self._check_key(asset, key)
                if asset not in self._wrong:
                    self.known.keys[asset] = digests[asset]
        yield from self._check_indexes(missing)

    def _check_indexes(self, missing: list[Finding]) -> Iterator[Finding]:
        for logged in self.history.use_indexes:
            if logged.id in self.history.broken:
                continue
            if logged.index in self.known.indexes:
                self.recomputed += 1
                continue
            index, where = logged.read_as(UseIndex), f"entry {logged.index}"
            try:
                root = self._root(index)
            except EvidenceError as error:
                message = f"the index of epoch {index.number}: {error}"
                missing.append(Finding("unchecked_index", where, message, (logged.index,)))
                continue
            self.recomputed += 1
            if root == index.root:
                self.known.indexes.add(logged.index)
            else:
                message = f"the index of epoch {index.number} is not that of the assets used in it"
                yield Finding("wrong_index_root", where, message, (logged.index,))

    def _check_key(self, asset: str, key: bytes) -> Iterator[Finding]:
        logged = self.history.by_id.get(asset)
        committed = logged and getattr(logged.statement, "tag_commitment", None)
        if len(key) != use_index.KEY_BYTES or committed != use_index.commit(key):
            self._wrong.add(asset)
            proof = () if logged is None else (logged.index,)
            yield Finding(
                "wrong_tag_key",
                asset,
                "is not the key that the asset's statement commits to",
                proof,
            )

    def _root(self, index: UseIndex) -> str:
        tags = []
        for asset in self.history.used_assets(index.start, index.stop):
            if asset in self._wrong or asset not in (self.keys or {}):
                raise EvidenceError(f"the tag key of {short(asset)} is not there")
            tags.append(use_index.tag((self.keys or {})[asset], asset, index.number))
        return use_index.root_of(use_index.sorted_tags(tags))


def _check_canaries(
    history: History,
    accounts: Accounts,
    evidence: Evidence,
    explained: Collection[str],
    missing: list[Finding],
) -> Iterator[Finding]:
    canaries = tuple(evidence.canaries)
    by_nonce = accounts.by_nonce(canaries)
    sealed = _sealed_jobs(history, evidence.planter)
    for canary in canaries:
        account = accounts.jobs.get(by_nonce.get(canary, canary))
        if account is None and sealed:
            message = f"the planted job may be one of {sealed} that stayed sealed"
            missing.append(Finding("unseen_canary", canary, message))
        elif account is None:
            yield Finding("missing_canary", canary, "the planted job is not in the log")
        elif not (account.ends or account.logged.id in explained or account.is_recent(history)):
            place = f"entry {account.logged.index}"
            message = f"the planted job in {place} has no receipt"
            yield Finding("missing_canary", canary, message, (account.logged.index,))


def _sealed_jobs(history: History, planter: str | None) -> int:
    """Count the sealed jobs that may be the planter's: an entry shows who asked."""
    asked = {index for indexes in history.sealed_jobs.values() for index in indexes}
    if planter is None or planter not in history.by_id:
        return len(asked)
    own = history.by_id[planter].index
    return sum(history.entries[index].references[0] == own for index in asked)


def _check_roster(
    history: History, tally: Tally, roster: Collection[str] | None
) -> Iterator[Finding]:
    if roster is None:
        return
    for logged in tally.participants():
        statement = logged.read_as(Participant)
        # Whoever was asked named the key it has today, which may have replaced the enrolled one.
        if {statement.key, history.participant_key(logged.id).text}.isdisjoint(roster):
            yield Finding(
                "unknown_participant",
                f"entry {logged.index}",
                f"{statement.name} enrolled with a key that nobody outside the log vouches for",
                (logged.index,),
            )


def _check_results(
    history: History, accounts: Accounts, results: Mapping[str, str]
) -> Iterator[Finding]:
    for job, digest in results.items():
        logged, account = history.released.get(job), accounts.jobs.get(job)
        if logged is None:
            # It may be sealed, and the job too: then nobody can compare.
            if history.sealed_jobs if account is None else account.released:
                continue
            asked = history.by_id.get(job)
            proof = () if asked is None else (asked.index,)
            message = "its buyer got a result that was never released"
            yield Finding("unlogged_result", job, message, proof)
        elif logged.read_as(Release).result != digest:
            yield Finding(
                "wrong_result",
                f"entry {logged.index}",
                f"releases another result than the buyer of {short(job)} got",
                (logged.index,),
            )
