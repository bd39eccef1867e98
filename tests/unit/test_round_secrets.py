"""A node's secrets of one round: each step once, in order, and never both halves of a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from federated.errors import RefusedError
from federated.node.masks import RoundSecrets
from federated.opening import Revealed, open_secrets
from federated.peers import PublicMaskKey, SurvivorList, Use
from ledger.keys import SigningKey
from privacy import masking, recovery
from privacy.masking import MaskKey

NAMES = ("a", "b", "c", "d", "e")
USE = Use("job:1", 1, 3, NAMES)
KEYS = {name: SigningKey.generate(name) for name in NAMES}
PUBLIC = {name: key.verify_key for name, key in KEYS.items()}
ASKED = "sha256:1"
WORDS = {name: np.arange(6, dtype=np.uint64) * (at + 1) for at, name in enumerate(NAMES)}


def fresh(name: str, answered: str = ASKED, minimum: int = 4) -> RoundSecrets:
    """The secrets that a node draws with its answer, for the round after."""
    use = replace(USE, round=USE.round + 1)
    return RoundSecrets.fresh(use, name, KEYS[name], minimum, answered=answered)


class Round:
    """Five nodes in one round; `minimum` is that of every grant."""

    def __init__(self, minimum: int = 4, use: Use = USE) -> None:
        self.nodes = {name: RoundSecrets.fresh(use, name, KEYS[name], minimum) for name in NAMES}
        self.after = {name: fresh(name, minimum=minimum) for name in NAMES}
        self.signed = {name: node.signed for name, node in self.nodes.items()}
        self.boxes: dict[str, dict[str, bytes]] = {}
        self.masked: dict[str, np.ndarray] = {}
        self.lists: dict[str, bytes] = {}

    def deal(self, parties: tuple[str, ...] = NAMES) -> Round:
        keys = {name: self.signed[name] for name in parties}
        self.boxes = {name: self.nodes[name].deal(keys, PUBLIC) for name in parties}
        return self

    def mask(self, parties: tuple[str, ...] = NAMES, without: str = "") -> Round:
        keys = {name: self.signed[name] for name in parties}
        for name in parties:
            if name != without:
                self.nodes[name].check_question(keys)
                self.masked[name] = self.nodes[name].mask(WORDS[name], keys, ASKED)
        return self

    def agree(self, survivors: tuple[str, ...]) -> Round:
        self.lists = {name: self.nodes[name].agree(survivors, KEYS[name]) for name in survivors}
        return self

    def dealt_to(self, name: str) -> dict[str, bytes]:
        return {sender: dealt[name] for sender, dealt in self.boxes.items() if name in dealt}

    def reveal(
        self,
        name: str,
        lists: dict[str, bytes] | None = None,
        boxes: dict[str, bytes] | None = None,
    ) -> dict[str, bytes]:
        after = self.after[name]
        if not after.dealt:
            self.deal_next(name, self.nodes[name].survivors or NAMES)
        given = self.lists if lists is None else lists
        return self.nodes[name].reveal(given, boxes or self.dealt_to(name), PUBLIC, after)

    def deal_next(self, name: str, parties: tuple[str, ...], **signed: bytes) -> None:
        """One node deals for the round to come, to those who answered this one."""
        keys = {party: self.after[party].signed for party in parties}
        self.after[name].deal(keys | signed, PUBLIC)


def opened_total(play: Round, parties: tuple[str, ...], survivors: tuple[str, ...]) -> np.ndarray:
    commitments = {name: play.nodes[name].commitment() for name in survivors}
    opened = open_secrets(
        Revealed(parties, survivors, USE),
        {name: play.reveal(name) for name in survivors},
        holders=NAMES,
        keys=play.signed,
        commitments=commitments,
    )
    context = masking.mask_context(USE.job, USE.attempt, USE.round, parties)
    return recovery.unmask(
        masking.add([play.masked[name] for name in survivors]),
        survivors=opened.seeds,
        dropped={name: MaskKey.from_secret(each) for name, each in opened.mask_keys.items()},
        publics={name: play.nodes[name]._mask_key.public for name in parties},
        commitments=commitments,
        context=context,
    )


@pytest.mark.parametrize("gone", ["", "a", "c", "e"])
def test_the_sum_is_that_of_those_who_stayed(gone: str):
    survivors = tuple(name for name in NAMES if name != gone)
    play = Round().deal().mask(without=gone).agree(survivors)
    for name in survivors:
        assert not (play.masked[name] == WORDS[name]).any()
    total = opened_total(play, NAMES, survivors)
    assert total.tolist() == sum(WORDS[name] for name in survivors).tolist()


def test_whoever_dealt_no_shares_is_not_masked_with():
    play = Round()
    keys = dict(play.signed)
    stay = NAMES[:4]
    play.boxes = {name: play.nodes[name].deal(keys, PUBLIC) for name in stay}
    play.mask(stay).agree(stay)
    assert opened_total(play, stay, stay).tolist() == sum(WORDS[name] for name in stay).tolist()


def refused(reason: str, act: Callable[[], Any]) -> None:
    with pytest.raises(RefusedError) as caught:
        act()
    assert caught.value.reason == reason


def test_shares_are_dealt_once_to_enough_of_the_granted_parties():
    play = Round()
    node = play.nodes["a"]
    few = {name: play.signed[name] for name in NAMES[:3]}
    refused("grant_mismatch", lambda: node.deal(few, PUBLIC))
    refused("grant_mismatch", lambda: node.deal({**play.signed, "f": b"x"}, PUBLIC))
    others = {name: play.signed[name] for name in NAMES[1:]}
    refused("grant_mismatch", lambda: node.deal(others, PUBLIC))
    node.deal(play.signed, PUBLIC)
    refused("grant_mismatch", lambda: node.deal(play.signed, PUBLIC))


def test_the_threshold_holds_whatever_the_grant_permits():
    play = Round(minimum=2)
    three = {name: play.signed[name] for name in NAMES[:3]}
    refused("grant_mismatch", lambda: play.nodes["a"].deal(three, PUBLIC))
    # And all of them are needed where the grant says so.
    whole = Round(minimum=5)
    four = {name: whole.signed[name] for name in NAMES[:4]}
    refused("grant_mismatch", lambda: whole.nodes["a"].deal(four, PUBLIC))


def test_assets_of_one_provider_count_once():
    four = NAMES[:4]
    for owners, permitted in (({}, True), ({"c": "one", "d": "one"}, False)):
        node = RoundSecrets.fresh(USE, "a", KEYS["a"], 4, owners)
        keys = {n: RoundSecrets.fresh(USE, n, KEYS[n], 4).signed for n in four} | {"a": node.signed}
        if permitted:
            assert set(node.deal(keys, PUBLIC)) == set(four[1:])
        else:
            refused("grant_mismatch", lambda n=node, k=keys: n.deal(k, PUBLIC))


def forged(asset: str, by: str, use: Use = USE) -> bytes:
    made = PublicMaskKey(asset, use, MaskKey.generate().public, MaskKey.generate().public)
    return made.sign(KEYS[by])


@pytest.mark.parametrize(
    "change",
    [
        {"b": forged("b", "c")},
        {"b": forged("c", "c")},
        {"b": forged("b", "b", Use("job:1", 1, 2, NAMES))},
        {"b": forged("b", "b", Use("job:1", 2, 3, NAMES))},
        {"b": forged("b", "b", Use("job:2", 1, 3, NAMES))},
        {"b": forged("b", "b", Use("job:1", 1, 3, NAMES[:4]))},
        {"b": b"key"},
        # Its own, exchanged for another that it signed.
        {"a": forged("a", "a")},
    ],
)
def test_keys_that_are_not_the_peers_for_this_round_are_refused(change: dict[str, bytes]):
    play = Round()
    refused("not_proven", lambda: play.nodes["a"].deal({**play.signed, **change}, PUBLIC))
    play.nodes["a"].deal(play.signed, PUBLIC)


def test_a_question_is_answered_once_under_the_keys_that_were_dealt_to():
    play = Round()
    node = play.nodes["a"]
    refused("grant_mismatch", lambda: node.check_question(play.signed))
    play.deal()
    other = {**play.signed, "b": forged("b", "b")}
    refused("not_proven", lambda: node.check_question(other))
    three = {name: play.signed[name] for name in NAMES[:3]}
    refused("grant_mismatch", lambda: node.check_question(three))
    play.mask()
    refused("grant_mismatch", lambda: node.check_question(play.signed))


def test_one_list_is_signed_and_never_a_second():
    play = Round().deal()
    node = play.nodes["a"]
    refused("grant_mismatch", lambda: node.agree(NAMES, KEYS["a"]))
    play.mask()
    refused("grant_mismatch", lambda: node.agree(NAMES[1:], KEYS["a"]))
    refused("grant_mismatch", lambda: node.agree(NAMES[:3], KEYS["a"]))
    refused("grant_mismatch", lambda: node.agree((*NAMES, "f"), KEYS["a"]))
    node.agree(NAMES[:4], KEYS["a"])
    refused("grant_mismatch", lambda: node.agree(NAMES, KEYS["a"]))
    refused("grant_mismatch", lambda: node.agree(NAMES[:4], KEYS["a"]))


def listed(name: str, survivors: tuple[str, ...], **changes: Any) -> bytes:
    given = {"asset": name, "use": USE, "request": ASKED, "survivors": survivors, **changes}
    return SurvivorList(**given).sign(KEYS[name])


@pytest.mark.parametrize(
    "lists",
    [
        {},
        {name: listed(name, NAMES) for name in NAMES[:3]},
        {name: listed(name, NAMES[:4]) for name in NAMES[:4]},
        {name: listed(name, NAMES, request="sha256:2") for name in NAMES},
        {name: listed(name, NAMES, use=Use("job:1", 1, 2, NAMES)) for name in NAMES},
        {**{name: listed(name, NAMES) for name in NAMES[:4]}, "e": listed("d", NAMES)},
    ],
    ids=["none", "too few", "another list", "another question", "another round", "forged"],
)
def test_nothing_is_revealed_without_enough_lists_like_its_own(lists: dict[str, bytes]):
    play = Round().deal().mask().agree(NAMES)
    refused("grant_mismatch", lambda: play.reveal("a", lists))
    assert set(play.reveal("a")) == set(NAMES)


def test_shares_are_revealed_once_and_only_after_an_answer():
    play = Round().deal()
    refused("grant_mismatch", lambda: play.reveal("a"))
    play.mask()
    play.reveal("a")
    refused("grant_mismatch", lambda: play.reveal("a"))


def test_where_nobody_left_the_next_keys_of_all_open_the_sum():
    play = Round().deal().mask()
    assert opened_total(play, NAMES, NAMES).tolist() == sum(WORDS.values()).tolist()


def test_without_a_list_nothing_is_revealed_unless_everybody_answered():
    play = Round().deal().mask()
    play.deal_next("a", NAMES[:4])
    refused("grant_mismatch", lambda: play.reveal("a"))
    # Four of five are enough where each has heard that somebody left.
    play.agree(NAMES[:4])
    play.reveal("a")


@pytest.mark.parametrize(
    "signed",
    [
        fresh("e", "sha256:2").signed,
        fresh("e", "").signed,
        fresh("d").signed,
        RoundSecrets.fresh(USE, "e", KEYS["e"], 4, answered=ASKED).signed,
    ],
    ids=["another question", "no question", "another node", "another round"],
)
def test_a_next_key_that_does_not_say_so_counts_for_no_answer(signed: bytes):
    play = Round().deal().mask()
    refused("not_proven", lambda: play.deal_next("a", NAMES, e=signed))
    refused("grant_mismatch", lambda: play.nodes["a"].reveal({}, {}, PUBLIC, play.after["a"]))


def test_keys_of_another_round_say_nothing_about_this_one():
    play = Round().deal().mask()
    other = {name: fresh(name, "sha256:2") for name in NAMES}
    other["a"].deal({name: each.signed for name, each in other.items()}, PUBLIC)
    refused("grant_mismatch", lambda: play.nodes["a"].reveal({}, {}, PUBLIC, other["a"]))


def test_whoever_signed_that_somebody_left_reveals_for_nothing_else():
    play = Round().deal().mask().agree(NAMES[:4])
    play.deal_next("a", NAMES)
    refused("grant_mismatch", lambda: play.reveal("a"))


def test_whoever_revealed_that_nobody_left_signs_nothing_else():
    play = Round().deal().mask()
    play.reveal("a")
    refused("grant_mismatch", lambda: play.nodes["a"].agree(NAMES[:4], KEYS["a"]))


def test_of_each_party_one_share_is_revealed_and_never_the_other():
    survivors = NAMES[:4]
    play = Round().deal().mask().agree(survivors)
    # e contributed, and its reply came too late: it counts as dropped.
    shares = {name: play.reveal(name) for name in survivors}
    opened = open_secrets(
        Revealed(NAMES, survivors, USE),
        shares,
        holders=NAMES,
        keys=play.signed,
        commitments={name: play.nodes[name].commitment() for name in survivors},
    )
    assert set(opened.seeds) == set(survivors)
    assert opened.mask_keys == {"e": play.nodes["e"]._mask_key.raw_secret_bytes()}
    assert play.nodes["e"]._seed not in opened.seeds.values()
    # What is known of e leaves its self mask on.
    context = masking.mask_context(USE.job, USE.attempt, USE.round, NAMES)
    peers = {name: play.nodes[name]._mask_key.public for name in survivors}
    key = MaskKey.from_secret(opened.mask_keys["e"])
    bare = play.masked["e"] - masking.pairwise_mask(
        6, own_id="e", own=key, peers=peers, context=context
    )
    assert not (bare == WORDS["e"]).any()


def test_a_box_that_was_damaged_or_swapped_gives_no_share():
    play = Round().deal().mask().agree(NAMES)
    boxes = play.dealt_to("a")
    boxes["b"], boxes["c"] = boxes["c"], boxes["b"]
    boxes["d"] = play.dealt_to("b")["d"]
    boxes["e"] = boxes["e"][:-1] + bytes([boxes["e"][-1] ^ 1])
    assert set(play.reveal("a", boxes=boxes)) == {"a"}


def test_a_box_of_another_round_gives_no_share():
    before = Round(use=Use("job:1", 1, 2, NAMES)).deal()
    play = Round().deal().mask().agree(NAMES)
    assert set(play.reveal("a", boxes=before.dealt_to("a"))) == {"a"}


def test_no_secret_stands_in_a_repr():
    play = Round().deal()
    shown = repr(play.nodes["a"])
    for secret in (play.nodes["a"]._seed, play.nodes["a"]._mask_key.raw_secret_bytes()):
        assert repr(secret) not in shown
        assert secret.hex() not in shown
    assert "_own" not in shown
