"""The file of a node's journal: changed, of no version that is known, or of the first one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from federated.errors import JournalCutError, JournalError
from federated.messages import FinishReply
from federated.node import journal_file
from federated.node.journal import Journal
from federated.node.journal_file import UPGRADE
from ledger.encoding import canonical, sha256_text
from ledger.journal import first_head, next_head
from ledger.statements import JournalPosition
from tests.drafts import Clock
from tests.journals import ASSET, ROWS, FullDisk, filled, jobs


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "node" / "journal.db"


# --- the chain


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
    "the last line": "DELETE FROM line WHERE sequence = (SELECT max(sequence) FROM line)",
    "a row set forgotten": "DELETE FROM row_set",
    "a row set's rows": "UPDATE row_set SET bitmap = x'0f'",
    "a row set's salt": "UPDATE row_set SET salt = zeroblob(32)",
    "a row set's salt, gone": "UPDATE row_set SET salt = NULL",
    "a row set added": "INSERT INTO row_set VALUES ('asset:one', x'01', zeroblob(32))",
    "how many rows": "UPDATE use SET rows = 3 WHERE job = 'job:one'",
    "that rows were answered": "UPDATE use SET answered = 0 WHERE job = 'job:one'",
    "a decision's word": "UPDATE decision SET verdict = 'granted'",
    "a decision's statement": "UPDATE decision SET statement = x'00'",
    "a decision forgotten": "DELETE FROM decision",
    "a receipt forgotten": "DELETE FROM signed WHERE kind = 'receipt'",
    "a receipt's bytes": "UPDATE signed SET statement = x'00' WHERE kind = 'receipt'",
    "a receipt's line": "UPDATE signed SET line = line + 1 WHERE kind = 'receipt'",
    "a receipt taken for one of an older version": "UPDATE signed SET line = 0",
    "a close forgotten": "DELETE FROM signed WHERE kind = 'epoch'",
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
    connection.execute("PRAGMA user_version=3")
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


# --- files of version 1


def first_version(path: Path) -> None:
    """Write a file as version 1 did: a job completed, one open, one refused, another granted."""
    connection = sqlite3.connect(path)
    connection.executescript(journal_file._FIRST_SCHEMA + "PRAGMA user_version=1;")
    rows = canonical(ROWS.to_json())
    reply = FinishReply(b"receipt of one").to_bytes()
    for job, state, answered, number in (
        ("job:one", "completed", 1, 4),
        ("job:two", "open", 0, 0),
    ):
        connection.execute(
            "INSERT INTO use VALUES (?, ?, 'agreement:a', ?, ?, ?, ?)",
            (job, ASSET, rows, state, answered, number),
        )
    connection.execute(
        "INSERT INTO reply VALUES ('job:one', ?, 1, 'finish', 'asked', ?)", (ASSET, reply)
    )
    connection.execute("INSERT INTO row_set VALUES (?, x'f0')", (ASSET,))
    for job, verdict, data in (
        ("job:one", "granted", b"grant"),
        ("job:three", "revoked", b"refusal"),
    ):
        connection.execute("INSERT INTO decision VALUES (?, ?, ?, ?)", (job, ASSET, verdict, data))
    head = first_head()
    reserve = {"agreement": "agreement:a", "asset": ASSET}
    sent = {"attempt": 1, "reply": sha256_text(reply), "request": "asked", "step": "finish"}
    for number, (kind, body) in enumerate(
        (
            ("reserve", {**reserve, "job": "job:one"}),
            ("decide", {"asset": ASSET, "job": "job:one", "verdict": "granted"}),
            ("finish", {"asset": ASSET, "job": "job:one", "state": "completed"}),
            ("reply", {"asset": ASSET, "job": "job:one", **sent}),
            ("reserve", {**reserve, "job": "job:two"}),
            ("decide", {"asset": ASSET, "job": "job:three", "verdict": "revoked"}),
        ),
        start=1,
    ):
        head = next_head(head, number, 7, kind, body)
        line = (number, 7, kind, canonical(body), head)
        connection.execute("INSERT INTO line VALUES (?, ?, ?, ?, ?)", line)
    connection.commit()
    connection.close()


@pytest.fixture(name="old")
def _old(tmp_path: Path) -> Path:
    path = tmp_path / "old.db"
    first_version(path)
    return path


def test_a_journal_of_version_1_goes_on_under_its_old_lines(old: Path):
    journal = Journal(old, Clock())
    lines = journal.lines()
    assert [line.kind for line in lines[:6]] == [
        *("reserve", "decide", "finish", "reply", "reserve", "decide"),
    ]
    assert [line.kind for line in lines[6:]] == [UPGRADE, "rows", "decide", "decide"]
    journal.verify()
    assert jobs(journal) == {"job:one", "job:two"}
    with journal.write() as book:
        # Whether they ever arrived, the log will tell.
        found = {item.statement for item in book.waiting()}
        assert found == {b"receipt of one", b"refusal"}
        # An old receipt names the line before its end, which named no receipt.
        book.must_continue(JournalPosition(2, lines[1].head), "receipt:old")
        with pytest.raises(JournalCutError):
            book.must_continue(JournalPosition(2, lines[2].head), "receipt:old")
    journal.close()
    again = Journal(old, Clock())
    assert again.lines() == lines
    again.close()


OLD_TAMPERINGS = (
    "UPDATE row_set SET bitmap = x'0f'",
    "UPDATE decision SET verdict = 'granted'",
    "UPDATE use SET rows = 5 WHERE job = 'job:one'",
    "DELETE FROM reply",
)


@pytest.mark.parametrize("statement", OLD_TAMPERINGS)
def test_what_an_old_journal_kept_is_held_to_its_lines_from_then_on(old: Path, statement: str):
    Journal(old, Clock()).close()
    connection = sqlite3.connect(old)
    assert connection.execute(statement).rowcount
    connection.commit()
    connection.close()
    journal = Journal(old, Clock())
    with pytest.raises(JournalError):
        journal.verify()
    journal.close()


@pytest.mark.parametrize(
    "fails", ["ALTER", "CREATE TABLE signed", "UPDATE row_set", "PRAGMA user_version=2"]
)
def test_a_crash_while_a_file_is_brought_up_to_date_leaves_it_as_it_was(
    old: Path, fails: str, monkeypatch: pytest.MonkeyPatch
):
    honest = sqlite3.connect

    def connect(*given: object, **named: object) -> object:
        return FullDisk(honest(*given, **named), fails)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", connect)
        with pytest.raises(JournalError, match="disk is full"):
            Journal(old, Clock())
    connection = honest(old)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM line").fetchone() == (6,)
    connection.close()
    journal = Journal(old, Clock())
    journal.verify()
    journal.close()
