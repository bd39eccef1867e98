"""Seals what one party deals to another: one share of its mask key and one of its seed.

The operator carries the box and must not look inside. It is the second step of figure 4 of
Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning" (CCS 2017).

What it decides: that a box was made by whoever holds the sender's key, for this receiver, and for
this context. What it does not do: authenticate the public keys, which the caller takes from
statements signed by ledger keys; or tell whether the shares are good ones, which shows when they
are combined. **A `ShareKey` serves one round of one attempt and is never a `MaskKey`**: a mask key
may be put together by the others, and would then open every box of its owner.

    own = ShareKey.generate()
    box = seal(SharePair(mask_key=share, seed=other), sender="a", own=own, receiver="b",
               peer_public=public_of_b, context=context)
    pair = open_(box, sender="a", peer_public=public_of_a, receiver="b", own=own_of_b,
                 context=context)                               # at b

The key of a box: X25519 (RFC 7748) -> HKDF-SHA-256 (RFC 5869), bound to label, context, sender,
receiver and both public keys in this order; then ChaCha20-Poly1305 (RFC 8439) with a random nonce.
A box is the nonce, then the ciphertext of the share of the mask key and that of the seed.
"""

from dataclasses import dataclass, field
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from privacy.derivation import KEY_BYTES, derive_key, id_bytes
from privacy.errors import SealedShareError, ShareError
from privacy.secure_random import random_bytes
from privacy.shamir import SHARE_BYTES

SEALED_NAMESPACE = "rongshu/sealed-shares/v1"

_NONCE_BYTES = 12
_TAG_BYTES = 16

BOX_BYTES = _NONCE_BYTES + 2 * SHARE_BYTES + _TAG_BYTES


@dataclass(frozen=True, eq=False)
class ShareKey:
    """An X25519 key that boxes of shares are made with, for one round. Its repr hides the secret.

    Attributes:
        public: The 32 bytes that peers need.
    """

    public: bytes
    _secret: X25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> "ShareKey":
        """Returns a fresh key."""
        secret = X25519PrivateKey.from_private_bytes(random_bytes(KEY_BYTES))
        return cls(public=secret.public_key().public_bytes_raw(), _secret=secret)

    def __reduce__(self) -> NoReturn:
        """Refuses pickling and copying: a share key lives in one process, for one round.

        Raises:
            ShareError: Always.
        """
        raise ShareError("a share key cannot be copied or pickled")


@dataclass(frozen=True)
class SharePair:
    """What one party deals to one holder. A holder reveals one of the two, never both.

    Attributes:
        mask_key: Share of the dealer's secret mask key, revealed when the dealer dropped out.
        seed: Share of the dealer's seed, revealed when the dealer contributed.

    Raises:
        ShareError: If one has not the length of a share.
    """

    mask_key: bytes = field(repr=False)
    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        for share in (self.mask_key, self.seed):
            if len(share) != SHARE_BYTES:
                raise ShareError(f"a share of {len(share)} bytes is refused; it has {SHARE_BYTES}")


def seal(
    pair: SharePair,
    *,
    sender: str,
    own: ShareKey,
    receiver: str,
    peer_public: bytes,
    context: bytes,
) -> bytes:
    """Seals a pair of shares for one receiver.

    Args:
        pair: What the receiver is dealt.
        sender: This party's id.
        own: This party's share key for this round.
        receiver: The receiver's id.
        peer_public: The receiver's public share key for this round, 32 bytes.
        context: 32 bytes of `masking.mask_context` for the parties that sent keys.

    Returns:
        A box of BOX_BYTES. Another call gives another box.

    Raises:
        ShareError: If sender and receiver are the same, or the context is empty.
        SealedShareError: If the receiver's key is malformed, of small order or one's own.
        MaskError: If an id is empty.
    """
    shared = _agree(own, receiver, peer_public)
    key = _box_key(shared, (sender, own.public), (receiver, peer_public), context)
    # Random, so that a second box under the same keys does not uncover both.
    nonce = random_bytes(_NONCE_BYTES)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, pair.mask_key + pair.seed, None)


def open_(
    box: bytes,
    *,
    sender: str,
    peer_public: bytes,
    receiver: str,
    own: ShareKey,
    context: bytes,
) -> SharePair:
    """Opens a box that `seal` made for this party.

    Args:
        box: As it was carried.
        sender: Id of the party that is said to have sealed it.
        peer_public: That party's public share key for this round, 32 bytes.
        receiver: This party's id.
        own: This party's share key for this round.
        context: As it was sealed for.

    Returns:
        The pair of shares.

    Raises:
        SealedShareError: If it was changed, or made by or for another party or another context,
            or the sender's key is malformed, of small order or one's own; `party` is the sender.
        ShareError: If sender and receiver are the same, or the context is empty.
        MaskError: If an id is empty.
    """
    if len(box) != BOX_BYTES:
        raise SealedShareError(
            f"{sender!r} sent a box of {len(box)} bytes; it has {BOX_BYTES}", party=sender
        )
    shared = _agree(own, sender, peer_public)
    key = _box_key(shared, (sender, peer_public), (receiver, own.public), context)
    try:
        plain = ChaCha20Poly1305(key).decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], None)
    except InvalidTag:
        raise SealedShareError(
            f"the shares from {sender!r} do not open: they were changed, or sealed by or for "
            "another party or another round",
            party=sender,
        ) from None
    return SharePair(mask_key=plain[:SHARE_BYTES], seed=plain[SHARE_BYTES:])


def _agree(own: ShareKey, peer: str, peer_public: bytes) -> bytes:
    """Returns the secret shared with a peer, or raises SealedShareError naming it."""
    if peer_public == own.public:
        raise SealedShareError(f"{peer!r} sent this party's own share key", party=peer)
    try:
        return own._secret.exchange(X25519PublicKey.from_public_bytes(peer_public))  # noqa: SLF001
    except ValueError as error:
        # Not 32 bytes, or a point of small order, with which the shared secret would be zero.
        raise SealedShareError(
            f"{peer!r} sent a share key that is malformed or of small order", party=peer
        ) from error


def _box_key(
    shared: bytes, sender: tuple[str, bytes], receiver: tuple[str, bytes], context: bytes
) -> bytes:
    """Returns the key of a box from one party to another, each an id and a public key."""
    if not context:
        raise ShareError("a box needs a context, or it could be opened in every round")
    if sender[0] == receiver[0]:
        raise ShareError(f"{sender[0]!r} seals nothing for itself")
    fields = [
        SEALED_NAMESPACE.encode(),
        context,
        id_bytes(sender[0]),
        id_bytes(receiver[0]),
        sender[1],
        receiver[1],
    ]
    return derive_key(shared, fields)
