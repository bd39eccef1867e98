"""Take the index of ids off the log's entries, and on SQLite that of their places.

The log knows where each id stands, and a column called INTEGER is the row's own number.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from marketplace.migrations.versions import r0005_verified_entries as r0005

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# SQLite gave the constraint no name; PostgreSQL did.
_NAMES = {"uq": "%(table_name)s_%(column_0_name)s_key"}
_NAME = "log_entry_statement_id_key"
_WIDE = sa.BigInteger()
_OWN_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Bring the database to this revision."""
    with op.batch_alter_table("log_entry", naming_convention=_NAMES) as batch:
        batch.drop_constraint(_NAME, type_="unique")
        batch.alter_column("index", existing_type=_WIDE, type_=_OWN_NUMBER, existing_nullable=False)
    # What was verified is noted beside the checkpoint, under the log's signature.
    op.drop_table("log_finding")
    op.drop_table("log_verified")


def downgrade() -> None:
    """Bring the database back to the revision before."""
    with op.batch_alter_table("log_entry", naming_convention=_NAMES) as batch:
        batch.create_unique_constraint(_NAME, ["statement_id"])
        batch.alter_column("index", existing_type=_OWN_NUMBER, type_=_WIDE, existing_nullable=False)
    r0005.upgrade()
