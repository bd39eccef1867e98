"""Reading a log in parts, with a new process for each, finds what reading it at once finds.

The history is that of `test_generated_history`, with every fault in it, so that what is remembered
between two parts is of every kind: jobs under way, closes that do not fit, receipts that come late.
"""

import json
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.errors import LedgerError
from ledger.history import History
from ledger.merkle import leaf_hash
from ledger.mirror import Mirror
from ledger.monitor import Monitor
from ledger.reconcile import Evidence, Reconciliation, reconcile
from ledger.rules import admit
from ledger.standing import standing
from ledger.tally import Tally
from ledger.trust import Policy
from tests.generated.injector import Injector
from tests.generated.market import Market, Plan
from tests.generated.prefix import Prefix, journals_at

pytestmark = pytest.mark.slow


class Case:
    """A market, and what an auditor is given at each time."""

    def __init__(self, market: Market, evidence: Evidence) -> None:
        self.market = market
        self.policy = Policy.of(market.log_key.verify_key)
        self.size = market.book.size
        self._evidence = evidence
        self._journals = list(self._evidence.journals)

    def evidence(self, history: History, size: int, *, journals: bool = True) -> Evidence:
        """What is there when the log has `size` entries."""
        if not journals:
            return replace(self._evidence, journals=[])
        found = self._journals
        if size < self.size:
            found = list(journals_at(self.market, found, history, size))
        return replace(self._evidence, journals=found)

    def look(self, state: Path, size: int, *, journals: bool = True) -> dict[str, Any]:
        """Run a monitor once, as one process would; return everything that it says."""
        with Mirror(state) as mirror:
            monitor = Monitor(mirror, self.policy)
            report = monitor.look(Prefix(self.market, size))
            evidence = self.evidence(monitor.history, size, journals=journals)
            result = reconcile(monitor.history, evidence, monitor.tally)
            monitor.keep_tally()
            verdict = standing(monitor, result, report)
            # How often somebody looked is no property of the log.
            verdict.checked = verdict.checked | {"checkpoints": 0}
            return {"verdict": asdict(verdict), **told(result)}


def told(result: Reconciliation) -> dict[str, Any]:
    """Everything that reconciling says, comparable."""
    accounts = result.accounts
    return {
        "findings": result.findings,
        "missing": result.missing,
        "checked": result.checked,
        "epochs": result.epochs,
        "journals": [(item.asset, item.lines, item.unmatched) for item in result.journals],
        "totals": accounts.totals,
        "postings": accounts.postings,
        "agreements": [
            (name, item.index, item.price_cents, +item.stages, item.spent_micro, item.billed_cents,
             item.fee_cents, item.share_cents)
            for name, item in accounts.agreements.items()
        ],
        "jobs": [
            (name, item.granted, item.ends, item.released, item.settled)
            for name, item in accounts.jobs.items()
        ],
    }  # fmt: skip


@pytest.fixture(scope="module", name="case")
def _case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    with Market(Plan(seed=2), tmp_path_factory.mktemp("market")) as market:
        injector = Injector(market)
        market.run()
        yield Case(market, injector.evidence())


@pytest.fixture(scope="module", name="honest")
def _honest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    with Market(Plan(seed=5), tmp_path_factory.mktemp("honest")) as market:
        market.run()
        yield Case(market, Evidence(journals=market.journals()))


@pytest.fixture(scope="module", name="at_once")
def _at_once(case: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return case.look(tmp_path_factory.mktemp("once"), case.size)


def test_the_history_has_findings_of_every_kind(at_once: dict[str, Any]):
    assert len({item["code"] for item in at_once["verdict"]["findings"]}) > 55
    assert at_once["totals"]["settled"] > 100


@settings(
    max_examples=2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.floats(0, 1), max_size=3))
def test_reading_in_parts_finds_what_reading_at_once_finds(
    case: Case, at_once: dict[str, Any], cuts: list[float]
):
    with tempfile.TemporaryDirectory() as name:
        for size in sorted({1 + int(cut * (case.size - 1)) for cut in cuts}):
            case.look(Path(name), size)
        assert case.look(Path(name), case.size) == at_once


