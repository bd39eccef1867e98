import copy
import pickle

import pytest

from privacy.curve25519 import SUITE, encode_to_curve, split
from privacy.double_masking import Exponent, double, mask, matching, shuffled
from privacy.errors import ExponentError, PointError, PrivacyError, SetSizeError
from privacy.workers import CHUNK, MAX_PROCESSES, Workers

DOMAIN = b"RONGSHU-V01-CS01-with-test" + SUITE
ALONE = Workers()
PRIME = 2**255 - 19
# The u-coordinates of the points of small order, on the curve or its twist, that are canonical.
SMALL_ORDER = [
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    PRIME - 1,
]


def names(count: int, first: int = 0) -> list[bytes]:
    return [f"name {number}".encode() for number in range(first, first + count)]


def test_equal_names_become_equal_points_whoever_masks_first():
    ours, theirs = Exponent.generate(), Exponent.generate()
    here, there = (
        mask(names(6), ours, DOMAIN, ALONE),
        mask(names(6, first=4), theirs, DOMAIN, ALONE),
    )
    twice_here = double(here.points, theirs, ALONE, count=6)
    twice_there = double(there.points, ours, ALONE, count=6)
    assert sorted(here.members[at] for at in matching(twice_here, twice_there)) == [4, 5]
    assert sorted(there.members[at] for at in matching(twice_there, twice_here)) == [0, 1]


def test_masked_once_no_names_are_the_same():
    here = mask(names(6), Exponent.generate(), DOMAIN, ALONE)
    there = mask(names(6), Exponent.generate(), DOMAIN, ALONE)
    assert matching(here.points, there.points) == []


def test_what_leaves_is_sorted_and_members_say_whose_point_is_which():
    exponent = Exponent.generate()
    masked = mask(names(50), exponent, DOMAIN, ALONE)
    assert split(masked.points) == sorted(split(masked.points))
    assert sorted(masked.members) == list(range(50))
    # The twin: masked one by one with the same secret, each is found at its place.
    again = Exponent(exponent._secret)
    alone = mask(names(1, first=masked.members[7]), again, DOMAIN, ALONE)
    assert alone.points == split(masked.points)[7]


def test_an_exponent_serves_one_set_of_each_party():
    exponent = Exponent.generate()
    offer = mask(names(3), exponent, DOMAIN, ALONE).points
    other = mask(names(3), Exponent.generate(), DOMAIN, ALONE).points
    double(other, exponent, ALONE, count=3)
    with pytest.raises(ExponentError, match="mask a set"):
        mask(names(3), exponent, DOMAIN, ALONE)
    with pytest.raises(ExponentError, match="double a set"):
        double(offer, exponent, ALONE, count=3)


def test_an_exponent_is_not_copied_and_not_shown():
    exponent = Exponent.generate()
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(ExponentError):
            attempt(exponent)
    assert exponent._secret.hex() not in repr(exponent)
    assert repr(exponent._secret) not in repr(exponent)
    assert Exponent.generate()._secret != exponent._secret


@pytest.mark.parametrize("wrong", [[], [b"a", b"b", b"a"]])
def test_a_set_without_members_or_with_one_twice_is_not_masked(wrong: list[bytes]):
    with pytest.raises(SetSizeError):
        mask(wrong, Exponent.generate(), DOMAIN, ALONE)
    assert mask([b"a", b"b"], Exponent.generate(), DOMAIN, ALONE).members


def received() -> list[bytes]:
    return split(mask(names(4), Exponent.generate(), DOMAIN, ALONE).points)


def test_a_set_of_another_size_is_refused():
    for points in (received()[:3], [*received(), b"\1"], []):
        with pytest.raises(SetSizeError, match="4 points were agreed"):
            double(b"".join(points), Exponent.generate(), ALONE, count=4)
    assert double(b"".join(received()), Exponent.generate(), ALONE, count=4)


def test_a_point_that_comes_twice_is_refused():
    points = received()
    with pytest.raises(PointError, match="occurs twice"):
        double(b"".join([*points, points[2]]), Exponent.generate(), ALONE, count=5)


@pytest.mark.parametrize("small", SMALL_ORDER)
def test_points_of_small_order_are_refused(small: int):
    points = b"".join([*received(), small.to_bytes(32, "little")])
    with pytest.raises(PointError, match="point 4 is "):
        double(points, Exponent.generate(), ALONE, count=5)


def test_two_points_that_differ_by_one_of_small_order_are_refused():
    # Adding the point (0, 0) of order two takes u to 1/u.
    points = received()
    sibling = pow(int.from_bytes(points[1], "little"), -1, PRIME).to_bytes(32, "little")
    with pytest.raises(PointError, match="one name"):
        double(b"".join([*points, sibling]), Exponent.generate(), ALONE, count=5)
    # The twin: alone it is a point like any other.
    assert double(sibling, Exponent.generate(), ALONE, count=1)


def test_shuffled_points_are_the_same_in_another_order():
    points = b"".join(sorted(received(), reverse=True))
    assert shuffled(points) != points
    assert sorted(split(shuffled(points))) == sorted(split(points))


def test_guesses_find_names_that_are_mapped_and_not_masked():
    guesses = encode_to_curve([b"eve", b"ann", b"bob"], DOMAIN)
    bare = encode_to_curve([b"ann", b"bob"], DOMAIN)
    assert matching(bare, guesses) == [0, 1]
    masked = mask([b"ann", b"bob"], Exponent.generate(), DOMAIN, ALONE).points
    assert matching(masked, guesses) == []


def test_two_processes_compute_what_one_does():
    told: list[tuple[int, int]] = []
    many, secret = names(CHUNK + 5), Exponent.generate()._secret
    with Workers(2, progress=lambda done, of: told.append((done, of))) as workers:
        masked = mask(many, Exponent(secret), DOMAIN, workers)
        assert told == [(1, 2), (2, 2)]
        twice = double(masked.points, Exponent(bytes(32)), workers, count=len(many))
        bad = masked.points[:-32] + bytes(32)
        with pytest.raises(PointError, match=f"point {CHUNK + 4} is not canonical"):
            double(bad, Exponent.generate(), workers, count=len(many))
        bad = masked.points[:-32] + SMALL_ORDER[0].to_bytes(32, "little")
        with pytest.raises(PointError, match=f"point {CHUNK + 4} is of small order"):
            double(bad, Exponent.generate(), workers, count=len(many))
    assert mask(many, Exponent(secret), DOMAIN, ALONE).points == masked.points
    assert double(masked.points, Exponent(bytes(32)), ALONE, count=len(many)) == twice


@pytest.mark.parametrize("processes", [0, -1, MAX_PROCESSES + 1])
def test_a_number_of_processes_that_cannot_be_meant_is_refused(processes: int):
    with pytest.raises(PrivacyError, match="processes"):
        Workers(processes)
    assert Workers(1).map(len, []) == []
