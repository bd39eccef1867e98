import json
from typing import Any

import pytest

from federated.node.profile import magnitude, measure
from federated.node.table import ReadingSpec, read_table
from ledger.errors import StatementError
from ledger.statements import Valuation


def table(text: str):
    return read_table(text.encode(), ReadingSpec(), "f.csv")


@pytest.mark.parametrize(
    ("cells", "power"),
    [
        (["1"], 0),
        (["2"], 1),
        (["-3"], 2),
        (["4"], 2),
        (["5", "-9"], 4),
        (["0"], 0),
        (["0.5"], -1),
        (["0.3"], -1),
        (["1e-300"], -64),
        (["77.1"], 7),
        (["NA"], None),
        (["x"], None),
    ],
)
def test_magnitude_is_the_least_power_of_two(cells: list[str], power: int | None):
    assert magnitude(table("a\n" + "\n".join(cells) + "\n").columns[0]) == power


def test_the_payload():
    payload = measure(table("a,b,c\n1,x,1\n1,x,1\n2,,NA\n3,y,oops\n"), "sha256:1")
    assert payload["rows"] == 4
    assert payload["content_digest"] == "sha256:1"
    assert payload["columns"][0] == {"name": "a", "type": "integer", "missing": 0, "magnitude": 2}
    assert payload["columns"][1] == {"name": "b", "type": "text", "missing": 1, "magnitude": None}
    quality = payload["quality"]
    assert quality["completeness_ppm"] == 10 * 1_000_000 // 12
    assert quality["duplicate_rows_ppm"] == 250_000
    assert quality["consistency_ppm"] == 900_000
    assert quality["score_ppm"] == 833_333 * 750_000 * 900_000 // 10**12
    assert "accuracy" in quality["not_assessed"]


def test_the_payload_holds_no_float_and_no_value():
    text = json.dumps(measure(table("a,b\n77.3319,secretword\n-81.25,other\n"), "sha256:1"))
    for value in ("77.3", "81.25", "secretword", "other"):
        assert value not in text
    assert "." not in text.replace("f.csv", "")


def test_valuation_can_be_recomputed():
    made = Valuation.of(25_001, 998_585)
    assert made.value_cents == 25_001 * 998_585 // 1_000_000
    assert Valuation.of(made.cost_cents, made.quality_ppm) == made


@pytest.mark.parametrize(("cost", "quality"), [(-1, 5), (1.5, 5), (1, 1_000_001), (True, 5)])
def test_valuation_refuses(cost: Any, quality: Any):
    payload = Valuation.of(1, 5).payload() | {"cost_cents": cost, "quality_ppm": quality}
    with pytest.raises(StatementError, match=r"cost_cents|quality_ppm"):
        Valuation.from_payload(payload)
