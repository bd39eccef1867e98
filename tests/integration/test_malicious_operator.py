"""An operator who wants one node's own numbers, against four real nodes; each twin gets them.

The coordinator is played by hand (`tests.talk`). An attack that a check stops has a twin in which
that check is off, and which ends with the very words that the node added up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federated.messages import Contribution, RoundRequest, body_digest
from federated.node import masks
from federated.node.journal import Book
from federated.node.masks import RoundSecrets
from federated.node.runner import Node
from federated.node.work import Work
from federated.opening import Revealed, open_secrets
from federated.peers import PublicMaskKey, SurvivorList, Use, raw_mask_key
from federated.plan import Question, Words
from federated.rounds import RoundRecord, add_words
from federated.tasks import encode_answer
from ledger.encoding import b64decode
from ledger.keys import SigningKey
from ledger.statements import envelope
from privacy import masking, sealed_shares, shamir
from privacy.masking import MaskKey
from privacy.sealed_shares import ShareKey, SharePair
from tests.stage import Play, word
from tests.talk import FOUR, Conversation, begun, no_data_opened, shared_stage


@pytest.fixture(scope="module", name="play")
def _play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    with shared_stage(tmp_path_factory.mktemp("four"), FOUR) as play:
        yield play


@pytest.fixture(name="alone")
def _alone(tmp_path: Path) -> Iterator[Play]:
    """A stage of one's own: what careless nodes did stands in no journal."""
    with shared_stage(tmp_path, FOUR) as play:
        yield play


def own_words(talk: Conversation, asset: str, question: Question | None = None) -> Words:
    """What a node adds up, before anything hides it."""
    asked = question or talk.question()
    node = talk.play.market.nodes[asset]
    rows = node._work[talk.job].rows
    assert rows is not None
    return encode_answer(asked.layout, talk.task.answer(talk.plan, asked, rows))


def words_of(reply: Contribution) -> Words:
    return np.frombuffer(reply.words or b"", dtype="<u8").astype(np.uint64)


def opened_sum(talk: Conversation, shares: Mapping[str, Mapping[str, bytes]]) -> Words:
    """What the shares of a round let anybody read: the sum over its survivors."""
    asked = talk.asked
    assert asked is not None
    survivors = tuple(sorted(talk.replies))
    parties = tuple(sorted(asked.mask_keys))
    use = Use(talk.job, talk.attempt, asked.round, tuple(sorted(talk.assets)))
    opened = open_secrets(
        Revealed(parties, survivors, use),
        shares,
        holders=tuple(sorted(talk.before)),
        keys=asked.mask_keys,
        commitments={name: reply.seed_commitment for name, reply in talk.replies.items()},
    )
    bodies = {name: reply.to_bytes() for name, reply in talk.replies.items()}
    question = Question.from_json(asked.question)
    record = RoundRecord(asked.round, question, asked.to_bytes(), bodies, opened)
    return add_words(record, record.open(talk.job, talk.attempt))


def stripped(talk: Conversation, victim: str, seed: bytes, key: MaskKey) -> Words:
    """Take both masks off one contribution, as whoever has both secrets can."""
    asked = talk.asked
    assert asked is not None
    masked, names = words_of(talk.replies[victim]), sorted(asked.mask_keys)
    context = masking.mask_context(asked.job, asked.attempt, asked.round, names)
    peers = {name: raw_mask_key(asked.mask_keys[name]) for name in names if name != victim}
    pairwise = masking.pairwise_mask(
        len(masked), own_id=victim, own=key, peers=peers, context=context
    )
    return (
        masked - pairwise - masking.self_mask(len(masked), seed=seed, owner=victim, context=context)
    )


def combined(talk: Conversation, shares: Mapping[str, bytes]) -> bytes:
    assert talk.asked is not None
    holders = sorted(talk.asked.mask_keys)
    threshold = masks.shamir.recovery_threshold(len(talk.assets))
    return shamir.combine(shares, holders=holders, threshold=threshold)


# --- both halves of one node's masks


