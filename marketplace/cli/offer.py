"""Offer assets under terms and at a price, and withdraw offers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from ledger.terms import ANYONE, Terms
from marketplace.cli import arguments as args
from marketplace.cli.parties import client_of, pick
from marketplace.cli.show import money, print_json, rows, say, short, when
from marketplace.client import Client, Provider

ADD = """\
rongshu offer add --home basel Hearts --task statistics --task logistic \\
      --purpose 'cardiology research' --uses 5 --until 2030-12-31 --exact --price 12.00"""
LIST = "rongshu offer list --home lab --asset Hearts"
WITHDRAW = "rongshu offer withdraw --home basel offer:3f2a9c11d0e4"


def command(argv: list[str]) -> int:
    """Run `rongshu offer …` and return its exit code."""
    parser, into = args.commands("rongshu offer", "Offers: terms and a price for an asset.", ADD)
    add = args.subcommand(
        into, "add", _add, "offer an asset", ADD, "What the terms do not name is not permitted."
    )
    args.of_party(add)
    add.add_argument("asset", metavar="ASSET", help="its id, the beginning of it, or its name")
    add.add_argument("--task", required=True, action="append", help="permitted; repeat")
    add.add_argument("--purpose", required=True, action="append", help="permitted; repeat")
    add.add_argument("--uses", required=True, type=int, help="completed jobs for each agreement")
    add.add_argument("--until", required=True, metavar="DAY", help="last day, such as 2030-12-31")
    add.add_argument("--price", required=True, help="for each use, such as 12.00")
    add.add_argument(
        "--minimum-parties",
        type=int,
        default=3,
        help="fewest assets whose contributions are added together (default: 3)",
    )
    add.add_argument(
        "--exact",
        action="store_true",
        help="permit exact answers; a sum of several exact answers can reveal more than each",
    )
    add.add_argument(
        "--recipient", action="append", help="a researcher's id (default: everyone enrolled)"
    )
    args.as_json(add)
    listing = args.subcommand(into, "list", _list, "list offers", LIST)
    args.of_party(listing)
    listing.add_argument("--asset", help="on this asset alone")
    args.as_json(listing)
    withdraw = args.subcommand(
        into, "withdraw", _withdraw, "end an offer", WITHDRAW, "Agreements on it stay in force."
    )
    args.of_party(withdraw)
    withdraw.add_argument("offer", metavar="OFFER", help="its id, or the beginning of it")
    withdraw.add_argument("--cause", default="withdrawn", help="goes into the log")
    args.as_json(withdraw)
    return args.run(parser, argv)


def _add(arguments: argparse.Namespace) -> int:
    client = client_of(arguments, Provider)
    asset = pick(client.call("GET", "/assets"), arguments.asset)
    terms = Terms(
        tasks=tuple(arguments.task),
        purposes=tuple(arguments.purpose),
        recipients=tuple(arguments.recipient or (ANYONE,)),
        uses=arguments.uses,
        until=args.moment("--until", arguments.until),
        exact=arguments.exact,
        minimum_parties=arguments.minimum_parties,
    )
    offer = client.offer(asset["id"], terms, args.cents("--price", arguments.price))
    if arguments.json:
        print_json({"offer": offer, "asset": asset["id"]})
    else:
        say(f"{asset['name']} is offered: {offer}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    client = client_of(arguments, Client)
    cards = client.call("GET", "/assets")
    wanted = [pick(cards, arguments.asset)] if arguments.asset else cards
    names = {card["id"]: card["name"] for card in wanted}
    offers = [offer for card in wanted for offer in card["offers"]]
    if arguments.json:
        print_json(offers)
        return 0
    rows(
        ("offer", "asset", "tasks", "purposes", "uses", "until", "parties", "price", "state"),
        [_line(offer, names) for offer in offers],
        "There is no offer.",
    )
    return 0


def _line(offer: Mapping[str, Any], names: Mapping[str, str]) -> tuple[Any, ...]:
    terms = offer["terms"]
    return (
        short(offer["id"]),
        names[offer["asset"]],
        ", ".join(terms["tasks"]),
        ", ".join(terms["purposes"]),
        terms["uses"],
        when(terms["until"])[:10],
        f">= {terms['minimum_parties']}",
        money(offer["price_cents"]),
        "open" if offer["revoked"] is None else "withdrawn",
    )


def _withdraw(arguments: argparse.Namespace) -> int:
    client = client_of(arguments, Provider)
    own = [
        offer
        for offer in client.call("GET", "/offers")
        if offer["provider"] == client.home.participant()
    ]
    offer = pick(own, arguments.offer)
    index = client.revoke(offer["id"], arguments.cause)
    if arguments.json:
        print_json({"offer": offer["id"], "index": index})
    else:
        say(f"{short(offer['id'])} is withdrawn, from log entry {index} on")
    return 0
