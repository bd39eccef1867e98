"""Everything `privacy` can refuse, as one tree; the docstring of each is its default message.

    PrivacyError
    ├── ScaleError                  a scale that no fixed-point vector can have
    ├── OverflowRefusedError        no scale holds the sum: refused before the first round
    ├── OutOfRangeError             a value that the agreed scale cannot carry
    ├── VectorError                 not a vector of 64-bit words, or of another length
    ├── MaskError                   masking would hide nothing
    │   └── MaskKeyError            a public mask key that must not be used
    ├── ShareError                  shares that give no secret, or a secret that cannot be shared so
    │   └── SealedShareError        a sealed pair of shares that was not made for this use
    ├── BoxError                    a sealed box that cannot be made or opened
    │   └── UnopenedError           one that was changed, or made for another party or use
    ├── RecoveryError               the masks of this round cannot be taken off
    │   ├── SeedError               a seed that is not the one its owner committed to
    │   └── RecoveredKeyError       a mask key that is not its owner's
    ├── WeakKeyError                a Paillier modulus too small or of the wrong form
    ├── KeyFileError                a secret key's file that must not be trusted
    ├── CiphertextError             not a ciphertext under this key, or not the sum it claims to be
    ├── SharingError                values that three parties cannot share or compute with
    │   ├── SharedRangeError        a value or a result that the ring of the shares cannot carry
    │   └── SharedParcelError       a parcel that is missing, too many, or of another length
    ├── IdentifierError             rows or rules that give no identifiers to compare
    ├── LinkageError                records that cannot be encoded or compared
    ├── IntersectionError           two sets that cannot be intersected under what was agreed
    │   ├── PointError              bytes that a secret must not be multiplied with
    │   ├── SetSizeError            a set of another size than agreed, or smaller than the minimum
    │   ├── SmallIntersectionError  fewer in common than may be told
    │   ├── ExponentError           an exponent that would serve a second set, or leave its process
    │   └── StepError               a step out of turn
    ├── ChildError                  a child process did not do what it was asked
    │   ├── ChildDiedError          it ended by itself or by a signal
    │   ├── ChildMemoryError        it needed more memory than it may have
    │   ├── ChildTimeoutError       it took longer than it may
    │   ├── ChildFrameError         a frame too long, or a reply that is none
    │   └── ChildRefusalError       it read what it was given and refused, with one word
    ├── MpcError                    numbers that cannot be compared on secret shares
    │   ├── ThresholdError          too few parties: each share would be the number
    │   ├── CapacityError           more parties, numbers or bits than a computation takes
    │   └── PeersError              what the peers sent is no part of this computation
    ├── ParametersError             CKKS parameters outside the 128-bit table, or unknown
    ├── ColumnsError                rows that cannot be encrypted, or do not fit a model
    ├── ModelError                  a model that cannot be evaluated on encrypted columns
    ├── SealedBytesError            encrypted bytes of another digest, too long, or of another form
    ├── ApproximationError          a result outside the range where its approximation holds
    ├── EncryptionPoolError         processes that encrypt ended early, or were never to be had
    └── PartialDecryptionError      partial decryptions that open nothing, or one that is false

No message holds a secret or a value: at most a position, a length, a limit or a party's id. Where
one party's input is at fault, its id stands in `party` too.
"""


class PrivacyError(Exception):
    """A privacy mechanism refused.

    Attributes:
        party: Whose input it was about, where the refusal names one party.
    """

    def __init__(self, message: str | None = None, *, party: str | None = None) -> None:
        """Takes the message, or else the first line of the class's own docstring."""
        super().__init__(message or (self.__doc__ or "").strip().partition("\n")[0])
        self.party = party


class ScaleError(PrivacyError):
    """This is not a fixed-point scale."""


class OverflowRefusedError(PrivacyError):
    """No fixed-point scale holds this sum without overflow; change the unit of the column."""


class OutOfRangeError(PrivacyError):
    """A value lies outside what the agreed scale can carry; raise the bound on the data card."""


class VectorError(PrivacyError):
    """A contribution must be a vector of unsigned 64-bit words of the agreed length."""


class MaskError(PrivacyError):
    """A mask between these parties would hide nothing."""


