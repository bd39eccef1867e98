"""What is missing from a log alone: each finding has a twin in which nothing is missing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ledger import completeness
from ledger.errors import LedgerError, RuleError
from ledger.history import History
from ledger.merkle import leaf_hash
from ledger.rules import admit
from ledger.statements import Counts, Epoch, JournalPosition, Receipt
from tests.world import World

NOBODY = "sha256:" + 64 * "0"


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "world", 2)
    world.put(world.schedule(epoch_entries=8, grace_entries=4))
    world.one_use()
    return world


def grow(world: World, entries: int) -> None:
    for _ in range(entries):
        world.put(world.offer(world.providers[-1]))


def codes(world: World) -> list[str]:
    return [item.code for item in completeness.check(world.log.history)]


def replayed(world: World, sealed: Callable[[str], bool]) -> History:
    """The history of an auditor to whom some kinds of entries stayed closed."""
    history = History()
    for entry, opening in zip(world.entries(), world.openings(), strict=True):
        opened = None if sealed(entry.kind) else opening.reveal(entry)
        try:
            admit(history, entry, leaf_hash(entry.to_bytes()), opened)
        except LedgerError:
            continue
    return history


def test_a_log_whose_epochs_are_closed_and_indexed_lacks_nothing(world: World):
    world.close_epochs()
    grow(world, 3)
    assert codes(world) == []
    closed = completeness.closed_epochs(world.log.history)
    assert [item.missing for item in closed] == [(), ()]
    assert all(item.closed >= item.due - item.first > 0 for item in closed)


def test_closes_and_indexes_are_due_after_the_grace(world: World):
    world.close_epochs()
    number = world.log.history.next_use_index
    grow(world, 8 * (number + 1) + 3 - world.log.size)
    assert codes(world) == []
    grow(world, 1)
    assert codes(world) == ["missing_close", "missing_close", "missing_index"]
    found = completeness.missing_closes(world.log.history)[0]
    assert found.message.endswith(f"epoch {number}")
    assert world.log.history.by_id[world.providers[0].asset].index in found.entries


def test_a_log_without_a_schedule_owes_nothing(tmp_path: Path):
    world = World.with_one_use(tmp_path / "plain", 2)
    assert codes(world) == []
    assert completeness.closed_epochs(world.log.history) == []


def test_a_node_whose_asset_is_revoked_owes_no_more(world: World):
    world.close_epochs()
    leaver = world.providers[0]
    world.put(world.revoke(leaver, leaver.asset))
    grow(world, 40)
    asset = world.providers[1].asset
    found = completeness.missing_closes(world.log.history)
    assert [world.log.history.by_id[asset].index] == [item.entries[0] for item in found]


def test_a_close_that_jumps_is_not_told_twice(world: World):
    provider = world.providers[0]
    world.insecure_put(world.epoch(provider))
    skipped = world.epoch(provider)
    later = replace(skipped, number=skipped.number + 1, start=16, stop=24, uses=0)
    grow(world, 24)
    world.insecure_put(later)
    assert "close_gap" in world.log.history.broken.values()
    (item,) = [
        item
        for item in completeness.closed_epochs(world.log.history)
        if item.asset == provider.asset
    ]
    assert skipped.number in item.missing
    found = completeness.missing_closes(world.log.history)
    assert all(str(skipped.number) not in item.message.split() for item in found[:1])


def close_all(world: World, **changes: Counts) -> Epoch:
    """Close the first provider's epochs; the close that counts its use is changed."""
    provider = world.providers[0]
    for number in range(2):
        close = world.epoch(provider)
        if number == 0 and changes:
            close = replace(close, **changes)
        world.insecure_put(close)
    world.put(world.epoch(world.providers[1]))
    world.put(world.epoch(world.providers[1]))
    for _ in range(2):
        world.put(world.use_index())
    grow(world, 4)
    return close


@pytest.mark.parametrize(
    ("counts", "code"),
    [
        (Counts(1, 1, 0, 0), None),
        (Counts(0, 2, 0, 0), "missing_receipt"),
        (Counts(1, 0, 0, 0), "uncounted_receipt"),
        (Counts(0, 1, 1, 0), "missing_receipt"),
    ],
)
def test_closes_count_the_receipts_of_the_log(world: World, counts: Counts, code: str | None):
    close_all(world, counts=counts)
    found = completeness.receipts_of_closes(world.log.history)
    assert [item.code for item in found] == [code] * (code is not None)
    asset = world.providers[0].asset
    assert completeness.receipts_of_closes(world.log.history, journals={asset}) == []


