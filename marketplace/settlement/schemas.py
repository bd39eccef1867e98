"""Shapes of settlements and accounts."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class LineView(BaseModel):
    """One agreement's use: price = fee + share."""

    agreement: str
    provider: str
    price_cents: int
    fee_cents: int
    share_cents: int


class PostingView(BaseModel):
    """One side of the double entry."""

    account: str
    amount_cents: int


class SettlementView(BaseModel):
    """A bill, as its parties see it."""

    id: str
    index: int
    job: str
    release: str
    researcher: str
    total_cents: int
    lines: list[LineView]
    postings: list[PostingView]
    created: int


class AccountView(BaseModel):
    """A balance in cents: what is owed is negative."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"account": "receivable/participant:0f0f…", "balance_cents": 4750}
        }
    )

    account: str
    balance_cents: int
