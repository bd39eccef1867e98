"""Shows how a job comes to its end: bars on a terminal, else a line for each change.

    with shown(json_lines=False) as show:
        for view in changes(client, job, 600.0):
            show(view)

Both go to standard error, so that standard output holds results alone; lines of JSON, which are
the result where they are asked for, go to standard output.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from marketplace.cli.show import clean, print_json, short

View = Mapping[str, Any]

MOST_BARS = 8
STYLES = {
    "answered": "green",
    "granted": "green",
    "completed": "green",
    "waiting": "dim",
    "rejoining": "yellow",
    "refused": "red",
    "failed": "red",
    "lost": "red",
}


class Show(Protocol):
    """Takes a job's views, one after the other."""

    def __call__(self, view: View) -> None:
        """Show one more."""

    def leave(self, *lines: str) -> None:
        """Say some last words to somebody who does not wait for the end."""


@dataclass(frozen=True)
class Stage:
    """What a job waits for: grants, its turn, or the nodes' answers in one exchange.

    Attributes:
        name: for people; the same as long as it is the same stage.
        nodes: who, and how each stands.
    """

    name: str
    done: int
    of: int
    nodes: tuple[tuple[str, str], ...]


def stage_of(view: View) -> Stage | None:
    """Return what an open job waits for, None for one that has ended."""
    names = _names(view)
    if view["state"] == "requested":
        states = tuple((names[each["asset"]], each["state"]) for each in view["parties"])
        done = sum(state != "waiting" for _, state in states)
        return Stage("grants", done, len(states), states)
    if view["state"] == "granted":
        return Stage("its turn", 0, 1, ())
    if view["state"] != "running":
        return None
    progress = view["progress"]
    if not progress:
        return Stage("start", 0, len(names), ())
    step = str(progress["step"])
    in_round = progress["round"] > 0 and step != "finish"
    name = f"round {progress['round']}: {step}" if in_round else step
    nodes = progress.get("nodes") or {}
    return Stage(
        name,
        progress["done"],
        progress["of"],
        tuple((names.get(asset, short(asset)), str(state)) for asset, state in nodes.items()),
    )


def line_of(view: View) -> str:
    """Return one line about an open job; of one that has ended its state alone."""
    stage = stage_of(view)
    if stage is None:
        return str(view["state"])
    nodes = ", ".join(f"{name} {state}" for name, state in stage.nodes)
    count = f" {stage.done}/{stage.of}" if stage.nodes else ""
    return f"{view['state']}: {stage.name}{count}{f' ({nodes})' if nodes else ''}"


@contextmanager
def shown(*, json_lines: bool, console: Console | None = None) -> Iterator[Show]:
    """Return what shows a job's views to whoever looks.

    Args:
        json_lines: each view as a line of JSON on standard output, and nothing else.
        console: where to; standard error by default.
    """
    if json_lines:
        yield _JsonLines()
        return
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console)
        return
    with Bars(console) as bars:
        yield bars


class _JsonLines:
    def __call__(self, view: View) -> None:
        print_json(view)
        sys.stdout.flush()

    def leave(self, *lines: str) -> None:
        sys.stderr.write("".join(f"{clean(line)}\n" for line in lines))


class _Lines:
    """One line for each change that a reader can see."""

    def __init__(self, console: Console) -> None:
        self._file = console.file
        self._last = ""

    def __call__(self, view: View) -> None:
        line = line_of(view)
        if line != self._last:
            self._last = line
            self.leave(line)

    def leave(self, *lines: str) -> None:
        self._file.write("".join(f"{clean(line)}\n" for line in lines))
        self._file.flush()


class _Mark(SpinnerColumn):
    """Turns while a stage goes on; then ✓, or ✗ where the job ended in it."""

    def render(self, task: Task) -> Any:
        return Text("✗", "red") if task.fields["broken"] else super().render(task)


class Bars:
    """A bar for each stage, and below the last one its nodes.

    Args:
        console: a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            _Mark(finished_text="✓", style="cyan"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            auto_refresh=False,
        )
        self._tasks: list[TaskID] = []
        self._stage: Stage | None = None
        self._nodes = Text()
        self._live = Live(console=console, get_renderable=self._drawn, refresh_per_second=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def __call__(self, view: View) -> None:
        """Move the bar of the present stage on, or begin one."""
        stage = stage_of(view)
        before, self._stage = self._stage, stage
        if before is not None and (stage is None or stage.name != before.name):
            # A job goes on only when a stage is complete, so this one was, even unseen.
            if stage is not None or view["state"] == "released":
                self._bars.update(self._tasks[-1], completed=before.of)
            else:
                self._bars.update(self._tasks[-1], broken=True)
                self._bars.stop_task(self._tasks[-1])
        if stage is not None:
            if before is None or stage.name != before.name:
                self._begin(stage)
            self._bars.update(self._tasks[-1], completed=stage.done, total=stage.of)
        if stage is not None or view["state"] == "released":
            # Where a job ended otherwise, how the nodes stood tells why.
            self._nodes = _drawn_nodes(stage)
        # A job that has ended already needs no bar.
        if self._tasks:
            self._live.start(refresh=True)
            self._live.refresh()

    def leave(self, *lines: str) -> None:
        """Say last words below the bars, which stay as they are."""
        self._stage = None
        self._live.stop()
        for line in lines:
            self._console.print(clean(line), markup=False, highlight=False, soft_wrap=True)

    def _begin(self, stage: Stage) -> None:
        self._tasks.append(self._bars.add_task(clean(stage.name), total=stage.of, broken=False))
        # A regression may take a hundred rounds: only the last ones fit on a screen.
        if len(self._tasks) > MOST_BARS:
            self._bars.remove_task(self._tasks.pop(0))

    def _drawn(self) -> Group:
        lines = (self._bars.get_renderable(), self._nodes)
        return Group(*lines[: 2 if self._nodes else 1])


def _drawn_nodes(stage: Stage | None) -> Text:
    text = Text()
    for name, state in stage.nodes if stage is not None else ():
        text.append("  " if not text else " · ", "dim")
        text.append(f"{clean(name)} ")
        text.append(clean(state), STYLES.get(state, ""))
    return text


def _names(view: View) -> dict[str, str]:
    """Return by asset the provider's name, with the asset's id where a provider has several."""
    count = Counter(each["provider_name"] for each in view["parties"])
    return {
        each["asset"]: each["provider_name"]
        if count[each["provider_name"]] == 1
        else f"{each['provider_name']} {short(each['asset'])}"
        for each in view["parties"]
    }
