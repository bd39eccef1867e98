"""Totals, means, variances and scores computed while encrypted."""

from dataclasses import replace

import numpy as np
import pytest

from privacy.errors import OutOfRangeError, OverflowRefusedError, ScaleError, VectorError
from privacy.fixedpoint import Scale, decode, encode
from privacy.paillier import (
    LinearModel,
    Moments,
    Packing,
    SecretKey,
    add_columns,
    decode_moments,
    encode_moments,
    encryptor_for,
    fold,
    open_column,
    open_total,
    read_signed,
    rerandomise_column,
    seal,
    seal_for_total,
    totals,
)
from privacy.paillier.cipher import decrypt

BITS = 20


@pytest.fixture(scope="module")
def secret() -> SecretKey:
    return SecretKey.generate(2048)


def test_the_total_of_many_values_is_their_plain_sum(secret: SecretKey):
    values = np.random.default_rng(1).normal(size=400) * 1000
    scale = Scale(30, 1, 800)
    packing = Packing.for_total(secret.public, 400, contributions=2)
    columns = [
        seal_for_total(encryptor_for(secret.public), packing, encode(part, scale))
        for part in (values, -values / 2)
    ]
    total = open_total(secret, fold(add_columns(columns)))
    got = decode(np.array([total], np.uint64), scale)[0]
    assert abs(got - values.sum() / 2) < 800 * 2**-31 + 1e-9


def lanes(secret: SecretKey, words: np.ndarray, *, hide: bool) -> list[int]:
    packing = Packing.for_total(secret.public, len(words))
    sealer = seal_for_total if hide else seal
    return open_column(secret, fold(sealer(encryptor_for(secret.public), packing, words))).tolist()


def test_whoever_decrypts_a_total_sees_no_partial_sum_of_a_lane(secret: SecretKey):
    words = np.arange(90, dtype=np.uint64)
    slots = Packing.for_total(secret.public, 90).slots(secret.public)
    partial = [sum(range(lane, 90, slots)) for lane in range(slots)]
    hidden = lanes(secret, words, hide=True)
    assert sum(hidden) % 2**64 == sum(partial) == 4005
    assert not set(hidden) & set(partial)
    # Another time the lanes are others, and each is as large as a random word is.
    assert not set(hidden) & set(lanes(secret, words, hide=True))
    assert np.mean([lane > 2**60 for lane in hidden]) > 0.5
    # The twin without masks shows what each lane holds.
    assert lanes(secret, words, hide=False) == partial


def carries(secret: SecretKey, words: np.ndarray, *, hide: bool) -> int:
    """Returns how often the first lane carried beyond 2^64, as the key's holder may see it."""
    packing = Packing.for_total(secret.public, len(words))
    sealer = seal_for_total if hide else seal
    column = fold(sealer(encryptor_for(secret.public), packing, words))
    (plaintext,) = decrypt(secret, column.ciphertexts)
    return plaintext >> 64 & ((1 << packing.slot_bits - 64) - 1)


