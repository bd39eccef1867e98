"""The coordinator of a joint job: carries what the nodes say to each other, and collects reports.

Decides that everybody speaks in turn and that a job comes to an end. It cannot read or change what
it carries (`federated.channel`), and holds nothing back unnoticed: the nodes would not go on.

    outcome = Relay(session, task, grid).hold()

A job ends without a result when any node refuses, fails or is gone: what nodes told each other in
secret belongs to exactly these processes, and nobody takes another's place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from flwr.serverapp import Grid

from federated.ending import Ending, StoppedError
from federated.errors import FederatedError, MessageError, TaskError
from federated.exchange import Exchange
from federated.messages import (
    Answer,
    FinishReply,
    KeysReply,
    KeysRequest,
    RelayReply,
    RelayRequest,
)
from federated.rounds import RelayRecord, read_reports
from federated.session import Completed, Failed, Outcome, Session
from federated.tasks import JointTask

WRONG_PARCELS: Final = "wrong_parcels"
WRONG_PLACE: Final = "wrong_place"
WRONG_REPORT: Final = "wrong_report"

Kind = TypeVar("Kind", bound=Answer)


class Relay:
    """One joint job, from the keys to the receipts.

    Args:
        session: the job.
        task: the session's.
        grid: Flower's.
    """

    def __init__(self, session: Session, task: JointTask, grid: Grid) -> None:
        self._session = session
        self._task = task
        self._exchange = Exchange(session, grid)
        self._ending = Ending(session, self._exchange)
        self._rounds: list[RelayRecord] = []

    def hold(self) -> Outcome:
        """Drive the job to its outcome."""
        try:
            self._task.check_plan(self._session.plan)
        except FederatedError as error:
            # Before any node reserves anything.
            return Failed({}, error, (), {})
        try:
            result = self._talk()
            receipts = self._finish()
        except StoppedError as stop:
            return self._ending.stopped(stop, {}, self._rounds, len(self._rounds))
        except FederatedError as error:
            return self._ending.failed(error, self._rounds, len(self._rounds))
        except BaseException:
            # A defect: the nodes must still be released before it surfaces.
            self._ending.abandon({}, len(self._rounds))
            raise
        return Completed(result, None, tuple(self._rounds), receipts)

    def _talk(self) -> dict[str, Any]:
        """Carry parcels until every node has reported; return what their reports come to.

        Raises:
            StoppedError: a node refused, failed or is gone, or said what it must not.
            TaskError: no end came in as many rounds as the task may take; as `conclude`.
        """
        keys = self._keys()
        parcels: dict[str, dict[str, bytes]] = {asset: {} for asset in keys}
        for number in range(1, self._task.most_rounds + 1):
            replies = self._carry(number, keys if number == 1 else {}, parcels)
            if all(reply.report is not None for reply in replies.values()):
                reports = self._reports()
                return self._task.conclude(self._session.plan, reports)
            parcels = {
                receiver: {
                    sender: reply.parcels[receiver]
                    for sender, reply in replies.items()
                    if receiver in reply.parcels
                }
                for receiver in keys
            }
        raise TaskError(
            "out_of_order", f"task {self._task.name} did not end in {self._task.most_rounds} rounds"
        )

    def _keys(self) -> dict[str, bytes]:
        """Have each node check its evidence, reserve the use and sign its channel key."""
        session = self._session
        bodies = {
            asset: KeysRequest(
                session.job, self._exchange.attempt, 1, session.cohort, member.evidence
            ).to_bytes()
            for asset, member in session.members.items()
        }
        replies = self._all(bodies, KeysReply, 0, "keys")
        return {asset: reply.mask_key for asset, (reply, _) in replies.items()}

    def _carry(
        self, number: int, keys: Mapping[str, bytes], parcels: Mapping[str, Mapping[str, bytes]]
    ) -> dict[str, RelayReply]:
        """Hand every node what is for it; return what each says, checked for form."""
        job, attempt = self._session.job, self._exchange.attempt
        bodies = {
            asset: RelayRequest(job, attempt, number, keys, parcels[asset]).to_bytes()
            for asset in parcels
        }
        replies = self._all(bodies, RelayReply, number, "relay")
        failures = {}
        for asset, (reply, _) in replies.items():
            if (reply.asset, reply.job, reply.attempt, reply.round) != (
                asset,
                job,
                attempt,
                number,
            ):
                failures[asset] = WRONG_PLACE
            elif not set(reply.parcels) <= set(parcels) - {asset}:
                failures[asset] = WRONG_PARCELS
        if failures:
            raise StoppedError(failures)
        # A fit over a large table says hundreds of megabytes; what counts are the reports, at last.
        if self._rounds:
            self._rounds[-1] = replace(self._rounds[-1], bodies={})
        record = {asset: (bodies[asset], body) for asset, (_, body) in replies.items()}
        self._rounds.append(RelayRecord.of(number, record))
        return {asset: reply for asset, (reply, _) in replies.items()}

    def _reports(self) -> dict[str, Mapping[str, Any]]:
        reports: dict[str, Mapping[str, Any]] = {}
        failures = {}
        for asset, (_, body) in self._rounds[-1].bodies.items():
            try:
                reports |= read_reports({asset: body})
            except MessageError:
                failures[asset] = WRONG_REPORT
        if failures:
            raise StoppedError(failures)
        return reports

    def _finish(self) -> dict[str, bytes]:
        body = self._ending.body(len(self._rounds), "completed")
        bodies = dict.fromkeys(self._session.members, body)
        replies = self._all(bodies, FinishReply, len(self._rounds), "finish")
        answers = {asset: reply for asset, (reply, _) in replies.items()}
        return self._ending.receipts(answers, self._rounds)

    def _all(
        self, bodies: Mapping[str, bytes], wanted: type[Kind], number: int, step: str
    ) -> dict[str, tuple[Kind, bytes]]:
        """Send and collect from everybody.

        Raises:
            StoppedError: any refused, failed or is gone.
        """
        replies = self._exchange.send(bodies, wanted, number, step)
        if replies.refusals or replies.failures or replies.gone:
            raise StoppedError({**replies.failures, **replies.gone}, replies.refusals)
        return replies.answers
