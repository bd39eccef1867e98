"""How rows are chosen and columns turned into features, as a fixed specification.

A `Preparation` is part of what an agreement fixes: exact answers over many different row choices
would give the rows away, so the choice is made once and named by its digest. This module only
parses and describes; `federated.node.rows` applies it to a table.

    preparation = Preparation.parse(
        {
            "drop": ["slope", "ca", "thal"],
            "complete_rows": True,
            "one_hot": {"cp": [1, 2, 3, 4]},
            "label": {"column": "num", "above": 0},
            "split": {"train": 0.66, "seed": 43, "stratify": True, "unless_class_at_most": 2},
        }
    )

The order of steps: drop columns, keep complete rows, expand levels (the first declared level gets
no feature), make the label (1 where the column is above the limit), split. JSON has no floats:
decimal numbers are strings such as "0.66".
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from federated.agreed import known_table
from federated.errors import PreparationError
from federated.key_terms import SharedKey
from federated.linking import Linking
from federated.matching import Matching
from federated.scoring_limits import ScoringLimits
from ledger.encoding import canonical, digest

NAMESPACE = "rongshu/preparation/v1"

Level = int | str

# What older agreements do not have, each with how it is read.
_LATER: Mapping[str, Callable[[Any], Any]] = {
    "match": Matching.parse,
    "link": Linking.parse,
    "score": ScoringLimits.parse,
    "shared_key": SharedKey.parse,
}
SECTIONS = ("drop", "complete_rows", "one_hot", "label", "split", *_LATER)
"""The keys of a preparation, in the order in which people read them."""

_LABEL_KEYS = ("column", "above")
_SPLIT_KEYS = ("train", "seed", "stratify", "unless_class_at_most")
_MAX_SEED = (1 << 32) - 1


@dataclass(frozen=True)
class Label:
    """The two classes: 1 where `column` > `above` (a decimal string), else 0."""

    column: str
    above: str


@dataclass(frozen=True)
class Split:
    """A seeded division into train and test rows.

    Attributes:
        train: Share of rows for training, a decimal string strictly between 0 and 1.
        seed: 0 to 2^32 - 1.
        stratify: Keep the classes' shares in both parts.
        unless_class_at_most: Do not stratify at a party where a class has this many rows or fewer.
    """

    train: str
    seed: int
    stratify: bool = False
    unless_class_at_most: int = 1


@dataclass(frozen=True)
class Preparation:
    """The row selection and the features. The empty one keeps every row and column.

    Attributes:
        drop: Columns that are removed first.
        complete_rows: Keep only rows without a missing value in the remaining columns.
        one_hot: Per column its declared levels, in order; the first has no feature.
        label: What is predicted, if anything is.
        split: How rows are divided; without it every row is a training row.
        match: How rows of two providers are told to be of the same person, by equal identifiers.
        link: The same where names are dirty, by how alike they are.
        score: How many rows one use of a model may score, where the asset is a model.
        shared_key: Who may open an encrypted sum together, where no single one may.
    """

    drop: tuple[str, ...] = ()
    complete_rows: bool = False
    one_hot: tuple[tuple[str, tuple[Level, ...]], ...] = ()
    label: Label | None = None
    split: Split | None = None
    match: Matching | None = None
    link: Linking | None = None
    score: ScoringLimits | None = None
    shared_key: SharedKey | None = None

    @classmethod
    def parse(cls, given: Any) -> "Preparation":
        """Reads a preparation from TOML or JSON.

        Args:
            given: Unverified mapping. Floats are taken as their shortest decimal form.

        Raises:
            PreparationError: Naming the key that is unknown, of the wrong type or contradictory.
        """
        table = known_table("prepare", given, SECTIONS, top=True)
        drop = _names("drop", table.get("drop", []))
        one_hot = _one_hot(table.get("one_hot", {}))
        label = _label(table["label"]) if table.get("label") is not None else None
        split = _split(table["split"]) if table.get("split") is not None else None
        for column, _ in one_hot:
            if column in drop:
                raise PreparationError(f"one_hot.{column}", "this column is dropped")
        if label and label.column in (*drop, *(column for column, _ in one_hot)):
            raise PreparationError("label.column", "the label's column is dropped or one-hot")
        if split and split.stratify and not label:
            raise PreparationError("split.stratify", "stratifying needs a label")
        complete = _boolean("complete_rows", table.get("complete_rows", False))
        later = {
            key: parse(table[key]) for key, parse in _LATER.items() if table.get(key) is not None
        }
        return cls(drop, complete, one_hot, label, split, **later)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON without floats; `parse` reads it back.

        Every key is present but those of `_LATER`, which older agreements do not have.
        """
        split = self.split
        later = {key: getattr(self, key) for key in _LATER}
        return {key: value.to_json() for key, value in later.items() if value is not None} | {
            "drop": list(self.drop),
            "complete_rows": self.complete_rows,
            "one_hot": {column: list(levels) for column, levels in self.one_hot},
            "label": None
            if self.label is None
            else {"column": self.label.column, "above": self.label.above},
            "split": None
            if split is None
            else {
                "train": split.train,
                "seed": split.seed,
                "stratify": split.stratify,
                "unless_class_at_most": split.unless_class_at_most,
            },
        }

    def digest(self) -> str:
        """Returns "sha256:" and 64 hex digits over the canonical JSON."""
        return "sha256:" + digest(NAMESPACE, canonical(self.to_json())).hex()

    @property
    def monthly(self) -> int | None:
        """The most joint jobs a month that this agreement permits; None where it fixes none."""
        limits = [each.monthly for each in (self.match, self.link) if each is not None]
        return min(limits, default=None)

    def levels(self, column: str) -> tuple[Level, ...] | None:
        """Returns the declared levels of a one-hot column, or None for any other."""
        return dict(self.one_hot).get(column)

    def kept(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Returns `columns` without the dropped ones, in order."""
        return tuple(column for column in columns if column not in self.drop)

    def expand(self, column: str) -> tuple[str, ...]:
        """Returns the features of one kept column: itself, or "cp_2", "cp_3", … for levels."""
        levels = self.levels(column)
        if levels is None:
            return (column,)
        return tuple(feature_name(column, level) for level in levels[1:])

    def features(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Returns the features of `columns` in order, without dropped columns and the label."""
        label = self.label.column if self.label else None
        return tuple(
            feature
            for column in self.kept(columns)
            if column != label
            for feature in self.expand(column)
        )


def feature_name(column: str, level: Level) -> str:
    """Returns the name of a level's feature, e.g. "cp_2"."""
    return f"{column}_{level}"


def decimal_text(field: str, value: Any) -> str:
    """Returns a number as a plain decimal string: 0.66, "0.660" and Decimal give "0.66".

    Args:
        field: Named in the error.
        value: int, finite float, or decimal string; booleans are refused.

    Raises:
        PreparationError: If it is none of these.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise PreparationError(field, "a number is needed")
    if isinstance(value, float) and not math.isfinite(value):
        raise PreparationError(field, "a finite number is needed")
    try:
        # repr is the shortest decimal that reads back as the same float.
        number = Decimal(value if isinstance(value, str) else repr(value))
    except InvalidOperation:
        raise PreparationError(field, 'a decimal number is needed, e.g. "0.66"') from None
    # The exponent is bounded so that "1e999999999" cannot fill the memory with digits.
    if not number.is_finite() or abs(number.adjusted()) > 400:
        raise PreparationError(field, "a finite number of ordinary size is needed")
    return format(number.normalize() + 0, "f") if number else "0"


def _boolean(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise PreparationError(field, "true or false is needed")
    return value


def _whole(field: str, value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise PreparationError(field, f"a whole number from 0 to {most} is needed")
    return value


def _name(field: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise PreparationError(field, "a column's name is needed")
    return value


def _names(field: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise PreparationError(field, "a list of column names is needed")
    names = tuple(_name(field, item) for item in value)
    if len(set(names)) != len(names):
        raise PreparationError(field, "a column is named twice")
    return names


def _one_hot(given: Any) -> tuple[tuple[str, tuple[Level, ...]], ...]:
    """Reads the levels, sorted by column so that equal specifications have equal digests."""
    if not isinstance(given, Mapping):
        raise PreparationError("one_hot", "a table of columns and their levels is needed")
    found = []
    for column, levels in given.items():
        field = f"one_hot.{column}"
        if not isinstance(levels, list | tuple) or len(levels) < 2:
            raise PreparationError(field, "a list of at least two levels is needed")
        kinds = {type(level) for level in levels}
        if kinds not in ({int}, {str}):
            raise PreparationError(field, "levels are all whole numbers or all texts")
        if len(set(levels)) != len(levels):
            raise PreparationError(field, "a level is named twice")
        found.append((_name(field, column), tuple(levels)))
    return tuple(sorted(found))


def _label(given: Any) -> Label:
    table = known_table("label", given, _LABEL_KEYS)
    if "column" not in table:
        raise PreparationError("label.column", "missing")
    above = decimal_text("label.above", table.get("above", 0))
    return Label(_name("label.column", table["column"]), above)


def _split(given: Any) -> Split:
    table = known_table("split", given, _SPLIT_KEYS)
    for key in ("train", "seed"):
        if key not in table:
            raise PreparationError(f"split.{key}", "missing")
    train = decimal_text("split.train", table["train"])
    if not 0 < Decimal(train) < 1:
        raise PreparationError("split.train", "a share strictly between 0 and 1 is needed")
    return Split(
        train=train,
        seed=_whole("split.seed", table["seed"], _MAX_SEED),
        stratify=_boolean("split.stratify", table.get("stratify", False)),
        unless_class_at_most=_whole(
            "split.unless_class_at_most", table.get("unless_class_at_most", 1), 1 << 31
        ),
    )
