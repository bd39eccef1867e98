"""Code that may crash on hostile bytes runs in a child process with limits of its own.

What it decides: how much memory, processor time and wall-clock time a child may have, how long a
frame may be, and that whatever happens to the child is a typed error in its parent. What it does
not do: confine a child that was taken over. It runs as the same user and can open the same files;
the limits bound accidents (a crash, a bomb, an endless loop), they are no sandbox.

    limits = ChildLimits(memory=1 << 30, cpu_seconds=60, frame_bytes=1 << 26)
    with Child.start("privacy.ckks.engine:serve", limits) as child:
        reply = child.ask([b"..."], seconds=10)

The child runs `function(frames: Frames)` of an installed module, in isolated mode, with an empty
environment, without standard streams and core dumps. A **frame** is eight bytes of length, big-
endian, and that many bytes; the length is checked before the body is read. Frames flow both ways
at any time (`Child.send`, `Child.receive`). A **message** is a list of byte strings in one frame;
`Child.ask` sends one and waits for one, and `answer_all` is the child's side of that.
"""

import contextlib
import importlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from privacy.errors import (
    ChildDiedError,
    ChildError,
    ChildFrameError,
    ChildMemoryError,
    ChildRefusalError,
    ChildTimeoutError,
)

_LENGTH = 8
_COUNT = 4
_OUT_OF_MEMORY = 71
_FAILED = 70
_REASON = re.compile("[a-z]{1,20}")
_DONE, _REFUSED = b"done", b"refused"

# One thread for the linear algebra that a module may load: each thread takes address space.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class ChildLimits:
    """What one child may use.

    Attributes:
        memory: Bytes of address space (RLIMIT_AS), the interpreter included.
        cpu_seconds: Processor time over the child's whole life (RLIMIT_CPU).
        frame_bytes: Longest frame that either side accepts, in bytes.
    """

    memory: int
    cpu_seconds: int
    frame_bytes: int

    def __post_init__(self) -> None:
        if min(self.memory, self.cpu_seconds, self.frame_bytes) < 1:
            raise ChildError("each limit of a child process must be positive")


class Frames:
    """One end of the connection between parent and child: whole frames, never part of one.

    Args:
        connection: A connected stream socket.
        frame_bytes: Longest frame that is accepted or sent.
    """

    def __init__(self, connection: socket.socket, frame_bytes: int) -> None:
        self._connection = connection
        self._frame_bytes = frame_bytes

    def fileno(self) -> int:
        """The socket's descriptor, for whoever waits for several things at once."""
        return self._connection.fileno()

    def send(self, *parts: bytes | memoryview, seconds: float | None = None) -> None:
        """Sends the parts, joined, as one frame.

        Args:
            parts: What makes the frame.
            seconds: How long the other side may take to read it; None for as long as it wants.

        Raises:
            ChildFrameError: If the frame would be too long; nothing is sent.
            TimeoutError: If the other side does not read.
            OSError: If it is gone.
        """
        length = sum(len(part) for part in parts)
        if length > self._frame_bytes:
            raise ChildFrameError(
                f"a frame of {length} bytes is longer than the {self._frame_bytes} agreed"
            )
        until = _deadline(seconds)
        for part in (length.to_bytes(_LENGTH, "big"), *parts):
            self._connection.settimeout(_left(until))
            self._connection.sendall(part)

    def receive(self, *, seconds: float | None = None) -> bytes:
        """Waits for one frame.

        Args:
            seconds: How long until the whole of it must be here; None for ever.

        Raises:
            ChildFrameError: If the frame is announced as too long; its body is not read.
            EOFError: If the other side is gone.
            TimeoutError: If it is not here in time.
        """
        until = _deadline(seconds)
        length = int.from_bytes(self._read(_LENGTH, until), "big")
        if length > self._frame_bytes:
            raise ChildFrameError(
                f"a frame of {length} bytes is longer than the {self._frame_bytes} agreed"
            )
        return self._read(length, until)

    def _read(self, length: int, until: float | None) -> bytes:
        buffer = bytearray(length)
        view = memoryview(buffer)
        while view:
            self._connection.settimeout(_left(until))
            count = self._connection.recv_into(view)
            if not count:
                raise EOFError
            view = view[count:]
        return bytes(buffer)

    def close(self) -> None:
        """Closes this end; the other one reads that it is gone."""
        self._connection.close()


