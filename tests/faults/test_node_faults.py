"""A node whose disk, data or log fails in the middle: one fixed word leaves it, and no number."""

from __future__ import annotations

import itertools
import logging
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from federated.messages import (
    Contribution,
    Failure,
    FinishReply,
    FinishRequest,
    RoundRequest,
    SurvivorsReply,
    UnmaskReply,
    read_reply,
)
from federated.node.client_app import make_client_app
from federated.node.journal import Journal
from federated.node.table import ReadingSpec, read_table
from federated.node.work import Work
from federated.preparation import Preparation
from federated.tasks.statistics import Statistics
from ledger.journal import write_journal
from ledger.journal_check import check_journal
from tests.searcher import Searcher
from tests.stage import LABEL, RUN, Play, open_stage, terms
from tests.talk import Conversation

CANARY = 137.0625
TABLES = {
    name: "\n".join(
        ["chol,age,sick", f"{CANARY},41,1", *(f"{200 + at},{40 + at},{at % 2}" for at in range(9))]
    )
    + "\n"
    for name in ("basel", "bern")
}


@contextmanager
def stage(folder: Path) -> Iterator[Play]:
    with open_stage(folder, TABLES, preparation={"label": LABEL}, agreed=terms(uses=999)) as play:
        yield play


@pytest.fixture(scope="module", name="play")
def _play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """One stage for all: each test begins a job of its own."""
    with stage(tmp_path_factory.mktemp("shared")) as play:
        yield play


@pytest.fixture(name="fresh")
def _fresh(tmp_path: Path) -> Iterator[Play]:
    with stage(tmp_path) as play:
        yield play


