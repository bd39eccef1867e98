"""How far jobs came and what was paid, also where the log shows only that something was said."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.accounts import Accounts
from ledger.history import History
from ledger.statements import Receipt
from ledger.verify import audit
from tests.forgery import chain, insecure_export, repeating
from tests.world import World


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two providers, and steps that are late once two more entries follow."""
    world = World(tmp_path_factory.mktemp("world"), 2)
    world.put(world.schedule(epoch_entries=1_000, grace_entries=2))
    return world


@pytest.fixture
def world(first: World, tmp_path: Path) -> World:
    return first.copy(tmp_path / "world")


def read(world: World, *sealed: str) -> tuple[History, Accounts]:
    """What an auditor knows to whom all but some statements are opened."""
    hidden = {world.log.index_of(item) for item in sealed}
    opened = [index for index in range(world.log.size) if index not in hidden]
    folder = world.folder / f"export {len(list(world.folder.iterdir()))}"
    history = audit(world.export(folder, opened), world.log.vkey).history
    return history, Accounts.of(history)


def stopped(world: World, *sealed: str, explained: Collection[str] = ()) -> list[str]:
    for _ in range(2):
        world.put(world.offer(world.providers[0]))
    history, accounts = read(world, *sealed)
    return [item.code for item in accounts.stopped_jobs(history, explained)]


# A step that stayed sealed was made all the same.


def test_a_sealed_bill_is_a_bill(world: World):
    job, _, receipts = world.receipted_job()
    release = world.put(world.release(job, receipts))
    assert stopped(world) == ["unsettled_job"]
    assert stopped(world, explained=[job]) == []
    bill = world.put(world.settlement(job, release))
    assert stopped(world, bill) == []


def test_a_sealed_release_is_a_release(world: World):
    job, _, receipts = world.receipted_job()
    assert stopped(world) == ["unreleased_job"]
    release = world.put(world.release(job, receipts))
    assert stopped(world, release) == ["unsettled_job"]


def test_a_sealed_grant_is_a_grant(world: World):
    job, grants = world.granted_job()
    history, accounts = read(world, *grants)
    assert accounts.jobs[job].granted == {provider.asset for provider in world.providers}
    assert accounts.jobs[job].last == history.size - 1
    assert accounts.totals["granted"] == 0  # under which agreement, nobody may say
    assert read(world, job, *grants)[1].jobs == {}


def test_how_a_job_ended_at_a_sealed_receipt_is_unknown(world: World):
    _, _, receipts = world.receipted_job()
    assert stopped(world, receipts[1]) == []
    assert stopped(world) == ["unreleased_job"]


def test_a_sealed_step_is_as_late_as_its_entry(world: World):
    job, _, receipts = world.receipted_job()
    world.put(world.offer(world.providers[0]))
    release = world.put(world.release(job, receipts))
    history, accounts = read(world, release)
    assert list(accounts.stopped_jobs(history, ())) == []
    assert accounts.jobs[job].last == world.log.index_of(release)


def test_a_receipt_of_a_sealed_asset_may_be_the_one_that_lacks(world: World):
    job, grants = world.granted_job()
    first, second = world.providers
    world.put(world.receipt(first, job, grants[0]))
    assert stopped(world) == ["unfinished_job"]
    assert stopped(world, second.asset) == []
    sealed = world.put(world.receipt(second, job, grants[1]))
    assert stopped(world, second.asset, sealed) == []


def test_a_use_with_a_party_whose_asset_is_sealed_is_not_held_against_anybody(world: World):
    """Whether that party was revoked cannot be read; what was revoked is another thing."""
    job, grants = world.granted_job()
    first, second = world.providers
    world.put(world.revoke(first, first.offer))
    world.put(world.receipt(first, job, grants[0]))
    assert read(world, second.asset)[0].broken == {}


def test_a_sealed_refusal_of_a_job_that_is_not_logged_ends_no_job(world: World):
    job, _, _ = world.receipted_job()
    ghost = "job:" + 64 * "0"
    refusal = world.receipt(world.providers[0], ghost, None, state="refused", reason="not_proven")
    refused = world.put(refusal)
    assert stopped(world, refused) == ["unreleased_job"]
    _, accounts = read(world, refused)
    assert accounts.jobs.keys() == {job}
    assert accounts.jobs[job].ends == dict.fromkeys(world.statements[job].assets, "completed")  # type: ignore[attr-defined]


# A job of which nothing will be released was used up by nobody, and its end is explained.


