"""Alembic's entry: runs revisions on the connection it was given, inside its transaction."""

from __future__ import annotations

from alembic import context

from marketplace.migrations.models import all_metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=all_metadata(),
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
