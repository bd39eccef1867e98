r"""Reads CSV and Parquet strictly, from bytes that the vault has already opened.

A file is read whole or refused: a wrong number of cells, a quote that never closes, bytes that are
not UTF-8, a NUL, a column named twice, a column that is declared but absent, an infinite number.
An error names file, line and column and never a cell, because error texts leave the node.

    spec = ReadingSpec(header=False, columns=("age", "sex"), missing=("?",))
    table = read_table(b"63,1\n67,?\n", spec, "heart.csv")
    table.column("sex").missing        # array([False, True])

A column is "integer" if every value is a whole number within ±(2^53 - 1) ("63.0" too, and a column
without any value), "number" if every value is a finite number, else "text". Whole numbers longer
than that are identifiers, which float64 would change: such a column is text. Cells are compared
without the blanks around them. A number is written in ASCII digits with an optional sign, point
and exponent, as in RFC 8259 but leading zeros and points are allowed.
"""

import csv
import io
import math
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import duckdb
import fsspec
import numpy as np
import numpy.typing as npt

from federated.errors import TableError, suggestion
from federated.plan import THREADS, ColumnType

DEFAULT_MISSING = ("", "NA")
"""The empty cell, and R's marker. "?" or "nan" count only where the reading spec lists them."""

LARGEST_INTEGER = (1 << 53) - 1
"""Every whole number up to here is exact in float64."""

