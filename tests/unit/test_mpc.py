"""Computations on secret shares: what they open, what they refuse, and what a party gets to see."""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import signal
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import (
    CapacityError,
    ChildDiedError,
    OutOfRangeError,
    PeersError,
    ThresholdError,
)
from privacy.mpc import computation as plans
from privacy.mpc.computation import (
    FEWEST_STATISTICAL_BITS,
    MOST_PARTIES,
    MOST_PRICES,
    MOST_VALUES,
    Clearing,
    Order,
    Owner,
    Ranking,
    Value,
    bit_length,
    read_computation,
    statistical_bits,
    threshold,
)
from privacy.mpc.party import PROGRAM, Party
from tests.shares import Parcels, together

LARGEST = (1 << 53) - 1
MAXIMUM = (Value((0,)), Owner(0))


def test_only_what_is_asked_for_is_opened_and_ties_go_to_the_earlier_party():
    ranking = Ranking((1, 1, 0, 1), 100, (Value((0,)), Owner(0), Owner(1), Value((1, 2))))
    assert together(ranking, [[-7], [12], [], [12]]) == [12, 1, 3, 5]


def test_numbers_at_both_ends_of_their_range_are_compared_rightly():
    ranking = Ranking((2, 2, 2), LARGEST, (Value((0,)), Value((5,)), Value((2, 3))))
    values = [[LARGEST, -LARGEST], [LARGEST - 1, 0], [1, 1 - LARGEST]]
    assert together(ranking, values) == [LARGEST, -LARGEST, 1]


@pytest.mark.parametrize(("second", "sign"), [(-4, 1), (-3, 0), (-2, -1)])
@pytest.mark.slow
def test_of_two_numbers_only_the_order_is_opened(second: int, sign: int):
    assert together(Order((1, 0, 1), 1000), [[-3], [], [second]]) == [sign]


@pytest.mark.slow
def test_a_price_is_found_where_demand_still_covers_supply():
    clearing = Clearing((6, 0, 6), 20, 3)
    assert together(clearing, [[9, 5, 1, 0, 1, 1], [], [0, 0, 0, 2, 4, 8]]) == [2, 5]


@pytest.mark.slow
def test_without_a_price_nothing_of_the_curves_is_opened():
    assert together(Clearing((2, 2, 0), 20, 1), [[3, 0], [0, 4], []]) == [0]


def test_two_parties_are_refused_and_three_are_not():
    with pytest.raises(ThresholdError, match="fewer than three"):
        Party(Ranking((1, 1), 9, MAXIMUM), 0, [1])
    with pytest.raises(ThresholdError):
        Order((1, 1), 9).check()
    Ranking((1, 1, 0), 9, MAXIMUM).check()
    Order((1, 1, 0), 9).check()


@pytest.mark.parametrize("parties", range(3, MOST_PARTIES + 1))
def test_colluding_parties_up_to_the_threshold_are_a_minority(parties: int):
    assert 1 <= threshold(parties) < parties / 2


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (Ranking((40, 20, 5), 9, MAXIMUM), Ranking((40, 20, 4), 9, MAXIMUM)),
        (Ranking((1,) * 8, 9, MAXIMUM), Ranking((1,) * 7, 9, MAXIMUM)),
        (Ranking((1, 1, 1), 9, (Value((3,)),)), Ranking((1, 1, 1), 9, (Value((2,)),))),
        (Ranking((1, 1, 1), 9, ()), Ranking((1, 1, 1), 9, (Owner(2),))),
        (Ranking((3, 0, 0), 9, MAXIMUM), Ranking((3, 1, 0), 9, MAXIMUM)),
        (Ranking((1, 1, 1), 1 << 94, MAXIMUM), Ranking((1, 1, 1), (1 << 94) - 1, MAXIMUM)),
        (Order((1, 2, 0), 9), Order((1, 1, 0), 9)),
        (Order((1, 1, 1), 9), Order((0, 1, 1), 9)),
        (Clearing((130, 130, 130), 9, 65), Clearing((128, 128, 128), 9, 64)),
        (Clearing((6, 6, 4), 9, 3), Clearing((6, 6, 0), 9, 3)),
        (Clearing((6, 0, 0), 9, 3), Clearing((6, 6, 6), 9, 3)),
    ],
)
def test_one_more_than_is_computed_is_refused(wrong: Any, right: Any):
    with pytest.raises(CapacityError):
        wrong.check()
    right.check()


@pytest.mark.parametrize("values", [[101], [-101], [], [1, 2], [2.5], [True], [math.nan]])
def test_numbers_beyond_what_was_agreed_never_reach_a_process(values: list[Any]):
    with pytest.raises(OutOfRangeError) as refused:
        Party(Ranking((1, 1, 1), 100, MAXIMUM), 0, values)
    assert "101" not in str(refused.value)


@given(st.integers(0, LARGEST), st.data())
def test_no_difference_leaves_the_range_of_comparisons(bound: int, data: st.DataObject):
    ranking = Ranking((1, 1, 1), bound, MAXIMUM)
    first, second = (data.draw(st.integers(-bound, bound)) for _ in range(2))
    half = 1 << (bit_length(ranking) - 1)
    assert -half <= first - second < half
    # One bit less would not hold the largest difference.
    assert bound == 0 or 2 * bound >= half >> 1
    clearing = Clearing((2, 2, 2), bound, 1)
    assert 2 * 3 * bound < 1 << (bit_length(clearing) - 1)


