"""Intersections of large sets through the sidecar, beside the package openmined-psi.

Two parties, each a process with a sidecar of its own, half of each one's ids shared. The time is
from the ids in memory to the places of the shared ones in memory at both parties; what it takes to
start the sidecar's program once stands apart. openmined-psi is measured as in
`bench.privacy_intersection`; its time grows with the number of ids, so it is measured on fewer.
"""

import multiprocessing
import resource
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection

from bench.environment import NoEnvironmentError
from bench.privacy_intersection import openmined
from bench.table import Row
from federated.errors import SidecarError
from federated.sidecar.intersection import Meeting, Sidecar
from federated.sidecar.link_key import LinkKey
from federated.sidecar.settings import LOOPBACK, SidecarSettings

IDS = 1_000_000
QUICK_IDS = 20_000
SAMPLE = 20_000
QUICK_SAMPLE = 1_000
UNIT = "ids/s"


@dataclass(frozen=True)
class Measured:
    """What one party saw.

    Attributes:
        seconds: from ids to places.
        shared: how many places.
        processor: seconds of processor time, the sidecar's program included.
        peak_mb: most memory of the sidecar's program, resident.
    """

    seconds: float
    shared: int
    processor: float
    peak_mb: float


def rows(*, quick: bool = False) -> list[Row]:
    """One row: ids of one party in a second, beside openmined-psi."""
    count = QUICK_IDS if quick else IDS
    name = f"intersection {count} sidecar"
    sidecar = Sidecar(SidecarSettings.load())
    start = time.perf_counter()
    version = sidecar.available()
    if version is None:
        missing = "the sidecar is not installed; `rongshu sidecar spu install` does it"
        return [Row(name, None, UNIT, details={"not available": missing})]
    started = time.perf_counter() - start
    try:
        both = intersect_both(sidecar.settings, count)
    except SidecarError as error:
        return [Row(name, None, UNIT, details={"not available": str(error)})]
    seconds = max(each.seconds for each in both)
    plain = _plain_seconds(count)
    details: dict[str, float | str] = {
        "seconds": seconds,
        "processor s of both parties": sum(each.processor for each in both),
        "shared": both[0].shared,
        "SPU": version,
        "start of the program s": started,
        "peak MB of one program": max(each.peak_mb for each in both),
        "in the clear ids/s": count / plain,
        "times slower than in the clear": seconds / plain,
    }
    sample = QUICK_SAMPLE if quick else SAMPLE
    try:
        other = openmined(sample)
    except NoEnvironmentError as error:
        details["not available"] = f"openmined-psi: {error}"
        return [Row(name, count / seconds, UNIT, details=details)]
    details |= {
        "baseline": f"openmined-psi, measured on {sample} ids",
        "baseline s": other.seconds,
        "baseline processor s": other.processor,
    }
    return [Row(name, count / seconds, UNIT, sample / other.seconds, details)]


def intersect_both(settings: SidecarSettings, count: int) -> list[Measured]:
    """Let two processes intersect `count` ids each, half of them shared.

    Raises:
        SidecarError: one of them could not, or found another number than half.
    """
    keys = [LinkKey.make(now=datetime.now(UTC)) for _ in range(2)]
    addresses = _free_addresses()
    spawning = multiprocessing.get_context("spawn")
    ready, pipes, processes = spawning.Barrier(2), [], []
    for rank in (0, 1):
        ours, theirs = spawning.Pipe(duplex=False)
        meeting = Meeting(rank, addresses, b"bench")
        given = (settings, count, meeting, keys[rank], keys[1 - rank].certificate, ready, theirs)
        processes.append(spawning.Process(target=_party, args=given))
        pipes.append(ours)
    for process in processes:
        process.start()
    said = [pipe.recv() if pipe.poll(settings.seconds) else "no answer" for pipe in pipes]
    for process in processes:
        process.join()
    measured = [each for each in said if isinstance(each, Measured)]
    if len(measured) != 2 or any(each.shared != count - count // 2 for each in measured):
        raise SidecarError(f"the intersection failed: {said}")
    return measured


def _party(
    settings: SidecarSettings,
    count: int,
    meeting: Meeting,
    own: LinkKey,
    peer: bytes,
    ready: "multiprocessing.synchronize.Barrier",
    pipe: Connection,
) -> None:
    first = meeting.rank * (count // 2)
    ids = [f"{number:018d}" for number in range(first, first + count)]
    ready.wait()
    start, before = time.perf_counter(), _processor_seconds()
    try:
        found = Sidecar(settings).intersect(ids, meeting, own, peer)
    except SidecarError as error:
        pipe.send(str(error))
        return
    seconds = time.perf_counter() - start
    processor = _processor_seconds() - before
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    pipe.send(Measured(seconds, len(found.places or ()), processor, peak))


def _processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _plain_seconds(count: int) -> float:
    ours: Sequence[str] = [f"{number:018d}" for number in range(count)]
    theirs = [f"{number:018d}" for number in range(count // 2, count // 2 + count)]
    start = time.perf_counter()
    known = set(theirs)
    places = [place for place, each in enumerate(ours) if each in known]
    seconds = time.perf_counter() - start
    if len(places) != count - count // 2:
        raise SidecarError("the plain intersection is wrong")
    return seconds


def _free_addresses() -> tuple[str, str]:
    with socket.create_server((LOOPBACK, 0)) as one, socket.create_server((LOOPBACK, 0)) as two:
        first, second = (each.getsockname()[1] for each in (one, two))
    return f"{LOOPBACK}:{first}", f"{LOOPBACK}:{second}"
