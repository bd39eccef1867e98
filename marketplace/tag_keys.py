"""A provider's tag keys: one file an asset (0600), in the folder of its other keys.

Whoever holds an asset's tag key finds the asset in every index of used assets, and can show that it
is not there (`ledger.use_index`). The provider draws it, the operator gets a copy.
"""

from __future__ import annotations

from pathlib import Path

from ledger.encoding import b64decode, b64encode
from ledger.ids import parse_id
from ledger.key_files import read_secret, write_secret

FOLDER = "tag-keys"


def keep(home: Path, asset: str, key: bytes) -> None:
    """Write an asset's tag key into a provider's folder.

    Raises:
        InvalidKeyError: the file cannot be written.
    """
    (home / FOLDER).mkdir(mode=0o700, exist_ok=True)
    write_secret(_path(home, asset), b64encode(key) + "\n")


def load(home: Path, asset: str) -> bytes:
    """Return an asset's tag key.

    Raises:
        InvalidKeyError: there is none, or others can reach its file.
        EncodingError: the file holds no key.
    """
    return b64decode(read_secret(_path(home, asset)).strip())


def _path(home: Path, asset: str) -> Path:
    return home / FOLDER / f"{parse_id(asset)[1]}.key"
