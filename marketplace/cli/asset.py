"""List data as assets, read the catalogue, and see who used what."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from federated.node.table import ReadingSpec
from marketplace.cli import arguments as args
from marketplace.cli.arguments import ArgumentError
from marketplace.cli.parties import client_of, pick
from marketplace.cli.show import aside, money, print_json, rows, say, short, when
from marketplace.client import Client, Provider

ADD = """\
rongshu asset add --home basel --file hearts.csv --name Hearts --cost 9000.00
  rongshu asset add --home basel --file old.data --name Old --no-header \\
      --columns age,sex,chol --missing '?'"""
LIST = "rongshu asset list --home basel"
SHOW = "rongshu asset show --home lab Hearts"
CODE = "rongshu asset code --home basel Hearts"
USES = "rongshu asset uses --home basel Hearts"


def command(argv: list[str]) -> int:
    """Run `rongshu asset …` and return its exit code."""
    parser, into = args.commands("rongshu asset", "Assets: data that stay where they are.", ADD)
    add = args.subcommand(
        into,
        "add",
        _add,
        "measure a data file and list it in the catalogue",
        ADD,
        "A node's folder is made, with a key of its own; the node measures the file, and only what "
        "it measured (columns, counts, quality, digest) is signed and sent. For a market on one "
        "machine the node starts working at once.",
    )
    args.of_party(add)
    _add_arguments(add)
    for name, run, summary, example in (
        ("list", _list, "read the catalogue", LIST),
        ("show", _show, "read one data card", SHOW),
        ("code", _code, "make a one-time code with which the asset's node enrols", CODE),
        ("uses", _uses, "see who used your asset, for which purpose, when, how it ended", USES),
    ):
        sub = args.subcommand(into, name, run, summary, example)
        args.of_party(sub)
        args.as_json(sub)
        if name != "list":
            sub.add_argument("asset", metavar="ASSET", help="its id, the beginning of it, or name")
        if name == "code":
            sub.add_argument(
                "--again", action="store_true", help="for a node that gives up its place"
            )
    return args.run(parser, argv)


def _add_arguments(add: argparse.ArgumentParser) -> None:
    add.add_argument("--file", type=Path, help="CSV or Parquet; stays where it is")
    add.add_argument("--name", required=True, help="name in the catalogue")
    add.add_argument("--description", default="", help="what it is")
    add.add_argument("--rights", default="", help="what you know of its licence and consents")
    add.add_argument("--cost", default="0", help="what it cost you, such as 9000.00 (valuation)")
    add.add_argument(
        "--node",
        type=Path,
        metavar="DIR",
        help="the node's folder: new with --file, otherwise one that `rongshu node init` made "
        "(default: nodes/NAME beside your folder's parent)",
    )
    add.add_argument(
        "--approval",
        choices=("rule", "hand"),
        default="rule",
        help="rule grants what the agreement permits; hand waits for `rongshu node approve`",
    )
    for option, words in reading_options().items():
        add.add_argument(option, **words)
    args.as_json(add)


def reading_options() -> dict[str, dict[str, Any]]:
    """Return the options that say how a file is read, with argparse's words for each."""
    return {
        "--format": {"choices": ("csv", "parquet"), "help": "default: by the file's name"},
        "--no-header": {"action": "store_true", "help": "the first line is data; needs --columns"},
        "--columns": {"metavar": "A,B,…", "help": "columns' names, or which ones to read"},
        "--missing": {
            "action": "append",
            "metavar": "TEXT",
            "help": "a cell that means no value; repeat for several",
        },
        "--delimiter": {"help": "one character between cells (default: comma)"},
    }


