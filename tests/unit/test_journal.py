"""The node's journal: what it counts, that it forgets nothing, and that changes are seen."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from federated.errors import JournalError
from federated.node.journal import Book, Journal
from federated.preparation import Preparation
from ledger.encoding import sha256_text
from tests.world import Clock, World

ROWS = Preparation.parse({"complete_rows": True})
ASSET = "asset:one"


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "node" / "journal.db"


@pytest.fixture(name="journal")
def _journal(path: Path) -> Iterator[Journal]:
    journal = Journal(path, Clock())
    yield journal
    journal.close()


def jobs(journal: Journal, job: str = "job:next") -> set[str]:
    with journal.write() as book:
        return set(book.spent(ASSET, job).jobs("agreement:a"))


def use(journal: Journal, job: str, state: str | None = None, *, answered: bool = False) -> None:
    with journal.write() as book:
        book.reserve(job, ASSET, "agreement:a", ROWS)
        if answered:
            book.answer_rows(job, ASSET, [b"\xf0"], 4)
            book.record_reply(job, ASSET, 1, "1", "sha256:asked", b"masked " + job.encode())
        if state is not None:
            book.finish(job, ASSET, state)


# --- counting


def test_open_and_completed_jobs_count_ended_ones_do_not(journal: Journal):
    use(journal, "job:open")
    use(journal, "job:done", "completed")
    use(journal, "job:ended", "ended")
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


@pytest.mark.parametrize("state", ["completed", "ended"])
def test_a_job_that_ended_cannot_be_reserved_again(journal: Journal, state: str):
    use(journal, "job:one", state)
    before = journal.verify()
    with pytest.raises(JournalError, match="ended here"), journal.write() as book:
        book.reserve("job:one", ASSET, "agreement:a", ROWS)
    assert journal.verify() == before


def test_what_was_answered_is_remembered_though_the_job_ended(journal: Journal):
    use(journal, "job:quiet", "ended")
    with journal.write() as book:
        assert book.spent(ASSET, "job:next").answered == ()
        assert book.spent(ASSET, "job:next").unfinished("agreement:a") == 0
    use(journal, "job:told", "ended", answered=True)
    with journal.write() as book:
        spent = book.spent(ASSET, "job:next")
        assert spent.answered == (ROWS,)
        assert spent.unfinished("agreement:a") == 1
        assert book.row_sets(ASSET) == [b"\xf0"]
        assert book.row_sets("asset:other") == []


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


class FullDisk:
    """A connection on which one statement fails as on a full disk."""

    def __init__(self, inner: sqlite3.Connection, fails: str) -> None:
        self._inner, self.fails = inner, fails

    def execute(self, statement: str, *rest: object) -> object:
        if self.fails and statement.startswith(self.fails):
            raise sqlite3.OperationalError("database or disk is full")
        return self._inner.execute(statement, *rest)

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


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


# --- the chain


def filled(path: Path) -> None:
    journal = Journal(path, Clock())
    use(journal, "job:one", "completed", answered=True)
    use(journal, "job:two", "ended", answered=True)
    with journal.write() as book:
        book.decide("job:three", ASSET, "revoked", b"receipt")
    journal.verify()
    journal.close()


TAMPERINGS = {
    "a line's content": "UPDATE line SET body = replace(body, 'job:one', 'job:two') "
    "WHERE sequence = 1",
    "a line's kind": "UPDATE line SET kind = 'decide' WHERE sequence = 2",
    "a line's time": "UPDATE line SET time = time + 1 WHERE sequence = 3",
    "a head": "UPDATE line SET head = 'sha256:00' WHERE sequence = 2",
    "a line in the middle": "DELETE FROM line WHERE sequence = 3",
    "the first line": "DELETE FROM line WHERE sequence = 1",
    "a use given back": "UPDATE use SET state = 'ended' WHERE job = 'job:one'",
    "a use forgotten": "DELETE FROM use WHERE job = 'job:one'",
    "a use moved to another agreement": "UPDATE use SET agreement = 'agreement:b'",
    "a reply's bytes": "UPDATE reply SET body = x'00'",
    "a reply forgotten": "DELETE FROM reply WHERE job = 'job:one'",
    "a reply's request": "UPDATE reply SET request = 'sha256:other'",
    "the last line": "DELETE FROM line WHERE sequence = (SELECT max(sequence) FROM line WHERE "
    "kind = 'finish')",
}


@pytest.mark.parametrize("what", TAMPERINGS)
def test_a_journal_that_was_changed_is_found_out(path: Path, what: str):
    filled(path)
    Journal(path, Clock()).verify()
    connection = sqlite3.connect(path)
    # A change as a person would make it: of the same type.
    statement = TAMPERINGS[what].replace("replace(body", "CAST(replace(CAST(body AS TEXT)")
    statement = statement.replace("'job:two') ", "'job:two') AS BLOB) ")
    assert connection.execute(statement).rowcount
    connection.commit()
    connection.close()
    journal = Journal(path, Clock())
    with pytest.raises(JournalError):
        journal.verify()
    journal.close()


def newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=2")
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.write_bytes(b"no database at all" * 100), "not a database"),
        (newer, "newer version"),
    ],
)
def test_a_file_that_is_no_journal_of_this_version_is_refused_unchanged(
    path: Path, spoil: Callable[[Path], object], says: str
):
    filled(path)
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(JournalError, match=says):
        Journal(path, Clock())
    assert path.read_bytes() == before


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
