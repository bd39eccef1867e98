"""Opens the acting party's client, and finds what a person names by a short id or by name."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx

from federated.address import reach
from marketplace.cli.arguments import ArgumentError
from marketplace.client import Client, Home

C = TypeVar("C", bound=Client)
# Long enough for one job's proofs over a slow line.
TIMEOUT = 120.0


def client_of(arguments: argparse.Namespace, kind: type[C]) -> C:
    """Return the client of the party that --home names.

    Raises:
        ClientError: there is no party, or it is not enrolled.
        NodeError: the market it belongs to is not being served.
    """
    home = Home.load(arguments.home)
    home.participant()
    address = arguments.service or home.address()
    return kind(home, connect(arguments, address, home.folder))


def connect(
    arguments: argparse.Namespace, address: str, home: Path, ca: Path | None = None
) -> httpx.Client:
    """Return a client of an address, as a party's folder trusts it; closed when the command ends.

    Args:
        arguments: of the command.
        address: of the service.
        home: the party's folder.
        ca: an authority to trust instead of the folder's.

    Raises:
        ArgumentError: it is no address.
        CertificateError: the authority is none.
    """
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", address):
        raise ArgumentError(f"--service: {address[:80]!r} is no address such as http://host:8448")
    http: httpx.Client = arguments.exits.enter_context(reach(home, address, TIMEOUT, ca))
    return http


def pick(found: Iterable[Mapping[str, Any]], text: str, key: str = "id") -> Mapping[str, Any]:
    """Return the one thing that a text names: its id, the beginning of its id, or its name.

    Args:
        found: what there is to choose from.
        text: as a person wrote it.
        key: where the id stands.

    Raises:
        ArgumentError: nothing, or more than one thing.
    """
    things = list(found)
    exact = [thing for thing in things if text in (thing[key], thing.get("name"))]
    start = text.rstrip("…")
    near = [thing for thing in things if ":" in text and thing[key].startswith(start)]
    chosen = exact or near
    if len(chosen) == 1:
        return chosen[0]
    kind = str(things[0][key]).partition(":")[0] if things else "thing"
    if not chosen:
        raise ArgumentError(f"there is no {kind} {text[:80]!r} here that you may see")
    ids = ", ".join(str(thing[key])[:24] for thing in chosen[:5])
    raise ArgumentError(f"{text[:80]!r} names {len(chosen)} of them: {ids}; write more of the id")
