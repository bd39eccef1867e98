"""Shapes of negotiations and agreements."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from marketplace.schemas import Body, Cents

_TERMS_EXAMPLE: dict[str, Any] = {
    "tasks": ["statistics", "logistic"],
    "purposes": ["research"],
    "recipients": ["*"],
    "uses": 3,
    "until": 1798761600000,
    "exact": True,
    "minimum_parties": 3,
}


class Proposal(Body):
    """Terms, preparation (row selection) and price that one side proposes."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "terms": _TERMS_EXAMPLE,
                "preparation": {"complete_rows": True},
                "price_cents": 2500,
            }
        },
    )

    terms: dict[str, Any]
    preparation: dict[str, Any]
    price_cents: Cents


class NegotiationBody(Proposal):
    """A researcher's first request, on an offer."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "offer": "offer:0f0f…",
                "terms": _TERMS_EXAMPLE,
                "preparation": {"complete_rows": True},
                "price_cents": 2500,
            }
        },
    )

    offer: str = Field(max_length=128)


class TerminateBody(Body):
    """Why a negotiation ends without agreement."""

    reason: str = Field(min_length=1, max_length=4096)


class NegotiationView(BaseModel):
    """A negotiation, as its two parties see it.

    `fee_ppm` is the operator's part of the price, which both sign with the rest.

    `proposal` is the agreement signed by the provider, for the researcher to check and countersign.
    """

    id: str
    state: str
    offer: str
    asset: str
    provider: str
    researcher: str
    terms: dict[str, Any]
    preparation: dict[str, Any]
    price_cents: int
    fee_ppm: int
    proposal: dict[str, Any] | None
    agreement: str | None
    index: int | None
    reason: str | None
    created: int
    updated: int


class AgreementView(BaseModel):
    """An agreement with what is left of it."""

    id: str
    index: int
    asset: str
    offer: str
    provider: str
    researcher: str
    terms: dict[str, Any]
    preparation: dict[str, Any]
    price_cents: int
    fee_ppm: int
    uses_spent: int
    uses_reserved: int
    uses_left: int
    created: int
    revoked: int | None
