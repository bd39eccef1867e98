"""Play the whole life of a use from one scenario file.

$ rongshu scenario run examples/hospitals/scenario.toml
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

from federated.switches import quiet_flower

OWN_DATA = Path("examples/own/scenario.toml")
EXAMPLE = """\
examples:
  rongshu scenario run examples/hospitals/scenario.toml
  rongshu scenario run mine.toml --out out/mine --json
  rongshu scenario run mine.toml --processes

exit codes: 0 everything held; 1 something did not, or the file or the data cannot be used."""


def command(argv: list[str]) -> int:
    """Run `rongshu scenario …` and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="rongshu scenario",
        description="Play the whole life of a use from one scenario file.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="play a scenario file (docs/scenario.md)",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("file", type=Path, metavar="FILE", help="the scenario, in TOML")
    run.add_argument(
        "--out", type=Path, metavar="DIR", help="a new folder for everything (default: out/…)"
    )
    run.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    run.add_argument(
        "--processes",
        action="store_true",
        help="run operator, SuperLink and each node as a process of its own, over TLS on loopback",
    )
    arguments = parser.parse_args(argv)
    return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    quiet_flower()
    # Imported here: reading --help must not load numpy and Flower.
    from marketplace.scenario.bars import Bars  # noqa: PLC0415
    from marketplace.scenario.page import as_text  # noqa: PLC0415
    from marketplace.scenario.play import play  # noqa: PLC0415
    from marketplace.scenario.report import as_json as to_json  # noqa: PLC0415
    from marketplace.scenario.spec import load  # noqa: PLC0415

    logging.basicConfig(level=logging.ERROR)
    scenario = load(arguments.file)
    folder = _new_folder(arguments.file, arguments.out)
    with Bars(shown=sys.stderr.isatty()) as bars:
        outcome = play(scenario, folder, bars, processes=arguments.processes)
    if arguments.json:
        # ASCII: it must arrive whole through any pipe and locale.
        sys.stdout.write(json.dumps(to_json(outcome), allow_nan=False) + "\n")
    else:
        sys.stdout.write(as_text(outcome, *_program(_checkout())))
    return 0 if outcome.held else 1


def _checkout() -> Path | None:
    """Return the folder of the checkout whose `run` script started this, None elsewhere."""
    folder = Path(sys.prefix).parent
    return folder if (folder / "run").is_file() and (folder / OWN_DATA).is_file() else None


def _program(checkout: Path | None) -> tuple[str, str | None]:
    """Return how this person starts `rongshu`, and the example for own data where there is one."""
    if checkout is None:
        return "rongshu", None
    if checkout == Path.cwd():
        return "./run rongshu", str(OWN_DATA)
    return f"{shlex.quote(str(checkout / 'run'))} rongshu", str(checkout / OWN_DATA)


def _new_folder(file: Path, out: Path | None) -> Path:
    """Return a folder that does not exist yet; it is made when the play begins."""
    from marketplace.scenario.errors import ScenarioError  # noqa: PLC0415

    if out is not None:
        if out.exists():
            raise ScenarioError(f"{out} exists; name a new folder, nothing is overwritten")
        return out
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = Path("out") / f"{file.parent.name or 'scenario'}-{stamp}"
    number = 2
    while folder.exists():
        folder = folder.with_name(f"{file.parent.name}-{stamp}-{number}")
        number += 1
    return folder
