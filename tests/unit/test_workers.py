"""Work in other processes: in order, and never a wait without end."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing import Pipe
from multiprocessing.context import BaseContext
from types import SimpleNamespace
from typing import Any

import pytest

from ledger import workers
from ledger.errors import WorkerError
from ledger.workers import in_order

HERE = os.getpid()


def elsewhere() -> bool:
    """Whether this is not the process that asks."""
    return os.getpid() != HERE


def square(task: int, _news: Sequence[object]) -> int:
    return task * task


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_results_come_in_the_order_of_the_tasks(processes: int, count: int):
    found = list(in_order(square, range(count), processes=processes))
    assert found == [task * task for task in range(count)]


def slow_first(task: int, _news: Sequence[object]) -> int:
    if task == 1:
        time.sleep(0.2)  # in the other process: later results are there before
    return task


def test_a_late_result_keeps_its_place():
    assert list(in_order(slow_first, range(20), processes=2)) == list(range(20))


def who(_task: int, _news: Sequence[object]) -> int:
    time.sleep(0.005)
    return os.getpid()


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_so_many_processes_share_the_tasks_and_this_one_is_of_them(processes: int):
    found = list(in_order(who, range(60), processes=processes))
    assert len(set(found)) == processes
    assert HERE in found
    assert found[0] == HERE


@pytest.mark.parametrize("processes", [1, 2])
def test_every_process_hears_the_news_once_and_in_order(processes: int):
    heard: list[int] = []

    def work(_task: int, news: Sequence[object]) -> tuple[int, list[int]]:
        heard.extend(news)  # type: ignore[arg-type]
        return os.getpid(), list(heard)

    news: list[int] = []
    by_worker: dict[int, list[list[int]]] = {}
    for number, (worker, known) in enumerate(in_order(work, range(30), news, processes=processes)):
        by_worker.setdefault(worker, []).append(known)
        news += [10 * number, 10 * number + 1]
    for known in by_worker.values():
        assert all(part == news[: len(part)] for part in known)
    assert max(len(known[-1]) for known in by_worker.values()) >= 20
    # The first task is done alone, so that all others know what it brings.
    assert all(part for known in by_worker.values() for part in known[1:])


def test_more_news_than_fit_into_one_message_come_with_the_next():
    news = list(range(1000))
    found = [len(part) for part in in_order(count_news, range(12), news, processes=1)]
    assert found == [1000] + [0] * 11


def test_another_process_is_told_a_little_at_a_time():
    def heard(_task: int, news: Sequence[object]) -> tuple[bool, list[object]]:
        time.sleep(0.005)
        return elsewhere(), list(news)

    news = list(range(1000))
    found = list(in_order(heard, range(60), news, processes=2))
    for other in (False, True):
        assert [item for there, part in found for item in part if there == other] == news
    lengths = [len(part) for there, part in found if there]
    assert set(lengths) == {workers._NEWS, 1000 - 7 * workers._NEWS, 0}


@pytest.mark.parametrize("length", [10, 3 << 20])
def test_results_longer_than_a_pipe_do_not_stand_in_the_way_of_news(length: int):
    def work(task: int, _news: Sequence[object]) -> tuple[int, bytes]:
        return task, bytes(length)

    # As long as a key's text can be: a name of 256 bytes, 8 and 44 characters, two signs.
    news = [f"{number:0310d}" for number in range(5000)]
    found = list(in_order(work, range(40), news, processes=3, patience=20))
    assert found == [(task, bytes(length)) for task in range(40)]


@pytest.mark.timeout(30)
def test_pipes_that_hold_a_page_do_not_stand_in_the_way_of_news(monkeypatch: pytest.MonkeyPatch):
    """Whose user has many pipes open gets small ones: the audit and its worker waited for ever."""
    real, resize = BaseContext.Pipe, fcntl.fcntl

    def small(self: BaseContext, duplex: bool = True) -> Any:  # noqa: FBT001, FBT002
        ends = real(self, duplex)
        if not duplex:
            resize(ends[1].fileno(), fcntl.F_SETPIPE_SZ, 4096)
        return ends

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(BaseContext, "Pipe", small)
    monkeypatch.setattr(workers.fcntl, "fcntl", refuse)
    test_results_longer_than_a_pipe_do_not_stand_in_the_way_of_news(3 << 20)


ORPHANS = """
import os, sys, time
from ledger.workers import in_order

def work(task, news):
    print(os.getpid(), flush=True)
    return bytes(int(sys.argv[1]))

for _ in in_order(work, range(100), processes=3):
    time.sleep(60)
