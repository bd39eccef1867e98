"""The only place that randomness for privacy comes from: the operating system's generator.

What it decides: nothing else. There is no seed, no state and no fallback, so no caller can make
a mask or a ciphertext predictable by mistake, and a review of randomness is a review of this file.
What it does not do: noise for differential privacy (its distributions have their own module).

    key = random_bytes(32)
"""

import math
import secrets

from privacy.errors import PrivacyError


def random_bytes(length: int) -> bytes:
    """Returns `length` bytes that nobody can predict.

    Args:
        length: Number of bytes, at least 1.

    Raises:
        PrivacyError: For a length below 1: an empty secret is no secret.
    """
    if length < 1:
        raise PrivacyError(f"asked for {length} random bytes; at least 1 is needed")
    return secrets.token_bytes(length)


def random_below(bound: int) -> int:
    """Returns a number drawn evenly from [0, bound).

    Args:
        bound: At least 1.

    Raises:
        PrivacyError: For a bound below 1.
    """
    if bound < 1:
        raise PrivacyError(f"asked for a random number below {bound}; there is none")
    return secrets.randbelow(bound)


def random_unit(modulus: int) -> int:
    """Returns a number drawn evenly from those in [1, modulus) that share no factor with it.

    Args:
        modulus: At least 2.

    Raises:
        PrivacyError: For a modulus below 2.
    """
    if modulus < 2:
        raise PrivacyError("random units need a modulus of at least 2")
    while True:
        candidate = secrets.randbelow(modulus)
        # For the product of two large primes a second turn is never seen; for small ones it is.
        if math.gcd(candidate, modulus) == 1:
            return candidate
