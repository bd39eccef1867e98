"""All tables that revisions are made for: the features' and the log's."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import SQLModel

from ledger import sealing, store
from marketplace.agreements import tables as agreements
from marketplace.catalog import tables as catalog
from marketplace.epochs import tables as epochs
from marketplace.fleet import tables as fleet
from marketplace.jobs import tables as jobs
from marketplace.participants import tables as participants
from marketplace.settlement import tables as settlement

FEATURES = (participants, catalog, agreements, jobs, settlement, epochs, fleet)


def all_metadata() -> list[sa.MetaData]:
    """Return the metadata of every table of the service's database."""
    # Importing a module declares its tables; the view keys stand beside those of the store.
    _ = sealing.view_keys
    return [SQLModel.metadata, store.metadata]
