"""Sums under a key: words are packed and encrypted, added while encrypted, and the sum is opened.

Paillier's scheme ("Public-Key Cryptosystems Based on Composite Degree Residuosity Classes",
EUROCRYPT 1999) with g = n + 1. This package is the only door to `phe`.

What it decides: which keys and ciphertexts are acceptable, and that a decrypted number can be the
sum it claims to be. What it does not do: hide one party's number from the holder of the secret
key, which opens any ciphertext that it gets to see. So nodes mask first (`privacy.masking`), and
masks cancel in the opened sum modulo 2^64.

    secret = SecretKey.generate()                                  # the researcher's
    encryptor, packing = encryptor_for(secret.public), Packing(weight=2)
    column = seal(encryptor, packing, words)                       # at each node, after masking
    total = add_columns([column, other_column])                    # at the operator, no secret
    words = open_column(secret, total)                             # at the researcher

Its modules, from below:

    keys          which moduli, how primes are drawn, a secret's file
    randomness    what hides a plaintext, in full or by short exponents from a table
    cipher        ciphertexts: added, weighted, opened, as bytes; one word in each
    packing       many words in one plaintext, and why no slot overflows
    columns       packed vectors: added, weighted, grouped, folded, opened
    totals        single totals, means and variances, linear scores
    pool          encrypting on several cores
    safe_primes   how the primes of a shared key are drawn
    threshold_key keys whose secret a dealer shares among holders
    threshold     partial decryptions, their proofs, and what a quorum opens
    interop       keys and ciphertexts to phe and back
"""

from privacy.paillier.cipher import (
    add,
    add_public,
    check_ciphertexts,
    ciphertexts_from_bytes,
    ciphertexts_to_bytes,
    decrypt_words,
    encrypt,
)
from privacy.paillier.columns import (
    PackedColumn,
    add_columns,
    add_public_words,
    fold,
    group_columns,
    open_column,
    read_signed,
    rerandomise_column,
    seal,
    weigh_columns,
)
from privacy.paillier.keys import DEFAULT_BITS, MAX_BITS, MIN_BITS, PublicKey, SecretKey
from privacy.paillier.packing import Packing
from privacy.paillier.pool import EncryptionPool
from privacy.paillier.randomness import Encryptor, encryptor_for
from privacy.paillier.threshold import (
    PartialDecryption,
    Quorum,
    decrypt_partially,
    open_column_together,
)
from privacy.paillier.threshold_key import (
    KeyShare,
    ThresholdKey,
    deal,
    is_shared,
    named_holders,
    public_half,
)
from privacy.paillier.totals import (
    LinearModel,
    Moments,
    decode_moments,
    encode_moments,
    open_total,
    seal_for_total,
)

__all__ = [
    "DEFAULT_BITS",
    "MAX_BITS",
    "MIN_BITS",
    "EncryptionPool",
    "Encryptor",
    "KeyShare",
    "LinearModel",
    "Moments",
    "PackedColumn",
    "Packing",
    "PartialDecryption",
    "PublicKey",
    "Quorum",
    "SecretKey",
    "ThresholdKey",
    "add",
    "add_columns",
    "add_public",
    "add_public_words",
    "check_ciphertexts",
    "ciphertexts_from_bytes",
    "ciphertexts_to_bytes",
    "deal",
    "decode_moments",
    "decrypt_partially",
    "decrypt_words",
    "encode_moments",
    "encrypt",
    "encryptor_for",
    "fold",
    "group_columns",
    "is_shared",
    "named_holders",
    "open_column",
    "open_column_together",
    "open_total",
    "public_half",
    "read_signed",
    "rerandomise_column",
    "seal",
    "seal_for_total",
    "weigh_columns",
]
