"""An intersection of two parties' names, step by step: who sends what, and who learns what.

Two parties hold names, a *receiver* and a *sender*. What they agreed says which of four outcomes
it is to be:

    ONE     the receiver learns which of its names the sender has as well
    BOTH    so does the sender, in the end
    SIZE    both learn how many names they have in common, and no more
    SUM     as SIZE, and the holder of a key learns the sum of the sender's values over them
            (`privacy.intersection_sum`)

**Both learn the size, whatever the outcome.** That is how the sender sees for itself that the
minimum is kept, before the receiver gets anything that it could compare:

    receiver                                               sender
    offer()  its names masked, sorted            ------>   double()  at the same time as
                                                 <------   offer()   its names masked, sorted
    answer() the sender's points doubled, sorted ------>             counts; too few: refuses
                                                 <------   reply()   the receiver's points doubled:
    finish() compares                                                in order, or sorted
    return_matches()  (BOTH) the sender's
             points doubled, in order            ------>   finish()  compares

    receiver = Receiver(agreement, names, workers)       # names from privacy.identifiers
    sender = Sender(agreement, other_names, workers)
    offer, counter = receiver.offer(), sender.offer()
    sender.double(offer)
    reply = sender.reply(receiver.answer(counter))
    positions = receiver.finish(reply).matches

What it decides: that each step is in turn, that sizes are the agreed ones and not too small, that
points are fit to be multiplied, and that answers fit to each other. What it does not do: carry or
sign anything (a relay that changes bytes is noticed by comparing `transcript`, which both parties
sign), or bound how often somebody asks: **an intersection answers guesses**, and a party may put
into its set whatever names it likes. The protocol is for parties that follow it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from privacy.curve25519 import POINT_BYTES, SUITE, split
from privacy.derivation import prefixed
from privacy.double_masking import (
    MAX_MEMBERS,
    Exponent,
    MaskedSet,
    double,
    mask,
    matching,
    shuffled,
)
from privacy.errors import (
    IntersectionError,
    PointError,
    SetSizeError,
    SmallIntersectionError,
    StepError,
)
from privacy.workers import Workers

AGREEMENT_NAMESPACE = "rongshu/intersection/v1"
TRANSCRIPT_NAMESPACE = "rongshu/intersection-transcript/v1"
DOMAIN = b"RONGSHU-V01-CS01-with-"

SMALLEST_MINIMUM = 2
"""A set of one member has nothing to hide behind: the size of the intersection tells all."""


class Outcome(StrEnum):
    """What is learned, and by whom."""

    ONE = "one"
    BOTH = "both"
    SIZE = "size"
    SUM = "sum"


@dataclass(frozen=True)
class Agreement:
    """What both parties agreed on before the first point is sent.

    Attributes:
        job: The job's id.
        attempt: From 0; another try has another domain.
        outcome: Who learns what.
        rules: Digest of the rules by which both made names of their rows (`Rules.digest`).
        receiver: Id of the party that asks.
        sender: Id of the other one.
        receiver_size: How many names the receiver has.
        sender_size: How many the sender has.
        minimum_size: Fewest names that either may have, at least `SMALLEST_MINIMUM`.
        minimum_intersection: Fewest names in common of which anything but the size is told; at
            least 2 where a sum is.

    Raises:
        SetSizeError: If a set is smaller than its minimum, or larger than `MAX_MEMBERS`.
        IntersectionError: If anything else makes no sense.
    """

    job: str
    attempt: int
    outcome: Outcome
    rules: bytes
    receiver: str
    sender: str
    receiver_size: int
    sender_size: int
    minimum_size: int
    minimum_intersection: int

    def __post_init__(self) -> None:
        if not isinstance(self.outcome, Outcome):
            raise IntersectionError("the outcome of an intersection is one of Outcome")
        if not all(name and name.isprintable() for name in (self.job, self.receiver, self.sender)):
            raise IntersectionError("an id is empty or not printable")
        if self.receiver == self.sender:
            raise IntersectionError("a party cannot intersect its names with its own")
        if len(self.rules) != hashlib.sha256().digest_size:
            raise IntersectionError("the rules of an intersection are named by a SHA-256 digest")
        if any(type(number) is not int for number in self._numbers):
            raise IntersectionError("attempt, sizes and minimums are integers")
        if not 0 <= self.attempt < 1 << 63:
            raise IntersectionError("the attempt must be a non-negative integer")
        self._check_sizes()

    def _check_sizes(self) -> None:
        if self.minimum_size < SMALLEST_MINIMUM:
            raise SetSizeError(f"a minimum below {SMALLEST_MINIMUM} names protects nobody")
        for party, size in (
            (self.receiver, self.receiver_size),
            (self.sender, self.sender_size),
        ):
            if not self.minimum_size <= size <= MAX_MEMBERS:
                raise SetSizeError(
                    f"party {party!r} has {size} names; from {self.minimum_size} to {MAX_MEMBERS} "
                    "are agreed",
                    party=party,
                )
        fewest = 2 if self.outcome is Outcome.SUM else 0
        if not fewest <= self.minimum_intersection <= min(self.receiver_size, self.sender_size):
            raise SmallIntersectionError(
                f"a minimum of {self.minimum_intersection} names in common cannot be agreed on"
            )

    @property
    def _numbers(self) -> tuple[int, ...]:
        return (
            self.attempt,
            self.receiver_size,
            self.sender_size,
            self.minimum_size,
            self.minimum_intersection,
        )

    @property
    def context(self) -> bytes:
        """32 bytes that stand for all of this: SHA-256 over the fields, each length-prefixed."""
        fields = [
            AGREEMENT_NAMESPACE.encode(),
            self.job.encode(),
            self.outcome.encode(),
            self.rules,
            self.receiver.encode(),
            self.sender.encode(),
            *(number.to_bytes(8, "big") for number in self._numbers),
        ]
        return hashlib.sha256(prefixed(fields)).digest()

    @property
    def domain(self) -> bytes:
        """The domain separation tag of names in this job (RFC 9380, section 3.1)."""
        return DOMAIN + self.context + SUITE


@dataclass(frozen=True)
class Intersection:
    """What a party learned.

    Attributes:
        size: How many names both have.
        matches: Positions among one's own names of those that the other has, ascending; None for
            a party that learns the size alone.
    """

    size: int
    matches: tuple[int, ...] | None = field(repr=False)


class _Party:
    """What receiver and sender do alike: mask, take turns, and remember what went by."""

    def __init__(
        self, agreement: Agreement, names: Sequence[bytes], workers: Workers, *, role: str
    ) -> None:
        size = agreement.receiver_size if role == "receiver" else agreement.sender_size
        if len(names) != size:
            raise SetSizeError(f"{size} names were agreed on, and there are {len(names)}")
        self.agreement = agreement
        self._role = role
        self._names: Sequence[bytes] = names
        self._workers = workers
        self._exponent = Exponent.generate()
        self._masked = MaskedSet(b"", ())
        self._step = 0
        self._messages: dict[str, bytes] = {}

    def _turn(self, step: int, name: str) -> None:
        """Takes the step, or raises StepError unless it is the next one.

        It counts as taken from here on: after a refusal nothing is repeated under one exponent.
        """
        if step != self._step:
            raise StepError(
                f"{name} is step {step + 1} of an intersection, and {self._step} have been taken"
            )
        self._step += 1

    def _note(self, name: str, message: bytes) -> bytes:
        self._messages[name] = hashlib.sha256(message).digest()
        return message

    def offer(self) -> bytes:
        """Returns one's own names masked, sorted: 32 bytes for each.

        Raises:
            StepError: The second time.
            SetSizeError: If a name occurs twice.
        """
        self._turn(0, "the offer")
        self._masked = mask(self._names, self._exponent, self.agreement.domain, self._workers)
        self._names = ()
        return self._note(f"{self._role} offer", self._masked.points)

    def _matches(self, doubled: bytes, others: bytes) -> tuple[int, ...]:
        """Positions among one's own names, given one's own points doubled in the order sent."""
        return tuple(sorted(self._masked.members[at] for at in matching(doubled, others)))

    def in_offered_order(self, values: Sequence[int]) -> list[int]:
        """Returns one value for each own name, in the order of the points that were offered.

        Raises:
            StepError: Before the offer.
            SetSizeError: If there are more or fewer values than names.
        """
        if not self._masked.members:
            raise StepError("before the offer there is no order")
        if len(values) != len(self._masked.members):
            raise SetSizeError(
                f"{len(values)} values for {len(self._masked.members)} names; each needs one"
            )
        return [values[at] for at in self._masked.members]

    @property
    def transcript(self) -> bytes:
        """SHA-256 over the agreement's context and the digest of each message, by its name.

        Both parties have the same one after the last step, unless somebody changed what was said.
        """
        fields = [TRANSCRIPT_NAMESPACE.encode(), self.agreement.context]
        for name in sorted(self._messages):
            fields += [name.encode(), self._messages[name]]
        return hashlib.sha256(prefixed(fields)).digest()


class Receiver(_Party):
    """The party that asks. Its exponent is made here and never leaves.

    Args:
        agreement: What was agreed on.
        names: Its names, as many as agreed, distinct.
        workers: Who computes.

    Raises:
        SetSizeError: If there are more or fewer names.
    """

    def __init__(self, agreement: Agreement, names: Sequence[bytes], workers: Workers) -> None:
        super().__init__(agreement, names, workers, role="receiver")
        self._theirs = b""
        self._matched: tuple[int, ...] = ()

    def answer(self, sender_offer: bytes) -> bytes:
        """Returns the sender's points doubled and sorted, by which it can count.

        Raises:
            StepError: Out of turn.
            SetSizeError: If there are not as many points as agreed.
            PointError: If one must not be multiplied, or two are the same.
        """
        self._turn(1, "the answer")
        self._theirs = double(
            sender_offer, self._exponent, self._workers, count=self.agreement.sender_size
        )
        self._note("sender offer", sender_offer)
        return self._note("answer", shuffled(self._theirs))

    def finish(self, reply: bytes) -> Intersection:
        """Returns what the receiver learns.

        Raises:
            StepError: Out of turn.
            SetSizeError: If the reply has not as many points as agreed.
            SmallIntersectionError: If fewer are in common than agreed: the sender should have
                refused.
        """
        self._turn(2, "the end")
        mine = _check_doubled(reply, self.agreement.receiver_size)
        self._note("reply", reply)
        size = _check_minimum(self.agreement, len(matching(mine, self._theirs)))
        if self.agreement.outcome in (Outcome.SIZE, Outcome.SUM):
            self._matched = tuple(matching(self._theirs, mine))
            return Intersection(size, None)
        return Intersection(size, self._matches(mine, self._theirs))

    def return_matches(self) -> bytes:
        """Returns the sender's points doubled in the order that they came in, where both learn.

        Raises:
            StepError: Out of turn, or if the sender is not to learn which names are in common.
        """
        self._turn(3, "the return")
        if self.agreement.outcome is not Outcome.BOTH:
            raise StepError("the sender is not to learn which names are in common")
        return self._note("return", self._theirs)

    def matched_points(self) -> tuple[int, ...]:
        """Positions in the sender's offer of the points that both have, where a sum is wanted.

        Whose names they are, the receiver cannot tell: its own points came back sorted.

        Raises:
            StepError: Out of turn, or if the outcome is another one.
        """
        if self._step != 3 or self.agreement.outcome is not Outcome.SUM:
            raise StepError("matched points are for the sum, after the end")
        return self._matched


class Sender(_Party):
    """The party that is asked. Its exponent is made here and never leaves.

    Args:
        agreement: What was agreed on.
        names: Its names, as many as agreed, distinct.
        workers: Who computes.

    Raises:
        SetSizeError: If there are more or fewer names.
    """

    def __init__(self, agreement: Agreement, names: Sequence[bytes], workers: Workers) -> None:
        super().__init__(agreement, names, workers, role="sender")
        self._theirs = b""
        self._answer = b""
        self.size: int | None = None

    def double(self, receiver_offer: bytes) -> None:
        """Doubles the receiver's points. It can go on while the receiver makes its answer.

        Raises:
            StepError: Out of turn.
            SetSizeError: If there are not as many points as agreed.
            PointError: If one must not be multiplied, or two are the same.
        """
        self._turn(1, "doubling")
        self._theirs = double(
            receiver_offer, self._exponent, self._workers, count=self.agreement.receiver_size
        )
        self._note("receiver offer", receiver_offer)

    def reply(self, answer: bytes) -> bytes:
        """Returns the receiver's points doubled, once enough of them are in common.

        They are in the order that they came in, where the receiver learns which they are; sorted
        where it learns how many.

        Raises:
            StepError: Out of turn.
            SetSizeError: If there are not as many points as agreed.
            PointError: If two are the same.
            SmallIntersectionError: If fewer are in common than agreed.
        """
        self._turn(2, "the reply")
        self._answer = _check_doubled(answer, self.agreement.sender_size)
        self._note("answer", answer)
        self.size = _check_minimum(self.agreement, len(matching(self._theirs, answer)))
        one_by_one = self.agreement.outcome in (Outcome.ONE, Outcome.BOTH)
        return self._note("reply", self._theirs if one_by_one else shuffled(self._theirs))

    def finish(self, returned: bytes) -> Intersection:
        """Returns what the sender learns, where both learn.

        Raises:
            StepError: Out of turn, or if the sender is not to learn which names are in common.
            PointError: If these are other points than those of the answer.
        """
        self._turn(3, "the end")
        if self.agreement.outcome is not Outcome.BOTH:
            raise StepError("the sender is not to learn which names are in common")
        if shuffled(returned) != self._answer:
            raise PointError("the points returned are not those that were counted")
        self._note("return", returned)
        matches = self._matches(returned, self._theirs)
        return Intersection(len(matches), matches)


def _check_doubled(points: bytes, count: int) -> bytes:
    """Returns points that are only compared, or raises unless they are `count` different ones."""
    if len(points) != count * POINT_BYTES:
        raise SetSizeError(f"{count} points were agreed, and {len(points)} bytes came")
    if len(set(split(points))) != count:
        raise PointError("a point occurs twice in a doubled set")
    return points


def _check_minimum(agreement: Agreement, size: int) -> int:
    """Returns the size, or raises SmallIntersectionError without telling it."""
    if size < agreement.minimum_intersection:
        raise SmallIntersectionError(
            f"fewer than {agreement.minimum_intersection} names are in common; nothing more is told"
        )
    return size
