"""Measures a table for its data card: schema, size, gaps and what quality can be computed.

The measurement is public, so it holds no value of any row: no least, largest or mean value. A
column's magnitude is the one exception in spirit: the smallest whole k >= -64 with every
|x| <= 2^k, which tells the size of the largest value to a factor of two and lets every party bound
its sums. There are no floats: shares are in parts per million, rounded down.

    payload = measure(table, content_digest)
"""

import math
from typing import Any

import numpy as np

from federated.node.table import Column, Table
from ledger.record import PPM
from ledger.statements import Quality

LEAST_MAGNITUDE = -64

NOT_ASSESSED = ("accuracy", "timeliness", "representativeness", "provenance", "fitness for use")
"""What nothing in the file itself can tell."""


def measure(table: Table, content_digest: str) -> dict[str, Any]:
    """Returns the payload of a measurement statement.

    Args:
        table: The asset as read.
        content_digest: Digest of the file's bytes, as the vault gave it.

    Returns:
        {"rows", "columns": [{"name", "type", "missing", "magnitude"}], "content_digest",
        "quality": {"completeness_ppm", "duplicate_rows_ppm", "consistency_ppm", "score_ppm",
        "formula", "not_assessed"}}; whole numbers and texts only.
    """
    return {
        "rows": table.rows,
        "columns": [
            {
                "name": column.name,
                "type": column.type,
                "missing": int(column.missing.sum()),
                "magnitude": magnitude(column),
            }
            for column in table.columns
        ],
        "content_digest": content_digest,
        "quality": _quality(table),
    }


def magnitude(column: Column) -> int | None:
    """Returns the smallest whole k >= -64 with every |x| <= 2^k; None for text or no value.

    A column of zeros has 0.
    """
    if column.type == "text" or column.missing.all():
        return None
    largest = float(np.nanmax(np.abs(column.values)))
    if largest == 0.0:
        return 0
    # largest = fraction * 2^exponent with 1/2 <= fraction < 1, and 2^(exponent-1) needs one less.
    fraction, exponent = math.frexp(largest)
    return max(LEAST_MAGNITUDE, exponent - 1 if fraction == 0.5 else exponent)


def _quality(table: Table) -> dict[str, Any]:
    """Returns the parts that can be computed, their product, and what was not assessed."""
    cells = table.rows * len(table.columns)
    present = cells - sum(int(column.missing.sum()) for column in table.columns)
    completeness = _share(present, cells)
    duplicates = _share(table.rows - _distinct_rows(table), table.rows)
    consistency = _share(present - sum(column.misfits for column in table.columns), present)
    return Quality.of(
        completeness_ppm=completeness,
        duplicate_rows_ppm=duplicates,
        consistency_ppm=consistency,
        not_assessed=NOT_ASSESSED,
    ).payload()


def _share(part: int, whole: int) -> int:
    """Returns parts per million, rounded down; nothing of nothing is whole."""
    return part * PPM // whole if whole else PPM


def _distinct_rows(table: Table) -> int:
    """Counts rows that differ in at least one cell; missing equals missing.

    Each column's distinct cells are numbered, and the numbers of a row are folded into one: codes
    stay below rows, so a product of two stays far inside an int64.
    """
    codes = np.zeros(table.rows, dtype=np.int64)
    for column in table.columns:
        cells = np.unique(column.values, return_inverse=True)[1] * 2 + column.missing
        codes = np.unique(codes * (2 * table.rows) + cells, return_inverse=True)[1]
    return int(codes.max()) + 1
