"""How many rows one use of a model may score.

Part of what an agreement fixes (`federated.preparation`): as many exact scores as a linear model
has coefficients give the model away, so both sides sign beforehand how many rows one use covers.
The price of a use is for up to that many; uses times rows is what a buyer may learn in all.

    limits = ScoringLimits.parse({"most_rows": 100})
"""

from dataclasses import dataclass
from typing import Any

from federated.agreed import known_table
from federated.errors import PreparationError

MOST_ROWS = 1 << 16
"""Of one job: the scores of so many fit into 2 MiB."""

MOST_INPUT_BYTES = 1 << 26
"""Longest input that a researcher hands in, 64 MiB: more is refused while it is read."""

_KEYS = ("most_rows",)


@dataclass(frozen=True)
class ScoringLimits:
    """What a buyer may ask of a model.

    Attributes:
        most_rows: Most rows of one use.
    """

    most_rows: int

    @classmethod
    def parse(cls, given: Any) -> "ScoringLimits":
        """Reads unverified TOML or JSON.

        Raises:
            PreparationError: Naming the key.
        """
        most = known_table("score", given, _KEYS).get("most_rows")
        if type(most) is not int or not 1 <= most <= MOST_ROWS:
            raise PreparationError(
                "score.most_rows", f"a whole number from 1 to {MOST_ROWS} is needed"
            )
        return cls(most)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON, every key present; `parse` reads it back."""
        return {"most_rows": self.most_rows}
