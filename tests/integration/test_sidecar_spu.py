"""The real SPU in an environment of its own: installed, two parties, strangers, what stays behind.

Every test here is slow, and skipped with a reason where the package cannot be installed. A folder
that RONGSHU_SIDECAR_FOLDER names is used as it is where it is ready, and left alone.
"""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from federated.errors import (
    PeerDisagreesError,
    PeerMissingError,
    SidecarError,
    SidecarTimeoutError,
    WorkerDiedError,
)
from federated.sidecar.installation import STAMP, WORKER, Installation
from federated.sidecar.intersection import Intersection, Meeting, Sidecar, as_csv, digest_ids
from federated.sidecar.link_key import LinkKey
from federated.sidecar.lock import Lock
from federated.sidecar.process import WorkerProcess
from federated.sidecar.settings import LOOPBACK, SidecarSettings
from tests.sidecars import ready_sidecar

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "psi_ids"
NOW = datetime.now(UTC)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with ready_sidecar(tmp_path_factory.mktemp("sidecar")) as ready:
        yield ready


@pytest.fixture
def addresses() -> tuple[str, str]:
    with socket.create_server((LOOPBACK, 0)) as one, socket.create_server((LOOPBACK, 0)) as two:
        first, second = (each.getsockname()[1] for each in (one, two))
    return f"{LOOPBACK}:{first}", f"{LOOPBACK}:{second}"


Both = Callable[..., list[Intersection | SidecarError]]


@pytest.fixture
def meet(sidecar: Sidecar, addresses: tuple[str, str]) -> Both:
    """Lets two parties intersect at the same time; returns each one's outcome."""

    def run(
        sets: Sequence[Sequence[str]],
        *,
        meetings: Sequence[Meeting] | None = None,
        keys: Sequence[LinkKey] | None = None,
        shown: Sequence[bytes] | None = None,
        settings: Sequence[SidecarSettings] | None = None,
    ) -> list[Intersection | SidecarError]:
        keys = keys or [LinkKey.make(now=NOW) for _ in range(2)]
        shown = shown or [key.certificate for key in keys]
        meetings = meetings or [Meeting(rank, addresses, b"job:1") for rank in (0, 1)]
        settings = settings or [sidecar.settings] * 2

        def party(rank: int) -> Intersection | SidecarError:
            try:
                return Sidecar(settings[rank]).intersect(
                    sets[rank], meetings[rank], keys[rank], shown[1 - rank]
                )
            except SidecarError as error:
                return error

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(party, (0, 1)))

    return run


