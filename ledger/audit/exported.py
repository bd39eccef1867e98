"""Reads parts of an exported folder, and single files, for the auditor's commands.

Decides how much is read of what; believes none of it. Whoever uses it verifies.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ledger import checkpoint as checkpoints
from ledger import note
from ledger.entry import Opening
from ledger.errors import ExportError
from ledger.folder import Folder
from ledger.manifest import MAX_FILE, SUCCESSION, numbered_path, openings_path
from ledger.succession import MAX_SUCCESSIONS
from ledger.tile_tree import MAX_BUNDLE, MAX_TILE, TileTree
from ledger.tiles import WIDTH, Tile


def read_tree(folder: Folder, signed: bytes) -> TileTree:
    """Return the tree behind a checkpoint of an export; tiles are read when they are needed.

    Raises:
        NoteError: the checkpoint is malformed.
    """

    def read(tile: Tile) -> bytes:
        return folder.read(tile.path, MAX_BUNDLE if tile.level is None else MAX_TILE)

    return TileTree(checkpoints.parse(note.split_unverified(signed)[0]).size, read)


def opening_in(folder: Folder, index: int) -> Opening | None:
    """Return the opening of an entry that an exported folder carries, unverified.

    Raises:
        OSError, EncodingError: as `Folder.read`.
        EntryError: a line that seems to be of this entry is no opening.
    """
    for line in lines_about(folder, openings_path(index // WIDTH), index):
        opening = Opening.from_bytes(line)
        if opening.index == index:
            return opening
    return None


def lines_about(folder: Folder, path: str, index: int) -> Iterator[bytes]:
    """Yield the lines of a file of openings that may be of an entry; none where there is no file.

    The others are not looked at: what somebody damaged in them is not this entry's business.
    """
    try:
        lines = folder.read(path, MAX_FILE).split(b"\n")
    except FileNotFoundError:
        return
    mark = b'"index":%d,' % index
    yield from (line for line in lines if mark in line)


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
