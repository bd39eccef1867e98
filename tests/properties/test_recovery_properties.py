import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import (
    MaskError,
    PrivacyError,
    RecoveredKeyError,
    RecoveryError,
    SealedShareError,
    SeedError,
    ShareError,
)
from privacy.masking import add
from privacy.shamir import PRIME, combine, recovery_threshold, split
from tests.recovering import KINDS, Lie, Stage, play

QUICK = settings(deadline=None, max_examples=60)
FEW = settings(deadline=None, max_examples=5)

REFUSALS = (ShareError, RecoveryError, MaskError)

secrets = st.binary(min_size=32, max_size=32)


def vectors(parties: int, length: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        f"asset:{at:02}": rng.integers(0, 2**64, length, dtype=np.uint64) for at in range(parties)
    }


def value_at(at: int, points: dict[int, int]) -> int:
    """Lagrange's formula, as an independent way to the same polynomial."""
    total = 0
    for place, value in points.items():
        weight = value
        for other in points:
            if other != place:
                weight = weight * (at - other) * pow(place - other, -1, PRIME) % PRIME
        total += weight
    return total % PRIME


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[list[str], int]:
    holders = draw(st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=15, unique=True))
    return holders, draw(st.integers(1, len(holders)))


@QUICK
@given(secret=secrets, cohort=cohorts(), data=st.data())
def test_any_threshold_of_shares_give_the_secret_back(
    secret: bytes, cohort: tuple[list[str], int], data: st.DataObject
):
    holders, threshold = cohort
    shares = split(secret, holders=holders, threshold=threshold)
    count = data.draw(st.integers(threshold, len(holders)))
    chosen = data.draw(st.permutations(holders))[:count]
    some = {holder: shares[holder] for holder in chosen}
    listed = data.draw(st.permutations(holders))
    assert combine(some, holders=listed, threshold=threshold) == secret
    points = {int.from_bytes(x[:2], "big"): int.from_bytes(x[2:], "big") for x in some.values()}
    assert value_at(0, points) == int.from_bytes(secret, "big")


@QUICK
@given(secret=secrets, other=secrets, cohort=cohorts(), data=st.data())
def test_one_share_fewer_fits_every_other_secret(
    secret: bytes, other: bytes, cohort: tuple[list[str], int], data: st.DataObject
):
    # For any shares that are one too few and any candidate there is a polynomial through both:
    # the missing holders' shares of the candidate can be written down, and all belong together.
    holders, threshold = cohort
    shares = split(secret, holders=holders, threshold=threshold)
    known = data.draw(st.permutations(holders))[: threshold - 1]
    points = {0: int.from_bytes(other, "big")}
    for holder in known:
        points[int.from_bytes(shares[holder][:2], "big")] = int.from_bytes(
            shares[holder][2:], "big"
        )
    forged = {holder: shares[holder] for holder in known}
    for holder in set(holders) - set(known):
        place = int.from_bytes(shares[holder][:2], "big")
        forged[holder] = shares[holder][:2] + value_at(place, points).to_bytes(66, "big")
    assert combine(forged, holders=holders, threshold=threshold) == other


