"""The sidecar's folder and its program's leash, without SPU: half, moved, foreign, slow."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from federated.errors import (
    PeerMissingError,
    SidecarError,
    SidecarLockError,
    SidecarMissingError,
    SidecarPythonError,
    SidecarTimeoutError,
    SidecarVersionError,
    WorkerDiedError,
)
from federated.sidecar import cli, installation
from federated.sidecar.installation import MARKER, STAMP, Installation
from federated.sidecar.intersection import Sidecar
from federated.sidecar.lock import Lock
from federated.sidecar.process import WorkerProcess
from federated.sidecar.settings import SidecarSettings

HASH = "--hash=sha256:" + "0" * 64
LOCK = Lock.parse(f"spu==0.9.5 \\\n    {HASH}\n")


def finished(folder: Path, says: str = '{"format": 1, "spu": "0.9.5"}') -> Installation:
    """A folder as an installation leaves it, whose Python answers with fixed words."""
    made = Installation(folder, LOCK)
    made.python.parent.mkdir(parents=True)
    made.python.write_text(f"#!/bin/sh\necho '{says}'\n")
    made.python.chmod(0o755)
    (folder / MARKER).write_text("rongshu sidecar\n")
    stamp = {"folder": str(folder.resolve()), "lock": LOCK.digest, "spu": "0.9.5"}
    (folder / STAMP).write_text(json.dumps(stamp))
    return made


def test_the_shipped_list_names_spu_by_hashes_and_no_address():
    lock = Lock.shipped()
    assert lock.version == "0.9.5"
    assert "://" not in lock.text
    assert "--index" not in lock.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spu==0.9.5\n",
        f"spu>=0.9.5 {HASH}\n",
        f"other==1.0 {HASH}\n",
        f"spu==0.9.5 {HASH[:-1]}\n",
        f"spu==0.9.5 {HASH}\n--index-url elsewhere\n",
        f"spu==0.9.5 {HASH}\n-e .\n",
        f"spu==0.9.5 {HASH}\nspu @ file:///spu.whl {HASH}\n",
        f"spu==0.9.5 {HASH}\nspu==0.9.4 {HASH}\n",
        f"spu==0.9.5 {HASH}\nnumpy==1.26.4\n",
    ],
)
def test_a_list_with_anything_but_hashed_packages_is_refused(text: str):
    with pytest.raises(SidecarLockError):
        Lock.parse(text)


def test_a_finished_folder_is_ready_and_answers_with_its_version(tmp_path: Path):
    made = finished(tmp_path / "spu")
    assert made.state() == "ready"
    assert made.version() == "0.9.5"
    told: list[str] = []
    if sys.version_info[:2] in installation.PYTHONS:
        assert made.install(say=told.append) == "0.9.5"
        assert told == [f"SPU 0.9.5 is in place in {made.folder}"]


def test_a_folder_that_is_not_there_is_absent(tmp_path: Path):
    made = Installation(tmp_path / "spu", LOCK)
    assert made.state() == "absent"
    with pytest.raises(SidecarMissingError, match="rongshu sidecar spu install"):
        made.version()
    assert made.remove() is False


@pytest.mark.parametrize("gone", [STAMP, "venv/bin/python"])
def test_half_a_folder_is_not_taken_for_a_whole_one(gone: str, tmp_path: Path):
    made = finished(tmp_path / "spu")
    (made.folder / gone).unlink()
    assert made.state() == "unfinished"
    with pytest.raises(SidecarMissingError):
        made.version()


@pytest.mark.parametrize("stamp", ["", "[]", "{", '{"folder": "/elsewhere"}'])
def test_a_torn_stamp_counts_as_none(stamp: str, tmp_path: Path):
    made = finished(tmp_path / "spu")
    (made.folder / STAMP).write_text(stamp)
    assert made.state() == "unfinished"


def test_a_moved_folder_is_installed_anew(tmp_path: Path):
    finished(tmp_path / "spu").folder.rename(tmp_path / "moved")
    assert Installation(tmp_path / "moved", LOCK).state() == "unfinished"


def test_a_folder_made_from_another_list_is_outdated(tmp_path: Path):
    made = finished(tmp_path / "spu")
    other = Installation(made.folder, Lock.parse(LOCK.text + "# another\n"))
    assert other.state() == "outdated"
    with pytest.raises(SidecarVersionError, match="install"):
        other.version()


@pytest.mark.parametrize(
    ("says", "error"),
    [
        ('{"format": 1, "spu": "0.9.4"}', SidecarVersionError),
        ('{"format": 2, "spu": "0.9.5"}', SidecarVersionError),
        ('{"spu": "0.9.5"}', WorkerDiedError),
        ("[]", WorkerDiedError),
        ("", WorkerDiedError),
    ],
)
def test_a_program_that_answers_otherwise_is_not_used(
    says: str, error: type[SidecarError], tmp_path: Path
):
    made = finished(tmp_path / "spu", says)
    with pytest.raises(error):
        made.version()


def test_a_folder_with_other_things_in_it_is_neither_filled_nor_removed(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("years of work")
    made = Installation(tmp_path, LOCK)
    for act in (made.state, made.remove, made.version):
        with pytest.raises(SidecarError, match="something else"):
            act()
    if sys.version_info[:2] in installation.PYTHONS:
        with pytest.raises(SidecarError, match="something else"):
            made.install(say=print)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_its_own_folder_is_removed_also_when_half_made(tmp_path: Path):
    made = finished(tmp_path / "spu")
    (made.folder / STAMP).unlink()
    assert made.remove() is True
    assert not made.folder.exists()


def test_a_python_without_a_build_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(installation, "PYTHONS", ((3, 9),))
    with pytest.raises(SidecarPythonError, match=r"under Python 3\.9, or go without"):
        Installation(tmp_path / "spu", LOCK).install(say=print)
    assert not (tmp_path / "spu").exists()


def test_status_is_json_with_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = str(tmp_path / "spu")
    assert cli.command(["spu", "status", "--into", folder, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["state"] == "absent"
    made = Installation(tmp_path / "spu", Lock.shipped())
    finished(made.folder, "nonsense")
    stamp = {"folder": str(made.folder.resolve()), "lock": made.lock.digest}
    (made.folder / STAMP).write_text(json.dumps(stamp))
    assert cli.command(["spu", "status", "--into", folder, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["state"] == "broken"
    assert Sidecar(SidecarSettings(made.folder)).available() is None
    made.python.write_text('#!/bin/sh\necho \'{"format": 1, "spu": "0.9.5"}\'\n')
    assert cli.command(["spu", "status", "--into", folder]) == 0
    assert capsys.readouterr().out.startswith("ready: SPU 0.9.5 ")
    assert Sidecar(SidecarSettings(made.folder)).available() == "0.9.5"
    assert cli.command(["spu", "remove", "--into", folder]) == 0
    assert not made.folder.exists()


def running(tmp_path: Path, source: str, seconds: float = 20) -> WorkerProcess:
    return WorkerProcess([sys.executable, "-c", source], tmp_path, seconds=seconds)


def test_a_line_in_brings_an_event_out(tmp_path: Path):
    source = "import json; print(json.dumps({'event': input()}))"
    with running(tmp_path, source) as process:
        process.write("go")
        assert process.read() == {"event": "go"}


@pytest.mark.parametrize("source", ["", "print('words')", "print(1)", "print('x' * 9000)"])
def test_a_program_that_ends_or_babbles_has_died(source: str, tmp_path: Path):
    with running(tmp_path, source) as process, pytest.raises(WorkerDiedError):
        process.read()


def test_a_program_that_is_no_more_takes_no_line(tmp_path: Path):
    with running(tmp_path, "") as process:
        process.finish(20)
        with pytest.raises(WorkerDiedError):
            process.write("go")


def test_a_program_that_is_not_there_has_died(tmp_path: Path):
    with pytest.raises(WorkerDiedError):
        WorkerProcess([str(tmp_path / "none")], tmp_path, seconds=1)


@pytest.mark.parametrize(
    ("whole", "this", "error"),
    [
        (0.1, 9.0, SidecarTimeoutError),
        (9.0, 0.1, PeerMissingError),
        (0.1, None, SidecarTimeoutError),
    ],
)
def test_each_time_limit_has_its_own_error(
    whole: float, this: float | None, error: type[SidecarError], tmp_path: Path
):
    with running(tmp_path, "input()", whole) as process, pytest.raises(error):
        process.read(this, PeerMissingError)


def test_the_end_of_the_block_is_the_end_of_the_whole_group(tmp_path: Path):
    source = (
        "import json, subprocess\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "print(json.dumps({'child': child.pid}), flush=True)\n"
        "input()"
    )
    with running(tmp_path, source) as process:
        child = int(str(process.read()["child"]))
        os.kill(child, 0)
    for _ in range(100):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.02)
    pytest.fail("the program's child outlived it")


def test_the_program_sees_an_environment_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RONGSHU_DATABASE", "postgresql://secret")
    source = "import json, os; print(json.dumps({'names': sorted(os.environ)}))"
    with running(tmp_path, source) as process:
        names = process.read()["names"]
    own = {"KMP_BLOCKTIME", "LC_ALL", "LC_CTYPE", "OMP_WAIT_POLICY", "PATH", "TMPDIR"}
    assert set(names) <= own
