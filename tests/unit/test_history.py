"""The sequence itself: no gap, each entry naming the one before it, time never going back."""

from dataclasses import replace
from pathlib import Path

import pytest

from ledger.entry import NO_PREDECESSOR, Entry
from ledger.errors import EvidenceError, RuleError
from ledger.history import History
from ledger.merkle import leaf_hash
from ledger.rules import admit
from ledger.statements import Agreement, Asset, Grant, Offer
from tests.world import World

FIRST = Entry(0, NO_PREDECESSOR, 10, "participant", (), bytes(32))
LEAF = leaf_hash(FIRST.to_bytes())
SECOND = Entry(1, LEAF, 10, "participant", (), bytes(32))


@pytest.fixture
def history() -> History:
    history = History()
    history.extend(FIRST, LEAF)
    return history


def test_the_next_entry_is_taken(history: History):
    history.extend(SECOND, leaf_hash(SECOND.to_bytes()))
    assert history.size == 2
    assert history.last_leaf == leaf_hash(SECOND.to_bytes())


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (replace(SECOND, index=0), "chain_broken"),
        (replace(SECOND, index=2), "chain_broken"),
        (replace(SECOND, previous=NO_PREDECESSOR), "chain_broken"),
        (replace(SECOND, time=9), "time_goes_back"),
    ],
)
def test_any_other_is_a_finding_and_still_counted(history: History, entry: Entry, code: str):
    with pytest.raises(RuleError) as caught:
        history.extend(entry, leaf_hash(entry.to_bytes()))
    assert caught.value.code == code
    assert "entry 1" in str(caught.value)
    assert history.size == 2


def test_the_first_entry_names_no_predecessor():
    with pytest.raises(RuleError):
        History().extend(replace(FIRST, previous=LEAF), LEAF)


def test_one_bad_entry_does_not_hide_the_next(tmp_path: Path):
    world = World(tmp_path, 1)
    history = History()
    codes = []
    for entry, opening in zip(world.entries(), world.openings(), strict=True):
        leaf = leaf_hash(entry.to_bytes())
        damaged = replace(entry, previous=bytes(32)) if entry.index == 1 else entry
        try:
            admit(history, damaged, leaf, opening.reveal(entry))
        except (RuleError, EvidenceError) as error:
            codes.append((entry.index, getattr(error, "code", "sealed_evidence")))
    # The enrolment stands in the wrong place, and was said: what rests on it is checked.
    assert codes == [(1, "chain_broken")]
    assert history.broken == {history.by_index[1].id: "chain_broken"}


def test_a_life_is_remembered_by_id_index_and_job(tmp_path: Path):
    world = World.with_one_use(tmp_path, 2)
    history, use = world.log.history, world.use
    assert use is not None
    assert history.size == world.log.size == len(history.by_id) == len(history.by_index)
    assert [logged.id for logged in history.completed[use.job]] == list(use.receipts)
    assert history.released[use.job].id == use.release
    assert history.settled[use.job].id == use.settlement
    assert dict(history.completed_uses) == {item.agreement: 1 for item in world.providers}
    assert history.broken == {}
    first = world.providers[0]
    assert history.participant_key(first.id) == first.key.verify_key
    assert history.node_key(first.asset) == world.node_key(first).verify_key
    assert history.get(first.agreement, Agreement) == world.statements[first.agreement]


def test_what_is_not_there_is_missing_evidence_or_a_finding(tmp_path: Path):
    world = World(tmp_path, 1)
    history, first = world.log.history, world.providers[0]
    with pytest.raises(EvidenceError):
        history.get(first.asset, Offer)
    with pytest.raises(EvidenceError):
        history.participant_key("participant:" + "0" * 64)
    with pytest.raises(EvidenceError, match="entry 3"):
        history.find("grant:" + "0" * 64, 3, Grant)
    with pytest.raises(RuleError, match="not in the log"):
        history.find("grant:" + "0" * 64, None, Grant)
    with pytest.raises(RuleError, match="is no grant"):
        history.find(first.asset, 3, Grant)
    assert history.find(first.asset, 3, Asset)[0].index == 3


def test_a_revocation_counts_from_its_own_index_on(tmp_path: Path):
    world = World(tmp_path, 1)
    first = world.providers[0]
    assert not world.log.history.revoked_before(first.offer, 2**53)
    world.put(world.revoke(first, first.offer))
    index = world.log.size - 1
    assert not world.log.history.revoked_before(first.offer, index)
    assert world.log.history.revoked_before(first.offer, index + 1)
    # A second revocation does not move the first.
    world.put(world.revoke(first, first.offer, "again"))
    assert world.log.history.revoked[first.offer] == index


def test_a_revocation_that_broke_a_rule_ends_nothing(tmp_path: Path):
    world = World(tmp_path, 2)
    first, stranger = world.providers
    world.insecure_put(world.revoke(stranger, first.offer))
    assert first.offer not in world.log.history.revoked
    assert list(world.log.history.broken.values()) == ["not_owner"]
