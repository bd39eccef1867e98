import pickle
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from privacy.child import ChildLimits
from privacy.ckks.batches import Packing
from privacy.ckks.container import digest
from privacy.ckks.encrypted import EncryptedColumns, EncryptedScores
from privacy.ckks.engine import _Engine
from privacy.ckks.model import LinearModel, Link, SquareNetwork
from privacy.ckks.parameters import LINEAR, SIGMOID, SQUARE, SUMS, Parameters
from privacy.ckks.plan import plan_scores
from privacy.ckks.results import NOISE_BITS
from privacy.ckks.roles import Scorer
from privacy.ckks.sigmoid import fit_sigmoid, sigmoid
from privacy.errors import (
    ApproximationError,
    ChildMemoryError,
    ChildRefusalError,
    ColumnsError,
    SealedBytesError,
)
from tests.ckks_pair import Pair, pair

MODEL = LinearModel((1.5, -2.0, 0.25, 0.0), -0.75, Link.LOGISTIC)
NETWORK = SquareNetwork(
    ((1.0, -0.5, 0.25, 2.0), (0.0, 1.5, -1.0, 0.5), (0.0, 0.0, 0.0, 0.0)),
    (0.5, -0.25, 3.0),
    (2.0, -1.0, 0.5),
    -1.0,
)
BOUNDS = (3.0, 1.0, 100.0, 8.0)


@pytest.fixture(scope="module")
def linear() -> Iterator[Pair]:
    with pair(LINEAR) as both:
        yield both


@pytest.fixture(scope="module")
def deep() -> Iterator[Pair]:
    with pair(SIGMOID) as both:
        yield both


def rows_within(bounds: tuple[float, ...], count: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, size=(count, len(bounds))) * np.array(bounds)


def scored(both: Pair, rows: np.ndarray) -> np.ndarray:
    return both.owner.decrypt_scores(
        both.scorer.score(MODEL, both.owner.encrypt(rows, BOUNDS))
    ).values


@pytest.mark.parametrize("count", [1, 2, 2047, 2048, 2049, 5000])
def test_scores_of_any_number_of_rows_equal_plain_scores(linear: Pair, count: int):
    rows = rows_within(BOUNDS, count)
    columns = linear.owner.encrypt(rows, BOUNDS)
    assert len(columns.bodies) == 4 * -(-count // 2048)
    scores = linear.scorer.score(MODEL, columns)
    raw = linear.owner.decrypt_scores(scores)
    assert raw.values.shape == (count,)
    errors = np.abs(raw.values - MODEL.predict(rows))
    assert errors.max() < raw.bound * 2.0 ** -NOISE_BITS[LINEAR]
    assert np.abs(raw.probabilities() - sigmoid(MODEL.predict(rows))).max() < 1e-5


def test_values_at_their_bounds_do_not_overflow(linear: Pair):
    signs = np.sign(MODEL.weights) + (np.array(MODEL.weights) == 0)
    corners = np.array([signs, -signs]) * np.array(BOUNDS)
    assert np.allclose(scored(linear, corners), MODEL.predict(corners), atol=1e-5)


def test_bytes_go_there_and_back_on_both_ways(linear: Pair):
    rows = rows_within(BOUNDS, 3)
    columns = linear.owner.encrypt(rows, BOUNDS)
    data = columns.to_bytes()
    arrived = EncryptedColumns.from_bytes(data, sha256=digest(data))
    assert arrived == columns
    scores = linear.scorer.score(MODEL, arrived)
    answer = scores.to_bytes()
    returned = EncryptedScores.from_bytes(answer, sha256=digest(answer))
    assert returned == scores
    values = linear.owner.decrypt_scores(returned).values
    assert np.allclose(values, MODEL.predict(rows), atol=1e-5)


def test_no_rows_are_refused(linear: Pair):
    with pytest.raises(ColumnsError, match="rows are needed"):
        linear.owner.encrypt(np.zeros((0, 4)), BOUNDS)


@pytest.mark.parametrize(
    "rows", [np.zeros((2, 3)), np.zeros(4), np.zeros((2, 4), np.float32), np.zeros((2, 4), int)]
)
def test_rows_of_another_shape_or_type_are_refused(linear: Pair, rows: np.ndarray):
    with pytest.raises(ColumnsError, match="float64"):
        linear.owner.encrypt(rows, BOUNDS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.0000001, -7.25])
