"""What routes about nodes take and give."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from ledger.statements.envelope import from_json
from marketplace.schemas import Body


class NodeCodeBody(Body):
    """What a code is for: a node that has enrolled needs one that lets it enrol `again`."""

    again: bool = False


class NodeCodeView(BaseModel):
    """A one-time code for a node, shown once."""

    code: str
    asset: str
    expires: int


class SignedBody(Body):
    """Something that a node signed: the DSSE envelope as a JSON object."""

    asset: str = Field(max_length=128)
    signed: dict[str, Any]

    def envelope(self) -> bytes:
        """Return the envelope's canonical bytes; not verified.

        Raises:
            StatementError: it has none.
        """
        return from_json(self.signed)


class EnrolNodeBody(SignedBody):
    """A node's enrolment with its one-time code."""

    code: str = Field(max_length=128)


class SeatView(BaseModel):
    """The node as the SuperLink knows it: Flower's number, as text because of its size."""

    asset: str
    node_id: str


class NodeView(BaseModel):
    """One node: whether it enrolled, and whether it was heard of.

    `state` is `alive`, `lost` (not heard for 8 seconds) or `never` (not since the service began).
    `node_id` is Flower's number and `fleet_key` the hex of the key it enrolled with, or empty.
    """

    asset: str
    name: str
    provider: str
    enrolled: bool
    state: str
    node_id: str
    fleet_key: str
