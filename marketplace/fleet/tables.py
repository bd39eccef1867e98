"""Rows of enrolled nodes; codes are stored as digests alone."""

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class NodeCode(SQLModel, table=True):
    """A one-time code with which the node of one asset enrols."""

    __tablename__ = "node_code"

    code_digest: str = Field(primary_key=True, max_length=71)
    asset_id: str = Field(foreign_key="asset.id", index=True, max_length=128)
    expires: int = Field(sa_type=BigInteger)
    used: int | None = Field(default=None, sa_type=BigInteger)


class NodeSeat(SQLModel, table=True):
    """The node of an asset as the SuperLink knows it."""

    __tablename__ = "node_seat"

    asset_id: str = Field(primary_key=True, foreign_key="asset.id", max_length=128)
    provider_id: str = Field(foreign_key="participant.id", index=True, max_length=128)
    fleet_key: str = Field(unique=True, max_length=512)
    """Hex. The database decides when two nodes with one key race."""
    node_id: str = Field(unique=True, max_length=20)
    """Flower's number, up to 2^64: too large for a database's integer."""
    enrolled: int = Field(sa_type=BigInteger)
