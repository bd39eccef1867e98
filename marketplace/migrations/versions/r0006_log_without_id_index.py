"""Take the index of ids off the log's entries: the log knows their places by itself."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# SQLite gave the constraint no name; PostgreSQL did.
_NAMES = {"uq": "%(table_name)s_%(column_0_name)s_key"}
_NAME = "log_entry_statement_id_key"


def upgrade() -> None:
    """Bring the database to this revision."""
    with op.batch_alter_table("log_entry", naming_convention=_NAMES) as batch:
        batch.drop_constraint(_NAME, type_="unique")


def downgrade() -> None:
    """Bring the database back to the revision before."""
    with op.batch_alter_table("log_entry", naming_convention=_NAMES) as batch:
        batch.create_unique_constraint(_NAME, ["statement_id"])
