"""A sidecar that works: the one of this machine, or one that is installed for a while.

with ready_sidecar(tmp_path) as sidecar: ...     # skips, with a reason, where none can be had
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from federated.errors import SidecarError
from federated.sidecar.installation import Installation
from federated.sidecar.intersection import Sidecar
from federated.sidecar.lock import Lock
from federated.sidecar.settings import SidecarSettings


def install(folder: Path, lock: Lock) -> Installation:
    made = Installation(folder, lock)
    made.install(say=lambda _: None)
    return made


@contextmanager
def ready_sidecar(folder: Path) -> Iterator[Sidecar]:
    ready = Sidecar(SidecarSettings.load())
    if ready.available():
        yield ready
        return
    try:
        made = install(folder / "spu", Lock.shipped())
    except SidecarError as error:
        pytest.skip(f"SPU cannot be installed here: {error}")
    yield Sidecar(SidecarSettings(folder / "spu"))
    made.remove()
