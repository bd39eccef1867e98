"""Rows of negotiations, agreements and uses."""

from sqlalchemy import BigInteger, CheckConstraint
from sqlmodel import Field, SQLModel


class Negotiation(SQLModel, table=True):
    """One negotiation on one offer; terms, preparation and price are the ones on the table now."""

    __tablename__ = "negotiation"
    __table_args__ = (CheckConstraint("price_cents >= 0", name="ck_negotiation_price"),)

    id: str = Field(primary_key=True, max_length=128)
    offer_id: str = Field(foreign_key="offer.id", index=True, max_length=128)
    asset_id: str = Field(foreign_key="asset.id", index=True, max_length=128)
    provider_id: str = Field(foreign_key="participant.id", index=True, max_length=128)
    researcher_id: str = Field(foreign_key="participant.id", index=True, max_length=128)
    state: str = Field(max_length=16)
    terms: str
    """Canonical JSON."""
    preparation: str
    """Canonical JSON."""
    price_cents: int = Field(sa_type=BigInteger)
    proposal: bytes | None = None
    """The agreement as the provider signed it, before the researcher countersigns."""
    agreement_id: str | None = Field(default=None, max_length=128)
    reason: str | None = Field(default=None, max_length=4096)
    created: int = Field(sa_type=BigInteger)
    updated: int = Field(sa_type=BigInteger)


class Agreement(SQLModel, table=True):
    """Terms that both sides signed; the statement is in the log under the same id."""

    __tablename__ = "agreement"

    id: str = Field(primary_key=True, max_length=128)
    negotiation_id: str = Field(foreign_key="negotiation.id", unique=True, max_length=128)
    asset_id: str = Field(foreign_key="asset.id", index=True, max_length=128)
    provider_id: str = Field(foreign_key="participant.id", index=True, max_length=128)
    researcher_id: str = Field(foreign_key="participant.id", index=True, max_length=128)
    created: int = Field(sa_type=BigInteger)
    revoked: int | None = Field(default=None, sa_type=BigInteger)


class Use(SQLModel, table=True):
    """One use of an agreement by one job.

    `state` is `reserved` while the job is open, `spent` once the node's completed receipt is
    stored, `returned` when the job ended without it or without a result. Reserved and spent ones
    count.
    """

    __tablename__ = "agreement_use"
    __table_args__ = (
        CheckConstraint("state IN ('reserved', 'spent', 'returned')", name="ck_use_state"),
    )

    agreement_id: str = Field(primary_key=True, foreign_key="agreement.id", max_length=128)
    job_id: str = Field(primary_key=True, index=True, max_length=128)
    asset_id: str = Field(foreign_key="asset.id", max_length=128)
    state: str = Field(max_length=16)
    changed: int = Field(sa_type=BigInteger)
