"""Whose requests a node answers: the leases that it follows, one for each job under way.

Decides, before anything else happens with a request, whether the operator says that the Flower run
which it came in drives its attempt. Does not decide what is answered: the journal and the guard do.

    leases = Leases(log)
    leases.check(asked, read_on)        # raises, and nothing has happened; or returns
    leases.keep(jobs_under_way)         # those of other jobs are forgotten

What is followed stands in memory alone. A node that was started anew follows the first good lease
that comes, and its journal still lets no attempt go back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from federated.errors import FederatedError, LeaseError, LeaseSignatureError, RefusedError
from federated.lease import BAD_LEASE, Lease, follow, open_lease
from federated.messages import KeysRequest, Request
from federated.node.work import Asked
from ledger.client import LogClient
from ledger.errors import EvidenceError, LedgerError
from ledger.keys import VerifyKey
from ledger.statements import Author

_log = logging.getLogger(__name__)
_OPERATOR = Author("operator")


class Leases:
    """The leases that one node follows.

    Args:
        log: as the node has read and verified it; says whose the operator's key is.
    """

    def __init__(self, log: LogClient) -> None:
        self._log = log
        self._held: dict[str, tuple[bytes, Lease]] = {}

    def check(self, asked: Asked, read_on: Callable[[], None]) -> None:
        """Return only if a request came with a lease to follow.

        Args:
            asked: the request, and what came with it.
            read_on: reads the log on. Called once where the lease is not signed by the operator, as
                far as the log was read: its key may have changed since.

        Raises:
            LeaseError: none came, or one that is not followed.
            RefusedError: keys are asked for, and the log, of which this node knows nothing yet, is
                not believed.
        """
        request, signed = asked.request, asked.beside.lease
        if signed is None:
            raise LeaseError(BAD_LEASE, "the request came without a lease")
        data, held = self._held.get(request.job, (b"", None))
        lease = held if held is not None and data == signed else None
        if lease is None:
            lease = self._opened(signed, request, read_on)
        followed = follow(
            held, lease, job=request.job, attempt=request.attempt, run=asked.beside.run
        )
        self._held[request.job] = signed, followed

    def keep(self, jobs: Collection[str]) -> None:
        """Forget the leases of all jobs but these."""
        self._held = {job: held for job, held in self._held.items() if job in jobs}

    def _opened(self, signed: bytes, request: Request, read_on: Callable[[], None]) -> Lease:
        try:
            return open_lease(signed, self._operator_key())
        except LeaseSignatureError as error:
            _log.info("%s: %s; reading the log on", request.job[:24], error)
        try:
            read_on()
        except (FederatedError, LedgerError) as error:
            refused = isinstance(error, RefusedError) and isinstance(request, KeysRequest)
            if refused and self._log.history.operator is None:
                # Nobody's word can be told from another's under such a log: that is receipted.
                raise
            _log.warning("the log could not be read on for a lease: %s", error)
        return open_lease(signed, self._operator_key())

    def _operator_key(self) -> VerifyKey:
        """Return the key that the operator signs with, as far as the log was read.

        Raises:
            LeaseSignatureError: it shows no operator, or one that was revoked.
        """
        history = self._log.history
        try:
            signer = history.signer(_OPERATOR)
        except EvidenceError:
            raise LeaseSignatureError("the log shows no operator") from None
        if any(history.revoked_before(name, history.size) for name in signer.subjects):
            raise LeaseSignatureError("the operator was revoked")
        return signer.key
