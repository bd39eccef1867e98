import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from privacy.child import Child, ChildLimits, split_message
from privacy.errors import (
    ChildDiedError,
    ChildError,
    ChildFrameError,
    ChildMemoryError,
    ChildRefusalError,
    ChildTimeoutError,
)

LIMITS = ChildLimits(memory=1 << 29, cpu_seconds=20, frame_bytes=1 << 24)


def start(program: str, limits: ChildLimits = LIMITS) -> Child:
    return Child.start(f"tests.child_programs:{program}", limits)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def ask(child: Child, *message: bytes, seconds: float = 20) -> list[bytes]:
    return child.ask(message, seconds=seconds)


def test_a_child_answers_many_messages_and_is_gone_afterwards():
    with start("echo") as child:
        assert ask(child, b"one", b"") == [b"one", b""]
        assert ask(child) == []
        big = os.urandom(1 << 23)
        assert ask(child, big, b"x") == [big, b"x"]
        pid = child.pid
        assert not is_gone(pid)
    assert is_gone(pid)


def test_frames_flow_both_ways_and_either_side_may_begin():
    with start("talk") as child:
        assert child.receive(seconds=20) == b"ready"
        for frame in (b"ab", b"", b"long" * 1000):
            child.send(frame, seconds=5)
        received = [child.receive(seconds=5) for _ in range(6)]
    assert received == [b"ab", b"ba", b"", b"", b"long" * 1000, b"gnol" * 1000]


