"""A model at a node of its own process: what is to be scored comes over TLS, scores over Flower."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from federated.scoring_limits import MOST_ROWS
from marketplace.buyer import Buyer
from tests.deployed import PURPOSE, open_town, terms_of
from tests.models import FEATURES, MODEL, ROWS, model_text

pytestmark = pytest.mark.slow


@pytest.mark.timeout(400)
def test_few_rows_and_many_are_scored_between_machines(tmp_path: Path):
    file = tmp_path / "model.csv"
    file.write_text(model_text())
    agreed = terms_of(tasks=("scoring",), minimum_parties=1)
    # One fewer than there may be: the last batch is not full, so its rows stand one to a slot.
    many = np.tile(ROWS, (1 + MOST_ROWS // len(ROWS), 1))[: MOST_ROWS - 1]
    with open_town(tmp_path / "town", {}) as town:
        town.join("maker", file, agreed, preparation={"score": {"most_rows": MOST_ROWS}})
        buyer = Buyer(town.researcher.home, town.market.http())
        (agreement,) = buyer.call("GET", "/agreements")
        for rows in (ROWS, many):
            job = buyer.score(rows, FEATURES, agreement=agreement, purpose=PURPOSE, name="ward")
            assert town.wait(job)["state"] == "released", town.said()
            scores = np.array(buyer.result(job)["scores"])
            assert np.abs(scores - MODEL.predict(rows)).max() < 1e-5
