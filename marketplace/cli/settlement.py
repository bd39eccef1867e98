"""See what was billed, and what is owed to whom."""

from __future__ import annotations

import argparse

from marketplace.cli import arguments as args
from marketplace.cli.parties import client_of
from marketplace.cli.show import money, print_json, rows, short, when
from marketplace.client import Client

LIST = "rongshu settlement list --home basel"
ACCOUNTS = "rongshu settlement accounts --home basel --json"


def command(argv: list[str]) -> int:
    """Run `rongshu settlement …` and return its exit code."""
    parser, into = args.commands("rongshu settlement", "Bills and balances.", LIST)
    for name, run, summary, example in (
        ("list", _list, "list the bills of your jobs, or of jobs on your assets", LIST),
        ("accounts", _accounts, "show your balances; what you owe is negative", ACCOUNTS),
    ):
        sub = args.subcommand(into, name, run, summary, example)
        args.of_party(sub)
        args.as_json(sub)
    return args.run(parser, argv)


def _list(arguments: argparse.Namespace) -> int:
    client = client_of(arguments, Client)
    bills = client.call("GET", "/settlements")
    if arguments.json:
        print_json(bills)
        return 0
    names = {each["id"]: each["name"] for each in client.call("GET", "/participants")}
    rows(
        ("when", "job", "researcher", "provider", "price", "fee", "share"),
        [
            (
                when(bill["created"]),
                short(bill["job"]),
                names.get(bill["researcher"], "-"),
                names.get(line["provider"], "-"),
                money(line["price_cents"]),
                money(line["fee_cents"]),
                money(line["share_cents"]),
            )
            for bill in bills
            for line in bill["lines"]
        ],
        "Nothing was billed yet.",
    )
    return 0


def _accounts(arguments: argparse.Namespace) -> int:
    accounts = client_of(arguments, Client).call("GET", "/accounts")
    if arguments.json:
        print_json(accounts)
        return 0
    rows(
        ("account", "balance"),
        [(account["account"], money(account["balance_cents"])) for account in accounts],
        "You have no account yet: nothing was billed.",
    )
    return 0
