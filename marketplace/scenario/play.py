"""Plays a scenario from enrolment to the auditor's verdict.

outcome = play(load(path), folder, show)
outcome.held          # every job released, every expectation and refusal as the file says
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ledger.export import export
from ledger.keys import SigningKey
from ledger.verify import Verdict, verify
from marketplace.embedded import Embedded
from marketplace.errors import MarketplaceError
from marketplace.scenario.expectations import Checked, check, look_up
from marketplace.scenario.refusals import Attempts, Tried
from marketplace.scenario.rehearsal import rehearse
from marketplace.scenario.spec import ComparePart, JobPart, Scenario
from marketplace.scenario.stage import Stage

EXPORT_FOLDER = "export"
MARKET_FOLDER = "market"


class Show(Protocol):
    """Somebody who watches a scenario being played."""

    def step(self, text: str, of: int) -> None:
        """A chapter begins that has `of` parts."""

    def done(self, text: str) -> None:
        """One part of the chapter is done."""

    def running(self, job: str, view: Mapping[str, Any]) -> None:
        """A job is under way; `view` is what the service says of it."""


@dataclass(frozen=True)
class Played:
    """One job, as it ended."""

    name: str
    task: str
    id: str
    state: str
    seconds: float
    result: dict[str, Any]
    receipts: tuple[dict[str, Any], ...]
    error: str


@dataclass(frozen=True)
class Compared:
    """One of our figures with the published ones beside it."""

    part: ComparePart
    ours: float


@dataclass(frozen=True)
class Outcome:
    """Everything that a scenario led to."""

    scenario: Scenario
    folder: Path
    jobs: tuple[Played, ...]
    expectations: tuple[Checked, ...]
    refusals: tuple[Tried, ...]
    comparisons: tuple[Compared, ...]
    verdict: Verdict
    log_key: str
    seconds: float

    @property
    def export(self) -> Path:
        """The folder that an auditor gets."""
        return self.folder / EXPORT_FOLDER

    @property
    def held(self) -> bool:
        """Whether all went as the scenario says, and the ledger is sound."""
        return (
            all(job.state == "released" for job in self.jobs)
            and all(each.held for each in self.expectations)
            and all(each.held for each in self.refusals)
            and self.verdict.exit_code == 0
        )


def play(scenario: Scenario, folder: Path, show: Show) -> Outcome:
    """Play a scenario into a new folder.

    Raises:
        ScenarioError: the data do not fit the scenario; nothing was written.
        MarketplaceError: the stage could not be set up.
    """
    begun = time.monotonic()
    show.step("Reading the data files where they are", len(scenario.providers))
    rehearse(scenario)
    with Embedded(folder / MARKET_FOLDER) as market:
        stage = _set_up(market, scenario, show)
        jobs = tuple(_run(stage, part, show) for part in scenario.jobs)
        refusals = _refusals(stage, show)
        verdict = _audit(market, folder / EXPORT_FOLDER, show)
        log_key = market.log_key.text
    documents = {job.name: _document(job) for job in jobs}
    return Outcome(
        scenario=scenario,
        folder=folder,
        jobs=jobs,
        expectations=tuple(check(part, documents[part.job]) for part in scenario.expectations),
        refusals=refusals,
        comparisons=tuple(_compared(scenario, documents)),
        verdict=verdict,
        log_key=log_key,
        seconds=time.monotonic() - begun,
    )


def _set_up(market: Embedded, scenario: Scenario, show: Show) -> Stage:
    stage = Stage.set_up(market, scenario)
    show.step("Providers enrol, their nodes measure, assets are listed", len(scenario.providers))
    for part in scenario.providers:
        stage.seat(part)
        show.done(part.name)
    show.step("Researcher and providers negotiate and sign", len(stage.seats))
    for seat in stage.seats:
        stage.agree(seat)
        show.done(seat.part.name)
    return stage


def _run(stage: Stage, part: JobPart, show: Show) -> Played:
    begun = time.monotonic()
    show.step(f"Job {part.name}: {part.task}", 1)
    result: dict[str, Any] = {}
    try:
        job = stage.researcher.submit_job(
            name=part.name,
            task=part.task,
            parameters=part.parameters,
            preparation=stage.scenario.preparation.to_json(),
            purpose=part.purpose,
            agreements=stage.agreements,
        )
    except MarketplaceError as error:
        seconds = time.monotonic() - begun
        return Played(part.name, part.task, "", "refused", seconds, {}, (), str(error))
    stage.market.decide()
    view = stage.wait(job, lambda seen: show.running(part.name, seen))
    message = view["error"]["message"] if view["error"] else ""
    state = view["state"]
    if state == "released":
        try:
            result = stage.researcher.result(job)
        except MarketplaceError as error:
            state, message = "failed", str(error)
    names = {seat.asset: seat.part.name for seat in stage.seats}
    receipts = tuple(
        {"provider": names[party["asset"]], "state": party["state"], "reason": party["reason"]}
        for party in view["parties"]
    )
    show.done(part.name)
    seconds = time.monotonic() - begun
    return Played(part.name, part.task, job, state, seconds, result, receipts, message)


def _refusals(stage: Stage, show: Show) -> tuple[Tried, ...]:
    parts = stage.scenario.refusals
    if not parts:
        return ()
    show.step("What must be refused is tried, with the operator's checks off", len(parts))
    attempts = Attempts(stage)
    tried = []
    for part in parts:
        tried.append(attempts.play(part))
        show.done(part.name)
    return tuple(tried)


def _audit(market: Embedded, folder: Path, show: Show) -> Verdict:
    show.step("The auditor gets an export and checks it offline", 1)
    log = market.app.state.context.log
    key = SigningKey.load(market.app.state.context.settings.log_key)
    export(
        log, key, folder, opened=range(log.size), scope="auditor: everything", now=market.clock()
    )
    verdict = verify(folder, market.log_key)
    show.done(verdict.status)
    return verdict


def _document(job: Played) -> dict[str, Any]:
    return {**job.result, "state": job.state, "error": job.error}


def _compared(scenario: Scenario, documents: Mapping[str, Any]) -> list[Compared]:
    found = []
    for part in scenario.comparisons:
        try:
            found.append(Compared(part, float(look_up(documents[part.job], part.path))))
        except (KeyError, TypeError, ValueError):
            continue
    return found
