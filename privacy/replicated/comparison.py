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

BitArray = npt.NDArray[np.uint8]
"""Zeros and ones, one to a byte."""


@dataclass(frozen=True, eq=False)
class Bits:
    """One party's two components, by exclusive or, of an array of bits; as `Shared`."""

    first: BitArray = field(repr=False)
    second: BitArray = field(repr=False)

    def __xor__(self, other: "Bits") -> "Bits":
        return Bits(self.first ^ other.first, self.second ^ other.second)

    def columns(self, chosen: slice) -> "Bits":
        """Returns some of the places in each number."""
        return Bits(self.first[:, chosen], self.second[:, chosen])

    def beside(self, other: "Bits") -> "Bits":
        """Returns both, the other's columns after one's own."""
        return Bits(
            np.hstack([self.first, other.first]),
            np.hstack([self.second, other.second]),
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
    pair = _unpacked(low + rest) if party.place == 0 else None
    summed = yield from _deal(party, pair, (shared.count, _WIDTH))
    third = _third_component(party, low, rest)
    carries = yield from _conjunction(party, summed, third)
    sign = yield from _carried(party, carries, summed ^ third)
    return (yield from _counted(party, sign))


def _third_component(
    party: Party, low: npt.NDArray[np.uint64], rest: npt.NDArray[np.uint64]
) -> Bits:
    """Component 2's bits as a shared array of their own, which needs no talk."""
    nothing = np.zeros((low.size, _WIDTH), dtype=np.uint8)
    if party.place == 1:
        return Bits(nothing, _unpacked(rest))
    return Bits(_unpacked(low), nothing) if party.place == 2 else Bits(nothing, nothing)


def _carried(party: Party, carries: Bits, differ: Bits) -> Rounds[Bits]:
    """Returns the highest bit of a sum, [n, 1].

    Args:
        party: This one.
        carries: Where both summands have a 1: there a carry is made.
        differ: Where one has: there a carry is passed on.
    """
    top = differ.columns(slice(_WIDTH - 1, _WIDTH))
    # Bits 0 to 62 under an empty one make 64 pairs, which a tree joins two by two.
    made, passed = _moved_up(carries), _moved_up(differ)
    while made.first.shape[1] > 1:
        upper, lower = slice(1, None, 2), slice(0, None, 2)
        both = passed.columns(upper).beside(passed.columns(upper))
        joint = yield from _conjunction(
            party, both, made.columns(lower).beside(passed.columns(lower))
        )
        half = joint.first.shape[1] // 2
        made = made.columns(upper) ^ joint.columns(slice(None, half))
        passed = joint.columns(slice(half, None))
    return top ^ made


def _moved_up(bits: Bits) -> Bits:
    """Moves every bit one place up; the lowest becomes 0, the highest is lost."""

    def moved(component: BitArray) -> BitArray:
        return np.hstack([np.zeros_like(component[:, :1]), component[:, :-1]])

    return Bits(moved(bits.first), moved(bits.second))


def _counted(party: Party, sign: Bits) -> Rounds[Shared]:
    """Turns shared bits [n, 1] into shared whole numbers [n]: a xor b = a + b - 2ab."""
    shape = (sign.first.shape[0],)
    pair = _whole(sign.first ^ sign.second) if party.place == 0 else None
    one = yield from party.deal_elements(party.names[0], pair, shape, 0, 1.0)
    third = {0: None, 1: sign.second, 2: sign.first}[party.place]
    known = None if third is None else _whole(third)
    other = party.from_component(2, known, shape, 0).within(1.0)
    product = yield from party.multiply(one, other)
    return one.plus(other).minus(product.times(2)).within(1.0)


def _deal(party: Party, bits: BitArray | None, shape: tuple[int, int]) -> Rounds[Bits]:
    """Shares bits that place 0 has; as `Party.deal_elements`."""
    party.next_step()
    nothing, length = np.zeros(shape, dtype=np.uint8), _packed_length(shape)
    owner, receiver = party.names[0], party.names[1]
    if party.place == 2:
        yield from party.exchange({}, {})
        return Bits(nothing, _noise(party, 0, shape))
    if bits is None:
        incoming = yield from party.exchange({}, {owner: length})
        return Bits(_read(incoming[owner], shape), nothing)
    hidden = _noise(party, 0, shape)
    yield from party.exchange({receiver: _packed(bits ^ hidden)}, {})
    return Bits(hidden, bits ^ hidden)


def _conjunction(party: Party, left: Bits, right: Bits) -> Rounds[Bits]:
    """Returns left and right, bit by bit: one round."""
    party.next_step()
    shape = (left.first.shape[0], left.first.shape[1])
    here, there = party.place, (party.place + 1) % PARTIES
    local = left.first & (right.first ^ right.second) ^ left.second & right.first
    masked = local ^ _noise(party, here, shape) ^ _noise(party, there, shape)
    before, after = party.names[here - 1], party.names[there]
    expected = {after: _packed_length(shape)}
    incoming = yield from party.exchange({before: _packed(masked)}, expected)
    return Bits(masked, _read(incoming[after], shape))


def _noise(party: Party, component: int, shape: tuple[int, int]) -> BitArray:
    words = party.noise(component, -(-shape[0] * shape[1] // _WIDTH))
    return _read(words.astype("<u8").tobytes(), shape)


def _packed_length(shape: tuple[int, int]) -> int:
    return -(-shape[0] * shape[1] // 8)


def _packed(bits: BitArray) -> bytes:
    return np.packbits(bits, bitorder="little").tobytes()


def _read(data: bytes, shape: tuple[int, int]) -> BitArray:
    packed = np.frombuffer(data, dtype=np.uint8)
    return np.unpackbits(packed, count=shape[0] * shape[1], bitorder="little").reshape(shape)


def _unpacked(words: npt.NDArray[np.uint64]) -> BitArray:
    """Returns the bits of each word, lowest first: uint8[n, 64]."""
    return _read(words.astype("<u8").tobytes(), (words.size, _WIDTH))


def _whole(bits: BitArray) -> ring.Elements:
    """Returns bits [n, 1] as elements [n]."""
    return ring.widen(bits[:, 0].astype(np.int64))


def select(party: Party, shared: Shared, chosen: Shared) -> Rounds[Shared]:
    """Returns a number where `chosen` is 1 and 0 where it is 0: one round.

    Args:
        party: This one.
        shared: [n] numbers.
        chosen: [n] zeros and ones without fraction bits.
    """
    product = yield from party.multiply(shared, chosen)
    return replace(product, bound=shared.bound)
