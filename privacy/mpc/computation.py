"""What parties compute together on secret shares: inputs, bound, and exactly what is opened.

What it decides: that there are enough parties for shares to hide anything, that no number that can
occur leaves the range in which comparisons are right, and how many bits of statistical security
the openings leave. What it does not do: compute (`privacy.mpc.circuits`), or talk to anybody
(`privacy.mpc.party`).

    maximum = Ranking((1, 1, 1, 1), bound=1000, openings=(Value((0,)), Owner(0)))
    maximum.check()         # four parties with one number each: the largest, and whose it is

**No silent overflow.** Parties' inputs are whole numbers within ±`magnitude`; two compared numbers
differ by at most twice that. A comparison is right for differences in [-2^(l-1), 2^(l-1)), and `l`
is chosen as bit_length(2 · magnitude) + 1, so 2 · magnitude < 2^(l-1). Ranks, counts and sums of
opened values stay below 2^l · 64, and the field has more than l + 66 bits.

**What each comparison opens.** Comparing a difference d opens d + 2^l + r with r = r0 + 2^l · r1.
r0 is uniform below 2^l. r1 comes from pseudorandom secret sharing (Cramer, Damgård, Ishai, TCC
2005): a sum of C(m, t) numbers, of which t colluding parties lack at least one, uniform below a
power of two of at least 2^64 / (2 · C(m, t)). r0 hides the low bits; d moves the rest by at most
two. So one opening is within 2^(2 + log2 C(m, t) - 64) of one that depends on nothing, and
`statistical_bits` is what remains after all of a computation. The sign is read off a product that
a random number blinds (Toft), and a test for equality opens the same way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from privacy.errors import CapacityError, OutOfRangeError, ThresholdError

FEWEST_PARTIES = 3
MOST_PARTIES = 7
MOST_VALUES = 64
MOST_PRICES = 64
MOST_BITS = 96
SECURITY_PARAMETER = 64
FEWEST_STATISTICAL_BITS = 40


def threshold(parties: int) -> int:
    """The most parties whose shares together say nothing: fewer than half of all.

    Raises:
        ThresholdError: fewer than three parties, or more than can be served.
    """
    if parties < FEWEST_PARTIES:
        raise ThresholdError
    if parties > MOST_PARTIES:
        raise CapacityError(
            f"{parties} parties; their common keys grow too many beyond {MOST_PARTIES}"
        )
    return (parties - 1) // 2


def bit_length(computation: Computation) -> int:
    """Bits of a secure integer in which every difference that can occur fits."""
    return (2 * computation.magnitude).bit_length() + 1


def statistical_bits(computation: Computation) -> float:
    """Minus log2 of how far all that is opened on the way is from independent of the inputs."""
    parties = len(computation.counts)
    keys = math.comb(parties, threshold(parties))
    return SECURITY_PARAMETER - 2 - math.log2(keys) - math.log2(max(1, computation.masked))


def check_inputs(computation: Computation, index: int, values: list[int]) -> list[int]:
    """One party's numbers, if they are as many and as small as was agreed.

    Raises:
        OutOfRangeError: one is beyond the bound, or they are too few or too many; names no number.
    """
    if len(values) != computation.counts[index]:
        raise OutOfRangeError(
            f"{len(values)} numbers where {computation.counts[index]} were announced"
        )
    for at, value in enumerate(values):
        if type(value) is not int or abs(value) > computation.bound:
            raise OutOfRangeError(f"number {at} is beyond the bound that the cards lead to")
    return values


def _check(computation: Computation, holders: int) -> None:
    """The limits that every computation has.

    Raises:
        ThresholdError: fewer than three parties.
        CapacityError: too many parties, numbers or bits.
    """
    threshold(len(computation.counts))
    if min(computation.counts) < 0 or computation.bound < 0:
        raise CapacityError("counts and bounds are not negative")
    if sum(1 for count in computation.counts if count) < holders:
        raise CapacityError(f"at least {holders} parties put numbers in")
    if bit_length(computation) > MOST_BITS:
        raise CapacityError(
            f"numbers of {bit_length(computation)} bits, and {MOST_BITS} are the most: take fewer "
            "decimals, or another unit"
        )
    if statistical_bits(computation) < FEWEST_STATISTICAL_BITS:
        raise CapacityError(f"so many comparisons leave less than {FEWEST_STATISTICAL_BITS} bits")


@dataclass(frozen=True)
class Value:
    """Opens the sum of the numbers at these ranks; rank 0 is the largest number."""

    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Owner:
    """Opens which party put in the number at this rank."""

    rank: int


Opening = Value | Owner


@dataclass(frozen=True)
class Ranking:
    """Numbers in their order, of which only single ranks are opened.

    Every number is compared with every number of the other parties, at once; each party puts its
    own in from the largest to the smallest. So the number of rounds does not depend on how many
    there are, and nothing is sorted. Of equal numbers that of the earlier party ranks higher.
    """

    counts: tuple[int, ...]
    bound: int
    openings: tuple[Opening, ...]

    @property
    def magnitude(self) -> int:
        """Numbers are compared as they are put in."""
        return self.bound

    @property
    def ranks(self) -> tuple[int, ...]:
        """Each rank that an opening needs, once."""
        wanted = [
            rank
            for opening in self.openings
            for rank in (opening.ranks if isinstance(opening, Value) else (opening.rank,))
        ]
        return tuple(sorted(set(wanted)))

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Positions, in the order of the parties, of numbers whose order nobody knows yet."""
        owners = self.owners
        return [
            (first, second)
            for second in range(len(owners))
            for first in range(second)
            if owners[first] != owners[second]
        ]

    @property
    def owners(self) -> list[int]:
        """The party of each number, in the order of the parties."""
        return [party for party, count in enumerate(self.counts) for _ in range(count)]

    @property
    def masked(self) -> int:
        """A comparison for each pair, a test for equality for each number and rank."""
        return len(self.pairs) + len(self.ranks) * sum(self.counts)

    def check(self) -> None:
        """Refuses what cannot be computed in this way.

        Raises:
            ThresholdError: fewer than three parties.
            CapacityError: too many parties, numbers or bits, or a rank that nothing has.
        """
        total = sum(self.counts)
        if total > MOST_VALUES:
            raise CapacityError(
                f"{total} numbers, and {MOST_VALUES} are the most that are compared"
            )
        if not self.ranks or not 0 <= self.ranks[0] <= self.ranks[-1] < total:
            raise CapacityError(f"ranks run from 0 to {total - 1}")
        _check(self, 2)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON; `read_computation` reads it back."""
        openings = [
            {"ranks": list(opening.ranks)}
            if isinstance(opening, Value)
            else {"owner": opening.rank}
            for opening in self.openings
        ]
        return {
            "kind": "ranking",
            "counts": list(self.counts),
            "bound": self.bound,
            "openings": openings,
        }


@dataclass(frozen=True)
class Order:
    """Two parties' numbers; opened is only -1, 0 or 1, the sign of first - second."""

    counts: tuple[int, ...]
    bound: int

    @property
    def magnitude(self) -> int:
        """Numbers are compared as they are put in."""
        return self.bound

    @property
    def masked(self) -> int:
        """One comparison, which tests for equality as well."""
        return 1

    def check(self) -> None:
        """Refuses what cannot be computed in this way.

        Raises:
            ThresholdError: fewer than three parties.
            CapacityError: too many parties or bits, or not one number each of two parties.
        """
        if sorted(count for count in self.counts if count) != [1, 1]:
            raise CapacityError("exactly two parties put in one number each")
        _check(self, 2)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON; `read_computation` reads it back."""
        return {"kind": "order", "counts": list(self.counts), "bound": self.bound}


@dataclass(frozen=True)
class Clearing:
    """Demand and supply at each of a rising grid of public prices.

    A party puts in what it would buy at each price, then what it would sell. Opened is at how many
    prices total demand is at least total supply, and total supply at the last of them. Demand falls
    and supply rises along the grid, so these are its first prices.
    """

    counts: tuple[int, ...]
    bound: int
    prices: int

    @property
    def magnitude(self) -> int:
        """Sums over all parties are compared."""
        return len(self.counts) * self.bound

    @property
    def masked(self) -> int:
        """One comparison for each price."""
        return self.prices

    def check(self) -> None:
        """Refuses what cannot be computed in this way.

        Raises:
            ThresholdError: fewer than three parties.
            CapacityError: too many parties, prices or bits, or curves of another length.
        """
        if not 1 <= self.prices <= MOST_PRICES:
            raise CapacityError(f"a grid has from 1 to {MOST_PRICES} prices")
        if not set(self.counts) <= {0, 2 * self.prices}:
            raise CapacityError("a party has two numbers for each price, or none")
        _check(self, 2)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON; `read_computation` reads it back."""
        return {
            "kind": "clearing",
            "counts": list(self.counts),
            "bound": self.bound,
            "prices": self.prices,
        }


Computation = Ranking | Order | Clearing


def read_computation(given: Mapping[str, Any]) -> Computation:
    """Reads what `to_json` wrote; it comes from the own parent process, and is not checked."""
    counts, bound = tuple(given["counts"]), given["bound"]
    if given["kind"] == "order":
        return Order(counts, bound)
    if given["kind"] == "clearing":
        return Clearing(counts, bound, given["prices"])
    openings = tuple(
        Owner(opening["owner"]) if "owner" in opening else Value(tuple(opening["ranks"]))
        for opening in given["openings"]
    )
    return Ranking(counts, bound, openings)