class Talk:
    """A job begun at both nodes, up to the first question."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.job = play.job()
        self.by_hand = Conversation(play, self.job, play.grant_all(self.job)).begin()

    def round(self) -> RoundRequest:
        return self.by_hand.request()

    def finish(self) -> FinishRequest:
        return FinishRequest(self.job, 1, 1, "completed")

    def failed(self, reason: str) -> Failure:
        return Failure(self.job, self.play.seats[0].asset, reason)


class FailingDisk:
    """The journal's connection; the `nth` statement that begins so fails, persisted or not."""

    def __init__(self, inner: sqlite3.Connection, begins: str, nth: int) -> None:
        self._inner, self._begins, self._left = inner, begins, nth

    def execute(self, statement: str, *rest: Any) -> Any:
        if statement.startswith(self._begins):
            self._left -= 1
            if self._left == 0:
                raise sqlite3.OperationalError(f"disk is full, last value {CANARY}")
        return self._inner.execute(statement, *rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def break_disk(play: Play, begins: str, nth: int = 1) -> None:
    journal = play.nodes[0]._journal
    journal._connection = FailingDisk(journal._connection, begins, nth)  # type: ignore[assignment]


STEPS = [
    ("round", "BEGIN", 1),
    ("round", "COMMIT", 1),
    ("round", "COMMIT", 2),
    ("round", "INSERT INTO reply", 1),
    ("round", "INSERT INTO line", 1),
    ("round", "UPDATE use", 1),
    ("survivors", "COMMIT", 1),
    ("survivors", "INSERT INTO reply", 1),
    ("unmask", "COMMIT", 1),
    ("unmask", "INSERT INTO line", 1),
    ("finish", "COMMIT", 1),
    ("finish", "INSERT INTO line", 1),
    ("finish", "INSERT INTO line", 2),
    ("finish", "INSERT INTO signed", 1),
    ("finish", "UPDATE use", 1),
    ("finish", "INSERT INTO reply", 1),
]


ANSWERS = {
    "round": Contribution,
    "survivors": SurvivorsReply,
    "unmask": UnmaskReply,
    "finish": FinishReply,
}


@pytest.mark.parametrize(("what", "begins", "nth"), STEPS)
def test_a_full_disk_sends_nothing_and_the_job_goes_on_after_it(
    play: Play, what: str, begins: str, nth: int
):
    talk = Talk(play)
    node = play.nodes[0]
    request: Any = talk.round()
    if what == "finish":
        assert isinstance(play.ask(0, request), Contribution)
        request = talk.finish()
    elif what == "survivors":
        request = talk.by_hand.ask().survivors_request()
    elif what == "unmask":
        request = talk.by_hand.ask().agree().unmask_request(node.asset)
    break_disk(play, begins, nth)
    reply = play.ask(0, request)
    assert reply == talk.failed("internal")
    node._journal.verify()
    # The use stays reserved all the while.
    with node._journal.write() as book:
        assert book.is_reserved(talk.job, node.asset)
    again = play.ask(0, request)
    assert isinstance(again, ANSWERS[what])
    node._journal.verify()


@pytest.mark.parametrize("begins", ["INSERT INTO use", "INSERT INTO line", "COMMIT"])
def test_no_grant_leaves_a_node_that_could_not_write_it_down(play: Play, begins: str):
    from federated.errors import JournalError

    job = play.job()
    break_disk(play, begins)
    with pytest.raises(JournalError):
        play.nodes[0].approve(job)
    history = play.market.app.state.context.log.history
    grants = [each.statement for each in history.by_id.values() if each.statement.kind == "grant"]
    assert not any(grant.job == job for grant in grants)  # type: ignore[attr-defined]
    assert play.nodes[0].approve(job) == "granted"


def test_a_crash_between_the_answer_and_its_record_sends_nothing(
    fresh: Play, monkeypatch: pytest.MonkeyPatch
):
    talk = Talk(fresh)
    request = talk.round()

    class CrashError(BaseException):
        pass

    def crash(*_: Any) -> bytes:
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(Work, "contribution", crash)
        with pytest.raises(CrashError):
            fresh.tell(0, request)
    node = fresh.reopened(0)
    with node._journal.write() as book:
        assert book.is_reserved(talk.job, node.asset)
        # The rows count as answered: nobody knows what left before the crash.
        assert book.row_sets(node.asset)
        assert book.spent(node.asset, "job:next").answered
    # Its secrets died with the process: it says so, and refuses nothing.
    assert fresh.ask(0, request) == talk.failed("restarted")


def test_a_receipt_that_was_not_taken_is_not_lost(play: Play, monkeypatch: pytest.MonkeyPatch):
    from federated.errors import NodeError

    talk = Talk(play)
    play.ask(0, talk.round())
    node = play.nodes[0]

    def unreachable(*_: Any) -> None:
        raise NodeError("the marketplace cannot be reached")

    with monkeypatch.context() as patch:
        patch.setattr(node._service, "submit", unreachable)
        reply = play.ask(0, talk.finish())
    assert isinstance(reply, FinishReply)
    history = play.market.app.state.context.log.history
    assert talk.job not in history.completed
    # Asked again it hands the same receipt in again.
    assert play.ask(0, talk.finish()) == reply
    assert len(history.completed[talk.job]) == 1


class KilledError(BaseException):
    """The process ends here."""


KILLED = {
    "before the receipt is signed": ("federated.node.books.Receipt.sign", False),
    "before its line is written": ("federated.node.journal.Book.finish", False),
    "before the reply is kept": ("federated.node.journal.Book.record_reply", False),
    "before it is handed in": ("federated.node.books.Books.hand_in", True),
    "while it is handed in": ("federated.node.service.HttpService.submit", True),
    "before it is known to be taken": ("federated.node.journal.Book.taken", True),
}


@pytest.mark.parametrize("where", KILLED)
def test_a_node_killed_while_it_finishes_loses_nothing_and_says_nothing_twice(
    play: Play, monkeypatch: pytest.MonkeyPatch, where: str
):
    step, signed = KILLED[where]
    talk = Talk(play)
    assert isinstance(play.ask(0, talk.round()), Contribution)

    def kill(*_: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(step, kill)
        with pytest.raises(KilledError):
            play.tell(0, talk.finish())
    node = play.reopened(0)
    node.keep_books()
    ends = list(ends_of(node, talk.job))
    history = play.market.app.state.context.log.history
    logged = history.receipts.get(history.by_id[node.asset].index, [])
    receipts = [each.id for each in logged if each.statement.job == talk.job]
    assert [line.body["receipt"] for line in ends] == receipts
    assert len(receipts) == int(signed)
    # Asked again, a job that had its receipt repeats it; another one ends here and now.
    assert isinstance(play.ask(0, talk.finish()), FinishReply)
    node.keep_books()
    assert len(ends_of(node, talk.job)) == 1
    node._journal.verify()
    audited(play, node)


def ends_of(node: Any, job: str) -> list[Any]:
    lines = node._journal.lines()
    return [line for line in lines if line.kind == "finish" and line.body["job"] == job]


def audited(play: Play, node: Any) -> None:
    """Nothing in this journal contradicts the log."""
    key = node._identity.node_key
    data = write_journal(node.asset, node._journal.lines(), key, now=play.clock())
    account = check_journal(play.market.app.state.context.log.history, data, "mine")
    assert account.findings == []
    assert account.lines


def test_a_journal_killed_at_any_moment_is_whole(tmp_path: Path):
    """A process that finishes and closes jobs one after the other is killed in the middle."""
    program = "import sys; from pathlib import Path; from tests.faults import test_node_faults as t"
    with subprocess.Popen(
        [sys.executable, "-c", f"{program}; t.write_for_ever(Path(sys.argv[1]))", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        said = [process.stdout.readline().strip() for _ in range(40)]
        process.kill()
        said += process.stdout.read().split()
    journal = Journal(tmp_path / "journal.db", lambda: 0)
    journal.verify()
    finished = [line.body["job"] for line in journal.lines() if line.kind == "finish"]
    # What was said to be durable is there, in order, and at most one more that was not said yet.
    assert finished[: len(said)] == said
    assert len(finished) <= len(said) + 1
    closed = sum(line.kind == "close" for line in journal.lines())
    assert len(finished) - closed in (0, 1)
    with journal.write() as book:
        assert len(book.waiting()) == len(finished) + closed
    journal.close()


def write_for_ever(folder: Path) -> None:
    """Run in a process of its own: finish job after job, and say which are durable."""
    journal = Journal(folder / "journal.db", lambda: 7)
    rows = Preparation.parse({})
    for number in itertools.count():
        job = f"job:{number}"
        with journal.write() as book:
            book.reserve(job, "asset:one", "agreement:a", rows)
            book.launch(job, "asset:one", 1, "grant:one")
        with journal.write() as book:
            book.finish(job, "asset:one", "completed", job.encode())
        print(job, flush=True)  # noqa: T201 - how the test is told
        with journal.write() as book:
            book.close("asset:one", number, b"close %d" % number)


# --- data


@pytest.mark.parametrize("change", ["cell", "row", "gone", "folder"])
def test_data_that_are_not_the_listed_ones_are_not_used(play: Play, change: str):
    talk = Talk(play)
    file = Path(play.files[0])
    text = file.read_text()
    expected = "data_changed"
    if change == "cell":
        file.write_text(text.replace("200", "201", 1))
    elif change == "row":
        file.write_text(text + "250,50,1\n")
    else:
        file.unlink()
        expected = "bad_data"
        if change == "folder":
            file.mkdir()
    assert play.ask(0, talk.round()) == talk.failed(expected)
    if change == "folder":
        file.rmdir()
    # Put back, the same question is answered.
    file.write_text(text)
    assert isinstance(play.ask(0, talk.round()), Contribution)


@pytest.mark.parametrize("error", [ValueError, KeyError, MemoryError, FloatingPointError])
def test_the_text_of_an_error_stays_in_the_node(
    play: Play, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
):
    talk = Talk(play)

    def answer(*_: Any) -> Any:
        raise error(f"could not convert {CANARY}")

    monkeypatch.setattr(Statistics, "answer", answer)
    app = make_client_app(play.nodes[0])
    assert app is not None
    from flwr.app import Context, RecordDict

    from federated.grid import InProcessGrid
    from federated.records import MESSAGE_TYPE, pack, unpack

    crossed: list[bytes] = []
    context = Context(1, 2, {}, RecordDict(), {})

    def tap(_way: str, _node: int, data: bytes) -> None:
        crossed.append(data)

    with InProcessGrid({2: (app, context)}, run_id=RUN, tap=tap) as grid:
        content = pack(talk.round().to_bytes(), lease=play.beside(talk.round()).lease)
        message = grid.create_message(content, MESSAGE_TYPE, 2, "1")
        (answered,) = grid.send_and_receive([message])
    reply = read_reply(unpack(answered))
    assert isinstance(reply, Failure)
    assert reply.reason == "internal"
    searcher = Searcher()
    searcher.seek_number(CANARY)
    assert searcher.found(crossed) == set()


@pytest.mark.parametrize("first", ["137.0625,x", "x,137.0625", "x,1e5", "-3,y", "?,y", "1.000,5"])
def test_a_row_is_not_taken_for_a_header_whose_names_all_may_read(first: str):
    from federated.errors import TableError

    spec = ReadingSpec(missing=("?",))
    with pytest.raises(TableError, match="line 1: the header holds a number") as refused:
        read_table(f"{first}\n1,2\n".encode(), spec, "basel.csv")
    assert "137" not in str(refused.value)
    assert read_table(b"x1,?y\n1,2\n", spec, "basel.csv").names == ("x1", "?y")


BAD_CELLS = {
    "text in a column of numbers": ("chol,age\n1,2\n3,x137.0625\n", {"columns": ["age"]}),
    "a level nobody declared": ("chol,age\n137.0625,2\n3,4\n", {"one_hot": {"chol": [1, 2]}}),
    "a row too long": ("chol,age\n1,2\n137.0625,2,3\n", {}),
    "an unclosed quote": ('chol,age\n1,2\n"137.0625,2\n', {}),
    "a huge number": ("chol,age\n1,2\n137.0625e999,2\n", {"columns": ["chol"]}),
}


@pytest.mark.parametrize("what", BAD_CELLS)
def test_no_message_about_bad_data_holds_a_cell(what: str, caplog: pytest.LogCaptureFixture):
    from federated.errors import FederatedError
    from federated.node.rows import prepare
    from federated.preparation import Preparation

    caplog.set_level(logging.DEBUG)
    text, given = BAD_CELLS[what]
    said = []
    try:
        table = read_table(text.encode(), ReadingSpec(), "basel.csv")
        rows = prepare(table, Preparation.parse({k: v for k, v in given.items() if k == "one_hot"}))
        for column in given.get("columns", ()):
            rows.column(column, "all")
    except FederatedError as error:
        said.append(str(error))
    said += [record.getMessage() for record in caplog.records]
    assert said
    assert not any("137" in each for each in said), said
