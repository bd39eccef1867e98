"""A new signing key beside the present one, until it may take its place.

    new = waiting_key(path, name)      # `….new`; the same one each time until it takes over
    …                                  # it comes into force elsewhere, durably
    take_over(path)

A crash at any point loses neither key, and leaves no half of one.
"""

from __future__ import annotations

from pathlib import Path

from ledger import durable
from ledger.keys import SigningKey


def waiting_path(path: Path) -> Path:
    """Return where the key waits that is to take the place of the one in `path`."""
    return path.with_name(f"{path.name}.new")


def waiting_key(path: Path, name: str) -> SigningKey:
    """Return the key that waits; made where there is none.

    Args:
        path: file of the present key.
        name: the new key's name.

    Raises:
        InvalidKeyError: a key file must not be used, or cannot be written.
        OSError: the disk refuses.
    """
    waiting = waiting_path(path)
    if not waiting.exists():
        # A crash while it is written leaves a draft that nobody has used.
        draft = path.with_name(f"{path.name}.draft")
        draft.unlink(missing_ok=True)
        SigningKey.generate(name).save(draft)
        durable.rename(draft, waiting)
    return SigningKey.load(waiting)


def take_over(path: Path) -> None:
    """Give the waiting key the present one's place; the present key's file is gone.

    Raises:
        OSError: the disk refuses; one of them is in the place.
    """
    # A crash before this leaves both keys; the next run finds the new one in force.
    durable.rename(waiting_path(path), path)
