import functools
import itertools

import numpy as np
import pytest

from privacy import paillier
from privacy.errors import (
    CiphertextError,
    OutOfRangeError,
    OverflowRefusedError,
    SetSizeError,
    StepError,
)
from privacy.intersection import Agreement, Outcome, Receiver, Sender
from privacy.intersection_sum import ValueScale, add_matched, encrypt_values, open_sum
from privacy.paillier import SecretKey
from privacy.workers import Workers

ALONE = Workers()
ASKED = [b"ann", b"bob", b"cy", b"dot", b"eve"]
HELD = [b"zed", b"eve", b"bob", b"yan", b"cy", b"xi"]
VALUES = [900, 100, 5, 800, -31, -700]
SUM = 100 + 5 - 31


@functools.cache
def secret_key() -> SecretKey:
    return SecretKey.generate(bits=2048)


@pytest.fixture
def secret() -> SecretKey:
    return secret_key()


def agreed(outcome: Outcome = Outcome.SUM) -> Agreement:
    return Agreement(
        job="job:1",
        attempt=0,
        outcome=outcome,
        rules=bytes(32),
        receiver="bank",
        sender="shop",
        receiver_size=len(ASKED),
        sender_size=len(HELD),
        minimum_size=5,
        minimum_intersection=2,
    )


SCALE = ValueScale.plan(agreed(), bound=1000)


def matched(outcome: Outcome = Outcome.SUM) -> tuple[Receiver, Sender, int]:
    receiver = Receiver(agreed(outcome), ASKED, ALONE)
    sender = Sender(agreed(outcome), HELD, ALONE)
    counter = sender.offer()
    sender.double(receiver.offer())
    found = receiver.finish(sender.reply(receiver.answer(counter)))
    return receiver, sender, found.size


def test_the_sum_is_that_over_the_names_in_common(secret: SecretKey):
    receiver, sender, size = matched()
    cells = encrypt_values(sender, VALUES, SCALE, secret.public)
    total = add_matched(receiver, cells, secret.public)
    assert open_sum(secret, total, size=size, scale=SCALE) == SUM


def test_values_go_with_their_names_and_not_with_their_rows(secret: SecretKey):
    receiver, sender, size = matched()
    # The twin: ciphertexts in the order of the rows are added for other names.
    shifted = np.array([value + SCALE.bound for value in VALUES], np.uint64)
    in_rows = paillier.encrypt(secret.public, shifted)
    opened = open_sum(secret, add_matched(receiver, in_rows, secret.public), size=size, scale=SCALE)
    assert opened == sum(VALUES[at] for at in receiver.matched_points())
    ordered = sender.in_offered_order(VALUES)
    assert sum(ordered[at] for at in receiver.matched_points()) == SUM


def product_of_which(secret: SecretKey, cells: list[int], total: int) -> list[tuple[int, ...]]:
    """What a sender can try: which three of its ciphertexts make the sum that came back."""
    square = secret.public.n**2
    products = {
        chosen: cells[chosen[0]] * cells[chosen[1]] * cells[chosen[2]] % square
        for chosen in itertools.combinations(range(6), 3)
    }
    return [chosen for chosen, product in products.items() if product == total]


def test_the_sender_cannot_tell_which_ciphertexts_were_added(secret: SecretKey):
    receiver, sender, _ = matched()
    cells = encrypt_values(sender, VALUES, SCALE, secret.public)
    total = add_matched(receiver, cells, secret.public)
    assert product_of_which(secret, cells, total) == []
    # The twin: without the fresh zero it finds them at once.
    bare = paillier.add(secret.public, [[cells[at]] for at in receiver.matched_points()])[0]
    assert product_of_which(secret, cells, bare) == [receiver.matched_points()]


def test_the_opened_number_does_not_tell_how_many_values_were_negative(secret: SecretKey):
    receiver, sender, _ = matched()
    total = add_matched(
        receiver, encrypt_values(sender, VALUES, SCALE, secret.public), secret.public
    )
    assert paillier.decrypt_words(secret, [total], parties=1) == [SUM + 3 * SCALE.bound]
    # The twin: as words modulo 2^64, each negative value adds 2^64 to the number that is opened.
    words = np.array([value % 2**64 for value in sender.in_offered_order(VALUES)], np.uint64)
    carried = add_matched(receiver, paillier.encrypt(secret.public, words), secret.public)
    with pytest.raises(CiphertextError, match="more than the sum of 1"):
        paillier.decrypt_words(secret, [carried], parties=1)


@pytest.mark.parametrize("bound", [0, -1, (2**64 + 9) // 10, 2**63])
def test_a_bound_under_which_a_sum_could_overflow_is_refused(bound: int):
    with pytest.raises(OverflowRefusedError, match="up to 5 names"):
        ValueScale.plan(agreed(), bound=bound)
    assert ValueScale.plan(agreed(), bound=(2**64 - 1) // 10).bound


def test_the_largest_sums_that_are_admitted_are_exact(secret: SecretKey):
    largest = ValueScale.plan(agreed(), bound=(2**64 - 1) // 10)
    for sign in (1, -1):
        receiver, sender, size = matched()
        cells = encrypt_values(sender, [sign * largest.bound] * 6, largest, secret.public)
        total = add_matched(receiver, cells, secret.public)
        assert open_sum(secret, total, size=size, scale=largest) == 3 * sign * largest.bound


@pytest.mark.parametrize("wrong", [1001, -1001, 2.0, True, None])
def test_a_value_beyond_the_bound_is_refused_by_its_position(wrong: object, secret: SecretKey):
    _, sender, _ = matched()
    values = [*VALUES[:4], wrong, 1]
    with pytest.raises(OutOfRangeError, match="position 4") as refusal:
        encrypt_values(sender, values, SCALE, secret.public)
    assert "1001" not in str(refusal.value)
    assert len(encrypt_values(sender, [1000, -1000, 0, 0, 0, 0], SCALE, secret.public)) == 6


def test_one_value_and_one_ciphertext_for_each_name_is_needed(secret: SecretKey):
    receiver, sender, _ = matched()
    with pytest.raises(SetSizeError, match="5 values for 6 names"):
        encrypt_values(sender, VALUES[1:], SCALE, secret.public)
    cells = encrypt_values(sender, VALUES, SCALE, secret.public)
    with pytest.raises(SetSizeError, match="5 ciphertexts for 6 points"):
        add_matched(receiver, cells[1:], secret.public)
    cells[receiver.matched_points()[0]] = 0
    with pytest.raises(CiphertextError):
        add_matched(receiver, cells, secret.public)


def test_where_no_sum_was_agreed_none_is_made(secret: SecretKey):
    receiver, sender, _ = matched(Outcome.SIZE)
    cells = encrypt_values(sender, VALUES, SCALE, secret.public)
    with pytest.raises(StepError, match="for the sum"):
        add_matched(receiver, cells, secret.public)


def test_a_number_that_is_no_sum_of_so_many_values_is_refused(secret: SecretKey):
    total = paillier.encrypt(secret.public, np.array([6001], np.uint64))[0]
    with pytest.raises(OutOfRangeError, match="no sum of 3 values"):
        open_sum(secret, total, size=3, scale=SCALE)
    assert open_sum(secret, total, size=4, scale=SCALE) == 2001
