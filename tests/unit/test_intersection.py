import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from privacy.curve25519 import split
from privacy.double_masking import shuffled
from privacy.errors import (
    IntersectionError,
    PointError,
    SetSizeError,
    SmallIntersectionError,
    StepError,
)
from privacy.identifiers import Rules, identify
from privacy.intersection import Agreement, Intersection, Outcome, Receiver, Sender
from privacy.workers import Workers

ALONE = Workers()
IDS = Path(__file__).resolve().parents[3] / "shared" / "data" / "psi_ids"
ASKED = [f"name {number}".encode() for number in range(8)]
HELD = [f"name {number}".encode() for number in (11, 3, 10, 7, 1, 12)]
SHARED = (1, 3, 7)  # positions in ASKED
SHARED_HELD = (1, 3, 4)  # positions in HELD


def agreed(outcome: Outcome = Outcome.ONE, **changes: object) -> Agreement:
    fields = {
        "job": "job:1",
        "attempt": 0,
        "outcome": outcome,
        "rules": bytes(32),
        "receiver": "bank",
        "sender": "shop",
        "receiver_size": len(ASKED),
        "sender_size": len(HELD),
        "minimum_size": 5,
        "minimum_intersection": 2,
    }
    return Agreement(**(fields | changes))


def parties(agreement: Agreement) -> tuple[Receiver, Sender]:
    return Receiver(agreement, ASKED, ALONE), Sender(agreement, HELD, ALONE)


def asked(receiver: Receiver, sender: Sender) -> Intersection:
    counter = sender.offer()
    sender.double(receiver.offer())
    return receiver.finish(sender.reply(receiver.answer(counter)))


def receiver_answer(receiver: Receiver, sender: Sender) -> bytes:
    """Both offer and double; returns what the sender counts by."""
    counter = sender.offer()
    sender.double(receiver.offer())
    return receiver.answer(counter)


def test_one_side_learns_the_intersection_and_the_other_its_size():
    receiver, sender = parties(agreed(Outcome.ONE))
    assert asked(receiver, sender) == Intersection(3, SHARED)
    assert sender.size == 3
    with pytest.raises(StepError, match="not to learn"):
        receiver.return_matches()
    with pytest.raises(StepError, match="not to learn"):
        sender.finish(b"")


def test_both_learn_the_intersection_where_both_are_to():
    receiver, sender = parties(agreed(Outcome.BOTH))
    assert asked(receiver, sender) == Intersection(3, SHARED)
    assert sender.finish(receiver.return_matches()) == Intersection(3, SHARED_HELD)
    assert receiver.transcript == sender.transcript


def test_both_learn_the_size_alone():
    receiver, sender = parties(agreed(Outcome.SIZE))
    assert asked(receiver, sender) == Intersection(3, None)
    assert sender.size == 3
    with pytest.raises(StepError, match="not to learn"):
        receiver.return_matches()
    with pytest.raises(StepError, match="for the sum"):
        receiver.matched_points()


@pytest.mark.parametrize("outcome", [Outcome.SIZE, Outcome.SUM])
def test_doubled_sets_that_are_counted_go_back_shuffled(outcome: Outcome):
    receiver, sender = parties(agreed(outcome))
    offer, counter = receiver.offer(), sender.offer()
    sender.double(offer)
    answer = receiver.answer(counter)
    reply = sender.reply(answer)
    assert answer == shuffled(answer)
    assert reply == shuffled(reply)


def test_nothing_that_travels_holds_a_name():
    receiver, sender = parties(agreed(Outcome.BOTH))
    offer, counter = receiver.offer(), sender.offer()
    sender.double(offer)
    answer = receiver.answer(counter)
    reply = sender.reply(answer)
    traffic = b"".join([offer, counter, answer, reply])
    assert not [name for name in ASKED + HELD if name in traffic]
    assert {len(offer), len(reply)} == {32 * len(ASKED)}
    assert {len(counter), len(answer)} == {32 * len(HELD)}


