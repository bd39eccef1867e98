"""Shares work among processes, and hands the results back in order.

    for result in in_order(work, range(count), news, processes=2):
        news.append(…)          # what later tasks should know

The process that asks takes a share itself whenever it could only wait: what it did needs no way
back to it. Decides what happens when another one dies or does not answer: `WorkerError`, never a
wait without end. What the work is, its callers decide. At most a few tasks are on their way at a
time, so memory does not grow with their number.
"""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from ledger.errors import WorkerError

PATIENCE = 120.0
"""Longest silence of all workers while a result is due, seconds."""

_AHEAD = 2
"""Tasks that each worker has before it: one to do, one to go on with."""

_NEWS = 128
"""Most news with one task: keys of 330 bytes at most, they fit into a socket (some 200 KB) whose
other end is busy with its answer."""

_ROOM = 1 << 20
"""Bytes that a pipe of results may hold: a worker goes on while nobody reads them."""

_LENGTH = 8
"""Bytes before each result that say how long it is."""

R = TypeVar("R")
Work = Callable[[int, Sequence[Any]], R]


def in_order(
    work: Work[R],
    tasks: range,
    news: Sequence[Any] = (),
    *,
    processes: int = 1,
    patience: float = PATIENCE,
) -> Iterator[R]:
    """Yield the result of each task, in the order of the tasks.

    Args:
        work: called with a task and with the news that its process has not heard yet.
        tasks: numbers of the tasks.
        news: grows while the results are consumed; every process hears of it, in order.
        processes: how many share the work, this one among them.
        patience: longest silence of all others while their results are waited for, seconds.

    Raises:
        WorkerError: where several share it, one died, raised something, or did not answer in time.
    """
    if processes == 1 or "fork" not in multiprocessing.get_all_start_methods():
        heard = 0
        for task in tasks:
            fresh = news[heard:]
            heard += len(fresh)
            yield work(task, fresh)
        return
    crew = _Crew(work, news, processes - 1, patience)
    try:
        yield from crew.run(tasks)
    finally:
        crew.end()


class _Worker:
    """Another process, the pipes to it and from it, and what it was asked."""

    def __init__(self, work: Work[Any], others: Sequence[_Worker]) -> None:
        # Forked, so that a worker starts at once and knows all that this process knows.
        context = multiprocessing.get_context("fork")
        # A socket, which has room for a question however little the system grants to pipes: whoever
        # asks does not read answers meanwhile, and without room the two would wait for each other.
        asked, self.questions = context.Pipe()
        self.answers, answered = context.Pipe(duplex=False)
        with contextlib.suppress(AttributeError, OSError):  # as much as the system grants
            fcntl.fcntl(answered.fileno(), fcntl.F_SETPIPE_SZ, _ROOM)
        outer = [end for worker in (self, *others) for end in (worker.questions, worker.answers)]
        self.process = context.Process(
            target=_serve, args=(work, asked, answered, outer), daemon=True
        )
        self.process.start()
        asked.close()
        answered.close()
        self.tasks: deque[int] = deque()
        self.heard = 0
        self._read = bytearray()

    def read(self) -> Iterator[Answer]:
        """Return the answers that are there whole; one that stops half-way holds up nobody.

        Raises:
            EOFError: the process is gone.
        """
        chunk = os.read(self.answers.fileno(), _ROOM)
        if not chunk:
            raise EOFError
        self._read += chunk
        while len(self._read) >= (end := _LENGTH + int.from_bytes(self._read[:_LENGTH], "big")):
            yield pickle.loads(self._read[_LENGTH:end])  # noqa: S301 - a process forked from this
            del self._read[:end]


class _Crew:
    """This process and some workers, who share the tasks of one call."""

    def __init__(self, work: Work[Any], news: Sequence[Any], workers: int, patience: float) -> None:
        self.work = work
        self.news = news
        self.heard = 0
        self.patience = patience
        self.workers: list[_Worker] = []
        for _ in range(workers):
            self.workers.append(_Worker(work, self.workers))

    def run(self, tasks: range) -> Iterator[Any]:
        """Yield the results in order."""
        done: dict[int, Any] = {}
        given = 0
        for place, task in enumerate(tasks):
            if place == 0:
                # It brings the news that all others need, so nobody else has anything to do yet.
                done[task] = self._do(task)
                given = 1
            while task not in done:
                soon = min(len(tasks), place + 2 * _AHEAD * (len(self.workers) + 1))
                while given < soon and (free := self._free()) is not None:
                    self._give(free, tasks[given])
                    given += 1
                if self._collect(done, 0):
                    continue
                if given < soon:
                    done[tasks[given]] = self._do(tasks[given])
                    given += 1
                elif not self._collect(done, self.patience):
                    raise WorkerError(task, f"no answer within {self.patience:g} seconds")
            yield done.pop(task)

    def _do(self, task: int) -> Any:
        fresh = self.news[self.heard :]
        self.heard += len(fresh)
        return _result(task, _answer(self.work, task, fresh))

    def _free(self) -> _Worker | None:
        """Return the worker that has least to do, None where all have enough."""
        worker = min(self.workers, key=lambda item: len(item.tasks))
        return worker if len(worker.tasks) < _AHEAD else None

    def _give(self, worker: _Worker, task: int) -> None:
        fresh = self.news[worker.heard : worker.heard + _NEWS]
        worker.heard += len(fresh)
        worker.tasks.append(task)
        with contextlib.suppress(OSError):  # it is dead, which `_collect` will find out
            worker.questions.send((task, fresh))

    def _collect(self, done: dict[int, Any], patience: float) -> bool:
        """Take what has come, or comes within so many seconds; return whether any byte did."""
        busy = {worker.answers: worker for worker in self.workers if worker.tasks}
        ready = wait(list(busy), patience)
        for pipe in ready:
            worker = busy[pipe]  # type: ignore[index]
            try:
                for answer in worker.read():
                    task = worker.tasks.popleft()
                    done[task] = _result(task, answer)
            except (EOFError, OSError):
                why = "the process that checked it died"
                raise WorkerError(worker.tasks[0], why) from None
        return bool(ready)

    def end(self) -> None:
        """Stop every worker, whatever it is doing."""
        for worker in self.workers:
            worker.questions.close()
            worker.answers.close()
            worker.process.kill()
        for worker in self.workers:
            worker.process.join()
            worker.process.close()


Answer = tuple[Any, str | None]
"""What came out, or the kind of the failure: all that another process tells of it."""


def _answer(work: Work[Any], task: int, fresh: Sequence[Any]) -> Answer:
    try:
        return work(task, fresh), None
    except Exception as error:  # noqa: BLE001 - told to who asked, which reports it
        return None, type(error).__name__


def _result(task: int, answer: Answer) -> Any:
    result, failure = answer
    if failure is not None:
        raise WorkerError(task, f"the process that checked it failed: {failure}")
    return result


def _serve(
    work: Work[Any], questions: Connection, answers: Connection, outer: Sequence[Connection]
) -> None:
    """Answer until the other ends of the pipes are closed."""
    # The terminal sends an interrupt to all processes; the first one tells the others to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for end in outer:
        # A copy of the parent's end kept open here would hide from everybody that it went away.
        end.close()
    with contextlib.suppress(EOFError, OSError):
        while True:
            task, fresh = questions.recv()
            data = pickle.dumps(_answer(work, task, fresh), pickle.HIGHEST_PROTOCOL)
            rest = memoryview(len(data).to_bytes(_LENGTH, "big") + data)
            while rest:
                rest = rest[os.write(answers.fileno(), rest) :]