def test_carries_do_not_count_the_negative_values_of_a_lane(secret: SecretKey):
    # In two's complement a small negative number is a word just below 2^64, which always carries.
    slots = Packing.for_total(secret.public, 900).slots(secret.public)
    values = np.ones(900, np.int64)
    values[::slots] = -5
    words = values.view(np.uint64)
    rows = -(-900 // slots)
    # The twin without masks: the first lane, whose values are all negative, carries each time.
    assert carries(secret, words, hide=False) == rows - 1
    assert carries(secret, (-values).view(np.uint64), hide=False) == 0
    # With masks both are as many as random words carry, about half.
    for sign in (1, -1):
        assert 0 < carries(secret, (sign * values).view(np.uint64), hide=True) < rows - 1


@pytest.mark.parametrize("word_bits", [1, 8, 63, 64])
def test_masks_sum_to_zero_and_fit_the_word(word_bits: int):
    packing = Packing(1, word_bits)
    masks = totals.zero_sum_masks(1000, packing)
    assert sum(masks.tolist()) % (1 << word_bits) == 0
    assert max(masks.tolist()) <= packing.word_mask
    assert len(set(masks.tolist())) > (1 if word_bits == 1 else 200)
    assert totals.zero_sum_masks(1, packing).tolist() == [0]


def test_a_total_of_narrow_words_is_taken_in_their_width(secret: SecretKey):
    packing = replace(Packing.for_total(secret.public, 100), word_bits=20)
    words = np.full(100, 2**20 - 3, np.uint64)
    column = seal_for_total(encryptor_for(secret.public), packing, words)
    assert open_total(secret, fold(column)) == (100 * -3) % 2**20
    with pytest.raises(OutOfRangeError, match="position 0"):
        seal_for_total(encryptor_for(secret.public), packing, words + np.uint64(3))


def test_one_value_alone_is_its_own_total_and_none_is_refused(secret: SecretKey):
    encryptor, packing = encryptor_for(secret.public), Packing(1)
    assert open_total(secret, seal_for_total(encryptor, packing, np.array([9], np.uint64))) == 9
    with pytest.raises(VectorError, match="no word"):
        seal_for_total(encryptor, packing, np.zeros(0, np.uint64))


def test_means_and_variances_are_those_of_all_rows_together(secret: SecretKey):
    rng = np.random.default_rng(7)
    parties = [np.round(rng.normal(80, 9, size), 2) for size in (50, 1, 0)]
    packing = Packing(weight=3)
    columns = [
        seal(
            encryptor_for(secret.public),
            packing,
            encode_moments(rows, fraction_bits=BITS, terms=3),
        )
        for rows in parties
    ]
    opened = open_column(secret, add_columns(columns))
    got = decode_moments(opened, fraction_bits=BITS, terms=3)
    rows = np.concatenate(parties)
    assert got.count == 51
    assert got.mean == pytest.approx(rows.mean(), abs=2**-BITS)
    assert got.variance == pytest.approx(rows.var(), abs=2**-BITS * 100)


def test_a_variance_far_from_zero_loses_no_digits():
    rows = 1e6 + np.array([0.0, 0.5, 1.0])
    got = decode_moments(encode_moments(rows, fraction_bits=8, terms=1), fraction_bits=8, terms=1)
    assert got == Moments(3, 1e6 + 0.5, 1 / 6)


def test_one_row_has_no_variance_and_none_no_mean():
    one = encode_moments([-2.5], fraction_bits=1, terms=4)
    assert decode_moments(one, fraction_bits=1, terms=4) == Moments(1, -2.5, 0.0)
    none = encode_moments(np.zeros(0), fraction_bits=1, terms=4)
    with pytest.raises(OutOfRangeError, match="no rows"):
        decode_moments(none, fraction_bits=1, terms=4)


def test_moments_that_no_rows_have_are_refused():
    words = encode_moments([3.0, 4.0], fraction_bits=0, terms=1)
    assert decode_moments(words, fraction_bits=0, terms=1) == Moments(2, 3.5, 0.25)
    words[1] += np.uint64(1)
    with pytest.raises(OutOfRangeError, match="none that have these sums"):
        decode_moments(words, fraction_bits=0, terms=1)
    with pytest.raises(VectorError):
        decode_moments(words[:3], fraction_bits=0, terms=1)


def test_moments_at_the_limit_are_taken_and_beyond_it_refused():
    # 2^110 over 2^14 parties leaves 2^96 for one party's sum of squares, less one.
    edge = float(2**48 - 2**20)
    encode_moments([edge], fraction_bits=0, terms=2**14)
    with pytest.raises(OutOfRangeError, match="sum of squares"):
        encode_moments([float(2**48)], fraction_bits=0, terms=2**14)
    for bad in (np.nan, np.inf, -np.inf, 1e300):
        with pytest.raises(OutOfRangeError, match="position 1"):
            encode_moments([1.0, bad], fraction_bits=0, terms=1)
    for bits in (-1, 56, 1.0):
        with pytest.raises(ScaleError):
            encode_moments([1.0], fraction_bits=bits, terms=1)


def test_scores_under_public_weights_are_the_plain_ones(secret: SecretKey):
    features = np.array([[1.5, -2.0, 0.25], [1e4, 3.0, -1e4], [0.0, 0.0, 0.0]])
    weights, intercept = [0.5, -1.75, 3.125], -10.5
    model = LinearModel.plan(weights, intercept=intercept, fraction_bits=BITS, weight_bits=10)
    encryptor = encryptor_for(secret.public)
    columns = [seal(encryptor, model.packing, model.encode(column)) for column in features.T]
    leaving = rerandomise_column(encryptor, model.score(columns))
    got = model.decode(open_column(secret, leaving))
    assert got.tolist() == (features @ weights + intercept).tolist()


def test_scores_round_weights_and_values_once(secret: SecretKey):
    model = LinearModel.plan([0.1], intercept=0.0, fraction_bits=BITS, weight_bits=20)
    column = seal(encryptor_for(secret.public), model.packing, model.encode([1 / 3]))
    got = model.decode(open_column(secret, model.score([column])))
    assert got[0] == pytest.approx(0.1 / 3, abs=2**-20)


def test_a_score_at_the_limit_is_exact_and_one_step_beyond_is_refused(secret: SecretKey):
    model = LinearModel.plan([3.0, -4.0], intercept=1.0, fraction_bits=0, weight_bits=0)
    assert (model.units, model.limit) == (8, (2**62 - 1) // 8)
    # The largest float64 within the limit, and the next one.
    edge = np.nextafter(float(2**59), 0)
    encryptor = encryptor_for(secret.public)
    columns = [seal(encryptor, model.packing, model.encode([sign * edge])) for sign in (1, -1)]
    (score,) = read_signed(open_column(secret, model.score(columns)), model.packing).tolist()
    assert score == 7 * int(edge) + 1
    with pytest.raises(OutOfRangeError, match="position 0"):
        model.encode([float(2**59)])
    for bad in (np.nan, np.inf):
        with pytest.raises(OutOfRangeError):
            model.encode([bad])


def test_models_that_cannot_be_scored_are_refused():
    plan = {"intercept": 0.0, "fraction_bits": 4, "weight_bits": 4}
    LinearModel.plan([1.0], **plan)
    with pytest.raises(VectorError):
        LinearModel.plan([], **plan)
    for weights in ([np.nan], [np.inf], [1e30]):
        with pytest.raises(OverflowRefusedError):
            LinearModel.plan(weights, **plan)
    for intercept in (np.nan, -np.inf, 1e30):
        with pytest.raises(OverflowRefusedError):
            LinearModel.plan([1.0], **(plan | {"intercept": intercept}))
    for bits in ({"fraction_bits": 63}, {"fraction_bits": -1}, {"weight_bits": 41}):
        with pytest.raises(ScaleError):
            LinearModel.plan([1.0], **(plan | bits))


def test_columns_that_were_added_before_leave_no_room_for_a_score(secret: SecretKey):
    model = LinearModel.plan([2.0], intercept=0.0, fraction_bits=0, weight_bits=0)
    column = seal(encryptor_for(secret.public), model.packing, model.encode([1.0]))
    with pytest.raises(OverflowRefusedError):
        model.score([add_columns([column, column])])
    with pytest.raises(VectorError):
        model.score([column, column])
    assert model.decode(open_column(secret, model.score([column]))).tolist() == [2.0]


def test_a_number_beyond_any_score_is_refused():
    model = LinearModel.plan([2.0], intercept=0.0, fraction_bits=1, weight_bits=0)
    words = np.array([5, 2**62, 2**63], np.uint64)
    assert model.decode(words[:1]).tolist() == [2.5]
    with pytest.raises(OutOfRangeError, match="row 1"):
        model.decode(words)
