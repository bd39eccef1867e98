"""Nodes that enrol over a SuperLink, and their one-time codes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "node_code",
        sa.Column("code_digest", AutoString(length=71), nullable=False),
        sa.Column("asset_id", AutoString(length=128), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"]),
        sa.PrimaryKeyConstraint("code_digest"),
    )
    op.create_index("ix_node_code_asset_id", "node_code", ["asset_id"])
    op.create_table(
        "node_seat",
        sa.Column("asset_id", AutoString(length=128), nullable=False),
        sa.Column("provider_id", AutoString(length=128), nullable=False),
        sa.Column("fleet_key", AutoString(length=512), nullable=False),
        sa.Column("node_id", AutoString(length=20), nullable=False),
        sa.Column("enrolled", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"]),
        sa.ForeignKeyConstraint(["provider_id"], ["participant.id"]),
        sa.PrimaryKeyConstraint("asset_id"),
        sa.UniqueConstraint("fleet_key"),
        sa.UniqueConstraint("node_id"),
    )
    op.create_index("ix_node_seat_provider_id", "node_seat", ["provider_id"])


def downgrade() -> None:
    """Bring the database back to the revision before."""
    op.drop_table("node_seat")
    op.drop_table("node_code")
