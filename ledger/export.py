"""Writes a log to a folder that an auditor can check offline.

    export(log, key, Path("audit-2026"), opened=range(log.size), scope="everything", now=…)

Layout: `checkpoint`, `tile/…` (C2SP tlog-tiles), `openings/…` (the statements this reader may
see), `log.vkey` (a claim, never to be trusted), the tables `files` and `spans`, and `manifest`,
which covers them, signed. Written file by file: memory does not grow with the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ledger.checkpoint import open_checkpoint
from ledger.entry import Opening
from ledger.errors import ExportError, NoteError, StatementError
from ledger.keys import SigningKey, VerifyKey
from ledger.manifest import (
    CHECKPOINT,
    CLAIMED_KEY,
    FILE,
    FILES,
    JOURNALS,
    MAX_FILE,
    MAX_FILES_TABLE,
    MAX_NUMBERED,
    MAX_SPANS_TABLE,
    MAX_TOTAL,
    OPENED,
    SEALED,
    SPANS,
    SUCCESSION,
    TAG_KEYS,
    File,
    Manifest,
    Openness,
    Table,
    files_table,
    numbered_path,
    openings_path,
    sealed_path,
    spans_table,
)
from ledger.tiles import WIDTH, layout


class Source(Protocol):
    """What is exported: a log, or anything that answers like one."""

    @property
    def vkey(self) -> VerifyKey:
        """The log's verifier key."""

    def checkpoint(self) -> bytes:
        """Return the newest signed checkpoint."""

    def tile(self, path: str) -> bytes:
        """Return one file of the tlog-tiles layout."""

    def openings(self, start: int, stop: int) -> Sequence[Opening]:
        """Return the openings that are there of entries `start` to `stop`, exclusive."""


@dataclass(frozen=True)
class Extras:
    """What an export may carry besides the log itself; each part is optional.

    Attributes:
        sealed: for the index of an entry one line, without its line break: its opening, encrypted.
            Looked up entry by entry, so it need not hold them all.
        erased: indexes of entries whose salt and statement were destroyed.
        tag_keys: the contents of `tag-keys`.
        journals: the contents of one file for each node's journal; taken one after the other.
        succession: the contents of one file for each change of the log's key.
    """

    sealed: Mapping[int, bytes] = field(default_factory=dict)
    erased: Iterable[int] = ()
    tag_keys: bytes | None = None
    journals: Iterable[bytes] = ()
    succession: Iterable[bytes] = ()


NO_EXTRAS = Extras()


def export(
    log: Source,
    key: SigningKey,
    folder: Path,
    *,
    opened: Iterable[int],
    scope: str,
    now: int,
    extras: Extras = NO_EXTRAS,
) -> Manifest:
    """Write the log, as its newest checkpoint covers it, to a new folder.

    Args:
        log: the log.
        key: the log's key; it signs the manifest.
        folder: must not exist yet, or be empty.
        opened: indexes of the entries whose statements this reader may see.
        scope: for whom they were chosen, in words.
        now: Unix milliseconds.
        extras: what else is carried.

    Raises:
        ExportError: the folder has something in it, the key is another log's, an entry is to be in
            two states, or the log is too large for one export; nothing was written. Also when the
            disk refuses, an opening is not there or a file is too long: what was written until
            then lacks the manifest, and no verifier accepts it.
    """
    if key.verify_key != log.vkey:
        raise ExportError(f"the key of {key.name!r} is not the key of this log")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ExportError(f"{folder} is not an empty folder; name a new one")
    signed = log.checkpoint()
    size = open_checkpoint(signed, log.vkey).size
    try:
        openness = Openness.of(size, opened, extras.sealed, extras.erased)
        spans = spans_table(openness)
        # Signed once for nothing, to refuse a scope that no manifest holds before all is written.
        draft = Manifest(log.vkey.name, size, now, scope, Table.of(b""), Table.of(spans))
        draft.sign(key)
    except (StatementError, NoteError) as error:
        raise ExportError(f"this cannot be one export: {error}") from error
    writer = _Writer(folder)
    writer.write(CHECKPOINT, signed)
    writer.write(CLAIMED_KEY, log.vkey.text.encode() + b"\n")
    _write_log(writer, log, size, openness, extras)
    _write_extras(writer, extras)
    files = files_table(writer.written)
    writer.write(FILES, files, MAX_FILES_TABLE)
    writer.write(SPANS, spans, MAX_SPANS_TABLE)
    manifest = Manifest(log.vkey.name, size, now, scope, Table.of(files), Table.of(spans))
    # The manifest comes last: a folder without it was not finished.
    writer.write(FILE, manifest.sign(key))
    return manifest


def _write_log(writer: _Writer, log: Source, size: int, openness: Openness, extras: Extras) -> None:
    for tile in layout(size):
        writer.write(tile.path, log.tile(tile.path))
    for number in openness.bundles(OPENED):
        start, stop = number * WIDTH, min(size, (number + 1) * WIDTH)
        there = {item.index: item for item in log.openings(start, stop)}
        lines = []
        for index, state in enumerate(openness.within(start, stop), start):
            if state == OPENED:
                if index not in there:
                    raise ExportError(
                        f"the statement of entry {index} is not kept any more; export it as erased"
                    )
                lines.append(there[index].to_bytes() + b"\n")
        writer.write(openings_path(number), b"".join(lines))
    for number in openness.bundles(SEALED):
        start, stop = number * WIDTH, min(size, (number + 1) * WIDTH)
        states = enumerate(openness.within(start, stop), start)
        sealed = (extras.sealed[index] for index, state in states if state == SEALED)
        writer.write(sealed_path(number), b"".join(map(_line, sealed)))


def _line(sealed: bytes) -> bytes:
    if not sealed or b"\n" in sealed:
        raise ExportError("a sealed opening is one line, not empty")
    return sealed + b"\n"


def _write_extras(writer: _Writer, extras: Extras) -> None:
    if extras.tag_keys is not None:
        writer.write(TAG_KEYS, extras.tag_keys)
    for folder, contents in ((JOURNALS, extras.journals), (SUCCESSION, extras.succession)):
        for number, data in enumerate(contents):
            if number == MAX_NUMBERED:
                raise ExportError(f"more than {MAX_NUMBERED} files in {folder}")
            writer.write(numbered_path(folder, number), data)


class _Writer:
    """Writes files below a folder, and keeps the list of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: list[File] = []
        self._total = 0

    def write(self, path: str, data: bytes, limit: int = MAX_FILE) -> None:
        """Write one file.

        Raises:
            ExportError: it is too long, all are, or the disk refuses.
        """
        self._total += len(data)
        if len(data) > limit or self._total > MAX_TOTAL:
            raise ExportError(f"{path} would be too long for one export; open fewer entries")
        target = self.folder / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        except OSError as error:
            raise ExportError(f"{self.folder} cannot be written: {error.strerror}") from error
        self.written.append(File.of(path, data))
