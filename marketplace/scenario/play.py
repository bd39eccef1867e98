"""Plays a scenario from enrolment to the auditor's verdict.

outcome = play(load(path), folder, show)
outcome.held          # every job released, every expectation and refusal as the file says
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from federated.errors import FederatedError
from ledger.errors import LedgerError
from ledger.verify import Verdict, verify
from marketplace.client import now_ms
from marketplace.embedded import Embedded
from marketplace.errors import MarketplaceError
from marketplace.processes import Processes
from marketplace.scenario.errors import ScenarioError
from marketplace.scenario.expectations import Checked, check, look_up
from marketplace.scenario.parts import ComparePart, JobPart, Scenario
from marketplace.scenario.refusals import Attempts, Tried
from marketplace.scenario.rehearsal import rehearse
from marketplace.scenario.stage import Market, Stage
from marketplace.settings import Settings

EXPORT_FOLDER = "export"
MARKET_FOLDER = "market"
# Entries; a worked example has one to two hundred.
SHORTEST_EPOCH = 32


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
    """One job, as it ended.

    Attributes:
        state: one of the ends that the service knows.
        result: as released; of a job without an answer {"error": {"reason", "message"}}.
        held: whether it was released, or ended as the scenario expects.
    """

    name: str
    task: str
    state: str
    seconds: float
    result: dict[str, Any]
    receipts: tuple[dict[str, Any], ...]
    held: bool

    @property
    def error(self) -> str:
        """Why there is no answer; empty when there is one."""
        return "" if self.state == "released" else str(self.result["error"]["message"])


@dataclass(frozen=True)
class Compared:
    """One of our figures with the published ones beside it."""

    part: ComparePart
    ours: float


@dataclass(frozen=True)
class Outcome:
    """Everything that a scenario led to.

    Attributes:
        rows: of each provider's file, in the scenario's order.
        log_key: the log's verifier key, as an auditor gets it from outside the export.
    """

    scenario: Scenario
    folder: Path
    rows: tuple[int, ...]
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
            all(job.held for job in self.jobs)
            and all(each.held for each in self.expectations)
            and all(each.held for each in self.refusals)
            and self.verdict.exit_code == 0
        )


def play(scenario: Scenario, folder: Path, show: Show, *, processes: bool = False) -> Outcome:
    """Play a scenario into a new folder.

    Args:
        scenario: what to play.
        folder: made here.
        show: who watches.
        processes: whether each role is a process of its own, over TLS on loopback.

    Raises:
        ScenarioError: the data do not fit the scenario; nothing was written.
        MarketplaceError: the stage could not be set up.
    """
    begun = time.monotonic()
    show.step("Each provider's file is read where it lies", len(scenario.providers))
    parties = rehearse(scenario, now_ms(), show.done)
    market_folder = folder / MARKET_FOLDER
    settings = _settings(market_folder, len(scenario.providers))
    kind = Processes if processes else Embedded
    with _new(folder), kind(market_folder, settings) as market:
        stage = _set_up(market, scenario, show)
        jobs = tuple(_run(stage, part, show) for part in scenario.jobs)
        refusals = _refusals(stage, show)
        verdict = _audit(market, folder / EXPORT_FOLDER, show)
        log_key = market.log_key.text
    played = {job.name: job for job in jobs}
    return Outcome(
        scenario=scenario,
        folder=folder,
        rows=tuple(party.rows for party in parties),
        jobs=jobs,
        expectations=tuple(
            check(part, played[part.job].state, played[part.job].result)
            for part in scenario.expectations
        ),
        refusals=refusals,
        comparisons=tuple(_compared(scenario, played)),
        verdict=verdict,
        log_key=log_key,
        seconds=time.monotonic() - begun,
    )


def _settings(folder: Path, providers: int) -> Settings:
    """Return the environment's settings, with epochs short enough that some end in the play.

    Each epoch brings a close from every node and an index, so it must be longer than these.
    """
    settings = Settings.load(folder / "service")
    usual = Settings(settings.folder)
    if settings.epoch_entries != usual.epoch_entries:
        return settings
    length = max(SHORTEST_EPOCH, 4 * (providers + 1))
    return replace(settings, epoch_entries=length, grace_entries=length)


def _set_up(market: Market, scenario: Scenario, show: Show) -> Stage:
    stage = Stage.set_up(market, scenario)
    show.step("Providers enrol, measure and list their data", len(scenario.providers))
    for part in scenario.providers:
        stage.seat(part)
        show.done(part.name)
    show.step("Researcher and providers sign agreements", len(stage.seats))
    for seat in stage.seats:
        stage.agree(seat)
        show.done(seat.part.name)
    return stage


def _run(stage: Stage, part: JobPart, show: Show) -> Played:
    begun = time.monotonic()
    show.step(f"Job {part.name!r} runs at the nodes", 1)
    state, result, receipts = _play_job(stage, part, show)
    show.done(state)
    expected = stage.scenario.expects_state(part.name)
    return Played(
        name=part.name,
        task=part.task,
        state=state,
        seconds=time.monotonic() - begun,
        result=result,
        receipts=receipts,
        # Where the file says how a job ends, that expectation decides.
        held=state == (expected or "released"),
    )


def _play_job(
    stage: Stage, part: JobPart, show: Show
) -> tuple[str, dict[str, Any], tuple[dict[str, Any], ...]]:
    """Submit a job and wait for its end; return state, result and receipts."""
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
        return "refused", _error(error.code, str(error)), ()
    stage.market.decide()
    view = stage.wait(job, lambda seen: show.running(part.name, seen))
    names = {seat.asset: seat.part.name for seat in stage.seats}
    receipts = tuple(
        {"provider": names[party["asset"]], "state": party["state"], "reason": party["reason"]}
        for party in view["parties"]
    )
    if view["state"] != "released":
        said = view["error"] or {"reason": view["state"], "message": f"the job was {view['state']}"}
        return str(view["state"]), _error(said["reason"], said["message"]), receipts
    try:
        return "released", stage.researcher.result(job), receipts
    except MarketplaceError as error:
        # Released, but not the sum of what the receipts name: the researcher does not believe it.
        return "failed", _error(error.code, str(error)), receipts


def _error(reason: str, message: str) -> dict[str, Any]:
    return {"error": {"reason": reason, "message": message}}


@contextmanager
def _new(folder: Path) -> Iterator[None]:
    """Make the folder; take it away again when what fails is the scenario and not the machine."""
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ScenarioError(f"{folder}: cannot be made: {error.strerror}") from error
    try:
        yield
    except (MarketplaceError, FederatedError, LedgerError):
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _refusals(stage: Stage, show: Show) -> tuple[Tried, ...]:
    parts = stage.scenario.refusals
    if not parts:
        return ()
    show.step("What nodes must refuse is tried", len(parts))
    attempts = Attempts(stage)
    tried = []
    # Around all of them: where the operator is a process, it is restarted for it.
    with stage.market.insecure_operator():
        for part in parts:
            tried.append(attempts.play(part))
            show.done(part.name)
    attempts.end_agreements()
    return tuple(tried)


def _audit(market: Market, folder: Path, show: Show) -> Verdict:
    show.step("An auditor checks the exported ledger", 1)
    market.keep_books()
    market.export(folder)
    verdict = verify(folder, market.log_key)
    show.done(verdict.status)
    return verdict


def _compared(scenario: Scenario, jobs: Mapping[str, Played]) -> list[Compared]:
    found = []
    for part in scenario.comparisons:
        try:
            found.append(Compared(part, float(look_up(jobs[part.job].result, part.path))))
        except (KeyError, TypeError, ValueError):
            # Nothing to compare; a scenario that insists says so in an expectation.
            continue
    return found
