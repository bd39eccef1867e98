"""A malicious signer against the auditor: every fault is found as itself, and nothing else is.

The history is generated (`tests/generated`): twenty nodes, jobs that overlap, refusals, failures,
new keys, revocations, erasures, closes and indexes of every epoch. The same history without faults
has no finding; that is the twin of every fault at once.
"""

import re
import resource
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.finding import GRAVE, MINOR, SERIOUS, Finding
from ledger.history import History
from ledger.ids import short
from ledger.reconcile import Evidence, Reconciliation, reconcile
from ledger.statements import Job
from ledger.verify import Audit, audit
from ledger.verify import Plan as AuditPlan
from tests.generated.injector import Injector, Lie
from tests.generated.market import Market, Plan

LARGE = Plan(
    jobs=100_000,
    seed=20_261,
    researchers=8,
    epoch_entries=10_000,
    grace_entries=1_000,
    quota=100,
    active=40,
    erasures=20,
)
ID = re.compile(r"[a-z_]+:[0-9a-f]{64}")


def audited(market: Market, processes: int = 1) -> Audit:
    plan = AuditPlan(processes=processes, most_findings=1_000)
    return audit(market.export(market.folder / "export"), market.log_key.verify_key, plan)


def told(history: History, finding: Finding) -> set[str]:
    """Everything that a finding names: its place, ids, entries, and the jobs of its entries."""
    names = {finding.where, *ID.findall(f"{finding.where} {finding.message}")}
    for index in finding.entries:
        names.add(f"entry {index}")
        names.update(job_of(history, index))
    return names


def job_of(history: History, index: int) -> Iterator[str]:
    refused = {item.index: item for item in history.refused.values()}
    logged = history.by_index.get(index) or refused.get(index)
    if logged is None:
        for reference in history.entries[index].references:
            if reference is not None and history.entries[reference].kind == "job":
                yield from job_of(history, reference)
    elif isinstance(logged.statement, Job):
        yield logged.id
    elif hasattr(logged.statement, "job"):
        yield logged.statement.job


def compare(history: History, lies: list[Lie], findings: list[Finding]) -> None:
    """Each lie is one finding that names it; no finding is left over."""
    assert Counter(item.code for item in findings) == Counter(item.code for item in lies)
    for lie in lies:
        alike = [item for item in findings if item.code == lie.code]
        assert any(lie.name in told(history, item) for item in alike), (lie, alike)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    with Market(Plan(seed=5), tmp_path_factory.mktemp("honest")) as market:
        market.run()
        yield market


@pytest.fixture(scope="module")
def checked(honest: Market) -> tuple[Audit, Reconciliation]:
    done = audited(honest)
    evidence = Evidence(
        journals=honest.journals(),
        tag_keys=honest.tag_keys(),
        canaries=honest.canaries,
        planter=honest.researchers[-1].id,
        roster=honest.roster,
        results=honest.results,
        opened=set(range(honest.book.size)) - honest.erased,
    )
    return done, reconcile(done.history, evidence)


def test_an_honest_history_has_no_finding(checked: tuple[Audit, Reconciliation]):
    done, result = checked
    assert done.verdict.status == "sound"
    assert result.findings == ()
    assert {item.code for item in result.missing} <= {"unchecked_index"}


def test_what_was_erased_is_counted_and_not_checked(
    honest: Market, checked: tuple[Audit, Reconciliation]
):
    done, result = checked
    assert done.verdict.erased == len(honest.erased) > 0
    assert sum(item.unmatched for item in result.journals) > 0


def test_every_stage_and_cent_of_an_honest_history_adds_up(checked: tuple[Audit, Reconciliation]):
    _, result = checked
    totals = result.accounts.totals
    assert totals["granted"] >= totals["started"] >= totals["completed"] > 0
    # Some failed before they began.
    assert totals["completed"] + totals["revoked"] + totals["failed"] > totals["started"]
    assert totals["revoked"] > 0
    assert totals["completed"] == totals["released"] == totals["settled"]
    assert (
        totals["billed_cents"]
        == totals["due_cents"]
        == (totals["fee_cents"] + totals["share_cents"])
    )
    assert sum(result.accounts.postings.values()) == 0
    budgets = [item for item in result.accounts.agreements.values() if item.budget_micro]
    assert all(0 <= item.spent_micro <= (item.budget_micro or 0) for item in budgets)
    assert sum(item.spent_micro for item in budgets) > 0
    assert all(not item.missing for item in result.epochs)