def test_too_few_in_common_are_refused_by_the_sender_before_it_replies():
    enough = parties(agreed(minimum_intersection=3))
    assert asked(*enough).size == 3
    receiver, sender = parties(agreed(minimum_intersection=4))
    answer = receiver_answer(receiver, sender)
    with pytest.raises(SmallIntersectionError, match="fewer than 4") as refusal:
        sender.reply(answer)
    assert "3" not in str(refusal.value)
    assert sender.size is None
    with pytest.raises(StepError):
        sender.reply(answer)


def test_too_few_in_common_are_refused_by_the_receiver_too():
    receiver, lax = parties(agreed(minimum_intersection=4))
    answer = receiver_answer(receiver, lax)
    # A sender that does not keep the minimum that it agreed to.
    lax.agreement = agreed(minimum_intersection=0)
    reply = lax.reply(answer)
    with pytest.raises(SmallIntersectionError):
        receiver.finish(reply)


@pytest.mark.parametrize("size", [0, 1, 4])
def test_a_set_smaller_than_the_minimum_is_refused_and_names_its_party(size: int):
    with pytest.raises(SetSizeError, match="'bank' has") as refusal:
        agreed(receiver_size=size, minimum_intersection=0)
    assert refusal.value.party == "bank"
    with pytest.raises(SetSizeError, match="'shop' has"):
        agreed(sender_size=size, minimum_intersection=0)
    assert agreed(receiver_size=5, sender_size=5).minimum_size == 5


@pytest.mark.parametrize("minimum", [-1, 0, 1])
def test_a_minimum_that_protects_nobody_is_refused(minimum: int):
    with pytest.raises(SetSizeError, match="protects nobody"):
        agreed(minimum_size=minimum)
    assert agreed(minimum_size=2)


@pytest.mark.parametrize(
    ("outcome", "minimum"),
    [(Outcome.ONE, -1), (Outcome.ONE, 7), (Outcome.SUM, 0), (Outcome.SUM, 1)],
)
def test_a_minimum_of_the_intersection_that_makes_no_sense_is_refused(
    outcome: Outcome, minimum: int
):
    with pytest.raises(SmallIntersectionError, match="cannot be agreed"):
        agreed(outcome, minimum_intersection=minimum)
    assert agreed(Outcome.ONE, minimum_intersection=0)
    assert agreed(Outcome.SUM, minimum_intersection=6)


@pytest.mark.parametrize(
    "change",
    [
        {"job": ""},
        {"job": "a\n"},
        {"receiver": ""},
        {"receiver": "shop"},
        {"rules": b"short"},
        {"attempt": -1},
        {"attempt": 1 << 63},
        {"attempt": True},
        {"receiver_size": 8.0},
        {"minimum_size": "5"},
        {"minimum_intersection": None},
        {"outcome": "one"},
    ],
)
def test_an_agreement_that_makes_no_sense_is_refused(change: dict[str, object]):
    with pytest.raises(IntersectionError):
        agreed(**change)


def test_each_part_of_an_agreement_changes_its_domain():
    changes = [
        {},
        {"job": "job:2"},
        {"attempt": 1},
        {"outcome": Outcome.BOTH},
        {"rules": bytes(31) + b"\1"},
        {"receiver": "bank2"},
        {"sender": "shop2"},
        {"receiver": "shop", "sender": "bank"},
        {"receiver_size": 9},
        {"sender_size": 9},
        {"minimum_size": 4},
        {"minimum_intersection": 3},
    ]
    domains = {dataclasses.replace(agreed(), **change).domain for change in changes}
    assert len(domains) == len(changes)
    assert agreed().domain == agreed().domain


def test_other_rules_find_nothing_in_common():
    other = agreed(rules=bytes(31) + b"\1", minimum_intersection=0)
    same = agreed(minimum_intersection=0)
    assert asked(Receiver(same, ASKED, ALONE), Sender(same, HELD, ALONE)).size == 3
    assert asked(Receiver(same, ASKED, ALONE), Sender(other, HELD, ALONE)).size == 0


def test_a_party_whose_set_is_not_the_agreed_one_is_refused():
    with pytest.raises(SetSizeError, match="8 names were agreed on, and there are 7"):
        Receiver(agreed(), ASKED[1:], ALONE)
    with pytest.raises(SetSizeError, match="6 names were agreed on, and there are 8"):
        Sender(agreed(), ASKED, ALONE)
    with pytest.raises(SetSizeError, match="holds a name twice"):
        Receiver(agreed(), [*ASKED[1:], ASKED[1]], ALONE).offer()


