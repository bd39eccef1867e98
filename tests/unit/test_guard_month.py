"""How many joint jobs a month an asset serves: all count, by journal and by log, whoever asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from federated.errors import RefusedError
from federated.node.guard import Ask, _matched_seldom
from federated.preparation import Preparation
from tests.world import World

DAY = 86_400_000


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world", providers=2)


def agreed(monthly: int) -> Preparation:
    return Preparation.parse({"match": {"columns": {"id": []}, "monthly": monthly}})


def joint(world: World) -> str:
    return world.insecure_put(world.job(task="intersection"))


def refused(world: World, job: str, monthly: int, granted: tuple[str, ...] = ()) -> bool:
    ask = Ask(job, world.providers[0].asset)
    history, now = world.log.history, world.log.history.entries[-1].time
    try:
        _matched_seldom(history, ask, agreed(monthly), frozenset(granted), now)
    except RefusedError as error:
        return error.reason == "quota_used_up"
    return False


def test_those_under_way_count_by_the_journal_and_the_asked_one_does_not(world: World):
    jobs = [joint(world) for _ in range(3)]
    assert not refused(world, jobs[2], 3, tuple(jobs))
    assert refused(world, jobs[2], 2, tuple(jobs))
    assert not refused(world, jobs[2], 2, (jobs[0], jobs[2]))


def test_a_limit_of_none_permits_none(world: World):
    assert refused(world, joint(world), 0)


@pytest.mark.parametrize("state", ["completed", "failed", "refused"])
def test_those_that_sent_something_count_by_the_log_when_the_journal_forgot(
    world: World, state: str
):
    first, second = joint(world), joint(world)
    provider = world.providers[0]
    grant = world.insecure_put(world.grant(provider, first))
    changes = {
        "completed": {},
        "failed": {"state": "failed", "reason": "cancelled"},
        "refused": {"state": "refused", "reason": "revoked", "contributions": ()},
    }[state]
    world.insecure_put(world.receipt(provider, first, grant, **changes))
    assert refused(world, second, 1) == (state != "refused")


def test_another_assets_jobs_and_sums_do_not_count(world: World):
    first, second = joint(world), joint(world)
    other = world.providers[1]
    grant = world.insecure_put(world.grant(other, first))
    world.insecure_put(world.receipt(other, first, grant))
    plain = world.put(world.job())
    assert not refused(world, second, 1, (plain,))
    # And a sum is not held against them.
    assert not refused(world, plain, 0, (first, second))


def test_what_is_a_month_ago_does_not_count_any_more(world: World):
    first = joint(world)
    world.clock.advance(29 * DAY)
    assert refused(world, joint(world), 1, (first,))
    world.clock.advance(2 * DAY)
    assert not refused(world, joint(world), 1, (first,))
