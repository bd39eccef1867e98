"""From signed statements to the plan: the same at coordinator, node and buyer.

Each side builds the plan from the job and the data cards that it verified itself, never from what
another side says the plan is.
"""

from __future__ import annotations

from collections.abc import Mapping

from federated.errors import PlanError
from federated.plan import Party, Plan
from federated.preparation import Preparation
from federated.tasks import AnyTask, find_task
from ledger.errors import LedgerError
from ledger.statements import Asset, Job


def plan_of(job: Job, assets: Mapping[str, Asset]) -> tuple[AnyTask, Plan]:
    """Return a job's task and plan.

    Args:
        job: the signed job.
        assets: the signed data card of each of its assets, by id.

    Raises:
        PlanError: the job names another version of the task, or a data card is not its node's.
        TaskError: unknown task or parameters, or the cards show that it cannot be computed.
        PreparationError: the row selection is malformed.
    """
    task = find_task(job.task)
    if job.task_version != task.version:
        raise PlanError(
            f"the job asks for version {job.task_version} of {job.task}; here is {task.version}"
        )
    parties = []
    for asset_id in job.assets:
        asset = assets[asset_id]
        try:
            measured = asset.measured()
        except LedgerError as error:
            raise PlanError(f"the data card of {asset.name}: {error}") from error
        parties.append(Party.from_measurement(asset_id, asset.name, measured.payload()))
    plan = Plan(
        task=task.name,
        version=task.version,
        parameters=task.parse_parameters(job.parameters),
        cohort=tuple(parties),
        preparation=Preparation.parse(job.preparation),
    )
    task.check_plan(plan)
    return task, plan
