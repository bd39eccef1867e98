"""Linking records of dirty names without showing them: encodings that can be compared, not read.

Two registries write the same people with typing errors, so no identifier is equal on both sides.
Each turns a record into a string of bits, under a key that both hold: every pair of neighbouring
letters (bigram) of every field sets some bits. Records that share most bigrams share most bits. A
third party, the *linkage node*, which lacks the key, compares all with all and says which rows
belong together. The construction is Schnell, Bachteler and Reiher, "Privacy-preserving record
linkage using Bloom filters" (BMC Medical Informatics 2009) and "A novel error-tolerant anonymous
linking code" (2011: all fields in one filter, the cryptographic long-term key, CLK), hardened as in
Armknecht, Heng and Schnell, "Strengthening Privacy-Preserving Record Linkage using Diffusion"
(PoPETs 2023).

    schema = Schema((Field("surname", 200), Field("born", 200)))
    key = LinkageKey.generate()                           # at the two registries, never elsewhere
    here = encode([surnames, dates], schema, key)         # at each registry
    links = link(here, there, threshold=560)              # at the linkage node: pairs of rows

What it decides: which bits a record sets, how alike two encodings are, and which pairs are linked.
What it does not do: agree on the key, or hide from the linkage node what similarity shows. **An
encoding is a pseudonym, not a ciphertext**: equal records have equal encodings, and the graph of
who resembles whom can be matched against a known population. `privacy/CLAIMS.md` says what that
means.

**No double hashing.** The first papers took bit i of a bigram from g + i·h of two hashes, which a
list of bigrams and a few patterns undo (Niedermeyer et al. 2014; Christen et al. 2018). Here each
bit comes from two bytes of their own of BLAKE2b (RFC 7693) under a key of the field.

**Diffusion.** Of a CLK, bits that are always set together betray a frequent bigram. So each bit of
what leaves is the exclusive or of `spread` bits of the CLK, which the key chooses. One bigram then
sets no bits of its own. Similarity between true pairs falls with it, hence the lower threshold.
"""

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from privacy.derivation import KEY_BYTES, derive_key, keystream, prefixed
from privacy.errors import LinkageError
from privacy.secure_random import random_bytes

SCHEMA_NAMESPACE = "rongshu/linkage-schema/v1"
FIELD_NAMESPACE = "rongshu/linkage-field/v1"
SPREAD_NAMESPACE = "rongshu/linkage-spread/v1"

CLK_BITS = 1024
"""Length of the Bloom filter before diffusion; a power of two, so that positions are even."""

MAX_FIELDS = 32
MAX_FIELD_BITS = 512
MAX_SPREAD = 16
MAX_LENGTH = 1 << 13
MAX_CHARACTERS = 256
"""Longest cell after normalisation."""

CANDIDATES_PER_ROW = 64
"""Pairs above the threshold for each row of the larger side, above which a threshold is too low."""

_ENCODED_AT_A_TIME = 256
_COMPARED_AT_A_TIME = 16
"""Rows whose comparison with 5,000 others stays within a processor's cache."""

_WORD_BITS = 64

Bits = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Field:
    """One column of a record.

    Attributes:
        name: The column's name; the same at both registries.
        bits: About how many bits a cell sets, 1 to `MAX_FIELD_BITS`: how much the field counts.
            Each bigram of a cell gets an equal part of them.

    Raises:
        LinkageError: For another number or an empty name.
    """

    name: str
    bits: int

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable():
            raise LinkageError("the name of a field is empty or not printable")
        if type(self.bits) is not int or not 1 <= self.bits <= MAX_FIELD_BITS:
            raise LinkageError(f"a field sets 1 to {MAX_FIELD_BITS} bits")


