"""Reads a scenario file: TOML in, a checked `Scenario` out.

Decides whether every key is known and every value of its kind; what the data say is checked by
`marketplace.scenario.rehearsal`, before anything is played. Every field is described in
docs/scenario.md, which a test compares with `FIELDS`.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from federated.errors import FederatedError, TableError
from federated.node.table import ReadingSpec
from federated.preparation import Preparation
from ledger.statements import REFUSAL_REASONS
from ledger.terms import ANYONE, Terms
from marketplace.scenario.errors import ScenarioError

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
    "terms": ("tasks", "purposes", "recipients", "uses", "until", "exact", "minimum_parties"),
    "data": ("format", "header", "columns", "missing", "delimiter"),
    "prepare": ("drop", "complete_rows", "one_hot", "label", "split"),
    "job": ("name", "task", "columns", "rows", "ridge", "purpose"),
    "expect": ("name", "job", "path", "equals", "at_least", "at_most", "tolerance"),
    "refuse": ("name", "what", "reason"),
    "compare": ("job", "path", "title", "source", "values"),
}
MOST_PROVIDERS = 40
_DEFAULT_TERMS: dict[str, Any] = {
    "recipients": [ANYONE],
    "exact": False,
    "minimum_parties": 3,
}


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
    comparisons: tuple[ComparePart, ...] = field(default=())


def load(path: Path) -> Scenario:
    """Read a scenario file.

    Raises:
        ScenarioError: names the file, and the line or field.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ScenarioError(f"{path}: {error.strerror or 'cannot be read'}") from error
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: not UTF-8 at byte {error.start}") from error
    try:
        return _Parser(path).scenario(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{path}: {error}") from error


class _Parser:
    """Reads the parts; knows the file, so that every message names it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def scenario(self, given: Mapping[str, Any]) -> Scenario:
        self._known("", given, "")
        shared_terms, shared_data = given.get("terms", {}), given.get("data", {})
        providers = tuple(
            self._provider(number, part, shared_terms, shared_data)
            for number, part in self._parts(given, "provider")
        )
        if not 2 <= len(providers) <= MOST_PROVIDERS:
            raise self._error("provider", f"{len(providers)} given, 2 to {MOST_PROVIDERS} needed")
        self._distinct("provider", (provider.name for provider in providers))
        jobs = tuple(self._job(number, part) for number, part in self._parts(given, "job"))
        if not jobs:
            raise self._error("job", "at least one is needed")
        self._distinct("job", (job.name for job in jobs))
        names = tuple(job.name for job in jobs)
        return Scenario(
            title=self._text("", given, "title", self._path.stem),
            description=self._text("", given, "description", ""),
            providers=providers,
            preparation=self._preparation(given.get("prepare", {})),
            jobs=jobs,
            expectations=tuple(
                self._expect(number, part, names) for number, part in self._parts(given, "expect")
            ),
            refusals=tuple(
                self._refuse(number, part) for number, part in self._parts(given, "refuse")
            ),
            comparisons=tuple(
                self._compare(number, part, names) for number, part in self._parts(given, "compare")
            ),
        )

    def _provider(
        self, number: int, part: Mapping[str, Any], terms: Any, data: Any
    ) -> ProviderPart:
        where = f"provider {number}"
        self._known("provider", part, where)
        name = self._text(where, part, "name")
        where = f"provider {name!r}"
        reading = {**self._table(f"{where}.data", data), **self._table(where, part.get("data", {}))}
        own = self._table(f"{where}.terms", part.get("terms", {}))
        file = (self._path.parent / self._text(where, part, "file")).resolve()
        reading.setdefault("format", "parquet" if file.suffix == ".parquet" else "csv")
        return ProviderPart(
            name=name,
            file=file,
            reading=self._reading(f"{where}.data", reading),
            terms=self._terms(f"{where}.terms", {**self._table("terms", terms), **own}),
            price_cents=self._cents(where, part, "price"),
            cost_cents=self._cents(where, part, "cost"),
            description=self._text(where, part, "description", ""),
            rights=self._text(where, part, "rights", ""),
        )

    def _reading(self, where: str, given: Mapping[str, Any]) -> ReadingSpec:
        self._known("data", given, where)
        try:
            return ReadingSpec.parse(given)
        except TableError as error:
            raise self._error(where, str(error)) from error

    def _terms(self, where: str, given: Mapping[str, Any]) -> Terms:
        self._known("terms", given, where)
        value = {**_DEFAULT_TERMS, **given}
        for name in ("tasks", "purposes", "uses", "until"):
            if name not in value:
                raise self._error(where, f"{name} is missing")
        uses, parties = value["uses"], value["minimum_parties"]
        if type(uses) is not int or uses < 0 or type(parties) is not int or parties < 2:
            raise self._error(where, "uses is a whole number, minimum_parties one from 2 up")
        if type(value["exact"]) is not bool:
            raise self._error(where, "exact is true or false")
        return Terms(
            tasks=self._texts(where, value, "tasks"),
            purposes=self._texts(where, value, "purposes"),
            recipients=self._texts(where, value, "recipients"),
            uses=uses,
            until=self._moment(where, value["until"]),
            exact=value["exact"],
            minimum_parties=parties,
        )

    def _moment(self, where: str, value: Any) -> int:
        if isinstance(value, datetime):
            moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        elif isinstance(value, date):
            # A day counts until it is over.
            moment = datetime.combine(value + timedelta(days=1), time(), UTC)
        else:
            raise self._error(where, "until is a date such as 2030-12-31 (without quotes)")
        return int(moment.timestamp() * 1000)

    def _preparation(self, given: Any) -> Preparation:
        self._known("prepare", self._table("prepare", given), "prepare")
        try:
            return Preparation.parse(given)
        except FederatedError as error:
            raise self._error("prepare", str(error)) from error

    def _job(self, number: int, part: Mapping[str, Any]) -> JobPart:
        where = f"job {number}"
        self._known("job", part, where)
        parameters = {key: part[key] for key in ("columns", "rows", "ridge") if key in part}
        return JobPart(
            name=self._text(where, part, "name"),
            task=self._text(where, part, "task"),
            parameters=parameters,
            purpose=self._text(where, part, "purpose"),
        )

    def _expect(self, number: int, part: Mapping[str, Any], jobs: tuple[str, ...]) -> ExpectPart:
        where = f"expect {number}"
        self._known("expect", part, where)
        if not {"equals", "at_least", "at_most"} & set(part):
            raise self._error(where, "one of equals, at_least and at_most is needed")
        for name in ("at_least", "at_most", "tolerance"):
            if name in part and type(part[name]) not in (int, float):
                raise self._error(where, f"{name} is a number")
        job, path = self._job_name(where, part, jobs), self._text(where, part, "path")
        return ExpectPart(
            name=self._text(where, part, "name", f"{job}: {path}"),
            job=job,
            path=path,
            equals=part.get("equals"),
            at_least=part.get("at_least"),
            at_most=part.get("at_most"),
            tolerance=float(part.get("tolerance", 0.0)),
        )

    def _refuse(self, number: int, part: Mapping[str, Any]) -> RefusePart:
        where = f"refuse {number}"
        self._known("refuse", part, where)
        reason = self._text(where, part, "reason")
        if reason not in REFUSAL_REASONS:
            raise self._error(
                where, f"reason {reason!r} is none{_nearest(reason, REFUSAL_REASONS)}"
            )
        what = self._text(where, part, "what", reason.replace("_", " "))
        return RefusePart(self._text(where, part, "name", what), what, reason)

    def _compare(self, number: int, part: Mapping[str, Any], jobs: tuple[str, ...]) -> ComparePart:
        where = f"compare {number}"
        self._known("compare", part, where)
        values = self._table(where, part.get("values", {}))
        for name, value in values.items():
            if type(value) not in (int, float):
                raise self._error(where, f"values.{name} is a number")
        return ComparePart(
            job=self._job_name(where, part, jobs),
            path=self._text(where, part, "path"),
            title=self._text(where, part, "title"),
            source=self._text(where, part, "source", ""),
            values=tuple((name, float(value)) for name, value in values.items()),
        )

    def _job_name(self, where: str, part: Mapping[str, Any], jobs: tuple[str, ...]) -> str:
        name = self._text(where, part, "job")
        if name not in jobs:
            raise self._error(where, f"there is no job {name!r}{_nearest(name, jobs)}")
        return name

    def _parts(self, given: Mapping[str, Any], name: str) -> list[tuple[int, Mapping[str, Any]]]:
        parts = given.get(name, [])
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            raise self._error(name, f"write each as a table under [[{name}]]")
        return list(enumerate(parts, start=1))

    def _known(self, kind: str, given: Mapping[str, Any], where: str) -> None:
        for key in given:
            if key not in FIELDS[kind]:
                raise self._error(where, f"unknown key {key!r}{_nearest(key, FIELDS[kind])}")

    def _table(self, where: str, given: Any) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise self._error(where, "a table is needed")
        return given

    def _text(
        self, where: str, part: Mapping[str, Any], key: str, default: str | None = None
    ) -> str:
        value = part.get(key, default)
        if value is None:
            raise self._error(where, f"{key} is missing")
        if not isinstance(value, str) or (default is None and not value.strip()):
            raise self._error(where, f"{key} is a text")
        return value

    def _texts(self, where: str, part: Mapping[str, Any], key: str) -> tuple[str, ...]:
        value = part[key]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._error(where, f"{key} is a list of texts")
        return tuple(value)

    def _cents(self, where: str, part: Mapping[str, Any], key: str) -> int:
        value = part.get(key, 0)
        if type(value) is not int or not 0 <= value < 1 << 52:
            raise self._error(where, f"{key} is a whole number of cents")
        return value

    def _distinct(self, what: str, names: Iterable[str]) -> None:
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise self._error(what, f"the name {name!r} stands twice")
            seen.add(name)

    def _error(self, where: str, message: str) -> ScenarioError:
        return ScenarioError(": ".join(part for part in (str(self._path), where, message) if part))


def _nearest(word: str, known: Iterable[str]) -> str:
    near: Callable[..., list[str]] = difflib.get_close_matches
    found = near(word, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else f"; known are {', '.join(known)}"
