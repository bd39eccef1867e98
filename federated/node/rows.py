"""Applies a preparation to a table: which rows count, which are for training, which features.

    rows = prepare(table, preparation)
    rows.matrix(("age", "cp_2"), "train")     # float64[n, 2]
    rows.labels("train")                      # float64[n] of zeros and ones

The row choices: "all" is every row of the file; "complete" those without a missing value in any
column that is not dropped; "train" and "test" divide the complete rows if the preparation keeps
only those, else all rows. Without a split every such row is for training.

The split is that of `federated.node.split`, the same as scikit-learn's `train_test_split`.
"""

import re
from collections.abc import Mapping
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from federated.errors import RowsError, suggestion
from federated.node.split import divide
from federated.node.table import Column, Table
from federated.preparation import Label, Preparation, Split, feature_name

_WHOLE = re.compile(r"[+-]?[0-9]{1,1000}")

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]


class Rows:
    """The prepared rows of one asset; built by `prepare`, read by tasks."""

    def __init__(
        self,
        table: Table,
        preparation: Preparation,
        positions: Mapping[str, Positions],
        features: Mapping[str, Floats],
        labels: Floats | None,
    ) -> None:
        """Takes positions per row choice, one-hot features and labels over all raw rows."""
        self._table, self._preparation = table, preparation
        self._positions, self._features, self._labels = positions, features, labels

    def count(self, which: str) -> int:
        """Returns how many rows a choice has."""
        return len(self._chosen(which))

    def column(self, name: str, which: str) -> Floats:
        """Returns a raw column or a feature over the chosen rows.

        Returns:
            float64[n], nan where missing.

        Raises:
            RowsError: unknown_column, or not_numeric naming the first line that is no number.
        """
        return self._numbers(name)[self._chosen(which)]

    def matrix(self, features: tuple[str, ...], which: str) -> Floats:
        """Returns features over the chosen rows.

        Returns:
            float64[n, d]

        Raises:
            RowsError: As `column`, and missing_values naming the column.
        """
        columns = [self.column(name, which) for name in features]
        for name, values in zip(features, columns, strict=True):
            if np.isnan(values).any():
                raise RowsError(
                    "missing_values",
                    name,
                    f"column {name!r} has missing values in the {which} rows; set complete_rows "
                    "in the preparation, or leave the column out",
                )
        return np.column_stack(columns) if columns else np.zeros((self.count(which), 0))

    def labels(self, which: str) -> Floats:
        """Returns the labels of the chosen rows.

        Returns:
            float64[n] of zeros and ones.

        Raises:
            RowsError: no_label, or missing_values.
        """
        if self._labels is None or self._preparation.label is None:
            raise RowsError("no_label", None, "the preparation names no label")
        labels = self._labels[self._chosen(which)]
        if np.isnan(labels).any():
            column = self._preparation.label.column
            raise RowsError(
                "missing_values",
                column,
                f"the label's column {column!r} has missing values; set complete_rows",
            )
        return labels

    def texts(self, name: str, which: str, *, gaps: bool = False) -> list[str]:
        """Returns the cells of a raw column over the chosen rows, as an identifier is made of them.

        A whole number is its decimal digits, whatever zeros or signs the file writes before it, in
        a column of text too: whether other cells are numbers must not matter.

        Args:
            name: The column.
            which: The choice of rows.
            gaps: Whether a missing value is an empty text; otherwise it is refused.

        Returns:
            n texts.

        Raises:
            RowsError: unknown_column, or missing_values or not_whole naming the column: a number
                with a point may be written in many ways.
        """
        column, chosen = _column(self._table, name), self._chosen(which)
        missing = column.missing[chosen]
        if missing.any() and not gaps:
            raise RowsError(
                "missing_values",
                name,
                f"column {name!r} has missing values in the {which} rows, which then have no "
                "identifier; set complete_rows in the preparation",
            )
        if column.type == "number":
            raise RowsError(
                "not_whole",
                name,
                f"column {name!r} holds numbers that are not whole; they identify nobody",
            )
        cells = column.values[chosen].tolist()
        return [
            "" if absent else _digits(cell) for cell, absent in zip(cells, missing, strict=True)
        ]

    def file_lines(self, positions: Positions, which: str) -> list[int]:
        """Returns the file's line of each of the chosen rows' `positions`."""
        lines, chosen = self._table.lines, self._chosen(which)
        return [lines[chosen[at]] for at in positions]

    def row_set(self, which: str) -> bytes:
        """Returns the chosen rows as a bitmap over the file's rows, first row in the highest bit.

        The guard compares these to refuse a row set that is nearly an answered one.
        """
        bits = np.zeros(self._table.rows, dtype=np.bool_)
        bits[self._chosen(which)] = True
        return np.packbits(bits).tobytes()

    def _chosen(self, which: str) -> Positions:
        if which not in self._positions:
            raise RowsError(
                "unknown_column",
                None,
                f"no row choice {which!r}{suggestion(which, self._positions)}",
            )
        return self._positions[which]

    def _numbers(self, name: str) -> Floats:
        """Returns a feature or a raw numeric column over all rows."""
        if name in self._features:
            return self._features[name]
        return _numbers(self._table, name)


