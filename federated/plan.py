"""What a job computes, over whose data: the same plan at coordinator, node and buyer.

A plan is built from the signed job and the signed data cards, so that each side can rebuild it and
derive the same questions, layouts and bounds. It holds public facts only: no value of any row.
A `Question` is what nodes are asked in one round; its `Field`s say how the answer is laid out.

    plan = Plan("statistics", 1, {"columns": ["age"], "rows": "all"}, (cleveland, hungarian))
    plan.magnitude("age")    # every |age| of every party is at most 2 to this power
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from federated.errors import FederatedError, PlanError, TaskError, suggestion
from federated.preparation import Preparation
from privacy.errors import PrivacyError
from privacy.fixedpoint import Scale

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]

Aggregate = Mapping[str, Floats | list[int]]
"""The decoded sum of a round: field name to numbers, whole ones as Python integers."""

ColumnType = Literal["integer", "number", "text"]

COLUMN_TYPES: tuple[str, ...] = get_args(ColumnType)

THREADS: Final = 1
"""On so many threads every node computes a plan, engine and linear algebra alike: numbers that are
added up in another order have other last bits, and whoever repeats a job is to get the same."""

_MAX_LENGTH = 1 << 20
_FIELD_KEYS = {"name", "length", "scale", "bound", "integers"}

LARGEST_MAGNITUDE = 1024
"""float64 ends below 2^1024."""


@dataclass(frozen=True)
class ColumnFacts:
    """What a data card says of one column.

    Attributes:
        type: integer, number or text.
        magnitude: Smallest whole k >= -64 with every |value| <= 2^k; None for text or no value.
    """

    type: ColumnType
    magnitude: int | None

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON; `from_json` reads it back."""
        return {"type": self.type, "magnitude": self.magnitude}

    @classmethod
    def from_json(cls, given: Any) -> "ColumnFacts":
        """Reads unverified JSON; other keys (a card has more) are ignored.

        Raises:
            PlanError: If type or magnitude is not one.
        """
        if not isinstance(given, Mapping) or given.get("type") not in COLUMN_TYPES:
            raise PlanError("a column's type is integer, number or text")
        magnitude = given.get("magnitude")
        whole = type(magnitude) is int and abs(magnitude) <= LARGEST_MAGNITUDE
        if magnitude is not None and not whole:
            raise PlanError("a column's magnitude is a whole number or null")
        return cls(cast("ColumnType", given["type"]), magnitude)


@dataclass(frozen=True)
class Party:
    """One provider's asset in the cohort, as its data card describes it."""

    asset_id: str
    name: str
    rows: int
    columns: Mapping[str, ColumnFacts]

    @classmethod
    def from_measurement(cls, asset_id: str, name: str, measurement: Mapping[str, Any]) -> "Party":
        """Builds a party from the payload that `federated.node.profile.measure` made.

        Raises:
            PlanError: If the payload lacks rows or columns.
        """
        columns = measurement.get("columns")
        if not isinstance(columns, list):
            raise PlanError(f"the data card of {name} lists no columns")
        named = {
            column["name"]: column
            for column in columns
            if isinstance(column, Mapping) and isinstance(column.get("name"), str)
        }
        return cls.from_json(
            {
                "asset_id": asset_id,
                "name": name,
                "rows": measurement.get("rows"),
                "columns": named,
            }
        )

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON; `from_json` reads it back."""
        return {
            "asset_id": self.asset_id,
            "name": self.name,
            "rows": self.rows,
            "columns": {name: facts.to_json() for name, facts in self.columns.items()},
        }

    @classmethod
    def from_json(cls, given: Any) -> "Party":
        """Reads unverified JSON.

        Raises:
            PlanError: If a field is missing or of the wrong type.
        """
        if not isinstance(given, Mapping):
            raise PlanError("a party is a table of asset_id, name, rows and columns")
        rows, columns = given.get("rows"), given.get("columns")
        if type(rows) is not int or not 0 <= rows < 1 << 40:
            raise PlanError("a party's rows is a whole number")
        if not isinstance(columns, Mapping):
            raise PlanError("a party's columns is a table")
        for key in ("asset_id", "name"):
            if not isinstance(given.get(key), str) or not given[key]:
                raise PlanError(f"a party's {key} is a text")
        facts = {str(name): ColumnFacts.from_json(column) for name, column in columns.items()}
        return cls(given["asset_id"], given["name"], rows, facts)


@dataclass(frozen=True)
class Plan:
    """A task, its fixed parameters, its row preparation and its cohort.

    Attributes:
        task: A name that `federated.tasks` knows.
        version: The task's version.
        parameters: As the task's `parse_parameters` returned them: JSON without floats.
        cohort: The parties, in the job's order.
        preparation: The row selection that the agreements fix.
    """

    task: str
    version: int
    parameters: Mapping[str, Any]
    cohort: tuple[Party, ...]
    preparation: Preparation = field(default_factory=Preparation)

    @property
    def largest_rows(self) -> int:
        """The most rows that one party has; 1 at least, so that bounds are not zero."""
        return max([1, *(party.rows for party in self.cohort)])

    def facts(self, column: str) -> tuple[ColumnFacts, ...]:
        """Returns what each party's card says of a column, in the cohort's order.

        Raises:
            TaskError: unknown_column, naming the column and the party that lacks it.
        """
        for party in self.cohort:
            if column not in party.columns:
                raise TaskError(
                    "unknown_column",
                    f"{party.name} has no column {column!r}{suggestion(column, party.columns)}",
                )
        return tuple(party.columns[column] for party in self.cohort)

    def numeric(self, column: str) -> ColumnType:
        """Returns "integer" if the column is that at every party, else "number".

        Raises:
            TaskError: unknown_column, or not_numeric naming the column and the party.
        """
        facts = self.facts(column)
        for party, fact in zip(self.cohort, facts, strict=True):
            if fact.type == "text":
                raise TaskError(
                    "not_numeric",
                    f"column {column!r} holds text at {party.name}; numbers are needed: leave it "
                    "out, or list its missing markers in the reading spec",
                )
        return "integer" if all(fact.type == "integer" for fact in facts) else "number"

    def magnitude(self, column: str) -> int:
        """Returns the smallest k that every party's card supports, 0 if no party has a value.

        Raises:
            TaskError: unknown_column.
        """
        known = [fact.magnitude for fact in self.facts(column) if fact.magnitude is not None]
        return max(known, default=0)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON without floats; `from_json` reads it back."""
        return {
            "task": self.task,
            "version": self.version,
            "parameters": dict(self.parameters),
            "preparation": self.preparation.to_json(),
            "cohort": [party.to_json() for party in self.cohort],
        }

    @classmethod
    def from_json(cls, given: Any) -> "Plan":
        """Reads unverified JSON.

        Raises:
            PlanError: If a field is missing, unknown or of the wrong type.
        """
        names = {"task", "version", "parameters", "preparation", "cohort"}
        if not isinstance(given, Mapping) or set(given) != names:
            raise PlanError(f"a plan has exactly {', '.join(sorted(names))}")
        if not isinstance(given["task"], str) or type(given["version"]) is not int:
            raise PlanError("a plan's task is a text and its version a whole number")
        if not isinstance(given["parameters"], Mapping) or not isinstance(given["cohort"], list):
            raise PlanError("a plan's parameters is a table and its cohort a list")
        try:
            preparation = Preparation.parse(given["preparation"])
        except FederatedError as error:
            raise PlanError(f"a plan's preparation: {error}") from error
        cohort = tuple(Party.from_json(party) for party in given["cohort"])
        if len({party.asset_id for party in cohort}) != len(cohort):
            raise PlanError("an asset is twice in the cohort")
        return cls(given["task"], given["version"], given["parameters"], cohort, preparation)