@dataclass(frozen=True)
class Schema:
    """How records are encoded; both registries use the same.

    Attributes:
        fields: The columns, with different names.
        spread: How many bits of the CLK make one of the encoding; 1 for no diffusion, which leaves
            the CLK itself and is open to pattern attacks.
        length: Bits of an encoding, a multiple of 64; `CLK_BITS` where there is no diffusion.

    Raises:
        LinkageError: For anything else.
    """

    fields: tuple[Field, ...]
    spread: int = 3
    length: int = 4096

    def __post_init__(self) -> None:
        if not 1 <= len(self.fields) <= MAX_FIELDS:
            raise LinkageError(f"a schema has 1 to {MAX_FIELDS} fields")
        if len({each.name for each in self.fields}) != len(self.fields):
            raise LinkageError("two fields of a schema have one name")
        if type(self.spread) is not int or not 1 <= self.spread <= MAX_SPREAD:
            raise LinkageError(f"the spread is 1 to {MAX_SPREAD}")
        if type(self.length) is not int or not _WORD_BITS <= self.length <= MAX_LENGTH:
            raise LinkageError(f"an encoding has {_WORD_BITS} to {MAX_LENGTH} bits")
        if self.length % _WORD_BITS or (self.spread == 1 and self.length != CLK_BITS):
            raise LinkageError(
                f"the length is a multiple of {_WORD_BITS}, and {CLK_BITS} without diffusion"
            )

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON: {"fields": [[name, bits], ...], "spread": 3, "length": 4096}."""
        fields = [[each.name, each.bits] for each in self.fields]
        return {"fields": fields, "spread": self.spread, "length": self.length}

    @classmethod
    def from_json(cls, value: Any) -> "Schema":
        """Reads what `to_json` wrote.

        Args:
            value: Unverified parsed JSON.

        Raises:
            LinkageError: If it is not of this form, or the schema is refused.
        """
        if not isinstance(value, Mapping) or set(value) != {"fields", "spread", "length"}:
            raise LinkageError("a schema in JSON has exactly the fields fields, spread and length")
        fields = value["fields"]
        if not isinstance(fields, list) or not all(
            isinstance(each, list) and len(each) == 2 and isinstance(each[0], str)
            for each in fields
        ):
            raise LinkageError("each field of a schema is a name and a number of bits")
        return cls(tuple(Field(*each) for each in fields), value["spread"], value["length"])

    @property
    def digest(self) -> bytes:
        """SHA-256 over all of it, each part length-prefixed. What both sides are bound to."""
        numbers = [self.spread, self.length, *(each.bits for each in self.fields)]
        fields = [
            SCHEMA_NAMESPACE.encode(),
            *(number.to_bytes(8, "big") for number in numbers),
            *(each.name.encode() for each in self.fields),
        ]
        return hashlib.sha256(prefixed(fields)).digest()


@dataclass(frozen=True, eq=False)
class LinkageKey:
    """32 secret bytes that both registries hold and the linkage node does not.

    Fresh for each job: under one key, encodings of two jobs are equal where records are.
    """

    _secret: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> "LinkageKey":
        """Returns a fresh key."""
        return cls(random_bytes(KEY_BYTES))

    @classmethod
    def from_secret(cls, secret: bytes) -> "LinkageKey":
        """Returns the key that the other registry made.

        Raises:
            LinkageError: Unless there are 32 bytes.
        """
        if len(secret) != KEY_BYTES:
            raise LinkageError(f"a linkage key has {KEY_BYTES} bytes, not {len(secret)}")
        return cls(secret)

    def raw_secret_bytes(self) -> bytes:
        """Returns the 32 bytes. Dangerous: they are for the other registry's eyes alone."""
        return self._secret

    def __reduce__(self) -> NoReturn:
        """Refuses pickling and copying.

        Raises:
            LinkageError: Always.
        """
        raise LinkageError("a linkage key cannot be copied or pickled")


@dataclass(frozen=True, eq=False)
class Encodings:
    """What one registry sends to the linkage node.

    Attributes:
        words: uint64[n, length / 64]: a row for each record.
    """

    words: npt.NDArray[np.uint64] = field(repr=False)

    def to_bytes(self) -> bytes:
        """Returns the rows one after the other, each word little-endian."""
        return self.words.astype("<u8").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, *, count: int, schema: Schema) -> "Encodings":
        """Reads what `to_bytes` wrote.

        Args:
            data: Unverified.
            count: How many records were agreed, at least 1.
            schema: As agreed.

        Raises:
            LinkageError: If the length is another one, or naming the first row without any bit.
        """
        if count < 1 or len(data) * 8 != count * schema.length:
            raise LinkageError(f"{len(data)} bytes are not {count} encodings under this schema")
        words = np.frombuffer(data, "<u8").astype(np.uint64).reshape(count, -1)
        empty = np.flatnonzero(~words.any(axis=1))
        if len(empty):
            raise LinkageError(f"the encoding of row {empty[0]} is empty")
        return cls(words)


