"""Install SPU beside Rongshu, for intersections of large sets; see whether it works; remove it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from federated.errors import SidecarError
from federated.sidecar.installation import WEIGHT, Installation
from federated.sidecar.lock import Lock
from federated.sidecar.settings import SidecarSettings

INSTALL = "rongshu sidecar spu install"
INSTALL_MORE = f"""\
It goes into an environment of its own, {WEIGHT}. pip fetches it from
wherever this machine's settings say, and takes only what has a hash that this Rongshu names. An
interrupted installation counts as none; a finished one is left as it is."""
STATUS = "rongshu sidecar spu status --json"
STATUS_MORE = "The exit code is 0 where it works, 1 where it does not."
REMOVE = "rongshu sidecar spu remove"


def command(argv: list[str]) -> int:
    """Run `rongshu sidecar …` and return its exit code."""
    parser = _parser(None, "rongshu sidecar", "Programs that work beside Rongshu.", STATUS)
    into = parser.add_subparsers(required=True, metavar="COMMAND")
    about = "SPU, for intersections of large sets between two nodes"
    spu = _parser(into, "spu", about, STATUS)
    below = spu.add_subparsers(required=True, metavar="COMMAND")
    for name, run, summary, example, more in (
        ("install", _install, "install it, or renew it", INSTALL, INSTALL_MORE),
        ("status", _status, "say whether it works, and its version", STATUS, STATUS_MORE),
        ("remove", _remove, "remove its folder", REMOVE, ""),
    ):
        each = _parser(below, name, summary, example, more)
        each.set_defaults(run=run)
        each.add_argument(
            "--into",
            type=Path,
            metavar="DIR",
            help="its folder (default: $RONGSHU_SIDECAR_FOLDER, or rongshu/sidecar/spu below "
            "$XDG_DATA_HOME)",
        )
        each.add_argument("--json", action="store_true", help="print JSON and nothing else")
    arguments = parser.parse_args(argv)
    settings = SidecarSettings.load(arguments.into)
    work: Callable[[argparse.Namespace, Installation], int] = arguments.run
    return work(arguments, Installation(settings.folder, Lock.shipped()))


def _parser(
    into: Any, name: str, summary: str, example: str, more: str = ""
) -> argparse.ArgumentParser:
    make = argparse.ArgumentParser if into is None else into.add_parser
    shown: dict[str, Any] = {} if into is None else {"help": summary}
    parser: argparse.ArgumentParser = make(
        name,
        description=f"{summary[0].upper()}{summary[1:].rstrip('.')}.\n{more}",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **shown,
    )
    return parser


def _install(arguments: argparse.Namespace, installation: Installation) -> int:
    def say(text: str) -> None:
        # Steps go where pip's own complaints go; standard output is for the result.
        sys.stderr.write(f"sidecar: {text}\n")
        sys.stderr.flush()

    version = installation.install(say=say)
    _print(arguments, {"state": "ready", "version": version, "folder": str(installation.folder)})
    return 0


def _status(arguments: argparse.Namespace, installation: Installation) -> int:
    shown = {"state": installation.state(), "version": "", "folder": str(installation.folder)}
    if shown["state"] == "ready":
        try:
            shown["version"] = installation.version()
        except SidecarError as error:
            shown |= {"state": "broken", "problem": str(error)}
    _print(arguments, shown)
    return 0 if shown["state"] == "ready" else 1


def _remove(arguments: argparse.Namespace, installation: Installation) -> int:
    was_there = installation.remove()
    state = "removed" if was_there else "absent"
    _print(arguments, {"state": state, "version": "", "folder": str(installation.folder)})
    return 0


def _print(arguments: argparse.Namespace, shown: dict[str, str]) -> None:
    if arguments.json:
        sys.stdout.write(json.dumps(shown) + "\n")
        return
    version = f" SPU {shown['version']}" if shown["version"] else ""
    sys.stdout.write(f"{shown['state']}:{version} {shown['folder']}\n")
    if "problem" in shown:
        sys.stdout.write(f"{shown['problem']}\n")
