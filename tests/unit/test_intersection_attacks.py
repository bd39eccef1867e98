"""Each attack fails against the protocol and succeeds against a twin without the protection."""

import hashlib

import gmpy2
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from privacy.curve25519 import SUITE, encode_to_curve, split
from privacy.double_masking import Exponent, double, mask, matching
from privacy.errors import PointError
from privacy.intersection import Agreement, Outcome, Receiver, Sender
from privacy.workers import Workers

ALONE = Workers()
PRIME = 2**255 - 19
ASKED = [f"name {number}".encode() for number in range(12)]
HELD = [f"name {number}".encode() for number in range(9, 21)]
SHARED = (9, 10, 11)


def agreed(outcome: Outcome, job: str = "job:1", minimum_intersection: int = 2) -> Agreement:
    return Agreement(
        job=job,
        attempt=0,
        outcome=outcome,
        rules=bytes(32),
        receiver="bank",
        sender="shop",
        receiver_size=len(ASKED),
        sender_size=len(HELD),
        minimum_size=5,
        minimum_intersection=minimum_intersection,
    )


def is_on_curve(point: bytes) -> bool:
    x = int.from_bytes(point, "little") % PRIME
    return gmpy2.legendre((x**3 + 486662 * x**2 + x) % PRIME, PRIME) == 1


def times(secret: bytes, point: bytes) -> bytes:
    """X25519 of any 32 bytes: multiplication without a check of the point."""
    key = X25519PrivateKey.from_private_bytes(secret)
    return key.exchange(X25519PublicKey.from_public_bytes(point))


def hashed_anywhere(name: bytes) -> bytes:
    """A name as 32 bytes of hash, on the curve or on its twist as it happens."""
    digest = hashlib.sha256(name).digest()
    return digest[:31] + bytes([digest[31] & 127])  # X25519 leaves out the top bit


def test_a_masked_name_tells_nothing_of_itself_and_hashed_off_the_curve_it_tells_a_bit():
    exponent = Exponent.generate()
    bits = [is_on_curve(hashed_anywhere(name)) for name in ASKED]
    assert {True, False} == set(bits)
    # The twin: whether name and product are on the curve is the same bit, whatever the secret.
    # So whoever guesses a name is told which half of all guesses to drop.
    naive = [times(exponent._secret, hashed_anywhere(name)) for name in ASKED]
    assert [is_on_curve(point) for point in naive] == bits
    masked = split(mask(ASKED, exponent, agreed(Outcome.ONE).domain, ALONE).points)
    assert {is_on_curve(point) for point in masked} == {True}


def test_a_twist_point_is_not_doubled_and_without_the_check_it_would_be():
    points = split(mask(ASKED, Exponent.generate(), agreed(Outcome.ONE).domain, ALONE).points)
    twist = next(p for p in map(hashed_anywhere, HELD) if not is_on_curve(p))
    with pytest.raises(PointError, match="point 12 is not on the curve"):
        double(b"".join([*points, twist]), Exponent.generate(), ALONE, count=13)
    # The twin: the product exists, in a group whose order the other side chose.
    assert not is_on_curve(times(bytes(32), twist))


def read_as_if_ordered(outcome: Outcome) -> tuple[int, ...]:
    """What a curious receiver that keeps everything reads from the reply, position by position."""
    receiver, sender = Receiver(agreed(outcome), ASKED, ALONE), Sender(agreed(outcome), HELD, ALONE)
    counter = sender.offer()
    sender.double(receiver.offer())
    reply = sender.reply(receiver.answer(counter))
    assert receiver.finish(reply).size == 3
    return receiver._matches(reply, receiver._theirs)


def test_a_shuffled_reply_tells_how_many_and_an_ordered_one_tells_which():
    # By chance the sorted order shows these three once in 220 times, and four times in a row never.
    assert {read_as_if_ordered(Outcome.SIZE) for _ in range(4)} != {SHARED}
    assert {read_as_if_ordered(Outcome.ONE) for _ in range(4)} == {SHARED}


def test_one_exponent_in_two_jobs_links_their_names_and_fresh_ones_do_not():
    secret = Exponent.generate()._secret
    domain = b"RONGSHU-V01-CS01-with-one" + SUITE
    # The twin: equal exponent and domain. The peer sees three names of the first job again.
    monday = mask(ASKED, Exponent(secret), domain, ALONE).points
    tuesday = mask(HELD, Exponent(secret), domain, ALONE).points
    assert len(matching(monday, tuesday)) == 3
    fresh = mask(HELD, Exponent.generate(), domain, ALONE).points
    assert matching(monday, fresh) == []
    # And each job has a domain of its own, so that even one exponent would not link them.
    other = mask(HELD, Exponent(secret), agreed(Outcome.ONE, "job:2").domain, ALONE).points
    assert matching(monday, other) == []


def test_parties_make_a_fresh_exponent_for_each_job():
    agreement = agreed(Outcome.ONE)
    first, second = (Receiver(agreement, ASKED, ALONE).offer() for _ in range(2))
    assert matching(first, second) == []


def relayed(*, change: bool) -> tuple[Receiver, Sender]:
    """A run through a relay that puts a set of its own in the place of the sender's."""
    receiver = Receiver(agreed(Outcome.ONE, minimum_intersection=0), ASKED, ALONE)
    sender = Sender(agreed(Outcome.ONE, minimum_intersection=0), HELD, ALONE)
    offer, counter = receiver.offer(), sender.offer()
    if change:
        guesses = [*ASKED[:6], *HELD[6:]]
        counter = mask(guesses, Exponent.generate(), receiver.agreement.domain, ALONE).points
    sender.double(offer)
    receiver.finish(sender.reply(receiver.answer(counter)))
    return receiver, sender


def test_a_set_that_a_relay_swapped_shows_in_the_transcripts():
    receiver, sender = relayed(change=True)
    assert receiver.transcript != sender.transcript
    receiver, sender = relayed(change=False)
    assert receiver.transcript == sender.transcript


def test_who_has_the_exponent_of_a_set_finds_its_names_by_guessing():
    # What the exponent protects: short names fall to a dictionary as soon as it is known.
    exponent = Exponent.generate()
    domain = agreed(Outcome.ONE).domain
    points = mask(ASKED, exponent, domain, ALONE).points
    guesses = encode_to_curve(HELD, domain)
    found = b"".join(times(exponent._secret, guess) for guess in split(guesses))
    assert len(matching(points, found)) == 3
    blind = b"".join(times(Exponent.generate()._secret, guess) for guess in split(guesses))
    assert matching(points, blind) == []