def test_a_value_that_is_not_within_its_bound_is_refused_by_position_alone(
    linear: Pair, value: float
):
    rows = rows_within(BOUNDS, 9)
    rows[6, 1] = value
    with pytest.raises(ColumnsError, match=r"row 6, column 1\b") as refused:
        linear.owner.encrypt(rows, BOUNDS)
    assert str(value) not in str(refused.value)
    rows[6, 1] = 1.0
    assert linear.owner.encrypt(rows, BOUNDS).rows == 9


@pytest.mark.parametrize(
    "bounds", [(), (1.0, 1.0, 1.0, 0.0), (1.0, 1.0, 1.0, np.nan), (1, 1, 1, 1)]
)
def test_bounds_that_are_none_are_refused(linear: Pair, bounds: tuple[float, ...]):
    with pytest.raises(ColumnsError):
        linear.owner.encrypt(np.zeros((1, 4)), bounds)


def follows(got: np.ndarray, truth: np.ndarray) -> float:
    """How much of the truth is in it: the correlation, by chance up to 0.1 for 2,047 numbers."""
    return abs(float(np.corrcoef(got, truth)[0, 1]))


def test_slots_beyond_the_billed_rows_hold_noise_and_billed_they_hold_scores(linear: Pair):
    rows = rows_within(BOUNDS, 2048)
    truth = MODEL.predict(rows)
    paid = linear.owner.encrypt(rows, BOUNDS)
    # One row is declared, and the other 2,047 stand in the same ciphertexts.
    smuggled = linear.all_slots(linear.scorer.score(MODEL, replace(paid, rows=1))).real
    assert abs(smuggled[0] - truth[0]) < 1e-5
    assert follows(smuggled[1:], truth[1:]) < 0.15
    assert np.abs(smuggled[1:] - truth[1:]).min() > 1e-5
    # Averaged over many scorings the noise goes, and still no score stands behind it.
    again = [linear.all_slots(linear.scorer.score(MODEL, replace(paid, rows=1))) for _ in range(30)]
    assert follows(np.mean(again, axis=0).real[1:], truth[1:]) < 0.15
    # Without the mask, that is with every slot paid for, the scores come out.
    billed = linear.all_slots(linear.scorer.score(MODEL, paid)).real
    assert np.abs(billed - truth).max() < 1e-5


def test_an_imaginary_part_shows_noise_above_a_score_and_billed_it_holds_one(linear: Pair):
    rows = rows_within(BOUNDS, 4096)
    truth = MODEL.predict(rows)
    paid = linear.owner.encrypt(rows, BOUNDS, Packing.PAIRED)
    halved = linear.scorer.score(MODEL, replace(paid, rows=2048, packing=Packing.SINGLE))
    slots = linear.all_slots(halved)
    assert np.abs(slots.real - truth[:2048]).max() < 1e-5
    assert follows(slots.imag, truth[2048:]) < 0.3
    assert slots.imag.std() > 2 * halved.factor
    # What CLAIMS concedes: it is noise before a score, so repeating the question wears it off.
    again = [
        linear.all_slots(
            linear.scorer.score(MODEL, replace(paid, rows=2048, packing=Packing.SINGLE))
        ).imag
        for _ in range(40)
    ]
    assert follows(np.mean(again, axis=0), truth[2048:]) > 0.3
    billed = linear.owner.decrypt_scores(linear.scorer.score(MODEL, paid))
    assert np.abs(billed.values - truth).max() < 1e-5