def test_the_largest_computations_keep_their_statistical_security(
    monkeypatch: pytest.MonkeyPatch,
):
    for parties in range(3, MOST_PARTIES + 1):
        share, more = divmod(MOST_VALUES, parties)
        counts = tuple(share + (place < more) for place in range(parties))
        largest = Ranking(counts, 9, tuple(Value((rank,)) for rank in range(MOST_VALUES)))
        largest.check()
        assert FEWEST_STATISTICAL_BITS <= statistical_bits(largest) < 55
    assert statistical_bits(Clearing((2 * MOST_PRICES,) * 3, 9, MOST_PRICES)) > 50
    # The twin: with shorter masks the same computation is refused.
    monkeypatch.setattr(plans, "SECURITY_PARAMETER", 59)
    with pytest.raises(CapacityError, match="less than 40 bits"):
        largest.check()


@pytest.mark.parametrize(
    "known",
    [
        Ranking((1, 0, 3), 7, (Value((0, 2)), Owner(1))),
        Order((0, 1, 1), 1 << 52),
        Clearing((4, 4, 0), 3, 2),
    ],
)
def test_a_computation_goes_to_json_and_back(known: Any):
    assert read_computation(known.to_json()) == known


# --- what comes from peers -----------------------------------------------------------------------

SECRET = 0x1234_5678_9ABC


def seen(opened: list[bytes], number: int) -> bool:
    """Say whether a number stands in parcels as MPyC writes it."""
    return any(number.to_bytes(6, "little") in parcel for parcel in opened)


@pytest.mark.parametrize("number", [SECRET, pytest.param(1 << 40, marks=pytest.mark.slow)])
@pytest.mark.parametrize("shared", [True, False])
def test_a_losing_number_stands_in_no_parcel_and_without_sharing_it_does(
    number: int, *, shared: bool, monkeypatch: pytest.MonkeyPatch
):
    if not shared:
        monkeypatch.setattr("privacy.mpc.party.PROGRAM", "tests.shares:serve_without_sharing")
    heard: list[tuple[int, int, bytes]] = []
    ranking = Ranking((1, 1, 1), LARGEST, MAXIMUM)
    assert together(ranking, [[7], [number], [LARGEST]], heard=heard) == [LARGEST, 2]
    assert seen([parcel for _, to, parcel in heard if to == 0], number) == (not shared)
    assert seen([parcel for _, to, parcel in heard if to == 2], number) == (not shared)


def drop(boxes: dict[int, bytes]) -> None:
    del boxes[1]


def add(boxes: dict[int, bytes]) -> None:
    boxes[3] = b""


def empty(boxes: dict[int, bytes]) -> None:
    boxes[1] = b""


def repeat(boxes: dict[int, bytes]) -> None:
    boxes[1] *= 2


def exchange(boxes: dict[int, bytes]) -> None:
    boxes[0], boxes[1] = boxes[1], boxes[0]


@pytest.mark.parametrize(
    ("number", "meddle"),
    [
        (3, drop),
        (1, exchange),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in ((3, add), (2, empty), (4, repeat))
        ),
    ],
)
def test_a_round_that_is_not_of_the_computation_ends_in_a_typed_error(number: int, meddle: Any):
    def at(now: int, parcels: Parcels) -> None:
        if now == number:
            meddle(parcels[2])

    with pytest.raises(PeersError):
        together(Ranking((1, 1, 1), 100, MAXIMUM), [[1], [2], [3]], meddle=at)


def test_a_party_whose_process_dies_ends_in_a_typed_error():
    with Party(Ranking((1, 1, 1), 100, MAXIMUM), 0, [1]) as party:
        peers = party.begin()
        os.kill(party.pid, signal.SIGKILL)
        with pytest.raises(ChildDiedError, match="Killed"):
            party.hear(dict.fromkeys(peers, b""))


class Exploit:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return (open, (str(self.file), "w"))


@pytest.mark.parametrize("program", [PROGRAM, "tests.shares:serve_with_pickle"])
def test_bytes_of_a_peer_run_no_code_and_as_mpyc_reads_arrays_they_would(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("privacy.mpc.party.PROGRAM", program)
    bomb = pickle.dumps(Exploit(tmp_path / "run"))

    def plant(number: int, parcels: Parcels) -> None:
        if number != 2:
            return
        parcel = parcels[0][1]
        counter, length = struct.unpack_from("<qI", parcel)
        message = struct.pack("<qI", counter, len(bomb)) + bomb
        parcels[0][1] = message + parcel[12 + length :]

    # The attacked party fails on what is no array, or goes on with a wrong number.
    with contextlib.suppress(PeersError):
        together(Ranking((1, 1, 1), 100, MAXIMUM), [[1], [2], [3]], meddle=plant)
    assert (tmp_path / "run").exists() == (program != PROGRAM)
