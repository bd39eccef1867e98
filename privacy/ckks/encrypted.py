"""Encrypted columns, scores and sums: what goes between owner and scorer, as values and as bytes.

What it decides: that counts, bounds and lengths agree before any of it reaches a child process.
What it does not do: see whether what is encrypted keeps to the declared bounds. Nobody can; see
`privacy/CLAIMS.md`.

    data = columns.to_bytes()
    columns = EncryptedColumns.from_bytes(data, sha256=named_by_a_signed_statement)

Bodies stand batch by batch (`privacy.ckks.batches`), and column by column within a batch. Numbers
that are no whole ones are decimal texts, as in `privacy.ckks.model`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from privacy.ckks.batches import Packing, cut
from privacy.ckks.container import pack, unpack
from privacy.ckks.model import MAX_COLUMNS, Link, read_number
from privacy.ckks.parameters import Parameters, check_named
from privacy.errors import ColumnsError, ModelError, SealedBytesError

COLUMNS_NAMESPACE = "rongshu/ckks-columns/v1"
SCORES_NAMESPACE = "rongshu/ckks-scores/v1"
SUMS_NAMESPACE = "rongshu/ckks-sums/v1"

MAX_ROWS = 1 << 26
GROUP = 1024
"""Batches that are summed into one ciphertext: SUMS leaves 2^13 above a value of 1."""

_HEADROOM = 4096


class Answer(StrEnum):
    """What scores are: linear predictors, a network's scores, or approximate probabilities."""

    PREDICTOR = "predictor"
    SCORE = "score"
    PROBABILITY = "probability"


@dataclass(frozen=True)
class EncryptedColumns:
    """Rows x columns of values, each column encrypted in batches of N/2 slots.

    Attributes:
        parameters: The named set.
        key: SHA-256 of the public context that they are under.
        rows: Number of rows, as the owner declares it; it is what is billed.
        packing: How rows stand in slots (`privacy.ckks.batches`).
        bounds: One for each column: values lie in [-bound, bound], as the owner declares.
        bodies: The ciphertexts as SEAL wrote them, batch by batch.

    Raises:
        ColumnsError: If counts, bounds or lengths cannot be.
    """

    parameters: Parameters
    key: str
    rows: int
    packing: Packing
    bounds: tuple[float, ...]
    bodies: tuple[bytes, ...] = field(repr=False)

    def __post_init__(self) -> None:
        check_named(self.parameters)
        check_rows(self.rows)
        check_bounds(self.bounds)
        count = self.columns * count_batches(self.parameters, self.rows, self.packing)
        _check_bodies(self.parameters, self.bodies, count, polynomials=2)

    @property
    def columns(self) -> int:
        """Number of columns."""
        return len(self.bounds)

    def to_bytes(self) -> bytes:
        """The container of `COLUMNS_NAMESPACE`."""
        fields = {
            "bounds": [repr(bound) for bound in self.bounds],
            "key": self.key,
            "packing": str(self.packing),
        }
        return _pack(COLUMNS_NAMESPACE, self.parameters, self.rows, fields, self.bodies)

    @classmethod
    def from_bytes(cls, data: bytes, *, sha256: str) -> Self:
        """Reads what `to_bytes` wrote, if it is the very one that was named.

        Raises:
            SealedBytesError: If length, digest or form is wrong.
            ColumnsError: If counts, bounds or lengths cannot be.
            ParametersError: If the parameters are refused.
        """
        fields, bodies = _unpack(COLUMNS_NAMESPACE, data, sha256, {"bounds", "key", "packing"})
        return cls(
            parameters=fields["parameters"],
            key=fields["key"],
            rows=fields["rows"],
            packing=_read_packing(fields["packing"]),
            bounds=_read_bounds(fields["bounds"]),
            bodies=tuple(bodies),
        )


@dataclass(frozen=True)
class EncryptedScores:
    """One score for each row, for the owner of the key alone.

    Attributes:
        parameters: The named set.
        key: SHA-256 of the public context that they are under.
        rows: How many rows were scored.
        packing: How scores stand in slots.
        answer: What a score is.
        link: What a linear predictor stands for.
        factor: Decrypted slots times this are the scores.
        bodies: One ciphertext for each batch.

    Raises:
        ColumnsError: If counts or lengths cannot be.
    """

    parameters: Parameters
    key: str
    rows: int
    packing: Packing
    answer: Answer
    link: Link
    factor: float
    bodies: tuple[bytes, ...] = field(repr=False)

    def __post_init__(self) -> None:
        check_named(self.parameters)
        check_rows(self.rows)
        check_bounds((self.factor,))
        count = count_batches(self.parameters, self.rows, self.packing)
        _check_bodies(self.parameters, self.bodies, count, polynomials=3)

    def to_bytes(self) -> bytes:
        """The container of `SCORES_NAMESPACE`."""
        fields = {
            "answer": str(self.answer),
            "factor": repr(self.factor),
            "key": self.key,
            "link": str(self.link),
            "packing": str(self.packing),
        }
        return _pack(SCORES_NAMESPACE, self.parameters, self.rows, fields, self.bodies)

    @classmethod
    def from_bytes(cls, data: bytes, *, sha256: str) -> Self:
        """Reads what `to_bytes` wrote, if it is the very one that was named.

        Raises:
            SealedBytesError: If length, digest or form is wrong.
            ColumnsError: If counts or lengths cannot be.
            ParametersError: If the parameters are refused.
        """
        names = {"answer", "factor", "key", "link", "packing"}
        fields, bodies = _unpack(SCORES_NAMESPACE, data, sha256, names)
        try:
            answer, link = Answer(fields["answer"]), Link(fields["link"])
        except ValueError:
            raise SealedBytesError("scores are of another kind than any known one") from None
        return cls(
            parameters=fields["parameters"],
            key=fields["key"],
            rows=fields["rows"],
            packing=_read_packing(fields["packing"]),
            answer=answer,
            link=link,
            factor=_number("factor", fields["factor"]),
            bodies=tuple(bodies),
        )


