"""The sequence itself: no gap, each entry naming the one before it, time never going back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger.entry import NO_PREDECESSOR, Entry
from ledger.errors import EvidenceError, RuleError, StatementError
from ledger.history import History, Logged
from ledger.merkle import leaf_hash
from ledger.rules import admit
from ledger.statements import Agreement, Asset, Grant, Offer, Schedule, TaggedAsset
from ledger.verify import audit
from tests.drafts import Provider
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


def test_a_statement_is_read_as_what_it_is_alone():
    schedule = Schedule(epoch_entries=8, grace_entries=4, issued=10)
    planned = Logged(3, 10, "schedule:" + 64 * "0", schedule)
    assert planned.read_as(Schedule) is schedule
    with pytest.raises(StatementError, match="entry 3 is no offer"):
        planned.read_as(Offer)


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


class Untagged(World):
    """A world in which the first provider's asset has no tag key, as in the first format."""

    def asset(self, provider: Provider, **changes: Any) -> Asset:
        tagged = vars(super().asset(provider, **changes))
        if provider is not self.providers[0]:
            return TaggedAsset(**tagged)
        return Asset(**{name: tagged[name] for name in tagged if name != "tag_commitment"})


def test_an_index_has_the_used_assets_that_have_a_tag_key(tmp_path: Path):
    tagged, untagged = World(tmp_path / "tagged", 2), Untagged(tmp_path / "untagged", 2)
    for world in (tagged, untagged):
        world.one_use()
    both = {provider.asset for provider in tagged.providers}
    assert tagged.log.history.used_assets(0, tagged.log.size) == both
    assert untagged.log.history.used_assets(0, untagged.log.size) == {untagged.providers[1].asset}


def test_a_receipt_of_a_sealed_asset_may_be_a_use(tmp_path: Path):
    world = World.with_one_use(tmp_path / "world", 2)
    first, second = world.providers
    opened = [index for index in range(world.log.size) if index != world.log.index_of(first.asset)]
    done = audit(world.export(tmp_path / "x", opened), world.log.vkey)
    # Without the asset's own entry nobody knows its node's key.
    assert [item.code for item in done.verdict.missing] == ["sealed_evidence"]
    used, size = done.history.used_assets, world.log.size
    of_first, of_second = map(world.log.index_of, world.use.receipts)
    with pytest.raises(EvidenceError, match="stayed sealed"):
        used(of_first, of_first + 1)
    # The twin: where no receipt of it stands, the index can be told.
    assert used(0, of_first) == set()
    assert used(of_first + 1, size) == used(of_second, of_second + 1) == {second.asset}


def test_an_index_that_goes_back_moves_nothing(tmp_path: Path):
    world = World.with_every_kind(tmp_path)
    history = world.log.history
    before = (history.next_use_index, len(history.use_indexes))
    world.insecure_put(world.use_index(number=0))
    assert "index_gap" in history.broken.values()
    assert (history.next_use_index, len(history.use_indexes)) == before
    world.close_epochs()
    assert history.next_use_index > before[0]


def test_a_close_that_goes_back_is_not_the_newest(tmp_path: Path):
    world = World.with_every_kind(tmp_path)
    history, provider = world.log.history, world.providers[0]
    newest = history.last_close(provider.asset)
    assert newest is not None
    assert newest[1].number > 0
    assert history.last_close(world.providers[0].offer) is None
    first = next(item.statement for item in history.closes[provider.asset])
    world.insecure_put(replace(first, issued=world.clock()))  # type: ignore[call-arg]
    assert history.last_close(provider.asset) == newest
