"""A whole marketplace in a temporary folder, for the federated bench: real proofs, keys and log.

with Market(folder, hospitals()) as market:
    run = market.run()                 # one regression, from the job's submission to its release
    plain = market.plain().run()       # the same one without governance
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from bench.federated_plain import Plain
from bench.federated_trace import Run, Tap
from federated.node.profile import measure
from federated.node.rows import prepare
from federated.node.table import ReadingSpec, read_table
from federated.plan import Party, Plan
from federated.preparation import Preparation
from federated.tasks import find_task
from ledger.terms import Terms
from marketplace.client import ENDED
from marketplace.embedded import Embedded
from marketplace.scenario.parts import JobPart, ProviderPart, Scenario
from marketplace.scenario.spec import load
from marketplace.scenario.stage import Stage
from marketplace.settings import Settings

HOSPITALS = Path(__file__).parents[1] / "examples" / "hospitals" / "scenario.toml"
TASK = "logistic"
PURPOSE = "bench"
COLUMNS = 10
USES = 1_000
LOOK = 0.005  # seconds between two looks at a job that is being released
UNTIL = 4_102_444_800_000  # the year 2100


def hospitals() -> Scenario:
    """The four hospitals of the demo and its first regression, with uses enough for a bench."""
    scenario = load(HOSPITALS)
    providers = tuple(
        replace(each, terms=replace(each.terms, uses=USES)) for each in scenario.providers
    )
    job = next(each for each in scenario.jobs if each.task == TASK)
    return replace(scenario, providers=providers, jobs=(job,))


def simulated(folder: Path, providers: int, rows: int) -> Scenario:
    """Providers with so many rows each, of ten columns and an outcome that depends on them."""
    folder.mkdir(parents=True)
    names = tuple(f"x{number}" for number in range(1, COLUMNS + 1))
    parameters = find_task(TASK).parse_parameters({"columns": [*names], "ridge": 1.0})
    terms = Terms(
        tasks=(TASK,),
        purposes=(PURPOSE,),
        recipients=("*",),
        uses=USES,
        until=UNTIL,
        exact=True,
        minimum_parties=min(3, providers),
    )
    return Scenario(
        title="Bench",
        description="",
        providers=tuple(
            ProviderPart(
                name=f"Provider {number}",
                file=_write_rows(folder / f"{number}.csv", number, rows, names),
                reading=ReadingSpec(),
                terms=terms,
                price_cents=100,
                cost_cents=0,
                description="",
                rights="",
            )
            for number in range(1, providers + 1)
        ),
        preparation=Preparation.parse({"label": {"column": "outcome", "above": 0}}),
        jobs=(JobPart("fit", TASK, parameters, PURPOSE),),
    )


def _write_rows(file: Path, seed: int, rows: int, names: tuple[str, ...]) -> Path:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(rows, len(names)))
    weights = np.linspace(-1, 1, len(names))
    outcome = values @ weights + generator.logistic(size=rows) > 0
    table = np.column_stack([values, outcome])
    form = ["%.3f"] * len(names) + ["%d"]
    np.savetxt(
        file, table, fmt=form, delimiter=",", header=",".join([*names, "outcome"]), comments=""
    )
    return file


class Market:
    """One scenario's parties, enrolled and agreed, ready to run its job again and again."""

    def __init__(self, folder: Path, scenario: Scenario) -> None:
        self._scenario = scenario
        self._tap = Tap()
        settings = Settings(folder / "service")
        self._market = Embedded(folder, settings, tap=self._tap)
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        """Start the service, enrol everybody and sign the agreements."""
        self._exits.enter_context(self._market)
        self._stage = Stage.set_up(self._market, self._scenario)
        for part in self._scenario.providers:
            self._stage.agree(self._stage.seat(part))
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the service."""
        self._exits.close()

    def run(self) -> Run:
        """Run the job once, from its signature to its release.

        Raises:
            RuntimeError: it was not released, or the tap missed its end.
        """
        researcher, (part,) = self._stage.researcher, self._scenario.jobs
        self._tap.start(len(self._stage.seats))
        begun = time.perf_counter()
        job = researcher.submit_job(
            name=part.name,
            task=part.task,
            parameters=part.parameters,
            preparation=self._scenario.preparation.to_json(),
            purpose=part.purpose,
            agreements=self._stage.agreements,
        )
        self._market.decide()
        view = self._wait(job)
        seconds = time.perf_counter() - begun
        if view["state"] != "released":
            raise RuntimeError(f"the job was {view['state']}: {view['error']}")
        # Otherwise the end of the job would be taken for a part of its last round.
        if not self._tap.wait(0):
            raise RuntimeError("the tap does not know the messages that end a job")
        return Run(self._tap.rounds(), seconds, self._tap.conversation(), researcher.result(job))

    def _wait(self, job: str) -> Mapping[str, Any]:
        """Wait for a job's end, without asking the service while the rounds go on."""
        while True:
            # A job that is refused or fails may never be finished at every node.
            over = self._tap.wait(1.0)
            view = self._stage.researcher.job(job)
            if view["state"] in ENDED:
                return view
            if over:
                time.sleep(LOOK)


def plain_of(scenario: Scenario) -> Plain:
    """A scenario's job over the same prepared rows, to be run without governance."""
    (part,) = scenario.jobs
    tables = {
        each.name: read_table(each.file.read_bytes(), each.reading, each.file.name)
        for each in scenario.providers
    }
    plan = Plan(
        task=part.task,
        version=find_task(part.task).version,
        parameters=part.parameters,
        cohort=tuple(
            Party.from_measurement(name, name, measure(table, "")) for name, table in tables.items()
        ),
        preparation=scenario.preparation,
    )
    return Plain(plan, [prepare(table, scenario.preparation) for table in tables.values()])
