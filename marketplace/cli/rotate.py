"""Sign with a new key from now on: your own, or your node's."""

from __future__ import annotations

import argparse
from pathlib import Path

from federated.node.home import NodeHome
from ledger.keys import SigningKey, VerifyKey
from marketplace.cli import arguments as args
from marketplace.cli.parties import client_of
from marketplace.cli.show import print_json, say
from marketplace.client import Client
from marketplace.key_change import change_key, change_node_key

EXAMPLE = """\
rongshu rotate --home basel
  rongshu rotate --home basel --recovery-key /media/safe/recovery.key
  rongshu rotate --home basel --node nodes/basel"""


def command(argv: list[str]) -> int:
    """Run `rongshu rotate` and return its exit code."""
    parser = args.parser_of(
        "rongshu rotate",
        "Make a new signing key and let the log say so. What the old key signed before stays "
        "valid; what it signs afterwards is refused everywhere. If the service cannot be reached, "
        "run the same command again. A node that runs must be started again afterwards.",
        EXAMPLE,
    )
    args.of_party(parser)
    parser.add_argument("--node", type=Path, metavar="DIR", help="your node's key, not your own")
    parser.add_argument(
        "--lost", action="store_true", help="with --node: its key is gone, you sign in its place"
    )
    parser.add_argument(
        "--recovery-key",
        type=Path,
        metavar="FILE",
        help="your own key is gone or stolen: sign with the recovery key named at enrolment",
    )
    parser.add_argument(
        "--new-recovery-key",
        type=Path,
        metavar="FILE",
        help="with --recovery-key: make another recovery key in FILE, in force from now on",
    )
    args.as_json(parser)
    parser.set_defaults(run=_rotate)
    return args.run(parser, argv)


def _rotate(arguments: argparse.Namespace) -> int:
    client = client_of(arguments, Client)
    _check(arguments)
    if arguments.node is not None:
        node = NodeHome.load(arguments.node)
        subject = node.settings.asset
        key = change_node_key(client, node.folder, subject, lost=arguments.lost)
    else:
        subject = client.home.participant()
        recovery = arguments.recovery_key and SigningKey.load(arguments.recovery_key)
        renewed = _new_recovery(arguments.new_recovery_key, client)
        key = change_key(client, recovery=recovery, new_recovery=renewed)
    if arguments.json:
        print_json({"subject": subject, "key": key.verify_key.text})
    else:
        say(f"{subject} signs with a new key from now on")
        say(f"its fingerprint: {key.verify_key.fingerprint}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.lost and arguments.node is None:
        raise args.ArgumentError(
            "--lost: say which node with --node; for your own lost key, --recovery-key signs"
        )
    if arguments.node is not None and arguments.recovery_key is not None:
        raise args.ArgumentError("--recovery-key is for your own key; for a node's, use --lost")
    if arguments.new_recovery_key is not None and arguments.recovery_key is None:
        raise args.ArgumentError("--new-recovery-key: only --recovery-key may name another")


def _new_recovery(path: Path | None, client: Client) -> VerifyKey | None:
    if path is None:
        return None
    if not path.exists():
        SigningKey.generate(client.home.signing_key().name).save(path)
    return SigningKey.load(path).verify_key
