"""Remember who was gone in which exchange of a job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "job_departure",
        sa.Column("job_id", AutoString(length=128), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("step", AutoString(length=64), nullable=False),
        sa.Column("asset_id", AutoString(length=128), nullable=False),
        sa.Column("word", AutoString(length=64), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"]),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.PrimaryKeyConstraint("job_id", "attempt", "round", "step", "asset_id"),
    )


def downgrade() -> None:
    """Bring the database back to the revision before."""
    op.drop_table("job_departure")
