"""Keep what researchers hand in for a job until it has ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "input",
        sa.Column("researcher_id", AutoString(length=128), nullable=False),
        sa.Column("digest", AutoString(length=71), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["researcher_id"], ["participant.id"]),
        sa.PrimaryKeyConstraint("researcher_id", "digest"),
    )
    op.create_table(
        "job_input",
        sa.Column("job_id", AutoString(length=128), nullable=False),
        sa.Column("digest", AutoString(length=71), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.PrimaryKeyConstraint("job_id", "digest"),
    )


def downgrade() -> None:
    """Bring the database back to the revision before."""
    op.drop_table("job_input")
    op.drop_table("input")
