"""Opening under a key that holders share: each makes a partial decryption, any few combine.

Damgård and Jurik (PKC 2001, section 4.1), with s = 1; words and secrets as in `threshold_key`.

    partial = decrypt_partially(share, column.ciphertexts)        # at each of two holders
    words = open_column_together(Quorum(key, (partial, other)), column)   # at the buyer

A holder raises c to c_i = c^(2 * delta * s_i). Whoever has the c_i of `threshold` holders computes
the product of c_i^(2 * l_i), l_i being delta times Lagrange's coefficients at 0, which is
c^(4 * delta² * d) = (1 + n)^(4 * delta² * M), and so M.

With each c_i comes a proof that it was made with the very share that v_i was made from: equality
of the logarithms of c_i² to the base c⁴ and of v_i to the base v, both delta * s_i, made
non-interactive by a hash (Fiat and Shamir; Shoup, EUROCRYPT 2000, section 3; the paper's section
4.1 takes it from there). It speaks of c_i², which is all that is combined.

What it decides: that partial decryptions belong to these ciphertexts and different holders of this
key, and that each is right; a wrong one is refused and its holder named. What it does not decide:
whether something ought to be opened. A holder who raises what it is given opens what it is given:
see `marketplace.key_holder`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import gmpy2
from gmpy2 import mpz

from privacy.errors import CiphertextError, PartialDecryptionError, WeakKeyError
from privacy.fixedpoint import Words
from privacy.paillier.cipher import check_ciphertexts
from privacy.paillier.columns import PackedColumn
from privacy.paillier.keys import PublicKey
from privacy.paillier.randomness import Progress
from privacy.paillier.threshold_key import KeyShare, ThresholdKey, read_number
from privacy.secure_random import random_below

PROOF_NAMESPACE: Final = b"rongshu/paillier-partial/v1"

_CHALLENGE_BITS = 256
_HIDING_BITS = 128
"""By so many bits the random number of a proof is longer than what it hides."""

_MOST_PARTS = 1 << 16


@dataclass(frozen=True)
class Part:
    """What a holder made of one ciphertext.

    Attributes:
        value: c_i, a unit modulo n².
        challenge: e of the proof, below 2^256.
        response: z of the proof, r + e * delta * s_i for a random r that hides it.
    """

    value: int
    challenge: int
    response: int


@dataclass(frozen=True)
class PartialDecryption:
    """What one holder made of some ciphertexts; nothing in it is believed before it is verified.

    Whoever has those of `threshold` holders, and the ciphertexts, reads what they hold: it goes to
    the buyer alone, and not past anybody who has the ciphertexts.

    Attributes:
        holder: Its name in the key.
        parts: One for each ciphertext, in order.
    """

    holder: str
    parts: tuple[Part, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON: holder, and value, challenge and response of each part."""
        return {
            "holder": self.holder,
            "parts": [
                {name: f"{number:x}" for name, number in vars(part).items()} for part in self.parts
            ],
        }

    @classmethod
    def from_json(cls, value: Any, public: PublicKey) -> "PartialDecryption":
        """Reads what `to_json` wrote.

        Args:
            value: Unverified parsed JSON.
            public: The key's public half, which bounds the numbers.

        Raises:
            PartialDecryptionError: If it is not of this form.
        """
        width = 2 * public.ciphertext_bytes
        try:
            holder, parts = value["holder"], value["parts"]
            formed = isinstance(holder, str) and isinstance(parts, list)
            if set(value) != {"holder", "parts"} or not formed or len(parts) > _MOST_PARTS:
                raise PartialDecryptionError("this is no partial decryption")
            read = tuple(
                Part(**{name: read_number(text, width) for name, text in part.items()})
                for part in parts
            )
        except (TypeError, KeyError, AttributeError, WeakKeyError):
            raise PartialDecryptionError("this is no partial decryption") from None
        return cls(holder, read)


@dataclass(frozen=True)
class Quorum:
    """A shared key with partial decryptions: what stands at the buyer's for a secret key.

    Attributes:
        key: The key.
        partials: Those of `key.threshold` different holders, or more.

    Raises:
        PartialDecryptionError: If one is of no holder, two are of the same, or there are too few.
    """

    key: ThresholdKey
    partials: tuple[PartialDecryption, ...]

    def __post_init__(self) -> None:
        holders = [partial.holder for partial in self.partials]
        for holder in holders:
            if holder not in self.key.holders:
                raise PartialDecryptionError("a partial decryption is of no holder of this key")
            if holders.count(holder) > 1:
                raise PartialDecryptionError(
                    f"two partial decryptions are of the same holder {holder}", party=holder
                )
        if len(holders) < self.key.threshold:
            raise PartialDecryptionError(
                f"{len(holders)} of the {self.key.threshold} partial decryptions "
                "that this key needs are there"
            )

    @property
    def public(self) -> PublicKey:
        """The key's public half."""
        return self.key.public


def decrypt_partially(
    share: KeyShare, ciphertexts: Sequence[int], progress: Progress | None = None
) -> PartialDecryption:
    """Makes a holder's part of each ciphertext, with its proof.

    Args:
        share: The holder's.
        ciphertexts: Under the same key; the holder has to know what they are.
        progress: Told how many are done.

    Raises:
        CiphertextError: If one is not a ciphertext under this key.
    """
    check_ciphertexts(share.key.public, ciphertexts)
    parts = []
    for done, ciphertext in enumerate(ciphertexts, 1):
        parts.append(_part(share, ciphertext))
        if progress is not None:
            progress(done, len(ciphertexts))
    return PartialDecryption(share.holder, tuple(parts))


