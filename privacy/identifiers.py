"""Rows as identifiers that two parties can compare: the same person, the same bytes.

Two tables write one person in two ways. Before names are masked, both sides bring them into one
form by the same rules, which stand in the terms of the job.

    rules = Rules((("nfkc", "casefold", "letters-and-digits"), ("digits", "left-pad:8:0")))
    names = identify([["Zoë  Li"], ["1980-2-1"]], rules)      # names.members == (b"...",)

What it decides: the form of each column, how columns are joined (each preceded by its length, so
that "ab"+"c" is not "a"+"bc"), and which rows give no identifier. What it does not do: forgive
typing errors; that is `privacy.linkage`. Messages name positions, never what stands there.

Steps, applied in the order written:

    nfkc                 Unicode normal form KC (UAX 15): full-width digits, ligatures and the like
    casefold             Unicode full case folding: capitals, and ß as ss
    strip                no white space at either end
    collapse-spaces      each run of white space becomes one space
    digits               keep decimal digits alone, written as 0 to 9
    letters-and-digits   keep letters, marks and numbers (categories L, M, N) alone
    left-pad:WIDTH:FILL  fill up on the left to WIDTH characters (1 to 64); FILL is a printable
                         ASCII character

At the end every cell is brought into normal form C, whatever the steps: canonically equivalent text
is one identifier.

Both sides may run different versions of Unicode. Normal form and case folding of a character never
change once it is assigned (its category hardly ever), so a row with an unassigned one is refused.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from privacy.derivation import prefixed
from privacy.errors import IdentifierError

RULES_NAMESPACE = "rongshu/identifier-rules/v1"

MAX_COLUMNS = 16
MAX_STEPS = 16
MAX_CHARACTERS = 1024
"""Longest cell, before and after each step."""

_FORBIDDEN = {"Cn", "Cs"}
_PAD = re.compile(r"left-pad:([1-9]|[1-5][0-9]|6[0-4]):([!-~])")


def _digits(text: str) -> str:
    # decimal() is of one character; "²" and "½" are no decimal digits and fall away.
    return "".join(str(unicodedata.decimal(sign)) for sign in text if sign.isdecimal())


def _letters_and_digits(text: str) -> str:
    return "".join(sign for sign in text if unicodedata.category(sign)[0] in "LMN")


_STEPS: dict[str, Callable[[str], str]] = {
    "nfkc": lambda text: unicodedata.normalize("NFKC", text),
    "casefold": str.casefold,
    "strip": str.strip,
    "collapse-spaces": lambda text: re.sub(r"\s+", " ", text),
    "digits": _digits,
    "letters-and-digits": _letters_and_digits,
}


@dataclass(frozen=True)
class Rules:
    """How rows become identifiers; both sides use the same.

    Attributes:
        columns: For each column its steps.
        collapse: Whether rows with the same identifier count once. Otherwise they are refused.

    Raises:
        IdentifierError: If there are no columns, too many, or a step that does not exist.
    """

    columns: tuple[tuple[str, ...], ...]
    collapse: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.columns) <= MAX_COLUMNS:
            raise IdentifierError(f"an identifier is made of 1 to {MAX_COLUMNS} columns")
        for number, steps in enumerate(self.columns):
            if len(steps) > MAX_STEPS:
                raise IdentifierError(f"column {number} has more than {MAX_STEPS} steps")
            for step in steps:
                if step not in _STEPS and not _PAD.fullmatch(step):
                    raise IdentifierError(f"column {number} has a step that does not exist")

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON: {"columns": [[step, ...], ...], "collapse": true or false}."""
        return {"columns": [list(steps) for steps in self.columns], "collapse": self.collapse}

    @classmethod
    def from_json(cls, value: Any) -> "Rules":
        """Reads what `to_json` wrote.

        Args:
            value: Unverified parsed JSON.

        Raises:
            IdentifierError: If it is not of this form, or the rules are refused.
        """
        if not isinstance(value, dict) or set(value) != {"columns", "collapse"}:
            raise IdentifierError("rules in JSON have exactly the fields columns and collapse")
        columns, collapse = value["columns"], value["collapse"]
        if type(collapse) is not bool or not isinstance(columns, list):
            raise IdentifierError("columns are a list and collapse is true or false")
        if not all(
            isinstance(steps, list) and all(isinstance(step, str) for step in steps)
            for steps in columns
        ):
            raise IdentifierError("each column is a list of steps")
        return cls(tuple(tuple(steps) for steps in columns), collapse)

    @property
    def digest(self) -> bytes:
        """SHA-256 over all of it, each part length-prefixed. What both sides are bound to."""
        columns = [prefixed([step.encode() for step in steps]) for steps in self.columns]
        fields = [RULES_NAMESPACE.encode(), bytes([self.collapse]), prefixed(columns)]
        return hashlib.sha256(prefixed(fields)).digest()


