"""Divides rows for training and testing, exactly as scikit-learn's `train_test_split` does.

Which rows are trained on is fixed in a signed agreement, so it must not change with the version of
a library that one node has installed. The division is therefore written out here, over NumPy's
`RandomState`, whose streams are frozen for good (NEP 19), and tests compare it with scikit-learn:
published protocols that name a seed can be followed to the row.

    train, test = divide(10, "0.66", seed=43, strata=None)

Method: scikit-learn's user guide, "Cross-validation iterators", sections on random permutations
and on stratification; where shares of a class do not come out whole, the rows left over go to the
classes with the largest remainders, drawn by lot among equals.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]


def divide(
    rows: int, train: str, *, seed: int, strata: npt.NDArray[np.float64] | None
) -> tuple[Positions, Positions]:
    """Return the positions of training and of test rows, each in the split's own order.

    Args:
        rows: how many there are, two or more.
        train: share of training rows, as a decimal between 0 and 1.
        seed: 0 to 2^32 - 1.
        strata: float64[rows] of classes whose shares both parts keep, or None. Each class must
            have two rows or more, and each part room for every class.

    Returns:
        int64 positions 0 to rows - 1.
    """
    # In float64, as the published protocols compute it: 1 - 0.66 is not 0.34.
    share = float(train)
    size_train = math.floor(share * rows)
    # 0.7 of 30 rows comes out as 21 and 10 in float64; scikit-learn refuses to divide them.
    size_test = min(math.ceil((1 - share) * rows), rows - size_train)
    draw = np.random.RandomState(seed)
    if strata is None:
        order = draw.permutation(rows)
        return order[size_test : size_test + size_train], order[:size_test]
    return _stratified(strata, size_train, size_test, draw)


def _stratified(
    strata: npt.NDArray[np.float64], size_train: int, size_test: int, draw: np.random.RandomState
) -> tuple[Positions, Positions]:
    _, classes, counts = np.unique(strata, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(classes, kind="stable"), np.cumsum(counts)[:-1])
    for_train = _shares(counts, size_train, draw)
    for_test = _shares(counts - for_train, size_test, draw)
    train, test = [], []
    for rows, first, second in zip(members, for_train, for_test, strict=True):
        shuffled = rows[draw.permutation(len(rows))]
        train.append(shuffled[:first])
        test.append(shuffled[first : first + second])
    return draw.permutation(np.concatenate(train)), draw.permutation(np.concatenate(test))


def _shares(
    counts: npt.NDArray[np.int64], size: int, draw: np.random.RandomState
) -> npt.NDArray[np.int64]:
    """Return how many of `size` rows each class gives, in proportion to its count."""
    exact = counts / counts.sum() * size
    shares = np.floor(exact)
    missing = int(size - shares.sum())
    remainders = exact - shares
    for remainder in np.unique(remainders)[::-1]:
        if missing == 0:
            break
        (equal,) = np.where(remainders == remainder)
        number = min(len(equal), missing)
        shares[draw.choice(equal, size=number, replace=False)] += 1
        missing -= number
    whole: npt.NDArray[np.int64] = shares.astype(np.int64)
    return whole
