"""Shapes of the epochs' routes."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from ledger.encoding import MAX_SAFE_INTEGER
from marketplace.schemas import Body


class ScheduleBody(Body):
    """How long an epoch is, and how much later its closes are missing; both in entries."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"epoch_entries": 4096, "grace_entries": 4096}},
    )

    epoch_entries: int = Field(ge=1, le=MAX_SAFE_INTEGER, strict=True)
    grace_entries: int = Field(ge=1, le=MAX_SAFE_INTEGER, strict=True)
