"""Where a market on this machine can be reached: one line in the file `address` of its folder.

A market that plays all roles in one process has no address of its own. While `rongshu serve`
serves it, the address stands in its folder, and parties and nodes that live below that folder
follow it:

    MARKET/address            http://127.0.0.1:8448
    MARKET/parties/NAME/      a party's home
    MARKET/nodes/NAME/        a node's home
"""

from __future__ import annotations

from pathlib import Path

import httpx

from federated.certificates import trusted_by, trusting
from federated.errors import NodeError

ADDRESS = "address"
# Stands for "in the same process": no other process can reach it.
IN_PROCESS = "http://rongshu.local"


def address_of(home: Path, service: str) -> str:
    """Return the address under which a home reaches its service.

    Args:
        home: folder of a party or node.
        service: the address that the home itself names.

    Raises:
        NodeError: the home belongs to a market that nobody serves now.
    """
    market = home.resolve().parent.parent
    served = served_at(market)
    if served is not None:
        return served
    if service == IN_PROCESS:
        raise NodeError(
            f"the market in {market} is not being served; start it with "
            f"`rongshu serve --embedded {market}`, or name an address with --service"
        )
    return service


def reach(home: Path, address: str, timeout: float = 60.0, ca: Path | None = None) -> httpx.Client:
    """Return an HTTP client of an address that trusts whom the home trusts: see `trusted_by`.

    Args:
        home: folder of a party or node.
        address: of the service.
        timeout: longest wait, seconds.
        ca: an authority to trust instead, for a folder that does not exist yet.

    Raises:
        CertificateError: the authority is none.
    """
    context = trusted_by(home) if ca is None else trusting(ca)
    return httpx.Client(base_url=address, timeout=timeout, verify=context)


def served_at(market: Path) -> str | None:
    """Return the address that is published in a market's folder, None when there is none."""
    path = market / ADDRESS
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None
