"""What `rongshu job score` and `rongshu job model` read and write: rows, scores and models as CSV.

It does not encrypt, submit or verify: `marketplace.buyer` and the commands in `job` do. A message
names file, line and column, and never a cell.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from federated.tasks.scoring import ANSWERS, FEATURE, INTERCEPT, WEIGHT
from marketplace.cli import arguments as args
from marketplace.cli.arguments import ArgumentError
from marketplace.scoring import Rows

SCORE = """\
rongshu job score --home lab --rows patients.csv --name "ward 3" \\
      --purpose 'cardiology research' --answer probability --wait"""
MODEL = "rongshu job model --home lab --out model.csv overview"
FROM_FIT = "logistic"
"""The task whose results hold a model."""

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def add_score_arguments(score: argparse.ArgumentParser) -> None:
    """Add what `rongshu job score` takes."""
    args.of_party(score)
    score.add_argument("--name", required=True, help="for people")
    score.add_argument("--purpose", required=True, help="one that the agreement permits")
    score.add_argument(
        "--rows",
        required=True,
        type=Path,
        metavar="FILE",
        help="CSV with a header; its columns are encrypted here and never leave in the clear",
    )
    score.add_argument(
        "--features",
        metavar="A,B,…",
        help="the columns that the model takes (default: all of the file)",
    )
    score.add_argument(
        "--answer",
        choices=ANSWERS,
        default=ANSWERS[0],
        help="linear predictors, or probabilities of a logistic model (default: %(default)s)",
    )
    score.add_argument("--agreement", metavar="ID", help="run under this one")
    score.add_argument("--wait", action="store_true", help="wait, then print the checked scores")


def read_rows(path: Path, features: Sequence[str] | None) -> tuple[tuple[str, ...], Rows]:
    """Read the columns of a CSV file that a model takes.

    Args:
        path: of the file, UTF-8 with a header.
        features: the columns; None for all of them.

    Returns:
        Their names, and float64[rows, features].

    Raises:
        ArgumentError: it cannot be read, or a cell is no finite number.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ArgumentError(f"--rows: {path} is not UTF-8") from None
    except OSError as error:
        raise ArgumentError(f"--rows: {path}: {error.strerror}") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        records = [(reader.line_num, record) for record in reader if record]
    except csv.Error:
        raise ArgumentError(
            f"--rows: {path}: a quotation mark out of place after line {reader.line_num}"
        ) from None
    if len(records) < 2:
        raise ArgumentError(f"--rows: {path}: a header and at least one row are needed")
    header = [cell.strip() for cell in records[0][1]]
    names = tuple(header if features is None else features)
    for name in names:
        if header.count(name) != 1:
            raise ArgumentError(f"--rows: {path}: the header names {name!r} not exactly once")
    places = [header.index(name) for name in names]
    rows = []
    for line, record in records[1:]:
        if len(record) != len(header):
            raise ArgumentError(
                f"--rows: {path}, line {line}: {len(record)} cells instead of {len(header)}"
            )
        cells = zip(names, (record[at].strip() for at in places), strict=True)
        rows.append(
            [_number(f"--rows: {path}, line {line}, {name!r}", cell) for name, cell in cells]
        )
    return names, np.array(rows, dtype=np.float64)


def scores_text(result: Mapping[str, Any], answer: str) -> str:
    """Return scores as CSV: one column, named by what they are, in the order of the rows."""
    return "\n".join([answer, *(repr(score) for score in result["scores"])]) + "\n"


def write_model(path: Path, result: Mapping[str, Any]) -> int:
    """Write the model that a regression found as a file that can be listed; return its features.

    Args:
        path: of a new file.
        result: of a `logistic` job, verified.

    Raises:
        ArgumentError: the file exists, or cannot be written.
    """
    found = dict(result["coefficients_original"])
    intercept = found.pop("intercept")
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([FEATURE, WEIGHT])
            writer.writerow([INTERCEPT, repr(intercept)])
            writer.writerows([name, repr(weight)] for name, weight in found.items())
    except OSError as error:
        raise ArgumentError(f"--out: {path}: {error.strerror}") from error
    return len(found)


def _number(where: str, cell: str) -> float:
    number = float(cell) if _NUMBER.fullmatch(cell) else math.nan
    if not math.isfinite(number):
        raise ArgumentError(f"{where}: a finite number is needed")
    return number
