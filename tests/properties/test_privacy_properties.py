import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import privacy
from privacy import paillier
from privacy.errors import OutOfRangeError, OverflowRefusedError
from privacy.fixedpoint import MAX_TERMS, Scale, decode, decode_integers, encode, plan_scale
from privacy.masking import MaskKey, add, mask, mask_context
from privacy.paillier import SecretKey

# No deadline: two cores are shared, and a slow moment is no defect.
QUICK = settings(deadline=None, max_examples=60)

scales = st.integers(1, 2).flatmap(
    lambda words: st.builds(
        Scale,
        st.integers(0, 62 if words == 1 else 110),
        st.just(words),
        st.integers(1, MAX_TERMS),
    )
)
finite = st.floats(allow_nan=False, allow_infinity=False)


def masked(vectors: list[np.ndarray]) -> list[np.ndarray]:
    ids = [f"asset:{at}" for at in range(len(vectors))]
    keys = {party: MaskKey.generate() for party in ids}
    context = mask_context("job:p", 0, 0, ids)
    return [
        mask(
            vector,
            own_id=party,
            own=keys[party],
            peers={other: keys[other].public for other in ids if other != party},
            context=context,
        )
        for party, vector in zip(ids, vectors, strict=True)
    ]


@QUICK
@given(parties=st.integers(2, 10), length=st.integers(0, 40), data=st.data())
def test_masked_sums_equal_plain_sums_for_any_words_and_order(
    parties: int, length: int, data: st.DataObject
):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    vectors = list(rng.integers(0, 2**64, (parties, length), dtype=np.uint64))
    order = data.draw(st.permutations(range(parties)))
    replies = masked(vectors)
    assert (add([replies[at] for at in order]) == add(vectors)).all()


@QUICK
@given(
    bound=st.floats(1e-20, 1e25),
    shares=st.lists(st.lists(st.floats(-1, 1), min_size=3, max_size=3), min_size=2, max_size=10),
)
def test_masked_sums_of_numbers_are_within_the_stated_rounding(
    bound: float, shares: list[list[float]]
):
    terms = len(shares)
    scale = plan_scale(bound, terms)
    values = [[share * bound for share in row] for row in shares]
    total = add(masked([encode(row, scale) for row in values]))
    for got, column in zip(decode(total, scale), zip(*values, strict=True), strict=True):
        exact = sum(map(Fraction, column))
        rounding = Fraction(terms, 2 ** (scale.fraction_bits + 1))
        # One more float64 rounding happens when the exact sum is shown.
        assert abs(Fraction(got) - exact) <= rounding + Fraction(math.ulp(got))


@QUICK
@given(scale=scales, values=st.lists(finite, max_size=6))
def test_encode_and_decode_agree_with_exact_arithmetic_or_refuse(scale: Scale, values: list[float]):
    exact = [round(Fraction(value) * 2**scale.fraction_bits) for value in values]
    if any(abs(whole) > scale.limit for whole in exact):
        with pytest.raises(OutOfRangeError):
            encode(values, scale)
        return
    words = encode(values, scale)
    nearest = [whole / 2**scale.fraction_bits for whole in exact]
    assert decode(words, scale).tolist() == nearest
    # What the wire carries is exactly these integers: decoding encodes back to the same words.
    assert (encode(decode(words, scale), scale) == words).all()


