"""Signs of shared numbers, and the logistic function made of them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import SharedRangeError, SharingError
from privacy.replicated import comparison, sigmoid
from privacy.replicated.comparison import negative
from privacy.replicated.party import Party
from privacy.replicated.sigmoid import approximation, centred_sigmoid, largest_error
from tests.sharing import NAMES, own, share_out

BITS = 24
Steps = Generator[Any, Any, Any]


def signs(values: Any, owner: str = "a", bound: float = 2.0**37) -> Any:
    def program(party: Party) -> Steps:
        shared = yield from party.deal(
            owner, own(party, owner, values), np.shape(values), BITS, bound
        )
        found = yield from negative(party, shared)
        return (yield from party.open(found, NAMES))

    return share_out(program)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.floats(-(2.0**37), 2.0**37), min_size=1, max_size=30),
    st.sampled_from(NAMES),
)
def test_a_sign_is_that_of_the_number(numbers: list[float], owner: str):
    values = np.array(numbers)
    rounded = np.rint(np.ldexp(values, BITS))
    for found in signs(values, owner).results.values():
        assert found.tolist() == (rounded < 0).tolist()


def test_the_edges_of_a_sign():
    unit = 2.0**-BITS
    values = np.array([0.0, unit, -unit, 2.0**37, -(2.0**37)])
    told = signs(values)
    assert told.results["a"].tolist() == [0, 0, 1, 0, 1]
    assert told.rounds == 3 + comparison.ROUNDS


def test_numbers_too_large_to_compare_are_refused_before_anything_is_sent():
    with pytest.raises(SharedRangeError, match="cannot be compared"):
        share_out(lambda party: negative(party, party.constant(np.ones(1), BITS).within(2.0**39)))


def sigmoids(values: Any) -> Any:
    def program(party: Party) -> Steps:
        bound = float(np.abs(values).max())
        shared = yield from party.deal("b", own(party, "b", values), np.shape(values), BITS, bound)
        found = yield from centred_sigmoid(party, shared)
        assert found.bound <= 0.504
        return (yield from party.open(found, ["c"]))

    return share_out(program)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(-1000, 1000), min_size=1, max_size=20))
def test_the_sigmoid_is_within_its_largest_error_of_the_logistic_function(numbers: list[float]):
    values = np.array(numbers)
    found = sigmoids(values).results["c"]
    assert np.abs(found - 0.5 * np.tanh(values / 2)).max() <= largest_error() + 2.0**-12


def test_the_sigmoid_follows_its_polynomial_and_the_edges():
    edge = sigmoid.RADIUS - 2.0**-BITS
    values = np.concatenate([np.linspace(-9, 9, 301), [edge, -edge, 8.0, -8.0, 8e6, -8e6]])
    told = sigmoids(values)
    found = told.results["c"]
    # At -8 itself the polynomial still counts, at 8 the constant does; both are as near.
    assert np.abs(found - approximation(values))[np.abs(values) != 8].max() < 2.0**-12
    assert (found[-2], found[-1]) == (0.5, -0.5)
    assert told.rounds == 3 + sigmoid.ROUNDS


def test_the_stated_error_is_the_error():
    scores = np.linspace(-20, 20, 400_001)
    errors = np.abs(approximation(scores) - 0.5 * np.tanh(scores / 2))
    assert errors.max() <= largest_error() < 0.003
    # The twin: a cubic over the same range is off by twenty times as much.
    cubic = np.polynomial.chebyshev.Chebyshev.interpolate(
        lambda u: 0.5 * np.tanh(u / 2), 3, domain=[-8, 8]
    )
    inside = np.abs(scores) <= 8
    assert np.abs(cubic(scores) - 0.5 * np.tanh(scores / 2))[inside].max() > 0.06


def test_a_polynomial_without_edges_runs_away():
    """What the comparisons are for: beyond its range it is far from 0 and 1."""
    far = 12.0
    s = far / sigmoid.RADIUS
    odd = sigmoid.odd_coefficients()
    assert abs(s * np.polynomial.polynomial.polyval(s * s, odd)) > 100
    assert approximation(np.array([far])).tolist() == [0.5]


def test_the_sigmoid_needs_fraction_bits():
    with pytest.raises(SharingError, match="24 fraction bits"):
        share_out(lambda party: centred_sigmoid(party, party.constant(np.ones(1), 23)))
