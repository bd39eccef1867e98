"""Reads an exported folder that may hold anything, in bounded time and memory.

    with Folder(Path("audit-2026")) as folder:
        data = folder.read("manifest", limit=1_000_000)
        data = folder.read_listed(contents.file("checkpoint"))
        strange = folder.unlisted(belongs, most=100)

Decides whether a path names a regular file below the folder, reached without a link, no longer than
it may be, and with the digest that was promised. What the bytes mean is decided elsewhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from ledger.encoding import sha256_text
from ledger.errors import EncodingError
from ledger.manifest import File

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# Without O_NONBLOCK a named pipe that takes a file's place would block the open.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class Folder:
    """An exported folder. Keeps it open, so that what is read is one folder throughout.

    Args:
        path: the folder; it may be reached through a link itself, nothing in it may.

    Raises:
        OSError: it is not there, or no folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        # The tiles of one thousand stand in one folder: it is walked to once.
        self._parent = ("", os.dup(self._root))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the folder back; nothing can be read any more."""
        for descriptor in (self._root, self._parent[1]):
            os.close(descriptor)

    def read(self, path: str, limit: int) -> bytes:
        """Return a file's bytes.

        Args:
            path: below the folder, with `/`.
            limit: most bytes that may belong there; a longer file is refused unread.

        Raises:
            OSError: it is not there, or cannot be read.
            EncodingError: it is no regular file, is reached through a link, climbs out of the
                folder or is longer than `limit`.
        """
        folder, _, name = path.rpartition("/")
        parent = self._open_folder(folder)
        _refuse_name(path, name)
        _refuse_kind(path, os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
        descriptor = os.open(name, _FILE, dir_fd=parent)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            # Asked again: between the look and the open somebody may have changed the file.
            status = os.fstat(descriptor)
            _refuse_kind(path, status.st_mode)
            if status.st_size > limit:
                raise EncodingError(f"{path} has {status.st_size} bytes, at most {limit} belong")
            parts = []
            left = limit + 1
            while left > 0 and (part := file.read(min(left, status.st_size + 1))):
                parts.append(part)
                left -= len(part)
        return b"".join(parts)

    def read_listed(self, listed: File) -> bytes:
        """Return a file's bytes, which are exactly those that were listed.

        Raises:
            OSError, EncodingError: as `read`; also when length or digest differ.
        """
        data = self.read(listed.path, listed.length)
        if len(data) != listed.length or sha256_text(data) != listed.digest:
            raise EncodingError("differs from the signed manifest")
        return data

    def unlisted(self, listed: Collection[str], most: int) -> list[str]:
        """Return paths of what should not be there: files, links, and folders (ending in `/`).

        A folder without any listed file is named and not entered, so that neither its depth nor
        its millions of files cost anything.

        Args:
            listed: paths of the files that belong.
            most: how many are named at most.
        """
        folders = _parents(listed)
        found: list[str] = []
        waiting = [""]
        while waiting and len(found) < most:
            prefix = waiting.pop()
            with os.scandir(self._open_folder(prefix.rstrip("/"))) as items:
                for item in items:
                    # A name that is not UTF-8 is somebody's, and no text: it must be printable.
                    name = os.fsencode(item.name).decode("utf-8", "backslashreplace")
                    is_folder = item.is_dir(follow_symlinks=False)
                    path = f"{prefix}{name}/" if is_folder else f"{prefix}{name}"
                    if is_folder and path in folders:
                        waiting.append(path)
                    elif path not in listed:
                        found.append(path)
                        if len(found) == most:
                            break
        return sorted(found)

    def _open_folder(self, path: str) -> int:
        """Return a descriptor of a folder below this one, kept open until another is asked for."""
        known, descriptor = self._parent
        if path == known:
            return descriptor
        reached = os.dup(self._root)
        try:
            for name in path.split("/") if path else ():
                _refuse_name(path, name)
                _refuse_link(path, os.stat(name, dir_fd=reached, follow_symlinks=False).st_mode)
                inner = os.open(name, _FOLDER, dir_fd=reached)
                os.close(reached)
                reached = inner
        except BaseException:
            os.close(reached)
            raise
        os.close(descriptor)
        self._parent = (path, reached)
        return reached


def _parents(paths: Iterable[str]) -> set[str]:
    """Return every folder above these paths, each ending in `/`."""
    found: set[str] = set()
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent and f"{parent}/" not in found:
            found.add(f"{parent}/")
            parent = parent.rpartition("/")[0]
    return found


def _refuse_name(path: str, name: str) -> None:
    if name in ("", ".", ".."):
        raise EncodingError(f"{path[:100]!r} is no path below the folder")


def _refuse_link(path: str, mode: int) -> None:
    if stat.S_ISLNK(mode):
        raise EncodingError(f"{path} is a link; an export has none")


def _refuse_kind(path: str, mode: int) -> None:
    _refuse_link(path, mode)
    if not stat.S_ISREG(mode):
        raise EncodingError(f"{path} is no regular file")