def test_both_parties_get_the_places_of_their_own_shared_ids(
    meet: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ours = ["anna", "b,c", '"d"', "身份", " e ", "only-ours"]
    theirs = ["only-theirs", " e ", "身份", '"d"', "b,c", "e"]
    one, two = meet([ours, theirs])
    assert one == Intersection((1, 2, 3, 4), 6, 6, "0.9.5")
    assert two == Intersection((1, 2, 3, 4), 6, 6, "0.9.5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("receiver", [0, 1])
def test_a_party_that_does_not_receive_gets_no_places(
    receiver: int, meet: Both, addresses: tuple[str, str]
):
    meetings = [Meeting(rank, addresses, b"", receiver) for rank in (0, 1)]
    outcome = meet([["a", "b", "c"], ["c", "x"]], meetings=meetings)
    places = {0: (2,), 1: (0,)}
    for rank, each in enumerate(outcome):
        assert isinstance(each, Intersection)
        assert each.places == (places[rank] if rank == receiver else None)
        assert (each.ids, each.peer_ids) == ((3, 2), (2, 3))[rank]


@pytest.mark.parametrize(
    ("ours", "theirs", "shared"),
    [(["a"], ["b"], 0), (["a"], ["a"], 1), (["a", "b"], ["b", "a"], 2)],
)
def test_small_equal_and_disjoint_sets_come_out_right(
    ours: list[str], theirs: list[str], shared: int, meet: Both
):
    for each in meet([ours, theirs]):
        assert isinstance(each, Intersection)
        assert len(each.places or ()) == shared


def test_the_published_ids_meet_in_500(meet: Both):
    if not DATA.exists():
        pytest.skip("the published ids are not beside the repository")
    sets = []
    for name in ("psi_1.csv", "psi_2.csv"):
        with (DATA / name).open(encoding="utf-8") as file:
            sets.append([row["id"] for row in csv.DictReader(file)])
    one, two = meet(sets)
    assert isinstance(one, Intersection)
    assert isinstance(two, Intersection)
    expected = set(sets[0]) & set(sets[1])
    assert len(expected) == 500
    assert {sets[0][place] for place in one.places or ()} == expected
    assert {sets[1][place] for place in two.places or ()} == expected


def test_a_stranger_at_the_other_address_is_turned_away(meet: Both, sidecar: Sidecar):
    ours, theirs, strange = (LinkKey.make(now=NOW) for _ in range(3))
    impatient = [replace(sidecar.settings, peer_seconds=8)] * 2
    shown = [ours.certificate, theirs.certificate]
    outcome = meet([["a"], ["a"]], keys=[ours, strange], shown=shown, settings=impatient)
    assert all(isinstance(each, PeerMissingError) for each in outcome)
    # The twin: named as the one to expect, the same key is let in.
    shown[1] = strange.certificate
    for each in meet([["a"], ["a"]], keys=[ours, strange], shown=shown, settings=impatient):
        assert isinstance(each, Intersection)


def test_two_that_mean_different_intersections_find_nothing_out(
    meet: Both, addresses: tuple[str, str]
):
    meetings = [Meeting(0, addresses, b"job:1"), Meeting(1, addresses, b"job:2")]
    assert all(
        isinstance(each, PeerDisagreesError) for each in meet([["a"], ["a"]], meetings=meetings)
    )


def test_a_party_alone_gives_up_in_time(sidecar: Sidecar, addresses: tuple[str, str]):
    own, other = (LinkKey.make(now=NOW) for _ in range(2))
    meeting = Meeting(0, addresses, b"")
    for limits, error in (
        ({"peer_seconds": 2}, PeerMissingError),
        ({"seconds": 1}, SidecarTimeoutError),
    ):
        alone = Sidecar(replace(sidecar.settings, **limits))
        start = time.monotonic()
        with pytest.raises(error):
            alone.intersect(["a"], meeting, own, other.certificate)
        assert time.monotonic() - start < 10


class Party:
    """One worker in a folder that the test keeps, to look into it afterwards."""

    def __init__(self, sidecar: Sidecar, folder: Path, rank: int, keys: Sequence[LinkKey]) -> None:
        folder.mkdir(mode=0o700)
        (folder / "own.pem").write_bytes(keys[rank].certificate)
        (folder / "own.key").write_bytes(keys[rank].private)
        (folder / "peer.pem").write_bytes(keys[1 - rank].certificate)
        python = Installation(sidecar.settings.folder, Lock.shipped()).python
        self.folder, self.rank = folder, rank
        self.process = WorkerProcess([str(python), "-I", str(WORKER)], folder, seconds=60)

    def start(self, addresses: Sequence[str], ids: bytes, *, memory_mb: int = 8192) -> None:
        (self.folder / "ids.csv").write_bytes(ids)
        self.process.write(
            {
                "rank": self.rank,
                "addresses": list(addresses),
                "receiver": 0,
                "both": True,
                "context": "x",
                "ids": 3,
                "seconds": 60,
                "memory_mb": memory_mb,
            }
        )
        self.process.write("go")


@pytest.fixture
def parties(
    sidecar: Sidecar, tmp_path: Path, addresses: tuple[str, str]
) -> Callable[[Sequence[bytes]], list[Party]]:
    """Runs two workers on files of ids to their end, and leaves their folders."""
    keys = [LinkKey.make(now=NOW) for _ in range(2)]

    def run(files: Sequence[bytes]) -> list[Party]:
        made = [Party(sidecar, tmp_path / f"party{rank}", rank, keys) for rank in (0, 1)]
        with made[0].process, made[1].process:
            for party, ids in zip(made, files, strict=True):
                party.start(addresses, ids)
            for party in made:
                events = [party.process.read()["event"] for _ in range(2)]
                assert events == ["linked", "done"]
            for party in made:
                party.process.finish(10)
        return made

    return run


SAME = "share the same set"


def test_the_random_element_hides_the_hash_of_the_whole_set(
    parties: Callable[[Sequence[bytes]], list[Party]],
):
    digests = digest_ids(["a", "b", "c"], b"")
    for party in parties([as_csv(digests), as_csv(digests)]):
        assert SAME not in (party.folder / "worker.log").read_text("utf-8", "replace")


def test_without_the_random_element_equal_sets_show_by_their_hash(
    parties: Callable[[Sequence[bytes]], list[Party]],
):
    """The twin: what SPU sends is a hash that anybody can compare with one of a guessed set."""
    first, second = (as_csv(digest_ids(["a", "b", "c"], b"")).splitlines() for _ in range(2))
    ids_alone = [line for line in first if line in second]
    assert len(ids_alone) == len(first) - 1
    for party in parties([b"\n".join(ids_alone) + b"\n"] * 2):
        assert SAME in (party.folder / "worker.log").read_text("utf-8", "replace")


def test_no_id_stands_in_any_file_of_the_program(
    parties: Callable[[Sequence[bytes]], list[Party]],
):
    canaries = ["canary-0001", "canary-0002", "canary-0003"]
    ids = as_csv(digest_ids(canaries, b""))
    for party in parties([ids, as_csv(digest_ids(["canary-0002", "x", "y"], b""))]):
        files = [path for path in party.folder.rglob("*") if path.is_file()]
        assert {"worker.log", "ids.csv", "found.csv"} <= {path.name for path in files}
        held = b"".join(path.read_bytes() for path in files)
        assert not any(canary.encode() in held for canary in canaries)
        # The search would have found what is there: a digest is.
        assert (party.folder / "ids.csv").read_bytes().splitlines()[2] in held
        log = party.folder / "worker.log"
        assert log.stat().st_mode & 0o077 == 0
        # What the library wrote elsewhere is gone as well.
        traces = re.findall(r"written to (\S+\.trace)", log.read_text("utf-8", "replace"))
        assert traces
        assert not any(Path(trace).exists() for trace in traces)


@pytest.mark.parametrize(("memory_mb", "hears"), [(300, None), (8192, "linked")])
def test_the_program_gets_no_more_memory_than_the_settings_say(
    memory_mb: int,
    hears: str | None,
    sidecar: Sidecar,
    tmp_path: Path,
    addresses: tuple[str, str],
):
    keys = [LinkKey.make(now=NOW) for _ in range(2)]
    made = [Party(sidecar, tmp_path / f"party{rank}", rank, keys) for rank in (0, 1)]
    with made[0].process, made[1].process:
        for party in made:
            party.start(addresses, as_csv(digest_ids(["a"], b"")), memory_mb=memory_mb)
        try:
            heard = made[0].process.read()["event"]
        except WorkerDiedError:
            heard = None
    assert heard == hears


LONELY = """\
import sys
from datetime import datetime, UTC
from pathlib import Path
from federated.sidecar.intersection import Meeting, Sidecar
from federated.sidecar.link_key import LinkKey
from federated.sidecar.settings import SidecarSettings
keys = [LinkKey.make(now=datetime.now(UTC)) for _ in range(2)]
meeting = Meeting(0, (sys.argv[2], sys.argv[3]), b"")
Sidecar(SidecarSettings(Path(sys.argv[1]))).intersect(["a"], meeting, keys[0], keys[1].certificate)
"""


def test_a_program_whose_caller_is_killed_ends_and_leaves_nothing(
    sidecar: Sidecar, addresses: tuple[str, str], tmp_path: Path
):
    words = [sys.executable, "-c", LONELY, str(sidecar.settings.folder), *addresses]
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(WORKER.parents[2])}
    caller = subprocess.Popen(words, env=environment)
    port = int(addresses[0].rpartition(":")[2])

    def listens() -> bool:
        with socket.socket() as attempt:
            return attempt.connect_ex((LOOPBACK, port)) == 0

    wait_until(listens)
    assert list(tmp_path.glob("rongshu-sidecar-*"))
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    wait_until(lambda: not listens())
    wait_until(lambda: not list(tmp_path.glob("rongshu-sidecar-*")))


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(400):
        if true():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen in 20 s")


def test_an_interrupted_installation_is_finished_by_the_next(sidecar: Sidecar, tmp_path: Path):
    assert sidecar.available()
    folder = tmp_path / "spu"
    source = "import sys; from federated.sidecar.cli import command; command(sys.argv[1:])"
    words = [sys.executable, "-c", source, "spu", "install", "--into", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(WORKER.parents[2])}
    first = subprocess.Popen(
        words, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    wait_until((folder / "venv" / "bin" / "python").exists)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    made = Installation(folder, Lock.shipped())
    assert made.state() == "unfinished"
    try:
        assert made.install(say=lambda _: None) == "0.9.5"
    except SidecarError as error:
        pytest.skip(f"SPU cannot be installed here: {error}")
    assert made.state() == "ready"
    stamp = (folder / STAMP).read_bytes()
    assert json.loads(stamp)["spu"] == "0.9.5"
    made.install(say=lambda _: None)
    assert (folder / STAMP).read_bytes() == stamp
    assert made.remove()


def test_a_package_without_the_listed_hash_is_not_installed(sidecar: Sidecar, tmp_path: Path):
    assert sidecar.available()
    tampered = Lock.parse("spu==0.9.5 --hash=sha256:" + "0" * 64 + "\n")
    made = Installation(tmp_path / "spu", tampered)
    with pytest.raises(SidecarError, match="Nothing counts as installed"):
        made.install(say=lambda _: None)
    assert made.state() == "unfinished"
