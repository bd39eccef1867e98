"""Holds a scenario against its data before anything is played, so that a mistake changes nothing.

Reads every file, applies the preparation and builds every job's plan, at the one place where the
owner of all data files runs them together anyway.
"""

from __future__ import annotations

from federated.errors import FederatedError
from federated.node.profile import measure
from federated.node.rows import Rows, prepare
from federated.node.vault import Listing, Vault
from federated.plan import Party, Plan
from federated.tasks import find_task
from marketplace.scenario.errors import ScenarioError
from marketplace.scenario.spec import JobPart, ProviderPart, Scenario


def rehearse(scenario: Scenario) -> None:
    """Return only if every file can be read, prepared and used as the scenario says.

    Raises:
        ScenarioError: names the provider or job, and file, line or column.
    """
    rows: list[Rows] = []
    cohort: list[Party] = []
    for provider in scenario.providers:
        try:
            prepared, party = _read(provider, scenario)
        except FederatedError as error:
            raise ScenarioError(f"provider {provider.name!r}: {error}") from error
        rows.append(prepared)
        cohort.append(party)
    for job in scenario.jobs:
        try:
            _plan(job, scenario, tuple(cohort), rows)
        except FederatedError as error:
            raise ScenarioError(f"job {job.name!r}: {error}") from error


def _read(provider: ProviderPart, scenario: Scenario) -> tuple[Rows, Party]:
    vault = Vault({provider.name: Listing(provider.file, provider.reading)})
    table, digest = vault.table(provider.name)
    rows = prepare(table, scenario.preparation)
    return rows, Party.from_measurement(provider.name, provider.name, measure(table, digest))


def _plan(job: JobPart, scenario: Scenario, cohort: tuple[Party, ...], rows: list[Rows]) -> None:
    task = find_task(job.task)
    plan = Plan(
        task=task.name,
        version=task.version,
        parameters=task.parse_parameters(job.parameters),
        cohort=cohort,
        preparation=scenario.preparation,
    )
    for column in plan.parameters["columns"]:
        if scenario.preparation.levels(column) is None:
            for party, prepared in zip(cohort, rows, strict=True):
                if column in party.columns:
                    # Says at which line the first cell stands that is no number.
                    prepared.column(column, "all")
    task.check_plan(plan)
