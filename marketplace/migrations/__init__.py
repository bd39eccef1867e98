"""Revisions of the database; `marketplace.database.open_database` applies them."""
