"""What hides a plaintext: random n-th residues modulo n², drawn in full or by short exponents.

A ciphertext of m is (1 + m * n) * z mod n², and z is drawn here. What this module decides: how z is
drawn for which key. What it does not do: choose what is encrypted.

    encryptor = encryptor_for(public)                    # kept for a key, with its table
    ciphertexts = encryptor.encrypt([plaintext, ...])    # each plaintext in [0, n)

**Full length**, for any key: z = r^n mod n², r even among the units modulo n. This is Paillier's
scheme as published, and it costs an exponentiation by n.

**Short exponents**, for a key that claims the form of `keys`: z = (h^n)^a mod n², h = -x² mod n,
x even among the units and a among the numbers of at least half the length of n. Damgård, Jurik and
Nielsen (2010, section 4.2). h and its table are drawn by whoever encrypts, in memory and for
nobody else: nothing that another party published has to be trusted.

What that assumes beyond Paillier's own assumption, decisional composite residuosity: that the key
has the form, and nothing else. In two steps:

1. For a drawn evenly below the order of h, z is an even choice from the n-th residues whose root
   lies in the group that h generates: the n-th residues of Jacobi symbol 1, up to a small odd index
   that depends on x alone. Jacobi symbols are public and m does not change them, and who could tell
   such residues from other numbers could tell n-th residues from numbers: raise the number in
   question to the power of the index. To try the few small indices is cheap; another is rare.
2. For a of half length, z cannot be told from that while n cannot be factored. Damgård, Jurik and
   Nielsen conclude this from Goldreich and Rosen ("On the security of modular exponentiation with
   application to the construction of pseudorandom generators", Journal of Cryptology 16, 2003):
   g^a mod n is pseudorandom also when a is restricted to half the size. And whoever factors n
   breaks composite residuosity anyway.

Both steps are asymptotic and lose polynomial factors, so they promise no number of bits by
themselves. What is known to find a of half length, even for somebody who had h, takes some 2^512
steps at 2048 bits (Pollard's kangaroos), far more than factoring.

**The table** is a comb (Lim and Lee, "More flexible exponentiation with precomputation", CRYPTO
1994) with 8 or, for long work, 12 rows and `BLOCKS` blocks of 2^rows products. With 8 rows it has
2048 numbers modulo n², 1 MB at 2048 bits, 1.5 MB at 3072 and 4 MB at 8192; one z then takes 8
products and a squaring for each 64 bits of exponent. With 12 rows it has 16 times as many, 64 MB at
most, and one z takes as much for each 96 bits. As an exponent is random anyway, its digits are what
is drawn.

Table lookups and multiplications take time that depends on the exponent: see `CLAIMS.md`.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, Protocol

import gmpy2
import numpy as np
from gmpy2 import mpz

from privacy.errors import VectorError
from privacy.paillier.keys import PublicKey
from privacy.secure_random import random_bytes, random_unit

TEETH: Final = 8
"""Rows of the comb, and bits of a digit: for up to some thousand ciphertexts."""

MANY_TEETH: Final = 12
"""Rows of the comb for more: the table takes ten times as long, and a ciphertext a third less."""

BLOCKS: Final = 8
"""Blocks of the comb: measured, more of them cost more to build than they save in 10,000 words."""

_KEPT = 4

Progress = Callable[[int, int], None]
"""Told (done, total) while long work goes on."""


class Randomness(Protocol):
    """A source of what hides plaintexts under one key."""

    def draw(self) -> mpz:
        """Returns a fresh random n-th residue modulo n²."""


class FullRandomness:
    """r^n mod n² for r even among the units modulo n."""

    def __init__(self, public: PublicKey) -> None:
        """Takes the key; nothing is computed beforehand."""
        self._n, self._square = mpz(public.n), mpz(public.n) ** 2

    def draw(self) -> mpz:
        """Returns a fresh random n-th residue modulo n²."""
        return gmpy2.powmod(random_unit(int(self._n)), self._n, self._square)


class ShortRandomness:
    """(h^n)^a mod n² for an h of its own and a of at least half the length of n, by a comb."""

    def __init__(self, public: PublicKey, teeth: int = TEETH) -> None:
        """Draws h and makes its table, which takes as long as a few full encryptions.

        Args:
            public: The receiver's key.
            teeth: Rows of the comb, up to 16.
        """
        self._n = n = mpz(public.n)
        self._square = n * n
        self._teeth, self._columns = teeth, comb_columns(public.bits, teeth)
        h = -(mpz(random_unit(public.n)) ** 2) % n
        self._blocks = self._tables(gmpy2.powmod(h, n, self._square))

    def draw(self) -> mpz:
        """Returns a fresh random n-th residue modulo n².

        The product is kept as low + high * n, since modulo n² the product of two such pairs is
        low * low' + (low * high' + high * low') * n: three products and two divisions of half the
        length take less time than one of each of the full length.
        """
        n, low, high = self._n, mpz(1), mpz(0)
        drawn = np.frombuffer(random_bytes(2 * self._columns * BLOCKS), dtype="<u2")
        digits = (drawn & ((1 << self._teeth) - 1)).tolist()
        for start in range(0, len(digits), BLOCKS):
            twice = 2 * low * high
            carry, low = gmpy2.f_divmod(low * low, n)
            high = (twice + carry) % n
            column = digits[start : start + BLOCKS]
            for table, digit in zip(self._blocks, column, strict=True):
                factor_high, factor_low = table[digit]
                high = high * factor_low + low * factor_high
                carry, low = gmpy2.f_divmod(low * factor_low, n)
                high = (high + carry) % n
        return low + high * n

    def _tables(self, base: mpz) -> list[list[tuple[mpz, mpz]]]:
        """Returns BLOCKS tables of pairs (high, low), each less than n.

        Number d = low + high * n of block j is the product modulo n² of those base^(2^(e_i)).

        Here i runs over the one bits of d, and e_i = i * BLOCKS * columns + j * columns, so that a
        column further right, which is squared less often, adds the bits in between.
        """
        tables = []
        rows = [base]
        for _ in range(self._teeth - 1):
            rows.append(self._raised(rows[-1], BLOCKS * self._columns))
        for _ in range(BLOCKS):
            table = [mpz(1)]
            for row in rows:
                table += [row * each % self._square for each in table]
            tables.append([gmpy2.f_divmod(number, self._n) for number in table])
            rows = [self._raised(row, self._columns) for row in rows]
        return tables

    def _raised(self, number: mpz, doublings: int) -> mpz:
        return gmpy2.powmod(number, 1 << doublings, self._square)


def comb_columns(bits: int, teeth: int = TEETH) -> int:
    """Returns how many columns a comb has for a modulus of so many bits.

    Exponents have teeth * BLOCKS bits a column: half of the modulus' length, or less than a column
    more.
    """
    return -(-bits // (2 * teeth * BLOCKS))


class Encryptor:
    """Encrypts under one key. It holds no secret key, and its table is made once.

    Attributes:
        public: The receiver's key.
    """

    def __init__(self, public: PublicKey, randomness: Randomness | None = None) -> None:
        """Takes the key, and the randomness that suits it best.

        Args:
            public: The receiver's key.
            randomness: Another source, where the choice by the key's claim is not wanted.
        """
        self.public = public
        suited = ShortRandomness if public.blum else FullRandomness
        self._randomness = randomness or suited(public)

    def encrypt(
        self, plaintexts: Sequence[int], progress: Progress | None = None
    ) -> tuple[int, ...]:
        """Encrypts each plaintext with fresh randomness.

        Args:
            plaintexts: Numbers in [0, n).
            progress: Told how many are done after each.

        Returns:
            A ciphertext in [1, n²) for each.

        Raises:
            VectorError: If one is no integer in this range; nothing was encrypted then.
        """
        n = mpz(self.public.n)
        for at, plaintext in enumerate(plaintexts):
            if type(plaintext) is not int or not 0 <= plaintext < n:
                raise VectorError(f"plaintext {at} is not a number between 0 and n")
        return self._hidden((1 + n * plaintext for plaintext in plaintexts), plaintexts, progress)

    def rerandomise(
        self, ciphertexts: Sequence[int], progress: Progress | None = None
    ) -> tuple[int, ...]:
        """Hides how ciphertexts were made: each gets fresh randomness on top, and opens as before.

        What is computed from ciphertexts follows from them and from the weights, so who saw both
        sides could try weights until they fit. After this nobody can who lacks the secret key. From
        its holder nothing is hidden: he sees slots before they are reduced, and may have chosen
        primes under which exponents can be found.

        Args:
            ciphertexts: Of this key, checked before.
            progress: Told how many are done after each.
        """
        return self._hidden(ciphertexts, ciphertexts, progress)

    def _hidden(
        self, bare: Iterable[int], of: Sequence[int], progress: Progress | None
    ) -> tuple[int, ...]:
        square, hidden = mpz(self.public.n) ** 2, []
        for done, one in enumerate(bare, start=1):
            hidden.append(int(self._randomness.draw() * one % square))
            if progress is not None:
                progress(done, len(of))
        return tuple(hidden)


@lru_cache(maxsize=_KEPT)
def encryptor_for(public: PublicKey) -> Encryptor:
    """Returns the encryptor of a key; the last few are kept with their tables, some MB each."""
    return Encryptor(public)


@lru_cache(maxsize=1)
def encryptor_of_many(public: PublicKey) -> Encryptor:
    """Returns an encryptor of a key for thousands of ciphertexts; it is kept, tens of MB large."""
    return Encryptor(public, ShortRandomness(public, MANY_TEETH) if public.blum else None)
