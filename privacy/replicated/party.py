"""Three parties compute on values that none of them sees: replicated secret sharing.

A value x is the sum of three components, x = x0 + x1 + x2 modulo 2^128, each random by itself. The
party at place i holds components i and i + 1 (places count modulo 3), so any two parties hold all
three, and one alone holds nothing. The component that a party lacks hides the value from it.

    party = Party(("a", "b", "c"), own="a", binding=job)
    yield from party.begin()                                        # keys, once
    x = yield from party.deal("a", values, (100,), 24, bound=8.0)   # "a" shares its values
    z = yield from party.multiply(x, y, fraction_bits=24)
    opened = yield from party.open(z, ["c"])                        # to "c" alone

All three run the same program; each `yield` inside is one round: what goes to whom, by name. The
protocol is that of Araki, Furukawa, Lindell, Nof and Ohara, "High-Throughput Semi-Honest Secure
Three-Party Computation with an Honest Majority" (CCS 2016), the truncation that of Mohassel and
Rindal, "ABY3" (CCS 2018, section 5.1), in the ring of `privacy.replicated.ring`.

Component i and key i belong to the two parties at places i and i - 1. What is sent is masked by a
stream of a key that its receiver lacks.

What it decides: that every result has room. Each `Shared` carries a public bound, which follows
from the bounds of what it was made of, and an operation refuses before it sends anything if its
result could wrap. A truncation of |x| < 2^l goes wrong with probability below 2^(l + 1 - 128); the
sum of these over a whole computation is kept below `MOST_DOUBT`. What it does not do: protect from
two parties that put their components together, or from one that does not follow the protocol.
"""

import hashlib
import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from privacy.derivation import KEY_BYTES, derive_key, keystream, prefixed
from privacy.errors import SharedParcelError, SharedRangeError, SharingError
from privacy.replicated import ring
from privacy.replicated.ring import ELEMENT_BYTES, RING_BITS, Elements, Floats
from privacy.replicated.shared import Matrix, Shared, require_room
from privacy.secure_random import random_bytes

SHARE_NAMESPACE = "rongshu/replicated-share/v1"

PARTIES = 3
MOST_DOUBT = 2.0**-30
"""Most probability that any of one computation's truncations goes wrong."""

Result = TypeVar("Result")
Parcels = Mapping[str, bytes]
Rounds = Generator[Parcels, Parcels, Result]
"""What yields parcels by receiver, is sent parcels by sender, and returns a result."""