def test_the_child_has_its_limits_an_empty_environment_and_no_core_dumps(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("SECRET_OF_THE_PARENT", "1")
    with start("answers") as child:
        core, memory, environment, isolated = ask(child, b"limits")
    assert (int(core), int(memory), isolated) == (0, LIMITS.memory, b"1")
    assert b"SECRET_OF_THE_PARENT" not in environment
    assert b"PATH" not in environment


def test_a_refusal_is_one_word_and_the_child_goes_on():
    with start("answers") as child:
        with pytest.raises(ChildRefusalError) as refused:
            ask(child, b"refuse", b"ciphertext")
        assert refused.value.reason == "ciphertext"
        assert ask(child, b"anything") == [b"other"]


def test_no_text_of_an_exception_crosses():
    with start("answers") as child:
        with pytest.raises(ChildRefusalError) as refused:
            ask(child, b"raise", b"0.25")
        assert refused.value.reason == "failed"
        assert "0.25" not in str(refused.value)
        with pytest.raises(ChildFrameError) as quoted:
            ask(child, b"refuse", b"the value was 0.25")
        assert "0.25" not in str(quoted.value)


def test_memory_is_bounded_and_with_more_of_it_the_same_request_is_answered():
    with start("answers") as child:
        with pytest.raises(ChildMemoryError):
            ask(child, b"allocate", b"600000000")
        with pytest.raises(ChildError):
            ask(child, b"anything")
    with start("answers", ChildLimits(1 << 30, 20, 1 << 20)) as child:
        assert ask(child, b"allocate", b"600000000") == [b"\0"]


def test_a_child_that_cannot_even_load_within_its_memory_says_so():
    with start("echo", ChildLimits(1 << 20, 20, 1 << 20)) as child, pytest.raises(ChildError):
        ask(child, b"x")


@pytest.mark.parametrize(
    ("wish", "how"),
    [(b"segfault", "Segmentation fault"), (b"abort", "Aborted"), (b"exit", "with code 3")],
)
def test_a_death_is_named_and_the_child_is_gone(wish: bytes, how: str):
    with start("answers") as child:
        with pytest.raises(ChildDiedError, match=how):
            ask(child, wish)
        assert is_gone(child.pid)
        with pytest.raises(ChildError):
            ask(child, b"anything")


def test_a_child_that_takes_too_long_is_ended_and_its_twin_with_time_is_not():
    with start("answers") as child:
        assert ask(child, b"anything", seconds=20) == [b"other"]
        with pytest.raises(ChildTimeoutError):
            ask(child, b"sleep", seconds=0.2)
        assert is_gone(child.pid)


@pytest.mark.slow
def test_processor_time_is_bounded():
    with (
        start("answers", ChildLimits(1 << 29, 1, 1 << 20)) as child,
        pytest.raises(ChildTimeoutError, match="processor time"),
    ):
        ask(child, b"spin", seconds=30)


def test_a_child_that_does_not_read_is_ended():
    with start("deaf") as child:
        with pytest.raises(ChildTimeoutError, match="read"):
            child.send(b"x" * (1 << 23), seconds=0.3)
        assert is_gone(child.pid)


def test_a_gigabyte_that_is_announced_is_not_waited_for():
    with start("long_frame") as child:
        with pytest.raises(ChildFrameError, match="1073741824"):
            child.receive(seconds=20)
        assert is_gone(child.pid)


def test_a_frame_beyond_the_limit_is_not_sent_and_one_at_the_limit_is():
    with start("echo", ChildLimits(1 << 29, 20, 1000)) as child:
        with pytest.raises(ChildFrameError):
            ask(child, b"x" * 1000)
        # Four bytes of count, eight of length; the answer has "done" in front.
        at_the_limit = b"x" * (1000 - 4 - 2 * 8 - 4)
        assert ask(child, at_the_limit) == [at_the_limit]


@pytest.mark.parametrize("program", ["nonsense", "no_answer"])
def test_a_reply_that_is_none_is_refused(program: str):
    with start(program) as child:
        with pytest.raises(ChildFrameError):
            ask(child, b"x")
        assert is_gone(child.pid)


@pytest.mark.parametrize("program", ["half_a_frame", "hang_up"])
def test_a_child_that_hangs_up_is_refused(program: str):
    with start(program) as child:
        with pytest.raises(ChildDiedError):
            child.receive(seconds=20)
        assert is_gone(child.pid)


def test_an_unknown_program_ends_the_child():
    with start("nothing_of_this_name") as child, pytest.raises(ChildDiedError, match="code 70"):
        ask(child, b"x")


def test_a_child_ends_with_its_parent(tmp_path: Path):
    script = (
        "import sys, time\n"
        "from privacy.child import Child, ChildLimits\n"
        "child = Child.start('tests.child_programs:answers', ChildLimits(1 << 29, 20, 1000))\n"
        "child.ask([b'x'], seconds=20)\n"
        "print(child.pid, flush=True)\n"
        "child.ask([b'sleep'], seconds=60)\n"
    )
    path = tmp_path / "parent.py"
    path.write_text(script)
    with subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    until = time.monotonic() + 10
    while not is_gone(pid) and time.monotonic() < until:
        time.sleep(0.01)
    assert is_gone(pid)


def test_two_children_work_at_the_same_time():
    with start("answers") as one, start("answers") as other:
        ask(one, b"x")
        ask(other, b"x")
        slow = threading.Thread(target=sleep_in, args=[one])
        slow.start()
        assert ask(other, b"x", seconds=5) == [b"other"]
        one_is_busy = slow.is_alive()
        one.end()
        slow.join()
    assert one_is_busy


def sleep_in(child: Child) -> None:
    with contextlib.suppress(ChildError):
        ask(child, b"sleep", seconds=60)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0\0\0",
        (2).to_bytes(4, "big") + (1).to_bytes(8, "big"),
        (1).to_bytes(4, "big") + (9).to_bytes(8, "big") + b"short",
        (1).to_bytes(4, "big") + (1).to_bytes(8, "big") + b"long",
        b"\xff" * 40,
    ],
)
def test_a_frame_that_is_no_message_is_refused(frame: bytes):
    with pytest.raises(ChildFrameError):
        split_message(frame)


def test_its_twin_is_a_message():
    assert split_message((1).to_bytes(4, "big") + (4).to_bytes(8, "big") + b"long") == [b"long"]


@pytest.mark.parametrize("limits", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_limits_are_positive(limits: tuple[int, int, int]):
    with pytest.raises(ChildError):
        ChildLimits(*limits)