def prepare(table: Table, preparation: Preparation) -> Rows:
    """Applies a preparation.

    Args:
        table: The asset.
        preparation: The agreed row selection.

    Raises:
        RowsError: unknown_column, not_numeric, undeclared_level, missing_values or no_label;
            naming the column, never a value.
    """
    named = [*preparation.drop, *(column for column, _ in preparation.one_hot)]
    if preparation.label:
        named.append(preparation.label.column)
    for name in named:
        _column(table, name)
    every = np.arange(table.rows)
    kept = preparation.kept(table.names)
    gaps = np.zeros(table.rows, dtype=np.bool_)
    for name in kept:
        gaps |= _column(table, name).missing
    complete = np.flatnonzero(~gaps)
    usable = complete if preparation.complete_rows else every
    features: dict[str, Floats] = {}
    for name, levels in preparation.one_hot:
        features |= _one_hot(table, _column(table, name), levels, usable)
    labels = None if preparation.label is None else _label(table, preparation.label)
    train, test = _divide(preparation, labels, usable)
    positions = {"all": every, "complete": complete, "train": train, "test": test}
    return Rows(table, preparation, positions, features, labels)


def row_set_distance(first: bytes, second: bytes) -> int:
    """Returns in how many rows two bitmaps of the same asset differ.

    Raises:
        RowsError: row_set_mismatch, if they are of files with different numbers of rows.
    """
    if len(first) != len(second):
        raise RowsError("row_set_mismatch", None, "these row sets are not of the same asset")
    return (int.from_bytes(first, "big") ^ int.from_bytes(second, "big")).bit_count()


def _digits(cell: str | float) -> str:
    """Returns a cell as text, a whole number without zeros or sign before it."""
    if isinstance(cell, str) and not _WHOLE.fullmatch(cell):
        return cell
    return str(int(cell))


def _column(table: Table, name: str) -> Column:
    if name not in table.names:
        raise RowsError(
            "unknown_column",
            name,
            f"{table.file} has no column {name!r}{suggestion(name, table.names)}",
        )
    return table.column(name)


def _numbers(table: Table, name: str) -> Floats:
    """Returns a numeric column over all rows, float64[n] with nan where missing."""
    column = _column(table, name)
    if column.type == "text":
        where = (
            "" if column.first_text_line is None else f" (first at line {column.first_text_line})"
        )
        raise RowsError(
            "not_numeric",
            name,
            f"{table.file}: column {name!r} holds text{where}; numbers are needed",
        )
    return column.values


def _one_hot(
    table: Table, column: Column, levels: tuple[int | str, ...], usable: Positions
) -> dict[str, Floats]:
    """Expands declared levels to features of zeros and ones, the first level having none.

    Raises:
        RowsError: undeclared_level, if a usable row holds another value.
    """
    # Numbers are compared as numbers, so that a level 2 meets a cell "2.0".
    texts = column.type == "text"
    known = [str(level) if texts else _level_number(column.name, level) for level in levels]
    hits = [column.values == level for level in known]
    declared = np.logical_or.reduce([*hits, column.missing])
    strange = usable[~declared[usable]]
    if len(strange):
        raise RowsError(
            "undeclared_level",
            column.name,
            f"{table.file}, line {table.lines[strange[0]]}: column {column.name!r} holds a level "
            "that the preparation does not declare; add it under one_hot",
        )
    return {
        feature_name(column.name, level): np.where(column.missing, np.nan, hit.astype(np.float64))
        for level, hit in zip(levels[1:], hits[1:], strict=True)
    }


def _level_number(column: str, level: int | str) -> float:
    try:
        return float(level)
    except ValueError:
        raise RowsError(
            "not_numeric", column, f"column {column!r} holds numbers, its declared levels do not"
        ) from None


def _label(table: Table, label: Label) -> Floats:
    """Returns 1 where the column exceeds the limit, 0 elsewhere, nan where missing."""
    values = _numbers(table, label.column)
    above = (values > float(Decimal(label.above))).astype(np.float64)
    labels: Floats = np.where(np.isnan(values), np.nan, above)
    return labels


def _divide(
    preparation: Preparation, labels: Floats | None, usable: Positions
) -> tuple[Positions, Positions]:
    """Returns the positions of training and test rows, in the split's own order.

    Raises:
        RowsError: missing_values, if the split is by labels that some row lacks.
    """
    split = preparation.split
    if split is None:
        return usable, usable[:0]
    if len(usable) < 2:
        # There is nothing to divide: one row can only be for training.
        return usable, usable[:0]
    strata = None
    if split.stratify and labels is not None:
        strata = labels[usable]
        if np.isnan(strata).any():
            raise RowsError("missing_values", None, "stratifying needs a label in every row")
    if strata is not None and not _can_stratify(strata, split, len(usable)):
        strata = None
    train, test = divide(len(usable), split.train, seed=split.seed, strata=strata)
    return usable[train], usable[test]


def _can_stratify(strata: Floats, split: Split, rows: int) -> bool:
    """Says whether every class has enough rows, and each part room for every class."""
    sizes = np.unique(strata, return_counts=True)[1]
    if int(sizes.min()) <= max(1, split.unless_class_at_most):
        return False
    train = int(float(split.train) * rows)
    return min(train, rows - train) >= len(sizes)
