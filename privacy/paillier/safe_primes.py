"""Safe primes: p = 2p' + 1 with p' prime, as keys that are shared among holders need.

What it decides: how they are drawn. What it does not do: make a key of them (`threshold_key`).

    p = draw_safe_prime(1536)

All but the smallest safe primes are 11 modulo 12. Every candidate is drawn anew, evenly from the
numbers of that form, and one in fifty of them is left after p and p' were divided by small primes.
To walk on from a random number with a sieve would be quicker and favour primes after long gaps.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import gmpy2
from gmpy2 import mpz

from privacy.errors import WeakKeyError
from privacy.secure_random import random_below

Tries = Callable[[int], None]
"""Told how many candidates were tested while a prime is sought; nobody knows how many it takes."""

_TESTS: Final = 40
"""Rounds of Miller-Rabin after GMP's own Baillie-PSW test, as many as FIPS 186-5 ever asks for."""

_FEWEST_BITS: Final = 64
_FIRST_BOUND: Final = 100
_SECOND_BOUND: Final = 1 << 14


def draw_safe_prime(bits: int, tries: Tries | None = None) -> int:
    """Returns a safe prime drawn evenly from those of a length that begin with two one bits.

    Two such primes make a product of exactly 2 * bits bits. Takes some seconds at 1024 bits, and
    several times as long at 1536.

    Args:
        bits: Length, at least 64.
        tries: Told after each candidate that was tested.

    Raises:
        WeakKeyError: If `bits` is below 64.
    """
    if bits < _FEWEST_BITS:
        raise WeakKeyError(f"a safe prime of {bits} bits would hide nothing")
    # The least number that is 11 modulo 12 and begins with two one bits, and how many there are.
    lowest = 3 << (bits - 2)
    lowest += (11 - lowest) % 12
    count = ((1 << bits) - lowest + 11) // 12
    tested = 0
    while True:
        candidate = mpz(lowest + 12 * random_below(count))
        if not _without_small_factors(candidate):
            continue
        tested += 1
        if tries is not None:
            tries(tested)
        # Fermat's test refuses nearly all at the price of one exponentiation.
        if gmpy2.powmod(2, candidate - 1, candidate) == 1 and is_safe_prime(int(candidate)):
            return int(candidate)


def is_safe_prime(number: int) -> bool:
    """Whether a number and the half of its predecessor are prime, but for one in 2^80 that lies."""
    return bool(
        number % 12 == 11 and gmpy2.is_prime(number >> 1, _TESTS) and gmpy2.is_prime(number, _TESTS)
    )


def _without_small_factors(candidate: mpz) -> bool:
    """Whether neither a safe candidate nor its half has a small prime factor."""
    half = candidate >> 1
    for product in (_product(5, _FIRST_BOUND), _product(_FIRST_BOUND, _SECOND_BOUND)):
        if gmpy2.gcd(candidate % product * (half % product), product) != 1:
            return False
    return True


@lru_cache
def _product(start: int, stop: int) -> mpz:
    """Returns the product of the primes in [start, stop)."""
    product, prime = mpz(1), gmpy2.next_prime(start - 1)
    while prime < stop:
        product, prime = product * prime, gmpy2.next_prime(prime)
    return product
