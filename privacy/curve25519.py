"""Names as points of Curve25519, and strangers' bytes as points that may be multiplied by a secret.

What it decides: which u-coordinate a message stands for (RFC 9380, section 6.7.1), and which 32
bytes are the u-coordinate of a point on the curve itself. What it does not do: multiply points by
secrets; `privacy.double_masking` does, by X25519 (RFC 7748).

    names = encode_to_curve([b"ann", b"bob"], b"RONGSHU-V01-CS01-with-...")    # 64 bytes
    points = check_points(received, count=2)

The curve is v² = u³ + 486662·u² + u modulo p = 2^255 - 19 (RFC 7748, section 4.1). A number that is
no u-coordinate of it is one of its *twist*, another group, where X25519 works as well. A party that
multiplies such a number tells by the result on which of the two it was. So both directions are
closed: messages are mapped onto the curve, and twist points are refused.

**Why the nonuniform encoding.** RFC 9380 has two. `hash_to_curve` adds two mapped points and needs
two square roots, some 60 µs here; `encode_to_curve` maps once and, as only u-coordinates are
wanted, needs one Legendre symbol and no root, 10 µs. It reaches half of the curve's u-coordinates,
each from four field elements that are easily computed from it. Double masking loses nothing by
that: whoever simulates the random oracle draws multiples r·B of which it knows r until one is
reached, and answers with one of its four. So the argument from Diffie-Hellman goes through as it
does for a uniform hash.

**Nothing here takes constant time**: GMP works with the bits of one's own names. Who can measure a
node that closely could learn something of them.
"""

import hashlib
from collections.abc import Sequence

import gmpy2
from gmpy2 import mpz

from privacy.errors import PointError

SUITE = b"curve25519_XMD:SHA-512_ELL2_NU_"
"""RFC 9380, section 8.5; a domain ends with it (section 3.1)."""

POINT_BYTES = 32
"""Length of a u-coordinate, little-endian (RFC 7748, section 5)."""

MAX_DOMAIN_BYTES = 255
"""Longest domain separation tag (RFC 9380, section 5.3.3)."""

_P = mpz(2**255 - 19)
_J = mpz(486662)
_BLOCK = bytes(128)  # Z_pad: one block of SHA-512
_UNIFORM_BYTES = 48  # L of the suite


def encode_to_curve(messages: Sequence[bytes], domain: bytes) -> bytes:
    """Maps each message to a point of the curve, before its cofactor is cleared.

    This is map_to_curve(hash_to_field(message)), `Q` of RFC 9380. The RFC then multiplies by the
    cofactor 8; X25519 does that too, for its clamped scalars are multiples of 8.

    Args:
        messages: n byte strings.
        domain: Separates this use from all others; 1 to 255 bytes that end with `SUITE`.

    Returns:
        n u-coordinates of 32 bytes, one after the other in the order of `messages`.

    Raises:
        PointError: If the domain is too long or does not name the suite.
    """
    if len(domain) > MAX_DOMAIN_BYTES or not domain.endswith(SUITE):
        raise PointError(f"a domain has at most {MAX_DOMAIN_BYTES} bytes and ends with its suite")
    numbers = [hash_to_field(message, domain) for message in messages]
    return b"".join(map_to_curve(u).to_bytes(POINT_BYTES, "little") for u in numbers)


def hash_to_field(message: bytes, domain: bytes) -> mpz:
    """Returns the field element of a message: RFC 9380, sections 5.2 and 5.3.1, with count 1."""
    tag = domain + bytes([len(domain)])
    length = _UNIFORM_BYTES.to_bytes(2, "big")
    first = hashlib.sha512(_BLOCK + message + length + b"\0" + tag).digest()
    uniform = hashlib.sha512(first + b"\1" + tag).digest()[:_UNIFORM_BYTES]
    return mpz(int.from_bytes(uniform, "big")) % _P


def map_to_curve(u: mpz) -> int:
    """Returns the u-coordinate that Elligator 2 gives a field element: RFC 9380, section 6.7.1.

    The denominator 1 + 2u² is never 0: 2 is no square modulo p and -1 is one, so -1/2 is none.
    """
    x = -_J * gmpy2.invert(1 + 2 * u * u, _P) % _P
    return int(x if _is_square(x) else -(x + _J) % _P)


def _is_square(x: mpz) -> bool:
    """Whether the curve has a point with this u-coordinate (0 counts: it is a square)."""
    return bool(gmpy2.legendre(((x + _J) * x + 1) * x % _P, _P) >= 0)


def check_points(points: bytes, *, first: int = 0) -> bytes:
    """Returns the points, if a secret may be multiplied with each.

    Of the points of small order, 0 is refused here; the others make X25519 return zero, whatever
    the secret is, and `double_masking` refuses them by that.

    Args:
        points: Bytes from elsewhere, `POINT_BYTES` for each point.
        first: Position of the first of them, for messages.

    Raises:
        PointError: If the length is no whole number of points, or naming the first position that is
            not canonical (a number from 1 below 2^255 - 19), or not on the curve itself.
    """
    if len(points) % POINT_BYTES:
        raise PointError(f"{len(points)} bytes are no whole number of points")
    for at, point in enumerate(split(points), start=first):
        x = mpz(int.from_bytes(point, "little"))
        if not 0 < x < _P:
            raise PointError(f"point {at} is not canonical")
        if gmpy2.legendre(((x + _J) * x + 1) * x % _P, _P) != 1:
            raise PointError(f"point {at} is not on the curve, but on its twist")
    return points


def split(points: bytes) -> list[bytes]:
    """Returns each point on its own."""
    return [points[at : at + POINT_BYTES] for at in range(0, len(points), POINT_BYTES)]