def test_evidence_that_comes_late_finds_the_same(
    case: Case, at_once: dict[str, Any], tmp_path: Path
):
    for part in (3, 2):
        case.look(tmp_path, case.size // part, journals=False)
    assert case.look(tmp_path, case.size) == at_once


def test_what_was_compared_is_remembered_by_the_next_process(honest: Case, tmp_path: Path):
    for size in (honest.size // 2, honest.size, honest.size):
        honest.look(tmp_path, size)
    with Mirror(tmp_path) as mirror:
        monitor = Monitor(mirror, honest.policy)
        marks = monitor.tally.marks.values()
        assert sum(mark.place.sequence for mark in marks) > 1_000
        # What is written down is what is there: nothing to keep, nothing is written.
        before = mirror.remembered
        monitor.keep_tally()
        assert mirror.remembered is before
        next(iter(marks)).receipts += 1
        monitor.keep_tally()
        assert mirror.remembered is not before


def test_a_tally_goes_on_from_any_entry(case: Case):
    split(case, [256, 16, 1], [])


def test_a_tally_of_an_honest_history_goes_on_from_any_entry(honest: Case):
    """Nothing is found, so that journals are read from their marks on."""
    *_, tally = split(honest, [32], [20, 3])
    assert sum(mark.place.sequence for mark in tally.marks.values()) > 1_000


def split(case: Case, counts: list[int], journals: list[int]) -> list[Tally]:
    """Many ways to split at once: the rules are asked once, each tally is written down often.

    Args:
        case: what is read.
        counts: for each tally, how often it goes on.
        journals: the same, for tallies that are also held against the journals of that time.
    """
    draw, history = random.Random(7), History()
    tallies = [Tally(history) for _ in (*counts, *journals)]
    cuts = [{draw.randrange(case.size) for _ in range(count)} for count in (*counts, *journals)]
    for index, data in enumerate(case.market.book.entries):
        step(case, history, index, data)
        for place, cut in enumerate(cuts):
            if index in cut:
                given = place >= len(counts)
                evidence = case.evidence(history, index + 1) if given else Evidence()
                tallies[place].go_on()
                reconcile(history, evidence, tallies[place])
                tallies[place] = again(history, tallies[place])
    evidence = case.evidence(history, case.size)
    expected = told(reconcile(history, evidence))
    for tally in tallies:
        tally.go_on()
        assert told(reconcile(history, evidence, again(history, tally))) == expected
    return tallies


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("jobs", [3_700, 18_500])
def test_going_on_costs_what_is_new(tmp_path: Path, jobs: int):
    """20,000 or 100,000 entries, then 1,000 more, with the nodes' journals."""
    plan = Plan(jobs, 3, 8, epoch_entries=1_000, grace_entries=400, quota=100, active=20)
    with Market(plan, tmp_path / "market") as market:
        market.run()
        case = Case(market, Evidence(journals=market.journals()))
        state, old = tmp_path / "state", case.size - 1_000
        assert case.look(state, old)["verdict"]["status"] == "sound"
        with Mirror(state) as mirror:
            reads: set[int] = set()
            read = mirror.read
            mirror.read = lambda index: reads.add(index) or read(index)  # type: ignore[method-assign,func-returns-value]
            times = [time.perf_counter()]
            monitor = Monitor(mirror, case.policy)
            times.append(time.perf_counter())
            report = monitor.look(Prefix(market, case.size))
            evidence = case.evidence(monitor.history, case.size)
            times.append(time.perf_counter())
            result = reconcile(monitor.history, evidence, monitor.tally)
            monitor.keep_tally()
            times.append(time.perf_counter())
        assert (report.findings, result.findings, monitor.size) == ([], (), case.size)
        old_reads = sum(index < old for index in reads)
    load, look, end = (b - a for a, b in pairwise(times))
    print(  # noqa: T201 - the figures of docs/measurements.md
        f"{old} entries and 1,000 more, {result.checked['journal_lines']} journal lines: loaded in "
        f"{load:.2f} s, the new part in {look:.2f} s, reconciled in {end:.2f} s; {old_reads} old "
        "statements read again"
    )
    # Jobs under way, agreements they name, the newest close of each node: not what is long done.
    assert old_reads < 2_500


def again(history: History, tally: Tally) -> Tally:
    return Tally.recall(history, json.loads(json.dumps(tally.facts())))


def step(case: Case, history: History, index: int, data: bytes) -> None:
    from ledger.entry import Entry

    entry = Entry.from_bytes(data)
    opened = None
    try:
        if index not in case.market.erased:
            (opening,) = case.market.book.openings(index, index + 1)
            opened = opening.reveal(entry)
        admit(history, entry, leaf_hash(data), opened)
    except LedgerError:
        pass
