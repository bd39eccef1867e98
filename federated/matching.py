"""How the rows of two providers are told to be of the same person, and how often that may be asked.

Part of what an agreement fixes (`federated.preparation`): an intersection answers guesses, so both
sides sign beforehand which columns identify a row, into which form they are brought, how small a
set and a result may be, and how many such jobs a month may use the asset.

    matching = Matching.parse(
        {
            "columns": {"id": ["strip"]},
            "minimum_size": 100,
            "minimum_intersection": 10,
            "monthly": 4,
        }
    )

Columns go by name, in ascending order, so both providers name them alike. The steps are those of
`privacy.identifiers`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from federated.agreed import known_table, whole
from federated.errors import PreparationError
from privacy.errors import IdentifierError
from privacy.identifiers import Rules

MONTH_DAYS = 30
"""What `monthly` counts over: any so many days on end."""

SMALLEST = 2
"""A set of one member has nothing to hide behind."""

_KEYS = ("columns", "collapse", "minimum_size", "minimum_intersection", "monthly", "sidecar")
_DEFAULTS = {"minimum_size": 100, "minimum_intersection": 10, "monthly": 4}


@dataclass(frozen=True)
class Matching:
    """The agreed identifiers and their limits.

    Attributes:
        columns: Names of the identifying columns, ascending.
        rules: How each is brought into one form, in the columns' order.
        minimum_size: Fewest identifiers that a party may take part with.
        minimum_intersection: Fewest in common of which anything is told.
        monthly: Most joint jobs on the asset in any 30 days, over all researchers.
        sidecar: Whether two nodes that have the sidecar may intersect through it: fast, over a
            connection of their own. Who is to learn the rows in common then learns them before the
            other can see whether they are too few.
    """

    columns: tuple[str, ...]
    rules: Rules
    minimum_size: int
    minimum_intersection: int
    monthly: int
    sidecar: bool = False

    @classmethod
    def parse(cls, given: Any) -> "Matching":
        """Reads unverified TOML or JSON.

        Raises:
            PreparationError: Naming the key.
        """
        given = known_table("match", given, _KEYS)
        columns, collapse = given.get("columns"), given.get("collapse", False)
        sidecar = given.get("sidecar", False)
        if type(sidecar) is not bool:
            raise PreparationError("match.sidecar", "true or false is needed")
        if not isinstance(columns, Mapping) or not columns:
            raise PreparationError(
                "match.columns", 'a table of columns and their steps is needed: { id = ["strip"] }'
            )
        names = tuple(sorted(str(name) for name in columns))
        steps = [columns[name] for name in names]
        try:
            rules = Rules.from_json({"columns": steps, "collapse": collapse})
        except IdentifierError as error:
            raise PreparationError("match", str(error)) from error
        limits = {
            key: whole(f"match.{key}", given.get(key, default), SMALLEST if key != "monthly" else 0)
            for key, default in _DEFAULTS.items()
        }
        return cls(names, rules, **limits, sidecar=sidecar)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON, every key present; `parse` reads it back."""
        rules = self.rules.to_json()
        return {
            "columns": dict(zip(self.columns, rules["columns"], strict=True)),
            "collapse": rules["collapse"],
            "minimum_size": self.minimum_size,
            "minimum_intersection": self.minimum_intersection,
            "monthly": self.monthly,
            "sidecar": self.sidecar,
        }
