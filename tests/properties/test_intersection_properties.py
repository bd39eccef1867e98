import hashlib
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.curve25519 import check_points
from privacy.identifiers import Rules, identify
from privacy.intersection import Agreement, Outcome, Receiver, Sender
from privacy.linkage import CLK_BITS, Encodings, Field, LinkageKey, Schema, encode, link
from privacy.workers import Workers

ALONE = Workers()
SETS = st.sets(st.binary(min_size=1, max_size=3), min_size=2, max_size=8).map(sorted)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cn", "Cs"]), max_size=12)
SCHEMA = Schema((Field("name", 200),), spread=2, length=CLK_BITS)
KEY = LinkageKey.from_secret(hashlib.sha256(b"linkage").digest())


def run(outcome: Outcome, asked: list[bytes], held: list[bytes]) -> tuple[Receiver, Sender, object]:
    agreement = Agreement(
        job="job:1",
        attempt=0,
        outcome=outcome,
        rules=bytes(32),
        receiver="bank",
        sender="shop",
        receiver_size=len(asked),
        sender_size=len(held),
        minimum_size=2,
        minimum_intersection=0,
    )
    receiver, sender = Receiver(agreement, asked, ALONE), Sender(agreement, held, ALONE)
    counter = sender.offer()
    sender.double(check_points(receiver.offer()))
    found = receiver.finish(sender.reply(receiver.answer(check_points(counter))))
    return receiver, sender, found


@settings(max_examples=40, deadline=None)
@given(SETS, SETS)
def test_what_both_learn_is_the_plain_intersection(asked: list[bytes], held: list[bytes]):
    receiver, sender, found = run(Outcome.BOTH, asked, held)
    common = set(asked) & set(held)
    assert found.size == sender.size == len(common)
    assert {asked[at] for at in found.matches} == common
    back = sender.finish(receiver.return_matches())
    assert {held[at] for at in back.matches} == common
    assert receiver.transcript == sender.transcript


@settings(max_examples=40, deadline=None)
@given(SETS, SETS)
def test_the_size_is_the_plain_one_and_comes_alone(asked: list[bytes], held: list[bytes]):
    receiver, sender, found = run(Outcome.SIZE, asked, held)
    assert found.size == sender.size == len(set(asked) & set(held))
    assert found.matches is None
    assert receiver.transcript == sender.transcript


@settings(deadline=None)
@given(TEXTS)
def test_what_rules_leave_out_makes_no_difference(text: str):
    spellings = [text, f" {text} ", f"{text}-", unicodedata.normalize("NFD", text)]
    rules = Rules((("nfkc", "letters-and-digits"),))
    if not any(unicodedata.category(sign)[0] in "LMN" for sign in text):
        return
    members = {identify([[each]], rules).members for each in spellings}
    assert len(members) == 1
    # The twin: a letter more is another name.
    assert identify([[text + "q"]], rules).members not in members


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("abcdefgh", min_size=3, max_size=9), min_size=2, max_size=9, unique=True))
def test_a_record_is_linked_to_itself_and_encodings_survive_the_way(names: list[str]):
    here = encode([names], SCHEMA, KEY)
    there = Encodings.from_bytes(here.to_bytes(), count=len(names), schema=SCHEMA)
    links = link(here, there, threshold=1000)
    for row, other in zip(links.first.tolist(), links.second.tolist(), strict=True):
        assert (here.words[row] == there.words[other]).all()
    assert sorted(links.first.tolist()) == list(range(len(names)))
