"""Remember who holds a share of the key that a job's result is under."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "job_key_holder",
        sa.Column("job_id", AutoString(length=128), nullable=False),
        sa.Column("participant_id", AutoString(length=128), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.ForeignKeyConstraint(["participant_id"], ["participant.id"]),
        sa.PrimaryKeyConstraint("job_id", "participant_id"),
    )
    op.create_index("ix_job_key_holder_participant_id", "job_key_holder", ["participant_id"])


def downgrade() -> None:
    """Bring the database back to the revision before; holders no longer see the jobs."""
    op.drop_index("ix_job_key_holder_participant_id", "job_key_holder")
    op.drop_table("job_key_holder")
