"""Log, tags, canaries, rosters, results, bills: each check with a twin that changes one thing."""

from dataclasses import replace
from pathlib import Path

import pytest

from ledger.ids import short
from ledger.reconcile import Evidence, reconcile
from ledger.statements import Release
from ledger.use_index import root_of
from tests.world import World, key_of, tag_key_of


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "world", 2)
    world.put(world.schedule(epoch_entries=8, grace_entries=40))
    world.use = world.one_use()
    return world


def codes(world: World, **evidence: object) -> list[str]:
    return [item.code for item in reconcile(world.log.history, Evidence(**evidence)).findings]  # type: ignore[arg-type]


def settle(world: World) -> None:
    world.close_epochs()
    for _ in range(38):
        world.put(world.offer(world.providers[0]))


def tag_keys(world: World) -> dict[str, bytes]:
    return {item.asset: tag_key_of(item.name) for item in world.providers}


def test_all_evidence_of_an_honest_log_fits(world: World):
    settle(world)
    assert world.use is not None
    release = world.statements[world.use.release]
    assert isinstance(release, Release)
    result = reconcile(
        world.log.history,
        Evidence(
            journals=[(item.name, world.journal(item)) for item in world.providers],
            tag_keys=tag_keys(world),
            canaries=[world.use.job, "nonce 1"],
            roster={item.key.verify_key.text for item in world.parties},
            results={world.use.job: release.result},
        ),
    )
    assert (result.findings, result.missing) == ((), ())
    assert result.checked["use_indexes"] == len(world.log.history.use_indexes) > 0
    totals = result.accounts.totals
    assert {name: totals[name] for name in ("asked", "granted", "started", "settled")} == (
        dict.fromkeys(("asked", "granted", "started", "settled"), 2)
    )
    assert (totals["billed_cents"], totals["fee_cents"], totals["share_cents"]) == (2000, 200, 1800)


def test_an_index_is_that_of_its_tags(world: World):
    world.put(world.epoch(world.providers[0]))
    world.put(world.epoch(world.providers[1]))
    world.put(world.use_index())
    assert codes(world, tag_keys=tag_keys(world)) == []
    index = world.use_index()
    assert index.tags == 2
    world.put(replace(index, root=root_of([bytes(32), bytes([1]) * 32])))
    assert "wrong_index_root" in codes(world, tag_keys=tag_keys(world))
    assert codes(world) == []


def test_a_tag_key_is_the_one_committed_to(world: World):
    settle(world)
    wrong = tag_keys(world) | {world.providers[0].asset: bytes(32)}
    result = reconcile(world.log.history, Evidence(tag_keys=wrong))
    assert [item.code for item in result.findings] == ["wrong_tag_key"]
    # What needs that key is unknown, not wrong.
    assert {item.code for item in result.missing} == {"unchecked_index"}
    assert codes(world, tag_keys={world.providers[0].asset: b"short"}) == ["wrong_tag_key"]
    assert codes(world, tag_keys={"asset:" + 64 * "0": bytes(32)}) == ["wrong_tag_key"]


def test_a_planted_job_is_there_and_has_receipts(world: World):
    assert codes(world, canaries=["nonce 1"]) == []
    assert codes(world, canaries=["nonce 99"]) == ["missing_canary"]
    job = world.put(world.job())
    assert codes(world, canaries=[job]) == []
    settle(world)
    assert codes(world, canaries=[job]) == ["missing_canary"]


def test_a_sealed_job_may_be_the_planted_one(world: World):
    world.log.history.sealed_jobs[3] = [0]
    result = reconcile(world.log.history, Evidence(canaries=["nonce 99"]))
    assert result.findings == ()
    assert [item.code for item in result.missing] == ["unseen_canary"]


def test_a_participant_is_one_that_somebody_outside_knows(world: World):
    roster = {item.key.verify_key.text for item in world.parties}
    assert codes(world, roster=roster) == []
    (found,) = reconcile(
        world.log.history, Evidence(roster=roster - {world.researcher.key.verify_key.text})
    ).findings
    assert (found.code, found.where) == ("unknown_participant", "entry 1")


def test_a_participant_with_a_new_key_is_known_by_either(world: World):
    roster = {item.key.verify_key.text for item in world.parties}
    provider, new = world.providers[0], key_of("hospital1.example/second")
    world.put(world.rotate(provider, provider.id, new))
    assert codes(world, roster=roster) == []
    today = roster - {provider.key.verify_key.text} | {new.verify_key.text}
    assert codes(world, roster=today) == []
    assert codes(world, roster=today - {new.verify_key.text}) == ["unknown_participant"]


def test_a_buyer_got_what_was_released(world: World):
    assert world.use is not None
    release = world.statements[world.use.release]
    assert isinstance(release, Release)
    assert codes(world, results={world.use.job: release.result}) == []
    assert codes(world, results={world.use.job: "sha256:" + 64 * "0"}) == ["wrong_result"]
    assert codes(world, results={"job:" + 64 * "0": release.result}) == ["unlogged_result"]


def test_a_job_that_stopped_without_a_word(world: World):
    job, grants, receipts = world.receipted_job()
    assert codes(world) == []
    settle(world)
    (found,) = reconcile(world.log.history).findings
    assert (found.code, found.severity) == ("unreleased_job", "minor")
    assert short(job) in found.message
    release = world.put(world.release(job, receipts))
    settle(world)
    assert codes(world) == ["unsettled_job"]
    world.put(world.settlement(job, release))
    assert codes(world) == []
    other, grants = world.granted_job()
    world.put(world.receipt(world.providers[0], other, grants[0]))
    settle(world)
    assert codes(world) == ["unfinished_job"]


def test_a_failure_says_why_a_job_stopped(world: World):
    job, grants = world.granted_job()
    first, second = world.providers
    world.put(world.receipt(first, job, grants[0]))
    world.put(world.receipt(second, job, grants[1], state="failed", reason="cancelled"))
    settle(world)
    assert codes(world) == []


def test_what_is_told_of_a_job_is_told_once(world: World):
    job, grants = world.granted_job()
    pairs = zip(world.providers, grants, strict=True)
    receipts = [world.put(world.receipt(p, job, grant)) for p, grant in pairs]
    world.insecure_put(world.release(job, receipts[:1]))
    settle(world)
    assert "release_without_receipts" in world.log.history.broken.values()
    assert codes(world) == []
