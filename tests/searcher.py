"""Finds numbers in bytes, however they are written.

    searcher = Searcher()
    searcher.seek_number(137.0625)                 # as text, float32 and float64
    searcher.seek_encoded(137.0625, scale)         # as fixed-point words: bytes, decimal, hex
    searcher.found([b"...", ...])                  # {"137.0625 as float64 little-endian", …}

Base64 is undone, again and again, wherever a run of its letters stands; so are hex digits. Numbers
in binary are also sought as base64 in all three alignments, for runs that something stands before.
"""

from __future__ import annotations

import base64
import re
import sqlite3
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from privacy.fixedpoint import Scale, encode

_RUN = re.compile(rb"[A-Za-z0-9+/_-]{8,}={0,2}")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}){8,}")
_DEPTH = 4
_PREFIX = 8
# Fewer significant bytes than these are met by chance, or in every run of zeros.
_LEAST_BYTES = 2
_LEAST_DISTINCT = 3


class Searcher:
    """Needles with their descriptions."""

    def __init__(self) -> None:
        self._needles: dict[bytes, str] = {}
        self._texts: set[bytes] = set()

    def seek_number(self, value: float, *, short: bool = True) -> None:
        """Seek a number as a person, a program or a machine writes it.

        Args:
            value: the number.
            short: as float32 too; four bytes are met by chance once in 2^32.
        """
        texts = {
            repr(value),
            f"{value:.10g}",
            f"{value:.6f}",
            f"{value:.3e}",
            f"{value:e}",
            value.hex(),
            repr(value).replace(".", ","),
        }
        for text in texts:
            self._add(text.encode(), f"{value!r} as text {text}")
            self._texts.add(text.encode())
        for order, name in (("<", "little"), (">", "big")):
            if short:
                self._binary(struct.pack(f"{order}f", value), f"{value!r} as float32 {name}-endian")
            self._binary(struct.pack(f"{order}d", value), f"{value!r} as float64 {name}-endian")

    def seek_encoded(self, value: float, scale: Scale) -> None:
        """Seek a number as the fixed-point words of one scale."""
        words = encode(np.array([value]), scale)
        about = f"{value!r} at {scale.fraction_bits} bits in {scale.words} words"
        self._binary(words.astype("<u8").tobytes(), f"{about}, little-endian")
        self._binary(words.astype(">u8").tobytes(), f"{about}, big-endian")
        whole = round(value * 2**scale.fraction_bits)
        for number in {whole, *(int(word) for word in words)}:
            if abs(number) >= 1 << 30:
                self._add(str(number).encode(), f"{about}, decimal")
                self._add(f"{number:x}".encode(), f"{about}, hex")
                self._add(f"{number:X}".encode(), f"{about}, hex")

    def seek_integer(self, value: int) -> None:
        """Seek a whole number large enough not to be met by chance."""
        self._add(str(value).encode(), f"{value} as text")
        size = max(8, (value.bit_length() + 7) // 8)
        self._binary(value.to_bytes(size, "little", signed=True), f"{value} little-endian")
        self._binary(value.to_bytes(size, "big", signed=True), f"{value} big-endian")
        self.seek_number(float(value))

    def found(self, haystacks: Iterable[bytes]) -> set[str]:
        """Return descriptions of the needles that occur anywhere."""
        data = b"\n".join(_all_layers(haystacks))
        hits = {
            about
            for needle, about in self._needles.items()
            if len(needle) < _PREFIX and self._stands_in(needle, data)
        }
        long = [needle for needle in self._needles if len(needle) >= _PREFIX]
        # Thousands of needles in millions of bytes: only those whose first bytes occur are sought.
        starts = np.array([int.from_bytes(item[:_PREFIX], "little") for item in long], np.uint64)
        met = np.isin(starts, _windows(data))
        hits |= {
            self._needles[needle]
            for needle, possible in zip(long, met, strict=True)
            if possible and self._stands_in(needle, data)
        }
        return hits

    def _stands_in(self, needle: bytes, data: bytes) -> bool:
        """Whether a needle occurs; as the end of a longer number, a time say, it is another one."""
        at = data.find(needle)
        while at > 0 and needle in self._texts and data[at - 1 : at].isdigit():
            at = data.find(needle, at + 1)
        return at >= 0

    def _binary(self, data: bytes, about: str) -> None:
        if len(data.strip(b"\0")) < _LEAST_BYTES or len(set(data)) < _LEAST_DISTINCT:
            return
        self._add(data, about)
        for shift in range(3):
            letters = base64.b64encode(bytes(shift) + data)
            # The first and last letters also hold bits of the neighbours.
            inner = letters[-(-shift * 8 // 6) : (shift + len(data)) * 8 // 6]
            if len(inner) >= 9:
                self._add(inner, f"{about}, base64 at {shift}")

    def _add(self, needle: bytes, about: str) -> None:
        self._needles.setdefault(needle, about)


def _all_layers(haystacks: Iterable[bytes]) -> Iterable[bytes]:
    """Return everything once, with whatever is wrapped in it."""
    seen: set[bytes] = set()
    todo = [(data, 0) for data in haystacks]
    while todo:
        data, depth = todo.pop()
        if data in seen:
            continue
        seen.add(data)
        yield data
        if depth < _DEPTH:
            todo += [(inner, depth + 1) for inner in _unpacked(data)]


def _windows(data: bytes) -> np.ndarray:
    """Return every run of eight bytes as a number, each once."""
    return np.unique(
        np.concatenate(
            [
                np.frombuffer(data[at : at + (len(data) - at) // 8 * 8], dtype="<u8")
                for at in range(_PREFIX)
            ]
        )
    )


def _unpacked(data: bytes) -> Iterable[bytes]:
    for match in _RUN.finditer(data):
        run = match[0].rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        run = run[: len(run) - (len(run) % 4 == 1)]
        yield base64.b64decode(run + b"=" * (-len(run) % 4))
    for match in _HEX.finditer(data):
        yield bytes.fromhex(match[0].decode())


def folder_bytes(folder: Path) -> list[bytes]:
    """Return every file below a folder, and every cell of every SQLite database in it."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        found.append(path.name.encode())
        found.append(data)
        if data.startswith(b"SQLite format 3"):
            found += database_cells(path)
    return found


def database_cells(path: Path) -> list[bytes]:
    """Return every cell of a database as bytes: pages cut long values into pieces."""
    connection = sqlite3.connect(path)
    try:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        cells: list[bytes] = []
        for (table,) in tables.fetchall():
            for row in connection.execute(f'SELECT * FROM "{table}"'):  # noqa: S608 - own schema
                cells += [cell if isinstance(cell, bytes) else str(cell).encode() for cell in row]
        return cells
    finally:
        connection.close()
