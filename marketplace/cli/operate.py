"""What the operator hands out: enrolment codes, and the log's verifier key."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import httpx

from federated.address import served_at
from ledger.keys import SigningKey
from marketplace.cli import arguments as args
from marketplace.cli.arguments import ArgumentError
from marketplace.cli.enrol import ROLES
from marketplace.cli.parties import TIMEOUT
from marketplace.cli.show import print_json, say, when
from marketplace.client import ClientError
from marketplace.settings import Settings

CODE = "rongshu operator code --data data --role provider --note 'Basel hospital'"
KEY = "rongshu operator key --data data > log.vkey"


def command(argv: list[str]) -> int:
    """Run `rongshu operator …` and return its exit code."""
    parser, into = args.commands("rongshu operator", "What the operator hands out.", CODE)
    code = args.subcommand(
        into, "code", _code, "make a one-time enrolment code; the service must run", CODE
    )
    data(code)
    code.add_argument(
        "--role", required=True, action="append", choices=ROLES, help="repeat for several"
    )
    code.add_argument("--note", default="", help="for whom, as a reminder to yourself")
    code.add_argument(
        "--service", metavar="URL", help="where the service is (default: as it says in DIR)"
    )
    args.as_json(code)
    key = args.subcommand(
        into, "key", _key, "print the log's verifier key, for everyone to know", KEY
    )
    data(key)
    return args.run(parser, argv)


def data(parser: argparse.ArgumentParser) -> None:
    """Add --data."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="the service's data folder, or the folder of a market on one machine",
    )


def settings_of(folder: Path) -> Settings:
    """Return the settings of the service in a data folder or in a market's folder.

    Raises:
        ArgumentError: there is no service in it.
    """
    for candidate in (folder / "service", folder):
        settings = Settings.load(candidate)
        if settings.database_file.is_file() or settings.operator_api_key.is_file():
            return settings
    raise ArgumentError(f"--data: {folder} holds no service; `rongshu serve` makes one")


def _code(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments.data)
    address = arguments.service or served_at(arguments.data)
    if address is None:
        raise ClientError(f"{arguments.data} is not being served; start `rongshu serve` first")
    key = settings.operator_api_key.read_text(encoding="ascii").strip()
    body = {"roles": arguments.role, "note": arguments.note}
    try:
        answer = httpx.post(
            f"{address}/v1/enrolments",
            json=body,
            headers={"Authorization": f"Bearer {key}"},
            timeout=TIMEOUT,
        ).raise_for_status()
    except httpx.HTTPError as error:
        raise ClientError(f"{address}: no code was made: {error}") from error
    made = answer.json()
    if arguments.json:
        print_json(made)
    else:
        say(made["code"])
        # The code alone goes to standard output, so that it can be piped.
        _aside(f"valid once, until {when(made['expires'])}; for: {' '.join(arguments.role)}")
    return 0


def _key(arguments: argparse.Namespace) -> int:
    say(SigningKey.load(settings_of(arguments.data).log_key).verify_key.text)
    return 0


def _aside(text: str) -> None:

    sys.stderr.write(text + "\n")
