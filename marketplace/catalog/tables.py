"""Rows of assets and offers: what is asked for often; the statements are in the log."""

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class Asset(SQLModel, table=True):
    """What a provider lists."""

    __tablename__ = "asset"

    id: str = Field(primary_key=True, max_length=128)
    provider_id: str = Field(foreign_key="participant.id", index=True, max_length=128)
    created: int = Field(sa_type=BigInteger)
    uses: int = Field(default=0, sa_type=BigInteger)
    """Completed uses, counted in the transaction that stores the receipt."""
    revoked: int | None = Field(default=None, sa_type=BigInteger)


class TagKey(SQLModel, table=True):
    """The key of an asset's tags in the indexes of used assets; for the operator and auditors."""

    __tablename__ = "tag_key"

    asset_id: str = Field(primary_key=True, foreign_key="asset.id", max_length=128)
    key: bytes = Field(repr=False)


class Offer(SQLModel, table=True):
    """Terms and price under which an asset can be used."""

    __tablename__ = "offer"

    id: str = Field(primary_key=True, max_length=128)
    asset_id: str = Field(foreign_key="asset.id", index=True, max_length=128)
    provider_id: str = Field(foreign_key="participant.id", index=True, max_length=128)
    created: int = Field(sa_type=BigInteger)
    revoked: int | None = Field(default=None, sa_type=BigInteger)
