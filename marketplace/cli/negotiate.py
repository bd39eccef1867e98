"""Negotiate agreements: the researcher asks, the provider signs, the researcher countersigns."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from federated.preparation import Preparation
from marketplace.cli import arguments as args
from marketplace.cli.parties import client_of, pick
from marketplace.cli.show import money, print_json, rows, say, short, when
from marketplace.client import Client, Provider, Researcher

START = "rongshu negotiate start --home lab Hearts --prepare scenario.toml"
LIST = "rongshu negotiate list --home lab"
AGREE = "rongshu negotiate agree --home basel negotiation:77ab01cd34ef"
COUNTERSIGN = "rongshu negotiate countersign --home lab Hearts --wait 600"
TERMINATE = "rongshu negotiate terminate --home lab negotiation:77ab01cd34ef --reason 'too dear'"
PREPARE = """\
TOML: which rows and features the jobs will use, as a scenario file's table [prepare]; the
agreement fixes it (default: all rows)"""

OPEN = ("REQUESTED", "OFFERED", "ACCEPTED", "AGREED", "VERIFIED")
BEFORE_AGREED = OPEN[:3]
# Seconds between looks at a negotiation.
LOOK_INTERVAL = 0.2


def command(argv: list[str]) -> int:
    """Run `rongshu negotiate …` and return its exit code."""
    parser, into = args.commands(
        "rongshu negotiate", "Agreements: terms that both sides signed.", START
    )
    start = args.subcommand(into, "start", _start, "ask for an agreement on an offer", START)
    args.of_party(start)
    start.add_argument(
        "offer", metavar="OFFER", help="its id, the beginning of it, or the asset's name"
    )
    start.add_argument("--prepare", type=Path, metavar="FILE", help=PREPARE)
    args.as_json(start)
    listing = args.subcommand(into, "list", _list, "list your negotiations and agreements", LIST)
    args.of_party(listing)
    args.as_json(listing)
    for name, run, summary, example in (
        ("agree", _agree, "sign what is on the table (provider)", AGREE),
        ("countersign", _countersign, "check and sign it too (researcher)", COUNTERSIGN),
        ("terminate", _terminate, "end a negotiation without agreement", TERMINATE),
    ):
        sub = args.subcommand(into, name, run, summary, example)
        args.of_party(sub)
        sub.add_argument(
            "negotiation",
            metavar="NEGOTIATION",
            help="its id, the beginning of it, or the name of the asset of an open one",
        )
        if name == "countersign":
            sub.add_argument(
                "--wait", type=float, default=0.0, metavar="SECONDS", help="for the provider"
            )
        if name == "terminate":
            sub.add_argument("--reason", required=True, help="for the other side")
        args.as_json(sub)
    return args.run(parser, argv)


def _start(arguments: argparse.Namespace) -> int:
    client = client_of(arguments, Researcher)
    preparation = Preparation.parse(args.table("--prepare", arguments.prepare, "prepare"))
    names = _names(client)
    offers = client.call("GET", "/offers")
    open_ = [each | {"name": names[each["asset"]]} for each in offers if each["revoked"] is None]
    offer = pick(open_, arguments.offer)
    negotiation = client.negotiate(offer, preparation.to_json())
    if arguments.json:
        print_json({"negotiation": negotiation, "state": "REQUESTED"})
    else:
        say(f"asked: {negotiation}")
        say("Once the provider has signed, look at it (`negotiate list`) and countersign.")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    client = client_of(arguments, Client)
    found = client.call("GET", "/negotiations")
    agreements = {each["id"]: each for each in client.call("GET", "/agreements")}
    if arguments.json:
        print_json({"negotiations": found, "agreements": list(agreements.values())})
        return 0
    names = _names(client)
    rows(
        ("negotiation", "asset", "state", "agreement", "uses left", "until", "price"),
        [_line(each, names, agreements) for each in found],
        "You have no negotiation.",
    )
    return 0


def _line(
    each: Mapping[str, Any], names: Mapping[str, str], agreements: Mapping[str, Any]
) -> tuple[Any, ...]:
    agreement = agreements.get(each["agreement"] or "")
    left = "-" if agreement is None else agreement["uses_left"]
    if agreement is not None and agreement["revoked"] is not None:
        left = "revoked"
    return (
        short(each["id"]),
        names.get(each["asset"], short(each["asset"])),
        each["state"],
        short(each["agreement"]),
        left,
        when(each["terms"]["until"])[:10],
        money(each["price_cents"]),
    )


def _names(client: Client) -> dict[str, str]:
    return {card["id"]: card["name"] for card in client.call("GET", "/assets")}


def _find(client: Client, text: str) -> Mapping[str, Any]:
    names = _names(client)
    found = client.call("GET", "/negotiations")
    # By the asset's name only those that can still move: the others have been settled.
    return pick(
        [each | {"name": names[each["asset"]] if each["state"] in OPEN else ""} for each in found],
        text,
    )


def _agree(arguments: argparse.Namespace) -> int:
    client = client_of(arguments, Provider)
    found = _find(client, arguments.negotiation)
    client.agree(found)
    return _done(arguments, found, "signed; the researcher countersigns next", "AGREED")


def _countersign(arguments: argparse.Namespace) -> int:
    client = client_of(arguments, Researcher)
    found = _find(client, arguments.negotiation)
    deadline = time.monotonic() + arguments.wait
    while found["state"] in BEFORE_AGREED and time.monotonic() < deadline:
        time.sleep(LOOK_INTERVAL)
        found = client.call("GET", f"/negotiations/{found['id']}")
    agreement = client.countersign(found["id"])
    if arguments.json:
        print_json({"negotiation": found["id"], "agreement": agreement})
    else:
        say(f"agreed: {agreement}")
    return 0


def _terminate(arguments: argparse.Namespace) -> int:
    client = client_of(arguments, Client)
    found = _find(client, arguments.negotiation)
    body = {"reason": arguments.reason}
    client.call("POST", f"/negotiations/{found['id']}/terminate", body)
    return _done(arguments, found, "ended without agreement", "TERMINATED")


def _done(arguments: argparse.Namespace, found: Mapping[str, Any], text: str, state: str) -> int:
    if arguments.json:
        print_json({"negotiation": found["id"], "state": state})
    else:
        say(f"{short(found['id'])}: {text}")
    return 0