@pytest.mark.parametrize("late", [False, True])
def test_a_revoked_job_is_explained_and_counts_apart(world: World, *, late: bool):
    provider, other = world.providers
    job, grants = world.granted_job()
    receipts = [world.receipt(provider, job, grants[0]), world.receipt(other, job, grants[1])]
    world.put(receipts[0])
    if not late:
        world.put(receipts[1])
        assert stopped(world) == ["unreleased_job"]
    world.put(world.revoke(world.operator, job))
    if late:
        world.put(receipts[1])
    history, accounts = read(world)
    assert +history.completed_uses == {}
    assert stages(accounts.totals) == dict.fromkeys(("completed", "failed", "refused"), 0)
    assert accounts.totals["revoked"] == 2
    assert [accounts.agreements[each.agreement].stages["revoked"] for each in world.providers] == [
        1,
        1,
    ]
    assert stopped(world) == []
    assert Accounts.recall(history, accounts.facts()).totals == accounts.totals


def test_a_job_that_was_counted_as_completed_is_counted_anew_when_it_is_revoked(world: World):
    job, grants = world.granted_job()
    provider, other = world.providers
    world.put(world.receipt(provider, job, grants[0]))
    failed = {"state": "failed", "reason": "cancelled", "contributions": (), "rows": 0}
    world.put(world.receipt(other, job, grants[1], **failed))
    accounts = Accounts.of(world.log.history)
    assert [accounts.totals[each] for each in ("completed", "revoked", "failed")] == [1, 0, 1]
    world.put(world.revoke(world.operator, job))
    accounts.go_on()
    assert [accounts.totals[each] for each in ("completed", "revoked", "failed")] == [0, 1, 1]
    assert accounts.totals == Accounts.of(world.log.history).totals
    # Once is enough.
    world.put(world.revoke(world.operator, job))
    accounts.go_on()
    assert accounts.totals == Accounts.of(world.log.history).totals
    assert accounts.totals["revoked"] == 1


def test_a_revocation_that_does_not_hold_takes_no_use_back(world: World):
    job, _, _ = world.receipted_job()
    world.insecure_put(world.revoke(world.researcher, job))
    history, accounts = read(world)
    assert list(history.broken.values()) == ["not_owner"]
    assert history.completed_uses == {each.agreement: 1 for each in world.providers}
    assert (accounts.totals["completed"], accounts.totals["revoked"]) == (2, 0)
    assert stopped(world) == ["unreleased_job"]


def test_a_revocation_of_a_sealed_job_is_the_operators_all_the_same(world: World):
    job, _, receipts = world.receipted_job()
    world.put(world.revoke(world.operator, job))
    history, accounts = read(world, job)
    assert (history.broken, accounts.jobs) == ({}, {})
    # Whoever may read its receipts alone sees that nothing was used up.
    assert +history.completed_uses == {}
    assert stopped(world, *receipts) == []


# What is counted, and for whom.


def test_each_stage_counts_once_for_each_agreement(world: World):
    world.one_use()
    _, accounts = read(world)
    assert accounts.totals == {
        **dict.fromkeys(("asked", "granted", "completed", "released", "settled"), 2),
        "billed_cents": 2_000,
        "fee_cents": 200,
        "share_cents": 1_800,
        "due_cents": 2_000,
    }
    assert sum(accounts.postings.values()) == 0


def test_steps_of_a_sealed_job_count_under_no_agreement_but_its_bill(world: World):
    use = world.one_use()
    _, accounts = read(world, use.job)
    assert accounts.jobs == {}
    totals = accounts.totals
    stages = ("asked", "granted", "completed", "released")
    assert [totals[name] for name in stages] == [0, 0, 0, 0]
    # A bill names its agreements itself.
    assert (totals["settled"], totals["billed_cents"]) == (2, 2_000)


def test_nothing_is_counted_under_a_sealed_agreement(world: World):
    world.one_use()
    first, second = world.providers
    _, accounts = read(world, second.agreement)
    assert accounts.agreements.keys() == {first.agreement}
    assert {accounts.totals[name] for name in ("asked", "completed", "settled")} == {1}
    # What was posted was posted, whoever agreed to it.
    assert accounts.postings[f"receivable/{second.id}"] == 900


def test_a_bill_sent_twice_is_one(world: World):
    use = world.one_use()
    first = read(world)[1]
    world.insecure_put(world.settlement(use.job, use.release))
    history, second = read(world)
    assert "duplicate_settlement" in history.broken.values()
    assert (second.totals, second.postings) == (first.totals, first.postings)


def test_an_end_told_twice_is_one(world: World):
    job, grants, _ = world.receipted_job()
    first = read(world)[1].totals
    again = world.receipt(world.providers[0], job, grants[0], rows=99)
    world.insecure_put(again)
    history, second = read(world)
    assert "duplicate_receipt" in history.broken.values()
    assert second.totals == first


def unfinished(world: World, job: str, grant: str, state: str) -> Receipt:
    """What the first node says when it did not complete a job."""
    reason = {"refused": "not_proven", "failed": "task_error"}[state]
    fields = {"state": state, "reason": reason, "contributions": (), "rows": 0}
    return world.receipt(world.providers[0], job, grant, **fields)


def stages(totals: Counter[str]) -> dict[str, int]:
    return {state: totals[state] for state in ("completed", "failed", "refused")}


