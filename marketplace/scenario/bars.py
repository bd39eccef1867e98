"""Progress bars on standard error while a scenario is played."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

NOTE_WIDTH = 34


class Bars(AbstractContextManager["Bars"]):
    """One bar for each chapter; a `marketplace.scenario.play.Show`.

    Args:
        shown: False to show nothing, as when standard error is no terminal.
        console: where to; standard error by default.
    """

    def __init__(self, *, shown: bool, console: Console | None = None) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text="✓", style="cyan"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console or Console(stderr=True),
            disable=not shown,
        )
        self._task: TaskID | None = None
        self._of = 1

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
        """Begin a bar; one of a single part pulses until that is done."""
        self._of = of
        self._task = self._progress.add_task(text, total=of if of > 1 else None, note="")

    def done(self, text: str) -> None:
        """Move the bar on by one; say what is done."""
        if self._task is not None:
            self._progress.update(self._task, total=self._of, advance=1, note=text[:NOTE_WIDTH])

    def running(self, job: str, view: Mapping[str, Any]) -> None:
        """Show the round that a job is in."""
        del job
        seen = view["progress"] or {}
        note = f"round {seen['round']}, {seen['step']}" if seen.get("step") else str(view["state"])
        if self._task is not None:
            self._progress.update(self._task, note=note[:NOTE_WIDTH])
