"""How a job ends at its nodes: with a receipt of each, whatever came of it.

Decides who is at fault when a job stops, and whether a receipt is that of what took place. Does not
decide whether a job goes on: `federated.server_app` and `federated.relay` do, one for sums and one
for nodes that talk to each other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from federated.errors import FederatedError, ReceiptError
from federated.exchange import Exchange, Replies
from federated.messages import FinishReply, FinishRequest, Refusal
from federated.rounds import Record, open_receipt
from federated.session import Failed, Outcome, Refused, Session

BAD_RECEIPT: Final = "bad_receipt"


class StoppedError(Exception):
    """Nodes refused or failed, or too many are gone; never leaves the coordinator."""

    def __init__(
        self,
        failures: Mapping[str, str] | None = None,
        refusals: Mapping[str, Refusal] | None = None,
    ) -> None:
        """Take the words by asset, and the refusals."""
        super().__init__()
        self.refusals = dict(refusals or {})
        self.failures = dict(failures or {})


class Ending:
    """The end of one job.

    Args:
        session: the job.
        exchange: where its nodes are reached.
    """

    def __init__(self, session: Session, exchange: Exchange) -> None:
        self._session = session
        self._exchange = exchange

    def body(self, number: int, state: str) -> bytes:
        """Return the request that ends the job: after so many rounds, `completed` or `failed`."""
        job, attempt = self._session.job, self._exchange.attempt
        return FinishRequest(job, attempt, number, state).to_bytes()

    def receipts(
        self, replies: Mapping[str, FinishReply], rounds: Sequence[Record]
    ) -> dict[str, bytes]:
        """Return the receipts of nodes that completed the job, each checked.

        Raises:
            StoppedError: one is not its node's account of these rounds.
        """
        failures = {}
        for asset, reply in replies.items():
            key = self._session.members[asset].key
            try:
                open_receipt(reply.receipt, key, asset=asset, job=self._session.job, rounds=rounds)
            except ReceiptError:
                failures[asset] = BAD_RECEIPT
        if failures:
            raise StoppedError(failures)
        return {asset: reply.receipt for asset, reply in replies.items()}

    def stopped(
        self, stop: StoppedError, gone: Mapping[str, str], rounds: Sequence[Record], number: int
    ) -> Outcome:
        """Release the nodes of a job that stopped; return how it ended."""
        receipts = self.abandon(stop.refusals, number)
        failures = {**gone, **stop.failures}
        if not stop.refusals:
            return Failed(failures, None, tuple(rounds), receipts)
        for asset, refusal in stop.refusals.items():
            if refusal.receipt is not None:
                receipts[asset] = refusal.receipt
        reasons = {asset: refusal.reason for asset, refusal in stop.refusals.items()}
        return Refused(reasons, receipts, failures)

    def failed(self, error: FederatedError, rounds: Sequence[Record], number: int) -> Outcome:
        """Release the nodes of a job that the task or the sum stopped; return how it ended."""
        return Failed({}, error, tuple(rounds), self.abandon({}, number))

    def abandon(self, refused: Collection[str], number: int) -> dict[str, bytes]:
        """Release every node that did not refuse; return the receipts that come back."""
        left = [asset for asset in self._session.members if asset not in refused]
        replies = self.send_end(left, number)
        return {asset: reply.receipt for asset, (reply, _) in replies.answers.items()}

    def send_end(self, assets: Collection[str], number: int) -> Replies[FinishReply]:
        """Tell nodes that the job ended without a result."""
        body = self.body(number, "failed")
        return self._exchange.send(dict.fromkeys(assets, body), FinishReply, number, "end")