def test_without_journals_an_honest_history_has_no_finding_either(
    checked: tuple[Audit, Reconciliation],
):
    assert reconcile(checked[0].history).findings == ()


@pytest.fixture(scope="module")
def injected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Injector, Audit, Reconciliation]:
    with Market(Plan(seed=2), tmp_path_factory.mktemp("injected")) as market:
        injector = Injector(market)
        market.run()
        done = audited(market)
        return injector, done, reconcile(done.history, injector.evidence())


def test_every_fault_is_found_as_itself_and_nothing_else_is(
    injected: tuple[Injector, Audit, Reconciliation],
):
    injector, done, result = injected
    assert done.verdict.status == "tampered"
    compare(done.history, injector.lies, [*done.verdict.findings, *result.findings])


def test_every_fault_has_a_word_of_its_own(injected: tuple[Injector, Audit, Reconciliation]):
    codes = [lie.code for lie in injected[0].lies]
    # Some have one that another has: what a party that left makes possible, or a revoked job.
    shared = {"release_without_receipts", "contributions_differ", "settlement_mismatch"}
    shared |= {"revoked", "unlogged_result"}
    assert {code for code, times in Counter(codes).items() if times > 1} == shared
    assert len(set(codes)) == len(codes) - 5 == 67


def test_findings_of_all_three_grades_occur(injected: tuple[Injector, Audit, Reconciliation]):
    _, done, result = injected
    grades = {item.severity for item in (*done.verdict.findings, *result.findings)}
    assert grades == {GRAVE, SERIOUS, MINOR}


def test_without_the_evidence_the_liar_needs_fewer_lies_are_found(
    injected: tuple[Injector, Audit, Reconciliation],
):
    """The twin: what only a journal, a key or somebody outside shows is not seen without."""
    _, done, result = injected
    alone = {item.code for item in reconcile(done.history).findings}
    unseen = {item.code for item in result.findings} - alone
    assert unseen >= {
        "damaged_journal",
        "journal_mismatch",
        "missing_canary",
        "missing_line",
        "not_erased",
        "unknown_participant",
        "unlogged_result",
        "wrong_index_root",
        "wrong_result",
        "wrong_tag_key",
    }
    # An omitted receipt and a job beside the log are seen all the same: the closes count them.
    assert "missing_receipt" in alone


def test_the_same_seed_gives_the_same_log(tmp_path: Path):
    roots = []
    for name in ("one", "two"):
        with Market(Plan(jobs=20, seed=9), tmp_path / name) as market:
            market.run()
            roots.append(market.book.tree.root())
    assert roots[0] == roots[1]


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_a_hundred_thousand_jobs_with_every_fault(tmp_path: Path):
    start = time.perf_counter()
    with Market(LARGE, tmp_path) as market:
        injector = Injector(market)
        market.run()
        generated = time.perf_counter()
        done = audited(market, processes=2)
        replayed = time.perf_counter()
        result = reconcile(done.history, injector.evidence())
        ended = time.perf_counter()
    compare(done.history, injector.lies, [*done.verdict.findings, *result.findings])
    assert len(result.accounts.jobs) > 95_000
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(  # noqa: T201 - the figures of docs/measurements.md
        f"{market.book.size} entries, {result.checked['journal_lines']} journal lines: "
        f"generated in {generated - start:.0f} s, exported and audited in "
        f"{replayed - generated:.0f} s, reconciled in {ended - replayed:.0f} s, {peak} MB"
    )
    assert peak < 6_000


def test_names_are_told_by_place_id_entry_and_job():
    finding = Finding("missing_close", short("asset:" + "0" * 64), "no close")
    assert told(History(), finding) == {"asset:000000000000"}
