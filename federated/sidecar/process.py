"""Runs the sidecar's program on a leash: one line in, one event out, a time limit, and the end.

The program leads a process group of its own, which is killed with everything in it when the block
ends. Should this process die first, the program notices by its standard input and ends itself. It
sees a few variables that are set here and a folder of its own, and no file of ours is open in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from federated.errors import SidecarError, SidecarTimeoutError, WorkerDiedError

_LONGEST_LINE: Final = 4096
# Its threads sleep while they wait: by default they burn a processor that somebody else may need.
_ENVIRONMENT: Final = {"KMP_BLOCKTIME": "0", "LC_ALL": "C", "OMP_WAIT_POLICY": "PASSIVE"}


class WorkerProcess:
    """The program, from its start to its end; used as a context manager."""

    def __init__(self, command: list[str], folder: Path, *, seconds: float) -> None:
        """Starts it.

        Args:
            command: what is run; the first word is an interpreter.
            folder: its working folder, and where its temporary files go.
            seconds: how long it may take in all.

        Raises:
            WorkerDiedError: it cannot be started.
        """
        self._deadline = time.monotonic() + seconds
        self._buffer = b""
        environment = _ENVIRONMENT | {"PATH": os.defpath, "TMPDIR": str(folder)}
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and file
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise WorkerDiedError from error

    @property
    def pid(self) -> int:
        """Its process id, which is that of its group too."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                # The other end is gone: what was not taken is nobody's.
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def write(self, line: object) -> None:
        """Hand it one line: a word, or anything that JSON can say.

        Raises:
            WorkerDiedError: it is no more.
        """
        text = line if isinstance(line, str) else json.dumps(line)
        if self._process.stdin is None:
            raise WorkerDiedError
        try:
            self._process.stdin.write(text.encode() + b"\n")
        except BrokenPipeError as error:
            raise WorkerDiedError from error

    def read(
        self, seconds: float | None = None, late: type[SidecarError] = SidecarTimeoutError
    ) -> dict[str, object]:
        """Return its next event.

        Args:
            seconds: how long to wait for this one; None for as long as the whole may take.
            late: what it means when that time is over.

        Raises:
            SidecarTimeoutError: the whole takes too long.
            WorkerDiedError: it ended, or says what is no event.
        """
        until = self._deadline if seconds is None else time.monotonic() + seconds
        while b"\n" not in self._buffer:
            self._fill(until, late)
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            event = json.loads(line)
        except ValueError as error:
            raise WorkerDiedError from error
        if not isinstance(event, dict):
            raise WorkerDiedError
        return event

    def finish(self, seconds: float) -> None:
        """Let it end by itself, for so long; whether it did makes no difference to the answer."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def _fill(self, until: float, late: type[SidecarError]) -> None:
        if self._process.stdout is None:
            raise WorkerDiedError
        left = min(until, self._deadline) - time.monotonic()
        ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, left))
        if not ready:
            raise late if until < self._deadline else SidecarTimeoutError
        data = os.read(self._process.stdout.fileno(), _LONGEST_LINE)
        if not data or len(self._buffer) > _LONGEST_LINE:
            raise WorkerDiedError
        self._buffer += data
