"""What a log shows; how it survives crashes is in tests/faults/test_log_faults.py."""

import shutil
from pathlib import Path
from unittest.mock import patch

import pytest

from ledger import verified
from ledger.checkpoint import open_checkpoint
from ledger.entry import NO_PREDECESSOR
from ledger.errors import EncodingError, LogError, RuleError, SignatureError, StatementError
from ledger.keys import SigningKey
from ledger.log import Log
from ledger.merkle import Tree, leaf_hash, verify_consistency
from ledger.publisher import Publisher
from ledger.statements import envelope as envelopes
from ledger.statements import read
from ledger.statements.registry import forget
from ledger.tiles import Tile, decode_bundle, decode_hashes, layout
from ledger.verified import Record
from tests.drafts import SECOND, key_of
from tests.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, 2)


def test_an_empty_log_has_a_checkpoint(tmp_path: Path):
    world = World(tmp_path, enrolled=False)
    assert open_checkpoint(world.log.checkpoint(), world.log.vkey).size == world.log.size == 0
    assert list(layout(0)) == []


def test_entries_are_chained_and_their_root_is_signed(world: World):
    previous, tree = NO_PREDECESSOR, Tree()
    for number, entry in enumerate(world.entries()):
        assert (entry.index, entry.previous) == (number, previous)
        previous = leaf_hash(entry.to_bytes())
        tree.append(previous)
    assert open_checkpoint(world.log.checkpoint(), world.log.vkey).root == tree.root()


def test_a_later_checkpoint_extends_an_earlier_one(world: World):
    older = open_checkpoint(world.log.checkpoint(), world.log.vkey)
    world.one_use()
    newer = open_checkpoint(world.log.checkpoint(), world.log.vkey)
    tree = Tree.from_leaf_hashes(leaf_hash(entry.to_bytes()) for entry in world.entries())
    proof = tree.consistency(older.size, newer.size)
    verify_consistency(older.size, newer.size, proof, older.root, newer.root)


def test_every_tile_of_the_layout_is_served_and_no_other(world: World):
    size = world.log.size
    entries = [entry.to_bytes() for entry in world.entries()]
    for tile in layout(size):
        data = world.log.tile(tile.path)
        if tile.level is None:
            assert decode_bundle(data, tile.width) == entries
        else:
            assert decode_hashes(data, tile.width) == [leaf_hash(entry) for entry in entries]
    # Older widths stay: a reader may hold an older checkpoint.
    assert decode_bundle(world.log.tile("tile/entries/000.p/2"), 2) == entries[:2]
    for path in (f"tile/entries/000.p/{size + 1}", "tile/0/001", "tile/1/000.p/1"):
        with pytest.raises(LogError, match="does not exist"):
            world.log.tile(path)
    for path in ("checkpoint", "../log.sqlite", "tile/entries/0"):
        with pytest.raises(EncodingError):
            world.log.tile(path)


def test_openings_open_what_a_checkpoint_covers(world: World):
    size = world.log.size
    assert [item.index for item in world.log.openings(0, 999)] == list(range(size))
    assert world.log.opening(0).reveal(world.entries()[0]).id == world.operator.id
    for index in (size, -1):
        with pytest.raises(LogError, match="no entry"):
            world.log.opening(index)


def test_what_is_stored_and_not_yet_shown_is_not_served(world: World):
    size = world.log.size
    with world.engine.begin() as connection:
        name = world.log.submit(connection, world.sign(world.job()))
    with patch.object(Publisher, "publish"):
        assert world.log.sequence() == 1
    assert world.log.openings(0, 999)[-1].index == size - 1
    with pytest.raises(LogError):
        world.log.index_of(name)
    with pytest.raises(LogError):
        world.log.tile(Tile(None, 0, size + 1).path)


def test_a_batch_may_rest_on_itself(world: World):
    with world.engine.begin() as connection:
        job = world.log.submit(connection, world.sign(world.job()))
        grant = world.sign(world.grant(world.providers[0], job))
        world.log.submit(connection, grant)
    assert world.log.sequence() == 2
    assert world.log.findings == []
    assert world.entries()[-1].references[-1] == world.log.size - 2
    assert world.audit().status == "sound"


