"""Keys of Paillier's scheme: which moduli are taken, how primes are drawn, how a secret is kept.

What it decides: that a modulus is long enough, that a secret key is what its public key says, and
which keys *claim a form* that makes encrypting much faster (`PublicKey.blum`). What it does not
decide: whether a claim that comes from elsewhere is true; without the primes nobody can see that.

    secret = SecretKey.generate()          # the researcher's, never the operator's
    secret.save(folder / "paillier.key")
    public = PublicKey.from_json(secret.public.to_json())

The form, of the key generation of Damgård, Jurik and Nielsen ("A generalization of Paillier's
public-key system with applications to electronic voting", International Journal of Information
Security 9, 2010, section 4.2): n = p * q, both primes 3 modulo 4 and of equal length,
gcd(p - 1, q - 1) = 2. Then -x² generates a large part of the units of Jacobi symbol 1, which form a
cyclic group, and `randomness` rests on that.

Who is harmed by a false claim? What is sent under a key is for the key's owner to read anyway. A
false claim can only make it readable for others as well: it harms the owner's own secrecy. What a
node hides from the owner is hidden by masks, which need no key of the owner's.
"""

import math
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import gmpy2

from privacy.errors import KeyFileError, WeakKeyError
from privacy.secure_random import random_below

MIN_BITS: Final = 2048
"""About 112 bits of security (NIST SP 800-57 part 1, table 2)."""

DEFAULT_BITS: Final = 3072
"""About 128 bits of security (the same table)."""

MAX_BITS: Final = 8192
"""Larger keys only serve to make others work."""

SECRET_NAMESPACE: Final = "rongshu/paillier-secret/v1"  # noqa: S105 - the format's name, no secret

BLUM: Final = "blum"
"""What the field `primes` of a key in JSON says where the key claims the form above."""

_HEX = "[1-9a-f][0-9a-f]*"
_SECRET_FILE = '{{"kind":"' + SECRET_NAMESPACE + '","p":"{p}","q":"{q}"}}\n'
_TESTS = 40
"""Rounds of Miller-Rabin after GMP's own Baillie-PSW test, as many as FIPS 186-5 ever asks for."""

_DISTANCE = 100
"""Primes may share this many leading bits less one (FIPS 186-5, appendix A.1.3)."""


@dataclass(frozen=True)
class PublicKey:
    """A Paillier modulus, good enough to encrypt to.

    Whether n has exactly two large prime factors, and whether they have the form that `blum`
    claims, cannot be seen from outside; its holder can only harm the secrecy of what is sent to
    the holder anyway.

    Attributes:
        n: The modulus: odd, composite, no square, 2048 to 8192 bits.
        blum: Whether the key's maker says that its primes have the form in this module's docstring.

    Raises:
        WeakKeyError: For any other n.
    """

    n: int
    blum: bool = False

    def __post_init__(self) -> None:
        if type(self.n) is not int or self.n < 1 or type(self.blum) is not bool:
            raise WeakKeyError("a Paillier modulus must be a positive integer")
        if not MIN_BITS <= self.bits <= MAX_BITS:
            raise WeakKeyError(
                f"a Paillier modulus of {self.bits} bits is refused; "
                f"it must have {MIN_BITS} to {MAX_BITS}"
            )
        if self.n % 2 == 0 or gmpy2.is_square(self.n) or gmpy2.is_prime(self.n):
            raise WeakKeyError("a Paillier modulus must be an odd product of two different primes")
        # p and q are 3 modulo 4, so their product is 1: this much of the claim shows from outside.
        if self.blum and self.n % 4 != 1:
            raise WeakKeyError("this Paillier modulus has no two primes of the form it claims")

    @property
    def bits(self) -> int:
        """Length of n in bits."""
        return self.n.bit_length()

    @property
    def ciphertext_bytes(self) -> int:
        """Length of one ciphertext as bytes: that of n², rounded up."""
        return ((self.n * self.n).bit_length() + 7) // 8

    def to_json(self) -> dict[str, str]:
        """Returns plain JSON: {"n": lower-case hexadecimal without leading zeros}.

        A key that claims the form has {"primes": "blum"} as well.
        """
        return {"n": f"{self.n:x}"} | ({"primes": BLUM} if self.blum else {})

    @classmethod
    def from_json(cls, value: Any) -> "PublicKey":
        """Reads what `to_json` wrote.

        Args:
            value: Unverified parsed JSON.

        Raises:
            WeakKeyError: If it is not of this form, or the modulus is refused.
        """
        if not isinstance(value, Mapping) or set(value) not in ({"n"}, {"n", "primes"}):
            raise WeakKeyError("a Paillier key in JSON has the field n, and perhaps primes")
        if value.get("primes", BLUM) != BLUM:
            raise WeakKeyError(f"the primes of a Paillier key are {BLUM} or not spoken of")
        text = value["n"]
        # The length is bounded before a long text is turned into a number.
        if not isinstance(text, str) or len(text) > MAX_BITS // 4 or not re.fullmatch(_HEX, text):
            raise WeakKeyError(
                f"n must be at most {MAX_BITS // 4} lower-case hexadecimal digits, no leading zero"
            )
        return cls(int(text, 16), blum="primes" in value)


