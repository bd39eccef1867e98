"""Shares of a secret: any `threshold` of them give it back, fewer say nothing about it.

Shamir, "How to Share a Secret" (Communications of the ACM, 1979). The secret is the value at 0 of
a polynomial with threshold - 1 further random coefficients; the holder at place i of the sorted
holders gets the value at i, counted from 1.

What it decides: whether shares belong to these holders, lie on one polynomial and give 32 bytes.
What it does not do: tell who of several holders, or the dealer, gave a false share; notice every
change where there is no share beyond the threshold (so whoever uses the secret checks it against a
commitment or a public key); or keep constant time.

    shares = split(secret, holders=["a", "b", "c", "d"], threshold=recovery_threshold(4))
    secret = combine({who: shares[who] for who in "abd"}, holders=["a", "b", "c", "d"], threshold=3)

A share is its place as two big-endian bytes, then the value as 66. So a share that went to the
wrong holder, or was made among other holders, is noticed by its place.
"""

from collections.abc import Mapping, Sequence

from privacy.errors import ShareError
from privacy.secure_random import random_below

SECRET_BYTES = 32

PRIME = 2**521 - 1
"""The field: a Mersenne prime, that of the curve P-521 (FIPS 186-5, NIST SP 800-186).

Larger than 2^256, so every secret is one element of it. Its primality is proven by the
Lucas-Lehmer test, which takes milliseconds and stands among the tests; the least prime above 2^256
would save 33 bytes a share and need a certificate. The room above 2^256 is a check as well: values
that have nothing to do with each other give 32 bytes with a probability of 2^-265. Against somebody
who changes his share on purpose it is none: the weights of the shares are known.
"""

_PLACE_BYTES = 2
_VALUE_BYTES = 66

SHARE_BYTES = _PLACE_BYTES + _VALUE_BYTES

MAX_HOLDERS = (1 << 8 * _PLACE_BYTES) - 1


def recovery_threshold(parties: int) -> int:
    """Returns how many of `parties` must answer to recover a round: ⌊2n/3⌋ + 1.

    Two lists of survivors that contradict each other would each need so many parties, so more
    than n/3 of them would have to serve both. With fewer liars than that, nobody is told both
    halves of one party's masks (Bonawitz et al., CCS 2017, on active adversaries).

    Raises:
        ShareError: If `parties` is below 1.
    """
    if type(parties) is not int or parties < 1:
        raise ShareError("a cohort has at least one party")
    return 2 * parties // 3 + 1


def split(secret: bytes, *, holders: Sequence[str], threshold: int) -> dict[str, bytes]:
    """Splits a secret among holders.

    Args:
        secret: 32 bytes.
        holders: Their ids, in any order; the dealer may be one of them.
        threshold: How many shares give the secret back.

    Returns:
        One share of SHARE_BYTES for each holder, by id.

    Raises:
        ShareError: If the secret has another length, there is no holder, one is repeated or
            empty, or the threshold is not from 1 to their number.
    """
    places = _places(holders, threshold)
    if len(secret) != SECRET_BYTES:
        raise ShareError(f"a secret of {len(secret)} bytes is refused; it has {SECRET_BYTES}")
    # Evenly from the whole field, zero included: with a leading coefficient that is never zero,
    # threshold - 1 shares would rule out one secret.
    coefficients = [int.from_bytes(secret, "big")]
    coefficients += [random_below(PRIME) for _ in range(threshold - 1)]
    return {
        holder: place.to_bytes(_PLACE_BYTES, "big")
        + _value_at(place, coefficients, PRIME).to_bytes(_VALUE_BYTES, "big")
        for holder, place in places.items()
    }


def combine(shares: Mapping[str, bytes], *, holders: Sequence[str], threshold: int) -> bytes:
    """Gives the secret back. Shares beyond the threshold serve as a check on the others.

    Args:
        shares: At least `threshold` shares, by holder.
        holders: All ids that the secret was split among, in any order.
        threshold: As it was split.

    Returns:
        The secret, 32 bytes.

    Raises:
        ShareError: If there are too few shares, one is of a stranger, malformed or of another
            place (`party` names its holder), they do not lie on one polynomial of the degree, or
            what they give is no secret.
    """
    places = _places(holders, threshold)
    if len(shares) < threshold:
        raise ShareError(f"{len(shares)} shares are too few; {threshold} give the secret")
    points = [_point(who, share, places) for who, share in shares.items()]
    newton = _divided_differences(points, PRIME)
    if any(newton[threshold:]):
        raise ShareError("the shares contradict each other; a holder or the dealer gave false ones")
    value = _newton_at_zero(points, newton, PRIME)
    if value >> 8 * SECRET_BYTES:
        raise ShareError("the shares give no secret; a holder or the dealer gave false ones")
    return value.to_bytes(SECRET_BYTES, "big")


def _places(holders: Sequence[str], threshold: int) -> dict[str, int]:
    """Returns each holder's place, from 1, in the order of the ids."""
    if not 0 < len(holders) <= MAX_HOLDERS:
        raise ShareError(f"a secret has 1 to {MAX_HOLDERS} holders, not {len(holders)}")
    if not all(holders):
        raise ShareError("a holder's id is empty")
    if len(set(holders)) != len(holders):
        raise ShareError("a holder stands twice among the holders")
    if type(threshold) is not int or not 1 <= threshold <= len(holders):
        raise ShareError(f"a threshold among {len(holders)} holders is from 1 to their number")
    return {holder: place for place, holder in enumerate(sorted(holders), 1)}


def _point(who: str, share: bytes, places: Mapping[str, int]) -> tuple[int, int]:
    """Returns a share's place and value, or raises ShareError naming its holder."""
    if who not in places:
        raise ShareError(f"{who!r} gave a share and is none of the holders", party=who)
    if len(share) != SHARE_BYTES:
        raise ShareError(
            f"{who!r} gave a share of {len(share)} bytes; it has {SHARE_BYTES}", party=who
        )
    if int.from_bytes(share[:_PLACE_BYTES], "big") != places[who]:
        raise ShareError(f"{who!r} gave a share that was made for another place", party=who)
    value = int.from_bytes(share[_PLACE_BYTES:], "big")
    if value >= PRIME:
        raise ShareError(f"{who!r} gave a share outside the field", party=who)
    return places[who], value


def _value_at(at: int, coefficients: Sequence[int], prime: int) -> int:
    """Returns the polynomial's value modulo `prime` (Horner's rule); the constant stands first."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * at + coefficient) % prime
    return value


def _divided_differences(points: Sequence[tuple[int, int]], prime: int) -> list[int]:
    """Returns the Newton coefficients of the polynomial through the points, modulo `prime`.

    It is the only one of degree below len(points), so its degree is below t exactly when all
    coefficients from t on are zero. The places must be distinct and less than `prime` apart.
    """
    # Places are small numbers, so their differences are few, and each is inverted once.
    inverse: dict[int, int] = {}
    row = [value for _, value in points]
    for order in range(1, len(points)):
        for at in range(len(points) - 1, order - 1, -1):
            gap = points[at][0] - points[at - order][0]
            if gap not in inverse:
                inverse[gap] = pow(gap, -1, prime)
            row[at] = (row[at] - row[at - 1]) * inverse[gap] % prime
    return row


def _newton_at_zero(points: Sequence[tuple[int, int]], newton: Sequence[int], prime: int) -> int:
    """Returns the value at 0 of a polynomial in Newton's form."""
    value = 0
    for (place, _), coefficient in zip(reversed(points), reversed(newton), strict=True):
        value = (coefficient - place * value) % prime
    return value
