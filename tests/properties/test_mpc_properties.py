"""Computations on secret shares give what plain Python gives, and a view says nothing else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.mpc.computation import Clearing, Order, Owner, Ranking, Value
from tests.shares import together

pytestmark = pytest.mark.slow

BOUND = (1 << 40) - 1
FEW = settings(max_examples=12, deadline=None)
NUMBERS = st.one_of(
    st.integers(-3, 3), st.integers(-BOUND, BOUND), st.sampled_from([BOUND, -BOUND])
)


@FEW
@given(st.lists(st.lists(NUMBERS, max_size=4), min_size=3, max_size=5), st.data())
def test_ranks_and_owners_are_those_of_a_sorted_list(
    given_values: list[list[int]], data: st.DataObject
):
    values = [sorted(numbers, reverse=True) for numbers in given_values]
    while sum(map(bool, values)) < 2:
        values[[bool(numbers) for numbers in values].index(False)] = [data.draw(NUMBERS)]
    # Of equal numbers that of the earlier party comes first, as sorting is stable.
    plain = sorted(
        ((number, party) for party, numbers in enumerate(values) for number in numbers),
        key=lambda pair: -pair[0],
    )
    ranks = st.integers(0, len(plain) - 1)
    some = data.draw(st.lists(ranks, min_size=1, max_size=3, unique=True))
    one = data.draw(ranks)
    ranking = Ranking(tuple(map(len, values)), BOUND, (Value(tuple(some)), Owner(one)))
    assert together(ranking, values) == [sum(plain[rank][0] for rank in some), plain[one][1]]


@pytest.mark.parametrize("parties", [6, 7])
def test_more_parties_come_to_the_same_end(parties: int):
    values = [[3 * place % 7] for place in range(parties)]
    ranking = Ranking((1,) * parties, 10, (Value((0,)), Owner(0), Value((parties - 1,))))
    plain = [number for (number,) in values]
    assert together(ranking, values) == [max(plain), plain.index(max(plain)), min(plain)]


@FEW
@given(NUMBERS, NUMBERS, st.integers(0, 2))
def test_the_order_of_two_is_theirs(first: int, second: int, idle: int):
    values = [[first], [second]]
    values.insert(idle, [])
    counts = tuple(map(len, values))
    assert together(Order(counts, BOUND), values) == [(first > second) - (first < second)]


@FEW
@given(st.integers(1, 9), st.data())
def test_the_clearing_price_is_that_of_open_curves(prices: int, data: st.DataObject):
    amounts = st.lists(st.integers(0, 20), min_size=prices, max_size=prices)
    curves = [
        (sorted(data.draw(amounts), reverse=True), sorted(data.draw(amounts))) for _ in range(3)
    ]
    demand, supply = (
        [sum(curve[side][at] for curve in curves) for at in range(prices)] for side in (0, 1)
    )
    covered = sum(wanted >= offered for wanted, offered in zip(demand, supply, strict=True))
    expected = [covered, supply[covered - 1]] if covered else [0]
    clearing = Clearing((2 * prices,) * 3, 20, prices)
    assert together(clearing, [bought + sold for bought, sold in curves]) == expected


def test_as_many_comparisons_as_a_number_has_bits_find_it():
    # What CLAIMS.md says of repeated jobs: whoever may choose a number each time halves the rest.
    secret, low, high = 41, 0, 63
    while low < high:
        middle = (low + high + 1) // 2
        (sign,) = together(Order((1, 1, 0), 63), [[secret], [middle], []])
        low, high = (middle, high) if sign >= 0 else (low, middle - 1)
    assert low == secret


# --- what one party sees -------------------------------------------------------------------------

RUNS = 20
"""Of each of two inputs, half of them to learn from and half to tell apart."""
TOLD_APART_BY_CHANCE = 18
"""Of 20 coins, more than 18 show heads once in 50,000 times."""

Views = npt.NDArray[np.float64]


def views(losing: int) -> Views:
    """What the first party is sent in each of some runs: every bit, float64[runs, bits]."""
    rows = []
    for _ in range(RUNS):
        heard: list[tuple[int, int, bytes]] = []
        ranking = Ranking((1, 1, 1), 1000, (Value((0,)), Owner(0)))
        assert together(ranking, [[5], [900], [losing]], heard=heard) == [900, 1]
        view = b"".join(parcel for _, to, parcel in heard if to == 0)
        rows.append(np.unpackbits(np.frombuffer(view, dtype=np.uint8)))
    return np.array(rows, dtype=np.float64)


def told_apart(first: Views, second: Views) -> int:
    """How many views the bits that separated other views best put on the right side."""
    half = RUNS // 2
    # Parcels hold lengths and counters, which are alike in all runs.
    centre = first[:half].mean(axis=0), second[:half].mean(axis=0)
    difference = centre[1] - centre[0]
    best = np.abs(difference) >= np.abs(difference).max() - 1e-9
    weights = np.where(best, difference, 0.0)
    middle = float(weights @ (centre[0] + centre[1]) / 2)
    right = np.concatenate([first[half:] @ weights < middle, second[half:] @ weights > middle])
    return int(right.sum())


@pytest.mark.parametrize("shared", [True, False])
def test_views_of_two_inputs_with_one_outcome_are_alike_and_without_sharing_are_not(
    *, shared: bool, monkeypatch: pytest.MonkeyPatch
):
    if not shared:
        monkeypatch.setattr("privacy.mpc.party.PROGRAM", "tests.shares:serve_without_sharing")
    first, second = views(-1000), views(899)
    assert first.shape == second.shape
    found = told_apart(first, second)
    assert found == RUNS if not shared else found <= TOLD_APART_BY_CHANCE
