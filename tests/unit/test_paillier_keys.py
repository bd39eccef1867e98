"""Keys that claim a form, and what hides plaintexts under them."""

import math
from pathlib import Path

import gmpy2
import numpy as np
import phe
import pytest

from privacy import paillier
from privacy.errors import CiphertextError, VectorError, WeakKeyError
from privacy.paillier import Encryptor, PublicKey, SecretKey, interop, randomness
from privacy.paillier.cipher import decrypt, multiply
from privacy.paillier.keys import SECRET_NAMESPACE
from privacy.paillier.randomness import (
    BLOCKS,
    MANY_TEETH,
    TEETH,
    FullRandomness,
    ShortRandomness,
    comb_columns,
)


@pytest.fixture(scope="module")
def secret() -> SecretKey:
    return SecretKey.generate(2048)


@pytest.fixture(scope="module")
def plain_key() -> SecretKey:
    """A key from elsewhere whose primes lack the form."""
    while True:
        _, theirs = phe.generate_paillier_keypair(n_length=2048)
        if {theirs.p % 4, theirs.q % 4} != {3}:
            return SecretKey.from_primes(int(theirs.p), int(theirs.q))


@pytest.mark.parametrize("bits", [2048, 2050, 3072])
def test_a_fresh_key_has_the_form_that_it_claims(bits: int):
    secret = SecretKey.generate(bits)
    p, q = secret.raw_primes()
    assert secret.public.blum
    assert secret.public.bits == bits
    assert p.bit_length() == q.bit_length() == bits // 2
    assert (p % 4, q % 4, math.gcd(p - 1, q - 1)) == (3, 3, 2)
    assert abs(p - q).bit_length() > bits // 2 - 100


def test_a_false_claim_is_refused_where_the_primes_are_known(
    secret: SecretKey, plain_key: SecretKey
):
    assert not plain_key.public.blum
    p, q = plain_key.raw_primes()
    with pytest.raises(WeakKeyError, match="claims"):
        SecretKey(PublicKey(p * q, blum=True), p, q)
    # The twins: the same primes without the claim, and a true claim.
    SecretKey(PublicKey(p * q), p, q)
    SecretKey(PublicKey(secret.public.n, blum=True), *secret.raw_primes())


def test_a_modulus_that_is_3_modulo_4_cannot_claim_the_form():
    while True:
        _, theirs = phe.generate_paillier_keypair(n_length=2048)
        if theirs.p % 4 != theirs.q % 4:
            break
    n = int(theirs.p * theirs.q)
    with pytest.raises(WeakKeyError, match="claims"):
        PublicKey.from_json({"n": f"{n:x}", "primes": "blum"})
    assert PublicKey.from_json({"n": f"{n:x}"}).n == n


def prime_of(residue: int, modulus: int, start: int) -> int:
    """Returns the first prime from `start` on that has this residue."""
    candidate = start - start % modulus + residue
    while not gmpy2.is_prime(candidate):
        candidate += modulus
    return candidate


@pytest.mark.parametrize(
    ("first", "second", "blum"),
    [((11, 12), (7, 12), True), ((7, 12), (7, 12), False), ((1, 4), (3, 4), False)],
)
def test_the_form_is_seen_from_the_primes(
    first: tuple[int, int], second: tuple[int, int], *, blum: bool
):
    # 7 modulo 12 is 3 modulo 4 and 1 modulo 3: two of them share 2 * 3 below themselves.
    p, q = prime_of(*first, 3 << 1022), prime_of(*second, 13 << 1020)
    while blum and math.gcd(p - 1, q - 1) != 2:
        q = prime_of(*second, q + 2)
    assert SecretKey.from_primes(p, q).public.blum == blum


def test_a_file_of_before_loads_with_or_without_the_form(
    secret: SecretKey, plain_key: SecretKey, tmp_path: Path
):
    for number, each in enumerate((secret, plain_key)):
        p, q = each.raw_primes()
        path = tmp_path / f"{number}.key"
        path.write_text(f'{{"kind":"{SECRET_NAMESPACE}","p":"{p:x}","q":"{q:x}"}}\n')
        path.chmod(0o600)
        assert SecretKey.load(path).public == each.public


def test_the_claim_chooses_the_randomness_and_either_opens(secret: SecretKey, plain_key: SecretKey):
    words = np.arange(3, dtype=np.uint64)
    silent = PublicKey(secret.public.n)
    for public, kind, key in (
        (secret.public, ShortRandomness, secret),
        (silent, FullRandomness, secret),
        (plain_key.public, FullRandomness, plain_key),
    ):
        assert type(Encryptor(public)._randomness) is kind
        opened = paillier.decrypt_words(key, paillier.encrypt(public, words), 1)
        assert opened.tolist() == [0, 1, 2]


def test_an_encryptor_is_kept_for_its_key(secret: SecretKey):
    kept = paillier.encryptor_for(secret.public)
    assert paillier.encryptor_for(PublicKey(secret.public.n, blum=True)) is kept
    assert paillier.encryptor_for(PublicKey(secret.public.n)) is not kept


def base_of(source: ShortRandomness) -> int:
    high, low = source._blocks[0][1]
    return int(low + high * source._n)


