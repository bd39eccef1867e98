"""Rows that keep what may be said once from being said twice; the statements are in the log."""

from sqlalchemy import BigInteger, CheckConstraint
from sqlmodel import Field, SQLModel

ONE = 1


class ScheduleRow(SQLModel, table=True):
    """The log's one schedule."""

    __tablename__ = "epoch_schedule"
    __table_args__ = (CheckConstraint("one = 1", name="ck_epoch_schedule_one"),)

    one: int = Field(default=ONE, primary_key=True, sa_column_kwargs={"autoincrement": False})
    statement_id: str = Field(max_length=128)


class CloseRow(SQLModel, table=True):
    """One node's close of one epoch."""

    __tablename__ = "epoch_close"

    asset_id: str = Field(primary_key=True, foreign_key="asset.id", max_length=128)
    number: int = Field(
        primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    statement_id: str = Field(unique=True, max_length=128)


class IndexRow(SQLModel, table=True):
    """The operator's index of the assets used in one epoch."""

    __tablename__ = "epoch_index"

    number: int = Field(
        primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    statement_id: str = Field(unique=True, max_length=128)
