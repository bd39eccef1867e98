"""The coordinator's Flower `ServerApp`: drives one job over a Grid and says how it ended.

Decides the order of the conversation (PROTOCOL.md) and who is at fault when it stops. It does not
decide what to ask (the task's generator does), whether a node may answer (its guard does), or what
may be released (the output gate does). It holds no state between jobs and nothing of Flower's: the
Grid comes as an argument.

    outcome = run_job(session, grid)
    match outcome:
        case Completed(): ...       # result, or aggregate ciphertexts for the buyer
        case Refused(): ...         # {asset: reason}
        case Failed(): ...          # {asset: reason}, or the task's own error

A job that ends early still ends at every node: whoever did not refuse is told `failed`, and closes
its reservation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from federated.errors import (
    ContributionError,
    FederatedError,
    GridError,
    MessageError,
    PeerKeyError,
    ReceiptError,
    TaskError,
)
from federated.messages import (
    Contribution,
    Failure,
    FinishReply,
    FinishRequest,
    KeysReply,
    KeysRequest,
    Refusal,
    Reply,
    RoundRequest,
    open_mask_key,
    read_reply,
)
from federated.plan import Plan, Question, Words
from federated.records import MESSAGE_TYPE, pack, unpack
from federated.rounds import RoundRecord, add_ciphertexts, add_words, open_receipt
from federated.tasks import Task, replay
from ledger.keys import VerifyKey
from privacy.paillier import PublicKey

NO_REPLY: Final = "no_reply"
NODE_ERROR: Final = "node_error"
DUPLICATE: Final = "duplicate"
MALFORMED: Final = "malformed"
UNEXPECTED: Final = "unexpected"
BAD_MASK_KEY: Final = "bad_mask_key"
BAD_RECEIPT: Final = "bad_receipt"
_ISOLATING = "isolating_parameters"


@dataclass(frozen=True)
class Member:
    """One node of the cohort.

    Attributes:
        node_id: Flower's number for it.
        key: the node's key, from its asset statement.
        evidence: where this node finds the proofs of its agreement, job and grant.
    """

    node_id: int
    key: VerifyKey
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """One node did one thing, for a progress bar.

    Attributes:
        round: 0 for the exchange of keys.
        step: `keys`, the question's step, or `finish`.
        asset: which node.
        state: `answered`, `refused` or `failed`.
    """

    round: int
    step: str
    asset: str
    state: str


@dataclass(frozen=True)
class Completed:
    """Every node answered every round and receipted exactly that.

    Attributes:
        result: what the task computed; None where only the buyer can decrypt.
        ciphertexts: the sum, encrypted; None where there is a result.
        rounds: each round's question, request and contributions.
        receipts: by asset, the signed receipt.
    """

    result: dict[str, Any] | None
    ciphertexts: tuple[bytes, ...] | None
    rounds: tuple[RoundRecord, ...]
    receipts: Mapping[str, bytes]


@dataclass(frozen=True)
class Refused:
    """At least one node will not compute.

    Attributes:
        reasons: by asset, the node's word.
        receipts: by asset, refusals and the receipts of nodes that then closed the job.
        failures: by asset, nodes that failed in the same exchange.
    """

    reasons: Mapping[str, str]
    receipts: Mapping[str, bytes]
    failures: Mapping[str, str]


@dataclass(frozen=True)
class Failed:
    """The job could not be finished.

    Attributes:
        reasons: by asset, one word; empty where the task itself failed.
        error: the task's error or the sum's, with its own message; None where nodes failed.
        rounds: rounds completed until then.
        receipts: by asset, from the nodes that closed the job.
    """

    reasons: Mapping[str, str]
    error: FederatedError | None
    rounds: tuple[RoundRecord, ...]
    receipts: Mapping[str, bytes]


Outcome = Completed | Refused | Failed

_Kind = TypeVar("_Kind", KeysReply, Contribution, FinishReply)


def _no_progress(_: Progress) -> None:
    pass


@dataclass(frozen=True)
class Session:
    """One attempt at one job.

    Attributes:
        job: id of the job statement.
        attempt: 1 for the first.
        plan: the fixed parameters, from the signed job and the data cards.
        task: whose questions are asked.
        members: by asset id, the whole cohort.
        encryption_key: the buyer's public key for an encrypted task; None for others.
        timeout: seconds that one exchange may take; no limit where None.
        deliver: called once, with the outcome.
        progress: called for each node and exchange.

    Raises:
        TaskError: an encrypted task without a key (the sum would be open to the operator), or a
            key for a task that does not encrypt.
        GridError: one node for two assets.
    """

    job: str
    attempt: int
    plan: Plan
    task: Task
    members: Mapping[str, Member]
    deliver: Callable[[Outcome], None]
    encryption_key: PublicKey | None = None
    timeout: float | None = None
    progress: Callable[[Progress], None] = _no_progress

    def __post_init__(self) -> None:
        if self.task.encrypted != (self.encryption_key is not None):
            has = "needs" if self.task.encrypted else "has no use for"
            raise TaskError(
                "bad_parameter", f"task {self.task.name} {has} an encryption key; change the job"
            )
        if len({member.node_id for member in self.members.values()}) != len(self.members):
            raise GridError("two assets of the cohort have the same node")

    @property
    def cohort(self) -> tuple[str, ...]:
        """Ids of all assets, ascending."""
        return tuple(sorted(self.members))


def make_server_app(session: Session) -> ServerApp:
    """Return a Flower app that drives `session` to its outcome when called with a Grid."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        del context  # Flower's run state plays no part: the outcome goes to the session.
        session.deliver(_Conversation(session, grid).hold())

    return app


