import io
from typing import Any

import duckdb
import fsspec
import numpy as np
import pytest

from federated.errors import TableError
from federated.node.table import ReadingSpec, read_table

SECRET = "7731"


def read(text: str, **spec: Any):
    data = text if isinstance(text, bytes) else text.encode()
    return read_table(data, ReadingSpec.parse(spec), "f.csv")


def parquet(query: str):
    memory, connection = fsspec.filesystem("memory"), duckdb.connect()
    connection.register_filesystem(memory)
    connection.execute(f"copy ({query}) to 'memory:///made.parquet' (format parquet)")
    connection.close()
    data = memory.cat_file("/made.parquet")
    memory.rm_file("/made.parquet")
    return data


def test_types_and_missing():
    table = read("i,w,n,t,e\n1,63.0,.5,a,\n-2,64.0,1e3, b ,NA\n")
    assert [column.type for column in table.columns] == [
        "integer",
        "integer",
        "number",
        "text",
        "integer",
    ]
    assert table.column("t").values.tolist() == ["a", "b"]
    assert table.column("e").missing.all()
    assert table.column("n").values.tolist() == [0.5, 1000.0]


def test_missing_markers_are_the_ones_listed():
    assert read("a\n1\n?\n", missing=["?"]).column("a").missing.tolist() == [False, True]
    assert read("a\n1\n?\n").column("a").type == "text"


def test_without_a_header():
    table = read("1;2\n3;4\n", header=False, columns=["a", "b"], delimiter=";")
    assert table.names == ("a", "b")
    assert table.rows == 2


def test_declared_columns_choose_and_order():
    assert read("a,b,c\n1,2,3\n", columns=["c", "a"]).names == ("c", "a")


def test_quotes_byte_order_mark_line_endings_and_blank_end():
    table = read(b'\xef\xbb\xbfa,b\r\n"x, ""y""\nz",2\r\nw,3\n\n')
    assert table.column("a").values.tolist() == ['x, "y"\nz', "w"]
    assert table.lines == (3, 4)


def test_long_whole_numbers_are_identifiers():
    assert read("id\n110101199003077731\n110101199003077732\n").column("id").type == "text"


@pytest.mark.parametrize(
    "cell", ["2026-12-01", "5279-9544", "12 Elm Street", "7th", "1,000", "1.2.3", "3 kg", "1e"]
)
def test_text_that_begins_like_a_number_is_text(cell: str):
    # A pattern for headers once stood in the place of that for cells: reading ended with an
    # untyped error that quoted the cell.
    column = read(f'a,b\n"{cell}",1\n5,2\n').column("a")
    assert (column.type, column.values.tolist()) == ("text", [cell, "5"])


def test_words_like_nan_may_stand_in_text():
    assert read("name\nNan\nInf\nAnn\n").column("name").type == "text"


@pytest.mark.parametrize(
    ("data", "line", "column", "says"),
    [
        ("", None, None, "empty"),
        ("a,b\n", None, None, "no rows"),
        (f"a,b\n1,2\n{SECRET}\n3,4\n", 3, None, "1 cells instead of 2"),
        (f"a,b\n1,2\n3,4,{SECRET}\n", 3, None, "3 cells instead of 2"),
        (f"a,b\n1,2\n{SECRET}", 3, None, "cut off"),
        (f"a,b\n\n1,{SECRET}\n", 2, None, "0 cells instead of 2"),
        (f'a,b\n1,2\n3,"{SECRET}\n5,6\n', 3, None, "never closed"),
        (f'a,b\n1,"2"{SECRET}\n', 2, None, "out of place"),
        (b"a,b\n1,2\n7731\xff,4\n", 3, None, "UTF-8"),
        (b"a,b\n1,2\n7731\0,4\n", 3, None, "NUL"),
        ("a,b,a\n1,2,3\n", 1, "a", "twice"),
        ("a,,c\n1,2,3\n", 1, None, "no name"),
        (f"a,b\n{SECRET},inf\n1,2\n", 2, "b", "infinite"),
        (f"a,b\n1,2\n{SECRET},-NaN\n", 3, "b", "missing"),
        (f"a,b\n1,2\n{SECRET},1e999\n", 3, "b", "too large"),
    ],
)
def test_a_bad_file_is_refused_with_its_place_and_no_cell(
    data: Any, line: int | None, column: str | None, says: str
):
    with pytest.raises(TableError, match=says) as caught:
        read(data)
    assert (caught.value.file, caught.value.line, caught.value.column) == ("f.csv", line, column)
    assert SECRET not in str(caught.value)
    # Nothing chained beneath it may show a cell either: logs print causes.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_declared_column_that_the_header_lacks():
    with pytest.raises(TableError, match="declared column 'aeg'; did you mean 'age'"):
        read("age,b\n1,2\n", columns=["aeg"])


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"heder": True}, "'header'"),
        ({"header": "yes"}, "header"),
        ({"header": False}, "columns"),
        ({"columns": ["a", "a"]}, "twice"),
        ({"columns": "a"}, "columns"),
        ({"missing": [1]}, "missing"),
        ({"delimiter": ",,"}, "delimiter"),
        ({"format": "xls"}, "format"),
        (1, "table"),
    ],
)
def test_a_bad_reading_spec_is_refused(spec: Any, says: str):
    with pytest.raises(TableError, match=says):
        ReadingSpec.parse(spec)


def test_a_reading_spec_reads_back():
    spec = ReadingSpec.parse({"header": False, "columns": ["a"], "missing": ["?"]})
    assert ReadingSpec.parse(spec.to_json()) == spec


def test_an_unknown_column_names_the_nearest():
    with pytest.raises(TableError, match="did you mean 'age'"):
        read("age\n1\n").column("aeg")


def test_parquet():
    data = parquet(
        "select * from (values (1, 0.5::double, 'a', true, date '2020-01-02', 1::bigint),"
        " (null, 2.0, null, false, null, 110101199003077731)) t(i, n, t, b, d, h)"
    )
    table = read(data, format="parquet")
    types = {column.name: column.type for column in table.columns}
    assert types == {
        "i": "integer",
        "n": "number",
        "t": "text",
        "b": "integer",
        "d": "text",
        "h": "text",
    }
    assert table.column("i").missing.tolist() == [False, True]
    np.testing.assert_array_equal(table.column("b").values, [1.0, 0.0])
    assert read(data, format="parquet", columns=["n", "i"]).names == ("n", "i")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("select 'inf'::double as x", "infinite"),
        ("select 'nan'::double as x", "infinite"),
        ("select [1, 2] as x", "nested"),
        ("select 1 as x where false", "no rows"),
    ],
)
def test_bad_parquet_is_refused(query: str, says: str):
    with pytest.raises(TableError, match=says):
        read(parquet(query), format="parquet")


def test_a_damaged_parquet_file_is_refused_and_leaves_nothing_in_memory():
    data = parquet("select range as x, '7731' as t from range(100)")
    for cut in (data[:-20], data[20:], b"PAR1", io.BytesIO(data).read(len(data) // 2)):
        with pytest.raises(TableError) as caught:
            read(cut, format="parquet")
        assert SECRET not in str(caught.value)
        assert caught.value.__context__ is None
    left = [name for name in fsspec.filesystem("memory").store if "rongshu-" in name]
    assert left == []


def test_an_absent_parquet_column_is_refused():
    with pytest.raises(TableError, match="did you mean"):
        read(parquet("select 1 as age"), format="parquet", columns=["agee"])
