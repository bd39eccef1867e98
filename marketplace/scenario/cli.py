"""Play the whole life of a use from one scenario file.

$ rongshu scenario run examples/hospitals/scenario.toml
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.progress import TaskID

EXAMPLE = """\
examples:
  rongshu scenario run examples/hospitals/scenario.toml
  rongshu scenario run mine.toml --out out/mine --json

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
    arguments = parser.parse_args(argv)
    return _run(arguments.file, arguments.out, as_json=arguments.json)


def _run(file: Path, out: Path | None, *, as_json: bool) -> int:
    quiet_flower()
    # Imported here: reading --help must not load numpy and Flower.
    from marketplace.scenario.play import play  # noqa: PLC0415
    from marketplace.scenario.report import as_json as to_json  # noqa: PLC0415
    from marketplace.scenario.report import as_text  # noqa: PLC0415
    from marketplace.scenario.spec import load  # noqa: PLC0415

    logging.basicConfig(level=logging.ERROR)
    scenario = load(file)
    folder = _new_folder(file, out)
    with _Bars(shown=not as_json and sys.stderr.isatty()) as bars:
        outcome = play(scenario, folder, bars)
    if as_json:
        sys.stdout.write(json.dumps(to_json(outcome), ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(as_text(outcome))
    return 0 if outcome.held else 1


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


def quiet_flower() -> None:
    """Set Flower's switches before anything imports it: no telemetry, no look for updates."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
    os.environ.setdefault("FLWR_HOME", str(Path(tempfile.gettempdir()) / "rongshu-flower"))


class _Bars(AbstractContextManager["_Bars"]):
    """Progress bars on standard error, or nothing."""

    def __init__(self, *, shown: bool) -> None:
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

        self._progress = Progress(
            TextColumn("{task.description:<66}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            disable=not shown,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def step(self, text: str, of: int) -> None:
        """Begin a bar."""
        self._task = self._progress.add_task(text, total=of, note="")

    def done(self, text: str) -> None:
        """Move the bar on by one."""
        if self._task is not None:
            self._progress.update(self._task, advance=1, note=text[:30])

    def running(self, job: str, view: Mapping[str, Any]) -> None:
        """Show the round that a job is in."""
        del job
        progress = view["progress"]
        if self._task is not None and progress:
            note = f"round {progress.get('round', 0)} {progress.get('step', '')}"
            self._progress.update(self._task, note=note)
