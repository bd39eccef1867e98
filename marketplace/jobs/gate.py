"""The output gate: decides, without doing anything, whether a result may be released.

A result is released only when the completed receipt of every party in it is in the log, and the
contributions that made it are, byte for byte, those that the receipts name. It does not decide
whether the sum is right: the researcher's client recomputes it from the same contributions; nor
whether enough parties stayed: each grant says how many that are, and the log's rules hold it.
"""

from __future__ import annotations

from collections.abc import Mapping

from ledger.encoding import canonical, sha256_text
from ledger.errors import EncodingError
from ledger.statements import Job, Receipt, Release, Summand
from marketplace.errors import ReleaseError
from marketplace.jobs.engine import Completed

MAX_DOCUMENT = 16 << 20
CHECKS = (
    "the completed receipt of every party in the result is in the log",
    "the contributions are those of the receipts",
    "the document is canonical and within its size",
)


def decide(
    job_id: str, job: Job, receipts: Mapping[str, Receipt], outcome: Completed, *, now: int
) -> tuple[Release, bytes]:
    """Return the release to sign and the document to hand out.

    Args:
        job_id: id of the job.
        job: the job.
        receipts: by id, the job's completed receipts that the log covers.
        outcome: what the engine returned.
        now: Unix milliseconds.

    Raises:
        ReleaseError: a check does not hold; the message says which.
    """
    assets = {receipt.asset for receipt in receipts.values()}
    missing = set(job.assets) - assets
    if len(assets) != len(receipts) or missing != set(outcome.dropped):
        raise ReleaseError("not every party's completed receipt is in the log")
    if set(outcome.receipts.values()) != set(receipts):
        raise ReleaseError("the engine names other receipts than the log has")
    sent = sorted(
        (item.asset, item.round, item.request, item.reply) for item in outcome.contributions
    )
    # Rounds that were not opened, or came before a party left, are in no result; which those may
    # be is a rule of the log.
    numbers = {item.round for item in outcome.contributions}
    kept = {
        name: [item for item in receipt.contributions if item.round in numbers]
        for name, receipt in receipts.items()
    }
    receipted = sorted(
        (receipts[name].asset, item.round, item.request, item.reply)
        for name, items in kept.items()
        for item in items
    )
    if sent != receipted:
        raise ReleaseError("the contributions are not those that the nodes' receipts name")
    document = _document(outcome)
    ordered = sorted(receipts, key=lambda name: job.assets.index(receipts[name].asset))
    release = Release(
        job=job_id,
        receipts=tuple(ordered),
        contributions=tuple(
            Summand(name, item.round, item.reply) for name in ordered for item in kept[name]
        ),
        result=sha256_text(document),
        decision="automatic",
        checks=CHECKS,
        issued=now,
    )
    return release, document


def _document(outcome: Completed) -> bytes:
    try:
        document = canonical(dict(outcome.result))
    except EncodingError as error:
        raise ReleaseError(f"the result has no canonical form: {error}") from error
    if len(document) > MAX_DOCUMENT:
        raise ReleaseError(f"the result is longer than {MAX_DOCUMENT} bytes")
    return document
