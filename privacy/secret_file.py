"""Files that hold a secret key: written once, for their owner alone.

What it decides: that a key is never written over, and that a file which others can read is not
trusted. What it does not do: know what is inside.

    write_secret(path, content)
    content = read_secret(path, longest=1 << 20)
"""

import os
import stat
from pathlib import Path

from privacy.errors import KeyFileError


def write_secret(path: Path, content: bytes) -> None:
    """Writes a new file that only its owner can read (mode 0600).

    Raises:
        KeyFileError: If the path exists, or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            # A crash before this leaves an incomplete file: whoever reads it has to notice.
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise KeyFileError(f"{path} exists already; a key is never overwritten") from None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written: {error.strerror}") from None


def read_secret(path: Path, *, longest: int) -> bytes:
    """Reads a file that nobody but its owner can read.

    Args:
        path: Where it is.
        longest: Most bytes.

    Raises:
        KeyFileError: If it is missing, no regular file, open to group or others, or too long.
    """
    try:
        # Opened first and asked about afterwards, so that both speak of the same file.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode) or mode & 0o077:
                raise KeyFileError(
                    f"{path} must be a regular file that only its owner can read: chmod 600"
                )
            content = file.read(longest + 1)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > longest:
        raise KeyFileError(f"{path} is longer than any key")
    return content
