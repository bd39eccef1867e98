"""Rows of settlements and their postings; the amounts of one settlement add up to zero."""

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class SettlementRow(SQLModel, table=True):
    """A bill; the statement is in the log under the same id."""

    __tablename__ = "settlement"

    id: str = Field(primary_key=True, max_length=128)
    job_id: str = Field(foreign_key="job.id", unique=True, max_length=128)
    researcher_id: str = Field(foreign_key="participant.id", index=True, max_length=128)
    total_cents: int = Field(sa_type=BigInteger)
    created: int = Field(sa_type=BigInteger)


class PostingRow(SQLModel, table=True):
    """One side of a double entry, in cents: credited if positive, owed if negative."""

    __tablename__ = "posting"

    settlement_id: str = Field(primary_key=True, foreign_key="settlement.id", max_length=128)
    position: int = Field(primary_key=True)
    account: str = Field(index=True, max_length=256)
    amount_cents: int = Field(sa_type=BigInteger)
