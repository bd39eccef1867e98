"""Seals bytes from one party to another; whoever carries them neither reads nor changes them.

What it decides: that a box was made by whoever holds the sender's key, for this receiver, and for
this context. What it does not do: authenticate the public keys, which the caller takes from
statements signed by ledger keys; hide how long the content is; or notice a box that is carried
twice. So a context names one use: `privacy.sealed_shares` binds one round of masks,
`federated.channel` one round of one attempt at a job.

    own = BoxKey.generate()
    ends = Ends("a", "b", context)
    box = seal(NAMESPACE, plain, ends, own, public_of_b)
    plain = open_(NAMESPACE, box, ends, own_of_b, public_of_a)            # at b

The key of a box: X25519 (RFC 7748) -> HKDF-SHA-256 (RFC 5869), bound to namespace, context, sender,
receiver and both public keys in this order; then ChaCha20-Poly1305 (RFC 8439) with a random nonce.
A box is the nonce, then the ciphertext. It is authenticated by a key that both ends have, so each
of the two knows who made it, and neither can show that to a third.
"""

from dataclasses import dataclass, field
from typing import NoReturn, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from privacy.derivation import KEY_BYTES, derive_key, id_bytes
from privacy.errors import BoxError, UnopenedError
from privacy.secure_random import random_bytes

NONCE_BYTES = 12
OVERHEAD_BYTES = NONCE_BYTES + 16
"""What a box is longer than its content: nonce and tag."""


@dataclass(frozen=True, eq=False)
class BoxKey:
    """An X25519 key that boxes are made with, for one use. Its repr hides the secret.

    Attributes:
        public: The 32 bytes that peers need.
    """

    public: bytes
    _secret: X25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """Returns a fresh key."""
        secret = X25519PrivateKey.from_private_bytes(random_bytes(KEY_BYTES))
        return cls(public=secret.public_key().public_bytes_raw(), _secret=secret)

    def __reduce__(self) -> NoReturn:
        """Refuses pickling and copying: the key lives in one process, for one use.

        Raises:
            BoxError: Always.
        """
        raise BoxError("a key for sealed boxes cannot be copied or pickled")

    def agree(self, peer: str, peer_public: bytes) -> bytes:
        """Returns the secret shared with a peer.

        Raises:
            BoxError: If the peer's key is malformed, of small order or one's own; `party` is it.
        """
        if peer_public == self.public:
            raise BoxError(f"{peer!r} sent this party's own key", party=peer)
        try:
            return self._secret.exchange(X25519PublicKey.from_public_bytes(peer_public))
        except ValueError as error:
            # Not 32 bytes, or a point of small order, with which the shared secret would be zero.
            raise BoxError(
                f"{peer!r} sent a key that is malformed or of small order", party=peer
            ) from error


@dataclass(frozen=True)
class Ends:
    """From whom to whom a box goes, and for what.

    Attributes:
        sender: Id of the party that seals.
        receiver: Id of the party that opens.
        context: Names one use; not empty.

    Raises:
        BoxError: If both are the same, or the context is empty: the box could be opened anywhere.
    """

    sender: str
    receiver: str
    context: bytes

    def __post_init__(self) -> None:
        if not self.context:
            raise BoxError("a box needs a context, or it could be opened in every use")
        if self.sender == self.receiver:
            raise BoxError(f"{self.sender!r} seals nothing for itself")


def seal(namespace: str, plain: bytes, ends: Ends, own: BoxKey, peer_public: bytes) -> bytes:
    """Seals bytes for one receiver.

    Args:
        namespace: What kind of content it is: a box of one kind is never one of another.
        plain: What the receiver is to get.
        ends: From whom to whom.
        own: The sender's key.
        peer_public: The receiver's public key, 32 bytes.

    Returns:
        A box, OVERHEAD_BYTES longer than `plain`. Another call gives another box.

    Raises:
        BoxError: If the receiver's key is malformed, of small order or the sender's own.
        MaskError: If an id is empty.
    """
    shared = own.agree(ends.receiver, peer_public)
    key = _box_key(namespace, shared, ends, (own.public, peer_public))
    # Random, so that a second box under the same keys does not uncover both.
    nonce = random_bytes(NONCE_BYTES)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, plain, None)


def open_(namespace: str, box: bytes, ends: Ends, own: BoxKey, peer_public: bytes) -> bytes:
    """Opens a box that `seal` made for this party.

    Args:
        namespace: As it was sealed under.
        box: As it was carried.
        ends: From whom to whom, and for what, it is said to be.
        own: The receiver's key.
        peer_public: The sender's public key, 32 bytes.

    Returns:
        The content.

    Raises:
        UnopenedError: If it was changed, or made by or for another party or another use; `party` is
            the sender.
        BoxError: If the sender's key is malformed, of small order or the receiver's own.
        MaskError: If an id is empty.
    """
    shared = own.agree(ends.sender, peer_public)
    key = _box_key(namespace, shared, ends, (peer_public, own.public))
    try:
        return ChaCha20Poly1305(key).decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], None)
    except (InvalidTag, ValueError):
        # ValueError: shorter than a nonce.
        raise UnopenedError(
            f"what {ends.sender!r} is said to have sealed does not open", party=ends.sender
        ) from None


def _box_key(namespace: str, shared: bytes, ends: Ends, publics: tuple[bytes, bytes]) -> bytes:
    """Returns the key of a box; `publics` are the sender's and the receiver's."""
    names = (id_bytes(ends.sender), id_bytes(ends.receiver))
    return derive_key(shared, [namespace.encode(), ends.context, *names, *publics])
