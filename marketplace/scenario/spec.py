"""Reads a scenario file: TOML in, a checked `Scenario` out.

Decides whether every key is known and every value of its kind; what the data say is checked by
`marketplace.scenario.rehearsal`, before anything is played. Every field is described in
docs/scenario.md, which a test compares with `FIELDS`.

    scenario = load(Path("examples/hospitals/scenario.toml"))
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from federated.errors import FederatedError, TableError
from federated.node.table import ReadingSpec
from federated.preparation import Preparation
from federated.tasks import known_tasks
from ledger.errors import StatementError
from ledger.record import one_line
from ledger.statements import JOB_REASONS
from ledger.terms import ANYONE, Terms
from marketplace.client import ENDED
from marketplace.scenario.errors import ScenarioError
from marketplace.scenario.parts import (
    FIELDS,
    MOST_PROVIDERS,
    PARAMETERS,
    STATE,
    ComparePart,
    ExpectPart,
    JobPart,
    ProviderPart,
    RefusePart,
    Scenario,
)

_DEFAULT_TERMS: dict[str, Any] = {
    # The ids of participants come with their enrolment, so a file cannot name one.
    "recipients": [ANYONE],
    "exact": False,
    "minimum_parties": 3,
}
_LARGEST = 1 << 52
"""Far below what JSON readers hold exactly; no scenario has business above it."""


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
    except (ValueError, RecursionError) as error:
        # Also a number of too many digits and tables nested without end, which tomllib lets pass.
        raise ScenarioError(f"{path}: not TOML: {error}") from error


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
        name = self._line(where, part, "name")
        where = f"provider {name!r}"
        reading = {
            **self._table("data", data),
            **self._table(f"{where}.data", part.get("data", {})),
        }
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
        for name, least in (("uses", 0), ("minimum_parties", 2)):
            if type(value[name]) is not int or not least <= value[name] < _LARGEST:
                raise self._error(where, f"{name} is a whole number from {least} up")
        for name in ("tasks", "purposes"):
            self._texts(where, value, name)
        for task in value["tasks"]:
            if task not in known_tasks():
                raise self._error(
                    where, f"there is no task {task!r}{_nearest(task, known_tasks())}"
                )
        try:
            return Terms.from_payload(
                {**value, "until": self._moment(where, value["until"])}, where
            )
        except StatementError as error:
            raise self._error("", str(error)) from error

    def _moment(self, where: str, value: Any) -> int:
        if isinstance(value, str):
            value = _from_text(value)
        if isinstance(value, datetime):
            moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        elif isinstance(value, date):
            # A day counts until it is over.
            moment = datetime.combine(value, time(23, 59, 59, 999_000), UTC)
        else:
            raise self._error(where, "until is a date such as 2030-12-31")
        if moment.year < 1970:
            raise self._error(where, "until is a date from 1970 on")
        return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)

    def _preparation(self, given: Any) -> Preparation:
        self._known("prepare", self._table("prepare", given), "prepare")
        try:
            return Preparation.parse(given)
        except FederatedError as error:
            raise self._error("prepare", str(error)) from error

    def _job(self, number: int, part: Mapping[str, Any]) -> JobPart:
        where = f"job {number}"
        self._known("job", part, where)
        parameters = {key: part[key] for key in PARAMETERS if key in part}
        name = self._line(where, part, "name")
        where = f"job {name!r}"
        task = self._text(where, part, "task")
        known = known_tasks()
        if task not in known:
            raise self._error(where, f"there is no task {task!r}{_nearest(task, known)}")
        try:
            known[task].parse_parameters(parameters)
        except FederatedError as error:
            raise self._error(where, str(error)) from error
        return JobPart(name, task, parameters, self._line(where, part, "purpose"))

    def _expect(self, number: int, part: Mapping[str, Any], jobs: tuple[str, ...]) -> ExpectPart:
        where = f"expect {number}"
        self._known("expect", part, where)
        if not {"equals", "at_least", "at_most"} & set(part):
            raise self._error(where, "one of equals, at_least and at_most is needed")
        for name in ("at_least", "at_most", "tolerance"):
            self._number(where, name, part.get(name, 0))
        if part.get("tolerance", 0) < 0:
            raise self._error(where, "tolerance is a number from 0 up")
        job, path = self._job_name(where, part, jobs), self._text(where, part, "path")
        ended = part.get("equals")
        if path == STATE and ended not in ENDED:
            raise self._error(where, f"equals is no end of a job{_nearest(str(ended), ENDED)}")
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
        if reason not in JOB_REASONS:
            raise self._error(where, f"reason {reason!r} is none{_nearest(reason, JOB_REASONS)}")
        what = self._text(where, part, "what", reason.replace("_", " "))
        return RefusePart(self._text(where, part, "name", what), what, reason)

    def _compare(self, number: int, part: Mapping[str, Any], jobs: tuple[str, ...]) -> ComparePart:
        where = f"compare {number}"
        self._known("compare", part, where)
        values = self._table(where, part.get("values", {}))
        for name, value in values.items():
            self._number(where, f"values.{name}", value)
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

    def _line(self, where: str, part: Mapping[str, Any], key: str) -> str:
        value = self._text(where, part, key)
        try:
            one_line(value, key)
        except StatementError as error:
            raise self._error(where, str(error)) from error
        return value

    def _number(self, where: str, key: str, value: Any) -> None:
        if type(value) not in (int, float) or not math.isfinite(value):
            raise self._error(where, f"{key} is a number")

    def _texts(self, where: str, part: Mapping[str, Any], key: str) -> tuple[str, ...]:
        value = part[key]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._error(where, f"{key} is a list of texts")
        return tuple(value)

    def _cents(self, where: str, part: Mapping[str, Any], key: str) -> int:
        value = part.get(key, 0)
        if type(value) is not int or not 0 <= value < _LARGEST:
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


def _from_text(text: str) -> date | None:
    """Return the day or moment that a quoted date names, None if it names none."""
    try:
        return date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text)
    except ValueError:
        return None


def _nearest(word: str, known: Iterable[str]) -> str:
    known = list(known)
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else f"; known are {', '.join(known)}"
