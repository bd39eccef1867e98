"""One attempt at one job, in memory: its permit, its secrets and the questions answered so far.

Lost in a crash, and the attempt with it: the secrets of a round are never written down.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from federated.code import code_of
from federated.errors import MessageError, RefusedError
from federated.messages import (
    Beside,
    Contribution,
    KeysRequest,
    Reply,
    Request,
    RoundRequest,
    SharesReply,
    SharesRequest,
    SurvivorsReply,
    SurvivorsRequest,
    UnmaskReply,
    UnmaskRequest,
    body_digest,
)
from federated.node.books import Account
from federated.node.guard import Permit
from federated.node.journal import Book
from federated.node.masks import RoundSecrets
from federated.node.rows import Rows
from federated.peers import Use
from federated.plan import Plan, Question, Words
from federated.rounds import encrypt_words, words_to_bytes
from federated.tasks import Task
from ledger.encoding import b64decode
from ledger.errors import EncodingError
from ledger.keys import SigningKey
from privacy.paillier import public_half


@dataclass(frozen=True)
class Asked:
    """A request with its digest, and what came beside it."""

    request: Request
    digest: str
    beside: Beside


@dataclass
class Attempt:
    """What a node holds of any attempt while it is under way.

    Attributes:
        asset: this node's.
        number: the round to come.
        last: the newest reply, by the digest of its request: should it not become durable, the same
            request finds it again, as no step can be taken twice.
    """

    asset: str
    node_key: SigningKey = field(repr=False)
    permit: Permit
    attempt: int
    plan: Plan
    number: int = field(default=1, kw_only=True)
    last: dict[str, Reply] = field(default_factory=dict, repr=False, kw_only=True)

    def use(self, number: int) -> Use:
        """Return what is signed for a round."""
        return Use(self.permit.job_id, self.attempt, number, self.permit.job.assets)

    def account(self, account: Account) -> Account:
        """Return an account of this job with what the permit says of it."""
        return replace(
            account,
            grant=None if account.state == "refused" else self.permit.grant_id,
            code_digest=code_of(self.permit.job),
            log_size=self.permit.log_size,
        )

    def check_turn(self, number: int, sent: int) -> None:
        """Check that a round is the next one, and that one more is granted.

        Raises:
            RefusedError: `grant_mismatch`.
        """
        granted = self.permit.grant.rounds if self.permit.grant else 0
        if number != self.number or sent >= granted:
            raise RefusedError("grant_mismatch", f"round {number} is not the next one")


@dataclass
class Work(Attempt):
    """An attempt in which questions are answered.

    Attributes:
        secrets: its own, by round.
        sent: how many rounds were answered, in this attempt and before.
        asked: the questions that stay answered, by round.
        parties: who is in the sums of the present conversation.
        settled: whether these are the survivors of its first round; before, some may yet drop out.
        first: the round of its first question; 0 before any.
        revealed: whether shares for its first sum were revealed here.
    """

    task: Task
    secrets: dict[int, RoundSecrets] = field(default_factory=dict, repr=False)
    rows: Rows | None = field(default=None, repr=False)
    sent: int = 0
    asked: dict[int, Question] = field(default_factory=dict)
    parties: frozenset[str] = frozenset()
    settled: bool = False
    first: int = 0
    revealed: bool = False

    def go_on(self, number: int, earlier: Earlier, before: Work | None) -> None:
        """Take over what stays of earlier attempts.

        Args:
            number: the round with which this attempt begins.
            earlier: the questions that stay answered.
            before: what this process still holds of the attempt before, if anything.
        """
        self.number, self.sent = number, earlier.sent
        self.asked = {each.round: Question.from_json(each.question) for each in earlier.requests}
        if earlier.requests:
            begun, last = earlier.requests[0], earlier.requests[-1]
            self.first, self.parties = begun.round, frozenset(last.mask_keys)
            self.settled, self.revealed = last is not begun, True
        if before is not None:
            self.rows = before.rows
            if not earlier.requests or before.first == self.first:
                # Whoever would begin anew must still show that somebody left.
                self.parties, self.settled = before.parties, before.settled
                self.revealed = before.revealed

    def fresh(self, number: int, answered: str = "") -> bytes:
        """Draw the secrets of a round; return their public halves, signed by the node.

        Args:
            number: the round.
            answered: digest of the request that is answered together with them.
        """
        use = self.use(number)
        grant = self.permit.grant
        minimum = len(use.cohort) if grant is None else grant.minimum_parties
        providers = {name: asset.provider for name, asset in self.permit.assets.items()}
        self.secrets[number] = RoundSecrets.fresh(
            use, self.asset, self.node_key, minimum, providers, answered
        )
        return self.secrets[number].signed

    def of(self, number: int) -> RoundSecrets:
        """Return the secrets of a round.

        Raises:
            RefusedError: `grant_mismatch`: that round is over, or not begun.
        """
        if number not in self.secrets:
            raise RefusedError("grant_mismatch", f"round {number} is not under way here")
        return self.secrets[number]

    def step(self, request: SharesRequest | SurvivorsRequest | UnmaskRequest, asked: str) -> Reply:
        """Take a step of a round besides the answer: nothing of the data is touched in it.

        Args:
            request: which step.
            asked: its digest.

        Raises:
            RefusedError: as `RoundSecrets`.
        """
        if asked not in self.last:
            self.last = {asked: self._step(request)}
        return self.last[asked]

    def _step(self, request: SharesRequest | SurvivorsRequest | UnmaskRequest) -> Reply:
        number = request.round
        secrets, keys = self.of(number), self.permit.node_keys
        place = (self.asset, request.job, request.attempt, number)
        if isinstance(request, SharesRequest):
            return SharesReply(*place, secrets.deal(request.mask_keys, keys))
        if isinstance(request, SurvivorsRequest):
            signed = secrets.agree(request.survivors, self.node_key)
            self._settle(number, request.survivors)
            return SurvivorsReply(*place, signed)
        after = self.of(number + 1)
        boxes = after.deal(request.mask_keys, keys)
        shares = secrets.reveal(request.lists, request.boxes, keys, after)
        # With the secrets gone, no later code can mask or reveal anything under them.
        del self.secrets[number]
        self.revealed |= number == self.first
        self._settle(number, secrets.survivors)
        return UnmaskReply(*place, shares, boxes)

    def _settle(self, number: int, survivors: tuple[str, ...]) -> None:
        """Remember whose first sum this is: its conversation goes on among exactly those."""
        if number == self.first:
            self.parties, self.settled = frozenset(survivors), True

    def contribution(self, request: RoundRequest, masked: Words) -> Contribution:
        """Return an answer as it travels: encrypted where the task says so."""
        plain, sealed = None, None
        if self.task.encrypted:
            public = public_half(self.permit.job.encryption_key)
            sealed = encrypt_words(public, masked, request.mask_keys)
        else:
            plain = words_to_bytes(masked)
        return Contribution(
            asset=self.asset,
            job=request.job,
            attempt=request.attempt,
            round=request.round,
            words=plain,
            ciphertexts=sealed,
            seed_commitment=self.of(request.round).commitment(),
            next_mask_key=self.fresh(request.round + 1, self.of(request.round).request),
        )

    def mask(self, request: RoundRequest, words: Words, asked: str) -> None:
        """Mask an answer, and keep it until it is durable."""
        masked = self.of(request.round).mask(words, request.mask_keys, asked)
        self.last = {asked: self.contribution(request, masked)}

    def check_next(self, request: RoundRequest, question: Question, asked: str) -> None:
        """Check that a question may be asked now.

        A conversation begins anew only when somebody has left it: the answers of those who stayed
        must be added up among themselves from the first question on. Until then it goes on among
        the same: sums at one point over one set of parties after the other would be the parties'
        own numbers.

        Raises:
            RefusedError: `grant_mismatch`: another round's turn, more than granted, other parties
                than before, or a conversation that begins anew without need; as `RoundSecrets`.
            TaskError: out_of_order.
        """
        self.check_turn(request.round, self.sent)
        begins = request.first == request.round
        if not begins and (request.first != self.first or not self.asked):
            raise RefusedError("grant_mismatch", "the conversation began in another round")
        parties = frozenset(request.mask_keys)
        if self.parties and not parties <= self.parties:
            raise RefusedError("grant_mismatch", "somebody is asked who was not in the sums before")
        if begins and self.revealed and parties == self.parties:
            raise RefusedError("grant_mismatch", "nobody left: the questions go on as they began")
        if not begins and self.settled and parties != self.parties:
            raise RefusedError("grant_mismatch", "somebody left: the questions begin anew")
        earlier = [] if begins else [self.asked[at] for at in sorted(self.asked)]
        self.task.check_order(earlier, question)
        if asked not in self.last:
            self.of(request.round).check_question(request.mask_keys)

    def answered(self, request: RoundRequest, question: Question) -> None:
        """Remember a question that was answered."""
        if request.first == request.round:
            self.first, self.settled, self.revealed = request.first, False, False
            self.asked = {}
        self.parties = frozenset(request.mask_keys)
        self.asked[request.round] = question
        self.number, self.sent = request.round + 1, self.sent + 1


@dataclass(frozen=True)
class Earlier:
    """What earlier attempts at a job came to.

    Attributes:
        requests: those whose answers stay, in order: one conversation from its first question on.
        sent: how many rounds were answered at all.
    """

    requests: tuple[RoundRequest, ...] = ()
    sent: int = 0


def read_earlier(request: KeysRequest, book: Book, asset: str) -> Earlier:
    """Return what stays of earlier attempts, as a coordinator shows it and the journal knows it.

    Raises:
        RefusedError: `grant_mismatch`: not a newer attempt, a round that was answered before, other
            questions than were answered, or some left out whose sums were opened.
    """
    _, sent = book.contributions(request.job, asset)
    answered = {each.round: each.request for each in sent}
    if request.attempt <= book.last_attempt(request.job, asset):
        raise RefusedError("grant_mismatch", "this attempt, or a later one, was begun here before")
    if request.round <= max(answered, default=0):
        raise RefusedError("grant_mismatch", f"round {request.round} was answered before")
    listed = request.evidence.get("earlier", [])
    try:
        bodies = [b64decode(each) for each in listed]
        found = [RoundRequest.from_bytes(body) for body in bodies]
    except (TypeError, EncodingError, MessageError) as error:
        raise RefusedError("grant_mismatch", "the questions asked before cannot be read") from error
    for each, body in zip(found, bodies, strict=True):
        if answered.get(each.round) != body_digest(body) or each.first != found[0].round:
            raise RefusedError("grant_mismatch", f"round {each.round} was another question here")
    numbers = [each.round for each in found]
    kept = {number for number in book.opened(request.job, asset) if numbers and number > numbers[0]}
    if numbers != sorted(set(numbers)) or not kept <= set(numbers):
        raise RefusedError("grant_mismatch", "an answered question was left out")
    return Earlier(tuple(found), len(answered))
