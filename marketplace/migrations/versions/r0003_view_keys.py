"""Keep the keys that open sealed openings for auditors."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "log_view_key",
        sa.Column("agreement", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("epoch_entries", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("agreement", "epoch", "epoch_entries"),
    )


def downgrade() -> None:
    """Bring the database back to the revision before."""
    op.drop_table("log_view_key")
