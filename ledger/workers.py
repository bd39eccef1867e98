"""Does work in other processes, and hands the results back in order.

    for result in in_order(work, range(count), news, processes=2):
        news.append(…)          # what later tasks should know

Decides what happens when a worker dies or does not answer: `WorkerError`, never a wait without end.
What the work is, its callers decide. At most a few tasks are on their way at a time, so memory does
not grow with their number.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from ledger.errors import WorkerError

PATIENCE = 120.0
"""Longest wait for any result while one is due, seconds."""

_AHEAD = 2
"""Tasks that each worker has before it: one to do, one to go on with."""

_NEWS = 128
"""Most news with one task: more might fill a pipe whose other end is busy filling its own."""

_ROOM = 1 << 21
"""Bytes that a pipe may hold: a worker goes on while nobody reads its result."""

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
        news: grows while the results are consumed; every worker hears of it, in order.
        processes: how many; 1 does everything in this process.
        patience: seconds.

    Raises:
        WorkerError: a worker died, raised something, or did not answer in time.
    """
    if processes == 1 or "fork" not in multiprocessing.get_all_start_methods():
        heard = 0
        for task in tasks:
            fresh = news[heard:]
            heard += len(fresh)
            yield work(task, fresh)
        return
    crew = _Crew(work, news, processes, patience)
    try:
        yield from crew.run(tasks)
    finally:
        crew.end()


class _Worker:
    """One process, the pipe to it, and what it was asked."""

    def __init__(self, work: Work[Any], others: Sequence[_Worker]) -> None:
        # Forked, so that a worker starts at once and knows all that this process knows.
        context = multiprocessing.get_context("fork")
        self.pipe, inner = context.Pipe()
        with socket.socket(fileno=os.dup(inner.fileno())) as end:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)
        outer = [self.pipe, *(other.pipe for other in others)]
        self.process = context.Process(target=_serve, args=(work, inner, outer), daemon=True)
        self.process.start()
        inner.close()
        self.tasks: deque[int] = deque()
        self.heard = 0


class _Crew:
    """Workers that share the tasks of one call."""

    def __init__(
        self, work: Work[Any], news: Sequence[Any], processes: int, patience: float
    ) -> None:
        self.news = news
        self.patience = patience
        self.workers: list[_Worker] = []
        for _ in range(processes):
            self.workers.append(_Worker(work, self.workers))

    def run(self, tasks: range) -> Iterator[Any]:
        """Yield the results in order."""
        done: dict[int, Any] = {}
        given = 0
        for place, task in enumerate(tasks):
            while task not in done:
                # The first result brings the news that all others need: it is waited for alone.
                ahead = _AHEAD * len(self.workers) if place else 1
                while given < min(len(tasks), place + ahead):
                    worker = min(self.workers, key=lambda item: len(item.tasks))
                    self._give(worker, tasks[given])
                    given += 1
                self._collect(done)
            yield done.pop(task)

    def _give(self, worker: _Worker, task: int) -> None:
        fresh = self.news[worker.heard : worker.heard + _NEWS]
        worker.heard += len(fresh)
        worker.tasks.append(task)
        with contextlib.suppress(OSError):  # it is dead, which `_collect` will find out
            worker.pipe.send((task, fresh))

    def _collect(self, done: dict[int, Any]) -> None:
        """Wait for at least one result."""
        busy = {worker.pipe: worker for worker in self.workers if worker.tasks}
        ready = wait(list(busy), self.patience)
        if not ready:
            late = next(iter(busy.values())).tasks[0]
            raise WorkerError(late, f"no answer within {self.patience:g} seconds")
        for pipe in ready:
            worker = busy[pipe]  # type: ignore[index]
            task = worker.tasks[0]
            try:
                result, failure = worker.pipe.recv()
            except (EOFError, OSError):
                raise WorkerError(task, "the process that checked it died") from None
            if failure is not None:
                raise WorkerError(task, f"the process that checked it failed: {failure}")
            done[worker.tasks.popleft()] = result

    def end(self) -> None:
        """Stop every worker, whatever it is doing."""
        for worker in self.workers:
            worker.pipe.close()
            worker.process.kill()
        for worker in self.workers:
            worker.process.join()
            worker.process.close()


def _serve(work: Work[Any], pipe: Connection, outer: Sequence[Connection]) -> None:
    """Answer until the other end of the pipe is closed."""
    # The terminal sends an interrupt to all processes; the first one tells the others to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for end in outer:
        # A copy of the parent's end kept open here would hide from everybody that it went away.
        end.close()
    with contextlib.suppress(EOFError, OSError):
        while True:
            task, fresh = pipe.recv()
            try:
                answer: tuple[Any, str | None] = work(task, fresh), None
            except Exception as error:  # noqa: BLE001 - told to the parent, which reports it
                answer = None, f"{type(error).__name__}"
            pipe.send(answer)
