"""Small scenario files for tests.

file = write_scenario(tmp_path)                                  # plays as it is
file = write_scenario(tmp_path, lambda it: it["job"][0].update(task="statistic"))
code, out, err = run(capsys, file, tmp_path / "out")
"""

import datetime as dt
import json
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np

from ledger.cli import run_command

Scenario = dict[str, Any]
SCENARIO = EntryPoint("scenario", "marketplace.scenario.cli:command", "rongshu.commands")


def small_rows(seed: int, rows: int = 24) -> list[list[str]]:
    """Return rows of x, y, group (a, b, c) and outcome 0 to 2, related to each other."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(rows):
        x, y = generator.normal(50, 9), int(generator.integers(0, 30))
        group = str(generator.choice(["a", "b", "c"]))
        score = (x - 50) / 9 + (y - 15) / 12 + generator.normal(0, 1.5)
        found.append([f"{x:.3f}", str(y), group, str(int(score > 0) + int(score > 1.5))])
    return found


def csv_text(rows: list[list[str]], delimiter: str = ",") -> str:
    lines = [["x", "y", "group", "outcome"], *rows]
    return "".join(delimiter.join(line) + "\n" for line in lines)


def small_scenario(providers: int = 2) -> Scenario:
    return {
        "title": "Small",
        "provider": [
            {"name": f"P{number}", "file": f"p{number}.csv", "price": 100}
            for number in range(1, providers + 1)
        ],
        "terms": {
            "tasks": ["statistics", "logistic", "encrypted_sum"],
            "purposes": ["tests"],
            "uses": 5,
            "until": dt.date(2099, 12, 31),
            "exact": True,
            "minimum_parties": 2,
        },
        "prepare": {
            "complete_rows": True,
            "one_hot": {"group": ["a", "b", "c"]},
            "label": {"column": "outcome", "above": 0},
        },
        "job": [
            {"name": "fit", "task": "logistic", "columns": ["x", "y", "group"], "ridge": 1.0}
            | {"purpose": "tests"},
        ],
    }


def statistics_of(*columns: str) -> Scenario:
    return {"name": "s", "task": "statistics", "columns": list(columns), "purpose": "tests"}


def write_scenario(
    folder: Path,
    change: Callable[[Scenario], object] = lambda _: None,
    files: Mapping[str, str | bytes] | None = None,
    providers: int = 2,
) -> Path:
    """Write data files and a changed scenario; return the scenario's path."""
    given = dict(files or {})
    for number in range(1, providers + 1):
        given.setdefault(f"p{number}.csv", csv_text(small_rows(number)))
    for name, content in given.items():
        data = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(data)
    scenario = small_scenario(providers)
    change(scenario)
    path = folder / "scenario.toml"
    path.write_text(to_toml(scenario))
    return path


def to_toml(scenario: Scenario) -> str:
    """Write a scenario as TOML, values inline."""
    lines = [f"{key} = {_inline(value)}" for key, value in scenario.items() if not _tables(value)]
    for key, value in scenario.items():
        for table in value if _tables(value) else []:
            lines.append(f"[[{key}]]")
            lines += [f"{_inline(name)} = {_inline(item)}" for name, item in table.items()]
    return "\n".join(lines) + "\n"


def _tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(x, dict) for x in value)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        items = (f"{_inline(name)} = {_inline(item)}" for name, item in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(item) for item in value) + "]"
    if isinstance(value, dt.date):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False)


def run(capsys: Any, file: Path, out: Path, *options: str) -> tuple[int, str, str]:
    """Run `rongshu scenario run` as the program does; return exit code, stdout and stderr."""
    code = run_command(SCENARIO, ["run", str(file), "--out", str(out), *options])
    captured = capsys.readouterr()
    return code, captured.out, captured.err
