"""Many words in one plaintext, side by side in slots that no sum can fill.

What it decides: how wide a slot is, that only words which fit go in, and that what comes out can be
the sum it claims to be. What it does not decide: what words mean (`privacy.fixedpoint`).

    packing = Packing(weight=4)                          # four contributions, 64-bit words
    plaintexts = packing.pack(public, words)             # ⌈len(words) / packing.slots(public)⌉
    words = packing.unpack(public, plaintexts, length=len(words))

Layout. Word number i of a plaintext stands at bit i * slot_bits, for slot_bits = word_bits +
(number of bits of weight). A plaintext holds as many slots as fit below the highest bit of n.

Why no slot ever reaches its neighbour. Write b for word_bits, W for weight, k for the slots of a
plaintext, and x_1, x_2, … for the numbers in one slot of several plaintexts, each in [0, u_i * 2^b]
for units u_i >= 1; a word just packed is in [0, 2^b) and has one unit.

1. Adding: the slot of a sum is in [0, (u_1 + u_2 + …) * 2^b], so units add.
2. A public weight w >= 0: the slot is w * x in [0, w * u * 2^b], so units are multiplied by w.
3. A public weight w < 0: |w| * u * 2^b is added to the slot at the same time, so that it becomes
   |w| * (u * 2^b - x), in [0, |w| * u * 2^b] again. What was added is a multiple of 2^b: modulo
   2^b, where words are read, the slot is w * x.
4. `PackedColumn` counts units and refuses what would have more than W. So each slot is at most
   W * 2^b, and W * 2^b < 2^slot_bits, since W is below 2 to its number of bits: nothing is carried
   into the next slot.
5. k slots make a number below 2^(k * slot_bits) <= 2^(bits of n - 1) <= n: no sum wraps modulo n.
   In step 3 a number below zero stands for n minus it, until the offset is added.

So slots are exact integers, and reduced modulo 2^b they are the weighted sum of the words modulo
2^b, for masked words and for two's complement alike. `unpack` refuses a slot above u * 2^b, a slot
beyond the words and a number beyond the slots: what was damaged opens to a random number below n
and shows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from privacy.errors import CiphertextError, OutOfRangeError, OverflowRefusedError, VectorError
from privacy.fixedpoint import Words
from privacy.paillier.keys import PublicKey

WORD_BITS: Final = 64
"""The widest word, and the one in which masks cancel."""

MAX_WEIGHT: Final = 1 << 48
"""Most units a slot may have: beyond any number of contributions times any useful weight."""


@dataclass(frozen=True)
class Packing:
    """How words share plaintexts. Everybody who adds must use the same.

    Attributes:
        weight: Most units a slot may have, 1 to 2^48: the number of contributions, or the sum of
            the magnitudes of their public weights.
        word_bits: Bits of one word, 1 to 64.

    Raises:
        VectorError: For anything else.
    """

    weight: int
    word_bits: int = WORD_BITS

    def __post_init__(self) -> None:
        if type(self.weight) is not int or not 1 <= self.weight <= MAX_WEIGHT:
            raise VectorError("a packing has room for 1 to 2^48 units in a slot")
        if type(self.word_bits) is not int or not 1 <= self.word_bits <= WORD_BITS:
            raise VectorError(f"a packed word has 1 to {WORD_BITS} bits")

    @property
    def slot_bits(self) -> int:
        """Bits of one slot."""
        return self.word_bits + self.weight.bit_length()

    @property
    def word_mask(self) -> int:
        """The largest word."""
        return (1 << self.word_bits) - 1

    def slots(self, public: PublicKey) -> int:
        """Slots of one plaintext under a key, at least 18."""
        return (public.bits - 1) // self.slot_bits

    def plaintexts(self, public: PublicKey, length: int) -> int:
        """How many plaintexts, and so ciphertexts, a vector of `length` words takes."""
        return -(-length // self.slots(public))

    def lengths(self, public: PublicKey, length: int) -> Iterator[int]:
        """How many slots each plaintext of a vector of `length` words uses."""
        slots = self.slots(public)
        return (min(slots, length - start) for start in range(0, length, slots))

    @classmethod
    def for_total(cls, public: PublicKey, length: int, *, contributions: int = 1) -> "Packing":
        """Returns the narrowest packing in which whole vectors can be folded into one ciphertext.

        Args:
            public: The key.
            length: Words of one vector, at least 1.
            contributions: How many vectors are added.

        Raises:
            VectorError: For an empty vector, or one too long.
        """
        if length < 1 or contributions < 1:
            raise VectorError("there is nothing to add up")
        packing = cls(weight=contributions)
        # A wider slot may mean one more plaintext, which may mean a wider slot; it ends soon.
        while (needed := contributions * packing.plaintexts(public, length)) > packing.weight:
            packing = cls(weight=needed)
        return packing

    def repeated(self, public: PublicKey, length: int, number: int) -> list[int]:
        """Returns plaintexts that hold one number in each of `length` slots.

        Raises:
            OverflowRefusedError: If the number is no content of a slot.
        """
        if not 0 <= number <= self.weight << self.word_bits:
            raise OverflowRefusedError("a number does not fit a slot of this packing")
        return [self._joined([number] * used) for used in self.lengths(public, length)]

    def pack(self, public: PublicKey, words: Words) -> list[int]:
        """Puts words side by side, after checking that each fits.

        Args:
            public: The key under which they will be encrypted.
            words: uint64[n], each below 2^word_bits.

        Returns:
            `plaintexts(public, n)` numbers in [0, 2^(slots * slot_bits)).

        Raises:
            VectorError: If `words` is not uint64[n], or empty.
            OutOfRangeError: If a word has more than `word_bits` bits, with its position.
        """
        if words.dtype != np.uint64 or words.ndim != 1:
            raise VectorError
        if not len(words):
            raise VectorError("there is no word to pack")
        if self.word_bits < WORD_BITS:
            beyond = words >> np.uint64(self.word_bits) != 0
            if beyond.any():
                raise OutOfRangeError(
                    f"the word at position {int(np.argmax(beyond))} has more than "
                    f"{self.word_bits} bits"
                )
        slots, numbers = self.slots(public), words.tolist()
        return [
            self._joined(numbers[start : start + slots]) for start in range(0, len(numbers), slots)
        ]

    def unpack(
        self, public: PublicKey, plaintexts: Sequence[int], length: int, units: int | None = None
    ) -> Words:
        """Takes summed words apart and reduces each modulo 2^word_bits.

        Args:
            public: The key under which they were encrypted.
            plaintexts: Opened sums.
            length: Words of each vector that was added.
            units: Units that each slot has at most; `weight` if not told.

        Returns:
            uint64[length]

        Raises:
            VectorError: If these are not the plaintexts of so many words.
            CiphertextError: If one holds what no such sum can hold: it was damaged, or is under
                another key, or more was added than said.
        """
        if length < 1 or len(plaintexts) != self.plaintexts(public, length):
            raise VectorError(
                f"{len(plaintexts)} plaintexts are not those of {length} packed words"
            )
        limit = (self.weight if units is None else units) << self.word_bits
        numbers: list[int] = []
        for at, used in enumerate(self.lengths(public, length)):
            for number in self._parted(plaintexts[at], used):
                if number > limit:
                    raise CiphertextError(
                        f"ciphertext {at} opens to more than the sum of its contributions"
                    )
                numbers.append(number & self.word_mask)
        return np.array(numbers, dtype=np.uint64)

    def _joined(self, numbers: Sequence[int]) -> int:
        width, joined = self.slot_bits, 0
        for number in reversed(numbers):
            joined = joined << width | number
        return joined

    def _parted(self, plaintext: int, used: int) -> Iterator[int]:
        """Yields `used` slots; what is left above them goes with the last, where it is too much."""
        mask = (1 << self.slot_bits) - 1
        for _ in range(used - 1):
            yield plaintext & mask
            plaintext >>= self.slot_bits
        yield plaintext