_MOST_COLUMNS = 10_000
_INTEGER = re.compile(r"[+-]?[0-9]+\Z")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"[+-]?(inf|infinity|nan)\Z", re.IGNORECASE)
_SPEC_KEYS = ("format", "header", "columns", "missing", "delimiter")
_LIKE_A_NUMBER = re.compile(r"[+-]?[0-9.,]*[0-9][0-9.,]*([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class ReadingSpec:
    """How a data file is to be read.

    Attributes:
        format: csv or parquet.
        header: Whether the first CSV line names the columns.
        columns: The columns' names, needed without a header; with one (and for Parquet), the
            columns to read, in this order. None reads all.
        missing: Cells that mean "no value".
        delimiter: One character between cells.
    """

    format: Literal["csv", "parquet"] = "csv"
    header: bool = True
    columns: tuple[str, ...] | None = None
    missing: tuple[str, ...] = DEFAULT_MISSING
    delimiter: str = ","

    @classmethod
    def parse(cls, given: Any) -> "ReadingSpec":
        """Reads unverified TOML or JSON.

        Raises:
            TableError: Naming the key.
        """
        place = "reading spec"
        if not isinstance(given, Mapping):
            raise TableError(place, "a table of keys is needed")
        for key in given:
            if key not in _SPEC_KEYS:
                raise TableError(place, f"unknown key {key!r}{suggestion(str(key), _SPEC_KEYS)}")
        form, header = given.get("format", "csv"), given.get("header", True)
        if form not in ("csv", "parquet"):
            raise TableError(place, "format: csv or parquet")
        if not isinstance(header, bool):
            raise TableError(place, "header: true or false")
        columns = given.get("columns")
        columns = None if columns is None else _texts("columns", columns)
        if columns is not None:
            _distinct(place, columns, None)
        if form == "csv" and not header and not columns:
            raise TableError(place, "columns: without a header the columns' names are needed")
        delimiter = given.get("delimiter", ",")
        if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n\0 ':
            raise TableError(place, 'delimiter: one character, e.g. "," or ";"')
        missing = _texts("missing", given.get("missing", DEFAULT_MISSING))
        return cls(form, header, columns, missing, delimiter)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON; `parse` reads it back."""
        return {
            "format": self.format,
            "header": self.header,
            "columns": None if self.columns is None else list(self.columns),
            "missing": list(self.missing),
            "delimiter": self.delimiter,
        }


@dataclass(frozen=True, eq=False)
class Column:
    """One column.

    Attributes:
        name: Unique in its table.
        type: integer, number or text.
        values: float64[n] with nan where missing, or object[n] of texts with "" where missing.
        missing: bool[n].
        misfits: For text, how many of its values are in the minority of numbers or non-numbers:
            0 for pure text, small for a column of numbers with a few mistakes.
        first_text_line: For text, the line of the first value that is no number.
    """

    name: str
    type: ColumnType
    values: npt.NDArray[Any]
    missing: npt.NDArray[np.bool_]
    misfits: int = 0
    first_text_line: int | None = None


@dataclass(frozen=True, eq=False)
class Table:
    """A data file in memory: its name for errors, its columns, its number of rows."""

    file: str
    columns: tuple[Column, ...]
    rows: int
    lines: Sequence[int]
    """The file's line (for Parquet, the row from 1) at which each row ends."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """Returns a column.

        Raises:
            TableError: If there is none of that name, naming the nearest.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise TableError(self.file, f"no column {name!r}{suggestion(name, self.names)}")


def read_table(data: bytes, spec: ReadingSpec, file: str) -> Table:
    """Reads a data file's bytes.

    Args:
        data: The whole file.
        spec: How to read it.
        file: Its name, for errors only; nothing is opened.

    Raises:
        TableError: Naming file, line and column.
    """
    if not data:
        raise TableError(file, "the file is empty")
    if spec.format == "parquet":
        return _read_parquet(data, spec, file)
    return _read_csv(data, spec, file)


def _read_csv(data: bytes, spec: ReadingSpec, file: str) -> Table:
    """Reads CSV (RFC 4180, any line ending); blank lines may stand at the end only."""
    records, lines = _records(_decoded(data, file), spec.delimiter, file)
    if spec.header:
        if not records:
            raise TableError(file, "the file has no header line", line=1)
        header, at = [cell.strip() for cell in records[0]], lines[0]
        _refuse_data(file, header, spec.missing, at)
        _distinct(file, header, at)
        if "" in header:
            raise TableError(file, "a column of the header has no name", line=at)
        records, lines = records[1:], lines[1:]
    else:
        header = list(spec.columns or ())
    chosen = header if spec.columns is None else list(spec.columns)
    for name in chosen:
        if name not in header:
            raise TableError(
                file, f"the header lacks the declared column {name!r}{suggestion(name, header)}"
            )
    if not records:
        raise TableError(file, "the file has no rows")
    for at, record in enumerate(records):
        if len(record) != len(header):
            raise TableError(
                file, _cells_message(record, header, last=at == len(records) - 1), line=lines[at]
            )
    columns = tuple(
        _typed(name, [record[at].strip() for record in records], lines, spec.missing, file)
        for name, at in ((name, header.index(name)) for name in chosen)
    )
    return Table(file, columns, len(records), tuple(lines))


def _refuse_data(file: str, header: Sequence[str], missing: Sequence[str], at: int) -> None:
    """Refuses a header that is a row: columns' names are public, its cells must not become so.

    Raises:
        TableError: Without any of the cells.
    """
    if any(_LIKE_A_NUMBER.fullmatch(cell) or (cell and cell in missing) for cell in header):
        raise TableError(
            file,
            "the header holds a number or a missing marker, as a row of data does; if the file has "
            "no header, say header = false and list the columns, else rename that column",
            line=at,
        )


def _cells_message(record: Sequence[str], header: Sequence[str], *, last: bool) -> str:
    """Says how many cells a line has and how many it should, without showing one."""
    message = f"{len(record)} cells instead of {len(header)}"
    if last and len(record) < len(header):
        message += "; the last line looks cut off"
    return message


def _decoded(data: bytes, file: str) -> str:
    """Decodes strict UTF-8, a byte order mark at the start allowed; NUL is refused."""
    at = data.find(b"\0")
    if at >= 0:
        raise TableError(file, "a NUL byte: this is no text file", line=_line_of(data, at))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = _line_of(data, error.start)
    # Raised outside of the handler: the decoder's own error holds the bytes.
    raise TableError(file, "bytes that are not UTF-8; save the file as UTF-8", line=line)


def _line_of(data: bytes, at: int) -> int:
    return data.count(b"\n", 0, at) + 1


def _records(text: str, delimiter: str, file: str) -> tuple[list[list[str]], list[int]]:
    """Splits CSV into records and the line at which each ends.

    Raises:
        TableError: For a quote out of place or never closed.
    """
    records: list[list[str]] = []
    lines: list[int] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    broken = False
    try:
        for record in reader:
            records.append(record)
            lines.append(reader.line_num)
    except csv.Error:
        broken = True
    if broken:
        start = lines[-1] + 1 if lines else 1
        raise TableError(
            file,
            "a quotation mark that is out of place or never closed, or a cell of over 128 KiB, in "
            "the record that starts here",
            line=start,
        )
    while records and not records[-1]:
        records.pop()
        lines.pop()
    return records, lines


def _typed(
    name: str, cells: Sequence[str], lines: Sequence[int], missing: Sequence[str], file: str
) -> Column:
    """Decides a CSV column's type and converts its cells.

    Raises:
        TableError: For an infinite or undefined number in a column of numbers.
    """
    markers = frozenset(missing)
    absent = np.fromiter((cell in markers for cell in cells), np.bool_, len(cells))
    strange: list[int] = []
    undefined: list[int] = []
    numbers = np.full(len(cells), np.nan)
    identifiers = False
    for at in np.flatnonzero(~absent).tolist():
        cell = cells[at]
        if not _NUMBER.match(cell):
            (undefined if _NOT_FINITE.match(cell) else strange).append(at)
            continue
        numbers[at] = float(cell)
        if math.isinf(numbers[at]):
            undefined.append(at)
        elif abs(numbers[at]) > LARGEST_INTEGER and _INTEGER.match(cell):
            identifiers = True
    if strange or identifiers:
        present = len(cells) - int(absent.sum())
        odd = len(strange) + len(undefined)
        texts = np.array(
            ["" if gone else cell for cell, gone in zip(cells, absent, strict=True)], object
        )
        first = lines[strange[0]] if strange else None
        return Column(name, "text", texts, absent, min(odd, present - odd), first)
    if undefined:
        raise TableError(
            file,
            "a number that is infinite, undefined or too large; if it means no value, list it "
            "under `missing`",
            line=lines[undefined[0]],
            column=name,
        )
    return Column(name, _number_type(numbers), numbers, absent)


def _number_type(numbers: npt.NDArray[np.float64]) -> ColumnType:
    """Returns "integer" if every value is whole and exact in float64, else "number"."""
    present = numbers[~np.isnan(numbers)]
    whole = (present == np.floor(present)) & (np.abs(present) <= LARGEST_INTEGER)
    return "integer" if bool(whole.all()) else "number"


def _texts(key: str, given: Any) -> tuple[str, ...]:
    """Returns a list of texts from unverified input."""
    if not isinstance(given, list | tuple) or not all(isinstance(item, str) for item in given):
        raise TableError("reading spec", f"{key}: a list of texts is needed")
    return tuple(given)


def _distinct(file: str, names: Sequence[str], line: int | None) -> None:
    """Checks that columns are named once each, and that there are not too many."""
    if len(names) > _MOST_COLUMNS:
        raise TableError(file, f"more than {_MOST_COLUMNS} columns", line=line)
    for at, name in enumerate(names):
        if name in names[:at]:
            raise TableError(file, "a column of this name stands twice", line=line, column=name)


def _read_parquet(data: bytes, spec: ReadingSpec, file: str) -> Table:
    """Reads Parquet with DuckDB out of memory: no path is given, so none can be followed."""
    name = f"rongshu-{uuid.uuid4().hex}.parquet"
    memory = fsspec.filesystem("memory")
    memory.pipe_file(f"/{name}", data)
    connection = duckdb.connect(config={"threads": THREADS})
    failed = False
    try:
        connection.register_filesystem(memory)
        connection.execute(
            # The name is ours: digits and a fixed word.
            f"create table asset as select * from read_parquet('memory:///{name}')"  # noqa: S608
        )
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        described = connection.execute("describe asset").fetchall()
        header = [str(row[0]) for row in described]
        kinds = {str(row[0]): str(row[1]) for row in described}
        fetched = _fetch(connection, spec, header, kinds, file)
    except duckdb.Error:
        failed = True
    finally:
        connection.close()
        memory.rm_file(f"/{name}")
    if failed:
        # Raised outside of the handler: DuckDB's own message may show a value.
        raise TableError(file, "not a Parquet file that can be read; it may be cut off")
    rows = len(fetched[0].values) if fetched else 0
    if not rows:
        raise TableError(file, "the file has no rows")
    return Table(file, tuple(fetched), rows, range(1, rows + 1))


_NUMERIC = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL.*|BOOLEAN)\Z")
_PLAIN = re.compile(r"(VARCHAR|DATE|TIME.*|UUID|INTERVAL|ENUM.*)\Z")


