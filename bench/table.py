"""What a bench measures and how it is printed.

Every figure stands beside a baseline measured in the same run on the same machine, since a figure
alone says more about the machine than about the code.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One measured thing.

    Attributes:
        name: what was measured.
        value: the figure, in `unit`; None where it could not be had, and `details` say why.
        unit: "1/s", "s", "bytes" and the like.
        baseline: the plain computation's figure in the same unit; None where there is none.
        details: further figures of the same run, or words.
    """

    name: str
    value: float | None
    unit: str
    baseline: float | None = None
    details: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """The figure over its baseline, None without one."""
        return self.value / self.baseline if self.baseline and self.value is not None else None


def rate(work: Callable[[], object], *, count: int = 1, seconds: float = 0.2) -> float:
    """How many units of work are done in a second.

    Args:
        work: does `count` units each time it is called.
        count: units per call.
        seconds: how long to go on, spread over five tries.

    Returns:
        The best rate of the five: noise from elsewhere only ever slows a try down.
    """
    work()  # first calls pay for imports and caches
    best = 0.0
    for _ in range(5):
        calls, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds / 5 or not calls:
            work()
            calls += 1
        best = max(best, calls * count / elapsed) if elapsed else best
    return best


def machine() -> str:
    """What the figures were measured on: processor type, cores, system and Python."""
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}"
    )


def rounded(number: float | None) -> float | None:
    """Four significant digits: more would be noise."""
    return None if number is None else float(f"{number:.4g}")


def as_json(bench: str, on: str, rows: Sequence[Row]) -> str:
    """One object: bench, machine, and rows of name, value, unit, baseline, ratio and details."""
    listed = [
        {
            "name": row.name,
            "value": rounded(row.value),
            "unit": row.unit,
            "baseline": rounded(row.baseline),
            "ratio": rounded(row.ratio),
        }
        | ({"details": _rounded(row.details)} if row.details else {})
        for row in rows
    ]
    return json.dumps({"bench": bench, "machine": on, "rows": listed})


def _rounded(details: Mapping[str, float | str]) -> dict[str, float | str | None]:
    return {
        name: value if isinstance(value, str) else rounded(value) for name, value in details.items()
    }


def in_words(number: float | None) -> str:
    """A figure for a person: four significant digits with thousands apart, "-" for none."""
    if number is None:
        return "-"
    short = float(f"{number:.4g}")
    return f"{short:,.0f}" if abs(short) >= 1000 else f"{short:g}"


def as_text(bench: str, on: str, rows: Sequence[Row]) -> str:
    """A table with aligned columns under a line that names the bench and the machine."""
    cells = [("", "value", "unit", "baseline", "ratio")]
    cells += [
        (row.name, in_words(row.value), row.unit, in_words(row.baseline), in_words(row.ratio))
        for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    lines = [
        f"{name:<{widths[0]}}  {value:>{widths[1]}}  {unit:<{widths[2]}}  "
        f"{baseline:>{widths[3]}}  {ratio:>{widths[4]}}"
        for name, value, unit, baseline, ratio in cells
    ]
    for number, row in enumerate(rows, start=1):
        told = (
            f"{name}: {value if isinstance(value, str) else in_words(value)}"
            for name, value in row.details.items()
        )
        lines[number] = (
            "  ".join([lines[number], ", ".join(told)]) if row.details else lines[number]
        )
    return "\n".join([f"{bench} ({on})", *lines])
