"""Environments of their own, for what cannot live beside the product's packages.

    python = environment(ROOT / ".venv.openmined-psi", Path("bench/openmined-psi.lock"))
    subprocess.run([python, "bench/openmined/intersect.py", "1000"])

pip installs what the lock names and nothing else, by hash, from the index that it is configured
for. Made once; made anew when the lock has changed or an earlier try was interrupted.
"""

import shutil
import subprocess
import sys
from pathlib import Path


class NoEnvironmentError(RuntimeError):
    """An environment could not be made here."""


def environment(folder: Path, lock: Path) -> Path:
    """Return the Python of an environment with exactly the packages of a hashed lock.

    Args:
        folder: where it is, or will be.
        lock: a requirements file in which every line has its hashes.

    Raises:
        NoEnvironmentError: pip or venv refused; their last words are in the message.
    """
    python, stamp = folder / "bin" / "python", folder / "installed.lock"
    if python.exists() and stamp.exists() and stamp.read_bytes() == lock.read_bytes():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    install = ["-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps"]
    _run([str(python), *install, "--require-hashes", "-r", str(lock)])
    # Last, so that an interrupted installation has none.
    shutil.copyfile(lock, stamp)
    return python


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)  # noqa: S603 - our own Python
    except subprocess.CalledProcessError as error:
        words = (error.stderr or error.stdout).strip().splitlines()
        raise NoEnvironmentError(words[-1] if words else f"{command[0]} failed") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoEnvironmentError(str(error)) from None
