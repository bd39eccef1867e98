"""Shapes of the catalogue: data cards and offers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from marketplace.schemas import StatementBody


class AssetBody(StatementBody):
    """An asset statement and, beside it, the tag key that it commits to; base64 of 32 bytes."""

    tag_key: SecretStr | None = Field(default=None, max_length=64)


class ColumnView(BaseModel):
    """One column as the node measured it."""

    name: str
    type: str
    missing: int
    magnitude: int | None


class QualityView(BaseModel):
    """What could be computed, in parts per million, and what nobody assessed."""

    completeness_ppm: int
    duplicate_rows_ppm: int
    consistency_ppm: int
    score_ppm: int
    formula: str
    not_assessed: list[str]


class ValuationView(BaseModel):
    """A value that anyone can recompute from its inputs."""

    method: str
    formula: str
    cost_cents: int
    quality_ppm: int
    value_cents: int


class OfferView(BaseModel):
    """An offer; `terms` in this project's fields, `odrl` in the standard's."""

    id: str
    asset: str
    provider: str
    terms: dict[str, Any]
    odrl: dict[str, Any]
    price_cents: int
    created: int
    revoked: int | None


class DataCard(BaseModel):
    """An asset's public page."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "asset:0f0f…",
                "index": 3,
                "name": "Heart disease, Cleveland",
                "description": "303 patients, 1988",
                "use_rights": "CC BY 4.0",
                "provider": "participant:0f0f…",
                "provider_name": "Cleveland Clinic",
                "rows": 303,
                "missing": 6,
                "columns": [{"name": "age", "type": "integer", "missing": 0, "magnitude": 7}],
                "content_digest": "sha256:0f0f…",
                "measured": 1767225600000,
                "node_key": "cleveland+0f0f0f0f+AX…",
                "quality": {
                    "completeness_ppm": 998000,
                    "duplicate_rows_ppm": 0,
                    "consistency_ppm": 1000000,
                    "score_ppm": 998000,
                    "formula": "completeness × consistency × (1 - duplicate rows)",
                    "not_assessed": ["accuracy"],
                },
                "valuation": {
                    "method": "cost-quality",
                    "formula": "value_cents = cost_cents × quality_ppm // 1000000",
                    "cost_cents": 100000,
                    "quality_ppm": 998000,
                    "value_cents": 99800,
                },
                "uses": 2,
                "offers": [],
                "created": 1767225600000,
                "revoked": None,
            }
        }
    )

    id: str
    index: int
    name: str
    description: str
    use_rights: str
    provider: str
    provider_name: str
    rows: int
    missing: int
    columns: list[ColumnView]
    content_digest: str
    measured: int
    node_key: str
    quality: QualityView
    valuation: ValuationView
    uses: int
    offers: list[OfferView]
    created: int
    revoked: int | None