def _fetch(
    connection: duckdb.DuckDBPyConnection,
    spec: ReadingSpec,
    header: Sequence[str],
    kinds: Mapping[str, str],
    file: str,
) -> list[Column]:
    """Reads the chosen columns of the table `asset`; Parquet's own types decide what is text.

    Raises:
        TableError: For an absent column, a nested type, or an infinite number.
    """
    columns: list[Column] = []
    for name in header if spec.columns is None else spec.columns:
        if name not in kinds:
            raise TableError(file, f"no column {name!r}{suggestion(name, header)}")
        kind = kinds[name]
        if not (_NUMERIC.match(kind) or _PLAIN.match(kind)):
            raise TableError(file, "nested or binary values are not supported", column=name)
        quoted = '"' + name.replace('"', '""') + '"'
        gone = f"{quoted} is null or list_contains(?::varchar[], trim({quoted}::varchar))"
        absent = _vector(connection, gone, [list(spec.missing)]).astype(np.bool_)
        if _NUMERIC.match(kind):
            numbers = _vector(connection, f"coalesce({quoted}::double, 'nan'::double)", [])
            column = _parquet_numbers(name, numbers, absent, file)
            long = bool((np.abs(numbers[~absent]) > LARGEST_INTEGER).any())
            if "INT" not in kind or not long:
                columns.append(column)
                continue
        texts = _vector(connection, f"coalesce(trim({quoted}::varchar), '')", []).astype(object)
        texts[absent] = ""
        columns.append(Column(name, "text", texts, absent))
    return columns


def _vector(
    connection: duckdb.DuckDBPyConnection, expression: str, values: list[Any]
) -> npt.NDArray[Any]:
    """Computes an expression without nulls over the table `asset`, in the file's order."""
    # The expression is built above, from quoted column names and fixed words.
    query = f"select {expression} as v from asset order by rowid"  # noqa: S608
    return np.array(connection.execute(query, values).fetchnumpy()["v"])


def _parquet_numbers(
    name: str, numbers: npt.NDArray[np.float64], absent: npt.NDArray[np.bool_], file: str
) -> Column:
    """Builds a numeric column; null and the missing markers are no value.

    Raises:
        TableError: For an infinite or undefined number.
    """
    numbers[absent] = np.nan
    unusable = ~absent & ~np.isfinite(numbers)
    if unusable.any():
        raise TableError(
            file,
            "a number that is infinite or undefined; if it means no value, list it under `missing`",
            line=int(np.argmax(unusable)) + 1,
            column=name,
        )
    return Column(name, _number_type(numbers), numbers, absent)
