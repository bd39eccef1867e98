"""The coordinator's Flower `ServerApp`: drives one job over a Grid and says how it ended.

Decides the order of the conversation (PROTOCOL.md), who is at fault when it stops, and whether it
goes on without a node that is gone. It does not decide what to ask (the task's generator does),
whether a node may answer (its guard does), or what may be released (the output gate does). It holds
no state between jobs and nothing of Flower's: the Grid comes as an argument.

    run_in_process(make_server_app(session), grid)        # session.deliver gets the outcome

A job that ends early still ends at every node: whoever did not refuse is told `failed`, and closes
its reservation.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from flwr.app import Context, RecordDict
from flwr.serverapp import Grid, ServerApp

from federated.ending import Ending, StoppedError
from federated.errors import (
    ContributionError,
    FederatedError,
    PeerKeyError,
    SurvivorsError,
    TaskError,
)
from federated.exchange import RESTARTED, Exchange
from federated.messages import (
    Answer,
    Contribution,
    FinishReply,
    KeysReply,
    KeysRequest,
    RoundRequest,
    SharesReply,
    SharesRequest,
    SurvivorsReply,
    SurvivorsRequest,
    UnmaskReply,
    UnmaskRequest,
    body_digest,
)
from federated.opening import Revealed, open_secrets
from federated.peers import SurvivorList, Use, open_mask_key
from federated.plan import Question, Words
from federated.relay import Relay
from federated.rounds import Opened, RoundRecord, add_ciphertexts, add_words
from federated.session import Completed, Failed, Outcome, Session
from federated.tasks import JointTask, Task, replay
from ledger.encoding import b64encode

BAD_MASK_KEY: Final = "bad_mask_key"
BAD_SURVIVORS: Final = "bad_survivors"
_ISOLATING = "isolating_parameters"

# A round whose answers are there is opened without whoever has forgotten it.
_OPENING = ("survivors", "unmask")

Kind = TypeVar("Kind", bound=Answer)


def make_server_app(session: Session) -> ServerApp:
    """Return a Flower app that drives `session` to its outcome when called with a Grid."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        del context  # Flower's run state plays no part: the outcome goes to the session.
        task = session.task
        if isinstance(task, JointTask):
            session.deliver(Relay(session, task, grid).hold())
        else:
            session.deliver(_Conversation(session, task, grid).hold())

    return app


def run_in_process(app: ServerApp, grid: Grid) -> None:
    """Call a ServerApp as a SuperLink's process would."""
    run_id = grid.run.run_id
    app(grid, Context(run_id=run_id, node_id=0, node_config={}, state=RecordDict(), run_config={}))


class _ShrunkError(Exception):
    """Somebody has left: those who stayed are asked from the first question on; never leaves."""


class _RejoinError(Exception):
    """A node is back and has forgotten the round: another attempt goes on from there."""


