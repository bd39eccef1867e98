import json
from pathlib import Path

import gmpy2
import pytest
from gmpy2 import mpz
from hypothesis import given
from hypothesis import strategies as st

from privacy.curve25519 import (
    SUITE,
    check_points,
    encode_to_curve,
    hash_to_field,
    map_to_curve,
    split,
)
from privacy.errors import PointError

PRIME = 2**255 - 19
VECTORS = Path(__file__).parents[1] / "vectors" / "privacy" / "rfc9380-curve25519" / "ell2-nu.json"
DOMAIN = b"RONGSHU-V01-CS01-with-test" + SUITE


def to_bytes(x: int) -> bytes:
    return x.to_bytes(32, "little")


def curve(x: int) -> int:
    return (x**3 + 486662 * x**2 + x) % PRIME


def doubled(x: int) -> int:
    """The u-coordinate of 2·P (Montgomery 1987)."""
    return (x * x - 1) ** 2 * pow(4 * curve(x), -1, PRIME) % PRIME


def square_root(x: int) -> int:
    """A root of a square modulo p = 5 mod 8."""
    root = pow(x, (PRIME + 3) // 8, PRIME)
    return root if root * root % PRIME == x else root * pow(2, (PRIME - 1) // 4, PRIME) % PRIME


def test_points_are_those_of_the_rfc():
    given_by = json.loads(VECTORS.read_text(encoding="utf-8"))
    domain = given_by["dst"].encode()
    for vector in given_by["vectors"]:
        message = vector["msg"].encode()
        u = hash_to_field(message, domain)
        assert int(u) == int(vector["u"], 16)
        assert map_to_curve(u) == int(vector["Q.x"], 16)
        assert encode_to_curve([message], domain) == to_bytes(int(vector["Q.x"], 16))
        # The RFC goes on to clear the cofactor 8, which X25519's clamping does for us.
        x = map_to_curve(u)
        for _ in range(3):
            x = doubled(x)
        assert x == int(vector["P.x"], 16)
    assert len(given_by["vectors"]) == 5


def test_another_domain_gives_other_points():
    given_by = json.loads(VECTORS.read_text(encoding="utf-8"))
    domain = b"x" + given_by["dst"].encode()
    for vector in given_by["vectors"]:
        assert int(hash_to_field(vector["msg"].encode(), domain)) != int(vector["u"], 16)


@given(st.integers(0, PRIME - 1))
def test_every_field_element_is_mapped_onto_the_curve_and_has_three_siblings(u: int):
    x = map_to_curve(mpz(u))
    assert gmpy2.legendre(curve(x), PRIME) >= 0
    assert map_to_curve(mpz(PRIME - u)) == x
    if u:
        # Two squares give this x, u² and 1/(4u²) times a square: each with two roots.
        ratio = -x * pow(2 * (x + 486662), -1, PRIME) % PRIME
        inverse = pow(4 * ratio, -1, PRIME)
        assert u * u % PRIME in (ratio, inverse)
        assert map_to_curve(mpz(square_root(ratio))) == x
        assert map_to_curve(mpz(square_root(inverse))) == x


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_messages_become_points_that_are_accepted(messages: list[bytes]):
    points = encode_to_curve(messages, DOMAIN)
    assert check_points(points) == points
    assert len(split(points)) == len(messages)
    assert len(set(split(points))) == len(set(messages))


@pytest.mark.parametrize("domain", [b"", b"no suite", SUITE + b"x", b"x" * (256 - 31) + SUITE])
def test_a_domain_that_does_not_fit_is_refused(domain: bytes):
    with pytest.raises(PointError, match="a domain"):
        encode_to_curve([b"a"], domain)


def test_the_longest_domain_is_taken():
    assert len(encode_to_curve([b"a"], b"x" * (255 - len(SUITE)) + SUITE)) == 32


GOOD = split(encode_to_curve([b"a", b"b"], DOMAIN))
TWIST = next(x for x in range(2, 100) if gmpy2.legendre(curve(x), PRIME) == -1)
SMALL = next(x for x in range(2, 19) if gmpy2.legendre(curve(x), PRIME) == 1)


@pytest.mark.parametrize(
    ("point", "told"),
    [
        (to_bytes(TWIST), "point 12 is not on the curve"),
        (to_bytes(0), "point 12 is not canonical"),
        (to_bytes(PRIME), "point 12 is not canonical"),
        (to_bytes(PRIME + SMALL), "point 12 is not canonical"),
        (to_bytes(SMALL + 2**255), "point 12 is not canonical"),
        (to_bytes(SMALL)[:31], "no whole number"),
        (to_bytes(SMALL) + b"\0", "no whole number"),
    ],
)
def test_what_is_no_point_is_refused_with_its_position(point: bytes, told: str):
    with pytest.raises(PointError, match=told):
        check_points(b"".join([*GOOD, point]), first=10)
    twin = b"".join([*GOOD, to_bytes(SMALL)])
    assert check_points(twin, first=10) == twin