def two_stories(
    talk: Conversation, victim: str, forger: SigningKey | None = None
) -> tuple[Any, Any]:
    """Two nodes are told that the victim dropped out, the victim and one more that it did not.

    A forger signs each story for those who were told the other one.
    """
    first, second, third = (name for name in talk.assets if name != victim)
    stories = (tuple(sorted((first, second, third))), tuple(sorted(talk.assets)))
    shares: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for told, names in enumerate(((first, second), (third, victim))):
        request = talk.survivors_request(survivors=stories[told])
        lists = {name: talk.tell(name, request).signed for name in names}
        if forger is not None:
            use = Use(talk.job, talk.attempt, talk.number, tuple(sorted(talk.assets)))
            asked = body_digest((talk.asked or talk.request()).to_bytes())
            for name in set(stories[told]) - set(names):
                lists[name] = SurvivorList(name, use, asked, stories[told]).sign(forger)
        keys = {name: talk.replies[name].next_mask_key for name in stories[told]}
        for name in names:
            unmask = talk.unmask_request(name, lists=lists, mask_keys=keys)
            shares[told][name] = talk.tell(name, unmask)
    return shares


def test_a_node_that_is_dropped_for_some_and_alive_for_others_stays_hidden(play: Play):
    talk = begun(play).ask()
    victim = talk.assets[3]
    for told in two_stories(talk, victim):
        assert {word(reply) for reply in told.values()} == {"grant_mismatch"}


def test_where_all_answered_one_cannot_be_dropped_for_enough_as_well(play: Play):
    # Three sign that the victim left; all four have signed, with their next keys, that it did not.
    talk = begun(play).ask()
    victim = talk.assets[3]
    others = tuple(sorted(set(talk.assets) - {victim}))
    keys = {name: reply.next_mask_key for name, reply in talk.replies.items()}
    talk.agree(survivors=others)
    for name in others[1:]:
        refused = talk.tell(name, talk.unmask_request(name, lists={}, mask_keys=keys))
        assert word(refused) == "grant_mismatch"
    told = talk.tell(victim, talk.unmask_request(victim, lists={}, mask_keys=keys))
    # Of its seed this is one share of four, where three are needed.
    with pytest.raises(shamir.ShareError):
        combined(talk, {victim: told.shares[victim]})


