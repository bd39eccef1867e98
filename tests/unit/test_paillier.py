import copy
import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from privacy import paillier
from privacy.errors import CiphertextError, KeyFileError, VectorError, WeakKeyError
from privacy.fixedpoint import Scale, decode, decode_integers, encode, plan_scale
from privacy.masking import MaskKey, mask, mask_context
from privacy.paillier import PublicKey, SecretKey, randomness

LARGEST = np.array([2**64 - 1], np.uint64)


@pytest.fixture(scope="module")
def secret() -> SecretKey:
    return SecretKey.generate(bits=2048)


def summed(secret: SecretKey, vectors: list[np.ndarray]) -> np.ndarray:
    columns = [paillier.encrypt(secret.public, vector) for vector in vectors]
    total = paillier.add(secret.public, columns)
    return paillier.decrypt_words(secret, total, parties=len(vectors))


def test_the_opened_sum_is_the_plain_sum(secret: SecretKey):
    rng = np.random.default_rng(3)
    vectors = [rng.integers(0, 2**64, 6, dtype=np.uint64) for _ in range(4)]
    assert (summed(secret, vectors) == np.add.reduce(vectors)).all()
    assert summed(secret, [LARGEST] * 3).tolist() == [2**64 - 3]


def test_negative_and_two_word_values_are_exact(secret: SecretKey):
    one = plan_scale(1000.0, 3)
    values = [[-12.25, 3.5], [0.1, -900.0], [999.0, -0.1]]
    got = decode(summed(secret, [encode(row, one) for row in values]), one)
    assert np.abs(got - np.sum(values, axis=0)).max() < 1e-12
    two = plan_scale(2**80, 3, integers=True)
    assert two.words == 2
    whole = [[-(2.0**80), 5.0], [2.0**79, -7.0], [-3.0, 1.0]]
    got_two = decode_integers(summed(secret, [encode(row, two) for row in whole]), two)
    assert got_two == [-(2**80) + 2**79 - 3, -1]


def test_masked_and_encrypted_together_only_the_sum_opens(secret: SecretKey):
    scale = plan_scale(10**6, 3, integers=True)
    ids = ["a", "b", "c"]
    keys = {party: MaskKey.generate() for party in ids}
    context = mask_context("job", 0, 0, ids)
    plain = {"a": encode([31337], scale), "b": encode([-5], scale), "c": encode([8], scale)}
    columns = {
        party: paillier.encrypt(
            secret.public,
            mask(
                plain[party],
                own_id=party,
                own=keys[party],
                peers={other: keys[other].public for other in ids if other != party},
                context=context,
            ),
        )
        for party in ids
    }
    total = paillier.add(secret.public, list(columns.values()))
    opened = paillier.decrypt_words(secret, total, parties=3)
    assert decode_integers(opened, scale) == [31340]
    # The researcher who opens one node's ciphertext finds a masked word ...
    assert (paillier.decrypt_words(secret, columns["a"], parties=1) != plain["a"]).all()
    # ... where the twin without masks hands over the node's value.
    bare = paillier.encrypt(secret.public, plain["a"])
    assert decode_integers(paillier.decrypt_words(secret, bare, 1), scale) == [31337]


def test_equal_words_give_unequal_full_length_ciphertexts(secret: SecretKey):
    ciphertexts = paillier.encrypt(secret.public, np.zeros(4, np.uint64))
    assert len(set(ciphertexts)) == 4
    # Without the obfuscator, an encrypted 7 is 7n + 1, which anyone reads off.
    for ciphertext in paillier.encrypt(secret.public, np.array([7] * 4, np.uint64)):
        assert (ciphertext - 1) % secret.public.n != 0
        assert ciphertext.bit_length() > 4000


