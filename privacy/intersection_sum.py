"""The sum of the sender's values over the names that both parties have: join and compute.

The sender encrypts one value for each of its names and sends the ciphertexts in the order of its
offered points. The receiver, who knows which of those points are matched but not whose they are,
adds their ciphertexts and hides which ones by a fresh encryption of zero. The holder of the secret
key opens the sum. It is the protocol of Ion et al., "On Deploying Secure Computing: Private
Intersection-Sum-with-Cardinality" (IEEE Euro S&P 2020), section 4.1, over `privacy.intersection`.

    scale = ValueScale.plan(agreement, bound=120_000)            # largest magnitude of a value
    cells = encrypt_values(sender, values, scale, public)        # at the sender, after its offer
    total = add_matched(receiver, cells, public)                 # at the receiver, after finish
    amount = open_sum(secret, total, size=size, scale=scale)     # at the key's holder

What it decides: that the sum cannot overflow, that there is one value for each name, and that no
ciphertext of a single value leaves the receiver. What it does not do: say whose the key is. It may
be the sender's, or a third party's; the receiver's it must not be, for who adds up would open each
value. Values are shifted by the bound before they are encrypted, so that all are positive: with
numbers modulo 2^64, the opened sum would tell how many were negative.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from privacy.errors import OutOfRangeError, OverflowRefusedError, SetSizeError
from privacy.intersection import Agreement, Receiver, Sender
from privacy.paillier import PublicKey, SecretKey, add, decrypt_words, encrypt

_WORD = 1 << 64


@dataclass(frozen=True)
class ValueScale:
    """The agreed range of the values. Make it with `plan`.

    Attributes:
        bound: Largest magnitude of a value, in the column's own integer unit (cents, days).
    """

    bound: int

    @classmethod
    def plan(cls, agreement: Agreement, *, bound: int) -> "ValueScale":
        """Returns the scale, if no sum under this agreement can overflow.

        Raises:
            OverflowRefusedError: Unless 1 <= bound, and 2 * bound times the size of the smaller set
                stays below 2^64.
        """
        most = min(agreement.receiver_size, agreement.sender_size)
        if bound < 1 or 2 * bound * most >= _WORD:
            raise OverflowRefusedError(
                f"no sum over up to {most} names under this bound fits 64 bits; change the unit"
            )
        return cls(bound)


def encrypt_values(
    sender: Sender, values: Sequence[int], scale: ValueScale, public: PublicKey
) -> list[int]:
    """Encrypts the sender's values.

    Args:
        sender: After its offer.
        values: One for each of its names, in the order of the names.
        scale: As agreed.
        public: The key of who learns the sum; not the receiver's.

    Returns:
        One ciphertext for each point of the offer, in its order.

    Raises:
        StepError: Before the offer.
        SetSizeError: If there are more or fewer values than names.
        OutOfRangeError: Naming the first position whose value is no integer within the bound.
    """
    for at, value in enumerate(values):
        if type(value) is not int or abs(value) > scale.bound:
            raise OutOfRangeError(f"the value at position {at} is no integer within the bound")
    shifted = [value + scale.bound for value in sender.in_offered_order(values)]
    return encrypt(public, np.array(shifted, dtype=np.uint64))


def add_matched(receiver: Receiver, ciphertexts: Sequence[int], public: PublicKey) -> int:
    """Adds the ciphertexts of the names that both have.

    Args:
        receiver: After its end.
        ciphertexts: What `encrypt_values` returned at the sender, unverified.
        public: The key that they are under.

    Returns:
        One ciphertext, which tells its holder the sum alone: a fresh encryption of zero is in it,
        without which the sender could try out which of its own ciphertexts make the product.

    Raises:
        StepError: Before the end, or where no sum was agreed.
        SetSizeError: If there is not one ciphertext for each point.
        CiphertextError: If one is malformed.
    """
    matched = receiver.matched_points()
    if len(ciphertexts) != receiver.agreement.sender_size:
        raise SetSizeError(
            f"{len(ciphertexts)} ciphertexts for {receiver.agreement.sender_size} points; "
            "one for each is needed"
        )
    zero = encrypt(public, np.zeros(1, dtype=np.uint64))
    return add(public, [zero, *([ciphertexts[at]] for at in matched)])[0]


def open_sum(secret: SecretKey, ciphertext: int, *, size: int, scale: ValueScale) -> int:
    """Opens the sum.

    Args:
        secret: Of the key that the values are under.
        ciphertext: What `add_matched` returned at the receiver.
        size: How many names both have, which both parties say.
        scale: As agreed.

    Raises:
        CiphertextError: If it is malformed, or opens to no sum.
        OutOfRangeError: If it opens to no sum of as many values.
    """
    shifted = int(decrypt_words(secret, [ciphertext], parties=1)[0])
    if shifted > 2 * scale.bound * size:
        raise OutOfRangeError(f"the opened number is no sum of {size} values within the bound")
    return shifted - scale.bound * size