@QUICK
@given(scale=scales, data=st.data())
def test_no_admitted_sum_ever_wraps(scale: Scale, data: st.DataObject):
    # Values anywhere up to the limit, above all at it, added as often as the scale allows.
    ceiling = float(scale.limit)
    ceiling = math.nextafter(ceiling, 0) if ceiling > scale.limit else ceiling
    number = st.one_of(
        st.sampled_from([ceiling, -ceiling, 0.0, -1.0, 1.0]),
        st.floats(-ceiling, ceiling).map(lambda value: float(round(value))),
    )
    kinds = data.draw(st.lists(number, min_size=1, max_size=3))
    counts = [scale.terms // len(kinds)] * len(kinds)
    assume(all(counts))
    whole = Scale(0, scale.words, scale.terms)
    vectors = [
        encode([kind], whole) * np.uint64(count) for kind, count in zip(kinds, counts, strict=True)
    ]
    expected = sum(int(kind) * count for kind, count in zip(kinds, counts, strict=True))
    assert decode_integers(add(vectors), whole) == [expected]
    assert decode(add(vectors), whole).tolist() == [float(expected)]


@QUICK
@given(
    bound=st.one_of(st.floats(0, 1e40), st.integers(0, 2**120)),
    terms=st.integers(1, MAX_TERMS),
    integers=st.booleans(),
)
def test_a_plan_admits_its_bound_keeps_precision_and_is_the_finest(
    bound: float, terms: int, *, integers: bool
):
    exact = Fraction(bound)
    try:
        scale = plan_scale(bound, terms, integers=integers)
    except OverflowRefusedError:
        too_large = round(exact) * terms >= 2**110
        too_small = not integers and exact * 2**110 < 2**40
        assert too_large or too_small
        return
    reach = round(exact * 2**scale.fraction_bits)
    assert reach <= scale.limit
    assert reach * terms < 2 ** (62 if scale.words == 1 else 110)
    if integers:
        assert scale.fraction_bits == 0
        return
    assert not exact or reach >= 2**40
    finest = 62 if scale.words == 1 else 110
    if scale.fraction_bits < finest:
        assert round(exact * 2 ** (scale.fraction_bits + 1)) > scale.limit


@QUICK
@given(scale=scales)
def test_scales_travel_as_json(scale: Scale):
    assert Scale.from_json(scale.to_json()) == scale


@QUICK
@given(
    one=st.tuples(st.text(min_size=1), st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1)),
    other=st.tuples(st.text(min_size=1), st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1)),
    cohorts=st.tuples(
        *[st.sets(st.text(min_size=1, max_size=4), min_size=2, max_size=4).map(frozenset)] * 2
    ),
)
def test_two_rounds_share_a_context_only_if_they_are_the_same(
    one: tuple[str, int, int],
    other: tuple[str, int, int],
    cohorts: tuple[frozenset[str], frozenset[str]],
):
    first = mask_context(*one, cohort=list(cohorts[0]))
    second = mask_context(*other, cohort=list(cohorts[1]))
    assert (first == second) == ((one, cohorts[0]) == (other, cohorts[1]))


def test_leftover_masks_are_nearly_always_noticed():
    # One of ten parties is missing: each of 64 sums passes with probability about 1/2 at most.
    scale = plan_scale(1000.0, 10)
    replies = masked([encode(np.full(64, 1.0), scale) for _ in range(10)])
    with pytest.raises(OutOfRangeError, match="one is missing"):
        decode(add(replies[:9]), scale)
    assert decode(add(replies), scale).tolist() == [10.0] * 64


def test_many_exact_sums_over_varied_rows_recover_every_row():
    # What CLAIMS.md says of exact answers: masks are no protection against enough questions.
    rng = np.random.default_rng(11)
    rows = rng.integers(90, 200, 60).astype(np.float64)
    scale = plan_scale(60 * 200.0, 2, integers=True)
    owner = rng.integers(0, 2, 60).astype(bool)
    selections = rng.integers(0, 2, (70, 60)).astype(np.float64)
    answers = []
    for chosen in selections:
        parts = [encode([float(chosen[side] @ rows[side])], scale) for side in (owner, ~owner)]
        answers.append(decode(add(masked(parts)), scale)[0])
    recovered = np.linalg.lstsq(selections, np.array(answers), rcond=None)[0]
    assert (np.rint(recovered) == rows).all()
    # The twin: one fixed row selection, however often it is asked, leaves the rows undetermined.
    repeated = np.linalg.lstsq(
        np.repeat(selections[:1], 70, axis=0), np.repeat(answers[:1], 70), rcond=None
    )[0]
    assert (np.rint(repeated) == rows).mean() < 0.2


@pytest.fixture(scope="module")
def secret() -> SecretKey:
    return SecretKey.generate(bits=2048)


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(
    vectors=st.lists(
        st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=2), min_size=2, max_size=4
    ),
    hide=st.booleans(),
)
def test_encrypted_sums_equal_plain_sums_masked_or_not(
    secret: SecretKey, vectors: list[list[int]], *, hide: bool
):
    plain = [np.array(vector, np.uint64) for vector in vectors]
    sent = masked(plain) if hide else plain
    total = paillier.add(
        secret.public, [paillier.encrypt(secret.public, vector) for vector in sent]
    )
    assert (paillier.decrypt_words(secret, total, len(plain)) == add(plain)).all()


def test_every_test_that_claims_name_exists():
    claims = (Path(privacy.__file__).parent / "CLAIMS.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", claims))
    sources = "".join(
        path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].rglob("test_*.py")
    )
    assert len(named) > 10
    assert {name for name in named if f"def {name}(" not in sources} == set()
