"""Private set intersection beside openmined-psi, and beside plain sets.

Ours: a receiver and a sender, each in a process of its own, and what they say goes through a pipe.
Theirs: server and client in one process, as that library is used, in an environment of its own.
Both: two sets of as many names, half of them in common; making keys and loading code is not timed.
Of each the fastest of several tries counts: other work on the machine only ever slows a try down.
"""

import json
import subprocess
import time
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from bench.environment import NoEnvironmentError, environment
from bench.table import Row
from privacy.intersection import Agreement, Outcome, Receiver, Sender
from privacy.workers import Workers

ROOT = Path(__file__).resolve().parents[1]
OPENMINED = ROOT / ".venv.openmined-psi"
LOCK = Path(__file__).parent / "openmined-psi.lock"
SCRIPT = Path(__file__).parent / "openmined" / "intersect.py"
COUNT, QUICK_COUNT = 100_000, 1_000
TRIES, BASELINE_TRIES = 3, 2
UNIT = "names/s"
ALONE = Workers()


class BenchError(RuntimeError):
    """Something that was measured gave a wrong answer."""


@dataclass(frozen=True)
class Measured:
    """One intersection of two sets.

    Attributes:
        seconds: from the first masking until the receiver knows.
        processor: seconds that processors spent on it, which other work hardly changes.
        sent: bytes that went either way; 0 where nothing goes anywhere.
    """

    seconds: float
    processor: float
    sent: int = 0


def rows(*, quick: bool = False) -> list[Row]:
    """Names of one side intersected in a second, ours and openmined-psi's."""
    count = QUICK_COUNT if quick else COUNT
    ours = min((intersect(count) for _ in range(TRIES)), key=_seconds)
    plain = min(_plain(count) for _ in range(TRIES))
    details: dict[str, float | str] = {
        "seconds": ours.seconds,
        "processor seconds": ours.processor,
        "bytes sent for each name": ours.sent / count,
        "plain sets names/s": count / plain,
        "times slower than plain": ours.seconds / plain,
        "fastest of": f"{TRIES} tries, baseline of {BASELINE_TRIES}",
    }
    name = f"intersection {count}"
    try:
        theirs = min((openmined(count) for _ in range(BASELINE_TRIES)), key=_seconds)
    except NoEnvironmentError as error:
        return [Row(name, None, UNIT, None, details | {"not available": f"openmined-psi: {error}"})]
    details["openmined-psi seconds"] = theirs.seconds
    details["openmined-psi processor seconds"] = theirs.processor
    return [Row(name, count / ours.seconds, UNIT, count / theirs.seconds, details)]


def names(count: int, first: int = 0) -> list[bytes]:
    """Made-up names."""
    return [b"name %d" % number for number in range(first, first + count)]


def agreement(count: int) -> Agreement:
    """What both parties of the bench agreed on."""
    return Agreement(
        job="bench",
        attempt=0,
        outcome=Outcome.ONE,
        rules=bytes(32),
        receiver="receiver",
        sender="sender",
        receiver_size=count,
        sender_size=count,
        minimum_size=2,
        minimum_intersection=1,
    )


def intersect(count: int) -> Measured:
    """Intersect as many names with as many others, in two processes.

    Raises:
        BenchError: if the intersection is not the one that plain sets have.
    """
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_send, args=(there, count))
    process.start()
    receiver = Receiver(agreement(count), names(count), ALONE)
    here.recv_bytes()  # the other side is ready
    begun, used = time.perf_counter(), time.process_time()
    here.send_bytes(b"begin")
    offer = receiver.offer()
    here.send_bytes(offer)
    counter = here.recv_bytes()
    answer = receiver.answer(counter)
    here.send_bytes(answer)
    reply = here.recv_bytes()
    found = receiver.finish(reply)
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    used += float(here.recv())
    process.join()
    if found.matches != tuple(range(count // 2, count)):
        raise BenchError("the intersection is not that of the sets")
    return Measured(seconds, used, sum(map(len, (offer, counter, answer, reply))))


def _send(pipe: Connection, count: int) -> None:
    """The sender's part, in its own process."""
    sender = Sender(agreement(count), names(count, first=count // 2), ALONE)
    pipe.send_bytes(b"ready")
    pipe.recv_bytes()
    used = time.process_time()
    counter = sender.offer()
    offer = pipe.recv_bytes()
    pipe.send_bytes(counter)
    sender.double(offer)  # while the receiver does the same
    pipe.send_bytes(sender.reply(pipe.recv_bytes()))
    pipe.send(time.process_time() - used)


def openmined(count: int) -> Measured:
    """Measure openmined-psi at the same.

    Raises:
        NoEnvironmentError: if it cannot be installed or does not run here.
        BenchError: if it finds another intersection.
    """
    command = [str(environment(OPENMINED, LOCK)), str(SCRIPT), str(count)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - our own script
    if ended.returncode:
        words = ended.stderr.strip().splitlines()
        raise NoEnvironmentError(words[-1] if words else f"exit status {ended.returncode}")
    told = json.loads(ended.stdout)
    if told["size"] != count - count // 2:
        raise BenchError("openmined-psi found another intersection")
    return Measured(float(told["seconds"]), float(told["processor"]))


def _seconds(measured: Measured) -> float:
    return measured.seconds


def _plain(count: int) -> float:
    """Seconds for the same sets without any privacy."""
    asked, held = names(count), names(count, first=count // 2)
    begun = time.perf_counter()
    there = set(held)
    found = [name for name in asked if name in there]
    seconds = time.perf_counter() - begun
    if len(found) != count - count // 2:
        raise BenchError("plain sets do not agree")
    return seconds
