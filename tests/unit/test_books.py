"""A node's accounts: what it signed reaches the log once, closes fit, and no line may be lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from federated.errors import JournalCutError, NodeError, NotTakenError, TooEarlyError
from federated.node.books import ABANDONED_MS, ASK_MS, Account, Books
from federated.node.journal import Journal
from federated.preparation import Preparation
from ledger.completeness import check as missing
from ledger.errors import EvidenceError
from ledger.journal import CLOSE, FINISH, write_journal
from ledger.reconcile import Evidence, reconcile
from ledger.statements import Epoch, Receipt, read
from tests.drafts import CODE
from tests.world import World

OPERATORS = {"missing_index", "unreleased_job"}
"""The worlds here have no operator who indexes epochs and releases results."""
ROWS = Preparation.parse({"complete_rows": True})


class CrashError(BaseException):
    """The process ends here."""


@dataclass
class Market:
    """Takes what a node hands in, as the service does; each call may be made to fail."""

    world: World
    fails: list[BaseException | None] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    after: Callable[[], None] = lambda: None
    over: set[str] = field(default_factory=set)

    def requests(self, _asset: str) -> list[str]:
        return []

    def has_ended(self, job: str) -> bool:
        return job in self.over

    def fetch(self, job: str, digest: str) -> bytes:
        raise NotImplementedError

    def submit(self, kind: str, envelope: bytes) -> None:
        found = read(envelope)
        assert kind == found.statement.kind
        failure = self.fails.pop(0) if self.fails else None
        if failure is not None:
            raise failure
        if found.id not in self.world.log.history.by_id:
            self.world.put(envelope)
        self.taken.append(found.id)
        self.after()


@dataclass
class Desk:
    """One node's books over a world's log; `again` is the node after a restart."""

    world: World
    path: Path
    market: Market

    def __post_init__(self) -> None:
        self.provider = self.world.providers[0]
        self.open()

    def open(self) -> None:
        self.journal = Journal(self.path, self.world.clock)
        self.journal.verify()
        assert self.provider.node_key is not None
        self.books = Books(
            self.provider.asset,
            self.provider.node_key,
            log=SimpleNamespace(history=self.world.log.history),  # type: ignore[arg-type]
            service=self.market,
            journal=self.journal,
            clock=self.world.clock,
        )

    def again(self) -> None:
        self.journal.close()
        self.open()

    def backup(self) -> Path:
        """Return a copy of the journal as it is now."""
        path = self.path.with_name("backup.db")
        self.journal._connection.execute(f"VACUUM INTO '{path}'")
        return path

    def restore(self, copy: Path) -> Path:
        """Start again from a copy; return where the journal is that lay in its place."""
        self.journal.close()
        data = copy.read_bytes()
        newest = self.path.rename(self.path.with_name("newest.db"))
        self.path.write_bytes(data)
        self.open()
        return newest

    def work(self, *, state: str = "completed", fail: bool = False) -> str:
        """One job at this node, from launch to the line of its end; return the job."""
        job, grants = self.world.granted_job()
        with self.journal.write() as book:
            book.reserve(job, self.provider.asset, self.provider.agreement, ROWS)
            book.launch(job, self.provider.asset, 1, grants[0])
        with self.journal.write() as book:
            self.books.finish(book, self.account(job, grants[0], state))
            if fail:
                raise CrashError
        return job

    def account(self, job: str, grant: str, state: str) -> Account:
        completed = state == "completed"
        sent = self.world.contributions(self.provider, job) if state != "refused" else ()
        reason = {"completed": None, "failed": "cancelled", "refused": "quota_used_up"}[state]
        size = self.world.log.size
        return Account(job, grant if completed else None, state, reason, CODE, size, sent)

    def round(self) -> int:
        """What a node does on each round."""
        self.books.compare()
        closed = 0
        while True:
            self.books.hand_in()
            if self.books.close_next() is None:
                return closed
            closed += 1

    def fill(self, to: int) -> None:
        """Let others make entries until the log has this many."""
        while self.world.log.size < to:
            self.world.put(self.world.job())

    def lines(self, kind: str) -> list[dict[str, Any]]:
        return [line.body for line in self.journal.lines() if line.kind == kind]

    def receipts(self) -> list[Receipt]:
        listed = self.world.log.history.by_id[self.provider.asset].index
        found = self.world.log.history.receipts.get(listed, [])
        return [each.statement for each in found if isinstance(each.statement, Receipt)]

    def closes(self) -> list[Epoch]:
        found = self.world.log.history.closes.get(self.provider.asset, [])
        return [each.statement for each in found if isinstance(each.statement, Epoch)]

    def exported(self) -> bytes:
        key = self.provider.node_key
        assert key is not None
        now = self.world.clock()
        return write_journal(self.provider.asset, self.journal.lines(), key, now=now)

    def findings(self) -> list[str]:
        """What an auditor who has the journal finds of this node; not of the operator."""
        found = reconcile(self.world.log.history, Evidence(journals=[("mine", self.exported())]))
        assert found.checked["journals"] == 1
        return [each.code for each in found.findings if each.code not in OPERATORS]


@pytest.fixture(scope="module", name="first")
def _first(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(
        tmp_path_factory.mktemp("first") / "world", 1, terms={"minimum_parties": 1, "uses": 99}
    )
    world.put(world.schedule(epoch_entries=8, grace_entries=4))
    return world


@pytest.fixture(name="desk")
def _desk(first: World, tmp_path: Path) -> Iterator[Desk]:
    world = first.copy(tmp_path / "world")
    desk = Desk(world, tmp_path / "journal.db", Market(world))
    yield desk
    desk.journal.close()


# --- receipts


@pytest.mark.parametrize("state", ["completed", "failed", "refused"])
def test_the_line_of_an_end_follows_what_the_receipt_was_signed_over(desk: Desk, state: str):
    job = desk.work(state=state)
    desk.round()
    (receipt,) = desk.receipts()
    assert (receipt.job, receipt.state) == (job, state)
    line = desk.journal.lines()[receipt.journal.sequence]
    assert desk.journal.lines()[receipt.journal.sequence - 1].head == receipt.journal.head
    name = desk.world.log.history.by_id[desk.market.taken[0]].id
    assert line.kind == FINISH
    assert line.body == {
        "asset": desk.provider.asset,
        "job": job,
        "receipt": name,
        "state": state,
    }


def test_a_crash_before_the_commit_leaves_neither_line_nor_receipt(desk: Desk):
    with pytest.raises(CrashError):
        desk.work(fail=True)
    desk.again()
    assert desk.lines(FINISH) == []
    desk.round()
    assert desk.receipts() == []


def test_a_crash_after_the_commit_still_brings_the_receipt(desk: Desk):
    desk.work()
    assert desk.receipts() == []
    desk.again()
    desk.round()
    assert len(desk.receipts()) == 1


@pytest.mark.parametrize("persisted", [False, True])
def test_a_crash_while_handing_in_brings_the_same_bytes_once(desk: Desk, persisted: bool):  # noqa: FBT001
    desk.work()

    def crash() -> None:
        desk.market.after = lambda: None
        raise CrashError

    if persisted:
        desk.market.after = crash
    else:
        desk.market.fails = [CrashError()]
    with pytest.raises(CrashError):
        desk.round()
    desk.again()
    desk.round()
    assert len(desk.receipts()) == 1
    assert len(desk.lines(FINISH)) == 1
    before = list(desk.market.taken)
    desk.round()
    assert desk.market.taken == before


def test_what_the_market_cannot_take_now_waits_in_order(desk: Desk):
    first, second = desk.work(), desk.work()
    desk.market.fails = [NodeError("cannot be reached")]
    with pytest.raises(NodeError, match="reached"):
        desk.round()
    assert desk.receipts() == []
    desk.round()
    assert [each.job for each in desk.receipts()] == [first, second]


def test_what_the_market_refuses_for_good_holds_up_nothing(desk: Desk):
    first, second = desk.work(), desk.work()
    desk.market.fails = [NotTakenError("no")]
    desk.round()
    assert [each.job for each in desk.receipts()] == [second]
    # Not on each round, or the market's log would be full of it.
    desk.round()
    assert len(desk.receipts()) == 1
    desk.again()
    desk.round()
    assert [each.job for each in desk.receipts()] == [second, first]


def test_what_comes_too_early_holds_up_nothing_and_is_handed_in_again(desk: Desk):
    """Guards: the receipt of a clock that was ahead waited for the node's next start."""
    first, second = desk.work(), desk.work()
    desk.market.fails = [TooEarlyError("ten minutes")]
    desk.round()
    assert [each.job for each in desk.receipts()] == [second, first]


