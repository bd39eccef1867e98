"""An auditor's own copy of a log: what was verified once need not be fetched or verified again.

    with Mirror(Path("state")) as mirror:
        mirror.append(entry_bytes, leaf, opening_line)       # staged: gone after a crash
        mirror.record("offer:9f…")                           # what the rules said of the next one
        mirror.commit({"checkpoint": "…"})                   # from here on it stays
        mirror.read(7)

Four files that only grow, and a small one that says how much of them counts:

    entries     entries, one after the other
    openings    openings, one a line
    index       72 bytes an entry: where both lie (8 + 4 + 8 + 4), leaf hash (32), check (16)
    ids         33 bytes an entry: kind and digest of its statement's id, zeros where there is none
    state       lengths and digests of these, and whatever the owner of the mirror remembers

Decides what is durable, and whether what is read back is what was written. A crash at any moment
leaves the last commit. Every record is tied by hashes to the state file, so damage and truncation
are noticed; somebody who may write to the folder may also write another state file, and is not
noticed here. Nothing that is read is ever executed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

from ledger import durable
from ledger.errors import StateError
from ledger.ids import parse_id

HEADING = b"rongshu/monitor-state/v1"
STATE = "state"
LOCK = "lock"
GROWING = ("entries", "openings", "index", "ids")

_RECORD = struct.Struct(">QIQI32s16s")
_ID = struct.Struct(">B32s")
_NO_ID = bytes(_ID.size)
_CHECK_BYTES = 16


class Mirror:
    """The files of one state folder, for one process at a time.

    Attributes:
        size: entries in it, staged ones too.
        replayed: entries of which the outcome is recorded.
        remembered: what the last commit was given.

    Args:
        folder: made where it is not there, readable by its owner alone.

    Raises:
        StateError: damaged, in use by another process, or writable by others.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.remembered: dict[str, Any] = {}
        self._files: dict[str, BinaryIO] = {}
        self._lengths: dict[str, int] = {}
        self._kinds: list[str] = []
        self._digests: dict[str, Any] = {}
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._guard = _lock(folder)
        except OSError as error:
            raise StateError(f"{folder}: {error.strerror or 'cannot be used'}") from error
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the folder back; what was not committed is gone."""
        for file in self._files.values():
            file.close()
        self._guard.close()

    # Writing.

    def append(self, entry: bytes, leaf: bytes, opening: bytes = b"") -> None:
        """Stage one more entry.

        Args:
            entry: its bytes.
            leaf: hash of its leaf.
            opening: its opening as one line without the break; empty where it is not opened.
        """
        places = self._lengths["entries"], len(entry), self._lengths["openings"], len(opening)
        self._write("entries", entry)
        if opening:
            self._write("openings", opening + b"\n")
        self._index += self._write("index", _RECORD.pack(*places, leaf, _check(entry, opening)))
        self.size += 1

    def record(self, statement_id: str | None = None) -> None:
        """Stage the outcome of the next entry that the rules were asked about.

        Args:
            statement_id: of its statement; None where none was recorded.
        """
        record = _NO_ID
        if statement_id is not None:
            kind, digest = parse_id(statement_id)
            if kind not in self._kinds:
                self._kinds.append(kind)
            record = _ID.pack(self._kinds.index(kind) + 1, bytes.fromhex(digest))
        self._ids += self._write("ids", record)
        self.replayed += 1

    def commit(self, remembered: dict[str, Any]) -> None:
        """Make everything staged so far durable, and remember these JSON values with it.

        Raises:
            StateError: the disk refuses; the last commit stands.
        """
        try:
            self._commit(remembered)
        except OSError as error:
            raise self._refused(error) from error
        # From here the new state counts.
        self._durable = dict(self._lengths)
        self.remembered = remembered

    def _commit(self, remembered: dict[str, Any]) -> None:
        # Crash before the state is replaced: the files are longer than it says, and are cut back.
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        state = {
            "digests": {name: digest.hexdigest() for name, digest in self._digests.items()},
            "kinds": self._kinds,
            "lengths": self._lengths,
            "remembered": remembered,
        }
        body = json.dumps(state, sort_keys=True, separators=(",", ":")).encode()
        lines = (HEADING, body, hashlib.sha256(body).hexdigest().encode(), b"")
        durable.replace(self.folder / STATE, b"\n".join(lines))

    def restart(self, remembered: dict[str, Any]) -> None:
        """Forget every outcome, so that the rules are asked again; entries stay. Commits.

        Raises:
            StateError: the disk refuses; the last commit stands.
        """
        self._lengths["ids"], self.replayed = 0, 0
        self._ids, self._digests["ids"] = bytearray(), hashlib.sha256()
        self.commit(remembered)
        # Crash before this: the file is longer than the state says, and is cut back.
        self._files["ids"].truncate(0)
        self._files["ids"].seek(0)

    def rollback(self) -> None:
        """Forget what was staged since the last commit."""
        for file in self._files.values():
            file.close()
        self._open()

    def _write(self, name: str, data: bytes) -> bytes:
        try:
            self._files[name].write(data)
        except OSError as error:
            raise self._refused(error) from error
        self._lengths[name] += len(data)
        if name in self._digests:
            self._digests[name].update(data)
        return data

    # Reading.

    def leaves(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the leaf hashes of entries `start` to `stop`, exclusive."""
        span = memoryview(self._index)[start * _RECORD.size : stop * _RECORD.size]
        for record in _RECORD.iter_unpack(span):
            yield record[4]

    def ids(self) -> Iterator[str | None]:
        """Yield the id of each replayed entry's statement; None where none was recorded."""
        prefixes = [f"{kind}:" for kind in self._kinds]
        for kind, digest in _ID.iter_unpack(self._ids):
            yield prefixes[kind - 1] + digest.hex() if kind else None

    def is_open(self, index: int) -> bool:
        """Whether there is an opening of an entry."""
        record: tuple[int, ...] = _RECORD.unpack_from(self._index, index * _RECORD.size)
        return record[3] > 0

    def read(self, index: int) -> tuple[bytes, bytes]:
        """Return an entry, and its opening or nothing.

        Raises:
            StateError: they are not what was written.
        """
        at, length, opening_at, opening_length, _, check = _RECORD.unpack_from(
            self._index, index * _RECORD.size
        )
        entry = self._read("entries", at, length)
        opening = self._read("openings", opening_at, opening_length)
        if _check(entry, opening) != check:
            raise self._damaged(f"entry {index} is not what was written")
        return entry, opening

    def _read(self, name: str, at: int, length: int) -> bytes:
        if at + length > self._durable[name]:
            self._files[name].flush()
        return os.pread(self._files[name].fileno(), length, at)

    # Opening.

    def _open(self) -> None:
        state = self._read_state()
        self.remembered = state.get("remembered", {})
        self._kinds = list(state.get("kinds", []))
        self._lengths = dict(state.get("lengths", dict.fromkeys(GROWING, 0)))
        self._durable = dict(self._lengths)
        for name, length in self._lengths.items():
            self._files[name] = self._cut(self.folder / name, length)
        self._index, self._ids = (
            bytearray(self._read(name, 0, self._lengths[name])) for name in ("index", "ids")
        )
        self._digests = {
            "index": hashlib.sha256(self._index),
            "ids": hashlib.sha256(self._ids),
        }
        for name, digest in self._digests.items():
            if state and digest.hexdigest() != state["digests"][name]:
                raise self._damaged(f"{name} is not what was written")
        self.size = len(self._index) // _RECORD.size
        self.replayed = len(self._ids) // _ID.size

    def _cut(self, path: Path, length: int) -> BinaryIO:
        """Open a growing file at its end, whatever an interrupted run left behind cut off."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            file = os.fdopen(descriptor, "r+b")
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}") from error
        if os.fstat(descriptor).st_size < length:
            file.close()
            raise self._damaged(f"{path.name} was cut off")
        file.truncate(length)
        file.seek(length)
        return file

    def _read_state(self) -> dict[str, Any]:
        try:
            data = (self.folder / STATE).read_bytes()
        except FileNotFoundError:
            if any((self.folder / name).exists() for name in KEPT):
                raise self._damaged(f"{STATE} is missing") from None
            return {}
        heading, _, rest = data.partition(b"\n")
        body, _, check = rest.partition(b"\n")
        if heading != HEADING:
            raise self._damaged(f"{STATE} is not of this version")
        if hashlib.sha256(body).hexdigest().encode() + b"\n" != check:
            raise self._damaged(f"{STATE} is not what was written")
        state: dict[str, Any] = json.loads(body)
        return state

    def _refused(self, error: OSError) -> StateError:
        return StateError(
            f"{self.folder} cannot be written: {error.strerror}. Nothing that was verified before "
            "is lost; make room and run again"
        )

    def _damaged(self, what: str) -> StateError:
        return StateError(
            f"{self.folder}: {what}. Move the folder away and let the monitor begin a new one; "
            "keep its checkpoint, which shows what was verified"
        )


KEPT = ("checkpoint",)
"""Files that show that a state was there once."""


def _check(entry: bytes, opening: bytes) -> bytes:
    length = len(entry).to_bytes(4, "big")
    return hashlib.sha256(length + entry + opening).digest()[:_CHECK_BYTES]


def _lock(folder: Path) -> BinaryIO:
    if folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StateError(
            f"{folder} can be written by others, who could make the monitor skip what it should "
            f"find: run `chmod go-w {folder}`, or name a folder of your own"
        )
    file = (folder / LOCK).open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise StateError(f"{folder} is in use by another monitor") from None
    return file