@dataclass(frozen=True, eq=False)
class Links:
    """Which rows belong together, the most alike first.

    Attributes:
        first: int64[m]: rows of the first side, each at most once.
        second: int64[m]: rows of the second side, each at most once.
        similarity: float64[m]: Dice coefficients, 0 to 1.
    """

    first: Positions = field(repr=False)
    second: Positions = field(repr=False)
    similarity: npt.NDArray[np.float64] = field(repr=False)


def encode(columns: Sequence[Sequence[str]], schema: Schema, key: LinkageKey) -> Encodings:
    """Encodes one registry's records.

    Cells are brought into one form first: normal form KC, case folded, white space collapsed. An
    empty cell sets no bits.

    Args:
        columns: For each field of the schema its cells, all of the same length.
        schema: As agreed.
        key: As shared by the registries.

    Raises:
        LinkageError: If columns do not fit to the schema or to each other; naming the first row
            with a cell that is no text or too long, or in which all cells are empty.
    """
    if len(columns) != len(schema.fields) or len({len(cells) for cells in columns}) != 1:
        raise LinkageError("there is one column of cells for each field, all as long")
    if not columns[0]:
        raise LinkageError("there are no records to encode")
    clk = np.zeros((len(columns[0]), CLK_BITS), np.uint8)
    for cells, each in zip(columns, schema.fields, strict=True):
        _set_bits(clk, cells, each, key)
    empty = np.flatnonzero(~clk.any(axis=1))
    if len(empty):
        raise LinkageError(f"all cells of row {empty[0]} are empty")
    return Encodings(_packed(clk, schema, key))


def link(first: Encodings, second: Encodings, *, threshold: int) -> Links:
    """Links each record to at most one of the other side, the most alike first.

    Greedy: all pairs above the threshold in order of their similarity, ties in order of the rows;
    a pair is linked unless one of its rows is already.

    Args:
        first: One side.
        second: The other, of the same schema.
        threshold: Least Dice coefficient in thousandths, 1 to 1000.

    Raises:
        LinkageError: If the sides differ in length, the threshold makes no sense, or so many pairs
            are above it that it tells nobody apart.
    """
    rows, others, similarity = _candidates(first, second, threshold)
    order = np.lexsort((others, rows, -similarity))
    free_rows = np.ones(len(first.words), bool)
    free_others = np.ones(len(second.words), bool)
    linked = []
    for at in order.tolist():
        row, other = rows[at], others[at]
        if free_rows[row] and free_others[other]:
            free_rows[row] = free_others[other] = False
            linked.append(at)
    return Links(rows[linked], others[linked], similarity[linked])


def _set_bits(clk: Bits, cells: Sequence[str], each: Field, key: LinkageKey) -> None:
    """Sets the bits of one field in every row of uint8[n, CLK_BITS]."""
    field_key = derive_key(key.raw_secret_bytes(), [FIELD_NAMESPACE.encode(), each.name.encode()])
    known: dict[str, Positions] = {}
    for row, cell in enumerate(cells):
        grams = _bigrams(cell, row)
        share = max(1, round(each.bits / len(grams))) if grams else 0
        for gram in grams:
            if gram not in known:
                known[gram] = _positions(gram, field_key)
            clk[row, known[gram][:share]] = 1


def _bigrams(cell: str, row: int) -> set[str]:
    """The pairs of neighbouring letters of a cell, its ends included; none for an empty one."""
    if not isinstance(cell, str) or len(cell) > MAX_CHARACTERS:
        raise LinkageError(f"row {row} has a cell that is no text, or a long one")
    text = re.sub(r"\s+", " ", unicodedata.normalize("NFKC", cell).casefold()).strip()
    # Normal forms can make 18 characters of one.
    if len(text) > MAX_CHARACTERS or "\ud800" <= max(text, default="") <= "\udfff":
        raise LinkageError(f"row {row} has a cell that is too long, or no valid text")
    padded = f" {text} "
    return {padded[at : at + 2] for at in range(len(padded) - 1)} if text else set()