# --- closes


def test_without_a_schedule_nothing_is_closed(tmp_path: Path):
    world = World(tmp_path / "world", 1, terms={"minimum_parties": 1})
    desk = Desk(world, tmp_path / "journal.db", Market(world))
    desk.fill(40)
    assert desk.round() == 0
    desk.journal.close()


def test_an_epoch_is_closed_when_it_has_ended_and_not_before(desk: Desk):
    desk.fill(7)
    assert desk.round() == 0
    desk.fill(8)
    assert desk.round() == 1
    assert desk.round() == 0
    (close,) = desk.closes()
    assert (close.number, close.start, close.stop, close.uses) == (0, 0, 8, 0)
    assert close.journal.last == 0


def test_a_node_that_was_away_closes_one_epoch_after_the_other(desk: Desk):
    desk.work()
    desk.fill(40)
    assert desk.round() == 5
    assert [close.number for close in desk.closes()] == [0, 1, 2, 3, 4]
    # The receipt came before the first close was signed; each close is a line of the next epoch.
    assert [close.counts.ended for close in desk.closes()] == [1, 0, 0, 0, 0]
    spans = [(close.journal.first, close.journal.last) for close in desk.closes()]
    assert spans == [(1, 3), (4, 4), (5, 5), (6, 6), (7, 7)]
    assert len(desk.lines(CLOSE)) == 5


