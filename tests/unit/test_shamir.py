from itertools import combinations, product

import pytest

from privacy.errors import ShareError
from privacy.shamir import (
    MAX_HOLDERS,
    PRIME,
    SHARE_BYTES,
    _divided_differences,
    _newton_at_zero,
    _value_at,
    combine,
    recovery_threshold,
    split,
)

HOLDERS = ("asset:c", "asset:a", "asset:e", "asset:b", "asset:d")
SECRET = bytes(range(32))


@pytest.fixture
def shares() -> dict[str, bytes]:
    return split(SECRET, holders=HOLDERS, threshold=3)


def some(shares: dict[str, bytes], *holders: str) -> dict[str, bytes]:
    return {holder: shares[holder] for holder in holders}


def put_together(shares: dict[str, bytes], threshold: int = 3) -> bytes:
    return combine(shares, holders=HOLDERS, threshold=threshold)


def test_the_field_is_a_prime_by_the_lucas_lehmer_test():
    # 2^p - 1 with p an odd prime is prime exactly when this ends in 0 (Lehmer 1930).
    term = 4
    for _ in range(521 - 2):
        term = (term * term - 2) % PRIME
    assert all(521 % divisor for divisor in range(2, 23))
    assert PRIME == 2**521 - 1
    assert term == 0


def test_any_threshold_of_the_shares_give_the_secret_in_any_order(shares: dict[str, bytes]):
    for count in (3, 4, 5):
        for chosen in combinations(HOLDERS, count):
            assert put_together(some(shares, *chosen)) == SECRET
            assert put_together(some(shares, *reversed(chosen))) == SECRET


def test_the_order_in_which_holders_are_listed_does_not_matter(shares: dict[str, bytes]):
    assert combine(shares, holders=sorted(HOLDERS), threshold=3) == SECRET


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, bytes(31) + b"\x01"])
def test_the_least_and_the_greatest_secret_survive(secret: bytes):
    assert put_together(split(secret, holders=HOLDERS, threshold=5), 5) == secret


def test_a_threshold_of_one_gives_everyone_the_secret():
    shares = split(SECRET, holders=HOLDERS, threshold=1)
    assert all(share[-32:] == SECRET for share in shares.values())
    assert put_together(some(shares, "asset:e"), 1) == SECRET


def test_shares_are_of_one_length_and_fresh_each_time(shares: dict[str, bytes]):
    again = split(SECRET, holders=HOLDERS, threshold=3)
    assert {len(share) for share in shares.values()} == {SHARE_BYTES} == {68}
    assert all(shares[holder] != again[holder] for holder in HOLDERS)


def test_too_few_shares_are_refused_and_one_more_is_enough(shares: dict[str, bytes]):
    with pytest.raises(ShareError, match="2 shares are too few; 3"):
        put_together(some(shares, "asset:a", "asset:b"))
    put_together(some(shares, "asset:a", "asset:b", "asset:c"))


@pytest.mark.parametrize("threshold", [0, -1, 6, True, 3.0])
def test_a_threshold_outside_the_holders_is_refused(shares: dict[str, bytes], threshold: int):
    with pytest.raises(ShareError, match="threshold"):
        split(SECRET, holders=HOLDERS, threshold=threshold)
    with pytest.raises(ShareError, match="threshold"):
        put_together(shares, threshold)


@pytest.mark.parametrize("threshold", [1, 5])
def test_a_threshold_at_either_end_is_taken(threshold: int):
    assert len(split(SECRET, holders=HOLDERS, threshold=threshold)) == 5


@pytest.mark.parametrize(
    ("holders", "why"),
    [
        ([], "1 to 65535 holders, not 0"),
        (["a", ""], "empty"),
        (["a", "b", "a"], "twice"),
        ([str(number) for number in range(MAX_HOLDERS + 1)], "not 65536"),
    ],
)
def test_holders_that_are_none_empty_repeated_or_too_many_are_refused(holders: list[str], why: str):
    with pytest.raises(ShareError, match=why):
        split(SECRET, holders=holders, threshold=1)


