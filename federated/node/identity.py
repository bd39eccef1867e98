"""Who a node is: the asset it guards, whose it is, and the keys it signs with."""

from __future__ import annotations

from dataclasses import dataclass, field

from ledger.keys import SigningKey


@dataclass(frozen=True)
class Identity:
    """Who this node is: its asset, its provider, and the two keys it signs with."""

    asset: str
    provider: str
    provider_key: SigningKey = field(repr=False)
    node_key: SigningKey = field(repr=False)