def test_closes_count_uses_by_the_log_and_ends_by_the_journal(desk: Desk):
    for state in ("completed", "failed", "refused", "completed"):
        desk.work(state=state)
        desk.round()
    desk.fill(64)
    desk.round()
    closes = desk.closes()
    # A refusal sends nothing, so it is no use.
    assert sum(close.uses for close in closes) == 3
    assert sum(close.counts.launched for close in closes) == 4
    assert sum(close.counts.completed for close in closes) == 2
    assert (sum(c.counts.failed for c in closes), sum(c.counts.refused for c in closes)) == (1, 1)
    assert desk.world.log.findings == []
    assert desk.findings() == []


@pytest.mark.parametrize("persisted", [False, True])
def test_a_crash_at_a_close_makes_no_second_one(desk: Desk, persisted: bool):  # noqa: FBT001
    desk.fill(20)
    if persisted:
        desk.market.after = lambda: (_ for _ in ()).throw(CrashError())
    else:
        desk.market.fails = [CrashError()]
    with pytest.raises(CrashError):
        desk.round()
    desk.market.after = lambda: None
    assert len(desk.lines(CLOSE)) == 1
    desk.again()
    assert desk.round() == 1
    assert [close.number for close in desk.closes()] == [0, 1]
    assert len(desk.lines(CLOSE)) == 2
    assert desk.world.log.findings == []


def test_while_a_close_waits_no_further_one_is_signed(desk: Desk):
    desk.fill(40)
    desk.market.fails = [NotTakenError("close_gap")]
    assert desk.round() == 1
    assert desk.closes() == []
    assert len(desk.lines(CLOSE)) == 1
    desk.again()
    assert desk.round() == 4
    assert [close.number for close in desk.closes()] == [0, 1, 2, 3, 4]


