"""Which shared numbers are negative, as shared zeros and ones that nobody sees.

    below = yield from negative(party, x)          # 1 where x < 0, with no fraction bits

The sign of a small number is bit 63 of its low word. Place 0 knows two of the components and
shares the bits of their sum; the third component is known to both other places. Bits are shared
by exclusive or, in the same replicated way, and a circuit adds the two: a tree of carries, seven
rounds of "and" (Araki et al., CCS 2016, section 3; ABY3, CCS 2018, section 5.4, for the way from
arithmetic shares to bits and back). In all ten rounds, whatever the number of numbers.

What it does not do: compare large numbers. |x| * 2^f must be below 2^63, by the bound; it refuses
otherwise.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from privacy.errors import SharedRangeError
from privacy.replicated import ring
from privacy.replicated.party import PARTIES, Party, Rounds
from privacy.replicated.shared import Shared

ROUNDS = 10
"""How many rounds `negative` takes."""

_WIDTH = 64

Planes = npt.NDArray[np.uint8]
"""Bits of many numbers, [w, b]: row i holds bit i of each of them, eight numbers to a byte."""


@dataclass(frozen=True, eq=False)
class Bits:
    """One party's two components, by exclusive or, of the bits of many numbers; as `Shared`."""

    first: Planes = field(repr=False)
    second: Planes = field(repr=False)

    def __xor__(self, other: "Bits") -> "Bits":
        return Bits(self.first ^ other.first, self.second ^ other.second)

    def __getitem__(self, chosen: slice) -> "Bits":
        return Bits(self.first[chosen], self.second[chosen])

    def above(self, other: "Bits") -> "Bits":
        """Returns both, the other's bits after one's own."""
        return Bits(
            np.concatenate([self.first, other.first]),
            np.concatenate([self.second, other.second]),
        )


