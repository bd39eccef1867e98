"""A node enrols: a one-time code and its own signature give it a place at the SuperLink."""

from __future__ import annotations

import httpx

from federated.enrolment import NodeEnrolment, code_digest
from federated.errors import NodeError
from federated.node.home import NodeHome
from ledger.encoding import parse


def enrol(home: NodeHome, http: httpx.Client, code: str, *, again: bool = False) -> NodeHome:
    """Use a one-time code; return the home with its seat.

    Run again after a lost answer, it finds out that the node has enrolled.

    Args:
        home: the node's folder.
        http: reaches the marketplace.
        code: the one-time code.
        again: give up the seat that the node has, and the key that goes with it, for a new one.

    Raises:
        NodeError: the asset is not listed yet, the node has enrolled, or the service refuses.
    """
    settings = home.settings
    http.headers["Authorization"] = f"Bearer {home.api_key()}"
    if settings.seat and not again:
        raise NodeError(
            f"{settings.name} has enrolled; start it with `rongshu node run`, or give it a new key "
            "with --again and a code from `rongshu asset code --again`"
        )
    home = home.unseated()
    key = home.fleet_key()
    signed = NodeEnrolment(settings.asset, code_digest(code), key.public)
    body = {"asset": settings.asset, "code": code, "signed": parse(signed.sign(home.node_key()))}
    try:
        answer = http.post("/v1/nodes", json=body)
        if answer.is_success:
            return home.seated(str(answer.json()["node_id"]))
        seat = _seat(http, settings.asset, key.public)
    except httpx.HTTPError as error:
        raise NodeError(f"the marketplace cannot be reached: {error}") from error
    if not seat:
        said = answer.json() if answer.headers.get("content-type", "").endswith("json") else {}
        raise NodeError(f"not enrolled: {said.get('detail', answer.status_code)}")
    return home.seated(seat)


def _seat(http: httpx.Client, asset: str, key: bytes) -> str:
    """Return the seat that this very key has already, empty when it has none."""
    answer = http.get("/v1/nodes")
    if answer.is_error:
        return ""
    for node in answer.json():
        if (node["asset"], node["fleet_key"]) == (asset, key.hex()):
            return str(node["node_id"])
    return ""
