"""Long rows of like work, cut into chunks and done by one or several processes.

What it decides: how many processes there are and how much each gets at a time. What it does not do:
know the work. Arguments and results are pickled and go through pipes to processes that this one
has started itself; nothing is written to disk.

    with Workers(processes=2) as workers:
        parts = workers.map(multiply, [(chunk, 0), (other, 4096)])

With one process the work is done by the caller, and nothing is started.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import TracebackType
from typing import Any, Self, TypeVar

from privacy.errors import PrivacyError

CHUNK = 2048
"""Members of a set that a process gets at a time: about 0.1 s of work."""

MAX_PROCESSES = 64

Result = TypeVar("Result")
Progress = Callable[[int, int], None]
"""Called with how many chunks are done, and how many there are."""


class Workers:
    """A number of processes that end with the `with` block.

    Args:
        processes: 1 for the calling process alone; up to `MAX_PROCESSES`.
        progress: Told after each chunk.

    Raises:
        PrivacyError: For a number outside of 1 to `MAX_PROCESSES`.
    """

    def __init__(self, processes: int = 1, progress: Progress | None = None) -> None:
        if not 1 <= processes <= MAX_PROCESSES:
            raise PrivacyError(
                f"{processes} processes: a number from 1 to {MAX_PROCESSES} is meant"
            )
        self._progress = progress
        # Not forked: a node runs threads, and a fork copies their locks in whatever state.
        self._pool = (
            ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
            if processes > 1
            else None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            # After an error the chunks that nobody began are dropped.
            self._pool.shutdown(cancel_futures=True)

    def map(
        self, work: Callable[..., Result], arguments: Sequence[tuple[Any, ...]]
    ) -> list[Result]:
        """Returns work(*a) for each a of `arguments`, in their order.

        Args:
            work: A function of a module, that a new process can import.
            arguments: One tuple for each chunk.

        Raises:
            Exception: Whatever `work` raises first, in the order of `arguments`.
        """
        results: Iterable[Result] = (
            (work(*each) for each in arguments)
            if self._pool is None
            else self._pool.map(work, *zip(*arguments, strict=True))
            if arguments
            else ()
        )
        done = []
        for result in results:
            done.append(result)
            if self._progress is not None:
                self._progress(len(done), len(arguments))
        return done
