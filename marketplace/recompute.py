"""The researcher's own check of a released result: add up what the receipts name, once more.

The nodes signed, in their receipts, the digest of every byte they were asked and sent. So whoever
holds those bytes can add the masked contributions again and run the task again; an operator who
added to a sum, dropped a party or changed a result would need a node's signature to go with it.

    result = recompute(evidence, released, opener)      # the verified result, or ResultError
    total = receipted_sum(evidence, released)           # an encrypted one, for a holder of its key

Pure: statements and bytes in, the result out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from federated.errors import FederatedError
from federated.messages import RoundRequest, body_digest
from federated.plan import Plan, Question, Words
from federated.planning import plan_of
from federated.rounds import (
    Opened,
    RoundRecord,
    add_ciphertexts,
    add_words,
    decrypt_sum,
    read_reports,
)
from federated.tasks import JointTask, Task, replay
from ledger.encoding import b64decode, b64encode, canonical, sha256_text
from ledger.errors import EncodingError, LedgerError
from ledger.statements import Asset, Job, Receipt, Release
from marketplace.errors import MarketplaceError
from privacy.errors import PrivacyError, WeakKeyError
from privacy.paillier import (
    PublicKey,
    Quorum,
    SecretKey,
    ThresholdKey,
    ciphertexts_from_bytes,
    is_shared,
    public_half,
)

Opener = SecretKey | Quorum
"""What opens an encrypted sum: the researcher's secret, or what a quorum of holders made of it."""


class ResultError(MarketplaceError):
    """The released result is not what the receipted contributions add up to."""

    default_code = "result_differs"


@dataclass(frozen=True)
class Exchanges:
    """What the service says that was asked, sent and opened; not trusted.

    Attributes:
        bodies: (asset, round) to the bytes of request and reply.
        opened: by round, the secrets that take the masks off its sum.
    """

    bodies: Mapping[tuple[str, int], tuple[bytes, bytes]]
    opened: Mapping[int, Opened]


def read_exchanges(contributions: Any, openings: Any) -> Exchanges:
    """Read what the service answers about a job's contributions and openings.

    Raises:
        ResultError: it cannot be read.
    """
    try:
        return Exchanges(
            {
                (item["asset"], item["round"]): (
                    b64decode(item["request"]),
                    b64decode(item["reply"]),
                )
                for item in contributions
            },
            {item["round"]: Opened.from_json(item["secrets"]) for item in openings},
        )
    except (TypeError, KeyError, LedgerError, FederatedError) as error:
        raise ResultError("the service's list of contributions is malformed") from error


@dataclass(frozen=True)
class Evidence:
    """What the researcher read from the log and got from the service.

    Attributes:
        job_id: id of the job.
        job: as signed.
        assets: by id, the data cards of the job's assets.
        receipts: by id, the receipts that the release lists.
        release: as signed by the operator.
        exchanges: see there.
    """

    job_id: str
    job: Job
    assets: Mapping[str, Asset]
    receipts: Mapping[str, Receipt]
    release: Release
    exchanges: Exchanges


def recompute(
    evidence: Evidence, released: Mapping[str, Any], opener: Opener | None
) -> dict[str, Any]:
    """Return the result if it is exactly what the receipted contributions lead to.

    Args:
        evidence: see there.
        released: the document that the service handed out.
        opener: of the key that the job was signed with, for an encrypted task.

    Raises:
        ResultError: it is not; says where they part.
    """
    with _leading_to(evidence, released):
        task, plan = plan_of(evidence.job, evidence.assets)
        if isinstance(task, JointTask):
            again = _concluded(evidence, task, plan)
        elif task.encrypted:
            return _decrypted(evidence, task, plan, released, opener)
        else:
            again = _replayed(evidence, task, plan, _rounds(evidence))
    if canonical(again) != canonical(released):
        raise ResultError("the result is not that of the contributions that the nodes receipted")
    return again


def receipted_sum(evidence: Evidence, released: Mapping[str, Any]) -> list[int]:
    """Return a released encrypted sum if it is exactly that of the receipted contributions.

    For those who hold a share of its key: nothing else should be opened with it.

    Args:
        evidence: see there.
        released: the document that the service handed out.

    Returns:
        Ciphertexts under the job's key.

    Raises:
        ResultError: it is not, or the task is not an encrypted one; says where they part.
    """
    with _leading_to(evidence, released):
        task, plan = plan_of(evidence.job, evidence.assets)
        if isinstance(task, JointTask) or not task.encrypted:
            raise ResultError(f"the task {task.name} has no encrypted sum")
        public = public_half(evidence.job.encryption_key)
        record, total = _added(evidence, released, public)
        if record.question != next(task.conduct(plan)):
            raise ResultError("the nodes were asked something that this job does not lead to")
        return ciphertexts_from_bytes(public, b"".join(total))


@contextmanager
def _leading_to(evidence: Evidence, released: Mapping[str, Any]) -> Iterator[None]:
    """Hold the document against the release, and whatever is refused inside against the result."""
    try:
        if sha256_text(canonical(released)) != evidence.release.result:
            raise ResultError("the document handed out is not the one that was released")
        yield
    except (FederatedError, PrivacyError, EncodingError) as error:
        raise ResultError(f"the contributions do not lead to a result: {error}") from error


