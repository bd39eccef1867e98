"""Pairwise masks that hide each party's vector and cancel in the sum of all.

Every two parties agree on a secret stream of words; the party whose id sorts first adds it, the
other subtracts it. Whoever lacks one party's vector is left with streams that look random. The
construction is that of Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving
Machine Learning" (CCS 2017), section 4.1, without its dropout recovery.

What it decides: that a mask is worth having (fresh-looking, distinct, full-order keys, and at least
one other party). What it does not do: authenticate the peers' public keys, which the caller takes
from statements signed by ledger keys; recover from a party that drops out; or notice a reused key.
**A `MaskKey` serves one round of one attempt.** Under the same keys and context two vectors carry
the same mask, and their difference is the plain difference.

    own = MaskKey.generate()
    context = mask_context(job, attempt=1, round_number=3, cohort=["a", "b", "c"])
    reply = mask(vector, own_id="a", own=own, peers={"b": pub_b, "c": pub_c}, context=context)
    total = add([reply, reply_of_b, reply_of_c])         # equals the sum of the plain vectors

The stream for a pair: X25519 (RFC 7748) -> HKDF-SHA-256 (RFC 5869) -> ChaCha20 (RFC 8439), read as
little-endian 64-bit words. The HKDF info is the label, the context, both ids in order and both
public keys in the order of their ids, each preceded by its length as eight big-endian bytes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from privacy.derivation import KEY_BYTES, derive_key, id_bytes, keystream, prefixed
from privacy.errors import MaskError, MaskKeyError, VectorError
from privacy.fixedpoint import Words
from privacy.secure_random import random_bytes

MASK_NAMESPACE = "rongshu/mask/v1"
CONTEXT_NAMESPACE = "rongshu/mask-context/v1"

MAX_WORDS = 1 << 31
"""Longest vector: 16 GiB, below the 2^32 blocks after which a ChaCha20 counter would repeat."""

_FIELD_PRIME = 2**255 - 19


@dataclass(frozen=True, eq=False)
class MaskKey:
    """An X25519 key for one round. Make it with `generate`; its repr hides the secret.

    Attributes:
        public: The 32 bytes that peers need.
    """

    public: bytes
    _secret: X25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> "MaskKey":
        """Returns a fresh key."""
        secret = X25519PrivateKey.from_private_bytes(random_bytes(KEY_BYTES))
        return cls(public=secret.public_key().public_bytes_raw(), _secret=secret)

    def __reduce__(self) -> NoReturn:
        """Refuses pickling and copying: a mask key lives in one process, for one round.

        Raises:
            MaskError: Always.
        """
        raise MaskError("a mask key cannot be copied or pickled")


def mask(
    vector: Words,
    *,
    own_id: str,
    own: MaskKey,
    peers: Mapping[str, bytes],
    context: bytes,
) -> Words:
    """Hides a vector so that only the sum over all parties shows anything.

    Args:
        vector: uint64[n].
        own_id: This party's id.
        own: This party's key for this round.
        peers: Public key of every other party of the cohort, by id.
        context: From `mask_context`; the same at every party.

    Returns:
        uint64[n], a new array: vector + sum of streams with later ids - sum with earlier ids,
        modulo 2^64.

    Raises:
        VectorError: If `vector` is not uint64[n].
        MaskError: If there is no peer, an id is empty or one's own, or the context is empty.
        MaskKeyError: If a peer's key is malformed, of small order, one's own, or another peer's.
    """
    _check_vector(vector)
    if not context:
        raise MaskError("a mask needs a context, or it would be the same in every round")
    if not peers:
        raise MaskError("a lone party has nothing to hide behind; at least two are needed")
    if own_id in peers:
        raise MaskError(f"party {own_id!r} is among its own peers; its masks would not cancel")
    _check_keys(own.public, peers)
    masked = vector.copy()
    for peer_id in sorted(peers):
        stream = _stream(own_id, own, peer_id, peers[peer_id], context, len(vector))
        # Of each pair exactly one adds and one subtracts, so that the stream cancels.
        if own_id < peer_id:
            masked += stream
        else:
            masked -= stream
    return masked


def _check_vector(vector: Words) -> None:
    """Raises VectorError unless `vector` is uint64[n] with n at most MAX_WORDS."""
    if vector.dtype != np.uint64 or vector.ndim != 1 or len(vector) > MAX_WORDS:
        raise VectorError


def _check_keys(own_public: bytes, peers: Mapping[str, bytes]) -> None:
    """Raises MaskKeyError unless all keys are canonical and distinct.

    Two parties with one key share every stream with each third party, and whoever holds that key
    could take both places. X25519 ignores the top bit and reduces modulo 2^255 - 19, so a second
    spelling of a key would pass for another one: only canonical bytes are taken.
    """
    owners = {own_public: "this party"}
    for peer_id, public in peers.items():
        if len(public) != KEY_BYTES or int.from_bytes(public, "little") >= _FIELD_PRIME:
            raise MaskKeyError(f"party {peer_id!r} sent a malformed mask key")
        if public in owners:
            raise MaskKeyError(f"party {peer_id!r} sent the mask key of {owners[public]}")
        owners[public] = f"party {peer_id!r}"


def _stream(
    own_id: str, own: MaskKey, peer_id: str, peer_public: bytes, context: bytes, length: int
) -> Words:
    """Returns the pair's secret stream, uint64[length]: the same at both ends."""
    try:
        shared = own._secret.exchange(X25519PublicKey.from_public_bytes(peer_public))  # noqa: SLF001
    except ValueError as error:
        # A point of small order: the shared secret is zero, whatever our secret is.
        raise MaskKeyError(f"party {peer_id!r} sent a mask key of small order") from error
    (first, first_key), (second, second_key) = sorted(
        [(own_id, own.public), (peer_id, peer_public)]
    )
    fields = [
        MASK_NAMESPACE.encode(),
        context,
        id_bytes(first),
        id_bytes(second),
        first_key,
        second_key,
    ]
    return keystream(derive_key(shared, fields), length)