def reading(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return how a file is read, from the options.

    Raises:
        TableError: they contradict each other.
    """
    by_name = "parquet" if arguments.file.suffix == ".parquet" else "csv"
    given: dict[str, Any] = {"format": arguments.format or by_name}
    if arguments.no_header:
        given["header"] = False
    if arguments.columns is not None:
        given["columns"] = args.words(arguments.columns)
    if arguments.missing is not None:
        given["missing"] = arguments.missing
    if arguments.delimiter is not None:
        given["delimiter"] = arguments.delimiter
    return ReadingSpec.parse(given).to_json()


def _add(arguments: argparse.Namespace) -> int:
    # Imported here: reading the catalogue needs no data engine.
    from federated.node.home import SETTINGS, NodeHome  # noqa: PLC0415
    from marketplace.listing import list_node, make_node, slug  # noqa: PLC0415

    client = client_of(arguments, Provider)
    cost = args.cents("--cost", arguments.cost)
    beside = client.home.folder.resolve().parent.parent / "nodes" / slug(arguments.name)
    folder: Path = arguments.node or beside
    if (folder / SETTINGS).exists():
        node = NodeHome.load(folder)
        if arguments.file is not None and Path(node.settings.file) != arguments.file.resolve():
            raise ArgumentError(f"--node: {folder} holds the node of {node.settings.file}")
    elif arguments.file is None:
        raise ArgumentError(f"--file: {folder} holds no node yet, so a data file is needed")
    else:
        node = make_node(
            folder,
            client.home,
            arguments.file,
            reading(arguments),
            name=arguments.name,
            approval=arguments.approval,
        )
    node = list_node(
        node,
        client,
        name=arguments.name,
        description=arguments.description,
        use_rights=arguments.rights,
        cost_cents=cost,
    )
    asset = node.settings.asset
    if arguments.json:
        print_json({"asset": asset, "node": str(node.folder)})
        return 0
    _card(client.call("GET", f"/assets/{asset}"))
    say(f"node: {node.folder}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    cards = client_of(arguments, Client).call("GET", "/assets")
    if arguments.json:
        print_json(cards)
        return 0
    rows(
        ("asset", "name", "provider", "rows", "quality", "value", "uses", "offers"),
        [
            (
                short(card["id"]),
                card["name"],
                card["provider_name"],
                card["rows"],
                f"{card['quality']['score_ppm'] / 10_000:.1f} %",
                money(card["valuation"]["value_cents"]),
                card["uses"],
                sum(offer["revoked"] is None for offer in card["offers"]),
            )
            for card in cards
            if card["revoked"] is None
        ],
        "The catalogue is empty.",
    )
    return 0


def _show(arguments: argparse.Namespace) -> int:
    client = client_of(arguments, Client)
    card = pick(client.call("GET", "/assets"), arguments.asset)
    if arguments.json:
        print_json(card)
    else:
        _card(card)
    return 0


def _card(card: Mapping[str, Any]) -> None:
    quality, value = card["quality"], card["valuation"]
    say(f"{card['name']}, by {card['provider_name']}")
    say(card["id"])
    if card["description"]:
        say(card["description"])
    say(f"rights: {card['use_rights'] or 'nothing was said'}")
    say(f"{card['rows']} rows, {card['missing']} missing cells; measured {when(card['measured'])}")
    rows(
        ("  column", "type", "missing", "at most"),
        [
            (
                f"  {column['name']}",
                column["type"],
                column["missing"],
                "-" if column["magnitude"] is None else f"2^{column['magnitude']}",
            )
            for column in card["columns"]
        ],
        "  no columns",
    )
    say(f"quality: {quality['score_ppm'] / 10_000:.2f} % = {quality['formula']}")
    say(f"not assessed: {', '.join(quality['not_assessed']) or 'nothing'}")
    say(f"value: {money(value['value_cents'])} ({value['formula']})")
    say(f"used {card['uses']} times; {len(card['offers'])} offers")


def _code(arguments: argparse.Namespace) -> int:
    client = client_of(arguments, Provider)
    card = pick(client.call("GET", "/assets"), arguments.asset)
    made = client.call("POST", f"/assets/{card['id']}/codes", {"again": arguments.again})
    if arguments.json:
        print_json(made)
        return 0
    # The code alone goes to standard output, so that it can be piped.
    say(made["code"])
    aside(f"valid once, until {when(made['expires'])}; for the node of {card['name']}")
    return 0


def _uses(arguments: argparse.Namespace) -> int:
    client = client_of(arguments, Client)
    card = pick(client.call("GET", "/assets"), arguments.asset)
    uses = client.call("GET", f"/assets/{card['id']}/uses")
    if arguments.json:
        print_json(uses)
        return 0
    rows(
        ("when", "who", "task", "purpose", "state", "job"),
        [
            (
                when(use["created"]),
                use["researcher_name"],
                use["task"],
                use["purpose"],
                use["state"] + (f": {use['reason']}" if use["reason"] else ""),
                short(use["job"]),
            )
            for use in uses
        ],
        f"Nobody has used {card['name']} yet.",
    )
    return 0
