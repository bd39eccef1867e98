"""The node's journal: what it counts, what it tells, and that it forgets nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from federated.errors import JournalCutError, JournalError
from federated.node.journal import FAILURE, Book, Journal
from federated.node.journal_check import compare
from federated.node.journal_file import rows_digest
from ledger.encoding import sha256_text
from ledger.ids import statement_id
from ledger.journal import (
    CLOSE,
    FINISH,
    LAUNCH,
    JournalLine,
    first_head,
    read_journal,
    write_journal,
)
from ledger.statements import Counts, JournalPosition
from tests.drafts import Clock, key_of
from tests.journals import ASSET, ROWS, FullDisk, filled, jobs, use
from tests.world import World


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "node" / "journal.db"


@pytest.fixture(name="journal")
def _journal(path: Path) -> Iterator[Journal]:
    journal = Journal(path, Clock())
    yield journal
    journal.close()


# --- counting


def test_open_and_completed_jobs_count_ended_ones_do_not(journal: Journal):
    use(journal, "job:open")
    use(journal, "job:done", "completed")
    use(journal, "job:ended", "failed")
    assert jobs(journal) == {"job:open", "job:done"}
    assert jobs(journal, "job:open") == {"job:done"}
    with journal.write() as book:
        assert book.spent("asset:other", "job:next").jobs("agreement:a") == frozenset()
        assert book.spent(ASSET, "job:next").jobs("agreement:b") == frozenset()


def test_a_second_reservation_for_one_job_counts_once(journal: Journal):
    use(journal, "job:one")
    before = journal.verify()
    use(journal, "job:one")
    assert journal.verify() == before
    assert jobs(journal) == {"job:one"}


@pytest.mark.parametrize("state", ["completed", "failed", "refused"])
def test_a_job_that_ended_cannot_be_reserved_again(journal: Journal, state: str):
    use(journal, "job:one", state)
    before = journal.verify()
    with pytest.raises(JournalError, match="ended here"), journal.write() as book:
        book.reserve("job:one", ASSET, "agreement:a", ROWS)
    assert journal.verify() == before


def test_what_was_answered_is_remembered_though_the_job_ended(journal: Journal):
    use(journal, "job:quiet", "refused")
    with journal.write() as book:
        assert book.spent(ASSET, "job:next").answered == ()
        assert book.spent(ASSET, "job:next").unfinished("agreement:a") == 0
    use(journal, "job:told", "failed", answered=True)
    with journal.write() as book:
        spent = book.spent(ASSET, "job:next")
        assert spent.answered == (ROWS,)
        assert spent.unfinished("agreement:a") == 1
        assert book.row_sets(ASSET) == [b"\xf0"]
        assert book.row_sets("asset:other") == []


def test_a_reservation_whose_grant_ended_unused_counts_no_more(tmp_path: Path):
    world = World.with_one_use(tmp_path / "world", 3)
    provider, use = world.providers[0], world.use
    assert use is not None
    grant = replace(world.grant(provider, use.job), until=1_000)
    now = [999]
    journal = Journal(tmp_path / "journal.db", lambda: now[0])
    with journal.write() as book:
        book.reserve(use.job, provider.asset, provider.agreement, ROWS)
        book.decide(use.job, provider.asset, "granted", world.sign(grant))
        assert book.spent(provider.asset, "job:other").jobs(provider.agreement) == {use.job}
    now[0] = 1_001
    with journal.write() as book:
        assert book.spent(provider.asset, "job:other").jobs(provider.agreement) == frozenset()
        # An answer that left counts for good.
        book.answer_rows(use.job, provider.asset, [b"\x80"], 1)
        assert book.spent(provider.asset, "job:other").jobs(provider.agreement) == {use.job}
    journal.close()


# --- lines


def bodies(journal: Journal, kind: str) -> list[dict[str, object]]:
    return [line.body for line in journal.lines() if line.kind == kind]


def test_each_launch_failure_and_end_is_a_line(journal: Journal):
    use(journal, "job:one")
    with journal.write() as book:
        book.launch("job:one", ASSET, 2, "grant:one")
        book.fail("job:one", ASSET, "internal")
    use(journal, "job:two", "refused")
    place = {"asset": ASSET, "job": "job:one"}
    assert bodies(journal, LAUNCH) == [{**place, "attempt": 2, "grant": "grant:one"}]
    assert bodies(journal, FAILURE) == [{**place, "reason": "internal"}]
    receipt = statement_id("receipt", b"receipt of job:two")
    assert bodies(journal, FINISH) == [
        {"asset": ASSET, "job": "job:two", "receipt": receipt, "state": "refused"}
    ]


def test_its_lines_are_a_journal_that_an_auditor_reads(path: Path):
    filled(path)
    journal = Journal(path, Clock())
    lines = journal.lines()
    key = key_of("node")
    read = read_journal(write_journal("asset:" + 64 * "1", lines, key, now=9))
    read.verify(key.verify_key)
    last = journal.verify()
    assert (read.end.sequence, read.end.head) == (last.sequence, last.head)
    counts = read.counts(1, len(lines))
    assert counts == Counts(launched=1, completed=1, failed=1, refused=1)
    with journal.write() as book:
        assert book.counts_since(1) == counts
        assert book.counts_since(len(lines)) == Counts(0, 0, 0, 0)
    journal.close()


def test_a_line_about_rows_tells_nothing_to_who_guesses_them(journal: Journal):
    use(journal, "job:one", answered=True)
    (line,) = bodies(journal, "rows")
    (told,) = line["sets"]  # type: ignore[misc]
    assert told != sha256_text(b"\xf0")
    salts = journal._connection.execute("SELECT salt FROM row_set").fetchall()
    assert told == rows_digest(salts[0][0], b"\xf0")
    # The same rows again are the same set.
    use(journal, "job:two", answered=True)
    assert [line["sets"] for line in bodies(journal, "rows")] == [[told], [told]]


# --- what was signed


def test_what_was_signed_waits_in_order_until_it_was_taken(journal: Journal, path: Path):
    use(journal, "job:one", "completed")
    with journal.write() as book:
        book.close(ASSET, 0, b"close")
    use(journal, "job:two", "refused")
    journal.close()
    again = Journal(path, Clock())
    with again.write() as book:
        waiting = book.waiting()
        assert [item.statement for item in waiting] == [
            b"receipt of job:one",
            b"close",
            b"receipt of job:two",
        ]
        assert waiting[1].id == statement_id("epoch", b"close")
        book.taken(waiting[0].id)
        assert book.waiting() == waiting[1:]
    again.verify()
    again.close()


def test_a_refusal_after_the_end_leaves_the_use_as_it_ended(journal: Journal):
    use(journal, "job:one", "completed")
    with journal.write() as book:
        book.finish("job:one", ASSET, "refused", b"refusal")
    journal.verify()
    assert jobs(journal) == {"job:one"}


def signed_over(journal: Journal) -> list[tuple[JournalPosition, str]]:
    """Where the journal stood when it signed, and what; as receipts and closes say."""
    lines = journal.lines()
    return [
        (
            JournalPosition(at, lines[at - 1].head if at else first_head()),
            str(line.body.get("receipt") or line.body["epoch"]),
        )
        for at, line in enumerate(lines)
        if line.kind in (FINISH, CLOSE)
    ]


def test_a_whole_journal_continues_what_was_signed_over_it(path: Path):
    filled(path)
    journal = Journal(path, Clock())
    known = signed_over(journal)
    assert len(known) == 4
    with journal.write() as book:
        for position, name in known:
            book.must_continue(position, name)
    journal.close()


@pytest.mark.parametrize("left", range(13))
def test_a_cut_tail_is_found_by_what_was_signed_over_it(path: Path, left: int):
    filled(path)
    journal = Journal(path, Clock())
    known = signed_over(journal)
    assert len(journal.lines()) == 13
    journal._connection.execute("DELETE FROM line WHERE sequence > ?", (left,))
    # The newest of them is enough.
    position, name = known[-1]
    with pytest.raises(JournalCutError, match="Put the newest"), journal.write() as book:
        book.must_continue(position, name)
    journal.close()


def test_a_tail_written_anew_is_found_by_what_was_signed_over_the_old_one(
    path: Path, tmp_path: Path
):
    filled(path)
    journal = Journal(path, Clock())
    known = signed_over(journal)
    other = Journal(tmp_path / "other.db", Clock())
    for number in range(9):
        use(other, f"job:{number}", "completed", answered=True)
    for position, name in known:
        with pytest.raises(JournalCutError), other.write() as book:
            book.must_continue(position, name)
    # The same head, and another statement after it.
    with pytest.raises(JournalCutError), journal.write() as book:
        book.must_continue(known[0][0], known[1][1])
    journal.close()
    other.close()


# --- replies


def test_a_reply_is_kept_byte_for_byte_under_its_request(journal: Journal, path: Path):
    use(journal, "job:one", answered=True)
    journal.close()
    again = Journal(path, Clock())
    with again.write() as book:
        assert book.reply("job:one", ASSET, 1, "1") == ("sha256:asked", b"masked job:one")
        assert book.reply("job:one", ASSET, 2, "1") is None
        assert book.reply("job:one", ASSET, 1, "2") is None
        assert book.reply("job:two", ASSET, 1, "1") is None
    again.close()


def test_a_second_reply_in_the_same_place_is_refused(journal: Journal):
    use(journal, "job:one", answered=True)
    before = journal.verify()
    with pytest.raises(JournalError), journal.write() as book:
        book.record_reply("job:one", ASSET, 1, "1", "sha256:other", b"another")
    assert journal.verify() == before


def test_the_account_of_a_job_lists_its_rounds_in_order(journal: Journal):
    with journal.write() as book:
        book.reserve("job:one", ASSET, "agreement:a", ROWS)
        book.record_reply("job:one", ASSET, 3, "keys", "sha256:k", b"key")
        for number in (1, 2, 10):
            body = b"reply %d" % number
            book.record_reply("job:one", ASSET, 3, str(number), f"sha256:{number}", body)
        attempt, sent = book.contributions("job:one", ASSET)
        assert book.contributions("job:two", ASSET) == (0, ())
    assert attempt == 3
    assert [item.round for item in sent] == [1, 2, 10]
    assert [item.reply for item in sent] == [sha256_text(b"reply %d" % n) for n in (1, 2, 10)]


def test_a_decision_is_kept_with_the_statement_signed_for_it(journal: Journal):
    with journal.write() as book:
        assert book.decision("job:one", ASSET) is None
        book.decide("job:one", ASSET, "granted", b"grant")
    with journal.write() as book:
        assert book.decision("job:one", ASSET) == ("granted", b"grant")
        book.decide("job:one", ASSET, "revoked", b"receipt")
        assert book.decision("job:one", ASSET) == ("revoked", b"receipt")


def test_a_journal_is_verified_as_it_is_at_one_moment(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Guards: lines and tables were read one after the other, and a running node wrote between."""
    use(journal, "job:one")
    node = Journal(path, Clock())

    def compare_later(connection: sqlite3.Connection, lines: Sequence[JournalLine]) -> str:
        use(node, "job:two")
        return compare(connection, lines)

    monkeypatch.setattr("federated.node.journal.compare", compare_later)
    assert len(journal.verified()) == 1
    monkeypatch.undo()
    assert journal.verify() == node.verify()
    assert journal.verify().sequence == 2
    node.close()


