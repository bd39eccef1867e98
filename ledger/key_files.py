"""Files that hold one secret each: readable by their owner alone, never overwritten, durable.

Decides how a secret key rests on disk. Does not know what the text in the file means.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from ledger.errors import InvalidKeyError

_MAX_FILE_BYTES = 4096


def read_secret(path: Path, limit: int = _MAX_FILE_BYTES) -> str:
    """Return the text of a file that nobody but its owner can reach.

    Args:
        path: the file.
        limit: most bytes that belong there.

    Raises:
        InvalidKeyError: it is missing, not a regular file, open to group or others, too long or not
            text. The message names the file and the remedy, never the contents.
    """
    try:
        # Not blocking: opening a named pipe in the key's place must not hang.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidKeyError(f"key file {path} cannot be opened: {error.strerror}") from None
    try:
        # The open file is asked, not the path, which could be exchanged in between.
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise InvalidKeyError(f"key file {path} is not a regular file")
        if mode & 0o077:
            raise InvalidKeyError(
                f"key file {path} has mode {stat.S_IMODE(mode):04o}, so others can reach it: "
                f"run `chmod 600 {path}`, and make a new key if anybody may have read this one"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InvalidKeyError(f"key file {path} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise InvalidKeyError(f"key file {path} is too long to hold what belongs there")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidKeyError(f"key file {path} is not text") from None


def write_secret(path: Path, text: str) -> None:
    """Write a new file with mode 0600 and wait until it is durable.

    Raises:
        InvalidKeyError: it exists already, or cannot be written; the message names the file.
    """
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        raise InvalidKeyError(
            f"key file {path} exists already and is never overwritten: choose another path"
        ) from None
    except OSError as error:
        raise InvalidKeyError(f"key file {path} cannot be created: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        _sync_directory(path.parent)
    except OSError as error:
        # A half-written key would block the next attempt; nobody has used it yet.
        with contextlib.suppress(OSError):
            path.unlink()
        raise InvalidKeyError(f"key file {path} cannot be written: {error.strerror}") from None


def _sync_directory(folder: Path) -> None:
    # Without this a crash can lose the name of a file whose contents are durable.
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
