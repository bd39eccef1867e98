"""What a scenario file says, checked: one frozen class for each kind of table.

`marketplace.scenario.spec` makes them from TOML. docs/scenario.md describes every field; a test
compares it with `FIELDS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federated.node.table import ReadingSpec
from federated.preparation import SECTIONS, Preparation
from ledger.terms import Terms

PARAMETERS = (
    "columns",
    "rows",
    "ridge",
    "outcome",
    "receiver",
    "value",
    "compares",
    "learns",
    "model",
    "label",
    "above",
    "scaling",
    "steps",
    "step",
    "computes",
    "scores",
    "statistic",
    "column",
    "of",
    "k",
    "who",
    "form",
    "award",
    "quantity",
    "prices",
    "decimals",
    "computing_only",
)
"""What a job's table may say to its task."""

FIELDS: dict[str, tuple[str, ...]] = {
    "": (
        "title",
        "description",
        "provider",
        "terms",
        "data",
        "prepare",
        "job",
        "expect",
        "refuse",
        "compare",
    ),
    "provider": ("name", "file", "price", "cost", "description", "rights", "terms", "data"),
    "terms": ("tasks", "purposes", "uses", "until", "exact", "minimum_parties"),
    "data": ("format", "header", "columns", "missing", "delimiter"),
    "prepare": SECTIONS,
    "job": ("name", "task", *PARAMETERS, "purpose"),
    "expect": ("name", "job", "path", "equals", "at_least", "at_most", "tolerance"),
    "refuse": ("name", "what", "reason"),
    "compare": ("job", "path", "title", "source", "values"),
}
MOST_PROVIDERS = 40
STATE = "state"
"""The path of an expectation that says how a job ends; without one it must be released."""


@dataclass(frozen=True)
class ProviderPart:
    """One provider with its data file, terms and price.

    Attributes:
        price_cents: for each use.
        cost_cents: what the data cost the provider; basis of the valuation.
    """

    name: str
    file: Path
    reading: ReadingSpec
    terms: Terms
    price_cents: int
    cost_cents: int
    description: str
    rights: str


@dataclass(frozen=True)
class JobPart:
    """One job to run, over all providers."""

    name: str
    task: str
    parameters: Mapping[str, Any]
    purpose: str


@dataclass(frozen=True)
class ExpectPart:
    """What one number or word of a job must be."""

    name: str
    job: str
    path: str
    equals: Any = None
    at_least: float | None = None
    at_most: float | None = None
    tolerance: float = 0.0


@dataclass(frozen=True)
class RefusePart:
    """One attempt that every node must refuse with this reason."""

    name: str
    what: str
    reason: str


@dataclass(frozen=True)
class ComparePart:
    """Published figures to print beside one of ours."""

    job: str
    path: str
    title: str
    source: str
    values: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Scenario:
    """A scenario file, checked."""

    title: str
    description: str
    providers: tuple[ProviderPart, ...]
    preparation: Preparation
    jobs: tuple[JobPart, ...]
    expectations: tuple[ExpectPart, ...] = ()
    refusals: tuple[RefusePart, ...] = ()
    comparisons: tuple[ComparePart, ...] = ()

    def expects_state(self, job: str) -> str | None:
        """Return how the file expects a job to end, None when it says nothing of it."""
        wanted = [
            each.equals for each in self.expectations if (each.job, each.path) == (job, STATE)
        ]
        return str(wanted[0]) if wanted else None
