"""federated.peers: keys and lists that serve one use, and nobody else's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from federated.errors import PeerKeyError, SurvivorsError
from federated.peers import (
    MASK_KEY_TYPE,
    SURVIVORS_TYPE,
    PublicMaskKey,
    SurvivorList,
    Use,
    cohort_digest,
    open_mask_key,
    raw_mask_key,
)
from ledger.keys import SigningKey
from ledger.statements import envelope

USE = Use("j", 1, 2, ("a", "b"))
OTHER_USES = [
    replace(USE, job="k"),
    replace(USE, attempt=2),
    replace(USE, round=1),
    replace(USE, cohort=("a", "b", "c")),
]
KEY = SigningKey.generate("node-a")
MADE = PublicMaskKey("a", USE, bytes(range(32)), bytes(range(1, 33)))


def test_the_cohort_digest_is_of_the_set():
    assert cohort_digest(["a", "b"]) == cohort_digest(["b", "a"])
    assert cohort_digest(["a", "b"]) != cohort_digest(["ab"])


# --- mask keys


def test_a_mask_key_opens_for_its_one_use_and_no_other():
    data = MADE.sign(KEY)
    assert open_mask_key(data, KEY.verify_key, asset="a", use=USE) == MADE
    assert raw_mask_key(data) == MADE.public
    for use in OTHER_USES:
        with pytest.raises(PeerKeyError, match="made for another"):
            open_mask_key(data, KEY.verify_key, asset="a", use=use)
    with pytest.raises(PeerKeyError, match="made for another asset"):
        open_mask_key(data, KEY.verify_key, asset="b", use=USE)
    stranger = SigningKey.generate("node-a").verify_key
    with pytest.raises(PeerKeyError):
        open_mask_key(data, stranger, asset="a", use=USE)
    with pytest.raises(PeerKeyError):
        open_mask_key(data[:-1], KEY.verify_key, asset="a", use=USE)


@pytest.mark.parametrize(
    "change",
    [
        {"public": "AAAA"},
        {"public": 7},
        {"public": ""},
        {"share_public": "AAAA"},
        {"share_public": None},
        {"round": 2.5},
        {"attempt": True},
        {"x": 1},
    ],
)
def test_a_malformed_mask_key_is_refused_though_signed(change: dict[str, Any]):
    payload = envelope.open_(MADE.sign(KEY), MASK_KEY_TYPE, KEY.verify_key) | change
    signed = envelope.sign(MASK_KEY_TYPE, payload, KEY)
    with pytest.raises(PeerKeyError):
        open_mask_key(signed, KEY.verify_key, asset="a", use=USE)


def test_a_mask_key_without_a_share_key_is_refused():
    payload = envelope.open_(MADE.sign(KEY), MASK_KEY_TYPE, KEY.verify_key)
    del payload["share_public"]
    signed = envelope.sign(MASK_KEY_TYPE, payload, KEY)
    with pytest.raises(PeerKeyError, match="other fields"):
        open_mask_key(signed, KEY.verify_key, asset="a", use=USE)


def test_a_signature_for_another_purpose_is_no_mask_key():
    payload = envelope.open_(MADE.sign(KEY), MASK_KEY_TYPE, KEY.verify_key)
    for other in (SURVIVORS_TYPE, "application/vnd.rongshu.mask-key.v1+json"):
        data = envelope.sign(other, payload, KEY)
        with pytest.raises(PeerKeyError):
            open_mask_key(data, KEY.verify_key, asset="a", use=USE)


@pytest.mark.parametrize("data", [b"", b"{}", b"key", MADE.sign(KEY)[:-2]])
def test_what_holds_no_mask_key_is_refused_raw_too(data: bytes):
    with pytest.raises(PeerKeyError):
        raw_mask_key(data)


# --- lists of survivors

NAMES = ("a", "b", "c", "d")
KEYS = {name: SigningKey.generate(name) for name in NAMES}
PUBLIC = {name: key.verify_key for name, key in KEYS.items()}
AGREED = SurvivorList("a", replace(USE, cohort=NAMES), "sha256:0", ("a", "b", "c"))


def signed(*names: str, **changes: Any) -> dict[str, bytes]:
    return {name: replace(AGREED, asset=name, **changes).sign(KEYS[name]) for name in names}


def test_a_list_is_its_nodes_and_says_one_thing():
    data = signed("b")["b"]
    replace(AGREED, asset="b").check(data, PUBLIC["b"])
    twins = [
        {"survivors": ("a", "b", "c", "d")},
        {"survivors": ("a", "b")},
        {"request": "sha256:1"},
        {"asset": "c"},
        *({"use": use} for use in OTHER_USES),
    ]
    for change in twins:
        with pytest.raises(SurvivorsError, match="differs"):
            replace(AGREED, **{"asset": "b", **change}).check(data, PUBLIC["b"])
    with pytest.raises(SurvivorsError):
        replace(AGREED, asset="b").check(data, PUBLIC["c"])
    with pytest.raises(SurvivorsError):
        replace(AGREED, asset="b").check(data[:-1], PUBLIC["b"])


def test_a_signature_for_another_purpose_is_no_list():
    payload = envelope.open_(signed("b")["b"], SURVIVORS_TYPE, PUBLIC["b"])
    data = envelope.sign(MASK_KEY_TYPE, payload, KEYS["b"])
    with pytest.raises(SurvivorsError):
        replace(AGREED, asset="b").check(data, PUBLIC["b"])


def test_enough_survivors_must_have_signed_the_same_list():
    AGREED.check_enough(signed("a", "b", "c"), PUBLIC, 3)
    with pytest.raises(SurvivorsError, match="2 signed the list where 3 must"):
        AGREED.check_enough(signed("a", "b"), PUBLIC, 3)
    with pytest.raises(SurvivorsError, match="no survivor"):
        AGREED.check_enough(signed("a", "b", "d"), PUBLIC, 3)
    other = signed("c", survivors=("a", "c", "d"))
    with pytest.raises(SurvivorsError, match="differs"):
        AGREED.check_enough({**signed("a", "b"), **other}, PUBLIC, 3)
    # Also in this node's own name.
    with pytest.raises(SurvivorsError):
        AGREED.check_enough({**signed("a", "b", "c"), AGREED.asset: signed("b")["b"]}, PUBLIC, 3)
    # One node that signs for two.
    twice = {**signed("a", "b"), "c": signed("b")["b"]}
    with pytest.raises(SurvivorsError):
        AGREED.check_enough(twice, PUBLIC, 3)
