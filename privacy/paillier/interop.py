"""The door to `phe`: keys and ciphertexts go there and come back, so either side can do a step.

What phe encrypts can be added here, and what is summed here phe can open: both speak Paillier's
scheme with g = n + 1. What this module decides: that only plain integers pass. phe writes fractions
with an exponent of its own beside the ciphertext, which no sum here would heed.

    theirs = to_phe(public, ciphertext)                  # phe.EncryptedNumber
    ciphertext = from_phe(theirs)                        # an int in [1, n²)
    raw_phe_key(secret).decrypt(theirs)                  # hands the secret to phe
"""

import phe

from privacy.errors import CiphertextError
from privacy.paillier.cipher import check_ciphertexts
from privacy.paillier.keys import PublicKey, SecretKey


def to_phe(public: PublicKey, ciphertext: int) -> phe.EncryptedNumber:
    """Returns a ciphertext as phe's encrypted integer.

    phe reads numbers beyond n - n // 3 as negative and refuses those in the middle third.

    Raises:
        CiphertextError: If it is not a ciphertext under this key.
    """
    check_ciphertexts(public, [ciphertext])
    return phe.EncryptedNumber(phe.PaillierPublicKey(public.n), ciphertext)


def from_phe(number: phe.EncryptedNumber) -> int:
    """Returns the ciphertext of phe's encrypted integer, randomised by phe if it was not yet.

    Raises:
        CiphertextError: If it stands for a fraction, or is no ciphertext under its key.
        WeakKeyError: If its key is refused.
    """
    if number.exponent != 0:
        raise CiphertextError("this encrypted number is scaled by an exponent; only integers pass")
    ciphertext = int(number.ciphertext())
    check_ciphertexts(PublicKey(int(number.public_key.n)), [ciphertext])
    return ciphertext


def raw_phe_key(secret: SecretKey) -> phe.PaillierPrivateKey:
    """Returns the secret key as phe's; phe's object can be copied, pickled and printed."""
    return phe.PaillierPrivateKey(phe.PaillierPublicKey(secret.public.n), *secret.raw_primes())
