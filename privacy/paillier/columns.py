"""Vectors of packed words under a key: added, weighted, grouped and opened.

What it decides: that columns which meet are alike, and that no slot can overflow, which it counts.
What it does not do: hide a column from the key's holder; words are masked before (`privacy.masking`
among parties, `totals` for a single total).

    column = seal(encryptor, Packing(weight=3), words)
    total = add_columns([column, other])                 # anybody, without a secret
    score = weigh_columns([column, other], [5, -2])      # public integers
    leaving = rerandomise_column(encryptor, score)       # before a result is handed on
    words = open_column(secret, leaving)                 # uint64, modulo 2^word_bits

All of it but `seal` and `rerandomise_column` is deterministic: whoever knows what went in can
compute what comes out. So a result is re-randomised before it leaves those who know its inputs,
except where it is meant to be computed once more, as a buyer does with an operator's sum.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from privacy.errors import CiphertextError, OverflowRefusedError, VectorError
from privacy.fixedpoint import Words
from privacy.paillier.cipher import add_plaintexts, check_ciphertexts, decrypt, multiply, product
from privacy.paillier.keys import PublicKey, SecretKey
from privacy.paillier.packing import Packing
from privacy.paillier.randomness import Encryptor, Progress


class Encrypts(Protocol):
    """An `Encryptor`, or an `EncryptionPool` that has several at work."""

    public: PublicKey

    def encrypt(
        self, plaintexts: Sequence[int], progress: Progress | None = None
    ) -> tuple[int, ...]:
        """Encrypts each plaintext with fresh randomness."""


@dataclass(frozen=True)
class PackedColumn:
    """A vector of words under a key.

    Attributes:
        public: The key.
        packing: How the words share plaintexts.
        length: Number of words, at least 1.
        units: What each slot holds at most, in units of 2^word_bits: 1 for a vector just sealed.
        ciphertexts: `packing.plaintexts(public, length)` of them.

    Raises:
        VectorError: If there are other than so many ciphertexts.
        OverflowRefusedError: If there are more units than the packing has room for.
        CiphertextError: If one is not a ciphertext under this key.
    """

    public: PublicKey
    packing: Packing
    length: int
    units: int
    ciphertexts: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.length < 1 or len(self.ciphertexts) != self.packing.plaintexts(
            self.public, self.length
        ):
            raise VectorError(
                f"{len(self.ciphertexts)} ciphertexts do not hold {self.length} packed words"
            )
        if not 1 <= self.units <= self.packing.weight:
            raise OverflowRefusedError(
                f"a slot would hold {self.units} units where it has room for {self.packing.weight}"
            )
        check_ciphertexts(self.public, self.ciphertexts)


def seal(
    encryptor: Encrypts, packing: Packing, words: Words, progress: Progress | None = None
) -> PackedColumn:
    """Packs and encrypts a vector.

    Args:
        encryptor: Of the receiver's key.
        packing: How the words share plaintexts.
        words: uint64[n], n >= 1, each below 2^word_bits; masked before.
        progress: Told how many ciphertexts are done.

    Raises:
        VectorError: If `words` is not uint64[n], or empty.
        OutOfRangeError: If a word does not fit.
    """
    plaintexts = packing.pack(encryptor.public, words)
    sealed = encryptor.encrypt(plaintexts, progress)
    return PackedColumn(encryptor.public, packing, len(words), 1, sealed)


def add_columns(columns: Sequence[PackedColumn]) -> PackedColumn:
    """Adds vectors while encrypted.

    Raises:
        VectorError: If there is none, or they are not alike in key, packing and length.
        OverflowRefusedError: If a slot could overflow.
    """
    first = _alike(columns)
    units = _within(first, sum(column.units for column in columns))
    rows = zip(*(column.ciphertexts for column in columns), strict=True)
    total = tuple(product(first.public, row) for row in rows)
    return replace(first, units=units, ciphertexts=total)


def weigh_columns(columns: Sequence[PackedColumn], weights: Sequence[int]) -> PackedColumn:
    """Adds vectors, each times an integer that everybody may know, modulo 2^word_bits.

    Args:
        columns: Alike in key, packing and length.
        weights: One for each; may be negative or zero.

    Raises:
        VectorError: If there is no column, they are not alike, or there is not one integer for
            each.
        OverflowRefusedError: If a slot could overflow.
    """
    first = _alike(columns)
    if len(weights) != len(columns) or any(type(weight) is not int for weight in weights):
        raise VectorError("a weighted sum takes one integer weight for each column")
    pairs = list(zip(columns, weights, strict=True))
    needed = sum(abs(weight) * column.units for column, weight in pairs)
    # Without any weight at all the sum is zero, in a column that has the least there is.
    units = _within(first, max(needed, 1))
    terms = [_weighed(column, weight) for column, weight in pairs if weight]
    rows = zip(*terms, strict=True) if terms else [()] * len(first.ciphertexts)
    total = tuple(product(first.public, row) for row in rows)
    return replace(first, units=units, ciphertexts=total)


def group_columns(
    rows: Sequence[PackedColumn], labels: Sequence[Hashable]
) -> Mapping[Hashable, PackedColumn]:
    """Adds rows that carry the same public label.

    Args:
        rows: One packed vector for each row of a table.
        labels: The group of each row; they are not hidden, nor is the size of a group.

    Returns:
        By label, in order of appearance, the sum of its rows.

    Raises:
        VectorError: If there is no row, they are not alike, or there is not one label for each.
        OverflowRefusedError: If a slot could overflow.
    """
    _alike(rows)
    if len(labels) != len(rows):
        raise VectorError("grouping takes one label for each row")
    groups: dict[Hashable, list[PackedColumn]] = {}
    for row, label in zip(rows, labels, strict=True):
        groups.setdefault(label, []).append(row)
    return {label: add_columns(members) for label, members in groups.items()}


def add_public_words(column: PackedColumn, words: Words) -> PackedColumn:
    """Adds words that everybody may know; it takes a unit of room.

    Raises:
        VectorError: If there is not one word for each of the column's.
        OutOfRangeError: If a word does not fit.
        OverflowRefusedError: If a slot could overflow.
    """
    plaintexts = column.packing.pack(column.public, words)
    if len(words) != column.length:
        raise VectorError(f"{len(words)} words cannot be added to a column of {column.length}")
    units = _within(column, column.units + 1)
    total = add_plaintexts(column.public, column.ciphertexts, plaintexts)
    return replace(column, units=units, ciphertexts=tuple(total))


def fold(column: PackedColumn) -> PackedColumn:
    """Adds all ciphertexts of a column into one, slot by slot.

    Returns:
        A column of as many words as a plaintext has slots, or fewer if there were fewer: word i is
        the sum of those words whose number is i modulo that.

    Raises:
        OverflowRefusedError: If a slot could overflow: see `Packing.for_total`.
    """
    units = _within(column, column.units * len(column.ciphertexts))
    length = min(column.length, column.packing.slots(column.public))
    one = product(column.public, column.ciphertexts)
    return replace(column, length=length, units=units, ciphertexts=(one,))


def rerandomise_column(encryptor: Encryptor, column: PackedColumn) -> PackedColumn:
    """Hides from all but the key's holder how a column was computed; it opens to the same words.

    Raises:
        CiphertextError: If the encryptor is of another key.
    """
    if encryptor.public.n != column.public.n:
        raise CiphertextError("a column is re-randomised under its own key")
    return replace(column, ciphertexts=encryptor.rerandomise(column.ciphertexts))


def open_column(secret: SecretKey, column: PackedColumn) -> Words:
    """Opens a column.

    Returns:
        uint64[length], each reduced modulo 2^word_bits.

    Raises:
        CiphertextError: If it is under another key, or opens to what no such sum can hold.
    """
    if secret.public.n != column.public.n:
        raise CiphertextError("this column is under another key")
    plaintexts = decrypt(secret, column.ciphertexts)
    return column.packing.unpack(column.public, plaintexts, column.length, column.units)


def read_signed(words: Words, packing: Packing) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Reads words in two's complement of the packing's width.

    Args:
        words: uint64[n], each below 2^word_bits.
        packing: Gives the width.

    Returns:
        int64[n]
    """
    # The word is moved up to the sign bit of 64 and back down, which copies its own sign bit.
    spare = 64 - packing.word_bits
    return (words << np.uint64(spare)).view(np.int64) >> spare


def _alike(columns: Sequence[PackedColumn]) -> PackedColumn:
    if not columns:
        raise VectorError("there is no column to add")
    first = columns[0]
    for at, column in enumerate(columns):
        if column.public.n != first.public.n:
            raise VectorError(f"column {at} is under another key than the first")
        if (column.packing, column.length) != (first.packing, first.length):
            raise VectorError(f"column {at} is packed otherwise than the first")
    return first


def _within(column: PackedColumn, units: int) -> int:
    """Refuses, before anything is computed, what a slot has no room for."""
    if units > column.packing.weight:
        raise OverflowRefusedError(
            f"a slot would hold {units} units where it has room for {column.packing.weight}"
        )
    return units


def _weighed(column: PackedColumn, weight: int) -> list[int]:
    """Returns a column's ciphertexts times a weight, steps 2 and 3 of the proof in `packing`."""
    public, packing = column.public, column.packing
    weighed = multiply(public, column.ciphertexts, weight)
    if weight > 0:
        return weighed
    offset = -weight * column.units << packing.word_bits
    return add_plaintexts(public, weighed, packing.repeated(public, column.length, offset))
