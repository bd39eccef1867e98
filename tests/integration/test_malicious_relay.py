"""An operator who passes on what nodes signed or sealed in a place that it is not for; real nodes.

As in `test_malicious_operator`, whose operator makes things of its own: each attack has a twin in
which one check is off, and which ends with the very words that a node added up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from federated.messages import Contribution, UnmaskReply
from federated.node import masks
from federated.peers import MASK_KEY_TYPE, PublicMaskKey, SurvivorList, Use
from ledger.errors import LedgerError
from ledger.keys import SigningKey
from ledger.statements import envelope
from privacy import sealed_shares
from privacy.errors import PrivacyError
from privacy.masking import MaskKey
from tests.integration.test_malicious_operator import (
    Careless,
    combined,
    opened_boxes,
    own_words,
    spread,
    stripped,
    two_stories,
    unverified,
)
from tests.stage import Play, word
from tests.talk import FOUR, Conversation, begun, no_data_opened, shared_stage

SEVEN = FOUR | {
    name: "chol,age,sick\n"
    + "".join(f"{195.5 + at * 1.25 + more},{42 + at},{at % 2}\n" for at in range(20 + more))
    for more, name in enumerate(("lugano", "sion", "zug"))
}
"""As many as are needed for five to hold what two others dealt, and five are enough."""


@pytest.fixture(scope="module", name="play")
def _play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    with shared_stage(tmp_path_factory.mktemp("four"), FOUR) as play:
        yield play


@pytest.fixture(name="alone")
def _alone(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Play]:
    """A stage of one's own: what careless nodes did stands in no journal."""
    with shared_stage(tmp_path, getattr(request, "param", FOUR)) as play:
        yield play


# --- signed keys of an earlier round


def mixed(talk: Conversation, victim: str, old: Mapping[str, bytes]) -> dict[str, bytes]:
    """A node's own keys of the next round, and those of a round before for everybody else."""
    return {**old, victim: talk.replies[victim].next_mask_key}


@pytest.mark.parametrize("step", ["unmask", "question", "shares"])
def test_signed_keys_of_an_earlier_round_are_refused_in_a_later_one(play: Play, step: str):
    talk = begun(play)
    old, victim = dict(talk.keys), talk.assets[0]
    talk.ask()
    request: Any = talk.unmask_request(victim, mask_keys=mixed(talk, victim, old))
    if step != "unmask":
        keys = mixed(talk, victim, old)
        talk.reveal()
        request = talk.request(spread(talk, 210.0), mask_keys=keys)
    if step == "shares":
        # In another attempt, the round that nobody answered yet.
        talk = Conversation(play, talk.job, talk.grants, attempt=2)
        own = play.keys_request(talk.job, grant=talk.grants[victim], attempt=2, round=2)
        fresh = talk.tell(victim, own).mask_key
        request = talk.shares_request(round=2, mask_keys={**old, victim: fresh})
    with no_data_opened(play):
        assert word(play.ask(0, request)) == "not_proven"


def of_any_round(
    data: bytes, key: Any, *, asset: str, use: Use, answered: str = ""
) -> PublicMaskKey:
    """Believe whatever a node signed, whenever it did."""
    envelope.open_(data, MASK_KEY_TYPE, key)
    return unverified(data, None, asset=asset, use=use, answered=answered)