# --- crashes


class CrashError(BaseException):
    """The process ends here."""


def crash_after(book: Book) -> None:
    book.reserve("job:one", ASSET, "agreement:a", ROWS)
    raise CrashError


def test_a_crash_inside_a_transaction_leaves_nothing_of_it(journal: Journal):
    use(journal, "job:before")
    before = journal.verify()
    with pytest.raises(CrashError), journal.write() as book:
        crash_after(book)
    assert journal.verify() == before
    assert jobs(journal) == {"job:before"}


def test_a_reservation_without_an_end_counts_for_ever(journal: Journal, path: Path):
    use(journal, "job:one")
    journal.close()
    again = Journal(path, Clock())
    assert jobs(again) == {"job:one"}
    with again.write() as book:
        assert book.is_reserved("job:one", ASSET)
        assert not book.has_ended("job:one", ASSET)
    use(again, "job:two")
    assert again.verify().sequence == 2
    again.close()


@pytest.mark.parametrize("fails", ["BEGIN", "INSERT INTO use", "INSERT INTO line", "COMMIT"])
def test_a_full_disk_changes_nothing_and_the_journal_goes_on_after_it(journal: Journal, fails: str):
    use(journal, "job:before")
    before = journal.verify()
    disk = FullDisk(journal._connection, fails)
    journal._connection = disk  # type: ignore[assignment]
    with pytest.raises(JournalError, match="disk is full"):
        use(journal, "job:one")
    disk.fails = ""
    assert journal.verify() == before
    use(journal, "job:one")
    assert jobs(journal) == {"job:before", "job:one"}