def run_in_process(app: ServerApp, grid: Grid) -> None:
    """Call a ServerApp as a SuperLink's process would."""
    run_id = grid.run.run_id
    app(grid, Context(run_id=run_id, node_id=0, node_config={}, state=RecordDict(), run_config={}))


class _StoppedError(Exception):
    """Nodes refused or failed in one exchange; never leaves this module."""

    def __init__(self, failures: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.refusals: dict[str, Refusal] = {}
        self.failures: dict[str, str] = dict(failures or {})

    def raise_if_any(self) -> None:
        if self.refusals or self.failures:
            raise self


class _Conversation:
    """The exchanges of one job, in order."""

    def __init__(self, session: Session, grid: Grid) -> None:
        self._session = session
        self._grid = grid
        self._rounds: list[RoundRecord] = []
        self._mask_keys: dict[str, bytes] = {}

    def hold(self) -> Outcome:
        """Drive the job from the first question to the receipts."""
        try:
            # Before any node reserves anything: a plan that cannot work costs nobody a use.
            self._first_question()
        except FederatedError as error:
            return Failed({}, error, (), {})
        try:
            self._exchange_keys()
            result, ciphertexts = self._compute()
            receipts = self._finish()
        except _StoppedError as stop:
            return self._stopped(stop)
        except ContributionError as error:
            return self._stopped(_StoppedError({error.asset: error.reason}))
        except FederatedError as error:
            return Failed({}, error, tuple(self._rounds), self._abandon({}))
        except BaseException:
            # A defect: the nodes must still be released before it surfaces.
            self._abandon({})
            raise
        return Completed(result, ciphertexts, tuple(self._rounds), receipts)

    def _compute(self) -> tuple[dict[str, Any] | None, tuple[bytes, ...] | None]:
        """Ask what the task asks; return its result, or the encrypted sum."""
        session, key = self._session, self._session.encryption_key
        if key is None:
            # The very function with which the buyer's client computes the result once more.
            return replay(session.task, session.plan, self._total), None
        return None, add_ciphertexts(self._ask(self._first_question()), key)

    def _total(self, question: Question) -> Words:
        try:
            return add_words(self._ask(question))
        except _StoppedError as stop:
            if stop.refusals or set(stop.failures.values()) != {_ISOLATING}:
                raise
            # The nodes saw where the model is going, not a fault of theirs: the task knows what
            # that means for the whole computation.
            raise TaskError(
                _ISOLATING, "nodes refused a model point at which few rows count"
            ) from stop

    def _first_question(self) -> Question:
        """Return what the task asks first; the same each time, as its generator is pure."""
        conversation = self._session.task.conduct(self._session.plan)
        question = next(conversation)
        conversation.close()
        return question

    def _exchange_keys(self) -> None:
        """Ask every node for its first mask key; each checks its evidence and reserves the use."""
        session = self._session
        bodies = {
            asset: KeysRequest(
                session.job, session.attempt, 1, session.cohort, member.evidence
            ).to_bytes()
            for asset, member in session.members.items()
        }
        replies = self._exchange(bodies, KeysReply, 0, "keys")
        self._take_mask_keys({asset: reply.mask_key for asset, (reply, _) in replies.items()}, 1)

    def _ask(self, question: Question) -> dict[str, Contribution]:
        """Put one question to all nodes and record the round."""
        session = self._session
        number = len(self._rounds) + 1
        request = RoundRequest(
            session.job, session.attempt, number, question.to_json(), self._mask_keys
        ).to_bytes()
        replies = self._exchange(
            dict.fromkeys(session.members, request), Contribution, number, question.step
        )
        bodies = {asset: body for asset, (_, body) in replies.items()}
        record = RoundRecord(number, question, request, bodies)
        contributions = self._opened(record)
        next_keys = {asset: each.next_mask_key for asset, each in contributions.items()}
        self._take_mask_keys(next_keys, number + 1)
        self._rounds.append(record)
        return contributions

    def _opened(self, record: RoundRecord) -> dict[str, Contribution]:
        """Check the contributions of a round, and of which kind they are."""
        stop = _StoppedError()
        encrypted = self._session.encryption_key is not None
        contributions = {}
        for asset in record.contributions:
            try:
                found = record.open_one(asset, self._session.job, self._session.attempt)
            except ContributionError as error:
                stop.failures[asset] = error.reason
                continue
            if (found.words is None) != encrypted:
                stop.failures[asset] = "wrong_form"
            contributions[asset] = found
        stop.raise_if_any()
        return contributions

    def _take_mask_keys(self, keys: Mapping[str, bytes], round_number: int) -> None:
        """Keep the signed mask keys of a round, having looked at each.

        The nodes verify them again: the coordinator looks only to name the right culprit.
        """
        stop = _StoppedError()
        for asset, data in keys.items():
            try:
                open_mask_key(
                    data,
                    self._session.members[asset].key,
                    asset=asset,
                    job=self._session.job,
                    attempt=self._session.attempt,
                    round_number=round_number,
                    cohort=self._session.cohort,
                )
            except PeerKeyError:
                stop.failures[asset] = BAD_MASK_KEY
        stop.raise_if_any()
        self._mask_keys = dict(keys)

    def _finish(self) -> dict[str, bytes]:
        """Tell every node that the job is complete and take its receipt."""
        number = len(self._rounds)
        body = FinishRequest(
            self._session.job, self._session.attempt, number, "completed"
        ).to_bytes()
        replies = self._exchange(
            dict.fromkeys(self._session.members, body), FinishReply, number, "finish"
        )
        stop = _StoppedError()
        for asset, (reply, _) in replies.items():
            try:
                open_receipt(
                    reply.receipt,
                    self._session.members[asset].key,
                    asset=asset,
                    job=self._session.job,
                    rounds=self._rounds,
                )
            except ReceiptError:
                stop.failures[asset] = BAD_RECEIPT
        stop.raise_if_any()
        return {asset: reply.receipt for asset, (reply, _) in replies.items()}

    def _stopped(self, stop: _StoppedError) -> Outcome:
        receipts = self._abandon(stop.refusals)
        if not stop.refusals:
            return Failed(stop.failures, None, tuple(self._rounds), receipts)
        for asset, refusal in stop.refusals.items():
            if refusal.receipt is not None:
                receipts[asset] = refusal.receipt
        reasons = {asset: refusal.reason for asset, refusal in stop.refusals.items()}
        return Refused(reasons, receipts, stop.failures)

    def _abandon(self, refused: Mapping[str, Refusal]) -> dict[str, bytes]:
        """Release every node that did not refuse; return the receipts that come back."""
        number = len(self._rounds)
        body = FinishRequest(self._session.job, self._session.attempt, number, "failed").to_bytes()
        bodies = dict.fromkeys((a for a in self._session.members if a not in refused), body)
        replies, _ = self._send(bodies, FinishReply, number, "finish")
        return {asset: reply.receipt for asset, (reply, _) in replies.items()}

    def _exchange(
        self, bodies: Mapping[str, bytes], wanted: type[_Kind], number: int, step: str
    ) -> dict[str, tuple[_Kind, bytes]]:
        """Send and collect; every node must answer with what is wanted.

        Raises:
            _StoppedError: any did not.
        """
        replies, stop = self._send(bodies, wanted, number, step)
        stop.raise_if_any()
        return replies

    def _send(
        self, bodies: Mapping[str, bytes], wanted: type[_Kind], number: int, step: str
    ) -> tuple[dict[str, tuple[_Kind, bytes]], _StoppedError]:
        """Send one body to each node and sort what comes back by who sent it."""
        session = self._session
        messages = [
            self._grid.create_message(
                pack(bodies[asset]), MESSAGE_TYPE, session.members[asset].node_id, str(number)
            )
            for asset in sorted(bodies)
        ]
        received: dict[int, list[Message]] = {}
        for message in self._grid.send_and_receive(messages, timeout=session.timeout):
            received.setdefault(message.metadata.src_node_id, []).append(message)
        replies: dict[str, tuple[_Kind, bytes]] = {}
        stop = _StoppedError()
        for asset in sorted(bodies):
            state = "answered"
            found = _read_one(asset, session.job, received.get(session.members[asset].node_id, []))
            if isinstance(found, str):
                stop.failures[asset] = found
                state = "failed"
            elif isinstance(found[0], Refusal):
                stop.refusals[asset] = found[0]
                state = "refused"
            elif isinstance(found[0], wanted):
                replies[asset] = (found[0], found[1])
            else:
                stop.failures[asset] = UNEXPECTED
                state = "failed"
            session.progress(Progress(number, step, asset, state))
        return replies, stop


def _read_one(asset: str, job: str, messages: list[Message]) -> tuple[Reply, bytes] | str:
    """Return a node's reply with its bytes, or the word for what is wrong with it."""
    if not messages:
        return NO_REPLY
    if len(messages) > 1:
        return DUPLICATE
    if messages[0].has_error():
        # Not the error's own text: it comes from a node's process and may hold anything.
        return NODE_ERROR
    try:
        body = unpack(messages[0])
        reply = read_reply(body)
    except MessageError:
        return MALFORMED
    if isinstance(reply, Refusal) and (reply.asset, reply.job) != (asset, job):
        return UNEXPECTED
    return reply.reason if isinstance(reply, Failure) else (reply, body)
