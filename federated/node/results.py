"""What a job leaves at a node for its provider: which of the node's own rows are in the result.

Such a list never leaves the node. It is written before the reply that tells the others that this
node's part is over, so that a crash in between leaves a list and no job, never a job without its
list. One CSV file for each job, readable by its owner alone (0600):

    line,id
    17,110101199003078312

`line` is the line of the row in the asset's own file; the columns are those that identified it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from federated.node.rows import Positions, Rows
from ledger import durable

FOLDER = "results"


def keep(path: Path, rows: Rows, which: str, kept: Positions, columns: Sequence[str]) -> None:
    """Write the list of one job.

    Args:
        path: the file; its folder is made when there is none.
        rows: the asset's.
        which: the choice of rows that took part.
        kept: positions among those.
        columns: names of the identifying columns.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["line", *columns])
    cells = [rows.texts(name, which, gaps=True) for name in columns]
    lines = rows.file_lines(kept, which)
    writer.writerows(
        [line, *(column[at] for column in cells)] for line, at in zip(lines, kept, strict=True)
    )
    path.parent.mkdir(mode=0o700, exist_ok=True)
    durable.replace(path, text.getvalue().encode(), mode=0o600)


def file_of(folder: Path, job_id: str) -> Path:
    """Return the file of a job's list, in a node's folder."""
    return folder / FOLDER / f"{job_id.rpartition(':')[2]}.csv"


def files(folder: Path) -> list[Path]:
    """Return the lists in a node's folder, the newest first."""
    return sorted((folder / FOLDER).glob("*.csv"), key=lambda path: path.stat().st_mtime)[::-1]


def count(path: Path) -> int:
    """Return how many rows a list has."""
    with path.open(newline="") as file:
        return sum(1 for _ in csv.reader(file)) - 1
