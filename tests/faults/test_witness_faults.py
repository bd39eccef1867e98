"""A witness crashed at every step of an answer, with what it did persisted or lost.

The story of `Witness.add_checkpoint`: decide, write a temporary file, sync it, rename it, sync the
folder, cosign, answer. After every crash a fresh witness is offered both branches of a forked log:
all that was ever cosigned, the signatures that a crash kept from being shown included, is one
history, and the honest branch goes on.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import IOBase
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from ledger import durable
from ledger import witness as witnesses
from ledger.checkpoint import Checkpoint, sign
from ledger.errors import WitnessError
from ledger.keys import CosigningKey, SigningKey
from ledger.merkle import Tree, leaf_hash
from ledger.witness import Request, Witness

ROOT = Path(__file__).resolve().parents[2]
LOG = SigningKey.from_seed("log.example", bytes(32))
HONEST = Tree.from_leaf_hashes(leaf_hash(b"%d" % at) for at in range(9))
FORK = Tree.from_leaf_hashes(leaf_hash(b"%d" % at + b"'" * (at >= 4)) for at in range(9))
START = 1_767_225_600


class CrashError(BaseException):
    """The power went out."""


class Cosigned:
    """Every tree head that was ever signed, shown or not."""

    def __init__(self) -> None:
        self.heads: list[tuple[int, bytes]] = []
        self._cosign = witnesses.cosign

    def __call__(self, signed: bytes, key: CosigningKey, time: int) -> bytes:
        line = self._cosign(signed, key, time)
        size, root = signed.split(b"\n")[1:3]
        self.heads.append((int(size), root))
        return line

    def is_one_history(self) -> bool:
        return any(
            all(sign_of(tree, size).split(b"\n")[2] == root for size, root in self.heads)
            for tree in (HONEST, FORK)
        )


def sign_of(tree: Tree, size: int) -> bytes:
    return sign(Checkpoint(LOG.name, size, tree.root(size)), LOG)


def body(tree: Tree, old: int, size: int) -> bytes:
    proof = tree.consistency(old, size) if 0 < old < size else ()
    return Request(old, proof, sign_of(tree, size)).to_bytes()


def opened(folder: Path) -> Witness:
    return Witness(folder, lambda: START)


def offer(folder: Path, tree: Tree, size: int) -> bool:
    """Ask as a log does: with a size from memory, then with the one that the witness names."""
    old = 0
    for _ in range(2):
        try:
            opened(folder).add_checkpoint(body(tree, old, size))
        except WitnessError as error:
            if error.size is None or error.size > size:
                return False
            old = error.size
        else:
            return True
    return False


STEPS: list[tuple[Any, str]] = [
    (witnesses, "decide"),
    (Path, "open"),
    (durable.os, "fsync"),
    (Path, "replace"),
    (durable, "replace"),
    (witnesses, "cosign"),
]


@contextmanager
def failing(
    target: Any, name: str, *, persisted: bool, error: Callable[[], BaseException]
) -> Iterator[None]:
    original = getattr(target, name)

    def broken(*args: Any, **kwargs: Any) -> Any:
        if persisted:
            result = original(*args, **kwargs)
            if isinstance(result, IOBase):
                result.close()
        raise error()

    with patch.object(target, name, broken):
        yield


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    Witness.create(tmp_path, [CosigningKey.generate("witness.example/w")])
    opened(tmp_path).trust(LOG.verify_key)
    return tmp_path


@pytest.fixture(name="cosigned")
def _cosigned(monkeypatch: pytest.MonkeyPatch) -> Cosigned:
    recorder = Cosigned()
    monkeypatch.setattr(witnesses, "cosign", recorder)
    return recorder


def check(folder: Path, cosigned: Cosigned) -> None:
    """Offer the fork and the honest branch; neither may contradict what was signed."""
    offer(folder, FORK, 8)
    assert cosigned.is_one_history()
    honest = offer(folder, HONEST, 8)
    forked = offer(folder, FORK, 9)
    assert honest != forked
    assert cosigned.is_one_history()


@pytest.mark.parametrize("again", [0, 2], ids=["recovers", "crashes again"])
@pytest.mark.parametrize("persisted", [False, True], ids=["lost", "persisted"])
@pytest.mark.parametrize(("target", "step"), STEPS, ids=lambda item: str(item)[-12:])
@pytest.mark.parametrize("error", [CrashError, lambda: OSError(28, "No space left on device")])
def test_a_crash_never_lets_two_roots_be_cosigned(
    folder: Path,
    cosigned: Cosigned,
    target: Any,
    step: str,
    error: Callable[[], BaseException],
    *,
    persisted: bool,
    again: int,
):
    assert offer(folder, HONEST, 3)
    for _ in range(1 + again):
        with (
            failing(target, step, persisted=persisted, error=error),
            pytest.raises((CrashError, WitnessError, OSError)),
        ):
            opened(folder).add_checkpoint(body(HONEST, opened(folder).seen(LOG.name).size, 7))
    assert cosigned.is_one_history()
    check(folder, cosigned)


def test_the_table_bites_where_a_witness_signs_before_it_remembers(
    folder: Path, cosigned: Cosigned
):
    # The twin: the cosignature is out, the state is lost.
    offer(folder, HONEST, 3)
    before = next(folder.glob("state/*.state")).read_bytes()
    assert offer(folder, HONEST, 8)
    next(folder.glob("state/*.state")).write_bytes(before)
    assert offer(folder, FORK, 8)
    assert not cosigned.is_one_history()


def test_a_full_disk_is_told_and_costs_nothing(folder: Path):
    offer(folder, HONEST, 3)
    full = failing(Path, "replace", persisted=False, error=lambda: OSError(28, "No space left"))
    with full, pytest.raises(WitnessError, match="cannot be written: No space left") as caught:
        opened(folder).add_checkpoint(body(HONEST, 3, 7))
    assert caught.value.status == 500
    assert opened(folder).seen(LOG.name).size == 3
    assert offer(folder, HONEST, 7)


def test_a_torn_temporary_file_is_never_read(folder: Path):
    offer(folder, HONEST, 3)
    state = next(folder.glob("state/*.state"))
    state.with_name(state.name + ".new").write_bytes(b"rongshu/witness-st")
    assert offer(folder, HONEST, 7)


KILLED = """
import os, signal, sys
from pathlib import Path
from ledger import durable, witness as witnesses
from ledger.witness import Witness
target = {"witnesses": witnesses, "os": durable.os, "Path": Path, "durable": durable}[sys.argv[2]]
original = getattr(target, sys.argv[3])
def last(*args, **kwargs):
    if sys.argv[4] == "True":
        original(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
witness = Witness(Path(sys.argv[1]), lambda: 1767225600)
setattr(target, sys.argv[3], last)
witness.add_checkpoint(sys.stdin.buffer.read())
"""


@pytest.mark.slow
@pytest.mark.parametrize("persisted", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("target", "step"),
    [("witnesses", "decide"), ("os", "fsync"), ("Path", "replace"), ("witnesses", "cosign")],
)
def test_a_killed_witness_recovers(
    folder: Path, cosigned: Cosigned, target: str, step: str, *, persisted: bool
):
    assert offer(folder, HONEST, 3)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), target, step, str(persisted)],
        input=body(HONEST, 3, 7),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    check(folder, cosigned)


RACER = """
import sys
from pathlib import Path
from ledger.errors import WitnessError
from ledger.witness import Witness
sys.stdin.readline()
for body in Path(sys.argv[2]).read_bytes().split(b"\\0"):
    try:
        Witness(Path(sys.argv[1]), lambda: 1767225600).add_checkpoint(body)
        sys.stdout.write(body.split(b"\\n\\n")[1].decode().replace("\\n", " ") + "\\n")
    except WitnessError:
        pass
"""


@pytest.mark.slow
def test_racing_processes_get_one_history(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    apart = tmp_path_factory.mktemp("bodies")
    processes = []
    for number, tree in enumerate((HONEST, FORK, HONEST, FORK)):
        bodies = [body(tree, old, size) for size in range(5, 10) for old in (0, *range(5, size))]
        (apart / str(number)).write_bytes(b"\0".join(bodies))
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", RACER, str(folder), str(apart / str(number))],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    shown = {line for process in processes for line in process.communicate()[0].splitlines()}
    heads = {tuple(line.split()[1:3]) for line in shown}
    one = [
        {tuple(sign_of(t, s).decode().split("\n")[1:3]) for s in range(10)} for t in (HONEST, FORK)
    ]
    assert heads
    assert heads <= one[0] or heads <= one[1]
