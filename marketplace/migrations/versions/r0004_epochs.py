"""Keep closes and indexes of epochs from being said twice, and the tag keys of assets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = ("epoch_schedule", "epoch_close", "epoch_index", "tag_key")


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "epoch_schedule",
        sa.Column("one", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("statement_id", AutoString(length=128), nullable=False),
        sa.CheckConstraint("one = 1", name="ck_epoch_schedule_one"),
        sa.PrimaryKeyConstraint("one"),
    )
    op.create_table(
        "epoch_close",
        sa.Column("asset_id", AutoString(length=128), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("statement_id", AutoString(length=128), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"]),
        sa.PrimaryKeyConstraint("asset_id", "number"),
        sa.UniqueConstraint("statement_id"),
    )
    op.create_table(
        "epoch_index",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("statement_id", AutoString(length=128), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("statement_id"),
    )
    op.create_table(
        "tag_key",
        sa.Column("asset_id", AutoString(length=128), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"]),
        sa.PrimaryKeyConstraint("asset_id"),
    )


def downgrade() -> None:
    """Bring the database back to the revision before."""
    for table in reversed(TABLES):
        op.drop_table(table)
