"""Ciphertexts of Paillier's scheme: words encrypted one by one, added while encrypted, opened.

What it decides: which ciphertexts are acceptable, and that a decrypted number can be the sum it
claims to be. What it does not do: put several words into one ciphertext (`packing`).

    column = encrypt(secret.public, words)               # at each node, after masking
    total = add(secret.public, [column, other_column])   # at the operator, without any secret
    words = decrypt_words(secret, total, parties=2)      # at the researcher

One word for each ciphertext: a plaintext below parties * 2^64 is far below n, so sums are exact.
"""

from collections.abc import Iterable, Sequence

import gmpy2
import numpy as np
from gmpy2 import mpz

from privacy.errors import CiphertextError, VectorError
from privacy.fixedpoint import MAX_TERMS, Words
from privacy.paillier.keys import PublicKey, SecretKey
from privacy.paillier.randomness import encryptor_for

_WORD = 1 << 64


def encrypt(public: PublicKey, words: Words) -> list[int]:
    """Encrypts each word on its own, with fresh randomness.

    Args:
        public: The receiver's key.
        words: uint64[n], masked before.

    Returns:
        n ciphertexts in [1, n²): c = (1 + n)^m * z mod n², z of `randomness`.

    Raises:
        VectorError: If `words` is not uint64[n].
    """
    if words.dtype != np.uint64 or words.ndim != 1:
        raise VectorError
    return list(encryptor_for(public).encrypt(words.tolist()))


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
    return [product(public, column) for column in zip(*columns, strict=True)]


def product(public: PublicKey, ciphertexts: Iterable[int]) -> int:
    """Returns one ciphertext of the sum of what checked ciphertexts hold; 1, a zero, for none."""
    square, total = mpz(public.n) ** 2, mpz(1)
    for one in ciphertexts:
        total = total * one % square
    return int(total)


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
    return add_plaintexts(public, ciphertexts, words.tolist())


def add_plaintexts(
    public: PublicKey, ciphertexts: Sequence[int], plaintexts: Sequence[int]
) -> list[int]:
    """Adds to what checked ciphertexts hold numbers that everybody may know, one to each."""
    n, square = mpz(public.n), mpz(public.n) ** 2
    pairs = zip(ciphertexts, plaintexts, strict=True)
    return [int((1 + n * plaintext) * one % square) for one, plaintext in pairs]


def multiply(public: PublicKey, ciphertexts: Sequence[int], weight: int) -> list[int]:
    """Multiplies what checked ciphertexts hold by one integer that everybody may know.

    Returns:
        Ciphertexts of weight * m modulo n; a negative weight gives n - |weight| * m.
    """
    square = mpz(public.n) ** 2
    return [int(gmpy2.powmod(one, weight, square)) for one in ciphertexts]


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
    words = []
    for at, total in enumerate(decrypt(secret, ciphertexts)):
        if total > parties * (_WORD - 1):
            raise CiphertextError(
                f"ciphertext {at} opens to more than the sum of {parties} contributions"
            )
        words.append(total % _WORD)
    return np.array(words, dtype=np.uint64)


def decrypt(secret: SecretKey, ciphertexts: Sequence[int]) -> list[int]:
    """Opens ciphertexts, modulo the two primes apart (Paillier 1999, section 7).

    Args:
        secret: The receiver's key.
        ciphertexts: Under that key.

    Returns:
        A number in [0, n) for each.

    Raises:
        CiphertextError: If one is not a ciphertext under this key.
    """
    check_ciphertexts(secret.public, ciphertexts)
    n, (p, q) = secret.public.n, map(mpz, secret.raw_primes())
    halves = []
    for prime in (p, q):
        # (1 + n)^(prime - 1) = 1 + (prime - 1) * n modulo prime², which L turns into this factor.
        factor = gmpy2.invert((prime - 1) * (n // prime), prime)
        square = prime * prime
        # GMP's exponentiation whose run of instructions does not depend on the secret exponent.
        raised = (gmpy2.powmod_sec(one, prime - 1, square) for one in ciphertexts)
        halves.append([(each - 1) // prime * factor % prime for each in raised])
    lift = gmpy2.invert(q, p)
    return [int(m_q + q * ((m_p - m_q) * lift % p)) for m_p, m_q in zip(*halves, strict=True)]


def check_ciphertexts(public: PublicKey, ciphertexts: Sequence[int]) -> None:
    """Checks that each is a unit modulo n², in [1, n²).

    Raises:
        CiphertextError: Naming the first position that is not.
    """
    n, square, units = mpz(public.n), mpz(public.n) ** 2, mpz(1)
    for at, ciphertext in enumerate(ciphertexts):
        if type(ciphertext) is not int or not 0 < ciphertext < square:
            raise CiphertextError(f"ciphertext {at} is not a number between 0 and n²")
        units = units * ciphertext % n
    # A product is a unit exactly when all factors are, so one slow gcd stands for all.
    if gmpy2.gcd(units, n) != 1:
        bad = [at for at, one in enumerate(ciphertexts) if gmpy2.gcd(one, n) != 1]
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