def test_the_last_place_fits_into_a_share():
    holders = [str(number) for number in range(MAX_HOLDERS)]
    shares = split(SECRET, holders=holders, threshold=1)
    assert max(share[:2] for share in shares.values()) == b"\xff\xff"


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_secret_of_another_length_is_refused(length: int):
    with pytest.raises(ShareError, match=f"secret of {length} bytes"):
        split(bytes(length), holders=HOLDERS, threshold=3)


def test_a_stranger_s_share_is_refused(shares: dict[str, bytes]):
    with pytest.raises(ShareError, match="'asset:x' gave a share and is none") as refused:
        put_together({**shares, "asset:x": shares["asset:a"]})
    assert refused.value.party == "asset:x"


@pytest.mark.parametrize("length", [0, SHARE_BYTES - 1, SHARE_BYTES + 1])
def test_a_share_of_another_length_is_refused(shares: dict[str, bytes], length: int):
    bad = (shares["asset:b"] + b"\0")[:length]
    with pytest.raises(ShareError, match=f"'asset:b' gave a share of {length} bytes") as refused:
        put_together({**shares, "asset:b": bad})
    assert refused.value.party == "asset:b"


def test_a_share_of_another_holder_is_refused(shares: dict[str, bytes]):
    with pytest.raises(ShareError, match="'asset:b' gave a share that was made for another place"):
        put_together({**shares, "asset:b": shares["asset:d"]})


def test_shares_among_other_holders_are_refused(shares: dict[str, bytes]):
    # With asset:a gone, all others would move up one place.
    rest = {holder: share for holder, share in shares.items() if holder != "asset:a"}
    with pytest.raises(ShareError, match="another place"):
        combine(rest, holders=sorted(rest), threshold=3)
    assert put_together(rest) == SECRET


@pytest.mark.parametrize("value", [PRIME, 2**528 - 1])
def test_a_value_outside_the_field_is_refused(shares: dict[str, bytes], value: int):
    bad = shares["asset:b"][:2] + value.to_bytes(66, "big")
    with pytest.raises(ShareError, match="'asset:b' gave a share outside the field") as refused:
        put_together({**shares, "asset:b": bad})
    assert refused.value.party == "asset:b"


def test_one_changed_bit_among_more_shares_than_needed_is_refused(shares: dict[str, bytes]):
    for holder in HOLDERS:
        bad = shares[holder][:-1] + bytes([shares[holder][-1] ^ 1])
        with pytest.raises(ShareError, match="contradict each other"):
            put_together({**shares, holder: bad})


def test_one_changed_bit_among_just_enough_shares_gives_no_secret(shares: dict[str, bytes]):
    chosen = some(shares, "asset:a", "asset:b", "asset:c")
    for holder, share in chosen.items():
        bad = share[:20] + bytes([share[20] ^ 1]) + share[21:]
        with pytest.raises(ShareError, match="give no secret"):
            put_together({**chosen, holder: bad})


def test_a_cunning_change_of_just_enough_shares_passes_and_more_shares_betray_it(
    shares: dict[str, bytes],
):
    # Why a secret is compared with a commitment: places 1, 2, 3 weigh 3, -3, 1 at 0.
    value = int.from_bytes(shares["asset:c"][2:], "big") + 1
    cunning = shares["asset:c"][:2] + (value % PRIME).to_bytes(66, "big")
    changed = {**some(shares, "asset:a", "asset:b"), "asset:c": cunning}
    assert put_together(changed) == (int.from_bytes(SECRET, "big") + 1).to_bytes(32, "big")
    with pytest.raises(ShareError, match="contradict"):
        put_together({**changed, "asset:d": shares["asset:d"]})


