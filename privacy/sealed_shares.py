"""Seals what one party deals to another: one share of its mask key and one of its seed.

The operator carries the box and must not look inside. It is the second step of figure 4 of
Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning" (CCS 2017).

What it decides: that a box was made by whoever holds the sender's key, for this receiver, and for
this context (`privacy.sealed_box`). What it does not do: authenticate the public keys, which the
caller takes from statements signed by ledger keys; or tell whether the shares are good ones, which
shows when they are combined. **A `ShareKey` serves one round of one attempt and is never a
`MaskKey`**: a mask key may be put together by the others, and would then open every box of its
owner.

    own = ShareKey.generate()
    box = seal(SharePair(mask_key=share, seed=other), sender="a", own=own, receiver="b",
               peer_public=public_of_b, context=context)
    pair = open_(box, sender="a", peer_public=public_of_a, receiver="b", own=own_of_b,
                 context=context)                               # at b

A box holds the share of the mask key, then that of the seed.
"""

from dataclasses import dataclass, field

from privacy import sealed_box
from privacy.errors import BoxError, SealedShareError, ShareError, UnopenedError
from privacy.sealed_box import BoxKey, Ends
from privacy.shamir import SHARE_BYTES

SEALED_NAMESPACE = "rongshu/sealed-shares/v1"

BOX_BYTES = sealed_box.OVERHEAD_BYTES + 2 * SHARE_BYTES


class ShareKey(BoxKey):
    """An X25519 key that boxes of shares are made with, for one round."""


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
        SealedShareError: If sender and receiver are the same, the context is empty, or the
            receiver's key is malformed, of small order or one's own.
        MaskError: If an id is empty.
    """
    try:
        ends = Ends(sender, receiver, context)
        return sealed_box.seal(SEALED_NAMESPACE, pair.mask_key + pair.seed, ends, own, peer_public)
    except BoxError as error:
        raise SealedShareError(str(error), party=error.party) from error


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
        SealedShareError: If it was changed, or made by or for another party or another context;
            otherwise as `seal` of the sender's key. `party` is the sender.
        MaskError: If an id is empty.
    """
    if len(box) != BOX_BYTES:
        raise SealedShareError(
            f"{sender!r} sent a box of {len(box)} bytes; it has {BOX_BYTES}", party=sender
        )
    try:
        ends = Ends(sender, receiver, context)
        plain = sealed_box.open_(SEALED_NAMESPACE, box, ends, own, peer_public)
    except UnopenedError:
        raise SealedShareError(
            f"the shares from {sender!r} do not open: they were changed, or sealed by or for "
            "another party or another round",
            party=sender,
        ) from None
    except BoxError as error:
        raise SealedShareError(str(error), party=error.party) from error
    return SharePair(mask_key=plain[:SHARE_BYTES], seed=plain[SHARE_BYTES:])
