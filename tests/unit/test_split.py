import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from federated.node.split import divide

shares = st.sampled_from(["0.5", "0.66", "0.7", "0.75", "0.8", "0.9", "0.25"])
seeds = st.integers(0, 2**32 - 1)


def reference(
    rows: int, train: str, seed: int, strata: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    share = float(train)
    return train_test_split(
        np.arange(rows),
        train_size=share,
        test_size=1 - share,
        random_state=seed,
        shuffle=True,
        stratify=strata,
    )


def fits(rows: int, train: str) -> bool:
    """Whether scikit-learn divides so many rows at all; it stumbles over 0.7 of 30."""
    share = float(train)
    return int(share * rows) + int(np.ceil((1 - share) * rows)) <= rows


@given(rows=st.integers(2, 400), train=shares, seed=seeds)
def test_it_shuffles_as_scikit_learn_does(rows: int, train: str, seed: int):
    assume(int(float(train) * rows) > 0)
    assume(fits(rows, train))
    expected = reference(rows, train, seed, None)
    for ours, theirs in zip(divide(rows, train, seed=seed, strata=None), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@given(
    counts=st.lists(st.integers(2, 120), min_size=1, max_size=5),
    train=shares,
    seed=seeds,
    mixing=seeds,
)
def test_it_stratifies_as_scikit_learn_does(counts: list[int], train: str, seed: int, mixing: int):
    strata = np.repeat(np.arange(len(counts), dtype=float), counts)
    np.random.RandomState(mixing).shuffle(strata)
    rows, share = len(strata), float(train)
    assume(fits(rows, train))
    assume(min(int(share * rows), int(np.ceil((1 - share) * rows))) >= len(counts))
    expected = reference(rows, train, seed, strata)
    for ours, theirs in zip(divide(rows, train, seed=seed, strata=strata), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_shares_that_float64_cannot_add_up_are_divided_all_the_same():
    train, test = divide(30, "0.7", seed=1, strata=None)
    assert (len(train), sorted([*train, *test])) == (21, list(range(30)))


def test_another_seed_is_another_split():
    first, second = (divide(100, "0.66", seed=seed, strata=None)[0] for seed in (43, 44))
    assert set(first) != set(second)


@pytest.mark.parametrize("strata", [None, np.repeat([0.0, 1.0], 50)])
def test_no_row_is_in_both_parts(strata: np.ndarray | None):
    train, test = divide(100, "0.66", seed=43, strata=strata)
    assert sorted([*train, *test]) == list(range(100))
