"""Who may read which statement: every kind against every role."""

from pathlib import Path

import pytest

from marketplace.log_access import may_read, readers
from marketplace.participants.access import Caller
from tests.world import World

PUBLIC = ("participant", "asset", "offer", "revocation")
# Who reads what of one job between the researcher and providers 1 to 3; provider 4 is not in it.
COHORT = ("job", "grant", "release", "settlement", "receipt")


@pytest.fixture(scope="module", name="world")
def _world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("world"), providers=4)
    outsider = world.providers.pop()
    job = world.put(world.job())
    grants = [world.put(world.grant(provider, job)) for provider in world.providers]
    receipts = [
        world.put(world.receipt(provider, job, grant))
        for provider, grant in zip(world.providers, grants, strict=True)
    ]
    release = world.put(world.release(job, receipts))
    world.put(world.settlement(job, release))
    world.put(world.revoke(world.providers[0], world.providers[0].offer))
    world.providers.append(outsider)
    return world


def caller(world: World, who: str) -> Caller:
    people = {
        "provider1": (world.providers[0].id, {"provider", "node"}),
        "provider2": (world.providers[1].id, {"provider", "node"}),
        "outsider": (world.providers[3].id, {"provider", "node"}),
        "researcher": (world.researcher.id, {"researcher"}),
        "auditor": ("participant:" + "a" * 64, {"auditor"}),
        "operator": (world.operator.id, {"operator"}),
        "empty": (world.researcher.id, set()),
    }
    participant, scopes = people[who]
    return Caller(participant, who, frozenset(scopes))


def expected(who: str, kind: str, world: World, statement_id: str) -> bool:
    if who == "empty":
        return False
    if who in ("auditor", "operator") or kind in PUBLIC:
        return True
    if kind == "agreement":
        statement = world.statements[statement_id]
        return caller(world, who).id in statement.parties()
    assert kind in COHORT
    return who in ("provider1", "provider2", "researcher")


@pytest.mark.parametrize(
    "who", ["provider1", "provider2", "outsider", "researcher", "auditor", "operator", "empty"]
)
def test_every_kind_is_opened_to_its_parties_alone(world: World, who: str):
    seen = set()
    for logged in world.log.history.by_index.values():
        kind = logged.statement.kind
        seen.add(kind)
        found = may_read(caller(world, who), logged.statement, world.log.history)
        assert found == expected(who, kind, world, logged.id), f"{who} and {kind} {logged.index}"
    assert seen == {*PUBLIC, *COHORT, "agreement"}


def test_a_refusal_of_an_unknown_job_is_its_providers_alone(world: World):
    refusal = world.receipt(
        world.providers[0], "job:" + "0" * 64, None, state="refused", reason="not_proven"
    )
    assert readers(refusal, world.log.history) == {world.providers[0].id}


def test_who_holds_a_share_of_a_jobs_key_reads_what_is_about_that_job(tmp_path: Path):
    world = World(tmp_path, providers=4)
    holder = world.providers.pop()
    plain = world.put(world.job())
    shared = world.put(
        world.job(nonce="shared", encryption_key={"holders": [{"holder": holder.id}]})
    )
    caller = Caller(holder.id, "holder", frozenset({"provider"}))
    for job, reads in ((shared, True), (plain, False)):
        grants = [world.put(world.grant(provider, job)) for provider in world.providers]
        receipts = [
            world.put(world.receipt(provider, job, grant))
            for provider, grant in zip(world.providers, grants, strict=True)
        ]
        release = world.put(world.release(job, receipts))
        for name in (job, *grants, *receipts, release):
            statement = world.log.history.by_id[name].statement
            assert may_read(caller, statement, world.log.history) == reads, name
