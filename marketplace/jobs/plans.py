"""From signed statements to the plan that coordinator, nodes and buyer all compute with."""

from __future__ import annotations

from collections.abc import Mapping

from federated.plan import Party, Plan
from federated.preparation import Preparation
from federated.tasks import find_task
from ledger.statements import Asset, Job


def build_plan(job: Job, assets: Mapping[str, Asset]) -> Plan:
    """Return the plan of a job over the data cards of its assets, checked against them.

    Args:
        job: the job.
        assets: by id, every asset that the job names.

    Raises:
        TaskError: an unknown task or parameter, or one that these cards cannot serve.
        PreparationError: the row selection is none.
        LedgerError: a measurement that its node did not sign.
    """
    task = find_task(job.task, job.task_version)
    cohort = tuple(
        Party.from_measurement(asset, assets[asset].name, assets[asset].measured().payload())
        for asset in job.assets
    )
    plan = Plan(
        task=task.name,
        version=task.version,
        parameters=task.parse_parameters(job.parameters),
        cohort=cohort,
        preparation=Preparation.parse(job.preparation),
    )
    task.check_plan(plan)
    return plan
