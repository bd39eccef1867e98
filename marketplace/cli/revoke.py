"""End something of your own: a key, an asset, an offer, an agreement or a grant."""

from __future__ import annotations

import argparse

from marketplace.cli import arguments as args
from marketplace.cli.arguments import ArgumentError
from marketplace.cli.parties import client_of
from marketplace.cli.show import print_json, say
from marketplace.client import Client

EXAMPLE = "rongshu revoke --home basel agreement:9c01… --cause 'the study has ended'"
KINDS = ("participant", "asset", "offer", "agreement", "grant")


def command(argv: list[str]) -> int:
    """Run `rongshu revoke` and return its exit code."""
    parser = args.parser_of(
        "rongshu revoke",
        "End something of your own for good, from the next log entry on. Jobs under way that rest "
        "on it stop; what was released stays with whoever has it.",
        EXAMPLE,
    )
    args.of_party(parser)
    parser.add_argument(
        "target", metavar="ID", help="the whole id: of your participant statement, asset, …"
    )
    parser.add_argument("--cause", required=True, help="why; goes into the log")
    args.as_json(parser)
    parser.set_defaults(run=_revoke)
    return args.run(parser, argv)


def _revoke(arguments: argparse.Namespace) -> int:
    kind, _, digits = arguments.target.partition(":")
    # A short id might name something else tomorrow, and this cannot be taken back.
    if kind not in KINDS or len(digits) != 64:
        raise ArgumentError(f"ID: write the whole id of a thing of these kinds: {', '.join(KINDS)}")
    client = client_of(arguments, Client)
    index = client.revoke(arguments.target, arguments.cause)
    if arguments.json:
        print_json({"target": arguments.target, "index": index})
    else:
        say(f"void from log entry {index} on: {arguments.target}")
    return 0