class MaskKeyError(MaskError):
    """A public mask key is malformed, of small order, or used twice in the cohort."""


class ShareError(PrivacyError):
    """These shares give no secret, or a secret cannot be shared in this way."""


class SealedShareError(ShareError):
    """A sealed pair of shares was changed, or made for another party or another round."""


class BoxError(PrivacyError):
    """A box cannot be sealed or opened between these parties."""


class UnopenedError(BoxError):
    """A sealed box was changed, or made by or for another party or another use."""


class RecoveryError(PrivacyError):
    """The masks of this round cannot be taken off its sum."""


class SeedError(RecoveryError):
    """A reconstructed seed is not the one that its owner committed to."""


class RecoveredKeyError(RecoveryError):
    """A reconstructed mask key is not the one whose public half its owner signed."""


class WeakKeyError(PrivacyError):
    """A Paillier modulus must be odd, composite and of at least 2048 bits."""


class KeyFileError(PrivacyError):
    """A secret key's file is missing, malformed, already there, or readable by others."""


class CiphertextError(PrivacyError):
    """This is not a ciphertext under this key, or not the sum that it claims to be."""


class SharingError(PrivacyError):
    """Three parties cannot share these values, or not compute this with them."""


class SharedRangeError(SharingError):
    """A value, or a bound on a result, is beyond what shares carry without overflow."""


class SharedParcelError(SharingError):
    """A parcel of shares is missing, came out of turn, or has another length than its step."""


class IdentifierError(PrivacyError):
    """These rows or rules give no identifiers that two parties could compare."""


class LinkageError(PrivacyError):
    """These records cannot be encoded or compared."""


class IntersectionError(PrivacyError):
    """These two sets cannot be intersected under what was agreed."""


class PointError(IntersectionError):
    """These bytes are not points of the curve that a secret may be multiplied with."""


class SetSizeError(IntersectionError):
    """A set has another size than agreed, or fewer members than the agreed minimum."""


class SmallIntersectionError(IntersectionError):
    """The sets have fewer members in common than the agreed minimum; nothing is told."""


class ExponentError(IntersectionError):
    """An exponent serves one set of each party, in one process, and is never copied."""


class StepError(IntersectionError):
    """This step of the intersection is out of turn."""


class ChildError(PrivacyError):
    """A child process did not do what it was asked; nothing of its work counts."""


class ChildDiedError(ChildError):
    """A child process ended before it answered."""


class ChildMemoryError(ChildError):
    """A child process needed more memory than it may have."""


class ChildTimeoutError(ChildError):
    """A child process took longer than it may."""


class ChildFrameError(ChildError):
    """A frame is longer than agreed, or the bytes in it are no message."""


class ChildRefusalError(ChildError):
    """A child process refused what it was given.

    Attributes:
        reason: One word in lower case. Nothing else of what went wrong leaves the child.
    """

    def __init__(self, reason: str) -> None:
        """Takes the word."""
        super().__init__(f"a child process refused what it was given: {reason}")
        self.reason = reason


class MpcError(PrivacyError):
    """These numbers cannot be computed with on secret shares."""


class ThresholdError(MpcError):
    """With fewer than three parties each share would be the number itself; name a third party."""


class CapacityError(MpcError):
    """A computation on secret shares takes fewer parties, numbers or bits than these."""


class PeersError(MpcError):
    """What the peers sent is no part of this computation, or comes out of turn."""


class ParametersError(PrivacyError):
    """CKKS parameters must lie inside the 128-bit table of the standard."""


class ColumnsError(PrivacyError):
    """These rows cannot be encrypted, or do not fit the model; see the position."""


class ModelError(PrivacyError):
    """This model cannot be evaluated on encrypted columns."""


class SealedBytesError(PrivacyError):
    """Encrypted bytes do not have the expected digest, length or form."""


class ApproximationError(PrivacyError):
    """A result lies outside the range where its approximation holds."""


class EncryptionPoolError(PrivacyError):
    """A process that encrypts ended before its work was done; nothing was returned."""


class PartialDecryptionError(PrivacyError):
    """These partial decryptions do not open these ciphertexts together."""