def out_of_turn() -> list[tuple[str, Callable[[Receiver, Sender], object]]]:
    return [
        ("answer first", lambda receiver, _: receiver.answer(b"")),
        ("finish first", lambda receiver, _: receiver.finish(b"")),
        ("return first", lambda receiver, _: receiver.return_matches()),
        ("matched first", lambda receiver, _: receiver.matched_points()),
        ("double first", lambda _, sender: sender.double(b"")),
        ("reply first", lambda _, sender: sender.reply(b"")),
        ("sender's end first", lambda _, sender: sender.finish(b"")),
        ("offer twice", lambda receiver, _: (receiver.offer(), receiver.offer())),
        ("sender's offer twice", lambda _, sender: (sender.offer(), sender.offer())),
        ("order before the offer", lambda _, sender: sender.in_offered_order([1] * 6)),
    ]


@pytest.mark.parametrize("step", [step for _, step in out_of_turn()], ids=dict(out_of_turn()))
def test_a_step_out_of_turn_is_refused(step: Callable[[Receiver, Sender], object]):
    with pytest.raises(StepError):
        step(*parties(agreed(Outcome.BOTH)))


def test_a_refused_step_is_not_taken_again_under_the_same_exponent():
    receiver, sender = parties(agreed())
    receiver.offer()
    counter = sender.offer()
    with pytest.raises(SetSizeError):
        receiver.answer(counter[:-32])
    with pytest.raises(StepError):
        receiver.answer(counter)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda points: points[:-32], SetSizeError),
        (lambda points: points + points[:32], SetSizeError),
        (lambda points: points[:-1], SetSizeError),
        (lambda points: points[:-32] + points[:32], PointError),
    ],
)
@pytest.mark.parametrize("message", ["receiver offer", "sender offer", "answer", "reply", "return"])
def test_a_changed_message_of_another_size_or_with_a_twin_is_refused(
    message: str, change: Callable[[bytes], bytes], error: type[Exception]
):
    def pass_on(name: str, points: bytes) -> bytes:
        return change(points) if name == message else points

    def run() -> Intersection:
        receiver, sender = parties(agreed(Outcome.BOTH))
        counter = pass_on("sender offer", sender.offer())
        sender.double(pass_on("receiver offer", receiver.offer()))
        answer = pass_on("answer", receiver.answer(counter))
        receiver.finish(pass_on("reply", sender.reply(answer)))
        return sender.finish(pass_on("return", receiver.return_matches()))

    # What is returned last is only compared with what was counted.
    with pytest.raises(PointError if message == "return" else error):
        run()


def test_points_returned_must_be_those_that_were_counted():
    receiver, sender = parties(agreed(Outcome.BOTH))
    asked(receiver, sender)
    returned = split(receiver.return_matches())
    swapped = b"".join([bytes([returned[0][0] ^ 1]) + returned[0][1:], *returned[1:]])
    with pytest.raises(PointError, match="not those that were counted"):
        sender.finish(swapped)


def test_what_is_printed_of_a_result_names_nobody():
    receiver, sender = parties(agreed())
    shown = repr(asked(receiver, sender))
    assert shown == "Intersection(size=3)"


def test_the_generated_ids_are_all_found():
    if not IDS.is_dir():
        pytest.skip("the data set psi_ids is not here")
    rules, sides = Rules((("digits", "left-pad:18:0"),)), []
    for name in ("psi_1.csv", "psi_2.csv"):
        with (IDS / name).open(encoding="utf-8", newline="") as file:
            sides.append(identify([[row["id"] for row in csv.DictReader(file)]], rules).members)
    agreement = agreed(
        rules=rules.digest, receiver_size=1000, sender_size=1000, minimum_intersection=100
    )
    first, second = sides
    found = asked(Receiver(agreement, first, ALONE), Sender(agreement, second, ALONE))
    assert found.size == 500
    assert {first[at] for at in found.matches or ()} == set(first) & set(second)
