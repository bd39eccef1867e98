import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from federated.node.profile import magnitude
from federated.node.table import ReadingSpec, read_table
from federated.preparation import Preparation
from tests.cohort import Cohort

VALUES = st.floats(-1e6, 1e6, allow_nan=False).map(
    lambda value: value if abs(value) > 1e-9 else 0.0
)
PARTIES = st.lists(st.lists(st.none() | VALUES, min_size=1, max_size=8), min_size=2, max_size=5)
NAMES = st.text("abcdef", min_size=1, max_size=3)


def cohort_of(parties: list[list[float | None]]) -> Cohort:
    return Cohort.of(
        {
            f"p{at}": "x\n" + "".join(f"{'NA' if one is None else repr(one)}\n" for one in cells)
            for at, cells in enumerate(parties)
        }
    )


@settings(max_examples=60, deadline=None)
@given(PARTIES)
def test_statistics_equal_the_pooled_ones(parties: list[list[float | None]]):
    found = cohort_of(parties).run("statistics", columns=["x"])["x"]
    cells = [one for party in parties for one in party]
    present = [one for one in cells if one is not None]
    assert found["count"] == len(present)
    assert found["missing"] == len(cells) - len(present)
    size = max([abs(one) for one in present], default=0.0)
    if present:
        mean = math.fsum(present) / len(present)
        assert abs(found["mean"] - mean) <= 1e-15 * size
    if len(present) > 1:
        variance = math.fsum((one - mean) ** 2 for one in present) / (len(present) - 1)
        assert abs(found["variance"] - variance) <= 1e-14 * size * size


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.integers(-(2**53) + 1, 2**53 - 1), min_size=1, max_size=6),
        min_size=2,
        max_size=5,
    )
)
def test_integer_sums_are_exact(parties: list[list[int]]):
    cohort = Cohort.of(
        {f"p{at}": "x\n" + "".join(f"{one}\n" for one in cells) for at, cells in enumerate(parties)}
    )
    assert cohort.run("encrypted_sum", columns=["x"])["sums"] == {"x": sum(map(sum, parties))}


@settings(max_examples=60, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=6))
def test_magnitude_bounds_and_is_least(cells: list[float]):
    text = "x\n" + "".join(f"{one!r}\n" for one in cells)
    power = magnitude(read_table(text.encode(), ReadingSpec(), "f").columns[0])
    largest = max(abs(one) for one in cells)
    assert power is not None
    assert largest <= 2.0**power
    assert largest == 0 or 2.0 ** (power - 1) < largest


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.sampled_from(["0.1", "1", "30"]))
def test_a_ridge_fit_equals_the_pooled_one(seed: int, parties: int, ridge: str):
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(120, 3)) * [1.0, 30.0, 0.01] + [0.0, 500.0, 3.0]
    chance = 1 / (1 + np.exp(-values[:, 0] - 40 * (values[:, 2] - 3)))
    labels = (generator.random(120) < chance).astype(int)
    # Each class is there at least once.
    labels[:2] = 0, 1
    texts = {
        f"p{part}": "a,b,c,y\n"
        + "".join(
            ",".join(repr(float(cell)) for cell in values[at]) + f",{labels[at]}\n"
            for at in range(part, 120, parties)
        )
        for part in range(parties)
    }
    result = Cohort.of(texts, {"label": {"column": "y"}}).run(
        "logistic", columns=["a", "b", "c"], ridge=ridge
    )
    scaled = (values - values.mean(axis=0)) / values.std(axis=0, ddof=1)
    model = LogisticRegression(C=1 / float(ridge), solver="newton-cholesky", tol=1e-12)
    model.fit(scaled, labels)
    np.testing.assert_allclose(list(result["coefficients"].values()), model.coef_[0], atol=1e-6)
    assert abs(result["intercept"] - model.intercept_[0]) <= 1e-6


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "drop": st.lists(NAMES.map("d".__add__), unique=True, max_size=3),
            "complete_rows": st.booleans(),
            "one_hot": st.dictionaries(
                NAMES.map("o".__add__), st.lists(st.integers(), min_size=2, max_size=4, unique=True)
            ),
            "label": st.fixed_dictionaries(
                {"column": NAMES.map("l".__add__)}, optional={"above": st.integers() | VALUES}
            ),
            "split": st.fixed_dictionaries(
                {"train": st.floats(0.01, 0.99), "seed": st.integers(0, 2**32 - 1)}
            ),
        },
    )
)
def test_a_preparation_reads_back_with_the_same_digest(given: dict[str, object]):
    made = Preparation.parse(given)
    again = Preparation.parse(made.to_json())
    assert again == made
    if all(abs(level) < 2**53 for _, levels in made.one_hot for level in levels):
        assert again.digest() == made.digest()