def test_a_batch_is_bounded_and_nothing_waits_for_ever(tmp_path: Path):
    world = World(tmp_path, 1)
    with world.engine.begin() as connection:
        for number in range(9):
            revocation = world.revoke(world.providers[0], world.providers[0].offer, f"no {number}")
            world.log.submit(connection, world.sign(revocation))
    with patch("ledger.log.BATCH", 8):
        assert [world.log.sequence() for _ in range(3)] == [8, 1, 0]


def test_time_in_the_log_never_goes_back(world: World):
    world.clock.advance(-3600 * SECOND)
    world.put(world.job())
    times = [entry.time for entry in world.entries()]
    assert times == sorted(times)
    world.log = world.open_log()
    world.put(world.job())
    times = [entry.time for entry in world.entries()]
    assert times == sorted(times)
    assert world.audit().status == "sound"


def test_check_says_why_not(world: World):
    first = world.providers[0]
    for envelope, error in (
        (b"{}", StatementError),
        (world.offer(first).sign(world.providers[1].key), SignatureError),
        (world.sign(world.offer(first, asset=world.providers[1].asset)), RuleError),
    ):
        with pytest.raises(error):
            world.log.check(envelope)
    assert world.log.check(world.sign(world.offer(first))).statement.kind == "offer"


def test_a_restart_shows_the_same_log(world: World):
    world.one_use()
    again = world.open_log()
    assert again.checkpoint() == world.log.checkpoint()
    assert again.history.by_id == world.log.history.by_id
    assert again.history.completed_uses == world.log.history.completed_uses
    assert again.findings == world.log.findings == []


def test_findings_survive_a_restart(world: World):
    world.insecure_put(world.offer(world.providers[0], asset=world.providers[1].asset))
    assert len(world.log.findings) == 1
    assert world.open_log().findings == world.log.findings


def count_signatures(world: World) -> tuple[Log, int]:
    """Open the log as a new process does, and count the envelopes that it verifies."""
    forget()
    with patch.object(envelopes, "open_", wraps=envelopes.open_) as opened:
        return world.open_log(), opened.call_count


@patch("ledger.log.BATCH", 4)
def test_a_restart_verifies_no_signature_twice(world: World):
    world.one_use()
    size = world.log.size
    again, count = count_signatures(world)
    # What came after the last note is verified again, measurements in asset statements always.
    assert count < 12 < size
    assert again.history.by_id == world.log.history.by_id
    # The twin: without the note every statement is.
    (world.folder / "checkpoints" / verified.FILE).unlink()
    assert count_signatures(world)[1] >= size


@patch("ledger.log.BATCH", 4)
def test_a_statement_that_its_author_did_not_sign_has_no_effect_after_a_restart(world: World):
    first, second = world.providers
    forged = world.offer(first).sign(second.key)
    world.insecure_put(forged)
    world.one_use()
    assert "signed by" in world.log.findings[0]
    again = world.open_log()
    assert again.findings == world.log.findings
    assert read(forged).id not in again.history.by_id
    # The twin: it is the note of the finding that keeps it out.
    Record(world.folder / "checkpoints", world.log_key).note(again._state.tree, again.size, ())
    assert read(forged).id in world.open_log().history.by_id


@patch("ledger.log.BATCH", 1)
def test_a_note_that_the_disk_refuses_costs_time_and_nothing_else(world: World):
    """Whatever ends the process there: the entries are shown already, and are verified again."""
    forged = world.offer(world.providers[0]).sign(world.providers[1].key)
    noted = Record(world.folder / "checkpoints", world.log_key).read().size
    with patch.object(Record, "note", side_effect=OSError) as refused:
        ticket = world.log.enqueue(world.sign(world.job()))
        world.insecure_put(forged)
    assert refused.called
    assert ticket.wait(0) < world.log.size
    assert not world.log.trouble
    again, count = count_signatures(world)
    assert Record(world.folder / "checkpoints", world.log_key).read().size == noted
    assert again.findings == world.log.findings
    assert read(forged).id not in again.history.by_id
    # The twin: noted, they are not verified again.
    world.put(world.job())
    assert count_signatures(world)[1] < count


