"""Join a marketplace: make a folder with your own key, and enrol with a one-time code."""

from __future__ import annotations

import argparse
from pathlib import Path

import httpx

from federated.certificates import CA
from ledger import durable
from ledger.checkpoint import open_checkpoint
from ledger.errors import LedgerError
from ledger.keys import SigningKey, VerifyKey
from marketplace.cli import arguments as args
from marketplace.cli.parties import connect
from marketplace.cli.show import print_json, say
from marketplace.client import Client, ClientError, Home

ROLES = ("provider", "researcher", "auditor")
EXAMPLE = """\
rongshu enrol --home basel --service http://127.0.0.1:8448 --log-key @log.vkey \\
      --code rse_… --name 'Basel hospital' --role provider"""


def command(argv: list[str]) -> int:
    """Run `rongshu enrol` and return its exit code."""
    parser = args.parser_of(
        "rongshu enrol",
        "Join a marketplace. The signing key is made in the folder and never leaves it. If the "
        "service cannot be reached, run the same command again.",
        EXAMPLE,
    )
    parser.add_argument("--home", type=Path, required=True, metavar="DIR", help="your new folder")
    parser.add_argument("--service", required=True, metavar="URL", help="where the service is")
    parser.add_argument(
        "--log-key",
        required=True,
        metavar="VKEY",
        help="the log's verifier key, or @FILE: from the operator's website or a contract, not "
        "from the service itself",
    )
    parser.add_argument("--code", required=True, help="the one-time code from the operator")
    parser.add_argument("--name", required=True, help="your name as others see it")
    parser.add_argument(
        "--role", required=True, action="append", choices=ROLES, help="repeat for several"
    )
    parser.add_argument(
        "--recovery-key",
        type=Path,
        metavar="FILE",
        help="make a second key in FILE, for the day that the first is lost or stolen; keep it "
        "away from this machine",
    )
    parser.add_argument(
        "--ca",
        type=Path,
        metavar="FILE",
        help="certificate of the authority behind the service's own, from the operator; without "
        "it, those that this machine trusts",
    )
    args.as_json(parser)
    parser.set_defaults(run=_enrol)
    return args.run(parser, argv)


def _enrol(arguments: argparse.Namespace) -> int:
    key = args.log_key(arguments.log_key)
    http = connect(arguments, arguments.service, arguments.home, arguments.ca)
    _recognise(http, key)
    home = Home.resume(arguments.home, arguments.name, arguments.service, key)
    if arguments.ca is not None:
        durable.replace(home.folder / CA, arguments.ca.read_bytes())
    recovery = _recovery_key(arguments.recovery_key, home)
    participant = Client(home, http).enrol(arguments.code, tuple(arguments.role), recovery)
    if arguments.json:
        print_json({"participant": participant, "home": str(home.folder)})
        return 0
    say(f"{home.name} is enrolled as {participant}")
    say(f"keys: {home.folder} (keep signing.key and api.key to yourself, and a copy elsewhere)")
    if arguments.recovery_key is not None:
        say(f"recovery key: {arguments.recovery_key} (move it away from this machine)")
    return 0


def _recovery_key(path: Path | None, home: Home) -> VerifyKey | None:
    if path is None:
        return None
    if not path.exists():
        SigningKey.generate(home.signing_key().name).save(path)
    return SigningKey.load(path).verify_key


def _recognise(http: httpx.Client, key: VerifyKey) -> None:
    """Refuse a service whose log is not the one whose key was given, before anything is made."""
    try:
        answer = http.get("/v1/log/checkpoint").raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ClientError(f"--service: {http.base_url} cannot be reached: {error}") from error
    try:
        open_checkpoint(answer.content, key)
    except LedgerError as error:
        raise ClientError(f"--log-key: this service's log has another key: {error}") from error