def _deadline(seconds: float | None) -> float | None:
    return None if seconds is None else time.monotonic() + seconds


def _left(until: float | None) -> float | None:
    if until is None:
        return None
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def split_message(frame: bytes) -> list[bytes]:
    """The byte strings of a message: a count, as many lengths, as many bodies.

    Raises:
        ChildFrameError: If the frame is not exactly that.
    """
    count = int.from_bytes(frame[:_COUNT], "big")
    start = _COUNT + count * _LENGTH
    if len(frame) < _COUNT or start > len(frame):
        raise ChildFrameError("a frame is shorter than its own table of contents")
    parts = []
    for at in range(_COUNT, _COUNT + count * _LENGTH, _LENGTH):
        end = start + int.from_bytes(frame[at : at + _LENGTH], "big")
        if end > len(frame):
            raise ChildFrameError("a frame is shorter than its own table of contents says")
        parts.append(frame[start:end])
        start = end
    if start != len(frame):
        raise ChildFrameError("a frame goes on after its last part")
    return parts


def _message(parts: Sequence[bytes]) -> list[bytes]:
    lengths = b"".join(len(part).to_bytes(_LENGTH, "big") for part in parts)
    return [len(parts).to_bytes(_COUNT, "big") + lengths, *parts]


class EndsWithBlock(ABC):
    """Ends together with its `with` block, however that is left."""

    @abstractmethod
    def end(self) -> None:
        """Ends it; nothing secret is left."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()


class Child(EndsWithBlock):
    """A running child process, owned by one user at a time. Use it as a context manager.

    After any error other than a refusal the child is gone, and each further call says so.
    """

    def __init__(self, process: subprocess.Popen[bytes], frames: Frames) -> None:
        """Use `start`."""
        self._process = process
        self._frames = frames

    @classmethod
    def start(cls, program: str, limits: ChildLimits) -> Self:
        """Starts a child; it returns before the child has loaded its module.

        Args:
            program: "module:function" of an installed module; trusted, never an outsider's word.
            limits: What the child may use.

        Raises:
            ChildError: If the system cannot start a process.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            ours.set_inheritable(False)
            command = [sys.executable, "-I"]
            if sys.pycache_prefix is not None:
                command += ["-X", f"pycache_prefix={sys.pycache_prefix}"]
            numbers = (theirs.fileno(), limits.memory, limits.cpu_seconds, limits.frame_bytes)
            command += ["-m", "privacy.child", program, *map(str, numbers)]
            try:
                process = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=_ENVIRONMENT,
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise ChildError(f"no child process can be started: {error.strerror}") from None
        return cls(process, Frames(ours, limits.frame_bytes))

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send(self, *parts: bytes, seconds: float) -> None:
        """Sends one frame.

        Args:
            parts: What makes the frame, joined.
            seconds: How long the child may take to read it.

        Raises:
            ChildFrameError: If it is too long.
            ChildTimeoutError: If the child does not read it in time; it is ended.
            ChildError: If the child is gone, as its own kind says why.
        """
        try:
            self._frames.send(*parts, seconds=seconds)
        except TimeoutError:
            self.end()
            raise ChildTimeoutError(f"a child process did not read for {seconds} s") from None
        except OSError:
            raise self._death() from None

    def receive(self, *, seconds: float) -> bytes:
        """Waits for one frame.

        Raises:
            ChildFrameError: If the child announces one that is too long; the child is ended.
            ChildTimeoutError: If it is not here in time; the child is ended.
            ChildError: If the child is gone, as its own kind says why.
        """
        try:
            return self._frames.receive(seconds=seconds)
        except TimeoutError:
            self.end()
            raise ChildTimeoutError(f"a child process did not answer for {seconds} s") from None
        except ChildFrameError:
            self.end()
            raise
        except (EOFError, OSError):
            raise self._death() from None

    def ask(self, parts: Sequence[bytes], *, seconds: float) -> list[bytes]:
        """Sends one message and waits for the answer of `answer_all`.

        Args:
            parts: The message.
            seconds: How long reading it, working and answering may take in all.

        Raises:
            ChildRefusalError: If the child refused; it can be asked again.
            ChildMemoryError: If it ran out of memory; it is ended.
            ChildError: Of other kinds, as for `send` and `receive`.
        """
        until = time.monotonic() + seconds
        self.send(*_message(parts), seconds=seconds)
        frame = self.receive(seconds=max(until - time.monotonic(), 0.001))
        try:
            reply = split_message(frame)
        except ChildFrameError:
            self.end()
            raise
        if reply[:1] == [_DONE]:
            return reply[1:]
        if len(reply) != 2 or reply[0] != _REFUSED:
            self.end()
            raise ChildFrameError("a child process answered with something that is no answer")
        reason = reply[1].decode("ascii", "replace")
        if not _REASON.fullmatch(reason):
            self.end()
            raise ChildFrameError("a child process gave a reason that is not one word")
        if reason == "memory":
            self.end()
            raise ChildMemoryError
        raise ChildRefusalError(reason)

    def _death(self) -> ChildError:
        """Why the child is gone; it is, or will be at once."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
        code = self._process.poll()
        self.end()
        if code is None:
            return ChildDiedError("a child process closed its connection and went on")
        if code == _OUT_OF_MEMORY:
            return ChildMemoryError()
        if code == -signal.SIGXCPU:
            return ChildTimeoutError("a child process used up its processor time")
        if code < 0:
            return ChildDiedError(f"a child process was ended by: {signal.strsignal(-code)}")
        return ChildDiedError(f"a child process ended by itself with code {code}")

    def end(self) -> None:
        """Ends the child at once; does nothing the second time."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._frames.close()


