"""Shapes that every feature uses: a signed statement coming in, its place in the log going out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from ledger.encoding import MAX_SAFE_INTEGER
from ledger.statements.envelope import from_json

Cents = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER, strict=True)]
StatementId = Annotated[
    str, Path(pattern=r"^[a-z_]{1,32}:[0-9a-f]{64}$", examples=["asset:" + "0f" * 32])
]


class Body(BaseModel):
    """A request body: no field that is not declared."""

    model_config = ConfigDict(extra="forbid")


class StatementBody(Body):
    """A statement signed by its author: the DSSE envelope as a JSON object."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "statement": {
                    "payload": "eyJhc3NldCI6…",
                    "payloadType": "application/vnd.rongshu.offer.v1+json",
                    "signatures": [{"keyid": "SHA256:…", "sig": "bGVk…"}],
                }
            }
        },
    )

    statement: dict[str, Any]

    def envelope(self) -> bytes:
        """Return the envelope's canonical bytes; not verified.

        Raises:
            StatementError: it has none.
        """
        return from_json(self.statement)


class Recorded(BaseModel):
    """A fact that a checkpoint of the log covers."""

    model_config = ConfigDict(json_schema_extra={"example": {"id": "offer:0f0f…", "index": 7}})

    id: str
    index: int
