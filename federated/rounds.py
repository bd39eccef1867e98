"""One round, after the replies are in: check each contribution and add them.

Used twice with the same result: by the coordinator while a job runs, and by the buyer's client,
which adds the contributions that the receipts name once more and so notices an operator who changed
the sum. Pure: bytes and values in, values out; no Flower, no files.

    record = RoundRecord(1, question, request, {"asset:…": body, …})
    total = add_words(record.open(job, attempt=1))          # uint64[question.words]
    aggregate = decode_aggregate(question.layout, total)    # federated.tasks

The sum is taken modulo 2^64, where the masks of a complete cohort cancel. With a contribution
missing nothing but noise is left, which `decode_aggregate` nearly always refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from federated.errors import ContributionError, MessageError, ReceiptError
from federated.messages import Contribution, body_digest
from federated.plan import Question, Words
from ledger.errors import LedgerError
from ledger.keys import VerifyKey
from ledger.statements.envelope import open_
from ledger.statements.receipt import Receipt
from privacy import masking, paillier
from privacy.errors import CiphertextError

_WORD: Final = np.dtype("<u8")


@dataclass(frozen=True)
class RoundRecord:
    """What one round consisted of: enough for anybody to add it up again.

    Attributes:
        number: 1 for the first.
        question: what was asked.
        request: the body sent to each node.
        contributions: by asset, the body of its reply.
    """

    number: int
    question: Question
    request: bytes
    contributions: Mapping[str, bytes]

    @property
    def request_digest(self) -> str:
        """The digest that each receipt lists as this round's request."""
        return body_digest(self.request)

    @property
    def digests(self) -> dict[str, str]:
        """By asset, the digest that its receipt and the release list as this round's reply."""
        return {asset: body_digest(body) for asset, body in self.contributions.items()}

    def open(self, job: str, attempt: int) -> dict[str, Contribution]:
        """Read and check every contribution.

        Raises:
            ContributionError: one is malformed, or not the one asked for.
        """
        return {asset: self.open_one(asset, job, attempt) for asset in self.contributions}

    def open_one(self, asset: str, job: str, attempt: int) -> Contribution:
        """Read and check one contribution; as `open`."""
        return read_contribution(
            self.contributions[asset],
            self.question,
            asset=asset,
            job=job,
            attempt=attempt,
            round_number=self.number,
        )


def read_contribution(
    body: bytes, question: Question, *, asset: str, job: str, attempt: int, round_number: int
) -> Contribution:
    """Read a contribution and check that it is the one asked for.

    Args:
        body: as it came from the node.
        question: gives the number of words.
        asset: whose it must be.
        job: and so on: what it must be made for.
        attempt: see `job`.
        round_number: see `job`.

    Raises:
        ContributionError: malformed; another asset's (one node repeating another); made for another
            job, attempt or round (an old one repeated); or of another length than the question's.
    """
    try:
        found = Contribution.from_bytes(body)
    except MessageError:
        raise ContributionError(asset, "wrong_form") from None
    pairs = {
        "asset": (found.asset, asset),
        "job": (found.job, job),
        "attempt": (found.attempt, attempt),
        "round": (found.round, round_number),
        "length": (_length(found), question.words),
    }
    for name, (has, wants) in pairs.items():
        if has != wants:
            raise ContributionError(asset, f"wrong_{name}")
    return found


def open_receipt(
    data: bytes, key: VerifyKey, *, asset: str, job: str, rounds: Sequence[RoundRecord]
) -> Receipt:
    """Verify that a node receipted exactly the rounds that took place.

    Args:
        data: the signed receipt.
        key: the node's key, from its asset statement.
        asset: whose account it must be.
        job: of which job.
        rounds: all of them, in order.

    Raises:
        ReceiptError: not signed by `key`, malformed, not of a completed job, or about other rounds,
            requests or contributions than these.
    """
    try:
        receipt = Receipt.from_payload(open_(data, Receipt.media_type(), key))
    except LedgerError as error:
        raise ReceiptError(f"receipt of {asset}: {error}") from None
    listed = [(item.round, item.request, item.reply) for item in receipt.contributions]
    kept = [(each.number, each.request_digest, each.digests.get(asset)) for each in rounds]
    pairs = {
        "state": (receipt.state, "completed"),
        "asset": (receipt.asset, asset),
        "job": (receipt.job, job),
        "contributions": (listed, kept),
    }
    for name, (has, wants) in pairs.items():
        if has != wants:
            raise ReceiptError(f"receipt of {asset}: {name} differs from what took place")
    return receipt


def add_words(contributions: Mapping[str, Contribution]) -> Words:
    """Add masked words modulo 2^64.

    Args:
        contributions: by asset, the whole cohort's, as `read_contribution` returned them.

    Returns:
        uint64[question.words]; the masks are gone from it.

    Raises:
        ContributionError: one carries ciphertexts.
        VectorError: there is none.
    """
    columns = []
    for asset, contribution in contributions.items():
        if contribution.words is None:
            raise ContributionError(asset, "wrong_form")
        columns.append(np.frombuffer(contribution.words, dtype=_WORD).astype(np.uint64))
    return masking.add(columns)


def add_ciphertexts(
    contributions: Mapping[str, Contribution], public: paillier.PublicKey
) -> tuple[bytes, ...]:
    """Add encrypted words without opening any.

    Args:
        contributions: by asset, the whole cohort's, as `read_contribution` returned them.
        public: the buyer's key.

    Returns:
        question.words ciphertexts of `public.ciphertext_bytes` bytes each. The buyer opens them
        with `paillier.decrypt_words`, which reduces them modulo 2^64, and the masks are gone.

    Raises:
        ContributionError: one carries words, or something that is no ciphertext under this key.
        VectorError: there is none.
    """
    columns = []
    for asset, contribution in contributions.items():
        if contribution.ciphertexts is None:
            raise ContributionError(asset, "wrong_form")
        try:
            columns.append(read_ciphertexts(contribution.ciphertexts, public))
        except CiphertextError:
            raise ContributionError(asset, "wrong_form") from None
    return write_ciphertexts(paillier.add(public, columns), public)


def write_ciphertexts(ciphertexts: list[int], public: paillier.PublicKey) -> tuple[bytes, ...]:
    """Return each ciphertext as it travels: big-endian, all of one length."""
    return tuple(paillier.ciphertexts_to_bytes(public, [one]) for one in ciphertexts)


def read_ciphertexts(parts: tuple[bytes, ...], public: paillier.PublicKey) -> list[int]:
    """Return the ciphertexts that `write_ciphertexts` wrote.

    Raises:
        CiphertextError: one has another length, or is no ciphertext under this key.
    """
    if any(len(part) != public.ciphertext_bytes for part in parts):
        raise CiphertextError("a ciphertext has another length than this key's")
    return paillier.ciphertexts_from_bytes(public, b"".join(parts))


def words_to_bytes(words: Words) -> bytes:
    """Return words as a contribution carries them: eight bytes each, little-endian."""
    return words.astype(_WORD).tobytes()


def _length(contribution: Contribution) -> int:
    if contribution.words is not None:
        return len(contribution.words) // _WORD.itemsize
    return len(contribution.ciphertexts or ())
