"""The code digest: which sources a node or a coordinator would compute with.

SHA-256 over the sorted (path, file digest) of every installed `.py` file of `federated`, `privacy`
and `ledger`, with the task's name and version. A job names it, a node refuses a job that names
another, a receipt repeats it. It catches drift between installations; it does not catch a node that
lies about itself, nor a changed library or interpreter.

    code_digest("statistics", 1)        # "sha256:…", the same on every machine with these sources

Only sources count: not `.pyc` files, not the working directory, not file times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Final, Protocol

from ledger.encoding import canonical, digest, sha256_text
from ledger.statements import Job

PACKAGES: Final = ("federated", "ledger", "privacy")
NAMESPACE: Final = "rongshu/code-digest/v1"


class _Place(Protocol):
    """What `importlib.resources` and `pathlib` have in common."""

    @property
    def name(self) -> str: ...

    def is_dir(self) -> bool: ...

    def is_file(self) -> bool: ...

    def iterdir(self) -> Iterator[_Place]: ...

    def read_bytes(self) -> bytes: ...


@cache
def code_digest(task_name: str, task_version: int) -> str:
    """Return the digest of the installed sources for one task, as `sha256:` and 64 hex digits.

    The sources are read once a process: what runs is what was imported then, so a file that is
    changed later must not change the answer.

    Raises:
        ModuleNotFoundError: one of the packages is not installed.
    """
    return digest_of(_installed(), task_name, task_version)


def digest_of(files: Mapping[str, str], task_name: str, task_version: int) -> str:
    """Return the code digest of given sources.

    Args:
        files: path to file digest, as `source_digests` gives it.
        task_name: name of the task in the registry of `federated.tasks`.
        task_version: its version.
    """
    value = {
        "files": [[path, files[path]] for path in sorted(files)],
        "task": task_name,
        "version": task_version,
    }
    return "sha256:" + digest(NAMESPACE, canonical(value)).hex()


def source_digests(package: str, root: _Place) -> dict[str, str]:
    """Return the digest of each `.py` file under `root`.

    Args:
        package: what the paths start with, e.g. `federated/node/guard.py`.
        root: the folder of the package.
    """
    found: dict[str, str] = {}
    for place in root.iterdir():
        path = f"{package}/{place.name}"
        if place.is_dir():
            found |= source_digests(path, place)
        elif place.name.endswith(".py") and place.is_file():
            found[path] = sha256_text(place.read_bytes())
    return found


@cache
def _installed() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in PACKAGES:
        found |= source_digests(package, resources.files(package))
    return found


def code_of(job: Job) -> str:
    """Return the digest of the code that would run a job here."""
    return code_digest(job.task, job.task_version)
