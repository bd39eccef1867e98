"""Sums under a key: words are encrypted one by one, added while encrypted, and the sum is opened.

Paillier's scheme ("Public-Key Cryptosystems Based on Composite Degree Residuosity Classes",
EUROCRYPT 1999) with g = n + 1. This module is the only door to `phe`.

What it decides: which keys and ciphertexts are acceptable, and that a decrypted number can be the
sum it claims to be. What it does not do: hide one party's number from the holder of the secret
key, which opens any ciphertext that it gets to see. So nodes mask first (`privacy.masking`), and
masks cancel in the opened sum modulo 2^64.

    secret = SecretKey.generate()                        # the researcher's, never the operator's
    column = encrypt(secret.public, words)               # at each node, after masking
    total = add(secret.public, [column, other_column])   # at the operator, without any secret
    words = decrypt_words(secret, total, parties=2)      # at the researcher

One word for each ciphertext: a plaintext below parties * 2^64 is far below n, so sums are exact.
"""

import math
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import gmpy2
import numpy as np
import phe
import phe.util

from privacy.errors import CiphertextError, KeyFileError, VectorError, WeakKeyError
from privacy.fixedpoint import MAX_TERMS, Words
from privacy.secure_random import random_unit

MIN_BITS = 2048
"""About 112 bits of security (NIST SP 800-57 part 1, table 2)."""

DEFAULT_BITS = 3072
"""About 128 bits of security (the same table)."""

MAX_BITS = 8192
"""Larger keys only serve to make others work."""

SECRET_NAMESPACE = "rongshu/paillier-secret/v1"  # noqa: S105 - the format's name, not a secret

_HEX = "[1-9a-f][0-9a-f]*"
_SECRET_FILE = '{{"kind":"' + SECRET_NAMESPACE + '","p":"{p}","q":"{q}"}}\n'
_WORD = 1 << 64


@dataclass(frozen=True)
class PublicKey:
    """A Paillier modulus, good enough to encrypt to.

    Whether n has exactly two large prime factors cannot be seen from outside; its holder can only
    harm the secrecy of what is sent to the holder anyway.

    Attributes:
        n: The modulus: odd, composite, no square, 2048 to 8192 bits.

    Raises:
        WeakKeyError: For any other n.
    """

    n: int

    def __post_init__(self) -> None:
        if type(self.n) is not int or self.n < 1:
            raise WeakKeyError("a Paillier modulus must be a positive integer")
        if not MIN_BITS <= self.bits <= MAX_BITS:
            raise WeakKeyError(
                f"a Paillier modulus of {self.bits} bits is refused; "
                f"it must have {MIN_BITS} to {MAX_BITS}"
            )
        if self.n % 2 == 0 or gmpy2.is_square(self.n) or gmpy2.is_prime(self.n):
            raise WeakKeyError("a Paillier modulus must be an odd product of two different primes")

    @property
    def bits(self) -> int:
        """Length of n in bits."""
        return self.n.bit_length()

    @property
    def ciphertext_bytes(self) -> int:
        """Length of one ciphertext as bytes: that of n², rounded up."""
        return ((self.n * self.n).bit_length() + 7) // 8

    def to_json(self) -> dict[str, str]:
        """Returns plain JSON: {"n": lower-case hexadecimal without leading zeros}."""
        return {"n": f"{self.n:x}"}

    @classmethod
    def from_json(cls, value: Any) -> "PublicKey":
        """Reads what `to_json` wrote.

        Args:
            value: Unverified parsed JSON.

        Raises:
            WeakKeyError: If it is not of this form, or the modulus is refused.
        """
        if not isinstance(value, Mapping) or set(value) != {"n"}:
            raise WeakKeyError("a Paillier key in JSON has exactly the field n")
        text = value["n"]
        # The length is bounded before a long text is turned into a number.
        if not isinstance(text, str) or len(text) > MAX_BITS // 4 or not re.fullmatch(_HEX, text):
            raise WeakKeyError(
                f"n must be at most {MAX_BITS // 4} lower-case hexadecimal digits, no leading zero"
            )
        return cls(int(text, 16))