def _positions(gram: str, key: bytes) -> Positions:
    """The bits of a bigram, as many as any field may set: two bytes of BLAKE2b for each."""
    blocks = [
        hashlib.blake2b(gram.encode(), key=key, salt=bytes([block])).digest()
        for block in range(2 * MAX_FIELD_BITS // hashlib.blake2b().digest_size)
    ]
    return (np.frombuffer(b"".join(blocks), "<u2") % CLK_BITS).astype(np.int64)


def _packed(clk: Bits, schema: Schema, key: LinkageKey) -> npt.NDArray[np.uint64]:
    """uint8[n, CLK_BITS] after diffusion, as uint64[n, length / 64]."""
    sources = _sources(schema, key) if schema.spread > 1 else None
    packed = []
    for at in range(0, len(clk), _ENCODED_AT_A_TIME):
        bits = clk[at : at + _ENCODED_AT_A_TIME]
        if sources is not None:
            bits = np.bitwise_xor.reduce(bits[:, sources], axis=2)
        packed.append(np.packbits(bits, axis=1, bitorder="little"))
    return np.ascontiguousarray(np.concatenate(packed)).view("<u8").astype(np.uint64)


def _sources(schema: Schema, key: LinkageKey) -> Positions:
    """int64[length, spread]: which different bits of the CLK make each bit of the encoding."""
    stream_key = derive_key(key.raw_secret_bytes(), [SPREAD_NAMESPACE.encode(), schema.digest])
    words = keystream(stream_key, schema.length * schema.spread).reshape(schema.length, -1)
    # The first `spread` steps of a Fisher-Yates shuffle, in every row at once. 64 random bits
    # modulo at most 1024 are uneven by less than 2^-53.
    rows, drawn = np.arange(schema.length), np.tile(np.arange(CLK_BITS), (schema.length, 1))
    for step in range(schema.spread):
        at = step + (words[:, step] % np.uint64(CLK_BITS - step)).astype(np.int64)
        drawn[rows, step], drawn[rows, at] = drawn[rows, at], drawn[rows, step]
    return drawn[:, : schema.spread].copy()


def _candidates(
    first: Encodings, second: Encodings, threshold: int
) -> tuple[Positions, Positions, npt.NDArray[np.float64]]:
    """All pairs whose Dice coefficient is at least the threshold, in order of the rows."""
    if first.words.shape[1] != second.words.shape[1]:
        raise LinkageError("the encodings of the two sides differ in length")
    if type(threshold) is not int or not 1 <= threshold <= 1000:
        raise LinkageError("a threshold is 1 to 1000 thousandths")
    ones = [np.bitwise_count(side.words).sum(axis=1, dtype=np.int64) for side in (first, second)]
    most = CANDIDATES_PER_ROW * max(len(first.words), len(second.words))
    found: list[tuple[Positions, Positions, npt.NDArray[np.float64]]] = []
    count = 0
    columns = np.ascontiguousarray(second.words.T)
    for at in range(0, len(first.words), _COMPARED_AT_A_TIME):
        shared = _shared_bits(first.words[at : at + _COMPARED_AT_A_TIME], columns)
        total = ones[0][at : at + _COMPARED_AT_A_TIME, None] + ones[1][None, :]
        # In whole numbers, so that a pair at the threshold is a pair on every machine.
        rows, others = np.nonzero(2000 * shared >= threshold * total)
        count += len(rows)
        if count > most:
            raise LinkageError("so many pairs are above the threshold that it tells nobody apart")
        found.append((rows + at, others, 2 * shared[rows, others] / total[rows, others]))
    rows, others, similarity = (np.concatenate(part) for part in zip(*found, strict=True))
    return rows, others, similarity


def _shared_bits(
    rows: npt.NDArray[np.uint64], columns: npt.NDArray[np.uint64]
) -> npt.NDArray[np.int64]:
    """int64[k, n]: how many bits uint64[k, w] shares with uint64[w, n], word by word."""
    shared = np.zeros((len(rows), columns.shape[1]), np.uint16)
    for word, column in enumerate(columns):
        shared += np.bitwise_count(rows[:, word, None] & column)
    return shared.astype(np.int64)