@dataclass(frozen=True, eq=False)
class SecretKey:
    """The two primes of a modulus. It stays with the researcher's client; its repr hides them.

    Attributes:
        public: The matching public key.

    Raises:
        WeakKeyError: If p and q are not two different primes that make `public`, or lack the form
            that it claims.
    """

    public: PublicKey
    _p: int = field(repr=False)
    _q: int = field(repr=False)

    def __post_init__(self) -> None:
        p, q = self._p, self._q
        if p * q != self.public.n or p == q or not (gmpy2.is_prime(p) and gmpy2.is_prime(q)):
            raise WeakKeyError("a Paillier secret key is two different primes whose product is n")
        # Otherwise n divides phi(n) and some ciphertexts cannot be opened (Paillier, section 3).
        if math.gcd(self.public.n, (p - 1) * (q - 1)) != 1:
            raise WeakKeyError("the primes of a Paillier key must be of similar size")
        if self.public.blum and not _are_blum(p, q):
            raise WeakKeyError("the primes of this Paillier key lack the form that it claims")

    def __reduce__(self) -> NoReturn:
        """Refuses pickling and copying: `save` is the one way out.

        Raises:
            WeakKeyError: Always.
        """
        raise WeakKeyError("a Paillier secret key cannot be copied or pickled; save it to a file")

    @classmethod
    def generate(cls, bits: int = DEFAULT_BITS) -> "SecretKey":
        """Returns a fresh key of the form that makes encrypting fast.

        Args:
            bits: Length of the modulus, even.

        Raises:
            WeakKeyError: If `bits` is odd or outside 2048 to 8192.
        """
        # Checked first: a small key would be refused only after it was made.
        if not MIN_BITS <= bits <= MAX_BITS or bits % 2:
            raise WeakKeyError(
                f"asked for a Paillier key of {bits} bits; "
                f"an even number from {MIN_BITS} to {MAX_BITS} is needed"
            )
        p = _draw_prime(bits // 2)
        while True:
            q = _draw_prime(bits // 2)
            # Primes close to each other are found from the square root of n (Fermat).
            if _are_blum(p, q) and abs(p - q).bit_length() > bits // 2 - _DISTANCE:
                return cls.from_primes(p, q)

    @classmethod
    def from_primes(cls, p: int, q: int) -> "SecretKey":
        """Returns the key of two primes; its public half claims the form exactly if they have it.

        Raises:
            WeakKeyError: If they make no good key.
        """
        return cls(public=PublicKey(p * q, blum=_are_blum(p, q)), _p=p, _q=q)

    def raw_primes(self) -> tuple[int, int]:
        """Returns the secret itself, for the mathematics of this package alone."""
        return self._p, self._q

    def save(self, path: Path) -> None:
        """Writes the key to a new file that only its owner can read (mode 0600).

        Raises:
            KeyFileError: If the path exists (it is never overwritten) or cannot be written.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            with os.fdopen(os.open(path, flags, 0o600), "w", encoding="ascii") as file:
                file.write(_SECRET_FILE.format(p=f"{self._p:x}", q=f"{self._q:x}"))
                # A crash before this leaves an incomplete file: `load` refuses it, `save` too.
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            raise KeyFileError(f"{path} exists already; a key is never overwritten") from None
        except OSError as error:
            raise KeyFileError(f"{path} cannot be written: {error.strerror}") from None

    @classmethod
    def load(cls, path: Path) -> "SecretKey":
        """Reads what `save` wrote, also before keys claimed a form: it is seen from the primes.

        Raises:
            KeyFileError: If the file is missing, no regular file, open to group or others, or
                malformed. The message never quotes its content.
            WeakKeyError: If the numbers in it are no good key.
        """
        try:
            # Opened first and asked about afterwards, so that both speak of the same file.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                if not stat.S_ISREG(mode) or mode & 0o077:
                    raise KeyFileError(
                        f"{path} must be a regular file that only its owner can read: chmod 600"
                    )
                content = file.read(MAX_BITS + 1)
        except OSError as error:
            raise KeyFileError(f"{path} cannot be read: {error.strerror}") from None
        pattern = re.escape(_SECRET_FILE.format(p="@", q="@")).replace("@", f"({_HEX})")
        match = re.fullmatch(pattern.encode(), content)
        if match is None:
            raise KeyFileError(f"{path} is not a Paillier secret key of {SECRET_NAMESPACE}")
        return cls.from_primes(int(match[1], 16), int(match[2], 16))


def _are_blum(p: int, q: int) -> bool:
    """Whether two primes have the form of this module's docstring."""
    return p % 4 == q % 4 == 3 and p.bit_length() == q.bit_length() and math.gcd(p - 1, q - 1) == 2


def _draw_prime(bits: int) -> int:
    """Returns a prime drawn evenly from those that are 3 modulo 4 and begin with two one bits.

    Two such primes make a product of exactly 2 * bits bits. Each candidate is drawn anew: the next
    prime after a random number would favour those after long gaps.
    """
    lead = 3 << (bits - 2)
    while True:
        candidate = lead | random_below(1 << (bits - 4)) << 2 | 3
        if gmpy2.is_prime(candidate, _TESTS):
            return candidate
