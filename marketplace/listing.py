"""Lists a provider's data file: its node measures it, the provider signs, the node guards it.

    home = make_node(folder, party, file, reading)           # nothing leaves this machine
    home = list_node(home, Provider(party), name="hearts")   # now it is in the catalogue

The one place below the command line and the markets on one machine that knows node and client.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from federated.node.home import NodeHome, NodeSettings
from marketplace.client import Client, ClientError, Home, Provider, slug

__all__ = ["admit", "list_node", "make_node", "slug"]


def make_node(
    folder: Path,
    party: Home,
    file: Path,
    reading: Mapping[str, Any],
    *,
    name: str = "",
    approval: str = "rule",
) -> NodeHome:
    """Make the folder of a node that will guard one file of a provider.

    Args:
        folder: of the node; made here.
        party: the provider.
        file: the data.
        reading: how they are read, as `ReadingSpec.to_json` writes it.
        name: for people; the provider's when empty.
        approval: `rule` or `hand`.

    Raises:
        NodeError: there is a node in the folder already.
        ClientError: the provider is not enrolled.
        TableError, VaultError: the data cannot be used; no folder was made.
    """
    settings = NodeSettings(
        name=name or party.name,
        file=str(file.resolve()),
        reading=dict(reading),
        service=party.service,
        log_key=party.log_key.text,
        provider=party.participant(),
        provider_key=str((party.folder / "signing.key").resolve()),
        approval=approval,
    )
    # Read once before anything is made, so that unusable data leave no half-made node behind.
    NodeHome(folder, settings).table()
    return NodeHome.create(folder, settings)


def list_node(
    node: NodeHome,
    provider: Provider,
    *,
    name: str,
    description: str = "",
    use_rights: str = "",
    cost_cents: int = 0,
) -> NodeHome:
    """Measure a node's data, list them as an asset, and let the node guard exactly those bytes.

    Raises:
        ClientError: the node guards an asset already, or the service refused.
        TableError, VaultError: the data cannot be used.
    """
    if node.settings.asset:
        raise ClientError(f"{node.folder} guards an asset already; make another node")
    measurement, digest = node.measure(provider.clock())
    asset = provider.list_asset(
        name=name,
        description=description,
        use_rights=use_rights,
        node_key=node.node_key().verify_key.text,
        measurement=measurement,
        cost_cents=cost_cents,
    )
    # The node's own key opens only what a node needs.
    api_key = provider.call("POST", "/keys", {"scopes": ["node"]})["api_key"]
    return node.guard(asset, digest, api_key)


def admit(client: Client, role: str, operator: httpx.Client, operator_key: Path) -> None:
    """Enrol a party with a code that the operator's key, which lies on this machine, makes.

    Args:
        client: of a party that is not enrolled yet.
        role: `provider`, `researcher` or `auditor`.
        operator: a client of the service, without credentials; it gets the operator's.
        operator_key: file with the operator's API key.

    Raises:
        httpx.HTTPError: the service refuses, or does not answer.
    """
    operator.headers["Authorization"] = f"Bearer {operator_key.read_text().strip()}"
    answer = operator.post("/v1/enrolments", json={"roles": [role], "note": client.home.name})
    answer.raise_for_status()
    client.enrol(answer.json()["code"], (role,))
