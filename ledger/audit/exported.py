"""Reads parts of an exported folder, and single files, for the auditor's commands.

Decides how much is read of what; believes none of it. Whoever uses it verifies.
"""

from __future__ import annotations

import os
from pathlib import Path

from ledger import checkpoint as checkpoints
from ledger import note
from ledger.errors import ExportError
from ledger.folder import Folder
from ledger.manifest import SUCCESSION, numbered_path
from ledger.succession import MAX_SUCCESSIONS
from ledger.tile_tree import MAX_BUNDLE, MAX_TILE, TileTree
from ledger.tiles import Tile


def read_tree(folder: Folder, signed: bytes) -> TileTree:
    """Return the tree behind a checkpoint of an export; tiles are read when they are needed.

    Raises:
        NoteError: the checkpoint is malformed.
    """

    def read(tile: Tile) -> bytes:
        return folder.read(tile.path, MAX_BUNDLE if tile.level is None else MAX_TILE)

    return TileTree(checkpoints.parse(note.split_unverified(signed)[0]).size, read)


def successions_in(folder: Folder) -> list[bytes]:
    """Return the successions that an exported folder carries, unverified.

    Raises:
        OSError, EncodingError: as `Folder.read`.
    """
    notes: list[bytes] = []
    for number in range(MAX_SUCCESSIONS):
        try:
            notes.append(folder.read(numbered_path(SUCCESSION, number), note.MAX_BYTES))
        except (FileNotFoundError, NotADirectoryError):
            break
    return notes


def read_file(path: Path, most: int) -> bytes:
    """Return the bytes of a file that the person named.

    Raises:
        ExportError: it is longer than `most` bytes.
        OSError: it cannot be read.
    """
    # Not blocking: a named pipe in the file's place must not hang.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(most + 1) or b""
    if len(data) > most:
        raise ExportError(f"{path} is longer than {most} bytes")
    return data
