import math

import numpy as np
import pytest

from privacy.errors import OutOfRangeError, OverflowRefusedError, ScaleError, VectorError
from privacy.fixedpoint import MAX_TERMS, Scale, decode, decode_integers, encode, plan_scale


def test_a_plan_takes_the_finest_scale_that_holds_the_sum():
    scale = plan_scale(bound=250.0, terms=4)
    assert scale == Scale(fraction_bits=52, words=1, terms=4)
    assert 4 * 250 * 2**52 < 2**62 < 4 * 250 * 2**53


@pytest.mark.parametrize(
    ("bound", "terms", "integers", "fraction_bits", "words"),
    [
        (1.0, 1, False, 61, 1),
        (0.0, 10, False, 62, 1),
        (1.0, MAX_TERMS, False, 47, 1),
        (2.0**61, 1, False, 0, 1),
        (2.0**62, 1, False, 47, 2),
        (2.0**47, MAX_TERMS, False, 0, 1),
        (2.0**48, MAX_TERMS, False, 47, 2),
        (2.0**-30, 2, False, 110, 2),
        (1e6, 40, True, 0, 1),
        (2.0**80, 40, True, 0, 2),
        (2**61, 1, True, 0, 1),
        (2**62 - 1, 1, True, 0, 1),
        (2**62, 1, True, 0, 2),
        (2**110 - 1, 1, True, 0, 2),
        (np.int64(2**62), 2, True, 0, 2),
    ],
)
def test_plans(bound: float, terms: int, integers: bool, fraction_bits: int, words: int):  # noqa: FBT001
    scale = plan_scale(bound, terms, integers=integers)
    assert (scale.fraction_bits, scale.words, scale.terms) == (fraction_bits, words, terms)


@pytest.mark.parametrize(
    ("bound", "terms"),
    [
        (2**110, 1),
        (10**400, 1),
        (2.0**109, 2),
        (1e308, 2),
        (1e-40, 2),
        (5e-324, 2),
        (math.inf, 2),
        (math.nan, 2),
        (-1.0, 2),
    ],
)
def test_what_no_scale_holds_is_refused_before_the_first_round(bound: float, terms: int):
    with pytest.raises(OverflowRefusedError):
        plan_scale(bound, terms)


@pytest.mark.parametrize("terms", [0, -1, MAX_TERMS + 1, True, 2.0])
def test_a_plan_for_a_wrong_number_of_terms_is_refused(terms: int):
    with pytest.raises(ScaleError):
        plan_scale(1.0, terms)


@pytest.mark.parametrize(
    "fields",
    [(-1, 1, 2), (63, 1, 2), (111, 2, 2), (1, 0, 2), (1, 3, 2), (1, 1, 0), (1.0, 1, 2), (1, True)],
)
def test_impossible_scales_are_refused(fields: tuple[int, ...]):
    with pytest.raises(ScaleError):
        Scale(*fields)


def test_a_scale_travels_as_json():
    scale = plan_scale(3.5, 7)
    assert scale.to_json() == {"fraction_bits": 57, "words": 1, "terms": 7}
    assert Scale.from_json(scale.to_json()) == scale


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"fraction_bits": 1, "words": 1},
        {"fraction_bits": 1, "words": 1, "terms": 2, "more": 0},
        {"fraction_bits": "1", "words": 1, "terms": 2},
        {"fraction_bits": True, "words": 1, "terms": 2},
        {"fraction_bits": 1, "words": 4, "terms": 2},
    ],
)
def test_a_malformed_scale_in_json_is_refused(value: object):
    with pytest.raises(ScaleError):
        Scale.from_json(value)


def test_the_words_are_what_the_layout_says():
    assert encode([1.5, -1.5], Scale(4, 1)).tolist() == [24, 2**64 - 24]
    assert encode([-1.0, 2.0**48 + 3], Scale(0, 2)).tolist() == [2**48 - 1, 2**64 - 1, 3, 1]


def test_rounding_is_to_nearest_and_ties_to_even():
    values = [0.5, 1.5, 2.5, -0.5, -1.5, 0.49999999999999994]
    assert decode_integers(encode(values, Scale(0, 1)), Scale(0, 1)) == [0, 2, 2, 0, -2, 0]