def verify_partial(
    key: ThresholdKey, ciphertexts: Sequence[int], partial: PartialDecryption
) -> list[int]:
    """Returns the c_i of a partial decryption after verifying every proof.

    Args:
        key: The key.
        ciphertexts: What it must be a partial decryption of, checked before.
        partial: Unverified.

    Raises:
        PartialDecryptionError: If it is of other ciphertexts, of another key, or false; names the
            holder.
    """
    holder = partial.holder
    if holder not in key.holders:
        raise PartialDecryptionError("a partial decryption is of no holder of this key")
    if len(partial.parts) != len(ciphertexts):
        raise PartialDecryptionError(
            f"{holder} made {len(partial.parts)} parts of {len(ciphertexts)} ciphertexts",
            party=holder,
        )
    values = [part.value for part in partial.parts]
    try:
        check_ciphertexts(key.public, values)
    except CiphertextError:
        raise PartialDecryptionError(f"a part of {holder} is no unit", party=holder) from None
    for at, (ciphertext, part) in enumerate(zip(ciphertexts, partial.parts, strict=True)):
        if not _proves(key, holder, ciphertext, part):
            raise PartialDecryptionError(
                f"the part that {holder} made of ciphertext {at} is false", party=holder
            )
    return values


def combine(quorum: Quorum, ciphertexts: Sequence[int]) -> list[int]:
    """Opens ciphertexts with the parts of `threshold` holders, after verifying all that are there.

    Args:
        quorum: The key and the partial decryptions.
        ciphertexts: Under that key.

    Returns:
        A number in [0, n) for each.

    Raises:
        CiphertextError: If one is not a ciphertext under this key.
        PartialDecryptionError: As `verify_partial`; or the dealer's shares do not open.
    """
    key = quorum.key
    check_ciphertexts(key.public, ciphertexts)
    verified = [(each, verify_partial(key, ciphertexts, each)) for each in quorum.partials]
    chosen = verified[: key.threshold]
    places = [key.place(partial.holder) for partial, _ in chosen]
    weights = [2 * each for each in key.coefficients(places)]
    n, square = mpz(key.public.n), mpz(key.public.n) ** 2
    unscale = gmpy2.invert(4 * key.delta**2, n)
    opened = []
    for at in range(len(ciphertexts)):
        total = mpz(1)
        for weight, (_, values) in zip(weights, chosen, strict=True):
            total = total * gmpy2.powmod(values[at], weight, square) % square
        quotient, rest = gmpy2.f_divmod(total - 1, n)
        if rest:
            raise PartialDecryptionError("the shares that the dealer made of this key open nothing")
        opened.append(int(quotient * unscale % n))
    return opened


def open_column_together(quorum: Quorum, column: PackedColumn) -> Words:
    """Opens a column as `columns.open_column` does with a secret key.

    Returns:
        uint64[length], each reduced modulo 2^word_bits.

    Raises:
        CiphertextError: If it is under another key, or opens to what no such sum can hold.
        PartialDecryptionError: As `combine`.
    """
    if quorum.key.public.n != column.public.n:
        raise CiphertextError("this column is under another key")
    plaintexts = combine(quorum, column.ciphertexts)
    return column.packing.unpack(column.public, plaintexts, column.length, column.units)


def _part(share: KeyShare, ciphertext: int) -> Part:
    key, exponent = share.key, share.key.delta * share.raw_share()
    square = mpz(key.public.n) ** 2
    # GMP's exponentiation whose run of instructions does not depend on the secret exponent.
    value = int(gmpy2.powmod_sec(ciphertext, 2 * exponent, square))
    hiding = 1 + random_below(1 << _hiding_bits(key))
    first = gmpy2.powmod_sec(gmpy2.powmod(ciphertext, 4, square), hiding, square)
    second = gmpy2.powmod_sec(key.base, hiding, square)
    challenge = _challenge(key, share.holder, (ciphertext, value, int(first), int(second)))
    return Part(value, challenge, hiding + challenge * exponent)


def _proves(key: ThresholdKey, holder: str, ciphertext: int, part: Part) -> bool:
    """Whether a part's proof holds: c^(4z) = a * (c_i²)^e and v^z = b * v_i^e, with a, b hashed."""
    # The longest that an honest holder answers; what is longer would only make others work.
    if not 0 <= part.response.bit_length() <= _hiding_bits(key) + 1:
        return False
    square = mpz(key.public.n) ** 2
    shown = key.verification[key.place(holder) - 1]
    first = gmpy2.powmod(gmpy2.powmod(ciphertext, 4, square), part.response, square)
    first = first * gmpy2.powmod(part.value, -2 * part.challenge, square) % square
    second = gmpy2.powmod(key.base, part.response, square)
    second = second * gmpy2.powmod(shown, -part.challenge, square) % square
    committed = (ciphertext, part.value, int(first), int(second))
    return _challenge(key, holder, committed) == part.challenge


def _hiding_bits(key: ThresholdKey) -> int:
    return 2 * key.public.bits + key.delta.bit_length() + _CHALLENGE_BITS + _HIDING_BITS


def _challenge(key: ThresholdKey, holder: str, numbers: Sequence[int]) -> int:
    """Hashes all that a proof is about: key, holder, ciphertext, part and the two commitments."""
    shown = key.verification[key.place(holder) - 1]
    digest = hashlib.sha256(PROOF_NAMESPACE)
    for number in (key.public.n, key.base, shown, *numbers):
        digest.update(number.to_bytes(key.public.ciphertext_bytes, "big"))
    return int.from_bytes(digest.digest(), "big")