"""


@pytest.mark.parametrize("length", ["1", "3000000"])
def test_workers_end_when_their_reader_is_killed(length: str):
    command = [sys.executable, "-c", ORPHANS, length]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            # The first task is its own.
            assert int(process.stdout.readline()) == process.pid
        finally:
            process.kill()
        # They hold the other ends of its output, which end with them.
        process.stdout.read()


def count_news(_task: int, news: Sequence[object]) -> list[object]:
    return list(news)


def die(task: int, _news: Sequence[object]) -> int:
    if elsewhere():
        os.kill(os.getpid(), signal.SIGKILL)
    return task


@pytest.mark.parametrize("count", [2, 3, 100])
def test_a_worker_that_dies_is_told(count: int):
    with pytest.raises(WorkerError, match="died") as raised:
        list(in_order(die, range(count), processes=2))
    assert raised.value.task == 1


def hang(task: int, _news: Sequence[object]) -> int:
    while elsewhere():
        time.sleep(10)
    return task


def test_a_worker_that_does_not_answer_is_ended():
    start = time.monotonic()
    with pytest.raises(WorkerError, match=r"no answer within 0.3 seconds") as raised:
        list(in_order(hang, range(100), processes=2, patience=0.3))
    assert raised.value.task == 1
    assert time.monotonic() - start < 5


@pytest.mark.timeout(30)
def test_a_worker_that_stops_in_the_middle_of_its_answer_is_ended(monkeypatch: pytest.MonkeyPatch):
    """The rest of the answer was waited for without end."""
    real = os.write

    def stops(where: int, data: memoryview) -> int:
        if not elsewhere():
            return real(where, data)
        real(where, data[:20])
        os.kill(os.getpid(), signal.SIGSTOP)
        raise AssertionError

    monkeypatch.setattr(workers.os, "write", stops)
    with pytest.raises(WorkerError, match=r"no answer within 0.3 seconds") as raised:
        list(in_order(square, range(100), processes=2, patience=0.3))
    assert raised.value.task == 1


def test_a_worker_that_dies_in_the_middle_of_its_answer_is_told(monkeypatch: pytest.MonkeyPatch):
    real = os.write

    def dies(where: int, data: memoryview) -> int:
        written = real(where, data[:20] if elsewhere() else data)
        if elsewhere():
            os.kill(os.getpid(), signal.SIGKILL)
        return written

    monkeypatch.setattr(workers.os, "write", dies)
    with pytest.raises(WorkerError, match="died") as raised:
        list(in_order(square, range(100), processes=2))
    assert raised.value.task == 1


@pytest.mark.parametrize("piece", [1, 7, 8, 9, 1000])
def test_answers_come_whole_however_they_are_cut(monkeypatch: pytest.MonkeyPatch, piece: int):
    real = os.write
    monkeypatch.setattr(workers.os, "write", lambda where, data: real(where, data[:piece]))
    found = list(in_order(lambda task, _news: "x" * task, range(60), processes=2))
    assert found == ["x" * task for task in range(60)]


def test_this_process_does_not_run_ahead_of_one_that_hangs():
    did: list[int] = []

    def note(task: int, _news: Sequence[object]) -> int:
        did.append(task)
        return hang(task, _news)

    with pytest.raises(WorkerError):
        list(in_order(note, range(1000), processes=2, patience=0.1))
    assert 3 in did
    assert max(did) < 10


def fail(task: int, _news: Sequence[object]) -> int:
    if task == 3:
        raise ValueError("secret")
    return task


@pytest.mark.parametrize("there", [False, True])
def test_a_failure_is_told_by_its_kind_wherever_it_happens(*, there: bool):
    def work(_task: int, _news: Sequence[object]) -> None:
        if elsewhere() == there:
            raise ValueError("secret")

    with pytest.raises(WorkerError, match=r"failed: ValueError$") as raised:
        list(in_order(work, range(10), processes=2))
    assert raised.value.task == int(there)


def test_workers_end_with_their_reader(monkeypatch: pytest.MonkeyPatch):
    crews = []

    class Seen(workers._Crew):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            crews.append([worker.process.pid for worker in self.workers])

    monkeypatch.setattr(workers, "_Crew", Seen)
    results = in_order(square, range(10), processes=2)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    for pid in crews[0]:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_task_for_a_dead_worker_is_not_lost_without_a_word():
    crew = workers._Crew(square, (), 1, 5)
    try:
        (worker,) = crew.workers
        worker.process.kill()
        worker.process.join()
        with pytest.raises(WorkerError, match="died") as raised:
            list(crew.run(range(9)))
    finally:
        crew.end()
    assert raised.value.task == 1


def test_without_forks_all_is_done_here(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    here = list(in_order(lambda task, _news: (task, os.getpid()), range(3), processes=2))
    assert here == [(task, os.getpid()) for task in range(3)]


def test_a_worker_answers_until_its_reader_is_gone():
    """What runs in the other process, run in this one."""
    before = signal.getsignal(signal.SIGINT)
    asked, questions = Pipe()
    answers, answered = Pipe(duplex=False)
    outer, _ = Pipe()
    for task in (2, 3, 4):
        questions.send((task, []))
    questions.close()
    try:
        workers._serve(fail, asked, answered, [outer])
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    answered.close()
    reader = SimpleNamespace(answers=answers, _read=bytearray())
    found = list(workers._Worker.read(reader))  # type: ignore[arg-type]
    assert found == [(2, None), (None, "ValueError"), (4, None)]
    with pytest.raises(EOFError):
        next(workers._Worker.read(reader))  # type: ignore[arg-type]
    assert outer.closed