@pytest.mark.parametrize(("teeth", "length"), [(TEETH, 1024), (MANY_TEETH, 1056)])
def test_the_comb_is_the_power_that_its_digits_say(
    secret: SecretKey, monkeypatch: pytest.MonkeyPatch, teeth: int, length: int
):
    source, square = ShortRandomness(secret.public, teeth), secret.public.n**2
    columns = source._columns
    drawn = np.random.default_rng(5).integers(0, 2**16, columns * BLOCKS, np.uint16)
    monkeypatch.setattr(randomness, "random_bytes", lambda _: drawn.astype("<u2").tobytes())
    exponent = 0
    for place, digit in enumerate(drawn.tolist()):
        column, block = divmod(place, BLOCKS)
        for tooth in range(teeth):
            bit = (tooth * BLOCKS + block) * columns + columns - 1 - column
            exponent |= (digit >> tooth & 1) << bit
    assert source.draw() == pow(base_of(source), exponent, square)
    # Every exponent of this length has one row of digits: none is more likely than another.
    assert exponent.bit_length() <= teeth * BLOCKS * columns == length


@pytest.mark.parametrize("teeth", [TEETH, MANY_TEETH])
@pytest.mark.parametrize("bits", [2048, 2050, 2304, 3072, 8192])
def test_exponents_have_at_least_half_the_length_of_the_modulus(bits: int, teeth: int):
    length = teeth * BLOCKS * comb_columns(bits, teeth)
    assert bits / 2 <= length < bits / 2 + teeth * BLOCKS


def test_the_base_of_short_exponents_is_a_root_of_jacobi_symbol_one_and_no_square(
    secret: SecretKey,
):
    p, q = secret.raw_primes()
    base = base_of(ShortRandomness(secret.public))
    # -x² is a square modulo neither prime; its n-th power neither, since n is odd.
    assert (gmpy2.legendre(base, p), gmpy2.legendre(base, q)) == (-1, -1)
    # It is an n-th residue: it opens to zero.
    assert decrypt(secret, [base]) == [0]


def test_two_encryptors_of_a_key_share_no_base(secret: SecretKey):
    one, other = ShortRandomness(secret.public), ShortRandomness(secret.public)
    assert base_of(one) != base_of(other)


def test_rerandomised_ciphertexts_open_alike_and_cannot_be_guessed(secret: SecretKey):
    encryptor = paillier.encryptor_for(secret.public)
    sent = encryptor.encrypt([41])
    # Whoever saw what was sent finds a secret weight by trying.
    result = multiply(secret.public, sent, 7)
    assert [w for w in range(9) if multiply(secret.public, sent, w) == result] == [7]
    hidden = encryptor.rerandomise(result)
    assert list(hidden) not in [multiply(secret.public, sent, w) for w in range(9)]
    assert decrypt(secret, hidden) == decrypt(secret, result) == [287]


def test_plaintexts_outside_the_modulus_are_refused(secret: SecretKey):
    encryptor, n = paillier.encryptor_for(secret.public), secret.public.n
    assert decrypt(secret, encryptor.encrypt([0, n - 1])) == [0, n - 1]
    for bad in (-1, n, 1.0, True, "1", float("nan")):
        with pytest.raises(VectorError, match="plaintext 1 "):
            encryptor.encrypt([0, bad])


def test_progress_is_told_after_each(secret: SecretKey):
    seen: list[tuple[int, int]] = []
    paillier.encryptor_for(secret.public).encrypt([1, 2], lambda *step: seen.append(step))
    assert seen == [(1, 2), (2, 2)]


def test_what_phe_encrypts_is_added_here(secret: SecretKey):
    theirs = phe.PaillierPublicKey(secret.public.n)
    raw = [theirs.raw_encrypt(number) for number in (2**64 - 1, 5)]
    own = interop.from_phe(theirs.encrypt(7))
    total = paillier.add(secret.public, [[int(raw[0])], [int(raw[1])], [own]])
    assert paillier.decrypt_words(secret, total, 3).tolist() == [11]


def test_what_is_summed_here_phe_opens(secret: SecretKey):
    public = secret.public
    columns = [paillier.encrypt(public, np.array([word], np.uint64)) for word in (2**40, 2**41)]
    (total,) = paillier.add(public, columns)
    key = interop.raw_phe_key(secret)
    assert key.raw_decrypt(total) == 3 * 2**40
    assert key.decrypt(interop.to_phe(public, total)) == 3 * 2**40
    assert key.decrypt(interop.to_phe(public, total) + 1) == 3 * 2**40 + 1


def test_phe_s_fractions_and_strange_numbers_are_refused_at_the_door(secret: SecretKey):
    theirs = phe.PaillierPublicKey(secret.public.n)
    with pytest.raises(CiphertextError, match="exponent"):
        interop.from_phe(theirs.encrypt(0.5))
    assert decrypt(secret, [interop.from_phe(theirs.encrypt(3))]) == [3]
    with pytest.raises(CiphertextError):
        interop.to_phe(secret.public, 0)
    small, _ = phe.generate_paillier_keypair(n_length=512)
    with pytest.raises(WeakKeyError):
        interop.from_phe(small.encrypt(3))
