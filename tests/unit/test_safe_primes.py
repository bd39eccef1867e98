"""Safe primes: what is drawn is one, and what is refused is none."""

import gmpy2
import pytest

from privacy.errors import WeakKeyError
from privacy.paillier.safe_primes import draw_safe_prime, is_safe_prime


@pytest.mark.parametrize("bits", [64, 65, 127, 256])
def test_a_drawn_prime_is_safe_and_begins_with_two_one_bits(bits: int):
    for _ in range(5):
        prime = draw_safe_prime(bits)
        assert prime.bit_length() == bits
        assert prime >> (bits - 2) == 3
        assert gmpy2.is_prime(prime)
        assert gmpy2.is_prime((prime - 1) // 2)


def test_products_of_two_have_exactly_twice_the_length():
    assert {(draw_safe_prime(80) * draw_safe_prime(80)).bit_length() for _ in range(20)} == {160}


def test_two_draws_differ_and_the_candidates_are_counted():
    tested: list[int] = []
    assert draw_safe_prime(128, tested.append) != draw_safe_prime(128)
    assert tested == list(range(1, len(tested) + 1))


def test_small_safe_primes_are_known_and_others_are_not():
    # OEIS A005385 from 11 on; 5 and 7 are the ones that are not 11 modulo 12.
    known = [11, 23, 47, 59, 83, 107, 167, 179, 227, 263, 347, 359, 383, 467, 479, 503]
    assert [number for number in range(11, 504) if is_safe_prime(number)] == known


def test_a_short_one_is_refused():
    with pytest.raises(WeakKeyError, match="63 bits"):
        draw_safe_prime(63)
    assert draw_safe_prime(64)
