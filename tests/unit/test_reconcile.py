"""Log, tags, canaries, rosters, results, bills: each check with a twin that changes one thing."""

from dataclasses import replace
from pathlib import Path

import pytest

from ledger.history import History
from ledger.ids import short
from ledger.reconcile import Evidence, Reconciliation, reconcile
from ledger.statements import Release
from ledger.tally import Tally
from ledger.use_index import root_of
from ledger.verify import audit
from tests.drafts import key_of, tag_key_of
from tests.forgery import chain, insecure_export
from tests.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "world", 2)
    world.put(world.schedule(epoch_entries=8, grace_entries=40))
    world.use = world.one_use()
    return world


def codes(world: World, **evidence: object) -> list[str]:
    return [item.code for item in reconcile(world.log.history, Evidence(**evidence)).findings]  # type: ignore[arg-type]


def codes_of(result: Reconciliation) -> tuple[list[str], list[str]]:
    return [item.code for item in result.findings], [item.code for item in result.missing]


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


def sealed(world: World, *kept_back: int) -> History:
    opened = [index for index in range(world.log.size) if index not in kept_back]
    folder = world.folder / f"export {len(list(world.folder.iterdir()))}"
    return audit(world.export(folder, opened), world.log.vkey).history


def test_an_index_that_broke_a_rule_is_not_recomputed(world: World):
    """The rules name it already, and its epoch may be none."""
    world.close_epochs()
    before = reconcile(world.log.history, Evidence(tag_keys=tag_keys(world))).checked["use_indexes"]
    index = world.use_index(number=len(world.log.history.use_indexes))
    later = replace(index, root=root_of([bytes(32), bytes([1]) * 32]))
    world.insecure_put(later)
    assert "not_seen_yet" in world.log.history.broken.values()
    result = reconcile(world.log.history, Evidence(tag_keys=tag_keys(world)))
    assert "wrong_index_root" not in {item.code for item in result.findings}
    assert result.checked["use_indexes"] == before


def test_a_planter_asks_only_after_sealed_jobs_of_its_own(world: World):
    """An entry shows who asked, so the job of another cannot be the planted one."""
    job = world.put(world.job())
    history = sealed(world, world.log.index_of(job))
    provider, researcher = world.providers[0], world.researcher
    for planter, code in (
        (None, "unseen_canary"),
        (researcher.id, "unseen_canary"),
        ("participant:" + 64 * "0", "unseen_canary"),
        (provider.id, "missing_canary"),
    ):
        result = reconcile(history, Evidence(canaries=["nonce 99"], planter=planter))
        assert [item.code for item in (*result.findings, *result.missing)] == [code]


def test_a_result_is_not_missed_where_its_release_may_be_sealed(world: World):
    assert world.use is not None
    release = world.log.index_of(world.use.release)
    job = world.log.index_of(world.use.job)
    got = Evidence(results={world.use.job: "sha256:" + 64 * "0"})
    for history, code in (
        (world.log.history, ["wrong_result"]),
        (sealed(world, release), []),
        (sealed(world, release, job), []),
    ):
        assert [item.code for item in reconcile(history, got).findings] == code
    # The twin: nothing was released, and nothing is sealed.
    other, _, _ = world.receipted_job()
    found = reconcile(world.log.history, Evidence(results={other: "sha256:" + 64 * "0"})).findings
    assert [item.code for item in found] == ["unlogged_result"]
    assert found[0].entries == (world.log.index_of(other),)


def test_what_stands_in_the_wrong_place_and_cannot_be_read_explains_nothing(world: World):
    """Its author's entry is sealed, so nobody knows whether anybody said it."""
    settle(world)
    assert world.use is not None
    entries = world.entries()
    place = world.log.index_of(world.use.grants[0])
    author = world.log.index_of(world.providers[0].id)
    openings = [item for item in world.openings() if item.index != author]
    lie = replace(entries[place], time=entries[place - 1].time - 1)
    told = []
    for entry in (entries[place], lie):
        entries[place] = entry
        folder = world.folder / f"export at {entry.time}"
        insecure_export(folder, world.log_key, chain(entries), openings)
        history = audit(folder, world.log.vkey).history
        told.append([item.code for item in reconcile(history).findings])
        assert ("time_goes_back" in history.broken.values()) == (entry is lie)
    assert told[0] == told[1]


def test_what_was_erased_and_is_shown_elsewhere_is_found_without_its_statement(tmp_path: Path):
    world = World.with_every_kind(tmp_path / "world")
    erased = next(iter(world.log.history.shredded))
    history = sealed(world, erased)
    assert erased not in history.by_index
    for opened, code in (((erased,), ["not_erased"]), ((erased + 1,), [])):
        found = reconcile(history, Evidence(opened=opened)).findings
        assert [item.code for item in found if item.code == "not_erased"] == code


def test_other_tag_keys_than_last_time_are_held_against_everything(world: World):
    settle(world)
    tally, right = Tally.of(world.log.history), tag_keys(world)
    wrong = right | {world.providers[0].asset: bytes(32)}
    told = []
    for keys in (right, wrong, right):
        again = reconcile(world.log.history, Evidence(tag_keys=keys), tally)
        fresh = reconcile(world.log.history, Evidence(tag_keys=keys))
        told.append(codes_of(again))
        assert told[-1] == codes_of(fresh)
        assert again.checked.get("use_indexes") == fresh.checked.get("use_indexes")
    assert told == [([], []), (["wrong_tag_key"], told[1][1]), ([], [])]
    assert "unchecked_index" in told[1][1]