@dataclass(frozen=True)
class Field:
    """Numbers of one kind in a contribution.

    Attributes:
        name: Unique in its layout.
        length: How many numbers.
        scale: How they are encoded; the same at every party.
        bound: No party's number exceeds this magnitude.
        integers: Whole numbers, decoded to Python integers of any size.
    """

    name: str
    length: int
    scale: Scale
    bound: float
    integers: bool = False

    @property
    def words(self) -> int:
        """How many 64-bit words the field takes."""
        return self.length * self.scale.words

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON; `from_json` reads it back."""
        return {
            "name": self.name,
            "length": self.length,
            "scale": self.scale.to_json(),
            "bound": self.bound,
            "integers": self.integers,
        }

    @classmethod
    def from_json(cls, given: Any) -> "Field":
        """Reads unverified JSON.

        Raises:
            TaskError: layout_mismatch, if it is no field.
        """
        if not isinstance(given, Mapping) or set(given) != _FIELD_KEYS:
            raise TaskError("layout_mismatch", f"a field has exactly {sorted(_FIELD_KEYS)}")
        name, length, bound = given["name"], given["length"], given["bound"]
        if not isinstance(name, str) or type(length) is not int or not 0 <= length <= _MAX_LENGTH:
            raise TaskError("layout_mismatch", "a field has a name and a length")
        # Compared as it is: an integer beyond float64 cannot be asked whether it is finite.
        if type(bound) not in (int, float) or not 0 <= bound <= sys.float_info.max:
            raise TaskError("layout_mismatch", f"field {name!r} has no finite bound")
        if type(given["integers"]) is not bool:
            raise TaskError("layout_mismatch", f"field {name!r} does not say if it is integer")
        try:
            scale = Scale.from_json(given["scale"])
        except PrivacyError as error:
            raise TaskError("layout_mismatch", f"field {name!r}: {error}") from error
        return cls(name, length, scale, float(bound), given["integers"])


@dataclass(frozen=True)
class Question:
    """What every node is asked in one round.

    Attributes:
        step: One of the task's steps.
        parameters: JSON that the step needs, e.g. the model point; floats allowed.
        layout: The fields of the answer, in the order in which they are concatenated.
    """

    step: str
    parameters: Mapping[str, Any]
    layout: tuple[Field, ...]

    @property
    def words(self) -> int:
        """How many 64-bit words one contribution has."""
        return sum(field.words for field in self.layout)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON; `from_json` reads it back."""
        return {
            "step": self.step,
            "parameters": dict(self.parameters),
            "layout": [field.to_json() for field in self.layout],
        }

    @classmethod
    def from_json(cls, given: Any) -> "Question":
        """Reads unverified JSON.

        Raises:
            TaskError: layout_mismatch, if it is no question.
        """
        if not isinstance(given, Mapping) or set(given) != {"step", "parameters", "layout"}:
            raise TaskError("layout_mismatch", "a question has step, parameters and layout")
        step, parameters, layout = given["step"], given["parameters"], given["layout"]
        shaped = isinstance(step, str) and isinstance(parameters, Mapping)
        if not shaped or not isinstance(layout, list):
            raise TaskError("layout_mismatch", "a question has step, parameters and layout")
        return cls(step, parameters, tuple(Field.from_json(field) for field in layout))