@dataclass(frozen=True, eq=False)
class Identifiers:
    """One party's identifiers. They are raw data in another form: they stay at the node.

    Attributes:
        members: The identifiers, distinct, in the order of their rows.
        rows: For each the position of its (first) row.
    """

    members: tuple[bytes, ...] = field(repr=False)
    rows: tuple[int, ...] = field(repr=False)


def identify(columns: Sequence[Sequence[str]], rules: Rules) -> Identifiers:
    """Makes an identifier of each row.

    Args:
        columns: For each column of the rules its cells, all of the same length.
        rules: As agreed.

    Returns:
        At most as many identifiers as rows, fewer only where the rules collapse.

    Raises:
        IdentifierError: If the columns do not fit to the rules or to each other; naming the first
            row with a cell that is no text, too long, empty after its steps, or holds a character
            that is unassigned or half of one; or, with their number, if rows repeat others.
    """
    if len(columns) != len(rules.columns) or len({len(cells) for cells in columns}) != 1:
        raise IdentifierError("there is one column of cells for each of the rules, all as long")
    normalised = [
        [_normalise(cell, steps, row) for row, cell in enumerate(cells)]
        for cells, steps in zip(columns, rules.columns, strict=True)
    ]
    first: dict[bytes, int] = {}
    for row, cells in enumerate(zip(*normalised, strict=True)):
        first.setdefault(prefixed(cells), row)
    repeated = len(columns[0]) - len(first)
    if repeated and not rules.collapse:
        raise IdentifierError(
            f"{repeated} of {len(columns[0])} rows repeat the identifier of an earlier one"
        )
    return Identifiers(tuple(first), tuple(first.values()))


def _normalise(cell: str, steps: Sequence[str], row: int) -> bytes:
    """One cell after its steps, as UTF-8."""
    if not isinstance(cell, str):
        raise IdentifierError(f"row {row} has a cell that is no text")
    if len(cell) > MAX_CHARACTERS:
        raise IdentifierError(f"row {row} has a cell of more than {MAX_CHARACTERS} characters")
    if not cell.isascii() and any(unicodedata.category(sign) in _FORBIDDEN for sign in cell):
        raise IdentifierError(f"row {row} has a character that is not assigned")
    for step in steps:
        cell = _apply(step, cell)
        if len(cell) > MAX_CHARACTERS:
            raise IdentifierError(f"row {row} has a cell that grows too long")
        if not cell:
            break
    if not cell:
        raise IdentifierError(f"row {row} has a cell that is empty after its steps")
    # What a step leaves out may have kept a letter and its accent apart.
    return unicodedata.normalize("NFC", cell).encode()


def _apply(step: str, text: str) -> str:
    padding = _PAD.fullmatch(step)
    if padding is None:
        return _STEPS[step](text)
    # A missing cell stays missing: filled up, all missing ones would be one and the same person.
    return text and text.rjust(int(padding[1]), padding[2])
