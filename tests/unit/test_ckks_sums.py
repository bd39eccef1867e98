import math
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from privacy.ckks.batches import Packing
from privacy.ckks.container import digest
from privacy.ckks.encrypted import GROUP, EncryptedSums
from privacy.ckks.parameters import LINEAR, SUMS, Parameters
from privacy.ckks.results import NOISE_BITS, RawMoments
from privacy.errors import ApproximationError, ChildRefusalError, ColumnsError, SealedBytesError
from tests.ckks_pair import Pair, pair


@pytest.fixture(scope="module")
def both() -> Iterator[Pair]:
    with pair(SUMS) as one:
        yield one


def moments(both: Pair, values: np.ndarray, bounds: tuple[float, ...]) -> RawMoments:
    return both.owner.decrypt_sums(
        both.scorer.add_up(both.owner.encrypt(values, bounds, Packing.MOMENTS))
    )


@pytest.mark.parametrize("count", [1, 2, 2048, 2049, 20_000])
def test_sum_mean_and_variance_of_columns_equal_plain_ones(both: Pair, count: int):
    rng = np.random.default_rng(count)
    values = np.column_stack([rng.normal(3, 2, count).clip(-20, 20), rng.uniform(0, 1e6, count)])
    got = moments(both, values, (20.0, 1e6))
    assert got.rows == count
    scale = np.array([20.0, 1e6])
    noise = 2.0 ** -NOISE_BITS[SUMS]
    assert np.abs((got.sums - values.sum(axis=0)) / scale / count).max() < noise
    assert np.abs((got.means - values.mean(axis=0)) / scale).max() < noise
    assert np.abs((got.variances - values.var(axis=0)) / scale**2).max() < 4 * noise


def test_a_constant_column_has_no_negative_variance(both: Pair):
    got = moments(both, np.full((3000, 1), 7.0), (7.0,))
    assert 0 <= got.variances[0] < 1e-6


def test_values_at_their_bounds_do_not_overflow(both: Pair):
    got = moments(both, np.where(np.arange(9000) % 2, 5.0, -5.0)[:, None], (5.0,))
    assert abs(got.means[0]) < 1e-8
    assert abs(got.variances[0] - 25) < 1e-7


@pytest.mark.parametrize("parameters", [SUMS, LINEAR])
def test_a_full_group_stays_below_the_modulus(parameters: Parameters):
    # A slot is at most 1 + i in size; GROUP of them at the scale, and a sign.
    bits = sum(parameters.prime_bits[:-1])
    assert math.log2(GROUP * math.sqrt(2)) + parameters.scale_bits < bits - 1


@pytest.mark.slow
def test_more_batches_than_a_group_holds_are_summed_in_groups(both: Pair):
    rows = GROUP * SUMS.slots + 5
    values = np.random.default_rng(9).normal(1, 0.1, (rows, 1)).clip(-2, 2)
    sums = both.scorer.add_up(both.owner.encrypt(values, (2.0,), Packing.MOMENTS))
    assert len(sums.bodies) == 2
    got = both.owner.decrypt_sums(sums)
    assert abs(got.means[0] - values.mean()) < 1e-9
    assert abs(got.variances[0] - values.var()) < 1e-9


def test_sums_go_there_and_back_as_bytes(both: Pair):
    columns = both.owner.encrypt(np.ones((3, 2)), (1.0, 2.0), Packing.MOMENTS)
    sums = both.scorer.add_up(columns)
    data = sums.to_bytes()
    assert EncryptedSums.from_bytes(data, sha256=digest(data)) == sums
    with pytest.raises(SealedBytesError):
        EncryptedSums.from_bytes(data, sha256=digest(b""))


def test_columns_without_squares_are_not_summed(both: Pair):
    for packing in (Packing.SINGLE, Packing.PAIRED):
        columns = both.owner.encrypt(np.ones((5000, 1)), (1.0,), packing)
        with pytest.raises(ColumnsError, match="squares"):
            both.scorer.add_up(columns)


def test_sums_under_another_key_or_of_other_counts_are_refused(both: Pair):
    columns = both.owner.encrypt(np.ones((3, 1)), (1.0,), Packing.MOMENTS)
    sums = both.scorer.add_up(columns)
    with pytest.raises(SealedBytesError):
        both.owner.decrypt_sums(replace(sums, key="1" * 64))
    with pytest.raises(SealedBytesError):
        both.scorer.add_up(replace(columns, key="1" * 64))
    with pytest.raises(ColumnsError):
        replace(sums, bodies=sums.bodies * 2)


def test_a_fresh_ciphertext_is_refused_where_scores_are_expected_and_opens_as_a_sum(both: Pair):
    columns = both.owner.encrypt(np.ones((3, 1)), (1.0,), Packing.MOMENTS)
    sums = both.scorer.add_up(columns)
    assert both.owner.decrypt_sums(sums).sums.round(6).tolist() == [3.0]
    with pytest.raises(ChildRefusalError, match="ciphertext"):
        both.owner._decrypt(sums.bodies, {"least_scale_bits": 30, "most_scale_bits": 37})


def test_raw_moments_hide_themselves_and_are_published_rounded(both: Pair):
    values = np.random.default_rng(2).uniform(0, 9, (500, 1))
    raw = moments(both, values, (9.0,))
    assert str(raw.means[0])[:7] not in repr(raw)
    with pytest.raises(ApproximationError):
        pickle.dumps(raw)
    means, variances = raw.published(2)
    assert means.tolist() == np.round(values.mean(axis=0), 2).tolist()
    assert variances.tolist() == np.round(values.var(axis=0), 2).tolist()
    with pytest.raises(ApproximationError, match="too close"):
        raw.published(9)


def test_seal_is_loaded_in_children_alone():
    # A crash inside of it then ends a child; the parent never holds it.
    script = (
        "import sys\n"
        "import privacy.ckks.roles\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "print(bool(loaded & {'tenseal', '_tenseal_cpp', '_sealapi_cpp'}))\n"
    )
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, check=True, capture_output=True).stdout == b"False\n"
