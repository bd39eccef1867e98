"""What the operator hands out (enrolment codes, the log's verifier key), and when epochs begin."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from federated import certificates
from federated.address import reach, served_at
from ledger.keys import COSIGNATURE_MLDSA, CosigningKey, SigningKey, VerifyKey
from marketplace.cli import arguments as args
from marketplace.cli.arguments import ArgumentError
from marketplace.cli.enrol import ROLES
from marketplace.cli.parties import TIMEOUT
from marketplace.cli.show import aside, print_json, say, when
from marketplace.client import ClientError, problem_of
from marketplace.settings import Settings

CODE = "rongshu operator code --data data --role provider --note 'Basel hospital'"
KEY = "rongshu operator key --data data > log.vkey"


SCHEDULE = "rongshu operator schedule --data data --entries 4096 --grace 4096"
SCHEDULE_MORE = """\
A new market has a schedule from its first start. One that is older counts epochs once this command
was run; its schedule stays for good. From then on each node closes every epoch of its asset's life,
and the service logs an index of the assets used in each. An epoch must be longer than the number of
assets, each of which adds a close to it."""


CERTIFICATE = "rongshu operator certificate --data data --host market.example.org"
CERTIFICATE_MORE = """\
For an operator without a certificate of a public authority. Hand tls/ca.pem to every participant,
who names it once (`rongshu enrol --ca ca.pem`). Run it again before the certificate ends, after 397
days, or with other hosts: the authority stays, nobody else has to do anything. It takes effect at
the next start of the service. Keep tls/ca.key apart from this machine if you can."""


def command(argv: list[str]) -> int:
    """Run `rongshu operator …` and return its exit code."""
    parser, into = args.commands(
        "rongshu operator", "What the operator hands out and decides.", CODE
    )
    code = args.subcommand(
        into, "code", _code, "make a one-time enrolment code; the service must run", CODE
    )
    data(code)
    code.add_argument(
        "--role", required=True, action="append", choices=ROLES, help="repeat for several"
    )
    code.add_argument("--note", default="", help="for whom, as a reminder to yourself")
    _at(code)
    args.as_json(code)
    key = args.subcommand(
        into, "key", _key, "print the log's verifier key, for everyone to know", KEY
    )
    data(key)
    which = key.add_mutually_exclusive_group()
    which.add_argument(
        "--recovery",
        type=Path,
        metavar="FILE",
        help="of its recovery key in FILE, which is made if there is none yet: keep it in a safe, "
        "apart from the log's",
    )
    which.add_argument(
        "--second",
        action="store_true",
        help="of its second key, ML-DSA-44, which is made if there is none yet",
    )
    plan = args.subcommand(
        into,
        "schedule",
        _schedule,
        "begin to count epochs in an older log",
        SCHEDULE,
        SCHEDULE_MORE,
    )
    data(plan)
    plan.add_argument("--entries", type=int, default=4096, help="length of an epoch")
    plan.add_argument(
        "--grace", type=int, default=4096, help="entries after which closes are missing"
    )
    _at(plan)
    args.as_json(plan)
    _add_certificate(into)
    return args.run(parser, argv)


def _add_certificate(into: Any) -> None:
    made = args.subcommand(
        into,
        "certificate",
        _certificate,
        "make a TLS certificate for the service, and an authority that signs it",
        CERTIFICATE,
        CERTIFICATE_MORE,
    )
    data(made)
    made.add_argument(
        "--host",
        required=True,
        action="append",
        help="name or address under which others reach the service; repeat for several",
    )
    args.as_json(made)


def data(parser: argparse.ArgumentParser) -> None:
    """Add --data."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="the service's data folder, or the folder of a market on one machine",
    )


def _at(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--service", metavar="URL", help="where the service is (default: as it says in DIR)"
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
    body = {"roles": arguments.role, "note": arguments.note}
    made = _ask(arguments, "/enrolments", body)
    if arguments.json:
        print_json(made)
    else:
        say(made["code"])
        # The code alone goes to standard output, so that it can be piped.
        aside(f"valid once, until {when(made['expires'])}; for: {' '.join(arguments.role)}")
    return 0


def _schedule(arguments: argparse.Namespace) -> int:
    body = {"epoch_entries": arguments.entries, "grace_entries": arguments.grace}
    made = _ask(arguments, "/schedule", body)
    if arguments.json:
        print_json(made)
    else:
        say(f"epochs of {arguments.entries} entries, closed within {arguments.grace} more")
        say(f"entry {made['index']}: {made['id']}")
    return 0


def _ask(arguments: argparse.Namespace, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask the running service in the operator's name.

    Raises:
        ClientError: it does not run, or refuses.
    """
    settings = settings_of(arguments.data)
    address = arguments.service or served_at(arguments.data)
    if address is None:
        raise ClientError(f"{arguments.data} is not being served; start `rongshu serve` first")
    key = settings.operator_api_key.read_text(encoding="ascii").strip()
    try:
        with reach(settings.tls_folder, address, TIMEOUT) as http:
            authorization = {"Authorization": f"Bearer {key}"}
            answer = http.post(f"/v1{path}", json=body, headers=authorization)
    except httpx.HTTPError as error:
        raise ClientError(f"{address} cannot be reached: {error}") from error
    if answer.is_error:
        raise problem_of(answer)
    found = answer.json()
    return found if isinstance(found, dict) else {}


def _certificate(arguments: argparse.Namespace) -> int:
    settings = Settings.load(arguments.data)
    folder = settings.tls_folder
    before = certificates.load(folder) if (folder / certificates.CA).exists() else None
    # Commands on this machine reach the service here, whatever others call it.
    hosts = [*arguments.host, "localhost", "127.0.0.1", "::1"]
    made = certificates.make(list(dict.fromkeys(hosts)), now=datetime.now(UTC), ca=before)
    certificates.save(made, folder)
    ca = folder / certificates.CA
    if arguments.json:
        print_json({"ca": str(ca), "certificate": str(folder / certificates.SERVER)})
        return 0
    say(f"{folder}: a certificate for {', '.join(arguments.host)}, valid 397 days")
    say(f"hand to every participant: {ca}")
    return 0


def _key(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments.data)
    first = SigningKey.load(settings.log_key).verify_key
    if arguments.recovery is not None:
        say(_recovery(arguments.recovery, first.name).text)
        return 0
    if not arguments.second:
        say(first.text)
        return 0
    if not settings.second_log_key.exists():
        CosigningKey.generate(first.name, COSIGNATURE_MLDSA).save(settings.second_log_key)
        aside("made; checkpoints have its line from the next start of the service on")
    say(CosigningKey.load(settings.second_log_key).verify_key.text)
    return 0


def _recovery(path: Path, origin: str) -> VerifyKey:
    if not path.exists():
        SigningKey.generate(origin).save(path)
        aside("made; readers name it in their policy, in a line `recovery` and this key")
    found = SigningKey.load(path).verify_key
    if found.name != origin:
        raise ArgumentError(f"--recovery: {path} holds a key of {found.name!r}, not of {origin!r}")
    return found