def _numbers(evidence: Evidence) -> tuple[list[int], dict[str, Receipt]]:
    """Return the rounds of the result, and by asset the receipts that it rests on.

    How many parties must be in it, and which rounds, is a rule of the log; the release keeps it.
    """
    by_asset = {receipt.asset: receipt for receipt in evidence.receipts.values()}
    if not set(by_asset) <= set(evidence.job.assets) or len(by_asset) != len(evidence.receipts):
        raise ResultError("the release does not rest on one receipt of each party in it")
    numbers = {item.round for item in evidence.release.contributions}
    if len(evidence.release.contributions) != len(numbers) * len(by_asset):
        raise ResultError("the nodes receipted different numbers of rounds")
    return sorted(numbers), by_asset


def _receipted(
    evidence: Evidence, receipts: Mapping[str, Receipt], number: int
) -> dict[str, tuple[bytes, bytes]]:
    """Return request and reply of each node in a round: the very bytes that it receipted."""
    bodies = {}
    for asset, receipt in receipts.items():
        found = evidence.exchanges.bodies.get((asset, number))
        if found is None:
            raise ResultError(f"the service keeps back round {number}")
        sent = {item.round: (item.request, item.reply) for item in receipt.contributions}
        if (body_digest(found[0]), body_digest(found[1])) != sent.get(number):
            raise ResultError(f"round {number} differs from what a node receipted")
        bodies[asset] = found
    return bodies


def _concluded(evidence: Evidence, task: JointTask, plan: Plan) -> dict[str, Any]:
    """Return what the reports come to that the nodes of a joint job receipted last."""
    numbers, receipts = _numbers(evidence)
    bodies = _receipted(evidence, receipts, numbers[-1])
    reports = read_reports({asset: reply for asset, (_, reply) in bodies.items()})
    return task.conclude(plan, reports)


def _rounds(evidence: Evidence) -> list[RoundRecord]:
    """Return the rounds of the result, whose bytes are those that every node of it receipted."""
    numbers, receipts = _numbers(evidence)
    return [_round(evidence, receipts, number) for number in numbers]


def _round(evidence: Evidence, receipts: Mapping[str, Receipt], number: int) -> RoundRecord:
    if number not in evidence.exchanges.opened:
        raise ResultError(f"the service keeps back round {number}")
    bodies = _receipted(evidence, receipts, number)
    requests = {request for request, _ in bodies.values()}
    replies = {asset: reply for asset, (_, reply) in bodies.items()}
    if len(requests) != 1:
        raise ResultError(f"the nodes were asked different things in round {number}")
    request = requests.pop()
    asked = RoundRequest.from_bytes(request)
    if asked.job != evidence.job_id:
        raise ResultError(f"round {number} belongs to another job")
    opened = evidence.exchanges.opened[number]
    return RoundRecord(number, Question.from_json(asked.question), request, replies, opened)


def _replayed(
    evidence: Evidence, task: Task, plan: Plan, rounds: list[RoundRecord]
) -> dict[str, Any]:
    waiting = iter(rounds)

    def words(question: Question) -> Words:
        record = next(waiting, None)
        if record is None or record.question != question:
            raise ResultError("the nodes were asked something that this job does not lead to")
        return add_words(record, record.open(evidence.job_id, _attempt(record)))

    result = replay(task, plan, words)
    if next(waiting, None) is not None:
        raise ResultError("the nodes were asked more than this job needs")
    return result


def _decrypted(
    evidence: Evidence,
    task: Task,
    plan: Plan,
    released: Mapping[str, Any],
    opener: Opener | None,
) -> dict[str, Any]:
    if opener is None:
        raise ResultError("the result is encrypted: the researcher's secret key is needed")
    public = _key_of(evidence, opener)
    record, total = _added(evidence, released, public)

    def words(question: Question) -> Words:
        if record.question != question:
            raise ResultError("the nodes were asked something that this job does not lead to")
        return decrypt_sum(record, total, opener)

    return replay(task, plan, words)


def _key_of(evidence: Evidence, opener: Opener) -> PublicKey:
    """Return the public key that a job was signed with, if it is the opener's."""
    signed = evidence.job.encryption_key
    try:
        public = public_half(signed)
    except WeakKeyError:
        raise ResultError("the job was signed with something that is no encryption key") from None
    # A job of before may not speak of the primes' form, which a loaded key shows by itself.
    if public.n != opener.public.n or is_shared(signed) != isinstance(opener, Quorum):
        raise ResultError("the job was signed with another encryption key than this one")
    if isinstance(opener, Quorum) and ThresholdKey.from_json(signed) != opener.key:
        raise ResultError("the job was signed with another sharing of this key")
    return public


def _added(
    evidence: Evidence, released: Mapping[str, Any], public: PublicKey
) -> tuple[RoundRecord, tuple[bytes, ...]]:
    """Return the one round of an encrypted job and its sum, which must be what was released."""
    rounds = _rounds(evidence)
    if len(rounds) != 1:
        raise ResultError(f"the nodes were asked {len(rounds)} rounds where this job has one")
    record = rounds[0]
    contributions = record.open(evidence.job_id, _attempt(record), public)
    total = add_ciphertexts(record, contributions, public)
    if released != {"ciphertexts": [b64encode(each) for each in total]}:
        raise ResultError("the encrypted sum is not that of the receipted contributions")
    return record, total


def _attempt(record: RoundRecord) -> int:
    return RoundRequest.from_bytes(record.request).attempt