class _Conversation:
    """The exchanges of one job, in order.

    `_holders`, `_keys` and `_boxes` are what was collected for the round to come: to whom shares
    were dealt, the signed keys of everybody who dealt, and by receiver and sender what was dealt.
    """

    def __init__(self, session: Session, task: Task, grid: Grid) -> None:
        self._session = session
        self._task = task
        self._exchange = Exchange(session, grid)
        self._ending = Ending(session, self._exchange)
        self._number = 0
        self._rounds: list[RoundRecord] = []
        self._keys: dict[str, bytes] = {}
        self._holders: tuple[str, ...] = ()
        self._boxes: dict[str, dict[str, bytes]] = {}
        self._gone: dict[str, str] = {}
        # Nodes that are there and have forgotten their secrets, and those that were waited for.
        self._forgot: set[str] = set()
        self._rejoined: set[str] = set()

    def hold(self) -> Outcome:
        """Drive the job from the first question to the receipts."""
        try:
            # Before any node reserves anything: a plan that cannot work costs nobody a use.
            self._first_question()
        except FederatedError as error:
            return Failed({}, error, (), {})
        try:
            result, ciphertexts, receipts = self._attempts()
        except StoppedError as stop:
            return self._stopped(stop)
        except ContributionError as error:
            return self._stopped(StoppedError({error.asset: error.reason}))
        except FederatedError as error:
            return self._ending.failed(error, self._rounds, self._number)
        except BaseException:
            # A defect: the nodes must still be released before it surfaces.
            self._ending.abandon({}, self._number)
            raise
        self._release_gone()
        return Completed(result, ciphertexts, tuple(self._rounds), receipts, dict(self._gone))

    def _attempts(self) -> tuple[dict[str, Any] | None, tuple[bytes, ...] | None, dict[str, bytes]]:
        """Go on, with those who stay and those who come back, until there are receipts."""
        begun = False
        while True:
            try:
                if not begun:
                    self._begin()
                    begun = True
                return (*self._compute(), self._finish())
            except _ShrunkError:
                self._rounds = []
            except _RejoinError:
                # Everybody draws new secrets: those of one process are of no use to another.
                self._exchange.attempt += 1
                self._rejoined |= self._forgot
                self._forgot, begun = set(), False

    def _use(self, number: int) -> Use:
        """Return what keys and lists of a round are signed for."""
        return Use(self._session.job, self._exchange.attempt, number, self._session.cohort)

    def _compute(self) -> tuple[dict[str, Any] | None, tuple[bytes, ...] | None]:
        """Ask what the task asks; return its result, or the encrypted sum."""
        session, key = self._session, self._session.encryption_key
        if key is None:
            # The very function with which the buyer's client computes the result once more.
            asked = itertools.count()
            total = partial(self._total, asked)
            return replay(self._task, session.plan, total), None
        record, contributions = self._round(self._first_question(), 0)
        return None, add_ciphertexts(record, contributions, key)

    def _total(self, asked: Iterator[int], question: Question) -> Words:
        try:
            record, contributions = self._round(question, next(asked))
        except StoppedError as stop:
            if stop.refusals or set(stop.failures.values()) != {_ISOLATING}:
                raise
            # The nodes saw where the model is going, not a fault of theirs: the task knows what
            # that means for the whole computation.
            raise TaskError(
                _ISOLATING, "nodes refused a model point at which few rows count"
            ) from stop
        return add_words(record, contributions)

    def _first_question(self) -> Question:
        """Return what the task asks first; the same each time, as its generator is pure."""
        conversation = self._task.conduct(self._session.plan)
        question = next(conversation)
        conversation.close()
        return question

    def _round(self, question: Question, place: int) -> tuple[RoundRecord, dict[str, Contribution]]:
        """Return an opened round: one that was asked before this attempt, or a new one."""
        if place < len(self._rounds):
            record = self._rounds[place]
            key = self._session.encryption_key
            return record, record.open(self._session.job, record.attempt, key)
        return self._ask(question)

    # One round: question, list of survivors, secrets.

    def _begin(self) -> None:
        """Collect keys and shares for the next round; each node checks its evidence and reserves.

        In a later attempt they are shown the questions that stay answered.
        """
        session, attempt, number = self._session, self._exchange.attempt, self._number + 1
        members = {a: m for a, m in session.members.items() if a not in self._gone}
        earlier = [b64encode(record.request) for record in self._rounds]
        bodies = {
            asset: KeysRequest(
                session.job,
                attempt,
                number,
                session.cohort,
                {**member.evidence, "earlier": earlier} if earlier else member.evidence,
            ).to_bytes()
            for asset, member in members.items()
        }
        replies = self._all(bodies, KeysReply, self._number, "keys")
        keys = {asset: reply.mask_key for asset, (reply, _) in replies.items()}
        self._look_at_keys(keys, number, "")
        body = SharesRequest(session.job, attempt, number, keys).to_bytes()
        dealt = self._all(dict.fromkeys(keys, body), SharesReply, self._number, "shares")
        self._take_boxes(keys, {asset: reply.boxes for asset, (reply, _) in dealt.items()})

    def _ask(self, question: Question) -> tuple[RoundRecord, dict[str, Contribution]]:
        """Ask one question of everybody who dealt shares; return the opened round.

        Raises:
            _ShrunkError: somebody is gone of those who answered the questions before.
        """
        session = self._session
        if self._forgot:
            raise _RejoinError
        # Whoever left after it dealt: asked once more, it would be said to have stayed.
        self._keys = {a: signed for a, signed in self._keys.items() if a not in self._gone}
        if self._rounds and set(self._keys) != set(self._rounds[0].contributions):
            raise _ShrunkError
        self._number += 1
        number, keys, boxes, holders = self._number, self._keys, self._boxes, self._holders
        first = self._rounds[0].number if self._rounds else number
        request = RoundRequest(
            session.job, self._exchange.attempt, number, first, question.to_json(), keys
        ).to_bytes()
        replies = self._all(dict.fromkeys(keys, request), Contribution, number, question.step)
        bodies = {asset: body for asset, (_, body) in replies.items()}
        contributions = self._opened(number, question, request, bodies)
        lists = self._agree(number, request, contributions)
        revealed = self._reveal(number, lists, boxes, contributions)
        survivors = tuple(sorted(contributions))
        opened = open_secrets(
            Revealed(tuple(sorted(keys)), survivors, self._use(number)),
            {asset: reply.shares for asset, reply in revealed.items()},
            holders=holders,
            keys=keys,
            commitments={asset: each.seed_commitment for asset, each in contributions.items()},
        )
        record = RoundRecord(number, question, request, bodies, opened)
        if self._rounds and set(bodies) != set(self._rounds[0].contributions):
            raise _ShrunkError
        self._rounds.append(record)
        return record, contributions

    def _opened(
        self, number: int, question: Question, request: bytes, bodies: Mapping[str, bytes]
    ) -> dict[str, Contribution]:
        """Check the contributions of a round, their kind, and the keys that came with them."""
        session = self._session
        key, failures, found = session.encryption_key, {}, {}
        record = RoundRecord(number, question, request, bodies, Opened({}, {}))
        for asset in bodies:
            try:
                found[asset] = record.open_one(asset, session.job, self._exchange.attempt, key)
            except ContributionError as error:
                failures[asset] = error.reason
        if failures:
            raise StoppedError(failures)
        self._look_at_keys(
            {asset: each.next_mask_key for asset, each in found.items()},
            number + 1,
            body_digest(request),
        )
        return found

    def _agree(
        self, number: int, request: bytes, contributions: Mapping[str, Contribution]
    ) -> dict[str, bytes]:
        """Have the survivors sign who they are, if somebody dropped out.

        Otherwise there is no list: their next keys say that each of them answered.
        """
        if set(contributions) == set(self._keys):
            return {}
        survivors = tuple(sorted(contributions))
        body = SurvivorsRequest(
            self._session.job, self._exchange.attempt, number, survivors
        ).to_bytes()
        replies = self._all(dict.fromkeys(survivors, body), SurvivorsReply, number, "survivors")
        lists = {asset: reply.signed for asset, (reply, _) in replies.items()}
        self._look_at_lists(
            SurvivorList("", self._use(number), body_digest(request), survivors), lists
        )
        return lists

    def _reveal(
        self,
        number: int,
        lists: Mapping[str, bytes],
        boxes: Mapping[str, Mapping[str, bytes]],
        contributions: Mapping[str, Contribution],
    ) -> dict[str, UnmaskReply]:
        """Have the survivors reveal their shares of what opens the sum, and deal the next ones."""
        session = self._session
        keys = {asset: each.next_mask_key for asset, each in contributions.items()}
        bodies = {
            asset: UnmaskRequest(
                session.job, self._exchange.attempt, number, lists, boxes.get(asset, {}), keys
            ).to_bytes()
            for asset in lists or contributions
        }
        replies = self._all(bodies, UnmaskReply, number, "unmask")
        self._take_boxes(keys, {asset: reply.boxes for asset, (reply, _) in replies.items()})
        return {asset: reply for asset, (reply, _) in replies.items()}

    def _look_at_keys(self, keys: Mapping[str, bytes], number: int, answered: str) -> None:
        """Look at signed keys only to name the right culprit: the nodes verify them again."""
        failures = {}
        for asset, data in keys.items():
            try:
                open_mask_key(
                    data,
                    self._session.members[asset].key,
                    asset=asset,
                    use=self._use(number),
                    answered=answered,
                )
            except PeerKeyError:
                failures[asset] = BAD_MASK_KEY
        if failures:
            raise StoppedError(failures)

    def _look_at_lists(self, agreed: SurvivorList, lists: Mapping[str, bytes]) -> None:
        """Look at signed lists, again only to name the right culprit."""
        failures = {}
        for asset, signed in lists.items():
            try:
                replace(agreed, asset=asset).check(signed, self._session.members[asset].key)
            except SurvivorsError:
                failures[asset] = BAD_SURVIVORS
        if failures:
            raise StoppedError(failures)

    def _take_boxes(
        self, keys: Mapping[str, bytes], boxes: Mapping[str, Mapping[str, bytes]]
    ) -> None:
        """Keep for the coming round the keys of those who dealt, and the boxes by receiver."""
        self._holders = tuple(sorted(keys))
        self._keys = {asset: keys[asset] for asset in boxes}
        self._boxes = {
            receiver: {
                sender: dealt[receiver] for sender, dealt in boxes.items() if receiver in dealt
            }
            for receiver in keys
        }

    # The end.

    def _finish(self) -> dict[str, bytes]:
        """Tell every node of the result that the job is complete and take its receipt.

        Raises:
            _ShrunkError: one of them is gone: without its receipt there is no result with it.
        """
        body = self._ending.body(self._number, "completed")
        parties = set(self._rounds[0].contributions)
        # Whoever forgot its secrets has its journal, and accounts for what it sent by that.
        self._forgot = set()
        self._check_enough(parties - set(self._gone))
        if parties & set(self._gone):
            raise _ShrunkError
        replies = self._all(dict.fromkeys(parties, body), FinishReply, self._number, "finish")
        if set(replies) != parties:
            raise StoppedError({asset: self._gone[asset] for asset in parties - set(replies)})
        answers = {asset: reply for asset, (reply, _) in replies.items()}
        return self._ending.receipts(answers, self._rounds)

    def _stopped(self, stop: StoppedError) -> Outcome:
        return self._ending.stopped(stop, self._gone, self._rounds, self._number)

    def _release_gone(self) -> None:
        """Tell those who are gone that the job is over for them, should they come back."""
        if self._gone:
            self._ending.send_end(list(self._gone), self._number)

    # One exchange.

    def _all(
        self, bodies: Mapping[str, bytes], wanted: type[Kind], number: int, step: str
    ) -> dict[str, tuple[Kind, bytes]]:
        """Send and collect; go on without nodes that are gone while enough are left.

        Raises:
            StoppedError: any refused or failed, or too few are left.
        """
        replies = self._exchange.send(bodies, wanted, number, step)
        forgot = {asset for asset, word in replies.gone.items() if word == RESTARTED}
        # Once for each: a node that forgets again is gone like any other.
        self._forgot |= forgot - self._rejoined
        self._gone.update({a: w for a, w in replies.gone.items() if a not in self._forgot})
        if replies.refusals or replies.failures:
            raise StoppedError({**replies.failures, **replies.gone}, replies.refusals)
        self._check_enough({*replies.answers, *self._forgot})
        if self._forgot and step not in _OPENING:
            raise _RejoinError
        self._check_enough(replies.answers)
        return replies.answers

    def _check_enough(self, parties: Collection[str]) -> None:
        if not self._session.are_enough(parties):
            raise StoppedError(self._gone)