@pytest.mark.parametrize("words", [1, 2])
@pytest.mark.parametrize("terms", [2, 3, 40, MAX_TERMS])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_at_the_limit_is_exact_and_one_step_beyond_is_refused(
    words: int, terms: int, sign: int
):
    scale = Scale(0, words, terms)
    # The largest float64 integer that the limit admits, and the one after it.
    at = float(scale.limit)
    at = math.nextafter(at, 0) if at > scale.limit else at
    beyond = max(math.nextafter(at, math.inf), at + 1)
    assert int(at) <= scale.limit < int(beyond)
    one = encode([sign * at, 0.0], scale)
    total = one * np.uint64(terms)  # the same as adding it `terms` times modulo 2^64
    assert decode_integers(total, scale) == [sign * int(at) * terms, 0]
    assert decode(total, scale).tolist() == [float(sign * int(at) * terms), 0.0]
    with pytest.raises(OutOfRangeError, match="position 1"):
        encode([0.0, sign * beyond], scale)


def test_the_unchecked_sum_would_have_wrapped():
    # The twin of the refusal above: without it two large positive terms give a negative sum.
    scale = Scale(0, 1, 2)
    one = np.array([2**62], dtype=np.uint64)
    assert int((one + one).view(np.int64)[0]) == -(2**63)
    with pytest.raises(OutOfRangeError):
        encode([2.0**62], scale)
    with pytest.raises(OutOfRangeError):
        decode(one + one, scale)


def test_the_planned_bound_itself_passes_and_twice_of_it_does_not():
    for bound in (0.1, 250.0, 1e5, 123456789.123, 1e25):
        scale = plan_scale(bound, 40)
        encode([bound, -bound], scale)
        with pytest.raises(OutOfRangeError):
            encode([bound * 2.1], scale)


def test_sixteen_thousand_parties_at_the_limit_do_not_overflow():
    scale = plan_scale(2.0**60, MAX_TERMS, integers=True)
    assert scale.words == 2
    one = encode([-(2.0**60), 2.0**60 - 2.0**8], scale)
    assert decode_integers(one * np.uint64(MAX_TERMS), scale) == [
        -(2**74),
        (2**60 - 2**8) * 2**14,
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308])
@pytest.mark.parametrize("words", [1, 2])
def test_nan_inf_and_huge_values_are_refused_with_their_position(value: float, words: int):
    with pytest.raises(OutOfRangeError, match="position 2") as refusal:
        encode([0.0, 1.0, value], Scale(10, words))
    assert "e+" not in str(refusal.value)


@pytest.mark.parametrize("values", [1.0, [[1.0]], ["1"], [None], [True]])
def test_what_is_not_a_vector_of_numbers_is_refused(values: object):
    with pytest.raises(VectorError):
        encode(values, Scale(10, 1))


def test_integers_that_float64_would_round_are_refused():
    scale = Scale(0, 2)
    exact = np.array([2**53, -(2**53)])
    assert decode_integers(encode(exact, scale), scale) == exact.tolist()
    for bad in (np.array([2**53 + 1]), np.array([-(2**53) - 1]), np.array([2**64 - 1], np.uint64)):
        with pytest.raises(OutOfRangeError):
            encode(bad, scale)


@pytest.mark.parametrize(
    "words",
    [np.zeros(3, np.uint64), np.zeros((2, 2), np.uint64), np.zeros(2, np.int64), np.zeros(2)],
)
def test_words_of_another_shape_are_refused(words: np.ndarray):
    with pytest.raises(VectorError):
        decode(words, Scale(0, 2))


def test_a_fraction_is_no_integer():
    scale = Scale(4, 1)
    assert decode_integers(encode([3.0, -3.0], scale), scale) == [3, -3]
    with pytest.raises(OutOfRangeError, match="position 0"):
        decode_integers(encode([0.5], scale), scale)


@pytest.mark.parametrize(
    "pair",
    [
        (0, 2**63),
        (0, 2**63 - 1),
        (2**64 - 1, 0),
        (0, 2**62),
        (2**48 * 2**14, 0),
    ],
)
def test_two_words_that_no_sum_reaches_are_refused(pair: tuple[int, int]):
    with pytest.raises(OutOfRangeError):
        decode(np.array(pair, np.uint64), Scale(0, 2))


def test_an_empty_vector_stays_empty():
    for words in (1, 2):
        assert len(decode(encode([], Scale(3, words)), Scale(3, words))) == 0


def test_large_two_word_sums_are_rounded_once():
    # 2^101 + 2^48 + 1 is just above a tie between two floats; rounding twice would go down.
    total = 2**101 + 2**48 + 1
    words = np.array([total % 2**48, total >> 48], np.uint64)
    assert decode(words, Scale(0, 2)).tolist() == [float(total)]
    assert float(total) == 2.0**101 + 2.0**49


def test_encoding_leaves_the_input_alone():
    values = np.array([1.25, -2.5])
    encode(values, Scale(8, 2))
    assert values.tolist() == [1.25, -2.5]