def negative(party: Party, shared: Shared) -> Rounds[Shared]:
    """Returns 1 where a number is below 0, else 0: `ROUNDS` rounds.

    Args:
        party: This one.
        shared: [n] numbers.

    Returns:
        [n] whole numbers, without fraction bits, within 1.

    Raises:
        SharedRangeError: The bound allows numbers of more than 62 bits; nothing was sent.
        SharedParcelError: As `Party.exchange`.
    """
    if not math.ldexp(shared.bound, shared.fraction_bits) < 2.0 ** (_WIDTH - 1):
        raise SharedRangeError("numbers so large cannot be compared")
    low, rest = shared.first[..., 0], shared.second[..., 0]
    # Place 0 alone knows components 0 and 1; component 2 stands second at place 1, first at 2.
    pair = _planes(low + rest) if party.place == 0 else None
    summed = yield from _deal(party, pair, (_WIDTH, -(-shared.count // 8)))
    third = _third_component(party, low, rest)
    carries = yield from _conjunction(party, summed, third)
    sign = yield from _carried(party, carries, summed ^ third)
    return (yield from _counted(party, sign, shared.count))


def _third_component(
    party: Party, low: npt.NDArray[np.uint64], rest: npt.NDArray[np.uint64]
) -> Bits:
    """Component 2's bits as a shared array of their own, which needs no talk."""
    nothing = np.zeros((_WIDTH, -(-low.size // 8)), dtype=np.uint8)
    if party.place == 1:
        return Bits(nothing, _planes(rest))
    return Bits(_planes(low), nothing) if party.place == 2 else Bits(nothing, nothing)


def _carried(party: Party, carries: Bits, differ: Bits) -> Rounds[Bits]:
    """Returns the highest bit of a sum, one row.

    Args:
        party: This one.
        carries: Where both summands have a 1: there a carry is made.
        differ: Where one has: there a carry is passed on.
    """
    top = differ[_WIDTH - 1 :]
    # Bits 0 to 62 under an empty one make 64 places, which a tree joins two by two.
    made, passed = _moved_up(carries), _moved_up(differ)
    while len(made.first) > 1:
        upper, lower = slice(1, None, 2), slice(0, None, 2)
        both = passed[upper].above(passed[upper])
        joint = yield from _conjunction(party, both, made[lower].above(passed[lower]))
        half = len(joint.first) // 2
        made, passed = made[upper] ^ joint[:half], joint[half:]
    return top ^ made


def _moved_up(bits: Bits) -> Bits:
    """Moves every bit one place up; the lowest becomes 0, the highest is lost."""
    nothing = np.zeros_like(bits.first[:1])
    return Bits(nothing, nothing).above(bits[: _WIDTH - 1])


def _counted(party: Party, sign: Bits, count: int) -> Rounds[Shared]:
    """Turns one row of shared bits into shared whole numbers [n]: a xor b = a + b - 2ab."""
    shape = (count,)
    pair = _whole(sign.first ^ sign.second, count) if party.place == 0 else None
    one = yield from party.deal_elements(party.names[0], pair, shape, 0, 1.0)
    third = {0: None, 1: sign.second, 2: sign.first}[party.place]
    known = None if third is None else _whole(third, count)
    other = party.from_component(2, known, shape, 0).within(1.0)
    product = yield from party.multiply(one, other)
    return one.plus(other).minus(product.times(2)).within(1.0)


def _deal(party: Party, planes: Planes | None, shape: tuple[int, int]) -> Rounds[Bits]:
    """Shares bits that place 0 has; as `Party.deal_elements`."""
    party.next_step()
    nothing = np.zeros(shape, dtype=np.uint8)
    owner, receiver = party.names[0], party.names[1]
    if party.place == 2:
        yield from party.exchange({}, {})
        return Bits(nothing, _noise(party, 0, shape))
    if planes is None:
        incoming = yield from party.exchange({}, {owner: shape[0] * shape[1]})
        return Bits(_read(incoming[owner], shape), nothing)
    hidden = _noise(party, 0, shape)
    yield from party.exchange({receiver: (planes ^ hidden).tobytes()}, {})
    return Bits(hidden, planes ^ hidden)


def _conjunction(party: Party, left: Bits, right: Bits) -> Rounds[Bits]:
    """Returns left and right, bit by bit: one round."""
    party.next_step()
    shape = (left.first.shape[0], left.first.shape[1])
    here, there = party.place, (party.place + 1) % PARTIES
    local = left.first & (right.first ^ right.second) ^ left.second & right.first
    masked = local ^ _noise(party, here, shape) ^ _noise(party, there, shape)
    before, after = party.names[here - 1], party.names[there]
    incoming = yield from party.exchange({before: masked.tobytes()}, {after: masked.size})
    return Bits(masked, _read(incoming[after], shape))


def _noise(party: Party, component: int, shape: tuple[int, int]) -> Planes:
    count = shape[0] * shape[1]
    words = party.noise(component, -(-count // 8))
    return words.astype("<u8", copy=False).view(np.uint8)[:count].reshape(shape)


def _read(data: bytes, shape: tuple[int, int]) -> Planes:
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _planes(words: npt.NDArray[np.uint64]) -> Planes:
    """Returns the bits of n words, lowest first: uint8[64, n / 8], filled up with zeros."""
    data = np.ascontiguousarray(words).astype("<u8", copy=False).view(np.uint8)
    bits = np.unpackbits(data.reshape(words.size, 8), axis=1, bitorder="little")
    return np.packbits(bits.T, axis=1, bitorder="little")


def _whole(row: Planes, count: int) -> ring.Elements:
    """Returns one row of bits as elements [n]."""
    bits = np.unpackbits(row[0], count=count, bitorder="little")
    return ring.widen(bits.astype(np.int64))


def select(party: Party, shared: Shared, chosen: Shared) -> Rounds[Shared]:
    """Returns a number where `chosen` is 1 and 0 where it is 0: one round.

    Args:
        party: This one.
        shared: [n] numbers.
        chosen: [n] zeros and ones without fraction bits.
    """
    product = yield from party.multiply(shared, chosen)
    return replace(product, bound=shared.bound)
