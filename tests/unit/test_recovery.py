from collections.abc import Mapping

import numpy as np
import pytest

from privacy import paillier
from privacy.errors import (
    MaskError,
    MaskKeyError,
    RecoveredKeyError,
    RecoveryError,
    SeedError,
    ShareError,
    VectorError,
)
from privacy.masking import MaskKey, add, mask, mask_context, pairwise_mask, self_mask
from privacy.recovery import correction, seed_commitment, unmask
from privacy.shamir import combine, recovery_threshold, split

IDS = ("asset:a", "asset:b", "asset:c", "asset:d")
CONTEXT = mask_context("job:1", 1, 1, IDS)
LENGTH = 50
# asset:b is between the others, so that streams with it are added by one and taken by two.
DROPPED = "asset:b"
SURVIVORS = tuple(party for party in IDS if party != DROPPED)


class Round:
    """Four parties with all that they know; `opened` unmasks, with changes."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self.keys = {party: MaskKey.generate() for party in IDS}
        self.seeds = {party: bytes([at + 1]) * 32 for at, party in enumerate(IDS)}
        self.vectors = {party: rng.integers(0, 2**64, LENGTH, dtype=np.uint64) for party in IDS}
        self.publics = {party: key.public for party, key in self.keys.items()}
        self.sent = {party: self.masked(party, self.seeds[party]) for party in IDS}
        self.arguments: dict[str, object] = {
            "survivors": {party: self.seeds[party] for party in SURVIVORS},
            "dropped": {DROPPED: self.keys[DROPPED]},
            "publics": self.publics,
            "commitments": {
                party: seed_commitment(self.seeds[party], owner=party, context=CONTEXT)
                for party in IDS
            },
            "context": CONTEXT,
        }

    def masked(self, party: str, seed: bytes | None) -> np.ndarray:
        return mask(
            self.vectors[party],
            own_id=party,
            own=self.keys[party],
            peers={other: key for other, key in self.publics.items() if other != party},
            context=CONTEXT,
            seed=seed,
        )

    def pairwise(self, party: str, key: MaskKey) -> np.ndarray:
        peers = {other: public for other, public in self.publics.items() if other != party}
        return pairwise_mask(LENGTH, own_id=party, own=key, peers=peers, context=CONTEXT)

    def plain(self, *parties: str) -> np.ndarray:
        return add([self.vectors[party] for party in parties])

    def total(self, *parties: str) -> np.ndarray:
        return add([self.sent[party] for party in parties])

    def opened(self, **change: object) -> np.ndarray:
        return unmask(self.total(*SURVIVORS), **(self.arguments | change))


@pytest.fixture(scope="module")
def four() -> Round:
    return Round()


def swapped(mapping: object, **change: object) -> dict[str, object]:
    assert isinstance(mapping, Mapping)
    return {**mapping, **{f"asset:{name}": value for name, value in change.items()}}


@pytest.mark.parametrize("missing", IDS)
def test_the_sum_of_three_opens_whoever_is_missing(four: Round, missing: str):
    rest = [party for party in IDS if party != missing]
    got = unmask(
        four.total(*rest),
        **four.arguments
        | {
            "survivors": {party: four.seeds[party] for party in rest},
            "dropped": {missing: four.keys[missing]},
        },
    )
    assert (got == four.plain(*rest)).all()


def test_the_sum_of_all_and_of_two_opens(four: Round):
    everyone = four.opened(survivors=four.seeds, dropped={})
    assert (everyone != four.plain(*IDS)).all()  # the total is still that of three
    got = unmask(four.total(*IDS), **four.arguments | {"survivors": four.seeds, "dropped": {}})
    assert (got == four.plain(*IDS)).all()
    got = unmask(
        four.total("asset:a", "asset:d"),
        **four.arguments
        | {
            "survivors": {party: four.seeds[party] for party in ("asset:a", "asset:d")},
            "dropped": {party: four.keys[party] for party in ("asset:b", "asset:c")},
        },
    )
    assert (got == four.plain("asset:a", "asset:d")).all()


def test_the_correction_is_what_unmask_subtracts_and_leaves_the_total_alone(four: Round):
    total = four.total(*SURVIVORS)
    before = total.copy()
    rest = correction(LENGTH, **four.arguments)
    assert (unmask(total, **four.arguments) == total - rest).all()
    assert (total == before).all()
    assert len(correction(0, **four.arguments)) == 0


def test_the_correction_is_applied_under_encryption(four: Round):
    secret = paillier.SecretKey.generate(bits=2048)
    some = 3
    columns = [paillier.encrypt(secret.public, four.sent[party][:some]) for party in SURVIVORS]
    rest = correction(some, **four.arguments)
    columns.append(paillier.encrypt(secret.public, np.zeros(some, np.uint64) - rest))
    total = paillier.add(secret.public, columns)
    got = paillier.decrypt_words(secret, total, parties=len(SURVIVORS) + 1)
    assert (got == four.plain(*SURVIVORS)[:some]).all()


def test_without_recovery_the_sum_is_noise(four: Round):
    rest = four.total(*SURVIVORS) - four.plain(*SURVIVORS)
    ones = int(np.bitwise_count(rest).sum())
    assert abs(ones - 1600) < 6 * 28.3
    assert (four.opened() == four.plain(*SURVIVORS)).all()


def test_a_party_both_dropped_and_surviving_is_refused(four: Round):
    with pytest.raises(RecoveryError, match="'asset:b' is said to have both") as refused:
        four.opened(survivors=four.seeds)
    assert refused.value.party == DROPPED


@pytest.mark.parametrize("side", ["survivors", "dropped"])
def test_a_party_that_did_not_mask_is_refused(four: Round, side: str):
    new = {"survivors": bytes(32), "dropped": MaskKey.generate()}[side]
    with pytest.raises(RecoveryError, match="'asset:x' is none of the parties") as refused:
        four.opened(**{side: swapped(four.arguments[side], x=new)})
    assert refused.value.party == "asset:x"


def test_a_party_that_is_neither_dropped_nor_surviving_is_refused(four: Round):
    with pytest.raises(RecoveryError, match="'asset:b' is neither survivor") as refused:
        four.opened(dropped={})
    assert refused.value.party == DROPPED
    with pytest.raises(RecoveryError, match="'asset:d' is neither survivor"):
        four.opened(survivors={party: four.seeds[party] for party in ("asset:a", "asset:c")})


@pytest.mark.parametrize("left", [0, 1])
def test_fewer_than_two_survivors_are_refused(four: Round, left: int):
    with pytest.raises(RecoveryError, match=f"a sum of {left} contributions is not opened"):
        four.opened(
            survivors={party: four.seeds[party] for party in IDS[:left]},
            dropped={party: four.keys[party] for party in IDS[left:]},
        )


@pytest.mark.parametrize("seed", [b"\x09" * 32, b"", bytes(31), bytes(33)])
def test_a_seed_that_was_not_committed_to_is_refused(four: Round, seed: bytes):
    with pytest.raises(SeedError, match="'asset:c'") as refused:
        four.opened(survivors=swapped(four.arguments["survivors"], c=seed))
    assert refused.value.party == "asset:c"


def test_another_commitment_than_the_seed_s_is_refused(four: Round):
    seeds = four.seeds
    for promise in (
        seed_commitment(seeds["asset:c"], owner="asset:a", context=CONTEXT),
        seed_commitment(
            seeds["asset:c"], owner="asset:c", context=mask_context("job:1", 1, 2, IDS)
        ),
        seed_commitment(seeds["asset:a"], owner="asset:c", context=CONTEXT),
        b"",
    ):
        with pytest.raises(SeedError, match="'asset:c'"):
            four.opened(commitments=swapped(four.arguments["commitments"], c=promise))


def test_a_missing_commitment_is_refused_and_that_of_a_dropped_party_is_not_needed(four: Round):
    commitments = dict(four.arguments["commitments"])
    del commitments[DROPPED]
    assert (four.opened(commitments=commitments) == four.plain(*SURVIVORS)).all()
    del commitments["asset:d"]
    with pytest.raises(RecoveryError, match="'asset:d' published no commitment") as refused:
        four.opened(commitments=commitments)
    assert refused.value.party == "asset:d"


def test_a_mask_key_that_its_owner_did_not_sign_is_refused(four: Round):
    for key in (MaskKey.generate(), four.keys["asset:a"]):
        with pytest.raises(RecoveredKeyError, match="'asset:b'") as refused:
            four.opened(dropped={DROPPED: key})
        assert refused.value.party == DROPPED


def test_a_survivor_s_public_key_that_must_not_be_used_is_refused(four: Round):
    with pytest.raises(MaskKeyError, match=r"'asset:a'.*small order") as refused:
        four.opened(publics=swapped(four.publics, a=bytes(32)))
    assert refused.value.party == "asset:a"


def test_another_context_is_refused(four: Round):
    with pytest.raises(SeedError):
        four.opened(context=mask_context("job:1", 1, 2, IDS))
    with pytest.raises(MaskError, match="needs a context"):
        four.opened(context=b"")


@pytest.mark.parametrize("total", [np.zeros(3), np.zeros((1, 3), np.uint64)])
def test_a_total_that_is_no_word_vector_is_refused(four: Round, total: np.ndarray):
    with pytest.raises(VectorError):
        unmask(total, **four.arguments)


@pytest.mark.parametrize("length", [-1, 2**31 + 1])
def test_a_correction_for_no_vector_is_refused(four: Round, length: int):
    with pytest.raises(VectorError, match="no contribution has"):
        correction(length, **four.arguments)


def test_a_commitment_differs_with_seed_owner_and_context():
    seed = b"\x01" * 32
    other = mask_context("job:1", 1, 2, IDS)
    seen = {
        seed_commitment(seed, owner="a", context=CONTEXT),
        seed_commitment(b"\x02" * 32, owner="a", context=CONTEXT),
        seed_commitment(seed, owner="b", context=CONTEXT),
        seed_commitment(seed, owner="a", context=other),
    }
    assert len(seen) == 4
    assert {len(one) for one in seen} == {32}


@pytest.mark.parametrize(
    "change", [{"seed": bytes(31)}, {"owner": ""}, {"owner": "\ud800"}, {"context": b""}]
)
def test_a_commitment_without_meaning_is_refused(change: dict[str, object]):
    arguments: dict[str, object] = {"seed": bytes(32), "owner": "a", "context": CONTEXT}
    seed_commitment(**arguments)
    with pytest.raises(MaskError):
        seed_commitment(**(arguments | change))


# --- attacks, each with the twin that shows that it bites ---------------------------------------


def test_both_secrets_of_one_party_show_its_vector_and_either_alone_shows_noise(four: Round):
    victim = "asset:c"
    sent, vector = four.sent[victim], four.vectors[victim]
    pairwise = four.pairwise(victim, four.keys[victim])
    own = self_mask(LENGTH, seed=four.seeds[victim], owner=victim, context=CONTEXT)
    assert (sent - pairwise - own == vector).all()
    for rest in (sent - pairwise - vector, sent - own - vector):
        ones = int(np.bitwise_count(rest).sum())
        assert abs(ones - 1600) < 6 * 28.3


def test_a_late_reply_of_a_recovered_party_stays_hidden_and_is_read_without_a_self_mask(
    four: Round,
):
    # asset:b was given up, its mask key was put together, and then its contribution arrives.
    recovered = four.pairwise(DROPPED, MaskKey.from_secret(four.keys[DROPPED].raw_secret_bytes()))
    late = four.sent[DROPPED] - recovered
    ones = int(np.bitwise_count(late - four.vectors[DROPPED]).sum())
    assert abs(ones - 1600) < 6 * 28.3
    # The twin: pairwise masks alone.
    assert (four.masked(DROPPED, None) - recovered == four.vectors[DROPPED]).all()


def gain_of_two_lists(liars: int, threshold: int) -> list[bytes]:
    """What nine holders give away of one party when the operator tells two stories about it.

    Half of the honest ones hear that it dropped out, the others that it contributed, and each
    answers once. Liars reveal both shares.
    """
    holders = [f"asset:{at}" for at in range(9)]
    honest, gained = holders[liars:], []
    half = len(honest) // 2
    for secret, told in ((bytes(32), honest[:half]), (b"\x05" * 32, honest[half:])):
        shares = split(secret, holders=holders, threshold=threshold)
        revealed = {who: shares[who] for who in [*holders[:liars], *told]}
        if len(revealed) >= threshold:
            assert combine(revealed, holders=holders, threshold=threshold) == secret
            gained.append(secret)
        else:
            with pytest.raises(ShareError, match="too few"):
                combine(revealed, holders=holders, threshold=threshold)
    return gained


def test_two_lists_of_survivors_never_show_both_secrets_and_with_a_low_threshold_they_do():
    agreed = recovery_threshold(9)
    assert [len(gain_of_two_lists(liars, agreed)) for liars in range(3)] == [0, 0, 0]
    # Between a third and 2t - n liars, one of the two at most; from there on both.
    assert len(gain_of_two_lists(4, agreed)) == 1
    assert len(gain_of_two_lists(5, agreed)) == 2
    # The twins: with a lower threshold, few liars or none are enough.
    assert len(gain_of_two_lists(0, 4)) == 2
    assert len(gain_of_two_lists(2, 5)) == 2


def test_masking_under_another_seed_than_committed_to_is_a_false_vector_and_no_more(four: Round):
    # What CLAIMS.md says of false values: nobody can see it, and it shows nothing of the others.
    liar, used = "asset:c", b"\x63" * 32
    sent = [four.sent["asset:a"], four.masked(liar, used), four.sent["asset:d"]]
    got = unmask(add(sent), **four.arguments)
    shift = self_mask(LENGTH, seed=used, owner=liar, context=CONTEXT) - self_mask(
        LENGTH, seed=four.seeds[liar], owner=liar, context=CONTEXT
    )
    assert (got == four.plain(*SURVIVORS) + shift).all()
