"""One party's two components of an array that three parties share, and what is done without talk.

    total = x.plus(y)                    # as many fraction bits in both
    weighted = total.times(3)            # a public whole number
    half = weighted.halved(1)            # another reading of the same elements

What it decides: which bound a result has, and that it has room (`require_room`). What it does not
do: hold keys or send anything, which is for `privacy.replicated.party`. A bound is public. It says
what no magnitude of the shared numbers exceeds, and never comes from the numbers themselves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from privacy.errors import SharedRangeError, SharingError
from privacy.replicated import ring
from privacy.replicated.ring import RING_BITS, Elements, Floats


@dataclass(frozen=True, eq=False)
class Shared:
    """What one party holds of a shared array.

    Attributes:
        first: The component of the party's own place, uint64[*s, 2].
        second: The component of the place after.
        fraction_bits: f, so that an element is worth 2^-f.
        bound: What no magnitude exceeds, in the numbers' own unit.
    """

    first: Elements = field(repr=False)
    second: Elements = field(repr=False)
    fraction_bits: int
    bound: float

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.first.shape[:-1]

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return math.prod(self.shape)

    def within(self, bound: float) -> "Shared":
        """Returns the same with a bound that the caller has proven."""
        require_room(self.fraction_bits, bound)
        return replace(self, bound=bound)

    def plus(self, other: "Shared") -> "Shared":
        """Returns the sum.

        Raises:
            SharingError: For other fraction bits or another shape.
            SharedRangeError: If it could wrap.
        """
        if other.fraction_bits != self.fraction_bits or other.shape != self.shape:
            raise SharingError("arrays of different scales or shapes cannot be added")
        require_room(self.fraction_bits, self.bound + other.bound)
        return Shared(
            ring.add(self.first, other.first),
            ring.add(self.second, other.second),
            self.fraction_bits,
            self.bound + other.bound,
        )

    def minus(self, other: "Shared") -> "Shared":
        """Returns the difference; as `plus`."""
        return self.plus(other.times(-1))

    def times(self, factor: int, *, more_bits: int = 0) -> "Shared":
        """Returns the product with the public number factor / 2^more_bits.

        Args:
            factor: Below 2^62 in magnitude.
            more_bits: Fraction bits of the factor, which the result has on top of its own.

        Raises:
            SharedRangeError: If it could wrap.
        """
        bits = self.fraction_bits + more_bits
        bound = self.bound * abs(math.ldexp(factor, -more_bits))
        require_room(bits, bound)
        element = ring.widen(np.array(factor, dtype=np.int64))
        return Shared(
            ring.multiply(self.first, element), ring.multiply(self.second, element), bits, bound
        )

    def halved(self, times: int) -> "Shared":
        """Returns the same elements read as numbers that are 2^times smaller."""
        return replace(
            self,
            fraction_bits=self.fraction_bits + times,
            bound=math.ldexp(self.bound, -times),
        )

    def rows(self, start: int, stop: int) -> "Shared":
        """Returns a part along the first axis."""
        return replace(self, first=self.first[start:stop], second=self.second[start:stop])

    def columns(self, start: int, stop: int) -> "Shared":
        """Returns a part along the second axis."""
        return replace(self, first=self.first[:, start:stop], second=self.second[:, start:stop])

    def reshaped(self, *shape: int) -> "Shared":
        """Returns the same numbers in another shape."""
        return replace(
            self, first=self.first.reshape(*shape, 2), second=self.second.reshape(*shape, 2)
        )


@dataclass(frozen=True, eq=False)
class Matrix:
    """A shared matrix made ready for many products; the limbs take 128 bytes for each number.

    Attributes:
        first: float64[n, d, 8], limbs of the party's own component.
        second: Likewise of the other.
        fraction_bits: As in `Shared`; likewise `bound`.
        bound: What no magnitude exceeds.
    """

    first: Floats = field(repr=False)
    second: Floats = field(repr=False)
    fraction_bits: int
    bound: float

    @classmethod
    def of(cls, shared: Shared) -> "Matrix":
        """Returns a shared [n, d] with the limbs of its components."""
        if len(shared.shape) != 2:
            raise SharingError("a matrix has two axes")
        return cls(
            ring.limbs(shared.first),
            ring.limbs(shared.second),
            shared.fraction_bits,
            shared.bound,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d)."""
        return self.first.shape[:2]


def joined(parts: Sequence[Shared], axis: int = 0) -> Shared:
    """Returns arrays one after the other along an axis, under the largest of their bounds.

    Raises:
        SharingError: If their fraction bits differ.
    """
    if len({part.fraction_bits for part in parts}) != 1:
        raise SharingError("arrays of different scales cannot be joined")
    return Shared(
        np.concatenate([part.first for part in parts], axis=axis),
        np.concatenate([part.second for part in parts], axis=axis),
        parts[0].fraction_bits,
        max(part.bound for part in parts),
    )


def require_room(fraction_bits: int, bound: float) -> None:
    """Checks that numbers within a bound do not wrap.

    Raises:
        SharedRangeError: If bound * 2^f is not below 2^126.
    """
    # Written so that nan fails too.
    if not math.ldexp(bound, fraction_bits) < 2.0 ** (RING_BITS - 2):
        raise SharedRangeError("a result could be larger than the shares carry; scale the columns")