class Party:
    """One of the three; the object lives in one process, for one computation.

    Args:
        names: The three parties, in the same order at each.
        own: Which of them this is.
        binding: Bytes that name the computation, the same at all three and at no other.

    Attributes:
        place: 0, 1 or 2.
        names: As given.
        doubt: What the truncations so far may have gone wrong with, a probability.

    Raises:
        SharingError: Unless there are three different parties, and this is one of them.
    """

    def __init__(self, names: Sequence[str], own: str, binding: bytes) -> None:
        if len(names) != PARTIES or len(set(names)) != PARTIES or own not in names:
            raise SharingError("shares are held by three different parties, this one among them")
        self.names = tuple(names)
        self.place = self.names.index(own)
        self.doubt = 0.0
        self._before = self.names[self.place - 1]
        self._after = self.names[(self.place + 1) % PARTIES]
        self._context = hashlib.sha256(
            prefixed([SHARE_NAMESPACE.encode(), binding, *(name.encode() for name in names)])
        ).digest()
        self._keys: dict[int, bytes] = {}
        self._step = 0

    def begin(self) -> Rounds[None]:
        """Draws this party's key and passes it to the party before: one round.

        Raises:
            SharedParcelError: If the key of the party after is missing or malformed.
        """
        own = random_bytes(KEY_BYTES)
        theirs = yield from self.exchange({self._before: own}, {self._after: KEY_BYTES})
        self._keys = {self.place: own, (self.place + 1) % PARTIES: theirs[self._after]}

    def exchange(self, sent: Parcels, expected: Mapping[str, int]) -> Rounds[Parcels]:
        """Sends, and takes exactly the parcels that a step has: one round.

        Args:
            sent: By receiver.
            expected: By sender, how many bytes.

        Raises:
            SharedParcelError: Anything else came.
        """
        incoming = yield sent
        for name in expected.keys() ^ incoming.keys():
            raise SharedParcelError(
                f"the parcel of {name!r} is missing or came out of turn", party=name
            )
        for name, length in expected.items():
            if len(incoming[name]) != length:
                raise SharedParcelError(
                    f"a parcel of {name!r} has {len(incoming[name])} bytes, not {length}",
                    party=name,
                )
        return incoming

    def next_step(self) -> None:
        """Begins a step: its streams are others than those of every step before."""
        if not self._keys:
            raise SharingError("before `begin` a party has no keys to hide anything with")
        self._step += 1

    def noise(self, component: int, words: int) -> Elements:
        """Returns this step's stream of a component that the party holds, uint64[words].

        The party at the other place that holds the component gets the same words; the third knows
        nothing of them (HKDF-SHA-256, ChaCha20; `privacy.derivation`).

        Raises:
            KeyError: For the component that this party lacks; a defect of the caller.
        """
        fields = [SHARE_NAMESPACE.encode(), self._context, self._step.to_bytes(8, "big")]
        return keystream(derive_key(self._keys[component], fields), words)

    def holds(self, component: int) -> bool:
        """Says whether this party holds a component."""
        return component in (self.place, (self.place + 1) % PARTIES)

    def from_component(
        self, component: int, elements: Elements | None, shape: tuple[int, ...], fraction_bits: int
    ) -> Shared:
        """Shares what the two holders of a component know anyway; nothing is sent.

        Args:
            component: Which; the other two become 0.
            elements: uint64[*shape, 2] at its holders, None at the third party.
            shape: Of the array.
            fraction_bits: Of the elements; the caller gives the bound by `Shared.within`.
        """
        pair = [ring.zeros(shape), ring.zeros(shape)]
        if elements is not None and self.holds(component):
            pair[(component - self.place) % PARTIES] = elements
        return Shared(pair[0], pair[1], fraction_bits, 0.0)

    def constant(self, values: Floats, fraction_bits: int) -> Shared:
        """Shares public numbers; nothing is sent.

        Raises:
            SharedRangeError: As `ring.encode`.
        """
        bound = float(np.abs(values).max(initial=0.0))
        elements = ring.encode(values, fraction_bits, bound)
        return self.from_component(0, elements, values.shape, fraction_bits).within(bound)

    def deal(
        self,
        owner: str,
        values: Floats | None,
        shape: tuple[int, ...],
        fraction_bits: int,
        bound: float,
    ) -> Rounds[Shared]:
        """Shares one party's numbers: one round, one parcel.

        Args:
            owner: Whose.
            values: float64[*shape] at the owner, None at the others.
            shape: Public.
            fraction_bits: Public.
            bound: What no magnitude exceeds; public.

        Raises:
            SharedRangeError: A value is missing, infinite or beyond the bound; nothing was sent.
            SharedParcelError: As `exchange`.
        """
        elements = None if values is None else ring.encode(values, fraction_bits, bound)
        return (yield from self.deal_elements(owner, elements, shape, fraction_bits, bound))

    def deal_elements(
        self,
        owner: str,
        elements: Elements | None,
        shape: tuple[int, ...],
        fraction_bits: int,
        bound: float,
    ) -> Rounds[Shared]:
        """Shares elements that one party has; as `deal`.

        The owner's component is the stream of its key, the next one what is missing to the value,
        and the third is 0: neither of the others holds both of the first two.
        """
        self.next_step()
        count, at = math.prod(shape), self.names.index(owner)
        pair = [ring.zeros(shape), ring.zeros(shape)]
        if self.holds(at):
            hidden = self.noise(at, 2 * count).reshape(*shape, 2)
            pair[(at - self.place) % PARTIES] = hidden
        if self.place == at:
            if elements is None or elements.shape != (*shape, 2):
                raise SharingError("the owner of shared values has none, or of another shape")
            pair[1] = ring.subtract(elements, pair[0])
            yield from self.exchange({self._after: ring.to_bytes(pair[1])}, {})
        elif self._before == owner:
            expected = {owner: count * ELEMENT_BYTES}
            incoming = yield from self.exchange({}, expected)
            pair[0] = ring.from_bytes(incoming[owner], shape)
        else:
            yield from self.exchange({}, {})
        return Shared(pair[0], pair[1], fraction_bits, bound)

    def multiply(
        self,
        left: Shared,
        right: Shared,
        *,
        fraction_bits: int | None = None,
        plus: Shared | None = None,
    ) -> Rounds[Shared]:
        """Multiplies element by element: one round, or two with a truncation.

        Args:
            left: Of one shape with `right`.
            right: The other factor.
            fraction_bits: Of the result, so that what is beyond is cut off; None to keep all.
            plus: Added to the product before it is cut, with as many fraction bits as both have.

        Raises:
            SharedRangeError: The result could wrap; nothing was sent.
            SharedParcelError: As `exchange`.
        """
        if left.shape != right.shape:
            raise SharingError("arrays of different shapes cannot be multiplied")
        bits, bound = left.fraction_bits + right.fraction_bits, left.bound * right.bound
        require_room(bits, bound)
        local = ring.add(
            ring.multiply(left.first, ring.add(right.first, right.second)),
            ring.multiply(left.second, right.first),
        )
        return (yield from self._product(local, bits, bound, fraction_bits, plus))

    def matmul(
        self, left: Matrix, right: Shared, *, fraction_bits: int, plus: Shared | None = None
    ) -> Rounds[Shared]:
        """Returns left @ right + plus, [n, d] by [d, k], cut to `fraction_bits`: two rounds.

        Args:
            left: [n, d].
            right: [d, k].
            fraction_bits: Of the result.
            plus: As in `multiply`.

        Raises:
            SharedRangeError: As `multiply`.
            SharedParcelError: As `exchange`.
        """
        bits = left.fraction_bits + right.fraction_bits
        bound = left.shape[1] * left.bound * right.bound
        require_room(bits, bound)
        both = ring.add(right.first, right.second)
        local = ring.add(ring.matmul(left.first, both), ring.matmul(left.second, right.first))
        return (yield from self._product(local, bits, bound, fraction_bits, plus))

    def matmul_transposed(
        self,
        left: Matrix,
        right: Shared,
        *,
        fraction_bits: int,
        bound: float,
        halvings: int = 0,
        plus: Shared | None = None,
    ) -> Rounds[Shared]:
        """Returns left.T @ right / 2^halvings + plus, [n, d] by [n, k]: two rounds.

        Args:
            left: [n, d].
            right: [n, k].
            fraction_bits: Of the result.
            bound: Of left.T @ right, which the caller has proven: of n products of bounded numbers
                one knows more than n times the bounds, where the columns' norms are known.
            halvings: A division by a power of two, which costs nothing.
            plus: As in `multiply`, with `halvings` more fraction bits than both factors have.

        Raises:
            SharedRangeError: As `multiply`.
            SharedParcelError: As `exchange`.
        """
        bits = left.fraction_bits + right.fraction_bits
        require_room(bits, bound)
        both = ring.add(right.first, right.second)
        local = ring.add(
            ring.matmul_transposed(left.first, both),
            ring.matmul_transposed(left.second, right.first),
        )
        scaled = (bits + halvings, math.ldexp(bound, -halvings))
        return (yield from self._product(local, *scaled, fraction_bits, plus))

    def _product(
        self,
        local: Elements,
        bits: int,
        bound: float,
        wanted: int | None,
        plus: Shared | None,
    ) -> Rounds[Shared]:
        """Makes shares of a product of which each party holds one summand.

        Args:
            local: This party's summand, not yet masked.
            bits: Fraction bits of the product.
            bound: Of the product.
            wanted: Fraction bits of the result, or None for all.
            plus: Added before the rest is cut.
        """
        if plus is not None:
            if plus.fraction_bits != bits or plus.shape != local.shape[:-1]:
                raise SharingError("what is added to a product has another scale or shape")
            local, bound = ring.add(local, plus.first), bound + plus.bound
        shape, cut = local.shape[:-1], 0 if wanted is None else bits - wanted
        self._admit(bits, bound, cut, math.prod(shape))
        self.next_step()
        first, second = (
            self.noise((self.place + at) % PARTIES, local.size).reshape(local.shape)
            for at in (0, 1)
        )
        # Over the three parties these differences of streams add up to zero.
        masked = ring.add(local, ring.subtract(first, second))
        length = math.prod(shape) * ELEMENT_BYTES
        if not cut:
            sent = {self._before: ring.to_bytes(masked)}
            incoming = yield from self.exchange(sent, {self._after: length})
            return Shared(masked, ring.from_bytes(incoming[self._after], shape), bits, bound)
        # Summand 0 becomes known to places 0 and 2; 1 and 2 together to place 1.
        sent = {} if self.place == 1 else {self._before: ring.to_bytes(masked)}
        incoming = yield from self.exchange(sent, {self._after: length} if self.place else {})
        if self.place:
            theirs = ring.from_bytes(incoming[self._after], shape)
            masked = theirs if self.place == 2 else ring.add(masked, theirs)
        return (yield from self._cut(masked, bits, bound, cut))

    def truncate(self, shared: Shared, fraction_bits: int) -> Rounds[Shared]:
        """Cuts a value to fewer fraction bits, to within one unit of the last: one round.

        Raises:
            SharedRangeError: If there is not room enough for it; nothing was sent.
            SharedParcelError: As `exchange`.
        """
        cut = shared.fraction_bits - fraction_bits
        self._admit(shared.fraction_bits, shared.bound, cut, shared.count)
        known = (
            shared.first,
            ring.add(shared.first, shared.second),
            shared.second,
        )[self.place]
        return (yield from self._cut(known, shared.fraction_bits, shared.bound, cut))

    def _cut(self, known: Elements, bits: int, bound: float, cut: int) -> Rounds[Shared]:
        """Shifts the two halves of x = x0 + (x1 + x2), each by who knows it.

        Rounded down twice, the sum is 0 to 2 units short; the unit added centres that.

        Args:
            known: x0 at places 0 and 2, x1 + x2 at place 1.
            bits: Fraction bits before.
            bound: Of x.
            cut: How many of the bits go.
        """
        self.next_step()
        shape, length = known.shape[:-1], known.size * 8
        half = ring.shift_right(known, cut)
        scale = (bits - cut, bound + math.ldexp(1.0, cut - bits))
        if self.place == 0:
            incoming = yield from self.exchange({}, {self._after: length})
            return Shared(half, ring.from_bytes(incoming[self._after], shape), *scale)
        hidden = self.noise(2, known.size).reshape(known.shape)
        if self.place == 2:
            yield from self.exchange({}, {})
            return Shared(hidden, half, *scale)
        unit = ring.widen(np.ones(shape, dtype=np.int64))
        rest = ring.subtract(ring.add(half, unit), hidden)
        yield from self.exchange({self._before: ring.to_bytes(rest)}, {})
        return Shared(rest, hidden, *scale)

    def _admit(self, bits: int, bound: float, cut: int, count: int) -> None:
        """Checks that a result has room, and counts the doubt of a truncation."""
        if cut < 0 or cut >= RING_BITS:
            raise SharingError("a result cannot have more fraction bits than its factors")
        require_room(bits, bound)
        if not cut:
            return
        self.doubt += truncation_doubt(bits, bound, count)
        if self.doubt > MOST_DOUBT:
            raise SharedRangeError(
                "truncations of numbers so large could go wrong with a probability above "
                f"2^{math.log2(MOST_DOUBT):.0f}"
            )

    def open(self, shared: Shared, receivers: Iterable[str]) -> Rounds[Floats | None]:
        """Shows a value to the named parties and to nobody else: one round.

        Returns:
            float64 of the value's shape at a receiver, None elsewhere.

        Raises:
            SharedParcelError: As `exchange`.
        """
        wanted, length = set(receivers), shared.count * ELEMENT_BYTES
        own = self.names[self.place]
        # The party before lacks the component that stands second here.
        sent = {self._before: ring.to_bytes(shared.second)} if self._before in wanted else {}
        incoming = yield from self.exchange(sent, {self._after: length} if own in wanted else {})
        if own not in wanted:
            return None
        missing = ring.from_bytes(incoming[self._after], shared.shape)
        total = ring.add(ring.add(shared.first, shared.second), missing)
        return ring.decode(total, shared.fraction_bits)


def truncation_doubt(bits: int, bound: float, count: int) -> float:
    """Returns what the truncation of so many numbers goes wrong with at most, a probability.

    Args:
        bits: Fraction bits before.
        bound: What no magnitude exceeds.
        count: How many numbers.
    """
    return count * (math.ldexp(bound, bits) + 1.0) * 2.0 ** (1 - RING_BITS)
