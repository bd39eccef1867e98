"""A lease: the operator's signed word that one Flower run drives an attempt at a job from now on.

Decides that the operator signed it, and whether a node follows it: for the request that it came
with, in the run that it came in, and unless a later lease on the job is followed already. Does not
decide whether the job may be computed: the node's guard does.

    data = Lease(job, attempt, fence, run).sign(operator_key)           # at the coordinator
    lease = open_lease(data, key)                                       # at a node, key by the log
    held = follow(held, lease, job=request.job, attempt=request.attempt, run=run)

An attempt keeps its number when another coordinator takes it over, so that nodes repeat what they
said. What grows is the fence, and each fence belongs to one run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from federated.errors import LeaseError, LeaseSignatureError
from ledger.errors import LedgerError, SignatureError
from ledger.keys import SigningKey, VerifyKey
from ledger.statements import envelope

LEASE_TYPE: Final = "application/vnd.rongshu.lease.v1+json"

BAD_LEASE: Final = "bad_lease"
STALE_LEASE: Final = "stale_lease"

_FIELDS = {"job", "attempt", "fence", "run"}
_MAX_TEXT = 256
# Whole numbers without sign or leading zeros, as text: Flower's go beyond what JSON holds exactly.
_RUN = re.compile(r"[1-9][0-9]{0,19}")
_MAX_RUN = 2**64 - 1


@dataclass(frozen=True)
class Lease:
    """Who drives an attempt at a job.

    Attributes:
        job: id of the job statement.
        attempt: from 1.
        fence: from 0; of two leases on a job the one with the higher fence counts.
        run: Flower's number for the run in which the requests come, from 1 to 2^64-1.
    """

    job: str
    attempt: int
    fence: int
    run: int

    def sign(self, key: SigningKey) -> bytes:
        """Return the envelope, signed by the operator's participant key."""
        payload = {
            "job": self.job,
            "attempt": self.attempt,
            "fence": self.fence,
            "run": str(self.run),
        }
        return envelope.sign(LEASE_TYPE, payload, key)


def open_lease(data: bytes, key: VerifyKey) -> Lease:
    """Verify a lease.

    Args:
        data: the signed envelope.
        key: the operator's, from the log.

    Raises:
        LeaseSignatureError: not signed by `key` alone.
        LeaseError: `bad_lease`: malformed, or no lease.
    """
    try:
        found = envelope.open_(data, LEASE_TYPE, key)
    except SignatureError as error:
        raise LeaseSignatureError(str(error)) from None
    except LedgerError as error:
        raise LeaseError(BAD_LEASE, str(error)) from None
    if set(found) != _FIELDS:
        raise LeaseError(BAD_LEASE, "has other fields than a lease")
    if not isinstance(found["job"], str) or not 0 < len(found["job"]) <= _MAX_TEXT:
        raise LeaseError(BAD_LEASE, f"job must be text of 1 to {_MAX_TEXT} characters")
    for name, least in (("attempt", 1), ("fence", 0)):
        if type(found[name]) is not int or found[name] < least:
            raise LeaseError(BAD_LEASE, f"{name} must be a whole number from {least} up")
    return Lease(**{**found, "run": _run(found["run"])})


def _run(value: Any) -> int:
    if not isinstance(value, str) or not _RUN.fullmatch(value) or int(value) > _MAX_RUN:
        raise LeaseError(BAD_LEASE, f"run must be a number from 1 to {_MAX_RUN}, as text")
    return int(value)


def follow(held: Lease | None, lease: Lease, *, job: str, attempt: int, run: int) -> Lease:
    """Return the lease to follow from here on: the one that came, where it may be followed.

    Args:
        held: the lease on this job that was followed last; None where there was none.
        lease: the one that came with a request, verified.
        job: of the request.
        attempt: of the request.
        run: Flower's number for the run that the request came in.

    Raises:
        LeaseError: `bad_lease`: made for another job, attempt or run; `stale_lease`: a later one
            was followed, or its fence belongs to another run.
    """
    if (lease.job, lease.attempt, lease.run) != (job, attempt, run):
        raise LeaseError(
            BAD_LEASE,
            f"made for attempt {lease.attempt} at {lease.job[:24]} in run {lease.run}; the request "
            f"is of attempt {attempt} at {job[:24]} and came in run {run}",
        )
    if held is None or lease.fence > held.fence:
        return lease
    if lease.fence < held.fence:
        raise LeaseError(STALE_LEASE, f"its fence is {lease.fence}, that followed {held.fence}")
    if lease.run != held.run:
        raise LeaseError(STALE_LEASE, f"fence {held.fence} belongs to run {held.run}")
    return lease
