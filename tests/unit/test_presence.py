"""Heartbeats: whose they are, and what is concluded when they stop."""

import dataclasses
from typing import Any

import pytest

from federated.errors import PresenceError, SupersededError
from federated.presence import (
    ALIVE,
    BEAT_SECONDS,
    HEARTBEAT_TYPE,
    LOST,
    LOST_SECONDS,
    NEVER,
    Heartbeat,
    Presence,
    open_heartbeat,
)
from ledger.statements import envelope
from tests.drafts import START, key_of

KEY = key_of("node")
ASSET = "asset:" + "1" * 64
BOOT = "0" * 32
LATER = "1" * 32
BEAT = Heartbeat(ASSET, BOOT, 1, START)


class Seconds:
    """A clock that only grows, moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def presence(clock: Seconds) -> Presence:
    return Presence(clock)


def test_a_heartbeat_is_its_nodes():
    assert open_heartbeat(BEAT.sign(KEY), KEY.verify_key, asset=ASSET) == BEAT


def test_signed_by_another_node_it_is_refused():
    with pytest.raises(PresenceError):
        open_heartbeat(BEAT.sign(key_of("other")), KEY.verify_key, asset=ASSET)


def test_of_another_asset_it_is_refused():
    with pytest.raises(PresenceError, match="made for another node"):
        open_heartbeat(BEAT.sign(KEY), KEY.verify_key, asset="asset:" + "2" * 64)


def test_a_signature_for_another_purpose_is_refused():
    signed = envelope.sign("application/vnd.rongshu.other", dataclasses.asdict(BEAT), KEY)
    with pytest.raises(PresenceError):
        open_heartbeat(signed, KEY.verify_key, asset=ASSET)


@pytest.mark.parametrize(
    "change",
    [
        {"boot": "0" * 31},
        {"boot": "G" * 32},
        {"boot": 7},
        {"sequence": 0},
        {"sequence": "1"},
        {"sequence": True},
        {"issued": -1},
        {"more": 1},
    ],
    ids=str,
)
def test_a_malformed_one_is_refused(change: dict[str, Any]):
    signed = envelope.sign(HEARTBEAT_TYPE, dataclasses.asdict(BEAT) | change, KEY)
    with pytest.raises(PresenceError):
        open_heartbeat(signed, KEY.verify_key, asset=ASSET)


def test_a_node_is_alive_while_it_beats_and_lost_after_eight_seconds(
    presence: Presence, clock: Seconds
):
    assert presence.of(ASSET) == NEVER
    for number in range(1, 6):
        presence.heard(dataclasses.replace(BEAT, sequence=number))
        clock.now += BEAT_SECONDS
        assert presence.of(ASSET) == ALIVE
    clock.now += LOST_SECONDS - BEAT_SECONDS - 0.001
    assert presence.of(ASSET) == ALIVE
    clock.now += 0.001
    assert presence.of(ASSET) == LOST
    assert presence.of("asset:" + "2" * 64) == NEVER
    presence.heard(dataclasses.replace(BEAT, sequence=6))
    assert presence.of(ASSET) == ALIVE


def test_three_beats_may_go_astray(presence: Presence, clock: Seconds):
    presence.heard(BEAT)
    clock.now += 3 * BEAT_SECONDS
    assert presence.of(ASSET) == ALIVE
    clock.now += BEAT_SECONDS
    assert presence.of(ASSET) == LOST


@pytest.mark.parametrize("sequence", [1, 2])
def test_a_replayed_or_older_beat_keeps_nobody_alive(
    presence: Presence, clock: Seconds, sequence: int
):
    presence.heard(BEAT)
    presence.heard(dataclasses.replace(BEAT, sequence=2))
    clock.now += LOST_SECONDS
    with pytest.raises(PresenceError, match="was heard before"):
        presence.heard(dataclasses.replace(BEAT, sequence=sequence))
    assert presence.of(ASSET) == LOST
    presence.heard(dataclasses.replace(BEAT, sequence=3))
    assert presence.of(ASSET) == ALIVE


def test_a_new_process_counts_anew_and_the_old_one_cannot_come_back(presence: Presence):
    presence.heard(dataclasses.replace(BEAT, sequence=90))
    assert presence.boot(ASSET) == BOOT
    presence.heard(dataclasses.replace(BEAT, boot=LATER))
    assert presence.boot(ASSET) == LATER
    with pytest.raises(SupersededError, match="another process has taken its place"):
        presence.heard(dataclasses.replace(BEAT, sequence=91))
    presence.heard(dataclasses.replace(BEAT, boot=LATER, sequence=2))
    assert presence.boot(ASSET) == LATER


def test_what_was_heard_is_of_one_node_alone(presence: Presence):
    other = "asset:" + "2" * 64
    presence.heard(dataclasses.replace(BEAT, sequence=5))
    presence.heard(dataclasses.replace(BEAT, asset=other, boot=LATER))
    assert (presence.boot(ASSET), presence.boot(other)) == (BOOT, LATER)
    presence.heard(dataclasses.replace(BEAT, sequence=6))
