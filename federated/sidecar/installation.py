"""The sidecar's folder: made, looked at, removed.

    marker      the first file written: this folder is the sidecar's, and may be removed by it
    venv/       its own environment, with SPU in it
    stamp.json  the last file written: what was installed, from which list, in which folder

A crash anywhere leaves a folder without a stamp, which nobody takes for a finished one; the next
`install` starts it anew. A folder that was moved is installed again, because scripts in an
environment hold absolute paths.

    installation = Installation(Path("sidecar"), Lock.shipped())
    installation.install(say=print)
    installation.version()              # "0.9.5"
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from federated.errors import (
    SidecarError,
    SidecarMissingError,
    SidecarPythonError,
    SidecarVersionError,
    WorkerDiedError,
)
from federated.sidecar.lock import Lock
from ledger import durable

WORKER: Final = Path(__file__).with_name("worker.py")
FORMAT: Final = 1
"""Version of the worker's words; the worker says the same number."""

PYTHONS: Final = ((3, 10), (3, 11))
"""SPU 0.9.5 has builds for these."""

MARKER: Final = "marker"
STAMP: Final = "stamp.json"
WEIGHT: Final = "about 75 MB to fetch, 450 MB on disk"
_CHECK_SECONDS: Final = 60
_MARKER_TEXT: Final = b"rongshu sidecar\n"

State = Literal["absent", "unfinished", "outdated", "ready"]


@dataclass(frozen=True)
class Installation:
    """One folder and the list that it is to be made from."""

    folder: Path
    lock: Lock

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return self.folder / "venv" / "bin" / "python"

    def state(self) -> State:
        """Tell from the folder alone how far it is; nothing is started.

        Raises:
            SidecarError: the folder holds something else.
        """
        if not self._is_ours():
            return "absent"
        try:
            stamp = json.loads((self.folder / STAMP).read_bytes())
        except (OSError, ValueError):
            return "unfinished"
        if not isinstance(stamp, dict) or stamp.get("folder") != str(self.folder.resolve()):
            return "unfinished"
        if not self.python.exists():
            return "unfinished"
        return "ready" if stamp.get("lock") == self.lock.digest else "outdated"

    def version(self) -> str:
        """Start the worker, and return the version that it answers with.

        Raises:
            SidecarMissingError: it is not installed, or not to the end.
            SidecarVersionError: it was made from another list, or answers with another version.
            WorkerDiedError: it does not start.
        """
        state = self.state()
        if state == "outdated":
            raise SidecarVersionError(
                f"the sidecar in {self.folder} is not the one of this Rongshu; "
                "`rongshu sidecar spu install` renews it"
            )
        if state != "ready":
            raise SidecarMissingError
        return self._answer()

    def install(self, *, say: Callable[[str], None]) -> str:
        """Make the folder, or leave a finished one as it is.

        Args:
            say: is told of each step, in words for a person.

        Returns:
            The version that the worker answers with.

        Raises:
            SidecarPythonError: the running Python has no build of SPU.
            SidecarError: the folder holds something else, or an environment could not be filled.
        """
        if sys.version_info[:2] not in PYTHONS:
            known = " or ".join(f"{major}.{minor}" for major, minor in PYTHONS)
            raise SidecarPythonError(
                f"SPU {self.lock.version} has no build for Python "
                f"{sys.version_info.major}.{sys.version_info.minor}: run this command with Rongshu "
                f"under Python {known}, or go without the sidecar"
            )
        with self._held(say):
            if self.state() == "ready":
                say(f"SPU {self.lock.version} is in place in {self.folder}")
                return self._answer()
            # From here to the last line a crash leaves no stamp: the folder counts as unfinished.
            (self.folder / STAMP).unlink(missing_ok=True)
            self._fill(say)
            say("checking that it starts")
            version = self._answer()
            stamp = {
                "folder": str(self.folder.resolve()),
                "lock": self.lock.digest,
                "python": ".".join(map(str, sys.version_info[:3])),
                "spu": version,
            }
            durable.replace(self.folder / STAMP, json.dumps(stamp).encode() + b"\n")
        return version

    def remove(self) -> bool:
        """Remove the folder.

        Returns:
            Whether there was one.

        Raises:
            SidecarError: the folder holds something else.
        """
        if not self._is_ours():
            return False
        # The stamp first and the marker last: what a crash leaves can be removed again.
        (self.folder / STAMP).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "venv", ignore_errors=True)
        shutil.rmtree(self.folder)
        return True

    def _is_ours(self) -> bool:
        if (self.folder / MARKER).is_file():
            return True
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise SidecarError(f"{self.folder} holds something else than a sidecar")
        return False

    @contextmanager
    def _held(self, say: Callable[[str], None]) -> Iterator[None]:
        """Keep other installations out; the kernel lets go when this process ends, however."""
        if not self._is_ours():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            durable.replace(self.folder / MARKER, _MARKER_TEXT)
        with (self.folder / MARKER).open("rb") as marker:
            try:
                fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                say("another process is installing; waiting for it")
                fcntl.flock(marker, fcntl.LOCK_EX)
            yield

    def _fill(self, say: Callable[[str], None]) -> None:
        say(f"making an environment in {self.folder}")
        venv = self.folder / "venv"
        _run("an environment could not be made", sys.executable, "-m", "venv", "--clear", venv)
        listed = self.folder / "spu.lock"
        durable.replace(listed, self.lock.text.encode())
        say(f"installing SPU {self.lock.version} ({WEIGHT})")
        pip = (self.python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install")
        only = ("--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", listed)
        _run("pip could not install what the list names", *pip, *only)

    def _answer(self) -> str:
        try:
            ran = subprocess.run(  # noqa: S603 - the environment's own Python and our own file
                [self.python, "-I", WORKER, "--version"],
                capture_output=True,
                check=True,
                timeout=_CHECK_SECONDS,
            )
            said = json.loads(ran.stdout)
            version, format_ = str(said["spu"]), said["format"]
        except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
            raise WorkerDiedError(
                f"the sidecar in {self.folder} does not start: "
                "remove it with `rongshu sidecar spu remove` and install it again"
            ) from error
        if version != self.lock.version or format_ != FORMAT:
            raise SidecarVersionError(
                f"the sidecar answers with SPU {version}, not {self.lock.version}: "
                "remove it with `rongshu sidecar spu remove` and install it again"
            )
        return version


def _run(failure: str, *command: object) -> None:
    """Run one step; what it complains of is the person's to read.

    Raises:
        SidecarError: it failed.
    """
    # pip's settings, the index among them, are the machine's own: the environment is inherited.
    words = [str(word) for word in command]
    ran = subprocess.run(words, stdout=subprocess.DEVNULL, check=False)  # noqa: S603 - our own words
    if ran.returncode:
        raise SidecarError(f"{failure}; the lines above say why. Nothing counts as installed")