@dataclass(frozen=True, eq=False)
class SecretKey:
    """The two primes of a modulus. It stays with the researcher's client; its repr hides them.

    Attributes:
        public: The matching public key.

    Raises:
        WeakKeyError: If p and q are not two different primes that make `public`.
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

    def __reduce__(self) -> NoReturn:
        """Refuses pickling and copying: `save` is the one way out.

        Raises:
            WeakKeyError: Always.
        """
        raise WeakKeyError("a Paillier secret key cannot be copied or pickled; save it to a file")

    @classmethod
    def generate(cls, bits: int = DEFAULT_BITS) -> "SecretKey":
        """Returns a fresh key; phe draws the primes from the operating system's generator.

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
        public, secret = phe.generate_paillier_keypair(n_length=bits)
        return cls(public=PublicKey(int(public.n)), _p=int(secret.p), _q=int(secret.q))

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
        """Reads what `save` wrote.

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
        p, q = int(match[1], 16), int(match[2], 16)
        return cls(public=PublicKey(p * q), _p=p, _q=q)


def encrypt(public: PublicKey, words: Words) -> list[int]:
    """Encrypts each word on its own, with fresh full-length randomness.

    Args:
        public: The receiver's key.
        words: uint64[n], masked before.

    Returns:
        n ciphertexts in [1, n²): c = (1 + n)^m * r^n mod n², r drawn evenly from the units mod n.

    Raises:
        VectorError: If `words` is not uint64[n].
    """
    if words.dtype != np.uint64 or words.ndim != 1:
        raise VectorError
    key = phe.PaillierPublicKey(public.n)
    return [int(key.raw_encrypt(word, r_value=random_unit(public.n))) for word in words.tolist()]


def add(public: PublicKey, columns: Sequence[Sequence[int]]) -> list[int]:
    """Adds while encrypted: the product of ciphertexts modulo n², position by position.

    Args:
        public: The key they are all under.
        columns: One sequence of n ciphertexts from each party, at least one.

    Returns:
        n ciphertexts of the sums.

    Raises:
        VectorError: If there is no column, or lengths differ.
        CiphertextError: If something in a column is not a ciphertext under this key.
    """
    if not columns:
        raise VectorError("there is no contribution to add")
    for at, column in enumerate(columns):
        if len(column) != len(columns[0]):
            raise VectorError(
                f"contribution {at} has {len(column)} ciphertexts "
                f"where the first has {len(columns[0])}"
            )
        check_ciphertexts(public, column)
    square = public.n * public.n
    total = list(columns[0])
    for column in columns[1:]:
        total = [phe.util.mulmod(a, b, square) for a, b in zip(total, column, strict=True)]
    return total


def add_public(public: PublicKey, ciphertexts: Sequence[int], words: Words) -> list[int]:
    """Adds words that everybody may know; the result says nothing less about what is encrypted.

    Args:
        public: The key that the ciphertexts are under.
        ciphertexts: n of them.
        words: uint64[n].

    Returns:
        n ciphertexts of the sums: c * (1 + word * n) mod n²; the same each time.

    Raises:
        VectorError: If `words` is not uint64[n].
        CiphertextError: If something is not a ciphertext under this key.
    """
    if words.dtype != np.uint64 or words.shape != (len(ciphertexts),):
        raise VectorError
    check_ciphertexts(public, ciphertexts)
    square = public.n * public.n
    return [
        phe.util.mulmod(one, 1 + word * public.n, square)
        for one, word in zip(ciphertexts, words.tolist(), strict=True)
    ]


def decrypt_words(secret: SecretKey, ciphertexts: Sequence[int], parties: int) -> Words:
    """Opens sums of words and reduces them modulo 2^64, where masks cancel.

    Args:
        secret: The receiver's key.
        ciphertexts: n sums, each of at most `parties` encrypted words.
        parties: Number of contributions added, 1 to 2^14.

    Returns:
        uint64[n]

    Raises:
        CiphertextError: If one is not a ciphertext under this key, or opens to more than
            `parties` words can sum to: it was damaged, or is under another key.
        VectorError: If `parties` is out of range.
    """
    if not 1 <= parties <= MAX_TERMS:
        raise VectorError(f"a sum has 1 to {MAX_TERMS} parties, not {parties}")
    check_ciphertexts(secret.public, ciphertexts)
    key = phe.PaillierPrivateKey(phe.PaillierPublicKey(secret.public.n), secret._p, secret._q)  # noqa: SLF001
    words = []
    for at, ciphertext in enumerate(ciphertexts):
        total = int(key.raw_decrypt(ciphertext))
        if total > parties * (_WORD - 1):
            raise CiphertextError(
                f"ciphertext {at} opens to more than the sum of {parties} contributions"
            )
        words.append(total % _WORD)
    return np.array(words, dtype=np.uint64)


def check_ciphertexts(public: PublicKey, ciphertexts: Sequence[int]) -> None:
    """Checks that each is a unit modulo n², in [1, n²).

    Raises:
        CiphertextError: Naming the first position that is not.
    """
    square = public.n * public.n
    product = 1
    for at, ciphertext in enumerate(ciphertexts):
        if type(ciphertext) is not int or not 0 < ciphertext < square:
            raise CiphertextError(f"ciphertext {at} is not a number between 0 and n²")
        product = phe.util.mulmod(product, ciphertext % public.n, public.n)
    # A product is a unit exactly when all factors are, so one slow gcd stands for all.
    if math.gcd(product, public.n) != 1:
        bad = [at for at, one in enumerate(ciphertexts) if math.gcd(one, public.n) != 1]
        raise CiphertextError(f"ciphertext {bad[0]} shares a factor with n")


def ciphertexts_to_bytes(public: PublicKey, ciphertexts: Sequence[int]) -> bytes:
    """Returns n ciphertexts as n * `public.ciphertext_bytes` bytes, each big-endian.

    Raises:
        CiphertextError: If one is not a ciphertext under this key.
    """
    check_ciphertexts(public, ciphertexts)
    return b"".join(one.to_bytes(public.ciphertext_bytes, "big") for one in ciphertexts)


def ciphertexts_from_bytes(public: PublicKey, data: bytes) -> list[int]:
    """Reads what `ciphertexts_to_bytes` wrote.

    Raises:
        CiphertextError: If the length is not a whole number of ciphertexts, or one is none.
    """
    width = public.ciphertext_bytes
    if len(data) % width:
        raise CiphertextError(
            f"{len(data)} bytes are not a whole number of ciphertexts of {width} bytes"
        )
    ciphertexts = [
        int.from_bytes(data[start : start + width], "big") for start in range(0, len(data), width)
    ]
    check_ciphertexts(public, ciphertexts)
    return ciphertexts
