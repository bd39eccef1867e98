"""The channel between nodes: what opens, and whatever else a relay could pass on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from federated.channel import CHANNEL_KEY_TYPE, Channel
from federated.errors import ChannelError
from federated.peers import Use
from ledger.keys import SigningKey
from ledger.statements import envelope

COHORT = ("asset:a", "asset:b", "asset:c")
USE = Use("job:1", 1, 1, COHORT)
SIGNERS = {asset: SigningKey.generate(f"node-{asset[-1]}") for asset in COHORT}
NODE_KEYS = {asset: key.verify_key for asset, key in SIGNERS.items()}


def channels(use: Use = USE) -> dict[str, Channel]:
    return {asset: Channel.fresh(use, asset, SIGNERS[asset]) for asset in COHORT}


def met(use: Use = USE) -> dict[str, Channel]:
    ends = channels(use)
    keys = {asset: end.signed for asset, end in ends.items()}
    for end in ends.values():
        end.meet(keys, NODE_KEYS)
    return ends


def test_a_parcel_opens_in_the_round_after_it_was_sent():
    ends = met()
    sealed = ends["asset:a"].seal(1, {"asset:b": b"for b", "asset:c": b"for c"})
    assert ends["asset:b"].open(2, {"asset:a": sealed["asset:b"]}) == {"asset:a": b"for b"}
    assert ends["asset:c"].open(2, {"asset:a": sealed["asset:c"]}) == {"asset:a": b"for c"}
    assert b"for b" not in sealed["asset:b"]


def test_all_have_the_same_binding_and_other_jobs_another():
    bindings = {end.binding for end in met().values()}
    assert len(bindings) == 1
    others = [replace(USE, job="job:2"), replace(USE, attempt=2), replace(USE, cohort=COHORT[:2])]
    assert len(bindings | {Channel(use, "asset:a", b"").binding for use in others}) == 4


def as_it_was(box: bytes) -> bytes:
    return box


def changed(box: bytes) -> bytes:
    return box[:-1] + bytes([box[-1] ^ 1])


def emptied(_: bytes) -> bytes:
    return b""


def from_another_process(_: bytes) -> bytes:
    return met()["asset:a"].seal(1, {"asset:b": b"ids"})["asset:b"]


@pytest.mark.parametrize(
    ("receiver", "number", "sender", "carried"),
    [
        ("asset:b", 3, "asset:a", as_it_was),
        ("asset:b", 1, "asset:a", as_it_was),
        ("asset:c", 2, "asset:a", as_it_was),
        ("asset:b", 2, "asset:c", as_it_was),
        ("asset:b", 2, "asset:x", as_it_was),
        ("asset:b", 2, "asset:a", changed),
        ("asset:b", 2, "asset:a", emptied),
        ("asset:b", 2, "asset:a", from_another_process),
    ],
)
def test_a_relay_that_passes_on_another_thing_is_refused(
    receiver: str, number: int, sender: str, carried: Any
):
    ends = met()
    box = ends["asset:a"].seal(1, {"asset:b": b"ids"})["asset:b"]
    with pytest.raises(ChannelError):
        ends[receiver].open(number, {sender: carried(box)})
    # The twin: as it was sent, it opens.
    assert ends["asset:b"].open(2, {"asset:a": box}) == {"asset:a": b"ids"}


@pytest.mark.parametrize("use", [replace(USE, job="job:2"), replace(USE, attempt=2)])
def test_a_parcel_of_another_job_or_attempt_is_refused(use: Use):
    ends, others = met(), met(use)
    box = others["asset:a"].seal(1, {"asset:b": b"ids"})["asset:b"]
    with pytest.raises(ChannelError):
        ends["asset:b"].open(2, {"asset:a": box})


def signed(asset: str, key: SigningKey, **changes: Any) -> bytes:
    made = Channel.fresh(USE, asset, key)
    payload = envelope.open_(made.signed, CHANNEL_KEY_TYPE, key.verify_key)
    return envelope.sign(CHANNEL_KEY_TYPE, {**payload, **changes}, key)


B = SIGNERS["asset:b"]
STRANGER = SigningKey.generate("operator")


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (lambda: signed("asset:b", STRANGER), "channel key of asset:b"),
        (lambda: signed("asset:b", SIGNERS["asset:c"]), "channel key of asset:b"),
        (lambda: signed("asset:c", B), "another asset"),
        (lambda: signed("asset:b", B, job="job:2"), "another job"),
        (lambda: signed("asset:b", B, attempt=2), "another attempt"),
        (lambda: signed("asset:b", B, attempt=True), "another attempt"),
        (lambda: signed("asset:b", B, cohort_digest="sha256:" + 64 * "0"), "another cohort_digest"),
        (lambda: signed("asset:b", B, more=1), "other fields"),
        (lambda: signed("asset:b", B, public="AAAA"), "must be 32 bytes"),
        (lambda: signed("asset:b", B, public=7), "must be 32 bytes"),
        (lambda: b"{}", "channel key of asset:b"),
    ],
)
def test_a_key_that_is_not_the_nodes_for_this_use_is_refused(key: Any, says: str):
    ends = channels()
    keys = {asset: end.signed for asset, end in ends.items()}
    with pytest.raises(ChannelError, match=says):
        ends["asset:a"].meet({**keys, "asset:b": key()}, NODE_KEYS)
    assert ends["asset:a"].peers == {}
    ends["asset:a"].meet(keys, NODE_KEYS)


def test_the_cohort_is_met_whole_once_and_with_ones_own_key():
    ends = channels()
    keys = {asset: end.signed for asset, end in ends.items()}
    own = ends["asset:a"]
    with pytest.raises(ChannelError, match="those of the cohort"):
        own.meet({asset: keys[asset] for asset in COHORT[:2]}, NODE_KEYS)
    with pytest.raises(ChannelError, match="own channel key was replaced"):
        own.meet({**keys, "asset:a": channels()["asset:a"].signed}, NODE_KEYS)
    own.meet(keys, NODE_KEYS)
    with pytest.raises(ChannelError, match="exchanged already"):
        own.meet(keys, NODE_KEYS)


def test_nothing_is_sealed_for_a_stranger_or_before_the_keys_were_met():
    end = channels()["asset:a"]
    with pytest.raises(ChannelError, match="not of the cohort"):
        end.seal(1, {"asset:b": b"ids"})
    with pytest.raises(ChannelError, match="not of the cohort"):
        met()["asset:a"].seal(1, {"asset:x": b"ids"})


def test_a_key_of_small_order_is_named_when_it_is_used():
    ends = channels()
    keys = {asset: end.signed for asset, end in ends.items()}
    keys["asset:b"] = signed("asset:b", B, public="A" * 43 + "=")
    ends["asset:a"].meet(keys, NODE_KEYS)
    with pytest.raises(ChannelError, match="small order"):
        ends["asset:a"].seal(1, {"asset:b": b"ids"})


def test_the_secret_stays_out_of_the_repr():
    end = met()["asset:a"]
    assert "_own" not in repr(end)
