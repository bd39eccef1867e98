"""Turns a secret and a list of names into one key, and a key into one stream of words.

What it decides: how fields are joined, so that no two lists of fields give the same bytes, and
which cipher makes a stream. What it does not do: judge a secret, or notice that a key is used for
a second stream; both are the business of its callers, who bind each key to one use.

    key = derive_key(shared, [b"rongshu/mask/v1", context, id_bytes("a"), id_bytes("b")])
    words = keystream(key, 1000)

HKDF-SHA-256 (RFC 5869) without salt; ChaCha20 (RFC 8439) read as little-endian 64-bit words. Each
field is preceded by its length as eight big-endian bytes.
"""

from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.errors import MaskError
from privacy.fixedpoint import Words

KEY_BYTES = 32
"""Length of every key, seed and secret of the masks: 256 bits."""


def derive_key(secret: bytes, fields: Sequence[bytes]) -> bytes:
    """Returns 32 bytes for exactly this use of a secret.

    Args:
        secret: A shared secret or a seed; at least 128 bits of it unpredictable.
        fields: What the key is for: a namespace first, then everything it is bound to.
    """
    hkdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=prefixed(fields))
    return hkdf.derive(secret)


def keystream(key: bytes, length: int) -> Words:
    """Returns the key's one stream, uint64[length]."""
    # The key makes one stream only, so a fixed nonce (and counter 0) repeats nothing.
    encryptor = Cipher(ChaCha20(key, nonce=bytes(16)), mode=None).encryptor()
    return np.frombuffer(encryptor.update(bytes(8 * length)), dtype="<u8").astype(np.uint64)


def id_bytes(name: str) -> bytes:
    """Returns a non-empty id as UTF-8.

    Raises:
        MaskError: If it is empty or no valid text.
    """
    try:
        encoded = name.encode()
    except UnicodeEncodeError as error:
        raise MaskError("an id is not valid text") from error
    if not encoded:
        raise MaskError("an id is empty")
    return encoded


def prefixed(fields: Sequence[bytes]) -> bytes:
    """Joins fields so that no other list of fields gives the same bytes."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in fields)
