"""Remember when a worker last took each job, so that the queue can be fair to researchers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.add_column("job", sa.Column("claimed", sa.BigInteger(), nullable=True))
    op.create_index("ix_job_researcher_claimed", "job", ["researcher_id", "claimed"])


def downgrade() -> None:
    """Bring the database back to the revision before; the queue forgets whom it served when."""
    op.drop_index("ix_job_researcher_claimed", "job")
    op.drop_column("job", "claimed")
