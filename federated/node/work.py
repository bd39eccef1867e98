"""One attempt at one job, in memory: its permit, its secrets and the questions answered so far.

Lost in a crash, and the attempt with it: the secrets of a round are never written down.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from federated.errors import RefusedError
from federated.messages import (
    Contribution,
    RoundRequest,
    SharesReply,
    SharesRequest,
    SurvivorsReply,
    SurvivorsRequest,
    UnmaskReply,
    UnmaskRequest,
)
from federated.node.guard import Permit
from federated.node.masks import RoundSecrets
from federated.node.rows import Rows
from federated.peers import Use
from federated.plan import Plan, Question, Words
from federated.rounds import words_to_bytes, write_ciphertexts
from federated.tasks import Task
from ledger.keys import SigningKey
from privacy.paillier import PublicKey, encrypt


@dataclass
class Work:
    """What a node holds of an attempt while it is under way.

    Attributes:
        asset: this node's.
        secrets: its own, by round.
        asked: the questions it answered, by round.
        parties: who took part when the present conversation's first question was asked.
        first: the round of that question; 0 before any.
    """

    asset: str
    node_key: SigningKey = field(repr=False)
    permit: Permit
    attempt: int
    task: Task
    plan: Plan
    secrets: dict[int, RoundSecrets] = field(default_factory=dict, repr=False)
    rows: Rows | None = field(default=None, repr=False)
    asked: dict[int, Question] = field(default_factory=dict)
    parties: frozenset[str] = frozenset()
    first: int = 0

    def fresh(self, number: int) -> bytes:
        """Draw the secrets of a round; return their public halves, signed by the node."""
        use = Use(self.permit.job_id, self.attempt, number, self.permit.job.assets)
        grant = self.permit.grant
        minimum = len(use.cohort) if grant is None else grant.minimum_parties
        self.secrets[number] = RoundSecrets.fresh(use, self.asset, self.node_key, minimum)
        return self.secrets[number].signed

    def of(self, number: int) -> RoundSecrets:
        """Return the secrets of a round.

        Raises:
            RefusedError: `grant_mismatch`: that round is over, or not begun.
        """
        if number not in self.secrets:
            raise RefusedError("grant_mismatch", f"round {number} is not under way here")
        return self.secrets[number]

    def step(
        self, request: SharesRequest | SurvivorsRequest | UnmaskRequest
    ) -> SharesReply | SurvivorsReply | UnmaskReply:
        """Take a step of a round besides the answer: nothing of the data is touched in it.

        Raises:
            RefusedError: as `RoundSecrets`.
        """
        secrets, keys = self.of(request.round), self.permit.node_keys
        place = (self.asset, request.job, request.attempt, request.round)
        if isinstance(request, SharesRequest):
            return SharesReply(*place, secrets.deal(request.mask_keys, keys))
        if isinstance(request, UnmaskRequest):
            shares = secrets.reveal(request.lists, request.boxes, keys)
            # With the secrets gone, no later code can mask or reveal anything under them.
            del self.secrets[request.round]
            return UnmaskReply(*place, shares)
        if set(request.mask_keys) != set(request.survivors):
            raise RefusedError("grant_mismatch", "the next keys are not those of the survivors")
        signed = secrets.agree(request.survivors, self.node_key)
        boxes = self.of(request.round + 1).deal(request.mask_keys, keys)
        return SurvivorsReply(*place, signed, boxes)

    def contribution(self, request: RoundRequest, masked: Words) -> Contribution:
        """Return an answer as it travels: encrypted where the task says so."""
        plain, sealed = None, None
        if self.task.encrypted:
            public = PublicKey.from_json(self.permit.job.encryption_key)
            sealed = write_ciphertexts(encrypt(public, masked), public)
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
            next_mask_key=self.fresh(request.round + 1),
        )

    def check_next(self, request: RoundRequest, question: Question) -> None:
        """Check that a question may be asked now.

        A conversation begins anew only when somebody has left it: the answers of those who stayed
        must be added up among themselves from the first question on.

        Raises:
            RefusedError: `grant_mismatch`: another round's turn, more than granted, or a
                conversation that begins anew without need.
            TaskError: out_of_order.
        """
        number = len(self.asked) + 1
        granted = self.permit.grant.rounds if self.permit.grant else 0
        if request.round != number or number > granted:
            raise RefusedError("grant_mismatch", f"round {request.round} is not the next one")
        begins = request.first == number
        if not begins and request.first != self.first:
            raise RefusedError("grant_mismatch", "the conversation began in another round")
        if begins and self.asked and not set(request.mask_keys) < self.parties:
            raise RefusedError("grant_mismatch", "nobody left: the questions go on as they began")
        earlier = [] if begins else [self.asked[at] for at in range(self.first, number)]
        self.task.check_order(earlier, question)

    def answered(self, request: RoundRequest, question: Question) -> None:
        """Remember a question that was answered."""
        self.asked[request.round] = question
        if request.first == request.round:
            self.first, self.parties = request.first, frozenset(request.mask_keys)
