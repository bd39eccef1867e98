"""Two sets under two secret exponents: equal names become equal points, and nothing else shows.

Each party maps its names onto Curve25519, multiplies by its own secret and sends the result. Each
multiplies what it got by its own secret as well. A name that both have is then the same point on
either way, and a name that only one has is a point that looks random to the other. The construction
is Meadows, "A More Efficient Cryptographic Matchmaking Protocol" (IEEE S&P 1986), for sets
Huberman, Franklin and Hogg, "Enhancing Privacy and Trust in Electronic Communities" (EC 1999).

What it decides: how a set is masked and in which order it leaves, and which foreign sets are
multiplied by the secret. What it does not do: say who sends what to whom and when; that is
`privacy.intersection`.

    exponent = Exponent.generate()
    own = mask(names, exponent, domain, workers)                # own.points goes to the peer
    theirs = double(received, exponent, workers, count=1000)    # in the order of `received`

**Why the order of secrets does not matter.** X25519 (RFC 7748, section 5) takes the u-coordinate
of a point P and returns that of k·P, for a k that is made of 32 secret bytes by clamping. u(k·P)
depends on u(P) alone, since -P has the same u-coordinate. So with clamped a and b

    X25519(a, X25519(b, u(P))) = u(a·(b·P)) = u((a·b)·P) = u(b·(a·P)) = X25519(b, X25519(a, u(P)))

Clamped scalars are 8·m with 2^251 <= m < 2^252. The 8 takes every point of the curve into the group
of prime order l > 2^252, and m < l, so k is never a multiple of l: of two different points of that
group, up to sign, no two become one.

**Why the order of points does.** What leaves is sorted by its masked bytes, which is an order that
the rows of the table had no part in. What comes back doubled in the order of arrival tells its
owner which of its names are meant; sorted again, it tells how many.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from privacy.curve25519 import POINT_BYTES, check_points, encode_to_curve, split
from privacy.errors import ExponentError, PointError, SetSizeError
from privacy.secure_random import random_bytes
from privacy.workers import CHUNK, Workers

MAX_MEMBERS = 1 << 27
"""Largest set: 4 GiB of points."""


@dataclass(eq=False)
class Exponent:
    """32 secret bytes that mask one own set and double one foreign set. Make it with `generate`.

    Under one exponent in two jobs, equal names would be equal points, and the peer could tell.
    """

    _secret: bytes = field(repr=False)
    _done: set[str] = field(default_factory=set, repr=False)

    @classmethod
    def generate(cls) -> "Exponent":
        """Returns a fresh one."""
        return cls(random_bytes(POINT_BYTES))

    def spend(self, use: str) -> bytes:
        """Returns the secret bytes, once for each use.

        Raises:
            ExponentError: The second time.
        """
        if use in self._done:
            raise ExponentError(f"this exponent has been used to {use} a set already")
        self._done.add(use)
        return self._secret

    def __reduce__(self) -> NoReturn:
        """Refuses pickling and copying.

        Raises:
            ExponentError: Always.
        """
        raise ExponentError("an exponent cannot be copied or pickled")


@dataclass(frozen=True, eq=False)
class MaskedSet:
    """An own set under the own exponent.

    Attributes:
        points: What the peer gets, sorted.
        members: For each point the position of the name that it stands for. It stays here.
    """

    points: bytes = field(repr=False)
    members: tuple[int, ...] = field(repr=False)


def mask(names: Sequence[bytes], exponent: Exponent, domain: bytes, workers: Workers) -> MaskedSet:
    """Masks one's own names.

    Args:
        names: Distinct, 1 to `MAX_MEMBERS`.
        exponent: Fresh.
        domain: For `curve25519.encode_to_curve`; another one in each job.
        workers: Who multiplies.

    Raises:
        SetSizeError: If there are too few or too many, or two are the same.
        ExponentError: If the exponent has masked a set before.
        PointError: If the domain is malformed.
    """
    if not 0 < len(names) <= MAX_MEMBERS:
        raise SetSizeError(f"a set of {len(names)} members cannot be masked")
    if len(set(names)) != len(names):
        raise SetSizeError("a set to be masked holds a name twice")
    secret = exponent.spend("mask")
    chunks = [(secret, domain, names[at : at + CHUNK]) for at in range(0, len(names), CHUNK)]
    points = split(b"".join(workers.map(_mask_chunk, chunks)))
    members = sorted(range(len(points)), key=points.__getitem__)
    return MaskedSet(b"".join(points[at] for at in members), tuple(members))


def double(points: bytes, exponent: Exponent, workers: Workers, *, count: int) -> bytes:
    """Multiplies a foreign set by one's own exponent.

    Args:
        points: The peer's masked set, unverified.
        exponent: The one that masked the own set.
        workers: Who checks and multiplies.
        count: How many points were agreed.

    Returns:
        As many points, in the order of `points`. Whoever must not learn which of them is which gets
        them `shuffled`.

    Raises:
        SetSizeError: If the length is not that of `count` points.
        PointError: If one is malformed, on the twist or of small order, or two are the same, or
            become the same.
        ExponentError: If the exponent has doubled a set before.
    """
    if len(points) != count * POINT_BYTES:
        raise SetSizeError(f"{count} points were agreed, and {len(points)} bytes came")
    if len(set(split(points))) != count:
        raise PointError("a point occurs twice in a set")
    secret, width = exponent.spend("double"), CHUNK * POINT_BYTES
    chunks = [
        (secret, points[at : at + width], at // POINT_BYTES) for at in range(0, len(points), width)
    ]
    doubled = b"".join(workers.map(_double_chunk, chunks))
    # Points that differ by one of small order have become one.
    if len(set(split(doubled))) != count:
        raise PointError("two points of a set stand for one name")
    return doubled


def shuffled(points: bytes) -> bytes:
    """Returns the points sorted, an order that tells nothing of the one that they came in."""
    return b"".join(sorted(split(points)))


def matching(points: bytes, others: bytes) -> list[int]:
    """Returns the positions of those `points` that are among `others`, ascending."""
    there = set(split(others))
    return [at for at, point in enumerate(split(points)) if point in there]


def _mask_chunk(secret: bytes, domain: bytes, names: Sequence[bytes]) -> bytes:
    return _multiply(secret, encode_to_curve(names, domain), 0)


def _double_chunk(secret: bytes, points: bytes, first: int) -> bytes:
    return _multiply(secret, check_points(points, first=first), first)


def _multiply(secret: bytes, points: bytes, first: int) -> bytes:
    key, load = X25519PrivateKey.from_private_bytes(secret), X25519PublicKey.from_public_bytes
    products: list[bytes] = []
    try:
        products.extend(key.exchange(load(point)) for point in split(points))
    except ValueError:
        # The product is zero: a point of small order, whatever the secret is (RFC 7748, 6.1).
        raise PointError(f"point {first + len(products)} is of small order") from None
    return b"".join(products)