def test_a_close_is_not_compared_before_its_receipts_are_due(world: World):
    world.insecure_put(world.epoch(world.providers[0], counts=Counts(0, 2, 0, 0)))
    assert completeness.receipts_of_closes(world.log.history) == []
    grow(world, 3)
    assert len(completeness.receipts_of_closes(world.log.history)) == 1


def test_a_sealed_receipt_may_be_the_one_that_lacks(world: World):
    close_all(world)
    history = replayed(world, lambda kind: kind == "receipt")
    assert completeness.receipts_of_closes(history) == []


def test_sealed_closes_and_indexes_may_be_those_that_lack(world: World):
    world.close_epochs()
    history = replayed(world, lambda kind: kind in ("epoch", "use_index"))
    assert history.closes == {}
    assert history.broken == {}
    assert completeness.check(history) == []


def test_a_sealed_schedule_leaves_closes_unchecked(world: World):
    world.close_epochs()
    history = replayed(world, lambda kind: kind == "schedule")
    assert history.broken == {}


def with_sealed_owner(world: World) -> tuple[History, list[str]]:
    """The history of an auditor to whom one provider's enrolment stayed closed; rules broken."""
    history, found = History(), []
    owner = world.log.index_of(world.providers[0].id)
    for entry, opening in zip(world.entries(), world.openings(), strict=True):
        opened = None if entry.index == owner else opening.reveal(entry)
        try:
            admit(history, entry, leaf_hash(entry.to_bytes()), opened)
        except RuleError as error:
            found.append(error.code)
        except LedgerError:
            continue
    return history, found


def test_a_receipt_whose_node_cannot_be_known_is_unknown_not_absent(world: World):
    world.close_epochs()
    history, found = with_sealed_owner(world)
    assert found == []
    assert history.broken == {}
    assert history.checked["sealed"] == 1
    asset = world.log.index_of(world.providers[0].asset)
    assert asset in history.sealed_receipts
    assert completeness.check(history) == []


def test_what_is_false_is_found_beside_a_sealed_owner(world: World):
    world.put(world.epoch(world.providers[0]))
    close = world.epoch(world.providers[1])
    world.insecure_put(replace(close, uses=close.uses + 1))
    _, found = with_sealed_owner(world)
    assert found == ["wrong_uses"]


def second_receipt(world: World, position: JournalPosition | None) -> Receipt:
    provider = world.providers[0]
    job, grants = world.granted_job()
    receipt = world.receipt(provider, job, grants[0])
    return receipt if position is None else replace(receipt, journal=position)


def test_two_receipts_on_one_line_fork_the_journal(world: World):
    provider = world.providers[0]
    first = next(
        item
        for item in world.statements.values()
        if isinstance(item, Receipt) and item.asset == provider.asset
    )
    world.put(second_receipt(world, None))
    assert completeness.forked_journals(world.log.history) == []
    world.put(second_receipt(world, first.journal))
    (found,) = completeness.forked_journals(world.log.history)
    assert found.code == "journal_fork"
    assert len(found.entries) == 2


@pytest.mark.parametrize("true", [True, False])
def test_a_receipt_at_the_end_of_a_close_names_its_head(world: World, *, true: bool):
    provider = world.providers[0]
    world.put(world.epoch(provider))
    position = world.journal_position(provider.asset)
    job, _ = world.granted_job()
    refusal = world.receipt(provider, job, None, state="refused", reason="revoked")
    assert refusal.journal == position
    world.put(refusal if true else replace(refusal, journal=replace(position, head=NOBODY)))
    grow(world, 4)
    found = completeness.receipts_of_closes(world.log.history)
    assert [item.code for item in found] == ([] if true else ["journal_mismatch"])


def test_what_was_erased_is_not_opened_again(world: World):
    for provider in world.providers:
        world.put(world.revoke(provider, provider.agreement))
    settled = next(entry.index for entry in world.entries() if entry.kind == "settlement")
    shred = world.log.index_of(world.put(world.shred([settled], "settlement")))
    history = world.log.history
    assert completeness.kept_after_erasure(history, {0, 1}) == []
    (found,) = completeness.kept_after_erasure(history, set(range(world.log.size)))
    assert (found.code, found.entries) == ("not_erased", (settled, shred))