class Refusal(Exception):  # noqa: N818 - the word that an answer is refused with, no failure
    """Raised in a child by an `answer`, with the one word that its parent may read."""


def answer_all(frames: Frames, answer: Callable[[list[bytes]], Sequence[bytes]]) -> None:
    """The child's side of `Child.ask`: answers each message until the parent is gone.

    Args:
        frames: The connection to the parent.
        answer: Turns a message into another one, or raises `Refusal`. Whatever else it raises
            becomes the word "failed", running out of memory the word "memory": the text of an
            exception may quote what it choked on, so it stays here.
    """
    while True:
        try:
            message = split_message(frames.receive())
        except EOFError:
            return
        reply: Sequence[bytes]
        try:
            reply = [_DONE, *answer(message)]
        except Refusal as refusal:
            reply = [_REFUSED, str(refusal).encode()]
        except MemoryError:
            reply = [_REFUSED, b"memory"]
        except Exception:  # noqa: BLE001 - nothing of it may leave, and the child goes on
            reply = [_REFUSED, b"failed"]
        frames.send(*_message(reply))


def _leave_with_parent() -> None:
    """The parent alone holds the other end of standard input: at its end, so ends the child."""
    while os.read(0, 1):
        pass
    os._exit(_FAILED)


def run(arguments: Sequence[str]) -> None:
    """What the child process does: sets its limits, then calls the named function.

    Args:
        arguments: Program, descriptor of the socket, and the three limits.
    """
    program, *numbers = arguments
    descriptor, memory, cpu_seconds, frame_bytes = map(int, numbers)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # At the first number SIGXCPU, which says why; at the second SIGKILL, which nothing catches.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    try:
        module, _, name = program.partition(":")
        function = getattr(importlib.import_module(module), name)
        function(Frames(socket.socket(fileno=descriptor), frame_bytes))
    except MemoryError:
        os._exit(_OUT_OF_MEMORY)
    except BaseException:  # noqa: BLE001 - a traceback would show what was being read
        os._exit(_FAILED)
    os._exit(0)


if __name__ == "__main__":
    run(sys.argv[1:])
