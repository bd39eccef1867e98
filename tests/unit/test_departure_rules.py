"""Rules for a job that a party left: who must have stayed, what is summed, who is billed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ledger.accounts import Accounts
from ledger.statements import Release
from ledger.verify import read_and_verify
from tests.stories import Story
from tests.world import World

PARTIES = 4
"""Of which three are enough: the terms say so."""


def departure(
    *, minimum: int = 3, early: bool = False, unopened: bool = False, billed: bool = False
) -> Story:
    """The last party leaves after the first round; the others are asked anew in two more."""

    def story(world: World) -> None:
        job = world.put(world.job())
        permits = {"minimum_parties": minimum, "rounds": 6}
        grants = [world.put(world.grant(p, job, **permits)) for p in world.providers]
        *stayed, (left, its_grant) = zip(world.providers, grants, strict=True)
        names = []
        for at, (party, granted) in enumerate(stayed):
            sent = world.contributions(party, job, 4 if unopened and at == 0 else 3)
            names.append(world.put(world.receipt(party, job, granted, contributions=sent)))
        sent = world.contributions(left, job, 1)
        failed = {"state": "failed", "reason": "cancelled", "contributions": sent}
        world.put(world.receipt(left, job, its_grant, **failed))
        release = world.release(job, names)
        kept = [item for item in release.contributions if item.round in (2, 3)]
        if early:
            kept.append(next(item for item in release.contributions if item.round == 1))
        released = replace(release, contributions=tuple(kept))
        if minimum > len(names) or early:
            world.insecure_put(released)
            return
        bill = world.settlement(job, world.put(released))
        lines = bill.lines if billed else bill.lines[: len(names)]
        world.insecure_put(world.settlement(job, bill.release, lines=lines))

    return story


def twice(world: World) -> None:
    """A release that counts one party twice, in the place of the one that left."""
    job, _, names = world.receipted_job()
    release = world.release(job, names[:3])
    summands = (*release.contributions, *(replace(s, round=9) for s in release.contributions[:1]))
    world.insecure_put(replace(release, contributions=summands))


def whole(world: World) -> None:
    job, _, names = world.receipted_job()
    world.put(world.release(job, names))


LIES: dict[str, tuple[str, Story, Story]] = {
    "too few stayed": ("release_without_receipts", departure(minimum=4), departure()),
    "sent before": ("contributions_differ", departure(early=True), departure()),
    "never opened": ("contributions_differ", departure(early=True), departure(unopened=True)),
    "billed": ("settlement_mismatch", departure(billed=True), departure()),
    "a round nobody sent": ("contributions_differ", twice, whole),
}


@pytest.fixture(scope="module", name="enrolled")
def _enrolled(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("enrolled") / "world", PARTIES)


@pytest.mark.parametrize("what", LIES)
def test_a_lie_about_a_departure_is_the_one_finding_and_its_twin_is_sound(
    what: str, enrolled: World, tmp_path: Path
):
    code, story, twin = LIES[what]
    world = enrolled.copy(tmp_path / "lie")
    story(world)
    verdict = world.audit()
    assert [finding.code for finding in verdict.findings] == [code]
    honest = enrolled.copy(tmp_path / "twin")
    twin(honest)
    verdict = honest.audit()
    assert (verdict.status, verdict.findings, verdict.missing) == ("sound", [], [])


def test_a_party_that_left_used_nothing_and_was_not_released(enrolled: World, tmp_path: Path):
    world = enrolled.copy(tmp_path / "world")
    departure()(world)
    history = world.log.history
    uses = [history.completed_uses[provider.agreement] for provider in world.providers]
    assert uses == [1, 1, 1, 0]
    totals = Accounts.of(history).totals
    assert totals["completed"] == totals["released"] == totals["settled"] == 3
    assert totals["failed"] == 1


def test_with_a_receipt_sealed_all_parties_count_as_released(enrolled: World, tmp_path: Path):
    world = enrolled.copy(tmp_path / "world")
    departure()(world)
    history = world.log.history
    (release,) = history.released.values()
    sealed = history.by_id[release.read_as(Release).receipts[0]].index
    folder = world.export(tmp_path / "export", set(range(world.log.size)) - {sealed})
    verdict, seen = read_and_verify(folder, world.log.vkey)
    # Nobody can tell who was in it, so nobody can tell that it was too few.
    assert (verdict.findings, verdict.unchecked > 0) == ([], True)
    assert Accounts.of(seen).totals["released"] == PARTIES
