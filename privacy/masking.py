"""Masks that hide each party's vector, and cancel or can be taken off in the sum of all.

Every two parties agree on a secret stream of words; the party whose id sorts first adds it, the
other subtracts it. Whoever lacks one party's vector is left with streams that look random. The
construction is that of Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving
Machine Learning" (CCS 2017), section 4. Where parties may drop out, each adds a second mask, from a
seed of its own; `privacy.recovery` takes off what is left of both kinds.

What it decides: that a mask is worth having (fresh-looking, distinct, full-order keys, and at least
one other party). What it does not do: authenticate the peers' public keys, which the caller takes
from statements signed by ledger keys; recover from a party that drops out; or notice a reused key.
**A `MaskKey` and a seed serve one round of one attempt.** Under the same keys and context two
vectors carry the same mask, and their difference is the plain difference.

    own = MaskKey.generate()
    context = mask_context(job, attempt=1, round_number=3, cohort=["a", "b", "c"])
    reply = mask(vector, own_id="a", own=own, peers={"b": pub_b, "c": pub_c}, context=context)
    total = add([reply, reply_of_b, reply_of_c])         # equals the sum of the plain vectors

The stream for a pair: X25519 (RFC 7748) -> HKDF-SHA-256 (RFC 5869) -> ChaCha20 (RFC 8439), read as
little-endian 64-bit words. The HKDF info is the label, the context, both ids in order and both
public keys in the order of their ids, each preceded by its length as eight big-endian bytes. The
stream of a seed is made in the same way, of the seed, its own label, the context and the id.
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
SELF_MASK_NAMESPACE = "rongshu/self-mask/v1"
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
        return cls.from_secret(random_bytes(KEY_BYTES))

    @classmethod
    def from_secret(cls, secret: bytes) -> "MaskKey":
        """Returns the key with these secret bytes, as they come out of `shamir.combine`.

        Whose key it is, the public half tells: compare it with the one that the party signed.

        Args:
            secret: 32 bytes.

        Raises:
            MaskError: If there are more or fewer.
        """
        if len(secret) != KEY_BYTES:
            raise MaskError(f"the secret of a mask key has {KEY_BYTES} bytes, not {len(secret)}")
        private = X25519PrivateKey.from_private_bytes(secret)
        return cls(public=private.public_key().public_bytes_raw(), _secret=private)

    def raw_secret_bytes(self) -> bytes:
        """Returns the 32 secret bytes. Dangerous: they are to be split into shares and forgotten.

        Whoever has them can take this party's pairwise masks off, in this round.
        """
        return self._secret.private_bytes_raw()

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
    seed: bytes | None = None,
) -> Words:
    """Hides a vector so that only the sum over all parties shows anything.

    Without a seed, whoever gets this party's mask key reads its vector. So where mask keys are
    shared for recovery, a seed is a must: a party that is only late is taken for a dropped one.

    Args:
        vector: uint64[n].
        own_id: This party's id.
        own: This party's key for this round.
        peers: Public key of every other party of the cohort, by id.
        context: From `mask_context`; the same at every party.
        seed: 32 fresh random bytes for the self mask of this round, or None for none. With one,
            the sum has to be opened by `recovery.unmask`, also when all parties are there.

    Returns:
        uint64[n], a new array: vector + pairwise mask + self mask, modulo 2^64.

    Raises:
        VectorError: If `vector` is not uint64[n].
        MaskError: If there is no peer, an id is empty or one's own, the context is empty, or the
            seed has another length.
        MaskKeyError: If a peer's key is malformed, of small order, one's own, or another peer's.
    """
    check_vector(vector)
    masked = pairwise_mask(len(vector), own_id=own_id, own=own, peers=peers, context=context)
    masked += vector
    if seed is not None:
        masked += self_mask(len(vector), seed=seed, owner=own_id, context=context)
    return masked


def pairwise_mask(
    length: int, *, own_id: str, own: MaskKey, peers: Mapping[str, bytes], context: bytes
) -> Words:
    """Returns what a party adds for its peers.

    Args:
        length: Number of words.
        own_id: The party's id.
        own: Its key.
        peers: Public key of each peer, by id.
        context: From `mask_context`.

    Returns:
        uint64[length]: sum of streams with later ids - sum with earlier ids, modulo 2^64.

    Raises:
        VectorError: If no vector has this length.
        MaskError: As for `mask`.
        MaskKeyError: As for `mask`.
    """
    check_length(length)
    _check_context(context)
    if not peers:
        raise MaskError("a lone party has nothing to hide behind; at least two are needed")
    if own_id in peers:
        raise MaskError(f"party {own_id!r} is among its own peers; its masks would not cancel")
    _check_keys(own.public, peers)
    total = np.zeros(length, np.uint64)
    for peer_id in sorted(peers):
        stream = _stream(own_id, own, peer_id, peers[peer_id], context, length)
        # Of each pair exactly one adds and one subtracts, so that the stream cancels.
        if own_id < peer_id:
            total += stream
        else:
            total -= stream
    return total


def self_mask(length: int, *, seed: bytes, owner: str, context: bytes) -> Words:
    """Returns what a party adds for itself.

    Args:
        length: Number of words.
        seed: Its 32 random bytes for this round.
        owner: Its id.
        context: From `mask_context`.

    Returns:
        uint64[length]: the stream of the seed.

    Raises:
        VectorError: If no vector has this length.
        MaskError: If the seed has another length, or id or context are empty.
    """
    check_length(length)
    check_seed(seed)
    _check_context(context)
    fields = [SELF_MASK_NAMESPACE.encode(), context, id_bytes(owner)]
    return keystream(derive_key(seed, fields), length)


def check_seed(seed: bytes) -> bytes:
    """Returns the seed of a self mask, or raises MaskError unless it has 32 bytes."""
    if len(seed) != KEY_BYTES:
        raise MaskError(f"the seed of a self mask has {KEY_BYTES} bytes, not {len(seed)}")
    return seed


def check_length(length: int) -> None:
    """Raises VectorError unless some vector has this length."""
    if type(length) is not int or not 0 <= length <= MAX_WORDS:
        raise VectorError(f"no contribution has {length} words")


def _check_context(context: bytes) -> None:
    """Raises MaskError unless there is a context."""
    if not context:
        raise MaskError("a mask needs a context, or it would be the same in every round")


def check_vector(vector: Words) -> None:
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
            raise MaskKeyError(f"party {peer_id!r} sent a malformed mask key", party=peer_id)
        if public in owners:
            raise MaskKeyError(
                f"party {peer_id!r} sent the mask key of {owners[public]}", party=peer_id
            )
        owners[public] = f"party {peer_id!r}"


def _stream(
    own_id: str, own: MaskKey, peer_id: str, peer_public: bytes, context: bytes, length: int
) -> Words:
    """Returns the pair's secret stream, uint64[length]: the same at both ends."""
    try:
        shared = own._secret.exchange(X25519PublicKey.from_public_bytes(peer_public))  # noqa: SLF001
    except ValueError as error:
        # A point of small order: the shared secret is zero, whatever our secret is.
        raise MaskKeyError(
            f"party {peer_id!r} sent a mask key of small order", party=peer_id
        ) from error
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
        check_vector(vector)
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