def test_twin_whoever_has_old_secrets_reads_a_node_that_takes_old_keys(
    alone: Play, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(masks, "open_mask_key", of_any_round)
    talk = begun(alone)
    old, victim = dict(talk.keys), talk.assets[0]
    # What somebody broke into, before each node forgot it.
    held = {
        name: node._work[talk.job].secrets[1]._share_key
        for name, node in zip(talk.assets, alone.nodes, strict=True)
        if name != victim
    }
    talk.ask()
    keys = mixed(talk, victim, old)
    boxes = talk.heard(victim, talk.unmask_request(victim, mask_keys=keys), UnmaskReply).boxes
    talk.number, question = 2, spread(talk, 210.0)
    talk.asked = talk.request(question, mask_keys=keys)
    talk.replies = {victim: talk.heard(victim, talk.asked, Contribution)}
    pairs = opened_boxes(keys, boxes, victim, held, Use(talk.job, 1, 2, ()))
    seed = combined(talk, {name: pair.seed for name, pair in pairs.items()})
    key = combined(talk, {name: pair.mask_key for name, pair in pairs.items()})
    found = stripped(talk, victim, seed, MaskKey.from_secret(key))
    assert found.tolist() == own_words(talk, victim, question).tolist()


# --- boxes in another sender's place


def swapped(talk: Conversation, asset: str, one: str, other: str) -> dict[str, bytes]:
    """The boxes for a node, those of two senders exchanged."""
    found = dict(talk.boxes[asset])
    found[one], found[other] = found[other], found[one]
    return found


def test_boxes_of_two_senders_that_were_exchanged_open_to_nothing(play: Play):
    talk = begun(play)
    first, second, victim, gone = talk.assets
    talk.ask(without={gone}).agree()
    for asset, rest in ((first, second), (second, first)):
        request = talk.unmask_request(asset, boxes=swapped(talk, asset, victim, gone))
        reply = talk.heard(asset, request, UnmaskReply)
        assert set(reply.shares) == {asset, rest}


def keys_and_seeds(talk: Conversation, victim: str, gone: str) -> tuple[Any, Any]:
    """What nodes that remember nothing say of one survivor, by its own name and by a lost one's."""
    talk.ask(without={gone}).agree()
    others = [name for name in talk.lists if name != victim]
    said: tuple[dict[str, bytes], dict[str, bytes]] = ({}, {})
    for told, label in ((0, gone), (1, victim)):
        for name in others:
            boxes = talk.boxes[name] if told else swapped(talk, name, victim, gone)
            reply = talk.heard(name, talk.unmask_request(name, boxes=boxes), UnmaskReply)
            if label in reply.shares:
                said[told][name] = reply.shares[label]
    return said


@pytest.mark.parametrize("alone", [SEVEN], ids=["seven"], indirect=True)
def test_even_nodes_that_remember_nothing_open_no_box_in_anothers_place(
    alone: Play, monkeypatch: pytest.MonkeyPatch
):
    Careless(monkeypatch)
    talk = begun(alone)
    keys, seeds = keys_and_seeds(talk, talk.assets[0], talk.assets[6])
    assert (len(keys), len(seeds)) == (0, 5)


@pytest.mark.parametrize("alone", [SEVEN], ids=["seven"], indirect=True)
def test_twin_a_box_that_does_not_say_whose_it_is_reveals_both(
    alone: Play, monkeypatch: pytest.MonkeyPatch
):
    Careless(monkeypatch)
    talk = begun(alone)
    publics = {
        name: unverified(key, None, asset=name, use=Use(talk.job, 1, 1, ())).share_public
        for name, key in talk.keys.items()
    }
    bound = sealed_shares.open_

    def of_anybody(box: bytes, *, sender: str, peer_public: bytes, **rest: Any) -> Any:
        del sender, peer_public
        for name, public in publics.items():
            try:
                return bound(box, sender=name, peer_public=public, **rest)
            except PrivacyError:
                continue
        raise PrivacyError("nobody's")

    monkeypatch.setattr(masks.sealed_shares, "open_", of_anybody)
    victim = talk.assets[0]
    keys, seeds = keys_and_seeds(talk, victim, talk.assets[6])
    found = stripped(talk, victim, combined(talk, seeds), MaskKey.from_secret(combined(talk, keys)))
    assert found.tolist() == own_words(talk, victim).tolist()


# --- lists that others did not sign


class EagerShares:
    """Nodes of which two can tell a secret, where three must have signed a list all the same."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        strict = SurvivorList.check_enough
        patch.setattr(masks.shamir, "recovery_threshold", lambda _: 2)
        patch.setattr(
            SurvivorList,
            "check_enough",
            lambda own, lists, keys, _: strict(own, lists, keys, 3),
        )


@pytest.mark.parametrize("forged", [False, True], ids=["too few", "forged"])
def test_the_lists_alone_hide_who_is_dropped_for_some_and_alive_for_others(
    alone: Play, monkeypatch: pytest.MonkeyPatch, *, forged: bool
):
    EagerShares(monkeypatch)
    talk = begun(alone).ask()
    forger = SigningKey.generate("operator") if forged else None
    for told in two_stories(talk, talk.assets[3], forger):
        assert {word(reply) for reply in told.values()} == {"grant_mismatch"}


def test_twin_whoever_believes_lists_that_others_did_not_sign_reveals_both(
    alone: Play, monkeypatch: pytest.MonkeyPatch
):
    EagerShares(monkeypatch)

    def unsigned(own: SurvivorList, data: bytes, _key: Any) -> None:
        if envelope.raw_open(data).payload != own._payload():
            raise LedgerError("another list")

    monkeypatch.setattr(SurvivorList, "check", unsigned)
    talk = begun(alone).ask()
    victim = talk.assets[3]
    dropped, alive = two_stories(talk, victim, SigningKey.generate("operator"))
    key = combined(talk, {name: reply.shares[victim] for name, reply in dropped.items()})
    seed = combined(talk, {name: reply.shares[victim] for name, reply in alive.items()})
    found = stripped(talk, victim, seed, MaskKey.from_secret(key))
    assert found.tolist() == own_words(talk, victim).tolist()