def test_whoever_writes_to_the_database_has_nothing_believed(world: World):
    """A wrongly signed entry that the database got behind the log's back."""
    world.one_use()
    folder, before = world.folder / "checkpoints", world.folder / "before"
    shutil.copytree(folder, before)
    forged = world.offer(world.providers[0]).sign(world.providers[1].key)
    world.insecure_put(forged)
    known = Record(folder, world.log_key).read()
    assert (known.size, len(known.broken)) == (world.log.size, 1)
    # As if only the row had been added: the log never saw it, nor signed it.
    shutil.rmtree(folder)
    before.rename(folder)
    again = world.open_log()
    assert again.size == known.size
    assert len(again.findings) == 1
    assert read(forged).id not in again.history.by_id
    tree, size = again._state.tree, again.size
    Record(folder, SigningKey.generate(world.log_key.name)).note(tree, size, ())
    assert len(world.open_log().findings) == 1
    # The twin: believed as soon as the log's own key says that all was verified.
    Record(folder, world.log_key).note(tree, size, ())
    assert world.open_log().findings == []


def test_what_is_appended_is_admitted_as_recovery_admits_it(world: World):
    tickets = [world.log.enqueue(world.sign(world.job())) for _ in range(5)]
    assert world.log.sequence() == 5
    assert [ticket.wait(0) for ticket in tickets] == list(range(world.log.size - 5, world.log.size))
    again = world.open_log()
    assert again.history.entries == world.log.history.entries
    assert again.history.by_id == world.log.history.by_id
    assert again.history.checked == world.log.history.checked
    assert again.checkpoint() == world.log.checkpoint()


def test_what_breaks_a_rule_by_now_is_not_appended(world: World):
    """Checked before the revocation, appended after it."""
    first = world.providers[0]
    offer = world.log.check(world.sign(world.offer(first)))
    world.put(world.revoke(first, first.id))
    refused = world.log.enqueue(offer)
    assert world.log.sequence() == 0
    with pytest.raises(RuleError, match="revoked"):
        refused.wait(0)
    # The twin: a pending row is logged, as the transaction that stored it vouches for it.
    world.insecure_put(offer.envelope)
    assert len(world.log.findings) == 1


def test_signatures_are_believed_under_the_same_keys_alone(world: World):
    first, second = world.providers
    found = world.log.check(world.sign(world.offer(first)))
    found.verify(first.key.verify_key)
    with pytest.raises(SignatureError):
        found.verify(second.key.verify_key)
    with pytest.raises(SignatureError):
        found.verify(first.key.verify_key, second.key.verify_key)


def test_the_same_statement_twice_is_one_entry(world: World):
    job = world.sign(world.job())
    one, two = world.log.enqueue(job), world.log.enqueue(job)
    with world.engine.begin() as connection:
        world.log.submit(connection, job)
    assert world.log.sequence() == 1
    late = world.log.enqueue(job)
    world.log.sequence()
    assert one.wait(0) == two.wait(0) == late.wait(0) == world.log.size - 1


def test_producers_are_told_what_is_wrong(world: World):
    with pytest.raises(StatementError):
        world.log.append(b"{}")
    with pytest.raises(LogError, match="not in the log after 0 s; it may still come"):
        world.log.append(world.sign(world.job()), timeout=0)
    world.log.start()
    index = world.log.append(world.sign(world.job()))
    world.log.stop()
    assert index == world.log.size - 1


def test_another_key_does_not_open_the_log(world: World):
    world.log_key = key_of("other.example/log")
    with pytest.raises(LogError, match="is not a checkpoint of this log's key"):
        world.open_log()