@pytest.mark.parametrize("before", ["refused", "failed"])
def test_what_came_further_is_how_a_job_ended(world: World, before: str):
    """A node that refused a job at first once hid that it was completed later."""
    job, grants = world.granted_job()
    provider, other = world.providers
    world.put(unfinished(world, job, grants[0], before))
    none = dict.fromkeys(("completed", "failed", "refused"), 0)
    assert stages(read(world)[1].totals) == none | {before: 1}
    world.insecure_put(world.receipt(provider, job, grants[0]))
    world.put(world.receipt(other, job, grants[1]))
    history, accounts = read(world)
    assert stages(accounts.totals) == none | {"completed": 2}
    assert ("contradicting_receipt" in history.broken.values()) == (before == "failed")
    assert stopped(world) == ["unreleased_job"]


@pytest.mark.parametrize("state", ["refused", "failed"])
def test_nothing_that_comes_later_undoes_a_completed_job(world: World, state: str):
    job, grants, _ = world.receipted_job()
    first = read(world)[1].totals
    world.insecure_put(unfinished(world, job, grants[0], state))
    assert read(world)[1].totals == first
    assert stopped(world) == ["unreleased_job"]


def test_an_opened_end_counts_after_one_that_stayed_sealed(world: World):
    job, grants = world.granted_job()
    sealed = world.put(unfinished(world, job, grants[0], "refused"))
    for provider, grant in zip(world.providers, grants, strict=True):
        world.put(world.receipt(provider, job, grant))
    assert read(world, sealed)[1].totals["completed"] == 2
    assert stopped(world, sealed) == ["unreleased_job"]


@pytest.mark.parametrize("hidden", [False, True])
def test_a_node_that_was_not_asked_explains_nothing(tmp_path: Path, *, hidden: bool):
    """Any provider's refusal once hid that a job was completed and neither released nor billed."""
    world = World(tmp_path, 4)
    world.put(world.schedule(epoch_entries=1_000, grace_entries=2))
    *asked, other = world.providers
    world.providers = asked
    job, _, _ = world.receipted_job()
    stray = world.put(world.receipt(other, job, None, state="refused", reason="not_proven"))
    assert read(world)[1].jobs[job].ends.keys() == {provider.asset for provider in asked}
    assert stopped(world, *([stray] if hidden else [])) == ["unreleased_job"]


def test_a_release_is_to_be_billed_however_its_receipts_read(world: World):
    job, _, receipts = world.receipted_job()
    world.put(world.release(job, receipts))
    assert stopped(world, receipts[0]) == ["unsettled_job"]


def test_a_release_told_twice_is_one(world: World):
    job, _, receipts = world.receipted_job()
    world.put(world.release(job, receipts))
    first = read(world)[1].totals
    world.insecure_put(world.release(job, receipts))
    history, second = read(world)
    assert "duplicate_release" in history.broken.values()
    assert second.totals == first


# An entry may refer to anything, or to nothing: the signer of a log writes what it likes.


@pytest.mark.parametrize("kind", ["receipt", "release", "settlement"])
@pytest.mark.parametrize(
    "lie", [lambda _: (), lambda named: (None,) * len(named), lambda named: named[:1]]
)
def test_a_sealed_step_that_refers_wrongly_is_found_and_counts_for_nothing(
    world: World, kind: str, lie: Callable[[tuple[int | None, ...]], tuple[int | None, ...]]
):
    """Counting once ended at an entry without references, and so did a report on its log."""
    world.one_use()
    entries = world.entries()
    wrong = next(entry.index for entry in entries if entry.kind == kind)
    entries[wrong] = replace(entries[wrong], references=lie(entries[wrong].references))
    openings = [item for item in world.openings() if item.index != wrong]
    folder = insecure_export(world.folder / "x", world.log_key, chain(entries), openings)
    done = audit(folder, world.log.vkey)
    named = [(item.code, item.where) for item in done.verdict.findings]
    expected = ("references_mismatch", f"entry {wrong}")
    assert expected in named
    Accounts.of(done.history)


@pytest.mark.parametrize("kind", ["agreement", "job", "grant", "receipt", "release", "settlement"])
def test_what_is_logged_again_is_counted_once(world: World, kind: str):
    """An operator who logged an agreement again once made its bills disappear from the report."""
    world.one_use()
    world.put(world.job())
    honest = Accounts.of(world.log.history)
    history = audit(repeating(world, world.folder / "twice", kind), world.log.vkey).history
    assert history.repeats == {world.log.size}
    accounts = Accounts.of(history)
    assert accounts.totals == honest.totals
    assert accounts.totals["settled"] == accounts.totals["asked"] / 2 == len(world.providers)
    for name, job in honest.jobs.items():
        assert accounts.jobs[name].last == job.last
    for nonce in ("nonce 1", "nonce 2"):
        assert accounts.by_nonce([nonce]) == honest.by_nonce([nonce]) != {}
