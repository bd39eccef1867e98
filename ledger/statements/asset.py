"""`asset`: what a provider lists, with what its node measured."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from ledger.errors import StatementError
from ledger.keys import SigningKey, VerifyKey
from ledger.record import (
    PPM,
    Record,
    distinct,
    hex_digest,
    identifier,
    not_empty,
    not_negative,
    one_line,
    one_of,
    parts_per_million,
)
from ledger.statements import envelope
from ledger.statements.participant import verify_key
from ledger.statements.statement import Author, Statement

MEASUREMENT_TYPE = envelope.payload_type("measurement")


@dataclass(frozen=True)
class Column(Record):
    """What a node tells of one column.

    Attributes:
        missing: number of cells without a value.
        magnitude: smallest k with every |value| <= 2^k; absent for text and for empty columns.
    """

    name: Annotated[str, one_line]
    type: Annotated[str, one_of("integer", "number", "text")]
    missing: Annotated[int, not_negative]
    magnitude: int | None


QUALITY_FORMULA = (
    "score_ppm = floor(completeness_ppm * (1000000 - duplicate_rows_ppm) * consistency_ppm / 10^12)"
)


@dataclass(frozen=True)
class Quality(Record):
    """A score of what can be computed, and a list of what was not assessed.

    Attributes:
        completeness_ppm: cells with a value, of all cells, in parts per million.
        duplicate_rows_ppm: rows that repeat an earlier row, of all rows.
        consistency_ppm: values that are of their column's type, of all values.
        score_ppm: see `formula`, rounded down.
        not_assessed: what nothing in the file itself can tell.
    """

    completeness_ppm: Annotated[int, parts_per_million]
    duplicate_rows_ppm: Annotated[int, parts_per_million]
    consistency_ppm: Annotated[int, parts_per_million]
    score_ppm: Annotated[int, parts_per_million]
    formula: Annotated[str, one_of(QUALITY_FORMULA)]
    not_assessed: tuple[Annotated[str, one_line], ...]

    @classmethod
    def of(
        cls,
        *,
        completeness_ppm: int,
        duplicate_rows_ppm: int,
        consistency_ppm: int,
        not_assessed: tuple[str, ...],
    ) -> Quality:
        """Return the quality with its score, from the measured parts."""
        score = quality_score(completeness_ppm, duplicate_rows_ppm, consistency_ppm)
        return cls(
            completeness_ppm,
            duplicate_rows_ppm,
            consistency_ppm,
            score,
            QUALITY_FORMULA,
            not_assessed,
        )

    def check(self, where: str) -> None:  # noqa: D102
        score = quality_score(self.completeness_ppm, self.duplicate_rows_ppm, self.consistency_ppm)
        if self.score_ppm != score:
            raise StatementError(f"{where}.score_ppm: {self.score_ppm}, the formula gives {score}")


def quality_score(completeness_ppm: int, duplicate_rows_ppm: int, consistency_ppm: int) -> int:
    """Return the quality score in parts per million, by `QUALITY_FORMULA`."""
    return completeness_ppm * (PPM - duplicate_rows_ppm) * consistency_ppm // PPM**2


@dataclass(frozen=True)
class Measurement(Record):
    """What the node found when it read the data; signed by the node's own key."""

    rows: Annotated[int, not_negative]
    columns: Annotated[tuple[Column, ...], not_empty]
    content_digest: Annotated[str, hex_digest]
    quality: Quality
    issued: Annotated[int, not_negative]

    def check(self, where: str) -> None:  # noqa: D102
        distinct(tuple(column.name for column in self.columns), f"{where}.columns")
        for column in self.columns:
            if column.missing > self.rows:
                raise StatementError(f"{where}.columns: {column.name} lacks more cells than rows")

    def sign(self, key: SigningKey) -> dict[str, Any]:
        """Return the measurement in an envelope, as the JSON object an asset statement carries."""
        payload = self.payload()
        Measurement.from_payload(payload)
        raw = envelope.raw_open(envelope.sign(MEASUREMENT_TYPE, payload, key))
        return envelope.as_json(raw)


@dataclass(frozen=True)
class Valuation(Record):
    """A first honest value: the provider's cost basis times the measured quality.

    `value_cents` = cost_cents × quality_ppm / 1,000,000, rounded down. Anyone can recompute it.
    """

    method: Annotated[str, one_of("cost-quality")]
    cost_cents: Annotated[int, not_negative]
    quality_ppm: Annotated[int, parts_per_million]
    value_cents: Annotated[int, not_negative]

    @classmethod
    def of(cls, cost_cents: int, quality_ppm: int) -> Valuation:
        """Return the valuation for a cost basis in cents and a measured quality."""
        return cls("cost-quality", cost_cents, quality_ppm, cost_cents * quality_ppm // PPM)

    def check(self, where: str) -> None:  # noqa: D102
        expected = self.cost_cents * self.quality_ppm // PPM
        if self.value_cents != expected:
            raise StatementError(
                f"{where}.value_cents: {self.value_cents}, the formula gives {expected}"
            )


@dataclass(frozen=True)
class Asset(Statement):
    """A data card: the provider's words around the node's measurement.

    Attributes:
        node_key: verifier key of the node that guards the data; it signs receipts.
        measurement: envelope signed by that key.
        use_rights: the licence or legal basis under which it is offered, in words.
    """

    kind: ClassVar[str] = "asset"

    provider: Annotated[str, identifier("participant")]
    name: Annotated[str, one_line]
    description: str
    use_rights: str
    node_key: Annotated[str, verify_key]
    measurement: dict[str, Any]
    valuation: Valuation
    issued: Annotated[int, not_negative]

    def measured(self) -> Measurement:
        """Return the measurement after verifying the node's signature on it.

        Raises:
            SignatureError: not signed by this asset's node.
            StatementError: malformed.
        """
        return _measured(envelope.from_json(self.measurement), self.node_key)

    def references(self) -> tuple[str | None, ...]:  # noqa: D102
        return (self.provider,)

    def authors(self) -> tuple[Author, ...]:  # noqa: D102
        return (Author("participant", self.provider),)

    def parties(self) -> tuple[str, ...]:  # noqa: D102
        return ("*",)


@dataclass(frozen=True)
class TaggedAsset(Asset):
    """A data card, version 2: it commits to the key of its tags in the log's use indexes.

    Attributes:
        tag_commitment: see `ledger.use_index`; whoever holds the key can show non-use.
    """

    version: ClassVar[int] = 2

    tag_commitment: Annotated[str, hex_digest]


@functools.lru_cache(256)
def _measured(data: bytes, node_key: str) -> Measurement:
    payload = envelope.open_(data, MEASUREMENT_TYPE, VerifyKey.from_text(node_key))
    return Measurement.from_payload(payload)
