"""Closes, indexes, erasures and new keys: each accepted one has a twin that changes one thing."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import LedgerError, RuleError, SignatureError, StatementError
from ledger.keys import SigningKey
from ledger.statements import Counts, JournalSpan, Participant, Statement
from ledger.verify import verify
from tests.drafts import key_of
from tests.forgery import chain, insecure_export
from tests.world import World

NOBODY = "sha256:" + 64 * "0"


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "world", 2)
    world.put(world.schedule())
    world.one_use()
    return world


def code_of(world: World, statement: Statement | bytes) -> str:
    envelope = statement if isinstance(statement, bytes) else world.sign(statement)
    with pytest.raises(LedgerError) as caught:
        world.log.check(envelope)
    error = caught.value
    return error.code if isinstance(error, RuleError) else type(error).__name__


def test_a_log_with_closes_and_indexes_is_sound(world: World):
    world.close_epochs()
    assert world.log.findings == []
    verdict = world.audit()
    assert (verdict.status, verdict.checked["epoch"], verdict.checked["use_index"]) == (
        "sound",
        6,
        3,
    )


def test_a_log_has_one_schedule(world: World):
    assert code_of(world, world.schedule()) == "second_schedule"


def test_without_a_schedule_there_is_nothing_to_close(tmp_path: Path):
    world = World(tmp_path / "world", 2)
    assert code_of(world, world.epoch(world.providers[0], number=0, start=0, stop=8)) == (
        "no_schedule"
    )


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"start": 1}, "wrong_span"),
        ({"stop": 9}, "wrong_span"),
        ({"number": 1, "start": 8, "stop": 16}, "close_gap"),
        ({"number": 9, "start": 72, "stop": 80}, "not_seen_yet"),
        ({"journal": JournalSpan(2, 2, NOBODY), "counts": Counts(0, 0, 0, 0)}, "journal_gap"),
        ({"uses": 1}, "wrong_uses"),
    ],
)
def test_a_close_that_does_not_fit_is_refused(world: World, changes: dict[str, Any], code: str):
    provider = world.providers[0]
    assert code_of(world, world.epoch(provider, **changes)) == code
    world.put(world.epoch(provider))


def test_a_close_names_the_one_before_it(world: World):
    first = world.put(world.epoch(world.providers[0]))
    assert code_of(world, world.epoch(world.providers[0], previous=None)) == "close_gap"
    other = world.put(world.epoch(world.providers[1]))
    assert code_of(world, world.epoch(world.providers[0], previous=other)) == "close_gap"
    assert world.put(world.epoch(world.providers[0], previous=first))


def test_a_close_after_a_sealed_one_is_not_judged(world: World):
    world.close_epochs()
    closes = world.log.history.closes[world.providers[0].asset]
    assert len(closes) == 3
    assert world.audit().unchecked == 0
    for sealed, later in ((closes[0], 2), (closes[1], 1), (closes[2], 0)):
        opened = [index for index in range(world.log.size) if index != sealed.index]
        verdict = world.audit(opened)
        # Only the one that comes right after it rests on it.
        assert (verdict.status, verdict.sealed) == ("sound", 1)
        assert verdict.unchecked == min(later, 1)


def test_the_uses_of_a_close_are_those_in_the_log(world: World):
    provider = world.providers[0]
    uses = []
    for _ in range(3):
        close = world.epoch(provider)
        uses.append(close.uses)
        if close.stop > world.log.size:
            break
        world.put(close)
    assert 1 in uses
    assert world.log.findings == []


@pytest.mark.parametrize(
    "counts", [Counts(2, 1, 0, 0), Counts(0, 2, 1, 0), Counts(0, 0, 2, 1), Counts(3, 0, 0, 0)]
)
def test_a_close_counts_no_more_than_its_lines(world: World, counts: Counts):
    close = world.epoch(world.providers[0], counts=counts)
    with pytest.raises(StatementError, match="more than the journal has lines"):
        world.sign(close)


def test_only_the_node_closes(world: World):
    close = world.epoch(world.providers[0])
    assert code_of(world, close.sign(world.providers[0].key)) == SignatureError.__name__
    world.put(close)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"number": 1}, "index_gap"),
        ({"tags": 1}, "wrong_index"),
        ({"start": 1}, "wrong_span"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(world: World, changes: dict[str, Any], code: str):
    assert code_of(world, world.use_index(**changes)) == code
    world.put(world.use_index())


def test_only_the_operator_indexes(world: World):
    index = world.use_index()
    assert code_of(world, index.sign(world.providers[0].key)) == SignatureError.__name__
    world.put(index)


# Erasure.


def entries_of(world: World, kind: str) -> list[int]:
    return [entry.index for entry in world.entries() if entry.kind == kind]


def revoke_agreements(world: World) -> None:
    for provider in world.providers:
        world.put(world.revoke(provider, provider.agreement))


@pytest.mark.parametrize("kind", ["job", "grant", "receipt", "release", "settlement", "agreement"])
def test_what_rests_on_an_agreement_is_erased_after_its_end_alone(world: World, kind: str):
    erasure = world.shred(entries_of(world, kind), kind)
    assert code_of(world, erasure) == "shred_too_early"
    revoke_agreements(world)
    world.put(erasure)
    assert world.log.history.shredded.keys() == set(erasure.entries)
    again = replace(erasure, issued=erasure.issued + 1)
    assert code_of(world, again) == "wrong_shred"


def test_a_multi_party_job_waits_for_the_end_of_every_agreement(world: World):
    world.put(world.revoke(world.providers[0], world.providers[0].agreement))
    assert code_of(world, world.shred(entries_of(world, "job"), "job")) == "shred_too_early"


def test_time_ends_an_agreement_too(world: World):
    world.clock.now = world.terms.until + 1
    world.put(world.shred(entries_of(world, "job"), "job"))


@pytest.mark.parametrize("entries", [[0], [10_000]])
def test_an_erasure_names_entries_of_its_kind_that_are_there(world: World, entries: list[int]):
    revoke_agreements(world)
    assert code_of(world, world.shred(entries, "job")) == "wrong_shred"


def test_an_erasure_is_written_one_way(world: World):
    with pytest.raises(StatementError, match="ascending"):
        world.sign(world.shred([2, 1], "job"))
    with pytest.raises(StatementError, match="twice"):
        world.sign(world.shred([1, 1], "job"))
    with pytest.raises(StatementError, match="none of"):
        world.sign(world.shred([1], "participant"))


@pytest.mark.parametrize("lie", [{"index": 10_000, "references": (9_999,)}, {}])
def test_an_erased_entry_may_refer_to_what_is_not_there(world: World, lie: dict[str, Any]):
    """Looking for its agreements once ended where an entry gave itself a later number."""
    (job,) = entries_of(world, "job")
    revoke_agreements(world)
    world.put(world.shred([job], "job"))
    entries = world.entries()
    entries[job] = replace(entries[job], **lie)
    folder = insecure_export(world.folder / "x", world.log_key, chain(entries), world.openings())
    codes = {(item.code, item.where) for item in verify(folder, world.log.vkey).findings}
    assert (("chain_broken", f"entry {job}") in codes) == bool(lie)
    assert bool(codes) == bool(lie)


# New keys.


def fresh(name: str) -> SigningKey:
    return SigningKey.from_seed(name, hashlib.sha256(b"new " + name.encode()).digest())


def test_a_participant_signs_with_its_new_key_from_then_on(world: World):
    provider = world.providers[0]
    old, new = provider.key, fresh(provider.name)
    world.put(world.rotate(provider, provider.id, new))
    offer = world.offer(provider)
    assert code_of(world, offer.sign(old)) == SignatureError.__name__
    world.put(offer.sign(new))
    assert world.audit().status == "sound"


def test_a_node_signs_with_its_new_key_from_then_on(world: World):
    provider = world.providers[0]
    old, new = world.node_key(provider), fresh("node")
    world.put(world.rotate(provider, provider.asset, new))
    close = world.epoch(provider)
    assert code_of(world, close.sign(old)) == SignatureError.__name__
    world.put(close.sign(new))
    assert world.audit().status == "sound"


def test_a_provider_gives_a_lost_node_a_new_key(world: World):
    provider, other = world.providers
    rotation = world.rotate(provider, provider.asset, fresh("node"), by="recovery")
    stolen = world.rotate(other, provider.asset, fresh("node"), by="recovery")
    assert code_of(world, stolen) == "not_owner"
    world.put(rotation)


@pytest.fixture
def careful(tmp_path: Path) -> World:
    """A world whose first provider named a recovery key."""
    world = World(tmp_path / "careful", 2, enrolled=False)
    world.enrol(world.operator, "operator")
    recovery = key_of(f"{world.providers[0].name}/recovery").verify_key.text
    enrolled: Participant = world.participant(world.providers[0], "provider", recovery_key=recovery)
    world.providers[0].id = world.put(enrolled)
    world.keys[world.providers[0].id] = world.providers[0].key
    world.enrol(world.providers[1], "provider")
    return world


def test_a_recovery_key_replaces_a_lost_key_and_a_thief(careful: World):
    provider = careful.providers[0]
    thief = careful.rotate(provider, provider.id, fresh("thief"))
    careful.put(thief)
    mine = careful.rotate(provider, provider.id, fresh("mine"), by="recovery")
    careful.put(mine)
    assert careful.log.history.participant_key(provider.id) == fresh("mine").verify_key


def test_without_a_recovery_key_nothing_is_recovered(careful: World):
    provider = careful.providers[1]
    rotation = careful.rotate(provider, provider.id, fresh("new"), by="recovery")
    assert code_of(careful, rotation) == "no_recovery_key"


def test_a_recovery_key_names_its_successor(careful: World):
    provider = careful.providers[0]
    later = fresh("later-recovery")
    text = later.verify_key.text
    by_first_key = careful.rotate(provider, provider.id, fresh("new"), recovery_key=text)
    with pytest.raises(StatementError, match="only a recovery key"):
        careful.sign(by_first_key)
    rotation = careful.rotate(
        provider, provider.id, fresh("new"), by="recovery", recovery_key=later.verify_key.text
    )
    careful.put(rotation)
    again = careful.rotate(provider, provider.id, fresh("newer"), by="recovery")
    assert code_of(careful, again) == SignatureError.__name__
    careful.put(again.sign(later, fresh("newer")))


@pytest.mark.parametrize(
    "taken", [lambda world: world.operator.key, lambda world: world.providers[0].key]
)
def test_a_key_in_use_is_nobodys_new_key(world: World, taken: Callable[[World], SigningKey]):
    provider = world.providers[1]
    assert code_of(world, world.rotate(provider, provider.id, taken(world))) == "duplicate_key"


def test_a_key_that_was_replaced_does_not_come_back(world: World):
    provider = world.providers[0]
    world.put(world.rotate(provider, provider.id, fresh("new")))
    back = world.rotate(provider, provider.id, provider.key)
    assert code_of(world, back.sign(fresh("new"), provider.key)) == "duplicate_key"


def test_the_new_key_signs_too(world: World):
    provider = world.providers[0]
    rotation = world.rotate(provider, provider.id, fresh("new"))
    assert code_of(world, rotation.sign(provider.key)) == SignatureError.__name__


def test_a_revoked_key_is_not_replaced(world: World):
    provider = world.providers[0]
    world.put(world.revoke(world.operator, provider.id))
    assert code_of(world, world.rotate(provider, provider.id, fresh("new"))) == "revoked_key"


def test_nobody_replaces_anothers_key(world: World):
    one, other = world.providers
    with pytest.raises(StatementError, match="its own key"):
        world.sign(world.rotate(one, other.id, fresh("new")))
