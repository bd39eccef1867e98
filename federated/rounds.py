"""One round, after the replies are in: check each contribution and add them.

Used twice with the same result: by the coordinator while a job runs, and by the buyer's client,
which adds the contributions that the receipts name once more and so notices an operator who changed
the sum. Pure: bytes and values in, values out; no Flower, no files.

    record = RoundRecord(1, question, request, {"asset:…": body, …}, opened)
    total = add_words(record, record.open(job, attempt=1))  # uint64[question.words]
    aggregate = decode_aggregate(question.layout, total)    # federated.tasks

The sum is taken modulo 2^64, where the pairwise masks of those who contributed cancel. What is left
is taken off with the secrets that the cohort revealed for the round (`Opened`), each of which is
checked against what its owner committed to or signed. See `privacy.recovery`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Self

import numpy as np

from federated.errors import ContributionError, MessageError, ReceiptError
from federated.messages import MAX_BODY, Contribution, RelayReply, RoundRequest, body_digest
from federated.peers import raw_mask_key
from federated.plan import Question, Words
from ledger.encoding import b64decode, b64encode, parse
from ledger.errors import EncodingError, LedgerError
from ledger.keys import VerifyKey
from ledger.statements.envelope import open_
from ledger.statements.receipt import Receipt
from privacy import masking, paillier, recovery
from privacy.errors import CiphertextError, VectorError
from privacy.paillier import PackedColumn, Packing, PublicKey

_WORD: Final = np.dtype("<u8")


@dataclass(frozen=True)
class Opened:
    """The secrets of one round that its cohort put together, and that open the sum alone.

    Attributes:
        seeds: of each asset whose contribution is in the sum.
        mask_keys: secret mask key of each asset that dealt shares and did not contribute.
    """

    seeds: Mapping[str, bytes] = field(repr=False)
    mask_keys: Mapping[str, bytes] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; `from_json` reads it back."""
        return {
            "seeds": {asset: b64encode(seed) for asset, seed in self.seeds.items()},
            "mask_keys": {asset: b64encode(key) for asset, key in self.mask_keys.items()},
        }

    @classmethod
    def from_json(cls, given: Any) -> Self:
        """Read what `to_json` wrote.

        Raises:
            MessageError: something else.
        """
        try:
            seeds, mask_keys = given["seeds"], given["mask_keys"]
            return cls(
                {str(asset): b64decode(text) for asset, text in seeds.items()},
                {str(asset): b64decode(text) for asset, text in mask_keys.items()},
            )
        except (KeyError, TypeError, AttributeError, EncodingError) as error:
            raise MessageError("these are no opened secrets of a round") from error


@dataclass(frozen=True)
class RoundRecord:
    """What one round consisted of: enough for anybody to add it up again.

    Attributes:
        number: 1 for the first.
        question: what was asked.
        request: the body sent to each node.
        contributions: by asset, the body of its reply.
        opened: the secrets that take the masks off the sum.
    """

    number: int
    question: Question
    request: bytes
    contributions: Mapping[str, bytes]
    opened: Opened

    @property
    def attempt(self) -> int:
        """The attempt in which it was asked."""
        return RoundRequest.from_bytes(self.request).attempt

    @property
    def bodies(self) -> dict[str, tuple[bytes, bytes]]:
        """By asset, the request and the reply."""
        return {asset: (self.request, body) for asset, body in self.contributions.items()}

    @cached_property
    def digests(self) -> dict[str, tuple[str, str]]:
        """By asset, those of the request and the reply."""
        # Looked at for each party's receipt, and a round of many parties has megabytes.
        asked = body_digest(self.request)
        return {asset: (asked, body_digest(said)) for asset, said in self.contributions.items()}

    @property
    def packing(self) -> Packing:
        """How an encrypted task's words share plaintexts: as `packing_for` says of those asked."""
        return packing_for(RoundRequest.from_bytes(self.request).mask_keys)

    def open(
        self, job: str, attempt: int, public: PublicKey | None = None
    ) -> dict[str, Contribution]:
        """Read and check every contribution.

        Args:
            job: what they must be made for.
            attempt: see `job`.
            public: the buyer's key, of an encrypted task.

        Raises:
            ContributionError: one is malformed, or not the one asked for.
        """
        return {asset: self.open_one(asset, job, attempt, public) for asset in self.contributions}

    def open_one(
        self, asset: str, job: str, attempt: int, public: PublicKey | None = None
    ) -> Contribution:
        """Read and check one contribution; as `open`."""
        words = self.question.words
        return read_contribution(
            self.contributions[asset],
            self.question,
            asset=asset,
            job=job,
            attempt=attempt,
            round_number=self.number,
            ciphertexts=None if public is None else self.packing.plaintexts(public, words),
        )


