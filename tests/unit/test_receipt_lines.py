"""Closes that were found right are compared again when a receipt comes that they would count."""

from pathlib import Path

import pytest

from ledger.completeness import receipts_of_closes
from ledger.receipt_lines import Closes, ReceiptLines
from ledger.statements import JournalPosition
from ledger.tally import Tally
from tests.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "world", 1)
    world.put(world.schedule(epoch_entries=8, grace_entries=4))
    world.one_use()
    world.close_epochs()
    for _ in range(4):
        world.put(world.offer(world.providers[0]))
    return world


def test_a_right_close_is_not_compared_again(world: World):
    asset = world.providers[0].asset
    tally = Tally.of(world.log.history)
    closes = tally.closes[asset]
    assert (closes.unlike, receipts_of_closes(world.log.history, tally)) == ([], [])
    assert closes.compared == len(world.log.history.closes[asset]) > 0


@pytest.mark.parametrize("place", ["counted", "next", "later"])
def test_a_late_receipt_is_held_against_closes_that_were_right(world: World, place: str):
    history, provider = world.log.history, world.providers[0]
    tally = Tally.of(history)
    last = tally.closes[provider.asset].top - 1
    sequence = {"counted": 0, "next": last, "later": last + 1}[place]
    job, grants = world.granted_job()
    receipt = world.receipt(provider, job, grants[0])
    position = JournalPosition(sequence, "sha256:" + 64 * "0")
    world.insecure_put(type(receipt)(**(vars(receipt) | {"journal": position})))
    tally.go_on()
    found = [item.code for item in receipts_of_closes(history, tally)]
    assert found == [item.code for item in receipts_of_closes(history)]
    assert (
        found
        == {
            "counted": ["uncounted_receipt"],
            "next": ["journal_mismatch"],
            "later": [],
        }[place]
    )


def test_what_is_written_down_is_read_back():
    lines = ReceiptLines([3, 3, 9], [7, 8, 5], [0, 2, 1], [(7, 8)])
    assert ReceiptLines.recall(lines.facts()) == lines
    closes = Closes(4, [range(3), range(5, 6)], 4, 3, [1], 12)
    assert Closes.recall(closes.facts()) == closes


def test_epochs_that_are_not_closed_are_the_gaps():
    closes = Closes(closed=[range(2, 4), range(6, 7)])
    assert closes.missing(0, 9) == [0, 1, 4, 5, 7, 8]
    assert closes.missing(3, 6) == [4, 5]
    assert closes.missing(6, 7) == []
    assert Closes().missing(1, 3) == [1, 2]
    assert closes.missing(3, 2) == []
