"""The node: every message of a job meets the guard, the journal and the data, in that order.

    node = Node(home, asset, service, vault, …)
    reply = node.handle(body, beside)  # what the Flower ClientApp calls, see `client_app`
    node.approve(job)                  # sign a grant, by hand or by rule

For each request, in this order, so that a crash at any point leaves at worst a reserved use:

1. a request without a lease to follow is answered with a word, and nothing else happens;
2. a request answered before gets its stored reply, byte for byte; another request in that place is
   refused;
3. read the log on to its newest checkpoint, verified;
4. let the guard decide, inside the journal's transaction;
5. open the data — for the first time here — and compute;
6. write the reply to the journal, then return it.

Only fixed words leave the node when something goes wrong; sentences go to the node's own log.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from federated.code import code_of
from federated.errors import (
    FederatedError,
    LeaseError,
    MessageError,
    NodeError,
    RefusedError,
)
from federated.messages import (
    ALONE,
    Beside,
    Failure,
    FinishReply,
    FinishRequest,
    KeysReply,
    KeysRequest,
    Refusal,
    RelayRequest,
    Reply,
    Request,
    RoundRequest,
    Step,
    body_digest,
    read_request,
)
from federated.node.books import NO_CODE, Account, Books
from federated.node.failure import failure_word
from federated.node.granting import grant_of
from federated.node.guard import Ask, Limits, Permit, Spent, decide
from federated.node.identity import Identity
from federated.node.journal import FINISH, KEYS, Book, Journal, step_of
from federated.node.leases import Leases
from federated.node.row_sets import open_rows
from federated.node.rows import Rows
from federated.node.service import Service
from federated.node.talk import Means, Talk
from federated.node.vault import Vault
from federated.node.work import Asked, Attempt, Work, read_earlier
from federated.plan import Question
from federated.planning import plan_of
from federated.tasks import JointTask, encode_answer
from ledger.client import LogClient
from ledger.errors import LedgerError
from ledger.statements import Contribution as Receipted
from ledger.statements import Job
from privacy.errors import PrivacyError

_log = logging.getLogger(__name__)

RESTARTED = "restarted"
REPLY_TOO_LONG = "reply_too_long"


class Node:
    """The guardian of one asset.

    Args:
        identity: asset, provider and keys.
        log: reads and verifies the log.
        service: where grants and receipts go.
        vault: knows the asset by its id, with the digest it was listed with.
        means: what the node has for joint jobs.
        journal: this node's own.
        clock: returns Unix milliseconds.
        limits: what the guard permits beyond the terms.
        minimum_rows: fewest rows in which two answered row sets may differ.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        log: LogClient,
        service: Service,
        vault: Vault,
        means: Means,
        journal: Journal,
        clock: Callable[[], int],
        limits: Limits = Limits(),  # noqa: B008 - frozen
        minimum_rows: int = 5,
    ) -> None:
        self._identity = identity
        self._log = log
        self._service = service
        self._vault = vault
        self._means = means
        self._journal = journal
        self._clock = clock
        self._limits = limits
        self._minimum_rows = minimum_rows
        self._work: dict[str, Attempt] = {}
        self._too_long: set[str] = set()
        self._leases = Leases(log)
        self._lock = threading.Lock()
        self._books = Books(
            identity.asset,
            identity.node_key,
            log=log,
            service=service,
            journal=journal,
            clock=clock,
        )

    @property
    def asset(self) -> str:
        """Id of the asset that this node guards."""
        return self._identity.asset

    def handle(self, body: bytes, beside: Beside = ALONE) -> bytes:
        """Answer one request of `federated.messages`; never raises for what a request says.

        Args:
            body: the request.
            beside: what came with it. Without a lease nothing is answered. A checkpoint is verified
                like one that this node asks for, which it does where none came.
        """
        with self._lock:
            try:
                request = read_request(body)
            except MessageError as error:
                _log.warning("unreadable request: %s", error)
                return Failure("", self.asset, "internal").to_bytes()
            try:
                return self._answer_or_refuse(Asked(request, body_digest(body), beside))
            except LeaseError as error:
                # Not written down, nor the job ended: whoever asked may be nobody.
                _log.warning("not followed %s: %s (%s)", request.job[:24], error.reason, error)
                return Failure(request.job, self.asset, error.reason).to_bytes()
            except (FederatedError, PrivacyError, LedgerError) as error:
                _log.warning("failed %s: %s", request.job[:24], error)
                self._books.note_failure(request.job, word := failure_word(error), error)
                return Failure(request.job, self.asset, word).to_bytes()

    def cannot_send(self, body: bytes) -> None:
        """From now on, fail the one request whose reply is too long to be taken from this node."""
        with self._lock:
            self._too_long.add(body_digest(body))

    def _answer_or_refuse(self, asked: Asked) -> bytes:
        try:
            self._leases.check(asked, self._books.read_on)
            return self._answer(asked)
        except RefusedError as error:
            job = asked.request.job
            _log.warning("refused %s: %s (%s)", job[:24], error.reason, error)
            return self._refuse(job, error.reason)

    def waiting(self) -> list[str]:
        """Return ids of jobs that wait for this node's decision."""
        return self._service.requests(self.asset)

    def job(self, job_id: str) -> Job | None:
        """Return a job as its researcher signed it, None when the verified log does not show it."""
        with self._lock:
            self._books.sync()
            logged = self._log.history.by_id.get(job_id)
        found = None if logged is None else logged.statement
        return found if isinstance(found, Job) else None

    def approve(self, job_id: str) -> str:
        """Check a job against the log, reserve its use, sign its grant, hand it in: `granted`.

        Raises:
            RefusedError: the guard does not permit the job; the refusal was receipted.
        """
        with self._lock:
            try:
                self._books.read_on()
                envelope = self._grant(job_id)
            except RefusedError as error:
                self._refuse(job_id, error.reason)
                raise
        self._service.submit("grant", envelope)
        return "granted"

    def reject(self, job_id: str, reason: str) -> None:
        """Refuse a job by hand and hand in the receipt.

        Raises:
            NodeError: the reason is none of the fixed words.
        """
        with self._lock:
            self._books.sync()
            self._refuse(job_id, reason)

    def keep_books(self) -> int:
        """Hand in what the log still lacks of this node, and close every epoch that has ended.

        A job that was launched and that nobody goes on with for an hour is ended as failed.

        Due at the start and again and again afterwards, also when nobody asks for anything.

        Returns:
            How many epochs were closed.

        Raises:
            JournalCutError: the journal has lost lines that the log knows of.
            NodeError: the marketplace cannot be reached; nothing is lost.
            LedgerError: the log does not answer, or cannot be believed.
        """
        with self._lock:
            self._books.sync()
            for job_id in self._books.abandoned():
                _log.warning("nobody went on with %s: it is over here", job_id[:24])
                self._end(job_id)
            with self._journal.read() as book:
                self._leases.keep(book.under_way(self.asset))
        closed = 0
        while True:
            self._books.hand_in()
            with self._lock:
                made = self._books.close_next()
            if made is None:
                return closed
            closed += 1

    def decide_by_rule(self, is_rule: Callable[[], bool] = lambda: True) -> dict[str, str]:
        """Decide every waiting job as the terms say.

        `is_rule` says whether this node decides by rule; it is asked once the waiting jobs are
        known, so that no job is granted that came after a change to deciding by hand.

        Returns:
            By job, `granted`, a reason, or the word for what went wrong: then it waits on.
        """
        verdicts: dict[str, str] = {}
        waiting = self.waiting()
        for job_id in waiting if waiting and is_rule() else ():
            try:
                verdicts[job_id] = self.approve(job_id)
            except RefusedError as error:
                verdicts[job_id] = error.reason
            except (FederatedError, LedgerError) as error:
                _log.warning("undecided %s: %s", job_id[:24], error)
                verdicts[job_id] = failure_word(error)
        return verdicts

    def _grant(self, job_id: str) -> bytes:
        with self._journal.write() as book:
            made = book.decision(job_id, self.asset)
            if made is not None and made[0] == "granted":
                return made[1]
            permit = self._decide(Ask(job_id, self.asset), book.spent(self.asset, job_id))
            self._refuse_ended(book, job_id)
            grant = grant_of(permit, self._identity, self._limits, self._clock())
            envelope = grant.sign(self._identity.provider_key)
            book.reserve(job_id, self.asset, permit.agreement_id, permit.preparation)
            book.decide(job_id, self.asset, "granted", envelope)
            return envelope

    def _answer(self, asked: Asked) -> bytes:
        request = asked.request
        if asked.digest in self._too_long:
            return Failure(request.job, self.asset, REPLY_TOO_LONG).to_bytes()
        repeated = self._repeated(asked)
        if repeated is not None:
            return repeated
        if isinstance(request, KeysRequest):
            return self._keys(request, asked)
        work = self._work.get(request.job)
        if work is not None and work.attempt != request.attempt:
            work = None
        if isinstance(request, FinishRequest):
            return self._finish(work, request, asked.digest)
        if work is None:
            self._refuse_unknown(request)
            # Its secrets are gone with the process that drew them; nobody is to blame.
            return Failure(request.job, self.asset, RESTARTED).to_bytes()
        return self._go_on(work, request, asked)

    def _go_on(self, work: Attempt, request: Step, asked: Asked) -> bytes:
        """Take the next step of an attempt, in the way that its task is asked."""
        if isinstance(work, Talk) and isinstance(request, RelayRequest):
            return self._relay(work, request, asked)
        if not isinstance(work, Work) or isinstance(request, RelayRequest):
            raise RefusedError("grant_mismatch", "this job's task is not asked so")
        if isinstance(request, RoundRequest):
            return self._round(work, request, asked)
        return self._record(request, asked.digest, work.step(request, asked.digest))

    def _repeated(self, asked: Asked) -> bytes | None:
        """Return the stored reply to a request that was answered, None to a new one.

        Raises:
            RefusedError: `grant_mismatch`: another request was answered in its place.
        """
        request, step = asked.request, step_of(asked.request)
        with self._journal.read() as book:
            stored = book.reply(request.job, self.asset, request.attempt, step)
        if stored is None:
            return None
        # A job ends once: whatever is said about its end later, the receipt stays the same.
        if stored[0] != asked.digest and not isinstance(request, FinishRequest):
            raise RefusedError("grant_mismatch", f"another request for {step} was answered")
        if isinstance(request, FinishRequest):
            # The first time it may have been signed and not have arrived.
            self._books.try_to_hand_in()
        return stored[1]

    def _refuse_unknown(self, request: Request) -> None:
        """Refuse an attempt that was never begun here, as against one that was forgotten.

        Raises:
            RefusedError: `grant_mismatch`.
        """
        with self._journal.read() as book:
            begun = book.reply(request.job, self.asset, request.attempt, KEYS)
            if begun is None or not book.is_reserved(request.job, self.asset):
                raise RefusedError("grant_mismatch", "no such attempt is under way here")

    def _record(self, request: Request, asked: str, reply: Reply) -> bytes:
        """Write a reply down, then return it."""
        body, step = reply.to_bytes(), step_of(request)
        with self._journal.write() as book:
            book.record_reply(request.job, self.asset, request.attempt, step, asked, body)
        return body

    def _keys(self, request: KeysRequest, asked: Asked) -> bytes:
        self._books.read_on(asked.beside.checkpoint)
        grant = request.evidence.get("grant")
        ask = Ask(request.job, self.asset, str(grant or ""), request.cohort)
        with self._journal.write() as book:
            permit = self._decide(ask, book.spent(self.asset, request.job))
            self._refuse_ended(book, request.job)
            earlier = read_earlier(request, book, self.asset)
            # Counts again only if the grant was given without this journal.
            book.reserve(request.job, self.asset, permit.agreement_id, permit.preparation)
            work = self._begun(permit, request.attempt)
            if isinstance(work, Talk):
                key = work.begin(request)
            else:
                before = self._work.get(request.job)
                work.go_on(request.round, earlier, before if isinstance(before, Work) else None)
                key = work.fresh(request.round)
            book.launch(request.job, self.asset, request.attempt, permit.grant_id or "")
            reply = KeysReply(self.asset, key).to_bytes()
            book.record_reply(request.job, self.asset, request.attempt, KEYS, asked.digest, reply)
        self._work[request.job] = work
        return reply

    def _round(self, work: Work, request: RoundRequest, asked: Asked) -> bytes:
        question, digest = Question.from_json(request.question), asked.digest
        work.check_next(request, question, digest)
        self._decide_again(work, asked)
        if digest not in work.last:
            work.rows = work.rows or self._open_rows(work)
            words = encode_answer(question.layout, work.task.answer(work.plan, question, work.rows))
            work.mask(request, words, digest)
        reply = self._record(request, digest, work.last[digest])
        work.answered(request, question)
        return reply

    def _relay(self, talk: Talk, request: RelayRequest, asked: Asked) -> bytes:
        talk.check_next(request)
        self._decide_again(talk, asked)
        if asked.digest not in talk.last:
            talk.hear(request, asked.digest, lambda: self._open_rows(talk))
            talk.keep_result()
        reply = self._record(request, asked.digest, talk.last[asked.digest])
        talk.answered()
        return reply

    def _decide_again(self, work: Attempt, asked: Asked) -> None:
        """Let the guard decide on one more round, by what the log says now."""
        job = asked.request.job
        self._books.read_on(asked.beside.checkpoint)
        with self._journal.read() as book:
            ask = Ask(job, self.asset, work.permit.grant_id)
            work.permit = self._decide(ask, book.spent(self.asset, job))
            if not book.is_reserved(job, self.asset):
                raise RefusedError("grant_mismatch", "the job has no open reservation here")

    def _open_rows(self, work: Work | Talk) -> Rows:
        table, _ = self._vault.table(self.asset)
        return open_rows(table, work, self._journal, self._minimum_rows)

    def _finish(self, work: Attempt | None, request: FinishRequest, asked: str) -> bytes:
        if work is None and request.state == "completed":
            # A process that has just begun has read nothing yet, and would know of no job.
            self._books.read_on()
        with self._journal.write() as book:
            if not book.is_reserved(request.job, self.asset):
                raise NodeError("no such job is under way here")
            attempt, sent = book.contributions(request.job, self.asset)
            last = sent[-1].round if sent else 0
            if work is None and request.state == "completed":
                work = self._recalled(book, request)
            complete = (
                work is not None
                and request.state == "completed"
                and (request.attempt, request.rounds) == (attempt, last)
            )
            state, word = ("completed", None) if complete else ("failed", "cancelled")
            receipt = self._books.finish(book, self._account(request.job, state, word, sent))
            reply = FinishReply(receipt).to_bytes()
            book.record_reply(request.job, self.asset, request.attempt, FINISH, asked, reply)
        self._work.pop(request.job, None)
        self._books.try_to_hand_in()
        return reply

    def _recalled(self, book: Book, request: FinishRequest) -> Attempt | None:
        """Return what is needed to account for a job that another process of this node computed.

        None where it was not the newest attempt, or may not be computed any more.
        """
        grant = book.grant_of(request.job, self.asset)
        if grant is None or request.attempt != book.last_attempt(request.job, self.asset):
            return None
        try:
            spent = book.spent(self.asset, request.job)
            permit = self._decide(Ask(request.job, self.asset, grant), spent)
        except RefusedError as error:
            _log.warning("%s is not accounted as completed: %s", request.job[:24], error)
            return None
        self._work[request.job] = self._begun(permit, request.attempt)
        return self._work[request.job]

    def _begun(self, permit: Permit, attempt: int) -> Work | Talk:
        task, plan = plan_of(permit.job, permit.assets)
        place = (self.asset, self._identity.node_key, permit, attempt, plan)
        if isinstance(task, JointTask):
            return Talk(*place, task, self._means, self._service.fetch)
        return Work(*place, task)

    def _end(self, job_id: str) -> None:
        """End a job that was launched here as failed, with what was sent."""
        with self._journal.write() as book:
            # Another process on this journal may have been faster.
            if book.is_reserved(job_id, self.asset):
                _, sent = book.contributions(job_id, self.asset)
                self._books.finish(book, self._account(job_id, "failed", "cancelled", sent))
        self._work.pop(job_id, None)

    def _refuse(self, job_id: str, reason: str) -> bytes:
        """Receipt a refusal, hand it in and return the reply that names it.

        A job that was answered before is receipted as failed, with what was sent: a refusal sends
        nothing, and what left the node must stand in its account.
        """
        with self._journal.write() as book:
            made = book.decision(job_id, self.asset)
            if made is not None and made[0] == reason:
                return Refusal(job_id, self.asset, reason, made[1]).to_bytes()
            reserved = book.is_reserved(job_id, self.asset)
            _, sent = book.contributions(job_id, self.asset) if reserved else (0, ())
            state, word = ("failed", "cancelled") if sent else ("refused", reason)
            try:
                receipt = self._books.finish(book, self._account(job_id, state, word, sent))
            except LedgerError as error:
                raise NodeError(f"the refusal could not be receipted: {error}") from error
            book.decide(job_id, self.asset, reason, receipt)
        self._work.pop(job_id, None)
        self._books.try_to_hand_in()
        return Refusal(job_id, self.asset, reason, receipt).to_bytes()

    def _refuse_ended(self, book: Book, job_id: str) -> None:
        if book.has_ended(job_id, self.asset):
            raise RefusedError("grant_mismatch", "this job has ended here; a new one is needed")

    def _account(
        self, job_id: str, state: str, reason: str | None, sent: tuple[Receipted, ...]
    ) -> Account:
        """Return this node's account of a job; what it sent was read from the journal."""
        account = Account(job_id, None, state, reason, NO_CODE, self._log.size, sent)
        work = self._work.get(job_id)
        return account if work is None else work.account(account)

    def _decide(self, ask: Ask, spent: Spent) -> Permit:
        history, now = self._log.history, self._clock()
        return decide(ask, history, spent, now=now, code=code_of, limits=self._limits)