def test_what_was_revoked_is_closed_no_more(desk: Desk):
    desk.fill(8)
    desk.world.put(desk.world.revoke(desk.provider, desk.provider.asset))
    desk.fill(40)
    assert desk.round() == 0


def test_receipts_that_the_log_withholds_leave_the_epoch_open(desk: Desk):
    desk.work()
    desk.round()
    desk.fill(16)
    history = desk.world.log.history
    listed = history.by_id[desk.provider.asset].index
    history.sealed_receipts[listed] = [history.receipts[listed][0].index]
    with pytest.raises(EvidenceError, match="sealed"):
        desk.round()
    del history.sealed_receipts[listed]
    # Epoch 0 held none of its receipts.
    assert [close.number for close in desk.closes()] == [0]
    assert desk.round() == 1


# --- a journal that lost lines


def test_a_cut_journal_signs_nothing_and_says_what_to_do(desk: Desk):
    desk.work()
    desk.round()
    backup = desk.backup()
    desk.work()
    desk.round()
    newest = desk.restore(backup)
    before = desk.journal.lines()
    size = desk.world.log.size
    for _ in range(2):
        with pytest.raises(JournalCutError, match="Put the newest") as cut:
            desk.round()
        assert cut.value.statement in desk.world.log.history.by_id
    assert (desk.journal.lines(), desk.world.log.size) == (before, size)
    desk.restore(newest)
    desk.round()


def test_a_journal_that_lost_only_a_close_is_found_too(desk: Desk):
    desk.fill(8)
    backup = desk.backup()
    desk.round()
    desk.restore(backup)
    with pytest.raises(JournalCutError, match="epoch:"):
        desk.round()


def test_the_twin_without_the_comparison_signs_a_second_history(desk: Desk):
    # Why the comparison is there: what an auditor finds where it is left out.
    desk.work()
    backup = desk.backup()
    desk.work()
    desk.round()
    desk.restore(backup)
    desk.work(state="failed")
    desk.books.hand_in()
    codes = [finding.code for finding in missing(desk.world.log.history)]
    assert "journal_fork" in codes


# --- jobs that nobody goes on with


def test_a_job_at_which_nothing_happens_for_an_hour_is_abandoned(desk: Desk):
    asset = desk.provider.asset
    with desk.journal.write() as book:
        book.reserve("job:granted", asset, "agreement:a", ROWS)
        book.reserve("job:begun", asset, "agreement:a", ROWS)
        book.record_reply("job:begun", asset, 1, "keys", "sha256:asked", b"key")
    clock = desk.world.clock
    assert desk.books.abandoned() == []
    clock.advance(ABANDONED_MS - 1)
    assert desk.books.abandoned() == []
    with desk.journal.write() as book:
        book.record_reply("job:begun", asset, 1, "1", "sha256:asked", b"words")
    clock.advance(1)
    assert desk.books.abandoned() == []
    clock.advance(ABANDONED_MS)
    assert desk.books.abandoned() == ["job:begun"]
    with desk.journal.write() as book:
        book.finish("job:begun", asset, "failed", b"receipt")
    assert desk.books.abandoned() == []


def test_the_marketplace_is_asked_after_a_while_whether_a_quiet_job_is_over(desk: Desk):
    asset = desk.provider.asset
    with desk.journal.write() as book:
        for job in ("job:over", "job:open"):
            book.reserve(job, asset, "agreement:a", ROWS)
            book.record_reply(job, asset, 1, "keys", "sha256:asked", b"key")
    desk.market.over.add("job:over")
    assert desk.books.abandoned() == []
    desk.world.clock.advance(ASK_MS - 1)
    assert desk.books.abandoned() == []
    desk.world.clock.advance(1)
    assert desk.books.abandoned() == ["job:over"]
