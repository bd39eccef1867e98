"""Let the statement and the salt of a log entry be destroyed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the database to this revision."""
    with op.batch_alter_table("log_entry") as batch:
        batch.alter_column("envelope", existing_type=sa.LargeBinary(), nullable=True)
        batch.alter_column("salt", existing_type=sa.LargeBinary(), nullable=True)


def downgrade() -> None:
    """Bring the database back to the revision before; fails where something was shredded."""
    with op.batch_alter_table("log_entry") as batch:
        batch.alter_column("envelope", existing_type=sa.LargeBinary(), nullable=False)
        batch.alter_column("salt", existing_type=sa.LargeBinary(), nullable=False)