def test_the_randomness_of_each_ciphertext_is_fresh(
    secret: SecretKey, monkeypatch: pytest.MonkeyPatch
):
    # The twin: one random number for two ciphertexts shows the difference of their plaintexts.
    n, square = secret.public.n, secret.public.n**2
    words = np.array([20, 62], np.uint64)

    def difference(pair: list[int]) -> int:
        return (pair[1] * pow(pair[0], -1, square) - 1) % square

    fresh = difference(paillier.encrypt(secret.public, words))
    monkeypatch.setattr(randomness, "random_bytes", lambda length: b"*" * length)
    reused = difference(paillier.encrypt(secret.public, words))
    assert fresh % n != 0
    assert (reused % n, reused // n) == (0, 42)


@pytest.mark.parametrize("bits", [512, 1024, 2046, 2049, 8194, 0, -1])
def test_weak_and_odd_lengths_are_not_generated(bits: int):
    with pytest.raises(WeakKeyError):
        SecretKey.generate(bits=bits)


def test_a_2047_bit_modulus_is_refused_and_its_2048_bit_twin_is_accepted(secret: SecretKey):
    assert secret.public.bits == 2048
    assert PublicKey(secret.public.n).n == secret.public.n
    with pytest.raises(WeakKeyError, match="2047 bits"):
        PublicKey((secret.public.n >> 1) | 1)


def test_moduli_of_the_wrong_form_are_refused(secret: SecretKey):
    odd = secret._p | 1
    mersenne = 2**2203 - 1  # prime
    for bad in (secret.public.n - 1, odd * odd << 2, (odd**2) ** 2, mersenne, 2**8192 + 1, 0, -5):
        with pytest.raises(WeakKeyError):
            PublicKey(bad)


def test_a_public_key_travels_as_json(secret: SecretKey):
    assert secret.public.to_json() == {"n": f"{secret.public.n:x}", "primes": "blum"}
    assert PublicKey.from_json(secret.public.to_json()) == secret.public
    silent = PublicKey(secret.public.n)
    assert silent.to_json() == {"n": f"{secret.public.n:x}"}
    assert PublicKey.from_json(silent.to_json()) == silent != secret.public


@pytest.mark.parametrize(
    "change",
    [
        lambda text: {"n": text.upper()},
        lambda text: {"n": "0" + text},
        lambda text: {"n": "0x" + text},
        lambda text: {"n": text + "\n"},
        lambda text: {"n": int(text, 16)},
        lambda text: {"n": text, "g": "1"},
        lambda text: {"n": text, "primes": "blum", "g": "1"},
        lambda text: {"n": text, "primes": "safe"},
        lambda text: {"n": text, "primes": True},
        lambda text: {"n": text, "primes": ["blum"]},
        lambda _: {"primes": "blum"},
        lambda _: {"n": "f" * 10**6},
        lambda _: {},
        lambda text: text,
    ],
)
def test_other_spellings_of_a_public_key_are_refused(secret: SecretKey, change: object):
    with pytest.raises(WeakKeyError):
        PublicKey.from_json(change(f"{secret.public.n:x}"))


def test_a_secret_key_needs_its_two_primes(secret: SecretKey):
    SecretKey(secret.public, secret._q, secret._p)
    for p, q in ((1, secret.public.n), (secret._p, secret._p), (secret._p, secret._q + 2)):
        with pytest.raises(WeakKeyError):
            SecretKey(secret.public, p, q)


def test_a_saved_key_is_private_and_loads_again(secret: SecretKey, tmp_path: Path):
    path = tmp_path / "paillier.key"
    secret.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    loaded = SecretKey.load(path)
    assert loaded.public == secret.public
    total = paillier.encrypt(secret.public, LARGEST)
    assert paillier.decrypt_words(loaded, total, 1).tolist() == LARGEST.tolist()


def test_a_key_file_is_never_overwritten(secret: SecretKey, tmp_path: Path):
    path = tmp_path / "paillier.key"
    path.write_text("something else", encoding="ascii")
    with pytest.raises(KeyFileError, match="never overwritten"):
        secret.save(path)
    assert path.read_text(encoding="ascii") == "something else"
    with pytest.raises(KeyFileError, match="cannot be written"):
        secret.save(tmp_path / "no" / "folder.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_key_file_open_to_others_is_refused(secret: SecretKey, tmp_path: Path, mode: int):
    path = tmp_path / "paillier.key"
    secret.save(path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        SecretKey.load(path)
    path.chmod(0o600)
    SecretKey.load(path)


def test_damaged_missing_and_strange_key_files_are_refused_without_a_quote(
    secret: SecretKey, tmp_path: Path
):
    path = tmp_path / "paillier.key"
    secret.save(path)
    text = path.read_text(encoding="ascii")
    for damaged in ("", text[:-1], text[:-3], text + "\n", " " + text, text.replace("v1", "v2")):
        path.write_text(damaged, encoding="ascii")
        with pytest.raises(KeyFileError) as refusal:
            SecretKey.load(path)
        assert f"{secret._p:x}"[:20] not in str(refusal.value)
    flipped = text.replace(f"{secret._p:x}", f"{secret._p + 2:x}")
    path.write_text(flipped, encoding="ascii")
    with pytest.raises(WeakKeyError):
        SecretKey.load(path)
    for strange in (tmp_path / "missing", tmp_path):
        with pytest.raises(KeyFileError):
            SecretKey.load(strange)


def test_the_secret_stays_out_of_repr_copies_and_pickles(secret: SecretKey):
    for prime in (secret._p, secret._q):
        assert str(prime) not in repr(secret)
        assert f"{prime:x}" not in repr(secret)
    with pytest.raises(WeakKeyError):
        pickle.dumps(secret)
    with pytest.raises(WeakKeyError):
        copy.deepcopy(secret)


def test_what_is_no_ciphertext_is_refused_with_its_position(secret: SecretKey):
    public, good = secret.public, paillier.encrypt(secret.public, LARGEST)[0]
    n = public.n
    for bad in (0, -good, n * n, n * n + good, n, secret._p, 3 * secret._q, float(5), True, "1"):
        with pytest.raises(CiphertextError, match="ciphertext 1 "):
            paillier.add(public, [[good, bad]])
        with pytest.raises(CiphertextError, match="ciphertext 1 "):
            paillier.decrypt_words(secret, [good, bad], 1)
        with pytest.raises(CiphertextError, match="ciphertext 1 "):
            paillier.ciphertexts_to_bytes(public, [good, bad])
    assert paillier.add(public, [[good, good]]) == [good, good]


def test_a_changed_ciphertext_opens_to_no_sum(secret: SecretKey):
    good = paillier.encrypt(secret.public, LARGEST)[0]
    with pytest.raises(CiphertextError, match="opens to more"):
        paillier.decrypt_words(secret, [good ^ 1], 1)


def test_more_contributions_than_named_are_noticed_where_they_exceed_the_sum(secret: SecretKey):
    ciphertext = paillier.encrypt(secret.public, LARGEST)
    total = paillier.add(secret.public, [ciphertext, ciphertext])
    assert paillier.decrypt_words(secret, total, 2).tolist() == [2**64 - 2]
    with pytest.raises(CiphertextError):
        paillier.decrypt_words(secret, total, 1)


@pytest.mark.parametrize("parties", [0, -1, 2**14 + 1])
def test_an_impossible_number_of_parties_is_refused(secret: SecretKey, parties: int):
    with pytest.raises(VectorError):
        paillier.decrypt_words(secret, [], parties)


def test_columns_of_other_lengths_and_none_are_refused(secret: SecretKey):
    ciphertexts = paillier.encrypt(secret.public, np.zeros(2, np.uint64))
    with pytest.raises(VectorError, match="contribution 1 has 1 ciphertexts"):
        paillier.add(secret.public, [ciphertexts, ciphertexts[:1]])
    with pytest.raises(VectorError):
        paillier.add(secret.public, [])
    with pytest.raises(VectorError):
        paillier.encrypt(secret.public, np.zeros(2))


def test_ciphertexts_travel_as_bytes_of_fixed_length(secret: SecretKey):
    public = secret.public
    assert public.ciphertext_bytes == 512
    ciphertexts = [1, *paillier.encrypt(public, LARGEST)]
    data = paillier.ciphertexts_to_bytes(public, ciphertexts)
    assert len(data) == 1024
    assert data[:512] == bytes(511) + b"\x01"
    assert paillier.ciphertexts_from_bytes(public, data) == ciphertexts
    for cut in (data[:-1], data + b"\x00", data[1:]):
        with pytest.raises(CiphertextError, match="whole number"):
            paillier.ciphertexts_from_bytes(public, cut)
    for bad in (bytes(512), b"\xff" * 512):
        with pytest.raises(CiphertextError, match="ciphertext 2 "):
            paillier.ciphertexts_from_bytes(public, data + bad)


def test_the_unmasked_carry_is_reduced_away(secret: SecretKey):
    # 2^64 - 1 + 2 is 1 modulo 2^64: two's complement of -1 + 2.
    scale = Scale(0, 1, 2)
    for a, b in pairwise([-1.0, 2.0, -2.0]):
        got = summed(secret, [encode([a], scale), encode([b], scale)])
        assert decode_integers(got, scale) == [int(a + b)]
