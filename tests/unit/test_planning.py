"""The plan that coordinator, node and researcher each build from the signed statements."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from federated.errors import FederatedError, PlanError, PreparationError, TaskError
from federated.plan import Plan
from federated.planning import plan_of
from ledger.statements import Asset
from tests.drafts import key_of
from tests.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"), providers=3)


def cards(world: World) -> dict[str, Asset]:
    found = {provider.asset: world.statements[provider.asset] for provider in world.providers}
    return {name: card for name, card in found.items() if isinstance(card, Asset)}


def test_a_plan_says_what_the_job_and_the_cards_say(world: World):
    job = world.job()
    task, plan = plan_of(job, cards(world))
    assert task.name == plan.task == "statistics"
    assert [party.asset_id for party in plan.cohort] == list(job.assets)
    assert plan.parameters == {"columns": ["age", "chol"], "rows": "all"}
    assert plan.magnitude("chol") == 10
    assert Plan.from_json(plan.to_json()) == plan
    # The same for everyone, in whatever order the cards come.
    shuffled = dict(reversed(cards(world).items()))
    assert plan_of(job, shuffled)[1].to_json() == plan.to_json()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"task": "average"}, TaskError),
        ({"task_version": 2}, PlanError),
        ({"parameters": {"columns": ["agee"]}}, TaskError),
        ({"parameters": {"columns": []}}, TaskError),
        ({"parameters": {"colums": ["age"]}}, TaskError),
        ({"preparation": {"complete": True}}, PreparationError),
        ({"preparation": []}, PreparationError),
    ],
)
def test_a_job_that_cannot_be_meant_has_no_plan(
    world: World, changes: dict[str, Any], error: type[FederatedError]
):
    with pytest.raises(error):
        plan_of(replace(world.job(), **changes), cards(world))


def test_one_party_has_no_plan(world: World):
    job = world.job()
    lone = replace(job, assets=job.assets[:1], agreements=job.agreements[:1])
    with pytest.raises(TaskError) as refused:
        plan_of(lone, cards(world))
    assert refused.value.reason == "one_party"


def test_a_card_that_its_node_did_not_measure_has_no_plan(world: World):
    job, found = world.job(), cards(world)
    first = job.assets[0]
    card = found[first]
    other = world.measurement(world.providers[0], rows=5).sign(key_of("stranger"))
    for measurement in (other, {}, {**card.measurement, "payload": "e30="}):
        found[first] = replace(card, measurement=measurement)
        with pytest.raises(PlanError, match="data card of"):
            plan_of(job, found)