def test_the_least_value_that_is_no_secret_is_refused():
    def shares_of(constant: int) -> dict[str, bytes]:
        polynomial = [constant, 5, 7]
        return {
            holder: place.to_bytes(2, "big")
            + _value_at(place, polynomial, PRIME).to_bytes(66, "big")
            for place, holder in enumerate(sorted(HOLDERS), 1)
        }

    assert put_together(shares_of(2**256 - 1)) == b"\xff" * 32
    with pytest.raises(ShareError, match="give no secret"):
        put_together(shares_of(2**256))


def test_coefficients_are_drawn_from_the_whole_field():
    drawn = []
    for _ in range(64):
        share = split(SECRET, holders=HOLDERS, threshold=2)["asset:a"]
        drawn.append((int.from_bytes(share[2:], "big") - int.from_bytes(SECRET, "big")) % PRIME)
    assert min(drawn) < PRIME // 2 < max(drawn)
    assert len(set(drawn)) == 64


def test_shares_of_two_secrets_do_not_mix(shares: dict[str, bytes]):
    other = split(SECRET, holders=HOLDERS, threshold=3)
    with pytest.raises(ShareError, match="give no secret"):
        put_together({**some(shares, "asset:a", "asset:b"), "asset:c": other["asset:c"]})


def test_a_lower_threshold_than_the_secret_was_split_with_is_refused(shares: dict[str, bytes]):
    with pytest.raises(ShareError, match="contradict"):
        put_together(shares, 2)
    with pytest.raises(ShareError, match="give no secret"):
        put_together(some(shares, "asset:a", "asset:b"), 2)


@pytest.mark.parametrize(
    ("parties", "threshold"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (9, 7), (40, 27)]
)
def test_the_recovery_threshold_is_two_thirds_and_one(parties: int, threshold: int):
    assert recovery_threshold(parties) == threshold


@pytest.mark.parametrize("parties", [0, -3, 2.0, True])
def test_no_party_has_no_threshold(parties: int):
    with pytest.raises(ShareError, match="at least one party"):
        recovery_threshold(parties)


def test_two_lists_of_survivors_overlap_in_more_than_a_third():
    for parties in range(1, 200):
        threshold = recovery_threshold(parties)
        assert threshold <= parties
        assert 3 * (2 * threshold - parties) > parties


# Small enough to try everything: degree 2 over the integers modulo 7, five holders.
SMALL = 7


def small_shares() -> dict[tuple[int, int, int], list[int]]:
    return {
        polynomial: [_value_at(place, polynomial, SMALL) for place in range(1, 6)]
        for polynomial in product(range(SMALL), repeat=3)
    }


def test_in_a_small_field_any_three_shares_give_the_secret():
    for polynomial, values in small_shares().items():
        for chosen in combinations(range(1, 6), 3):
            points = [(place, values[place - 1]) for place in chosen]
            newton = _divided_differences(points, SMALL)
            assert _newton_at_zero(points, newton, SMALL) == polynomial[0]


def test_in_a_small_field_two_of_three_shares_fit_every_secret_equally():
    for first, second in combinations(range(5), 2):
        seen: dict[tuple[int, int], list[int]] = {}
        for polynomial, values in small_shares().items():
            seen.setdefault((values[first], values[second]), []).append(polynomial[0])
        assert len(seen) == SMALL**2
        assert all(sorted(secrets) == list(range(SMALL)) for secrets in seen.values())
    # The twins: a third share leaves one secret; a leading coefficient that is never zero rules
    # one secret out.
    three: dict[tuple[int, ...], list[int]] = {}
    never_zero: dict[tuple[int, ...], list[int]] = {}
    for polynomial, values in small_shares().items():
        three.setdefault(tuple(values[:3]), []).append(polynomial[0])
        if polynomial[2]:
            never_zero.setdefault(tuple(values[:2]), []).append(polynomial[0])
    assert all(len(secrets) == 1 for secrets in three.values())
    assert all(len(set(secrets)) == SMALL - 1 for secrets in never_zero.values())
