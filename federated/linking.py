"""How two registers of dirty names are linked, and how often that may be asked.

As `federated.matching`, for rows that no identifier is equal on: part of what an agreement fixes.
Both providers encode the agreed columns; a third node, which lacks their key, compares the
encodings (`privacy.linkage`).

    linking = Linking.parse({"columns": {"surname": 200, "born": 200, "town": 100}})

The number of a column says how much it counts: about how many bits a cell of it sets. Columns go by
name, in ascending order, so both providers name them alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from federated.agreed import known_table, whole
from federated.errors import PreparationError
from privacy.errors import LinkageError
from privacy.linkage import Field, Schema

_KEYS = ("columns", "threshold", "minimum_size", "minimum_links", "monthly")
_THRESHOLD = 560


@dataclass(frozen=True)
class Linking:
    """The agreed encoding and its limits.

    Attributes:
        schema: How records are encoded.
        threshold: Least Dice coefficient of a pair, in thousandths.
        minimum_size: Fewest rows that a provider may take part with.
        minimum_links: Fewest pairs of which anything is told.
        monthly: Most joint jobs on the asset in any 30 days, over all researchers.
    """

    schema: Schema
    threshold: int
    minimum_size: int
    minimum_links: int
    monthly: int

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the compared columns."""
        return tuple(field.name for field in self.schema.fields)

    @classmethod
    def parse(cls, given: Any) -> "Linking":
        """Reads unverified TOML or JSON.

        Raises:
            PreparationError: Naming the key.
        """
        given = known_table("link", given, _KEYS)
        columns = given.get("columns")
        if not isinstance(columns, Mapping) or not columns:
            raise PreparationError(
                "link.columns", "a table of columns and their bits is needed: { surname = 200 }"
            )
        try:
            schema = Schema(tuple(Field(str(name), columns[name]) for name in sorted(columns)))
        except LinkageError as error:
            raise PreparationError("link.columns", str(error)) from error
        threshold = whole("link.threshold", given.get("threshold", _THRESHOLD), 1)
        if threshold > 1000:
            raise PreparationError("link.threshold", "thousandths, so 1000 at most")
        return cls(
            schema,
            threshold,
            whole("link.minimum_size", given.get("minimum_size", 100), 2),
            whole("link.minimum_links", given.get("minimum_links", 10), 2),
            whole("link.monthly", given.get("monthly", 4), 0),
        )

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON, every key present; `parse` reads it back."""
        return {
            "columns": {field.name: field.bits for field in self.schema.fields},
            "threshold": self.threshold,
            "minimum_size": self.minimum_size,
            "minimum_links": self.minimum_links,
            "monthly": self.monthly,
        }