@dataclass(frozen=True)
class RelayRecord:
    """What one round of a joint job consisted of.

    Attributes:
        number: 1 for the first.
        digests: by asset, those of the request with what was carried to it, and of its reply.
        bodies: by asset, these themselves; none of a round that is over, in which nobody reported:
            parcels tell nothing to anybody who is not one of the nodes.
    """

    number: int
    digests: Mapping[str, tuple[str, str]]
    bodies: Mapping[str, tuple[bytes, bytes]]

    @classmethod
    def of(cls, number: int, bodies: Mapping[str, tuple[bytes, bytes]]) -> Self:
        """Return the record of a round that has just taken place."""
        digests = {
            asset: (body_digest(asked), body_digest(said))
            for asset, (asked, said) in bodies.items()
        }
        return cls(number, digests, bodies)


Record = RoundRecord | RelayRecord


def read_reports(replies: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """Read what each node of a joint job says came of it.

    Args:
        replies: by asset, the body of its last reply.

    Raises:
        MessageError: one is no reply of that node, or carries no report.
    """
    reports = {}
    for asset, body in replies.items():
        reply = RelayReply.from_bytes(body)
        try:
            report = parse(reply.report or b"", limit=MAX_BODY)
        except EncodingError as error:
            raise MessageError(f"the report of {asset} is not canonical JSON") from error
        if reply.asset != asset or not isinstance(report, dict):
            raise MessageError(f"the report of {asset} is another's, or no object")
        reports[asset] = report
    return reports


def read_contribution(
    body: bytes,
    question: Question,
    *,
    asset: str,
    job: str,
    attempt: int,
    round_number: int,
    ciphertexts: int | None = None,
) -> Contribution:
    """Read a contribution and check that it is the one asked for.

    Args:
        body: as it came from the node.
        question: gives the number of words.
        asset: whose it must be.
        job: and so on: what it must be made for.
        attempt: see `job`.
        round_number: see `job`.
        ciphertexts: how many are due, of an encrypted task; None where words are.

    Raises:
        ContributionError: malformed; another asset's (one node repeating another); made for another
            job, attempt or round (an old one repeated); of another kind, words or ciphertexts, or
            another length than what was asked for.
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
        "form": (found.words is None, ciphertexts is not None),
        "length": (_length(found), question.words if ciphertexts is None else ciphertexts),
    }
    for name, (has, wants) in pairs.items():
        if has != wants:
            raise ContributionError(asset, f"wrong_{name}")
    return found


def open_receipt(
    data: bytes, key: VerifyKey, *, asset: str, job: str, rounds: Sequence[Record]
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
    kept = [(each.number, *each.digests.get(asset, ("", ""))) for each in rounds]
    numbers = {each.number for each in rounds}
    # What was sent in rounds that were never opened, or before a party left, is in no result.
    listed = [
        (item.round, item.request, item.reply)
        for item in receipt.contributions
        if item.round in numbers
    ]
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


def add_words(record: RoundRecord, contributions: Mapping[str, Contribution]) -> Words:
    """Add masked words modulo 2^64 and take the masks off.

    Args:
        record: the round, with its opened secrets.
        contributions: by asset, as `record.open` returned them.

    Returns:
        uint64[question.words]; the masks are gone from it.

    Raises:
        ContributionError: one carries ciphertexts.
        VectorError: there is none.
        RecoveryError: as `correction_of`.
    """
    columns = []
    for asset, contribution in contributions.items():
        if contribution.words is None:
            raise ContributionError(asset, "wrong_form")
        columns.append(np.frombuffer(contribution.words, dtype=_WORD).astype(np.uint64))
    total = masking.add(columns)
    return total - correction_of(record, contributions)


def correction_of(record: RoundRecord, contributions: Mapping[str, Contribution]) -> Words:
    """Return what the masks of a round add up to, uint64[question.words].

    Raises:
        RecoveryError: somebody is neither survivor nor dropped, or both; a secret is not the one
            that its owner committed to or signed.
        PeerKeyError: the request holds something that is no mask key.
    """
    asked = RoundRequest.from_bytes(record.request)
    context = masking.mask_context(asked.job, asked.attempt, asked.round, sorted(asked.mask_keys))
    return recovery.correction(
        record.question.words,
        survivors=record.opened.seeds,
        dropped={
            asset: masking.MaskKey.from_secret(secret)
            for asset, secret in record.opened.mask_keys.items()
        },
        publics={asset: raw_mask_key(signed) for asset, signed in asked.mask_keys.items()},
        commitments={asset: each.seed_commitment for asset, each in contributions.items()},
        context=context,
    )


def packing_for(parties: Collection[str]) -> Packing:
    """Return how an encrypted task's words share plaintexts in a round.

    Args:
        parties: all who were asked. A slot has room for each of them, whoever contributes, and for
            what takes the masks off.
    """
    return Packing(weight=len(parties) + 1)


def encrypt_words(public: PublicKey, words: Words, parties: Collection[str]) -> tuple[bytes, ...]:
    """Return masked words as a contribution to an encrypted task carries them.

    Args:
        public: the buyer's key. Its table is made once and kept in this process.
        words: uint64[question.words], masked.
        parties: all who were asked in this round.

    Returns:
        Ciphertexts of packed words, each big-endian in `public.ciphertext_bytes` bytes.
    """
    column = paillier.seal(paillier.encryptor_for(public), packing_for(parties), words)
    return _write_column(column)


def add_ciphertexts(
    record: RoundRecord, contributions: Mapping[str, Contribution], public: PublicKey
) -> tuple[bytes, ...]:
    """Add encrypted words and take the masks off, without opening any.

    The same for everybody who adds, since the buyer adds once more and compares.

    Args:
        record: the round, with its opened secrets.
        contributions: by asset, as `record.open` returned them.
        public: the buyer's key.

    Returns:
        As many ciphertexts as one contribution has; `decrypt_sum` opens them.

    Raises:
        ContributionError: one carries words, something that is no ciphertext under this key, or
            too few or too many.
        VectorError: there is none.
        RecoveryError: as `correction_of`.
    """
    columns = []
    for asset, contribution in contributions.items():
        if contribution.ciphertexts is None:
            raise ContributionError(asset, "wrong_form")
        try:
            columns.append(_read_column(record, contribution.ciphertexts, public, units=1))
        except CiphertextError:
            raise ContributionError(asset, "wrong_form") from None
        except VectorError:
            raise ContributionError(asset, "wrong_length") from None
    total = paillier.add_columns(columns)
    less = np.zeros(total.length, np.uint64) - correction_of(record, contributions)
    return _write_column(paillier.add_public_words(total, less))


def decrypt_sum(
    record: RoundRecord, total: tuple[bytes, ...], opener: paillier.SecretKey | paillier.Quorum
) -> Words:
    """Open the sum of an encrypted task, as its buyer.

    Args:
        record: the round.
        total: what `add_ciphertexts` returned.
        opener: the secret of the key that it is under, or what a quorum of its holders made of it.

    Returns:
        uint64[question.words], reduced modulo 2^64; the masks are gone from it.

    Raises:
        CiphertextError: something else, or a sum that the contributions cannot have.
        VectorError: too few or too many ciphertexts.
        PartialDecryptionError: a holder's part is false, or of something else; names the holder.
    """
    # One more than contributed: what takes the masks off was added too.
    units = len(record.contributions) + 1
    column = _read_column(record, total, opener.public, units=units)
    if isinstance(opener, paillier.Quorum):
        return paillier.open_column_together(opener, column)
    return paillier.open_column(opener, column)


def _write_column(column: PackedColumn) -> tuple[bytes, ...]:
    public = column.public
    return tuple(paillier.ciphertexts_to_bytes(public, [one]) for one in column.ciphertexts)


def _read_column(
    record: RoundRecord, parts: tuple[bytes, ...], public: PublicKey, *, units: int
) -> PackedColumn:
    """Return what `_write_column` wrote.

    Raises:
        CiphertextError: one has another length, or is no ciphertext under this key.
        VectorError: too few or too many for the question's words.
    """
    if any(len(part) != public.ciphertext_bytes for part in parts):
        raise CiphertextError("a ciphertext has another length than this key's")
    numbers = tuple(int.from_bytes(part, "big") for part in parts)
    return PackedColumn(public, record.packing, record.question.words, units, numbers)


def words_to_bytes(words: Words) -> bytes:
    """Return words as a contribution carries them: eight bytes each, little-endian."""
    return words.astype(_WORD).tobytes()


def _length(contribution: Contribution) -> int:
    if contribution.words is not None:
        return len(contribution.words) // _WORD.itemsize
    return len(contribution.ciphertexts or ())
