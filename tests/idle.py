"""Logs with epochs in which an asset was not used, and the proofs of that.

stage = Stage(world, {1: provider})        # in epoch 1 this one was left out
check(stage.make(1))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.keys import SigningKey
from ledger.merkle import Tree, leaf_hash
from ledger.non_use import Exhibit, NonUse, Proof, make, verify
from ledger.statements import Epoch, UseIndex
from ledger.trust import Policy
from tests.drafts import Provider, key_of, tag_key_of
from tests.world import LOG_NAME, World

LENGTH = 16
"""Entries of an epoch."""


@dataclass
class Stage:
    """A log in which each epoch from the second on has one use that leaves one provider out."""

    world: World
    idle: dict[int, Provider]

    def keys(self) -> dict[str, bytes]:
        return {item.asset: tag_key_of(item.name) for item in self.world.providers}

    def prove(self, index: int) -> Exhibit:
        log = self.world.log
        (entry,) = log.entry_bytes(index, index + 1)
        return Exhibit(
            entry, log.opening(index), tree_of_log(self.world).inclusion(index, log.size)
        )

    def make(self, number: int, provider: Provider | None = None) -> Proof:
        log, found = self.world.log, provider or self.idle[number]
        return make(log.history, found.asset, number, self.keys(), self.prove, log.checkpoint())


def tree_of_log(world: World) -> Tree:
    return Tree.from_leaf_hashes(map(leaf_hash, world.log.entry_bytes(0, world.log.size)))


def use(world: World, parties: Sequence[Provider]) -> None:
    everybody, world.providers = world.providers, list(parties)
    world.one_use()
    world.providers = everybody


def fill(world: World) -> None:
    while world.log.size % LENGTH:
        world.put(world.offer(world.providers[0]))


def check(proof: Proof, *keys: SigningKey) -> NonUse:
    trusted = keys or (key_of(LOG_NAME),)
    return verify(proof.to_bytes(), Policy.of(*(key.verify_key for key in trusted)))


def evidence_about(stage: Stage, provider: Provider, number: int) -> tuple[Exhibit, ...]:
    """What a proof about this asset needs, whether it was used or not."""
    history = stage.world.log.history
    wanted = {history.by_id[provider.asset].index, history.by_id[provider.id].index}
    for logged in history.by_index.values():
        item = logged.statement
        close = isinstance(item, Epoch) and (item.asset, item.number) == (provider.asset, number)
        index = isinstance(item, UseIndex) and item.number == number
        if close or index or item.kind == "schedule" or logged is history.operator:
            wanted.add(logged.index)
    return tuple(stage.prove(index) for index in sorted(wanted))