@pytest.mark.parametrize("count", [4095, 4096, 4097, 6145, 8193])
def test_paired_rows_are_scored_in_order(linear: Pair, count: int):
    rows = rows_within(BOUNDS, count)
    columns = linear.owner.encrypt(rows, BOUNDS, Packing.PAIRED)
    scores = linear.scorer.score(MODEL, columns)
    data = scores.to_bytes()
    raw = linear.owner.decrypt_scores(EncryptedScores.from_bytes(data, sha256=digest(data)))
    assert np.abs(raw.values - MODEL.predict(rows)).max() < raw.bound * 2.0 ** -NOISE_BITS[LINEAR]


def test_noise_beyond_the_rows_leaves_the_billed_rows_exact(linear: Pair):
    rows = rows_within(BOUNDS, 2048)
    columns = replace(linear.owner.encrypt(rows, BOUNDS), rows=1500)
    raw = linear.owner.decrypt_scores(linear.scorer.score(MODEL, columns))
    assert raw.values.shape == (1500,)
    errors = np.abs(raw.values - MODEL.predict(rows[:1500]))
    assert errors.max() < raw.bound * 2.0 ** -NOISE_BITS[LINEAR]


def recovered(rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
    design = np.column_stack([rows, np.ones(len(rows))])
    return np.linalg.lstsq(design, scores, rcond=None)[0]


def test_as_many_scores_as_weights_recover_the_model_and_coarse_ones_do_not(linear: Pair):
    rows = rows_within(BOUNDS, 5)
    raw = linear.owner.decrypt_scores(
        linear.scorer.score(MODEL, linear.owner.encrypt(rows, BOUNDS))
    )
    truth = np.array([*MODEL.weights, MODEL.intercept])
    assert np.abs(recovered(rows, raw.values) - truth).max() < 1e-4
    assert np.abs(recovered(rows, raw.published(0)) - truth).max() > 1e-2


def test_one_billed_row_can_carry_more_than_one_weight(linear: Pair):
    # Nobody sees what is encrypted, so a row may hold a number with two weights in its digits.
    model = LinearModel((3.0, 5.0), 0.0, Link.IDENTITY)
    columns = linear.owner.encrypt(np.array([[1.0, 1e-3]]), (1.0, 1.0))
    (score,) = linear.owner.decrypt_scores(linear.scorer.score(model, columns)).values
    assert [round(score), round((score - 3) * 1000)] == [3, 5]


class PlainEngine(_Engine):
    """The engine without the fresh encryption of zero."""

    def _rerandomise(self, result: object) -> None:
        """Leaves the result as it is."""


def scored_here(
    engine: _Engine, both: Pair, columns: EncryptedColumns, model: LinearModel
) -> bytes:
    """One batch scored by an engine in this process."""
    engine.set_parameters(LINEAR.to_json(), [])
    engine.take_public({}, both.secret.public.bodies)
    plan = plan_scores(model, columns, probabilities=False)
    shape = {"rows": columns.rows, "columns": columns.columns, "packing": columns.packing}
    numbers = [plan.weights.tobytes(), plan.offsets.tobytes()]
    (body,) = engine.score({"method": plan.method, **shape}, [*numbers, *columns.bodies])
    return body


def test_a_guessed_model_cannot_be_confirmed_bit_by_bit_and_without_fresh_zeros_it_can(
    linear: Pair,
):
    columns = linear.owner.encrypt(rows_within(BOUNDS, 4096), BOUNDS, Packing.PAIRED)
    close = replace(MODEL, intercept=MODEL.intercept + 1e-9)
    bodies = [scored_here(PlainEngine(), linear, columns, one) for one in (MODEL, MODEL, close)]
    assert bodies[0] == bodies[1] != bodies[2]
    one, other = (linear.scorer.score(MODEL, columns) for _ in range(2))
    assert one.bodies != other.bodies
    assert scored_here(_Engine(), linear, columns, MODEL) not in (*bodies, *one.bodies)
    values = [linear.owner.decrypt_scores(scores).values for scores in (one, other)]
    assert np.allclose(*values, atol=1e-5)


def test_equal_rows_give_unequal_ciphertexts(linear: Pair):
    rows = rows_within(BOUNDS, 1)
    one, other = (linear.owner.encrypt(rows, BOUNDS) for _ in range(2))
    assert not set(one.bodies) & set(other.bodies)


@pytest.mark.parametrize("parameters", [SQUARE, pytest.param(SIGMOID, marks=pytest.mark.slow)])
def test_a_network_of_squares_equals_its_plain_scores(parameters: Parameters):
    rows = rows_within(BOUNDS, parameters.slots + 10)
    with pair(parameters) as both:
        raw = both.owner.decrypt_scores(
            both.scorer.score(NETWORK, both.owner.encrypt(rows, BOUNDS))
        )
    errors = np.abs(raw.values - NETWORK.predict(rows))
    assert errors.max() < raw.bound * 2.0 ** -NOISE_BITS[parameters]
    with pytest.raises(ApproximationError):
        raw.probabilities()


@pytest.mark.slow
def test_encrypted_probabilities_are_the_polynomial_within_its_error(deep: Pair):
    model = LinearModel((1.0, -2.0, 0.03, 0.1), 0.2, Link.LOGISTIC)
    bounds = (2.0, 0.5, 50.0, 10.0)
    rows = rows_within(bounds, 8195)
    columns = deep.owner.encrypt(rows, bounds)
    raw = deep.owner.decrypt_scores(deep.scorer.score(model, columns, probabilities=True))
    fit = fit_sigmoid()
    assert np.abs(raw.values - fit(model.predict(rows))).max() < 2.0 ** -NOISE_BITS[SIGMOID]
    exact = sigmoid(model.predict(rows))
    assert np.abs(raw.probabilities() - exact).max() < fit.error + 1e-6


@pytest.mark.slow
def test_a_polynomial_that_left_its_range_is_refused_by_row(deep: Pair):
    model = LinearModel((1.0,), 0.0, Link.LOGISTIC)
    columns = deep.owner.encrypt(np.array([[4.0], [8.0], [1.0]]), (8.0,))
    deep.owner.decrypt_scores(deep.scorer.score(model, columns, probabilities=True))
    # What no honest client encrypts: twelve under a declared bound of eight.
    values = np.array([4.0, 12.0, 1.0]) / 8
    bodies = deep.owner._engine.ask(
        "encrypt", {"rows": 3, "columns": 1, "packing": "single"}, [values.tobytes()]
    )
    lying = replace(columns, bodies=tuple(bodies))
    scores = deep.scorer.score(model, lying, probabilities=True)
    with pytest.raises(ApproximationError, match="row 1"):
        deep.owner.decrypt_scores(scores)


def test_columns_and_scores_under_another_key_are_refused(linear: Pair):
    columns = linear.owner.encrypt(rows_within(BOUNDS, 1), BOUNDS)
    scores = linear.scorer.score(MODEL, columns)
    with pytest.raises(SealedBytesError, match="another key"):
        linear.scorer.score(MODEL, replace(columns, key="0" * 64))
    with pytest.raises(SealedBytesError, match="another key"):
        linear.owner.decrypt_scores(replace(scores, key="0" * 64))


def test_columns_and_scores_with_parameters_other_than_their_keys_are_refused(linear: Pair):
    columns = linear.owner.encrypt(rows_within(BOUNDS, 1), BOUNDS)
    scores = linear.scorer.score(MODEL, columns)
    with pytest.raises(SealedBytesError, match="other parameters"):
        linear.scorer.score(NETWORK, replace(columns, parameters=SQUARE))
    with pytest.raises(SealedBytesError, match="other parameters"):
        linear.owner.decrypt_scores(replace(scores, parameters=SQUARE))


def test_a_ciphertext_of_other_parameters_is_refused(linear: Pair):
    columns = linear.owner.encrypt(rows_within(BOUNDS, 1), BOUNDS)
    with pair(SUMS) as other:
        foreign = other.owner.encrypt(rows_within(BOUNDS, 1), BOUNDS)
    with pytest.raises(ChildRefusalError, match="ciphertext"):
        linear.scorer.score(MODEL, replace(columns, bodies=foreign.bodies))


@pytest.mark.parametrize(
    "body", [b"x", b"\0" * 54_000, np.random.default_rng(2).bytes(54_000)], ids=len
)
def test_a_body_that_is_no_ciphertext_is_refused_and_the_child_goes_on(linear: Pair, body: bytes):
    columns = linear.owner.encrypt(rows_within(BOUNDS, 1), BOUNDS)
    hostile = replace(columns, bodies=(body, *columns.bodies[1:]))
    with pytest.raises(ChildRefusalError, match="ciphertext"):
        linear.scorer.score(MODEL, hostile)
    scores = linear.scorer.score(MODEL, columns)
    with pytest.raises(ChildRefusalError, match="ciphertext"):
        linear.owner.decrypt_scores(replace(scores, bodies=(body,)))
    linear.owner.decrypt_scores(scores)


def test_a_ciphertext_of_a_finished_score_is_no_fresh_column(linear: Pair):
    columns = linear.owner.encrypt(rows_within((1.0,), 1), (1.0,))
    model = LinearModel((1.0,), 0.0, Link.IDENTITY)
    scores = linear.scorer.score(model, columns)
    with pytest.raises(ChildRefusalError, match="ciphertext"):
        linear.scorer.score(model, replace(columns, bodies=scores.bodies))


def test_a_body_longer_than_any_ciphertext_reaches_no_child(linear: Pair):
    columns = linear.owner.encrypt(rows_within(BOUNDS, 1), BOUNDS)
    with pytest.raises(ColumnsError, match="ciphertext 2 is longer"):
        replace(columns, bodies=(*columns.bodies[:2], bytes(140_000), columns.bodies[3]))
    with pytest.raises(ColumnsError, match="4 ciphertexts"):
        replace(columns, bodies=columns.bodies[:3])


@pytest.mark.slow
def test_a_scorer_short_of_memory_is_a_typed_error_and_with_more_it_answers(linear: Pair):
    public = linear.secret.public
    columns = linear.owner.encrypt(rows_within((1.0,), 2048), (1.0,))
    many = columns.bodies * 1000
    tight = ChildLimits(memory=256 << 20, cpu_seconds=60, frame_bytes=1 << 28)
    with Scorer.start(public, tight) as scorer, pytest.raises(ChildMemoryError):
        scorer._engine.ask("add_up", {"columns": 1}, many)
    assert len(linear.scorer._engine.ask("add_up", {"columns": 1}, many)) == 1


def test_two_scorers_work_at_the_same_time(linear: Pair):
    rows = rows_within(BOUNDS, 3000)
    columns = linear.owner.encrypt(rows, BOUNDS)
    results: list[EncryptedScores] = []
    with Scorer.start(linear.secret.public) as other:
        threads = [
            threading.Thread(target=lambda one=one: results.append(one.score(MODEL, columns)))
            for one in (linear.scorer, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 2
    for scores in results:
        values = linear.owner.decrypt_scores(scores).values
        assert np.allclose(values, MODEL.predict(rows), atol=1e-5)


def test_raw_scores_hide_themselves_and_are_published_rounded(linear: Pair):
    rows = rows_within(BOUNDS, 2)
    raw = linear.owner.decrypt_scores(
        linear.scorer.score(MODEL, linear.owner.encrypt(rows, BOUNDS))
    )
    assert str(raw.values[0])[:6] not in repr(raw)
    with pytest.raises(ApproximationError):
        pickle.dumps(raw)
    assert raw.published(2).tolist() == np.round(MODEL.predict(rows), 2).tolist()
    for decimals in (9, -1):
        with pytest.raises(ApproximationError, match="too close"):
            raw.published(decimals)
