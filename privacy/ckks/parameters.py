"""Which CKKS parameters are allowed, and the named sets that the rest of this package uses.

What it decides: a ring degree N with a modulus q is accepted only if it lies inside the table for
128 bits of classical security and ternary secrets of the Homomorphic Encryption Standard (Albrecht
et al., homomorphicencryption.org, 2018, table 1). Anything else is refused; there is no warning.
What it does not do: choose for the caller. A set is named by the depth that a computation needs.

    SUMS      additions alone: sums, means, variances        2,048 slots
    LINEAR    one product with plaintext weights             2,048 slots
    SQUARE    a hidden layer of squares                      4,096 slots
    SIGMOID   a polynomial of degree 7 for the sigmoid       8,192 slots

Values are encrypted relative to their column's bound, so they lie in [-1, 1]; weights are scaled
so that results do as well. Scales follow from that, and overflow is excluded beforehand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from privacy.errors import ParametersError

MAX_MODULUS_BITS = {4096: 109, 8192: 218, 16384: 438, 32768: 881}
"""By ring degree: bits of the whole modulus, the special prime included."""

MAX_PRIME_BITS = 60
"""SEAL's own limit; the least for a prime that is 1 modulo 2N is two bits more than N has."""

_FIELDS = ("degree", "prime_bits", "scale_bits", "weight_bits")


@dataclass(frozen=True)
class Parameters:
    """A ring and its moduli, inside the 128-bit table.

    Attributes:
        degree: N, the ring degree; a ciphertext has N/2 slots.
        prime_bits: Bits of each prime of the modulus chain. The last one is for key switching and
            holds no data.
        scale_bits: Values are encrypted times 2^scale_bits.
        weight_bits: Plaintext weights are encoded times 2^weight_bits.

    Raises:
        ParametersError: If they are outside the table, or make no CKKS context.
    """

    degree: int
    prime_bits: tuple[int, ...]
    scale_bits: int
    weight_bits: int

    def __post_init__(self) -> None:
        numbers = (self.degree, *self.prime_bits, self.scale_bits, self.weight_bits)
        if any(type(number) is not int for number in numbers):
            raise ParametersError("CKKS parameters are whole numbers")
        most = MAX_MODULUS_BITS.get(self.degree)
        if most is None:
            raise ParametersError(
                f"ring degree {self.degree} is not one of {', '.join(map(str, MAX_MODULUS_BITS))}"
            )
        total = sum(self.prime_bits)
        if total > most:
            raise ParametersError(
                f"a modulus of {total} bits leaves less than 128 bits of security in degree "
                f"{self.degree}; at most {most} bits are allowed"
            )
        least = self.degree.bit_length() + 2
        if len(self.prime_bits) < 2 or not all(
            least <= bits <= MAX_PRIME_BITS for bits in self.prime_bits
        ):
            raise ParametersError(
                f"at least two primes of {least} to {MAX_PRIME_BITS} bits are needed"
            )
        data = sum(self.prime_bits[:-1])
        if min(self.scale_bits, self.weight_bits) < 1 or (
            self.scale_bits + self.weight_bits + 3 > data
        ):
            raise ParametersError(
                f"scales of {self.scale_bits} and {self.weight_bits} bits do not fit "
                f"{data} bits of modulus with three to spare"
            )

    @property
    def slots(self) -> int:
        """Values in one ciphertext."""
        return self.degree // 2

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON with whole numbers only."""
        return {
            "degree": self.degree,
            "prime_bits": list(self.prime_bits),
            "scale_bits": self.scale_bits,
            "weight_bits": self.weight_bits,
        }

    @classmethod
    def from_json(cls, value: Any) -> "Parameters":
        """Reads what `to_json` wrote.

        Args:
            value: Unverified parsed JSON.

        Raises:
            ParametersError: If it is not of this form, or the parameters are refused.
        """
        if not isinstance(value, Mapping) or set(value) != set(_FIELDS):
            raise ParametersError(f"CKKS parameters have exactly the fields {', '.join(_FIELDS)}")
        primes = value["prime_bits"]
        if not isinstance(primes, list) or len(primes) > MAX_PRIME_BITS:
            raise ParametersError("prime_bits must be a short list")
        return cls(value["degree"], tuple(primes), value["scale_bits"], value["weight_bits"])


SUMS = Parameters(4096, (60, 49), 46, 1)
"""60 bits of data modulus: 2^10 values of 2^46 are added in each slot. No weight is used."""

LINEAR = Parameters(4096, (44, 44, 21), 38, 46)
"""88 bits of data modulus: one product, rescaled to 2^40 under 44 bits."""

SQUARE = Parameters(8192, (54, 54, 50, 60), 48, 54)
"""A product rescaled to 2^52 under 108 bits, its square rescaled to 2^50 under 54."""

SIGMOID = Parameters(16384, (60, 45, 45, 45, 45, 45, 60), 45, 45)
"""Five levels: the linear predictor, and a polynomial of degree 7 in four more."""

NAMED = (SUMS, LINEAR, SQUARE, SIGMOID)
"""The sets that keys are made for: for each of them overflow is excluded by the figures above."""


def check_named(parameters: Parameters) -> None:
    """Checks that a set is a named one.

    Raises:
        ParametersError: If it is not; it may be secure, but nobody has worked out its scales.
    """
    if parameters not in NAMED:
        raise ParametersError("keys are made for the sets SUMS, LINEAR, SQUARE and SIGMOID only")