def test_twin_with_a_low_threshold_it_is_read(alone: Play, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(masks.shamir, "recovery_threshold", lambda _: 2)
    talk = begun(alone).ask()
    victim = talk.assets[3]
    dropped, alive = two_stories(talk, victim)
    key = combined(talk, {name: reply.shares[victim] for name, reply in dropped.items()})
    seed = combined(talk, {name: reply.shares[victim] for name, reply in alive.items()})
    found = stripped(talk, victim, seed, MaskKey.from_secret(key))
    assert found.tolist() == own_words(talk, victim).tolist()


def test_whoever_signed_one_list_signs_no_other_and_reveals_for_no_other(play: Play):
    for step in ("list", "shares"):
        talk = begun(play).ask()
        names = tuple(sorted(talk.assets[:3]))
        other = talk.survivors_request(survivors=names)
        talk.agree()
        if step == "list":
            assert word(play.ask(0, other)) == "grant_mismatch"
            continue
        use = Use(talk.job, 1, 1, tuple(sorted(talk.assets)))
        asked = body_digest((talk.asked or talk.request()).to_bytes())
        signed = {
            name: SurvivorList(name, use, asked, names).sign(node._identity.node_key)
            for name, node in zip(talk.assets, play.nodes, strict=True)
            if name in names
        }
        assert word(play.ask(0, talk.unmask_request(talk.assets[0], lists=signed))) == (
            "grant_mismatch"
        )


class Careless:
    """Nodes that remember nothing: no step is only once, and nothing is written down."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(Book, "reply", lambda *_: None)
        patch.setattr(Node, "_record", lambda _self, _request, _asked, reply: reply.to_bytes())
        patch.setattr(RoundSecrets, "check_question", lambda *_: None)
        patch.setattr(Work, "check_next", lambda *_: None)
        step, reveal, deal = Work._step, RoundSecrets.reveal, RoundSecrets.deal

        def keeping(work: Work, request: Any) -> Any:
            kept = dict(work.secrets)
            reply = step(work, request)
            work.secrets.update(kept)
            return reply

        def revealing(secrets: RoundSecrets, *given: Any) -> Any:
            own = secrets._own
            shares = reveal(secrets, *given)
            secrets._own = own
            return shares

        def dealing(secrets: RoundSecrets, *given: Any) -> Any:
            secrets.dealt = {}
            return deal(secrets, *given)

        def agreeing(secrets: RoundSecrets, survivors: Any, key: SigningKey) -> bytes:
            secrets.survivors = survivors
            return secrets._list().sign(key)

        patch.setattr(Work, "_step", keeping)
        patch.setattr(RoundSecrets, "reveal", revealing)
        patch.setattr(RoundSecrets, "deal", dealing)
        patch.setattr(RoundSecrets, "agree", agreeing)


def test_twin_nodes_that_remember_nothing_reveal_both(alone: Play, monkeypatch: pytest.MonkeyPatch):
    Careless(monkeypatch)
    talk = begun(alone).ask()
    boxes, victim = talk.boxes, talk.assets[3]
    names = tuple(sorted(talk.assets[:3]))
    seeds = talk.agree().reveal()
    talk.number, talk.boxes = 1, boxes
    dropped = talk.agree(survivors=names).reveal()
    seed = combined(talk, {name: shares[victim] for name, shares in seeds.items()})
    key = combined(talk, {name: shares[victim] for name, shares in dropped.items()})
    found = stripped(talk, victim, seed, MaskKey.from_secret(key))
    assert found.tolist() == own_words(talk, victim).tolist()


# --- two questions under one mask


def spread(talk: Conversation, mean: float) -> Question:
    return talk.question("spread", {"mean": [mean]})


def test_a_second_model_under_the_same_masks_is_refused(play: Play):
    talk = begun(play)
    talk.round()
    talk.ask(spread(talk, 210.0))
    with no_data_opened(play):
        assert word(play.ask(0, talk.request(spread(talk, 220.0)))) == "grant_mismatch"


def test_twin_the_difference_of_two_answers_is_the_nodes_own(
    alone: Play, monkeypatch: pytest.MonkeyPatch
):
    talk = begun(alone)
    talk.round()
    Careless(monkeypatch)
    victim, questions = talk.assets[0], [spread(talk, mean) for mean in (210.0, 220.0)]
    sent = [words_of(talk.heard(victim, talk.request(q), Contribution)) for q in questions]
    plain = [own_words(talk, victim, question) for question in questions]
    assert (sent[0] - sent[1]).tolist() == (plain[0] - plain[1]).tolist()
    assert (plain[0] - plain[1]).any()


# --- keys of the operator's own


def impostors(talk: Conversation, victim: str) -> tuple[dict[str, bytes], dict[str, ShareKey]]:
    """For everybody but the victim, keys that the operator made and signed."""
    operator, held = SigningKey.generate("operator"), {}
    keys = dict(talk.keys)
    use = Use(talk.job, talk.attempt, 1, tuple(sorted(talk.assets)))
    for name in talk.assets:
        if name != victim:
            held[name] = ShareKey.generate()
            made = PublicMaskKey(name, use, MaskKey.generate().public, held[name].public)
            keys[name] = made.sign(operator)
    return keys, held


def test_keys_that_the_operator_signed_are_refused(play: Play):
    job = play.job()
    talk = Conversation(play, job, play.grant_all(job)).exchange_keys()
    keys, _ = impostors(talk, talk.assets[0])
    with no_data_opened(play):
        assert word(play.ask(0, talk.shares_request(mask_keys=keys))) == "not_proven"


def unverified(
    data: bytes, _key: Any, *, asset: str, use: Use, answered: str = ""
) -> PublicMaskKey:
    payload = envelope.raw_open(data).payload
    keys = b64decode(payload["public"]), b64decode(payload["share_public"])
    return PublicMaskKey(asset, use, *keys, answered)


def opened_boxes(
    keys: Mapping[str, bytes],
    boxes: Mapping[str, bytes],
    victim: str,
    held: Mapping[str, ShareKey],
    use: Use,
) -> dict[str, SharePair]:
    """What a victim dealt, by holder, to whoever holds their share keys."""
    mine = unverified(keys[victim], None, asset=victim, use=use)
    context = masking.mask_context(use.job, use.attempt, use.round, sorted(keys))
    return {
        name: sealed_shares.open_(
            boxes[name],
            sender=victim,
            peer_public=mine.share_public,
            receiver=name,
            own=own,
            context=context,
        )
        for name, own in held.items()
    }


def test_twin_whoever_believes_them_tells_the_operator_everything(
    alone: Play, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(masks, "open_mask_key", unverified)
    job = alone.job()
    talk = Conversation(alone, job, alone.grant_all(job)).exchange_keys()
    victim = talk.assets[0]
    talk.keys, held = impostors(talk, victim)
    boxes = talk.tell(victim, talk.shares_request()).boxes
    pairs = opened_boxes(talk.keys, boxes, victim, held, Use(job, 1, 1, ()))
    talk.asked = talk.request()
    talk.replies = {victim: talk.heard(victim, talk.asked, Contribution)}
    seed = combined(talk, {name: pair.seed for name, pair in pairs.items()})
    key = combined(talk, {name: pair.mask_key for name, pair in pairs.items()})
    found = stripped(talk, victim, seed, MaskKey.from_secret(key))
    assert found.tolist() == own_words(talk, victim).tolist()


def test_keys_lists_and_boxes_of_an_earlier_use_are_of_no_use(play: Play):
    before = begun(play)
    # Keys of another job, though signed by the right nodes.
    job = play.job()
    talk = Conversation(play, job, play.grant_all(job)).exchange_keys()
    keys = {**before.keys, talk.assets[0]: talk.keys[talk.assets[0]]}
    assert word(play.ask(0, talk.shares_request(mask_keys=keys))) == "not_proven"
    # Lists of the round before.
    talk = begun(play)
    old = talk.ask().agree().lists
    boxes = talk.boxes
    talk.reveal()
    talk.ask(spread(talk, 210.0)).agree()
    assert word(play.ask(0, talk.unmask_request(talk.assets[0], lists=old))) == "grant_mismatch"
    # Boxes of the round before: they open to nothing, and the node says only what is its own.
    other = talk.assets[1]
    reply = talk.tell(other, talk.unmask_request(other, boxes=boxes[other]))
    assert set(reply.shares) == {other}


# --- fewer parties


def few(talk: Conversation, count: int = 2) -> dict[str, bytes]:
    return {name: talk.keys[name] for name in talk.assets[:count]}


@pytest.mark.parametrize("step", ["shares", "question", "list"])
def test_fewer_than_two_thirds_and_one_are_refused(play: Play, step: str):
    job = play.job()
    talk = Conversation(play, job, play.grant_all(job)).exchange_keys()
    request: Any = talk.shares_request(mask_keys=few(talk))
    if step == "question":
        request = talk.deal().request(mask_keys=few(talk))
    elif step == "list":
        request = talk.deal().ask().survivors_request(survivors=tuple(sorted(talk.assets[:2])))
    with no_data_opened(play):
        assert word(play.ask(0, request)) == "grant_mismatch"


def test_twin_of_two_one_reads_the_other(alone: Play, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(RoundSecrets, "_check_parties", lambda *_: None)
    monkeypatch.setattr(masks.shamir, "recovery_threshold", lambda _: 2)
    talk = begun(alone).ask()
    victim, friend = talk.assets[:2]
    talk.replies = {name: talk.replies[name] for name in (victim, friend)}
    total = opened_sum(talk, talk.agree().reveal())
    assert (total - own_words(talk, friend)).tolist() == own_words(talk, victim).tolist()


@pytest.mark.parametrize("what", ["another key", "another question", "too few", "a stranger"])
def test_forged_lists_reveal_nothing(play: Play, what: str):
    talk = begun(play).ask().agree()
    asked = body_digest((talk.asked or talk.request()).to_bytes())
    names, use = tuple(sorted(talk.assets)), Use(talk.job, 1, 1, tuple(sorted(talk.assets)))
    lists = dict(talk.lists)
    if what == "another key":
        operator = SigningKey.generate("operator")
        other = talk.assets[1]
        lists[other] = SurvivorList(other, use, asked, names).sign(operator)
    elif what == "another question":
        key = play.nodes[1]._identity.node_key
        other = talk.assets[1]
        lists[other] = SurvivorList(other, use, "sha256:" + "0" * 64, names).sign(key)
    elif what == "too few":
        lists = {name: lists[name] for name in talk.assets[:2]}
    else:
        lists["asset:" + "f" * 64] = lists[names[0]]
    request = talk.unmask_request(talk.assets[0], lists=lists)
    assert word(play.ask(0, request)) == "grant_mismatch"


# --- sums side by side


def test_a_conversation_does_not_begin_anew_when_nobody_left(play: Play):
    talk = begun(play)
    talk.round()
    talk.first = talk.number
    with no_data_opened(play):
        assert word(play.ask(0, talk.request())) == "grant_mismatch"


def test_a_conversation_does_not_go_on_among_others_than_it_began_with(play: Play):
    talk = begun(play)
    talk.round()
    keys = {name: talk.keys[name] for name in talk.assets[:3]}
    with no_data_opened(play):
        reply = play.ask(0, talk.request(spread(talk, 210.0), mask_keys=keys))
    assert word(reply) == "grant_mismatch"


def test_a_sum_that_was_never_opened_may_be_asked_again_of_the_same(play: Play):
    talk = begun(play).ask()
    # The first round ends here: somebody restarted, and nobody revealed anything.
    second = Conversation(play, talk.job, talk.grants, attempt=2)
    second.number = second.first = 2
    for asset in second.assets:
        request = play.keys_request(talk.job, grant=talk.grants[asset], attempt=2, round=2)
        second.keys[asset] = second.tell(asset, request).mask_key
    request = second.shares_request(round=2)
    second._take({name: second.tell(name, request).boxes for name in second.keys})
    second.round()


def test_twin_sums_over_one_set_after_the_other_are_one_nodes_numbers(
    alone: Play, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Work, "check_next", lambda *_: None)
    talk = begun(alone)
    victim = talk.assets[3]
    whole = opened_sum(talk, talk.ask().agree().reveal())
    del talk.keys[victim]
    rest = opened_sum(talk, talk.ask(talk.question()).agree().reveal())
    assert (whole - rest).tolist() == own_words(talk, victim).tolist()


def test_what_an_honest_departure_shows_is_the_leavers_own_sum(play: Play):
    """Not an attack that is stopped: CLAIMS.md says so, and signed terms can exclude it."""
    talk = begun(play)
    victim = talk.assets[3]
    whole = opened_sum(talk, talk.ask().agree().reveal())
    del talk.keys[victim]
    talk.first = talk.number
    rest = opened_sum(talk, talk.ask().agree().reveal())
    assert (whole - rest).tolist() == own_words(talk, victim).tolist()
    # And never a second one: two of four are too few.
    talk.keys = {name: talk.keys[name] for name in talk.assets[:2]}
    talk.first = talk.number
    assert word(play.ask(0, talk.request())) == "grant_mismatch"


def test_a_question_repeated_byte_for_byte_gets_its_answer_again(play: Play):
    talk = begun(play).ask()
    asked = talk.asked
    assert isinstance(asked, RoundRequest)
    assert play.ask(0, asked) == talk.replies[talk.assets[0]]
    assert word(play.ask(0, replace(asked, first=2))) != "Contribution"
