from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from federated.errors import RowsError
from federated.node.rows import prepare, row_set_distance
from federated.node.table import ReadingSpec, read_table
from federated.preparation import Preparation
from tests.cohort import FLAMBY, Cohort


def rows(text: str, **preparation: Any):
    return prepare(
        read_table(text.encode(), ReadingSpec(), "f.csv"), Preparation.parse(preparation)
    )


def test_flamby_protocol_on_the_hospitals():
    prepared = Cohort.hospitals().rows()
    found = {
        name: tuple(one.count(which) for which in ("complete", "train", "test"))
        for name, one in prepared.items()
    }
    assert found == {
        "cleveland": (303, 199, 104),
        "hungarian": (261, 172, 89),
        "switzerland": (46, 30, 16),
        "va": (130, 85, 45),
    }
    # Switzerland's training rows are of one class, and so not stratified.
    assert prepared["switzerland"].labels("train").sum() == 30


def test_the_split_is_scikit_learns():
    prepared = Cohort.hospitals().rows()["va"]
    labels, ages = prepared.labels("complete"), prepared.column("age", "complete")
    train, test = train_test_split(
        np.arange(130),
        train_size=0.66,
        test_size=1 - 0.66,
        random_state=43,
        shuffle=True,
        stratify=labels,
    )
    np.testing.assert_array_equal(prepared.column("age", "train"), ages[train])
    np.testing.assert_array_equal(prepared.column("age", "test"), ages[test])


def test_another_seed_is_another_row_set():
    first = Cohort.hospitals().rows()["va"]
    other = Cohort.hospitals({**FLAMBY, "split": {**FLAMBY["split"], "seed": 44}}).rows()["va"]
    assert row_set_distance(first.row_set("train"), first.row_set("train")) == 0
    assert row_set_distance(first.row_set("train"), other.row_set("train")) > 10
    assert row_set_distance(first.row_set("train"), first.row_set("complete")) == 45
    assert len(first.row_set("all")) == 25


def test_row_sets_of_different_files_are_not_compared():
    with pytest.raises(RowsError) as caught:
        row_set_distance(b"a", b"ab")
    assert caught.value.reason == "row_set_mismatch"


def test_features_and_labels():
    made = rows(
        "cp,x,num\n1,5,0\n2.0,6,1\n3,NA,4\n", one_hot={"cp": [1, 2, 3]}, label={"column": "num"}
    )
    np.testing.assert_array_equal(made.matrix(("cp_2", "cp_3"), "train"), [[0, 0], [1, 0], [0, 1]])
    np.testing.assert_array_equal(made.labels("train"), [0, 1, 1])
    np.testing.assert_array_equal(made.column("x", "all"), [5, 6, np.nan])
    assert made.count("complete") == 2
    assert made.count("train") == 3
    assert made.count("test") == 0
    assert made.matrix((), "all").shape == (3, 0)


def test_text_levels():
    made = rows("c\nred\nblue\n", one_hot={"c": ["red", "blue"]})
    np.testing.assert_array_equal(made.matrix(("c_blue",), "all"), [[0], [1]])


def test_an_undeclared_level_names_line_and_column_only():
    with pytest.raises(RowsError, match="line 3: column 'cp'") as caught:
        rows("cp\n1\n7731\n2\n", one_hot={"cp": [1, 2]})
    assert caught.value.reason == "undeclared_level"
    assert "7731" not in str(caught.value)


def test_an_undeclared_level_in_a_left_out_row_does_not_matter():
    made = rows("cp,x\n1,1\n9,NA\n2,3\n", one_hot={"cp": [1, 2]}, complete_rows=True)
    assert made.count("train") == 2


@pytest.mark.parametrize(
    ("preparation", "reason", "column"),
    [
        ({"drop": ["aeg"]}, "unknown_column", "aeg"),
        ({"one_hot": {"cpp": [1, 2]}}, "unknown_column", "cpp"),
        ({"label": {"column": "nun"}}, "unknown_column", "nun"),
        ({"label": {"column": "word"}}, "not_numeric", "word"),
        ({"one_hot": {"age": ["a", "b"]}}, "not_numeric", "age"),
    ],
)
def test_a_preparation_that_does_not_fit(preparation: Any, reason: str, column: str | None):
    with pytest.raises(RowsError) as caught:
        rows("age,num,word\n1,0,x7731\n2,1,y\n", **preparation)
    assert (caught.value.reason, caught.value.column) == (reason, column)
    assert "7731" not in str(caught.value)


def test_a_text_column_says_where_it_starts_to_be_text():
    with pytest.raises(RowsError, match=r"first at line 3"):
        rows("a\n1\nx7731\n").column("a", "all")


def test_missing_values_are_refused_in_a_matrix():
    made = rows("a,n\n1,0\nNA,NA\n", label={"column": "n"})
    with pytest.raises(RowsError, match="'a'") as caught:
        made.matrix(("a",), "train")
    assert caught.value.reason == "missing_values"
    with pytest.raises(RowsError, match="'n'"):
        made.labels("train")


def test_no_label_and_no_such_choice():
    made = rows("a\n1\n2\n")
    with pytest.raises(RowsError) as caught:
        made.labels("train")
    assert caught.value.reason == "no_label"
    with pytest.raises(RowsError, match="did you mean 'train'"):
        made.count("trian")


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_few_rows_are_split_without_a_traceback(count: int):
    text = "a,n\n" + "".join(f"{at},{at % 2}\n" for at in range(count))
    made = rows(text, label={"column": "n"}, split={"train": 0.66, "seed": 1, "stratify": True})
    assert made.count("train") + made.count("test") == count
