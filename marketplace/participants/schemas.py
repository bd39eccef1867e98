"""Shapes of the participants' routes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from marketplace.schemas import Body, StatementBody

Role = Literal["provider", "researcher", "auditor"]
Scope = Literal["provider", "researcher", "auditor", "operator", "node"]


class EnrolmentBody(Body):
    """Which roles a new participant will have."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"roles": ["provider"], "note": "Basel hospital"}},
    )

    roles: list[Role] = Field(min_length=1, max_length=3)
    note: str = Field(default="", max_length=4096)


class EnrolmentCode(BaseModel):
    """A code to hand to the new participant; it is shown this once."""

    code: str
    expires: int


class EnrolBody(StatementBody):
    """A one-time code and the new participant's own statement, signed by its key."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"code": "rse_5f…", "statement": {"payload": "eyJ…", "signatures": []}}
        },
    )

    code: str = Field(max_length=128)


class Enrolled(BaseModel):
    """The new participant and its API key, shown this once."""

    participant: str
    api_key: str
    index: int


class ParticipantView(BaseModel):
    """What everybody may know of a participant."""

    id: str
    name: str
    roles: list[str]
    key: str
    fingerprint: str
    created: int
    revoked: int | None


class Me(BaseModel):
    """The caller, as its key shows it."""

    participant: str
    name: str
    roles: list[str]
    scopes: list[str]


class KeyBody(Body):
    """Scopes of a further API key; at most those of the key that asks."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"scopes": ["node"]}})

    scopes: list[Scope] = Field(max_length=5)


class NewKey(BaseModel):
    """A further API key, shown this once."""

    public_id: str
    api_key: str
