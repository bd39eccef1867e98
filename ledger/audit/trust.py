"""Whom an auditor's command trusts: `--key`, `--policy` and `--succession`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ledger import note
from ledger import trust as policies
from ledger.audit.arguments import KEY_HELP, key
from ledger.audit.exported import read_file
from ledger.audit.text import reason
from ledger.errors import InvalidKeyError, LedgerError, PolicyError
from ledger.trust import Policy

POLICY_HELP = """a file that names the log's key, its witnesses and how many of these must have seen
a checkpoint (C2SP tlog-policy), in place of --key. Get it from elsewhere too"""
SUCCESSION_HELP = """a signed change of the log's key that you got from elsewhere; may be repeated.
Those in an exported folder are read as well"""


def add_trust_arguments(parser: Any, *, needed: bool) -> None:
    """Add `--key`, `--policy` (one of them, where needed) and `--succession`."""
    whom = parser.add_mutually_exclusive_group(required=needed)
    whom.add_argument("--key", metavar="VKEY|@FILE", help=KEY_HELP)
    whom.add_argument("--policy", metavar="FILE", type=Path, help=POLICY_HELP)
    parser.add_argument(
        "--succession",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help=SUCCESSION_HELP,
    )


def read_policy(arguments: argparse.Namespace, folder: Path) -> Policy | None:
    """Return the policy that the arguments name; None where they name none.

    Args:
        arguments: parsed with `add_trust_arguments`.
        folder: what is to be checked; nothing in it may vouch for it.

    Raises:
        InvalidKeyError: as `ledger.audit.arguments.key`.
        PolicyError: the policy is no policy, cannot be read, or lies in the folder; a succession
            cannot be read or followed.
    """
    policy = _policy_file(arguments.policy, folder) if arguments.policy else None
    if policy is None:
        try:
            trusted = key(arguments.key, folder)
        except InvalidKeyError as error:
            raise InvalidKeyError(f"--key: {error}") from None
        if trusted is None:
            return None
        policy = Policy.of(trusted)
    try:
        return policy.following(read_file(path, note.MAX_BYTES) for path in arguments.succession)
    except (LedgerError, OSError) as error:
        raise PolicyError(f"--succession: {reason(error)}") from None


def _policy_file(path: Path, folder: Path) -> Policy:
    try:
        if path.resolve().is_relative_to(folder.resolve()):
            raise PolicyError("lies in the folder that it is to vouch for; take it from elsewhere")
        return Policy.parse(read_file(path, policies.MAX_BYTES))
    except (LedgerError, OSError) as error:
        raise PolicyError(f"--policy: {path}: {reason(error)}") from None
