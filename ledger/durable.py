"""Writes small files so that a crash leaves either the old contents or the new, whole.

`replace` makes a new file and gives it the name: right for files that are written once. `Slots` is
for what is written many times a second: two places in one file, written in turn, each with a single
flush of data that is in place already. A crash tears at most the place that nobody relies on yet.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

SLOT = 8192
"""Bytes of one place; a checkpoint with an ML-DSA-44 line needs about half."""


def replace(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write `data` to `path`: synced to disk before the old file gives way, and the name after.

    Args:
        path: the file.
        data: all of its contents.
        mode: who may reach the new file, less what the process withholds; 0o600 for a secret.

    Raises:
        OSError: the disk refuses; the old file is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    # What a crash left behind may be open to others, and a file that exists keeps its mode.
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    rename(temporary, path)


def rename(source: Path, target: Path) -> None:
    """Give a file that is on disk already another's place, durably.

    Raises:
        OSError: the disk refuses; the target is the old file or the new one.
    """
    source.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Slots:
    """A file with two places for one small text, the newest of which is never overwritten.

    A file of another length is one text: written by hand, or by an older version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._newest = 0

    def read(self) -> list[bytes]:
        """Return what the places hold, torn or whole; empty where there is no file."""
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        if len(data) != 2 * SLOT:
            return [data]
        return [data[start : start + SLOT].rstrip(b"\0") for start in (0, SLOT)]

    def keep(self, newest: bytes) -> None:
        """Say which of the texts that were read must outlive the next write; before any write.

        Raises:
            OSError: the disk refuses.
        """
        found = self.read()
        if len(found) == 2 and newest in found:
            self._newest = found.index(newest)
            return
        replace(self.path, newest.ljust(SLOT, b"\0") + bytes(SLOT))
        self._newest = 0

    def write(self, data: bytes) -> None:
        """Write a text beside the newest one and return when it is on the disk.

        Raises:
            OSError: the disk refuses; the newest one of before is still whole.
        """
        if not self.path.exists():
            self.keep(data)
            return
        place = 1 - self._newest
        file = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            if os.pwrite(file, data.ljust(SLOT, b"\0"), place * SLOT) != SLOT:
                raise OSError(errno.EIO, "written in part", str(self.path))
            # The length never changes, so the data alone have to reach the disk.
            os.fdatasync(file)
        finally:
            os.close(file)
        self._newest = place