def add(vectors: Sequence[Words]) -> Words:
    """Returns the sum modulo 2^64; masks of a complete cohort cancel in it.

    Args:
        vectors: At least one uint64[n], all of the same n.

    Returns:
        uint64[n], a new array.

    Raises:
        VectorError: If there is none, one is not a word vector, or lengths differ.
    """
    if not vectors:
        raise VectorError("there is no contribution to add")
    for vector in vectors:
        _check_vector(vector)
    total = vectors[0].copy()
    for at, vector in enumerate(vectors):
        if len(vector) != len(total):
            raise VectorError(
                f"contribution {at} has {len(vector)} words where the first has {len(total)}"
            )
        if at:
            total += vector
    return total


def mask_context(job: str, attempt: int, round_number: int, cohort: Sequence[str]) -> bytes:
    """Returns 32 bytes that stand for one round of one attempt at one job by one exact cohort.

    The order of `cohort` does not matter. The digest is SHA-256 over the namespace, job, attempt,
    round, size of the cohort and its ids in order, each length-prefixed, so no two rounds collide.

    Args:
        job: The job's id.
        attempt: From 0; another try at the same round gets other masks.
        round_number: From 0.
        cohort: Ids of all parties, own included.

    Raises:
        MaskError: If a number is negative, an id is empty or not text, or repeated, or there are
            fewer than two parties.
    """
    for name, number in (("attempt", attempt), ("round", round_number)):
        if type(number) is not int or not 0 <= number < 1 << 63:
            raise MaskError(f"the {name} number must be a non-negative integer")
    if len(cohort) < 2:
        raise MaskError("a cohort has at least two parties")
    if len(set(cohort)) != len(cohort):
        raise MaskError("a party stands twice in the cohort")
    fields = [
        CONTEXT_NAMESPACE.encode(),
        id_bytes(job),
        attempt.to_bytes(8, "big"),
        round_number.to_bytes(8, "big"),
        len(cohort).to_bytes(8, "big"),
        *(id_bytes(party) for party in sorted(cohort)),
    ]
    return hashlib.sha256(prefixed(fields)).digest()