@QUICK
@given(secret=secrets, cohort=cohorts(), at=st.integers(0, 68 * 8 - 1), data=st.data())
def test_one_wrong_bit_in_one_share_is_refused_where_there_is_one_to_spare(
    secret: bytes, cohort: tuple[list[str], int], at: int, data: st.DataObject
):
    holders, threshold = cohort
    spare = "another"  # longer than the ids that are drawn
    shares = split(secret, holders=[*holders, spare], threshold=threshold)
    liar = data.draw(st.sampled_from([*holders, spare]))
    share = bytearray(shares[liar])
    share[at // 8] ^= 1 << at % 8
    with pytest.raises(ShareError):
        combine({**shares, liar: bytes(share)}, holders=[*holders, spare], threshold=threshold)


@st.composite
def departures(draw: st.DrawFn, parties: int, most: int) -> dict[str, Stage]:
    count = draw(st.integers(0, most))
    leaving = draw(st.permutations(range(parties)))[:count]
    return {f"asset:{at:02}": draw(st.sampled_from(Stage)) for at in leaving}


def right(data: dict[str, np.ndarray], leaves: dict[str, Stage]) -> np.ndarray:
    return add([data[party] for party in data if leaves.get(party, Stage.REVEAL) == Stage.REVEAL])


@QUICK
@given(parties=st.integers(3, 9), data=st.data())
def test_whoever_leaves_the_sum_is_that_of_the_contributors_or_refused(
    parties: int, data: st.DataObject
):
    leaves = data.draw(departures(parties, parties))
    plain = vectors(parties, 5, parties)
    if parties - len(leaves) < recovery_threshold(parties):
        with pytest.raises(REFUSALS):
            play(plain, leaves)
        return
    assert (play(plain, leaves).total == right(plain, leaves)).all()


@FEW
@given(leaves=departures(40, 12))
def test_twelve_of_forty_may_leave_at_any_stage(leaves: dict[str, Stage]):
    plain = vectors(40, 300, len(leaves))
    opened = play(plain, leaves)
    assert set(opened.contributors) == {
        party for party in plain if leaves.get(party, Stage.REVEAL) == Stage.REVEAL
    }
    assert (opened.total == right(plain, leaves)).all()


@pytest.mark.parametrize("stage", Stage)
def test_thirteen_of_forty_may_leave_and_fourteen_may_not(stage: Stage):
    plain = vectors(40, 3, 1)
    leaves = dict.fromkeys(list(plain)[:13], stage)
    assert (play(plain, leaves).total == right(plain, leaves)).all()
    with pytest.raises(ShareError):
        play(plain, dict.fromkeys(list(plain)[:14], stage))


@QUICK
@given(parties=st.integers(3, 9), kind=st.sampled_from(KINDS), data=st.data())
def test_one_liar_brings_a_refusal_or_the_right_sum_and_never_a_wrong_one(
    parties: int, kind: str, data: st.DataObject
):
    plain = vectors(parties, 5, parties)
    leaves = data.draw(departures(parties, parties - recovery_threshold(parties)))
    by, about = data.draw(st.permutations(sorted(plain)))[:2]
    try:
        opened = play(plain, leaves, Lie(kind, by=by, about=about))
    except REFUSALS:
        return
    assert (opened.total == right(plain, leaves)).all()


# Who lies, about whom, who leaves, and what comes of it; None is the right sum. 00 leaves before
# it contributes, 39 after.
GONE = {"asset:00": Stage.CONTRIBUTION, "asset:39": Stage.REVEAL}
NONE_TO_SPARE = {f"asset:{at:02}": Stage.REVEAL for at in range(27, 39)} | {
    "asset:00": Stage.CONTRIBUTION
}
LIES = [
    (Lie("share", "asset:05", "asset:09"), GONE, ShareError),
    (Lie("share", "asset:05", "asset:00"), GONE, ShareError),
    (Lie("share", "asset:39", "asset:00"), GONE, None),
    (Lie("share", "asset:05", "asset:09"), NONE_TO_SPARE, ShareError),
    (Lie("place", "asset:05", "asset:09"), GONE, ShareError),
    (Lie("cunning share", "asset:05", "asset:09"), GONE, ShareError),
    (Lie("cunning share", "asset:05", "asset:09"), NONE_TO_SPARE, SeedError),
    (Lie("cunning share", "asset:05", "asset:00"), NONE_TO_SPARE, RecoveredKeyError),
    (Lie("seed", "asset:05"), GONE, SeedError),
    (Lie("seed", "asset:39"), GONE, SeedError),
    (Lie("seed", "asset:00"), GONE, None),
    (Lie("key", "asset:05"), GONE, None),
    (Lie("key", "asset:00"), GONE, RecoveredKeyError),
    (Lie("commitment", "asset:05"), GONE, SeedError),
    (Lie("commitment", "asset:00"), GONE, None),
    (Lie("box", "asset:05", "asset:09"), GONE, SealedShareError),
]


@pytest.mark.parametrize(("lie", "leaves", "refusal"), LIES)
def test_a_lie_among_forty_is_refused_where_it_would_matter(
    lie: Lie, leaves: dict[str, Stage], refusal: type[PrivacyError] | None
):
    plain = vectors(40, 200, 3)
    if refusal is None:
        assert (play(plain, leaves, lie).total == right(plain, leaves)).all()
        return
    with pytest.raises(refusal):
        play(plain, leaves, lie)