@dataclass(frozen=True)
class EncryptedSums:
    """Slot-wise sums of values and of their squares, for the owner of the key alone.

    Attributes:
        parameters: The named set.
        key: SHA-256 of the public context that they are under.
        rows: How many rows were summed.
        bounds: Those of the columns.
        bodies: One ciphertext for each group of 1024 batches and each column.

    Raises:
        ColumnsError: If counts or lengths cannot be.
    """

    parameters: Parameters
    key: str
    rows: int
    bounds: tuple[float, ...]
    bodies: tuple[bytes, ...] = field(repr=False)

    def __post_init__(self) -> None:
        check_named(self.parameters)
        check_rows(self.rows)
        check_bounds(self.bounds)
        groups = -(-count_batches(self.parameters, self.rows, Packing.MOMENTS) // GROUP)
        count = groups * len(self.bounds)
        _check_bodies(self.parameters, self.bodies, count, polynomials=2)

    def to_bytes(self) -> bytes:
        """The container of `SUMS_NAMESPACE`."""
        fields = {"bounds": [repr(bound) for bound in self.bounds], "key": self.key}
        return _pack(SUMS_NAMESPACE, self.parameters, self.rows, fields, self.bodies)

    @classmethod
    def from_bytes(cls, data: bytes, *, sha256: str) -> Self:
        """Reads what `to_bytes` wrote, if it is the very one that was named.

        Raises:
            SealedBytesError: If length, digest or form is wrong.
            ColumnsError: If counts, bounds or lengths cannot be.
            ParametersError: If the parameters are refused.
        """
        fields, bodies = _unpack(SUMS_NAMESPACE, data, sha256, {"bounds", "key"})
        return cls(
            parameters=fields["parameters"],
            key=fields["key"],
            rows=fields["rows"],
            bounds=_read_bounds(fields["bounds"]),
            bodies=tuple(bodies),
        )


def check_rows(rows: int) -> None:
    """Checks a number of rows.

    Raises:
        ColumnsError: If it is not a whole number from 1 to 2^26.
    """
    if type(rows) is not int or not 1 <= rows <= MAX_ROWS:
        raise ColumnsError(f"1 to {MAX_ROWS} rows are needed")


def count_batches(parameters: Parameters, rows: int, packing: Packing) -> int:
    """Ciphertexts that one column of so many rows takes."""
    return len(cut(rows, parameters.slots, packing))


def check_bounds(bounds: tuple[float, ...]) -> None:
    """Checks the bounds of columns.

    Raises:
        ColumnsError: If there is none, or one is not a positive number between 1e-100 and 1e100.
    """
    if not 1 <= len(bounds) <= MAX_COLUMNS:
        raise ColumnsError(f"1 to {MAX_COLUMNS} columns are needed")
    for at, bound in enumerate(bounds):
        if type(bound) is not float or not 1e-100 <= bound <= 1e100:
            raise ColumnsError(f"the bound of column {at} is not a number from 1e-100 to 1e100")


def _check_bodies(
    parameters: Parameters, bodies: tuple[bytes, ...], count: int, *, polynomials: int
) -> None:
    if len(bodies) != count:
        raise ColumnsError(f"{count} ciphertexts were announced, and {len(bodies)} are here")
    # SEAL writes eight bytes a coefficient and prime, compressed, after a short header.
    primes = len(parameters.prime_bits) - 1
    longest = polynomials * parameters.degree * primes * 8 + _HEADROOM
    for at, body in enumerate(bodies):
        if not 0 < len(body) <= longest:
            raise ColumnsError(f"ciphertext {at} is longer than {longest} bytes, or empty")


def _pack(
    namespace: str,
    parameters: Parameters,
    rows: int,
    fields: dict[str, Any],
    bodies: tuple[bytes, ...],
) -> bytes:
    return pack(namespace, {"parameters": parameters.to_json(), "rows": rows, **fields}, bodies)


def _unpack(
    namespace: str, data: bytes, sha256: str, names: set[str]
) -> tuple[dict[str, Any], list[bytes]]:
    fields, bodies = unpack(namespace, data, sha256=sha256)
    if set(fields) != names | {"parameters", "rows"} or not isinstance(fields["key"], str):
        raise SealedBytesError(f"the header is not one of {namespace}")
    fields["parameters"] = Parameters.from_json(fields["parameters"])
    return fields, bodies


def _read_bounds(texts: Any) -> tuple[float, ...]:
    if not isinstance(texts, list) or len(texts) > MAX_COLUMNS:
        raise ColumnsError(f"bounds are a list of at most {MAX_COLUMNS} numbers")
    return tuple(_number("bounds", text) for text in texts)


def _read_packing(text: Any) -> Packing:
    try:
        return Packing(text)
    except ValueError:
        raise ColumnsError("rows stand in slots in none of the known ways") from None


def _number(name: str, text: Any) -> float:
    try:
        return read_number(name, text)
    except ModelError as error:
        raise ColumnsError(str(error)) from None
