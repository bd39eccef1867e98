"""What a child process runs in tests: programs that behave, and programs that die in each way."""

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Callable

from privacy.child import Frames, Refusal, answer_all


def echo(frames: Frames) -> None:
    answer_all(frames, lambda message: message)


def talk(frames: Frames) -> None:
    """Speaks first, then sends two frames for each one it gets."""
    frames.send(b"ready")
    while True:
        frame = frames.receive()
        frames.send(frame)
        frames.send(frame[::-1])


def answers(frames: Frames) -> None:
    answer_all(frames, _answer)


def _answer(message: list[bytes]) -> list[bytes]:
    wish, *rest = message
    grant = _WISHES.get(wish.decode())
    return [b"other"] if grant is None else grant(*rest)


def _refuse(word: bytes) -> list[bytes]:
    raise Refusal(word.decode())


def _fail(text: bytes) -> list[bytes]:
    raise ValueError(text)


def _allocate(count: bytes) -> list[bytes]:
    return [bytes(int(count))[:1]]


def _spin() -> list[bytes]:
    while True:
        pass


def _limits() -> list[bytes]:
    soft_core, _ = resource.getrlimit(resource.RLIMIT_CORE)
    memory, _ = resource.getrlimit(resource.RLIMIT_AS)
    return [
        str(soft_core).encode(),
        str(memory).encode(),
        repr(sorted(os.environ)).encode(),
        repr(sys.flags.isolated).encode(),
    ]


_WISHES: dict[str, Callable[..., list[bytes]]] = {
    "refuse": _refuse,
    "raise": _fail,
    "allocate": _allocate,
    "segfault": lambda: [ctypes.string_at(0)],
    "abort": os.abort,
    "exit": lambda: os._exit(3),
    "spin": _spin,
    "sleep": lambda: time.sleep(60) or [],
    "limits": _limits,
}


def long_frame(frames: Frames) -> None:
    """Announces a gigabyte and sends none of it."""
    os.write(frames.fileno(), (1 << 30).to_bytes(8, "big"))
    time.sleep(60)


def half_a_frame(frames: Frames) -> None:
    os.write(frames.fileno(), (100).to_bytes(8, "big") + b"half")
    os._exit(0)


def nonsense(frames: Frames) -> None:
    frames.receive()
    frames.send(b"no message at all")
    time.sleep(60)


def no_answer(frames: Frames) -> None:
    """A message, but neither an answer nor a refusal."""
    frames.receive()
    frames.send((1).to_bytes(4, "big") + (5).to_bytes(8, "big") + b"maybe")
    time.sleep(60)


def deaf(_frames: Frames) -> None:
    time.sleep(60)


def hang_up(frames: Frames) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    frames.close()
    time.sleep(60)
