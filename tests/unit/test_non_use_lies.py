"""A dishonest operator or node: what it puts together does not show that an asset was unused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.errors import LedgerError, ProofError
from ledger.non_use import Proof, _neighbours
from ledger.use_index import disclose, root_of, sorted_tags, tag
from tests.drafts import tag_key_of
from tests.idle import LENGTH, Stage, check, evidence_about, fill, use
from tests.world import World


def test_an_index_that_omits_the_asset_is_contradicted_by_the_node(tmp_path: Path):
    world = World(tmp_path / "world", 4, terms={"minimum_parties": 2})
    world.put(world.schedule(epoch_entries=LENGTH))
    fill(world)
    number, victim = world.log.size // LENGTH, world.providers[0]
    use(world, world.providers)
    fill(world)
    world.close_epochs(number)
    for provider in world.providers:
        world.put(world.epoch(provider))
    others = world.providers[1:]
    tags = sorted_tags(tag(tag_key_of(item.name), item.asset, number) for item in others)
    # Said to have four tags it is not even against a rule, without the keys.
    forged = world.use_index(number=number, root=root_of(tags), tags=3)
    world.insecure_put(forged)
    lying = Stage(world, {number: victim})
    with pytest.raises(ProofError, match="was used in epoch"):
        lying.make(number)
    own = disclose(tag_key_of(victim.name), number)
    put_together = Proof(
        victim.asset,
        own,
        _neighbours(tags, own.tag(victim.asset)),
        evidence_about(lying, victim, number),
        world.log.checkpoint(),
    )
    with pytest.raises(ProofError, match="the asset's node counts 1 uses"):
        check(put_together)


def test_a_close_that_the_node_did_not_sign_is_refused(tmp_path: Path):
    world = World(tmp_path / "world", 2)
    world.put(world.schedule(epoch_entries=LENGTH))
    fill(world)
    provider = world.providers[0]
    statement = world.epoch(provider)
    close = world.log.index_of(world.insecure_put(statement.sign(world.operator.key)))
    world.put(world.use_index())
    lying = Stage(world, {0: provider})
    evidence = [
        lying.prove(index)
        for index in sorted(
            {
                *(
                    logged.index
                    for logged in world.log.history.by_index.values()
                    if logged.statement.kind in ("schedule", "use_index")
                ),
                world.log.index_of(world.operator.id),
                world.log.index_of(provider.id),
                world.log.index_of(provider.asset),
                close,
            }
        )
    ]
    own = disclose(tag_key_of(provider.name), 0)
    forged = Proof(provider.asset, own, (), tuple(evidence), world.log.checkpoint())
    with pytest.raises(LedgerError, match="sign"):
        check(forged)


def test_an_epoch_that_was_closed_and_indexed_before_its_end_is_refused(tmp_path: Path):
    world = World(tmp_path / "world", 2)
    world.put(world.schedule(epoch_entries=LENGTH))
    provider, early = world.providers[0], world.use_index()
    while world.log.size % LENGTH < LENGTH - 2:
        world.put(world.offer(provider))
    indexes = [
        world.log.index_of(world.insecure_put(item)) for item in (early, world.epoch(provider))
    ]
    assert max(indexes) < LENGTH
    needed = [world.log.index_of(item) for item in (world.operator.id, provider.id, provider.asset)]
    schedule = next(item.index for item in world.entries() if item.kind == "schedule")
    exhibits = map(Stage(world, {}).prove, sorted([*indexes, *needed, schedule]))
    own = disclose(tag_key_of(provider.name), 0)
    forged = Proof(provider.asset, own, (), tuple(exhibits), world.log.checkpoint())
    with pytest.raises(ProofError, match="had not ended"):
        check(forged)
