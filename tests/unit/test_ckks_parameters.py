import json

import numpy as np
import pytest

from privacy.ckks.batches import Packing, cut
from privacy.ckks.parameters import (
    LINEAR,
    MAX_MODULUS_BITS,
    NAMED,
    Parameters,
    check_named,
)
from privacy.ckks.sigmoid import RANGE, fit_sigmoid, sigmoid
from privacy.errors import ParametersError


def primes_of(total: int, degree: int) -> tuple[int, ...]:
    least = degree.bit_length() + 2
    primes = [60] * (total // 60)
    rest = total - 60 * len(primes)
    if rest and rest < least:
        primes[-1] -= least - rest
        rest = least
    return tuple(primes + [rest] * bool(rest))


def test_the_table_is_that_of_the_standard():
    assert MAX_MODULUS_BITS == {4096: 109, 8192: 218, 16384: 438, 32768: 881}


@pytest.mark.parametrize("degree", MAX_MODULUS_BITS)
def test_the_largest_modulus_is_accepted_and_one_bit_more_is_refused(degree: int):
    most = MAX_MODULUS_BITS[degree]
    assert sum(Parameters(degree, primes_of(most, degree), 20, 20).prime_bits) == most
    with pytest.raises(ParametersError, match=r"128 bits|primes"):
        Parameters(degree, primes_of(most + 1, degree), 20, 20)


@pytest.mark.parametrize("degree", [0, 1, 1024, 2048, 4095, 65536, 4096.0, True, "4096"])
def test_a_degree_outside_the_table_is_refused(degree: object):
    with pytest.raises(ParametersError):
        Parameters(degree, (30, 20), 10, 10)


@pytest.mark.parametrize(
    ("primes", "scale", "weight"),
    [((60,), 20, 20), ((), 20, 20), ((61, 40), 20, 20), ((40, 12), 10, 10), ((44, 44, 21), 44, 42)],
)
def test_primes_or_scales_that_make_no_context_are_refused(
    primes: tuple[int, ...], scale: int, weight: int
):
    with pytest.raises(ParametersError):
        Parameters(4096, primes, scale, weight)


def test_their_twin_is_accepted():
    assert Parameters(4096, (44, 44, 21), 43, 42).slots == 2048


def test_the_named_sets_are_inside_the_table_and_others_are_not_named():
    for one in NAMED:
        assert sum(one.prime_bits) <= MAX_MODULUS_BITS[one.degree]
        check_named(one)
    with pytest.raises(ParametersError):
        check_named(Parameters(4096, (44, 44, 20), 38, 46))


@pytest.mark.parametrize("one", NAMED)
def test_json_goes_there_and_back(one: Parameters):
    assert Parameters.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize(
    "change",
    [
        {"degree": 4096.0},
        {"degree": "4096"},
        {"prime_bits": "444421"},
        {"prime_bits": [44, 44, 21.0]},
        {"prime_bits": [44, 44, 22]},
        {"prime_bits": [20] * 100},
        {"scale_bits": -1},
        {"weight_bits": None},
        {"more": 1},
    ],
)
def test_json_of_another_form_is_refused(change: dict[str, object]):
    with pytest.raises(ParametersError):
        Parameters.from_json(LINEAR.to_json() | change)


@pytest.mark.parametrize("value", [None, [], "x", {}, {"degree": 4096}])
def test_what_is_no_such_object_is_refused(value: object):
    with pytest.raises(ParametersError):
        Parameters.from_json(value)


@pytest.mark.parametrize("packing", Packing)
@pytest.mark.parametrize("rows", [1, 7, 8, 9, 15, 16, 17, 23, 24, 25, 40])
def test_every_row_stands_in_one_batch_and_none_overfills_it(rows: int, packing: Packing):
    batches = cut(rows, 8, packing)
    covered = [row for one in batches for row in range(one.start, one.start + one.rows)]
    assert covered == list(range(rows))
    assert all(one.rows == 16 if one.paired else 1 <= one.rows <= 8 for one in batches)
    assert sum(one.paired for one in batches) == (rows // 16 if packing is Packing.PAIRED else 0)


def test_the_polynomial_keeps_its_stated_error_over_its_range_and_not_outside():
    fit = fit_sigmoid()
    x = np.random.default_rng(5).uniform(-RANGE, RANGE, 50_000)
    assert np.abs(fit(x) - sigmoid(x)).max() <= fit.error + 1e-7
    assert 0.02 < fit.error < 0.03
    assert fit == fit_sigmoid()
    assert abs(fit(np.array([1.25 * RANGE])) - 1)[0] > 1


def test_the_exact_sigmoid_does_not_overflow():
    got = sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    assert got.tolist() == [0.0, 0.5, 1.0]
