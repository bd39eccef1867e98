"""Writes a log to a folder that an auditor can check offline.

    export(log, Path("audit-2026"), opened=range(log.size), scope="everything", now=…)

Layout: `checkpoint`, `tile/…` (C2SP tlog-tiles), `openings/…` (the statements this reader may
see), `log.vkey` (a claim, never to be trusted) and `manifest`, which lists all of it, signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ledger.checkpoint import open_checkpoint
from ledger.encoding import sha256_text
from ledger.errors import ExportError, NoteError, StatementError
from ledger.keys import SigningKey
from ledger.log import Log
from ledger.manifest import (
    CHECKPOINT,
    CLAIMED_KEY,
    FILE,
    MAX_EXPORT,
    File,
    Manifest,
    openings_path,
    spans,
)
from ledger.tiles import WIDTH, layout


def export(
    log: Log, key: SigningKey, folder: Path, *, opened: Iterable[int], scope: str, now: int
) -> Manifest:
    """Write the log, as its newest checkpoint covers it, to a new folder.

    Args:
        log: the log.
        key: the log's key; it signs the manifest.
        folder: must not exist yet, or be empty.
        opened: indexes of the entries whose statements this reader may see.
        scope: for whom they were chosen, in words.
        now: Unix milliseconds.

    Raises:
        ExportError: the folder has something in it, the key is another log's, or the log is too
            large for one export; nothing was written. Also when the disk refuses: what was
            written until then lacks the manifest, and no verifier accepts it.
    """
    if key.verify_key != log.vkey:
        raise ExportError(f"the key of {key.name!r} is not the key of this log")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ExportError(f"{folder} is not an empty folder; name a new one")
    signed = log.checkpoint()
    size = open_checkpoint(signed, log.vkey).size
    opened_spans = spans(index for index in opened if index < size)
    contents: dict[str, bytes] = {
        CHECKPOINT: signed,
        CLAIMED_KEY: log.vkey.text.encode() + b"\n",
    }
    for tile in layout(size):
        contents[tile.path] = log.tile(tile.path)
    wanted = {index for span in opened_spans for index in range(span.start, span.stop)}
    for number in sorted({index // WIDTH for index in wanted}):
        openings = log.openings(number * WIDTH, min(size, (number + 1) * WIDTH))
        lines = [item.to_bytes() + b"\n" for item in openings if item.index in wanted]
        contents[openings_path(number)] = b"".join(lines)
    manifest = Manifest(
        origin=log.vkey.name,
        size=size,
        created=now,
        scope=scope,
        opened=opened_spans,
        files=tuple(
            File(path, len(data), sha256_text(data)) for path, data in sorted(contents.items())
        ),
    )
    total = sum(len(data) for data in contents.values())
    if total > MAX_EXPORT:
        raise ExportError(f"an export of {total} bytes is too large; open fewer entries")
    try:
        contents[FILE] = manifest.sign(key)
    except (NoteError, StatementError) as error:
        raise ExportError(f"this cannot be one export; open fewer spans ({error})") from error
    _write(folder, contents)
    return manifest


def _write(folder: Path, contents: Mapping[str, bytes]) -> None:
    # The manifest comes last: a folder without it was not finished.
    try:
        for path, data in contents.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    except OSError as error:
        raise ExportError(f"{folder} cannot be written: {error.strerror}") from error
