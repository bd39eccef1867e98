"""A provider's model and a buyer's rows, on a stage: one provider, one asset, the task `scoring`.

with open_model(tmp_path) as desk:
    job = desk.run(ROWS)                     # encrypted, handed in, granted, scored, released
    desk.buyer.result(job)["scores"]         # close to MODEL.predict(ROWS)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from federated.tasks.scoring import INTERCEPT
from marketplace.buyer import Buyer
from privacy.ckks.model import LinearModel, Link
from tests.stage import PURPOSE, Play, open_stage, terms

FEATURES = ("age", "chol", "ratio", "smokes")
MODEL = LinearModel((0.0312, -0.00471, 1.75, -0.625), 0.40625, Link.LOGISTIC)
_NUMBERS = np.random.default_rng(7)
ROWS = np.column_stack(
    [
        _NUMBERS.uniform(20, 90, 30),
        _NUMBERS.uniform(120, 400, 30),
        _NUMBERS.normal(0, 1, 30),
        _NUMBERS.integers(0, 2, 30).astype(np.float64),
    ]
)


def model_text(weights: Mapping[str, float] | None = None) -> str:
    """A model as a provider's file has it, in another order than the job names its features."""
    known = dict(zip(FEATURES, MODEL.weights, strict=True))
    given = known if weights is None else weights
    lines = [f"{name},{weight!r}" for name, weight in reversed(given.items())]
    return "\n".join(["feature,weight", f"{INTERCEPT},{MODEL.intercept!r}", *lines, ""])


@dataclass
class Desk:
    """A stage with a buyer on it."""

    play: Play
    buyer: Buyer

    @property
    def agreement(self) -> dict[str, Any]:
        own = self.play.stage.agreements.values()
        (found,) = [each for each in self.buyer.call("GET", "/agreements") if each["id"] in own]
        return dict(found)

    def ask(self, rows: np.ndarray = ROWS, **changes: Any) -> str:
        """Have rows encrypted, handed in and a job submitted; return its id."""
        features = changes.pop("features", FEATURES)
        given = {"agreement": self.agreement, "purpose": PURPOSE, "name": "ward"} | changes
        return self.buyer.score(rows, features, **given)

    def end(self, job: str) -> dict[str, Any]:
        """Let the node decide and the job come to its end; return its view."""
        self.play.market.decide()
        return self.play.stage.wait(job)

    def run(self, rows: np.ndarray = ROWS, **changes: Any) -> str:
        job = self.ask(rows, **changes)
        view = self.end(job)
        assert view["state"] == "released", view
        return job


@contextmanager
def open_model(
    folder: Path, *, most_rows: int = 100, uses: int = 99, text: str | None = None
) -> Iterator[Desk]:
    """Put a provider with a model and a buyer on a stage below a folder."""
    tables = {"model": model_text() if text is None else text}
    agreed = terms(tasks=("scoring",), uses=uses, minimum_parties=1)
    preparation = {"score": {"most_rows": most_rows}}
    with open_stage(folder, tables, preparation=preparation, agreed=agreed) as play:
        for node in play.nodes:
            node._limits = replace(node._limits, unfinished=999)
        home = play.researcher.home
        yield Desk(play, Buyer(home, play.market.http(), play.clock))
