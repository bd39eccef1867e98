"""Non-use: shown for whom it is true, and refused wherever one thing is changed."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.checkpoint import Checkpoint, sign
from ledger.entry import Entry
from ledger.errors import EncodingError, EvidenceError, LedgerError, ProofError, TrustError
from ledger.non_use import Proof, _check_absent, _neighbours, make, verify
from ledger.statements import Asset, Epoch, Statement, TaggedAsset, UseIndex
from ledger.trust import Policy
from ledger.use_index import disclose, root_of, sorted_tags, tag, tree_of
from tests.drafts import key_of, tag_key_of
from tests.idle import LENGTH, Stage, check, evidence_about, fill, tree_of_log, use
from tests.world import LOG_NAME, World


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    world = World(tmp_path_factory.mktemp("world"), 4, terms={"minimum_parties": 2})
    world.put(world.schedule(epoch_entries=LENGTH))
    idle = {}
    for left_out in world.providers:
        fill(world)
        idle[world.log.size // LENGTH] = left_out
        use(world, [item for item in world.providers if item is not left_out])
    fill(world)
    world.close_epochs()
    return Stage(world, idle)


@pytest.fixture(scope="module")
def number(stage: Stage) -> int:
    return min(stage.idle)


@pytest.fixture(scope="module")
def proof(stage: Stage, number: int) -> Proof:
    return stage.make(number)


def test_an_unused_asset_is_shown_to_be_unused(stage: Stage):
    for number, provider in stage.idle.items():
        shown = check(stage.make(number))
        assert shown.asset_id == provider.asset
        assert shown.provider.name == provider.name
        assert (shown.number, shown.start, shown.stop) == (
            number,
            number * LENGTH,
            (number + 1) * LENGTH,
        )
        assert (shown.used, shown.close.uses) == (3, 0)
        assert shown.trusted.checkpoint.size == stage.world.log.size


def test_an_epoch_without_any_use_is_shown_too(stage: Stage):
    empty = max(stage.idle) + 1
    shown = check(stage.make(empty, stage.world.providers[0]))
    assert shown.used == 0


def test_a_proof_is_read_back_as_it_was_written(proof: Proof):
    assert Proof.from_bytes(proof.to_bytes()) == proof
    assert proof.key.key.hex() not in repr(proof)


def test_a_used_asset_cannot_be_proven_unused(stage: Stage, number: int):
    used = next(item for item in stage.world.providers if item is not stage.idle[number])
    with pytest.raises(ProofError, match="was used in epoch"):
        stage.make(number, used)


def test_a_proof_about_a_used_asset_is_refused_however_it_is_put_together(
    stage: Stage, number: int, proof: Proof
):
    used = next(item for item in stage.world.providers if item is not stage.idle[number])
    own = disclose(tag_key_of(used.name), number)
    evidence = evidence_about(stage, used, number)
    lying = replace(proof, asset=used.asset, key=own, evidence=evidence)
    with pytest.raises(ProofError, match="counts 1 uses"):
        check(lying)


# One thing changed.


def swap(proof: Proof, stage: Stage, kind: str, other: int) -> Proof:
    """The same proof with its evidence of one kind exchanged for another entry."""
    kept = [item for item in proof.evidence if Entry.from_bytes(item.entry).kind != kind]
    items = [*kept, stage.prove(other)]
    items.sort(key=lambda item: Entry.from_bytes(item.entry).index)
    return replace(proof, evidence=tuple(items))


def find(stage: Stage, wanted: Callable[[Statement], bool]) -> int:
    history = stage.world.log.history
    return next(logged.index for logged in history.by_index.values() if wanted(logged.statement))


def test_the_key_of_another_epoch_or_asset_is_refused(stage: Stage, number: int, proof: Proof):
    name = stage.idle[number].name
    other = disclose(tag_key_of(name), number + 1)
    for key in (
        replace(other, number=number),
        disclose(tag_key_of(stage.idle[number + 1].name), number),
        replace(proof.key, key=hashlib.sha256(b"guessed").digest()),
    ):
        with pytest.raises(ProofError, match="not the key of epoch"):
            check(replace(proof, key=key))


def test_another_epoch_is_refused(stage: Stage, number: int, proof: Proof):
    name = stage.idle[number].name
    with pytest.raises(ProofError, match="is not of epoch"):
        check(replace(proof, key=disclose(tag_key_of(name), number + 1)))


def test_the_index_of_another_epoch_is_refused(stage: Stage, number: int, proof: Proof):
    other = find(stage, lambda item: isinstance(item, UseIndex) and item.number == number + 1)
    with pytest.raises(ProofError, match="the index in the proof is not of epoch"):
        check(swap(proof, stage, "use_index", other))


def test_swapped_closes_are_refused(stage: Stage, number: int, proof: Proof):
    asset = stage.idle[number].asset

    def close(of_asset: bool, epoch: int) -> int:  # noqa: FBT001
        return find(
            stage,
            lambda item: (
                isinstance(item, Epoch)
                and (item.asset == asset) is of_asset
                and item.number == epoch
            ),
        )

    assert check(swap(proof, stage, "epoch", close(True, number)))  # noqa: FBT003
    with pytest.raises(ProofError, match="the close in the proof is not of epoch"):
        check(swap(proof, stage, "epoch", close(True, number - 1)))  # noqa: FBT003
    with pytest.raises(ProofError):
        check(swap(proof, stage, "epoch", close(False, number)))  # noqa: FBT003


def test_the_close_of_another_asset_is_refused_with_all_its_grounds(
    stage: Stage, number: int, proof: Proof
):
    other = next(item for item in stage.world.providers if item is not stage.idle[number])
    close = find(
        stage,
        lambda item: (
            isinstance(item, Epoch) and item.asset == other.asset and item.number == number
        ),
    )
    # Its node's key is that of an asset which the proof does not hold.
    with pytest.raises(ProofError, match="does not show what it claims"):
        check(swap(proof, stage, "epoch", close))


@pytest.mark.parametrize("kind", ["participant", "asset", "schedule", "epoch", "use_index"])
def test_every_piece_of_evidence_is_needed(proof: Proof, kind: str):
    kept = tuple(item for item in proof.evidence if Entry.from_bytes(item.entry).kind != kind)
    with pytest.raises(ProofError):
        check(replace(proof, evidence=kept))


def test_evidence_that_stands_twice_or_backwards_is_refused(proof: Proof):
    first, *rest = proof.evidence
    for evidence in ((first, first, *rest), tuple(reversed(proof.evidence))):
        with pytest.raises(ProofError, match=r"order of the log|no operator"):
            check(replace(proof, evidence=evidence))


def test_two_indexes_of_one_epoch_are_one_too_many(stage: Stage, number: int, proof: Proof):
    other = find(stage, lambda item: isinstance(item, UseIndex) and item.number == number + 1)
    items = sorted(
        (*proof.evidence, stage.prove(other)), key=lambda item: Entry.from_bytes(item.entry).index
    )
    with pytest.raises(ProofError, match="needs one use_index, it has 2"):
        check(replace(proof, evidence=tuple(items)))


def test_another_log_is_refused(proof: Proof, tmp_path: Path):
    with pytest.raises(TrustError):
        check(proof, key_of("another.example/log"))
    other = World(tmp_path / "other", 4)
    with pytest.raises(ProofError, match="does not show what it claims"):
        check(replace(proof, checkpoint=other.log.checkpoint()))


def test_neighbours_that_are_not_next_to_each_other_are_refused(
    stage: Stage, number: int, proof: Proof
):
    tags = tags_of(stage, number)
    own = proof.key.tag(proof.asset)
    tree, size = tree_of(tags), len(tags)
    true = _neighbours(tags, own)
    everyone = [_neighbours(tags, item) for item in (bytes(32), b"\xff" * 32)]
    spread = (everyone[0][0], everyone[1][-1])
    assert size == 3
    assert tree.size == 3
    for wrong in (spread, tuple(reversed(true)), true[:1] * 2, ()):
        if wrong == true:
            continue
        with pytest.raises(ProofError):
            check(replace(proof, neighbours=wrong))
    assert check(replace(proof, neighbours=true))


def tags_of(stage: Stage, number: int) -> tuple[bytes, ...]:
    used = [item for item in stage.world.providers if item is not stage.idle[number]]
    return sorted_tags(tag(tag_key_of(item.name), item.asset, number) for item in used)


@pytest.mark.parametrize(
    ("size", "place"), [(size, place) for size in (0, 1, 2, 3, 8) for place in range(size + 1)]
)
def test_every_place_in_an_index_of_any_size_is_shown(size: int, place: int):
    tags = [bytes([10 * (number + 1)]) * 32 for number in range(size)]
    own = bytes([10 * place + 5]) * 32
    index = UseIndex(0, 0, 8, size, root_of(tags), 0)
    neighbours = _neighbours(tags, own)
    _check_absent(own, neighbours, index)
    for number, item in enumerate(tags):
        moved = bytes([10 * (number + 1) + 5]) * 32
        if moved != own and size > 1:
            with pytest.raises(ProofError, match="next to each other"):
                _check_absent(moved, neighbours, index)
        with pytest.raises(ProofError, match="next to each other"):
            _check_absent(item, _neighbours(tags, item), index)
    if place == size:
        with pytest.raises(ProofError):
            _check_absent(own, neighbours, replace(index, tags=size + 1))
    with pytest.raises(ProofError):
        _check_absent(own, neighbours, replace(index, root="sha256:" + 64 * "a"))


def test_an_index_with_another_root_cannot_be_used(stage: Stage, number: int):
    keys = stage.keys()
    stranger = next(item for item in stage.world.providers if item is not stage.idle[number])
    keys[stranger.asset] = bytes(32)
    log = stage.world.log
    with pytest.raises(ProofError, match="is not that of the assets used"):
        make(log.history, stage.idle[number].asset, number, keys, stage.prove, log.checkpoint())


def test_a_proof_about_another_asset_than_its_evidence_is_refused(
    stage: Stage, number: int, proof: Proof
):
    other = next(item for item in stage.world.providers if item is not stage.idle[number])
    with pytest.raises(ProofError, match="is another than it claims"):
        check(replace(proof, asset=other.asset))


# What cannot be made.


def test_a_proof_that_nobody_would_read_is_not_written(proof: Proof):
    with pytest.raises(ProofError, match="is longer than"):
        replace(proof, checkpoint=bytes(20_000_000)).to_bytes()


def test_an_older_checkpoint_cannot_show_what_came_later(stage: Stage, number: int):
    log = stage.world.log
    size = number * LENGTH
    older = sign(Checkpoint(LOG_NAME, size, tree_of_log(stage.world).root(size)), key_of(LOG_NAME))
    asset = stage.idle[number].asset
    with pytest.raises(EvidenceError, match=f"covers {size} entries"):
        make(log.history, asset, number, stage.keys(), stage.prove, older)


def test_an_epoch_that_the_node_has_not_closed_cannot_be_shown(tmp_path: Path):
    world = World(tmp_path / "world", 2)
    world.put(world.schedule(epoch_entries=LENGTH))
    fill(world)
    world.put(world.use_index())
    with pytest.raises(EvidenceError, match="has not closed epoch 0"):
        Stage(world, {}).make(0, world.providers[0])


def test_what_is_lacking_is_named(stage: Stage, number: int):
    log, keys, asset = stage.world.log, stage.keys(), stage.idle[number].asset
    arguments = (stage.prove, log.checkpoint())
    with pytest.raises(EvidenceError, match="tag key of this asset"):
        make(log.history, asset, number, {}, *arguments)
    with pytest.raises(EvidenceError, match="tag keys of 3 assets"):
        make(log.history, asset, number, {asset: keys[asset]}, *arguments)
    with pytest.raises(EvidenceError, match="is not indexed"):
        make(log.history, asset, 500, keys, *arguments)
    with pytest.raises(EvidenceError, match="not among the opened"):
        make(log.history, "asset:" + 64 * "0", number, {"asset:" + 64 * "0": bytes(32)}, *arguments)


def test_a_log_without_a_schedule_has_no_epochs(tmp_path: Path):
    world = World(tmp_path / "world", 2)
    with pytest.raises(EvidenceError, match="has no schedule"):
        Stage(world, {}).make(0, world.providers[0])


def test_an_asset_without_a_commitment_cannot_be_shown(tmp_path: Path):
    world = World(tmp_path / "world", 2)
    world.put(world.schedule(epoch_entries=LENGTH))
    provider = world.providers[0]
    tagged = world.statements[provider.asset]
    assert isinstance(tagged, TaggedAsset)
    plain = {k: v for k, v in tagged.__dict__.items() if k != "tag_commitment"}
    provider.asset = world.put(Asset(**plain))
    world.keys[provider.asset] = world.node_key(provider)
    fill(world)
    fill(world)
    world.put(world.epoch(provider))
    world.put(world.use_index())
    world.put(world.use_index(number=1)) if world.log.history.schedule.ended(
        world.log.size
    ) > 1 else None  # type: ignore[union-attr]
    lying = Stage(world, {})
    number = world.log.index_of(provider.asset) // LENGTH
    made = lying.make(number, provider)
    with pytest.raises(ProofError, match="commits to no tag key"):
        check(made)


# Its bytes.


def test_every_changed_byte_is_refused(proof: Proof):
    data, accepted = proof.to_bytes(), 0
    policy = Policy.of(key_of(LOG_NAME).verify_key)
    for position in range(0, len(data), max(1, len(data) // 600)):
        changed = bytearray(data)
        changed[position] ^= 1
        try:
            verify(bytes(changed), policy)
        except LedgerError:
            continue
        accepted += 1
    assert accepted == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda _data: b"",
        lambda data: data.replace(b"non-use/v1", b"non-use/v2"),
        lambda data: data.replace(b"\n\n", b"\n"),
        lambda data: data.split(b"\n")[0] + b"\n\n" + data.partition(b"\n\n")[2],
        lambda data: data.replace(b'"neighbours":[', b'"neighbours":[1,2,3,', 1),
        lambda data: data.replace(b'"epoch":', b'"epoch":-', 1),
        lambda data: data.replace(b'{"asset"', b'{"aaa":1,"asset"', 1),
        lambda data: data.replace(b'"path":[', b'"path":[7,', 1),
        lambda data: re.sub(rb'"path":\[[^]]*\]', b'"path":7', data, count=1),
        lambda data: data.replace(b'{"entry":', b'{"entries":', 1),
        lambda _data: b"x" * 20_000_001,
    ],
)
def test_what_is_malformed_is_refused(proof: Proof, change: Callable[[bytes], bytes]):
    with pytest.raises((ProofError, EncodingError)) as caught:
        Proof.from_bytes(change(proof.to_bytes()))
    assert "proof" in str(caught.value)
