"""Keep the secrets that take the masks off each round's sum."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "job_opening",
        sa.Column("job_id", AutoString(length=128), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("secrets", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.PrimaryKeyConstraint("job_id", "round"),
    )


def downgrade() -> None:
    """Bring the database back to the revision before."""
    op.drop_table("job_opening")
