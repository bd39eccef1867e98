from typing import Any

import pytest

from federated.errors import PreparationError
from federated.preparation import Preparation, decimal_text
from tests.cohort import FLAMBY


def test_toml_floats_become_decimal_strings():
    split = Preparation.parse(FLAMBY).to_json()["split"]
    assert split["train"] == "0.66"


def test_json_reads_back_to_the_same():
    preparation = Preparation.parse(FLAMBY)
    assert Preparation.parse(preparation.to_json()) == preparation


def test_json_has_no_float():
    def walk(value: Any) -> None:
        assert not isinstance(value, float)
        for item in value.values() if isinstance(value, dict) else value:
            if isinstance(item, dict | list):
                walk(item)
            assert not isinstance(item, float)

    walk(Preparation.parse(FLAMBY).to_json())


def test_the_digest_names_the_selection():
    first = Preparation.parse(FLAMBY)
    same = Preparation.parse({**FLAMBY, "split": {**FLAMBY["split"], "train": "0.660"}})
    other = Preparation.parse({**FLAMBY, "split": {**FLAMBY["split"], "seed": 44}})
    assert first.digest() == same.digest()
    assert first.digest() != other.digest()
    assert first.digest().startswith("sha256:")


def test_features_leave_out_label_dropped_and_first_levels():
    features = Preparation.parse(FLAMBY).features(["age", "cp", "slope", "restecg", "num"])
    assert features == ("age", "cp_2", "cp_3", "cp_4", "restecg_1", "restecg_2")


@pytest.mark.parametrize(
    ("change", "field", "hint"),
    [
        ({"complet_rows": True}, "complet_rows", "'complete_rows'"),
        ({"split": {"train": 0.5, "sead": 1}}, "split.sead", "'seed'"),
        ({"label": {"colum": "num"}}, "label.colum", "'column'"),
        ({"split": {"train": 1.0, "seed": 1}}, "split.train", "between"),
        ({"split": {"train": "x", "seed": 1}}, "split.train", "decimal"),
        ({"split": {"train": True, "seed": 1}}, "split.train", "number"),
        ({"split": {"train": 0.5}}, "split.seed", "missing"),
        ({"split": {"train": 0.5, "seed": -1}}, "split.seed", "whole"),
        ({"split": {"train": 0.5, "seed": 1, "stratify": True}}, "split.stratify", "label"),
        ({"drop": ["a", "a"]}, "drop", "twice"),
        ({"drop": "a"}, "drop", "list"),
        ({"one_hot": {"a": [1]}}, "one_hot.a", "two levels"),
        ({"one_hot": {"a": [1, 1]}}, "one_hot.a", "twice"),
        ({"one_hot": {"a": [1, "2"]}}, "one_hot.a", "all"),
        ({"one_hot": {"a": [1.0, 2.0]}}, "one_hot.a", "whole"),
        ({"drop": ["a"], "one_hot": {"a": [1, 2]}}, "one_hot.a", "dropped"),
        ({"drop": ["a"], "label": {"column": "a"}}, "label.column", "dropped"),
        ({"complete_rows": 1}, "complete_rows", "true or false"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(change: Any, field: str, hint: str):
    with pytest.raises(PreparationError, match=hint) as caught:
        Preparation.parse(change)
    assert caught.value.field == field


def test_a_list_is_no_preparation():
    with pytest.raises(PreparationError):
        Preparation.parse([])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.66, "0.66"),
        (1, "1"),
        ("1.50", "1.5"),
        (1e-7, "0.0000001"),
        (0.0, "0"),
        ("-0", "0"),
        (100, "100"),
    ],
)
def test_decimal_text(value: object, text: str):
    assert decimal_text("x", value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1e999999999", "NaN", None, True])
def test_decimal_text_refuses(value: object):
    with pytest.raises(PreparationError):
        decimal_text("x", value)
