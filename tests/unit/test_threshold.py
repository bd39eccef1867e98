"""Opening together: any quorum opens the sum, and nothing else passes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import gmpy2
import numpy as np
import pytest

from privacy.errors import CiphertextError, PartialDecryptionError, WeakKeyError
from privacy.paillier import (
    PackedColumn,
    Packing,
    SecretKey,
    add_columns,
    encryptor_for,
    open_column,
    seal,
)
from privacy.paillier.threshold import (
    Part,
    PartialDecryption,
    Quorum,
    combine,
    decrypt_partially,
    open_column_together,
    verify_partial,
)
from privacy.paillier.threshold_key import KeyShare, ThresholdKey, deal
from tests.dealt import fixed_secret, share_fixed

HOLDERS = ["a", "b", "c"]
WORDS = np.array([2**64 - 1, 0, 7, *range(30)], dtype=np.uint64)
"""More than one plaintext of the fixed key holds."""


@pytest.fixture(scope="module", name="shares")
def _shares() -> tuple[KeyShare, ...]:
    return share_fixed(HOLDERS)


@pytest.fixture(scope="module", name="key")
def _key(shares: tuple[KeyShare, ...]) -> ThresholdKey:
    return shares[0].key


def summed(key: ThresholdKey) -> PackedColumn:
    encryptor, packing = encryptor_for(key.public), Packing(weight=2)
    return add_columns([seal(encryptor, packing, WORDS), seal(encryptor, packing, WORDS)])


@pytest.fixture(scope="module", name="column")
def _column(key: ThresholdKey) -> PackedColumn:
    return summed(key)


@pytest.fixture(scope="module", name="partials")
def _partials(shares: tuple[KeyShare, ...], column: PackedColumn) -> dict[str, PartialDecryption]:
    return {share.holder: decrypt_partially(share, column.ciphertexts) for share in shares}


def test_any_two_of_three_open_what_the_secret_key_opens(
    key: ThresholdKey, column: PackedColumn, partials: dict[str, PartialDecryption]
):
    assert len(column.ciphertexts) > 1
    opened = open_column(fixed_secret(), column)
    assert (opened == WORDS + WORDS).all()
    for two in [*combinations("abc", 2), ("c", "b", "a")]:
        quorum = Quorum(key, tuple(partials[name] for name in two))
        assert (open_column_together(quorum, column) == opened).all()


@pytest.mark.parametrize(
    ("threshold", "holders"), [(2, 2), pytest.param(3, 5, marks=pytest.mark.slow)]
)
def test_any_threshold_of_some_holders_opens_and_one_fewer_does_not(threshold: int, holders: int):
    shares = share_fixed([str(at) for at in range(holders)], threshold)
    key = shares[0].key
    ciphertexts = encryptor_for(key.public).encrypt([123456789])
    partials = tuple(decrypt_partially(share, ciphertexts) for share in shares[-threshold:])
    assert combine(Quorum(key, partials), ciphertexts) == [123456789]
    with pytest.raises(PartialDecryptionError, match=f"{threshold - 1} of the {threshold}"):
        Quorum(key, partials[1:])


def test_one_holder_alone_opens_nothing_and_two_do(
    key: ThresholdKey, column: PackedColumn, partials: dict[str, PartialDecryption]
):
    n, square = key.public.n, key.public.n**2

    def raised(names: str) -> int:
        weights = key.coefficients([key.place(name) for name in names])
        total = 1
        for name, weight in zip(names, weights, strict=True):
            total = total * gmpy2.powmod(partials[name].parts[0].value, 2 * weight, square)
        return int(total % n)

    # What opens is 1 modulo n: the randomness of the ciphertext is gone.
    assert [raised(name) == 1 for name in ("a", "b", "c", "ab", "ac", "bc")] == [
        *[False] * 3,
        *[True] * 3,
    ]
    assert len(column.ciphertexts) == len(partials["a"].parts)


def test_two_shares_lie_on_a_line_through_the_secret(shares: tuple[KeyShare, ...]):
    p, q = (prime >> 1 for prime in fixed_secret().raw_primes())
    secret = 2 * shares[0].raw_share() - shares[1].raw_share()
    assert (secret % shares[0].key.public.n, secret % (p * q)) == (1, 0)
    # The twin: one share by itself is no such number.
    alone = shares[0].raw_share()
    assert (alone % shares[0].key.public.n, alone % (p * q)) != (1, 0)


Change = Callable[
    [PartialDecryption, dict[str, PartialDecryption], ThresholdKey], PartialDecryption
]


def with_part(partial: PartialDecryption, **changes: int) -> PartialDecryption:
    first, *rest = partial.parts
    return replace(partial, parts=(replace(first, **changes), *rest))


FALSE: dict[str, tuple[Change, str]] = {
    "a changed value": (
        lambda one, _, key: with_part(one, value=one.parts[0].value * 4 % key.public.n**2),
        "ciphertext 0 is false",
    ),
    "another challenge": (
        lambda one, *_: with_part(one, challenge=one.parts[0].challenge ^ 1),
        "ciphertext 0 is false",
    ),
    "another response": (
        lambda one, *_: with_part(one, response=one.parts[0].response + 1),
        "ciphertext 0 is false",
    ),
    "an endless response": (
        lambda one, *_: with_part(one, response=one.parts[0].response << 2000),
        "ciphertext 0 is false",
    ),
    "no unit": (lambda one, _, key: with_part(one, value=key.public.n), "no unit"),
    "zero": (lambda one, *_: with_part(one, value=0), "no unit"),
    "n² and more": (lambda one, _, key: with_part(one, value=key.public.n**2 + 1), "no unit"),
    "a part missing": (lambda one, *_: replace(one, parts=one.parts[1:]), "made 1 parts of 2"),
    "a part too many": (lambda one, *_: replace(one, parts=one.parts * 2), "made 4 parts of 2"),
    "two parts swapped": (
        lambda one, *_: replace(one, parts=one.parts[::-1]),
        "ciphertext 0 is false",
    ),
    "another holder's parts": (
        lambda one, all_, _: replace(one, parts=all_["c"].parts),
        "ciphertext 0 is false",
    ),
}


@pytest.mark.parametrize("what", FALSE)
def test_a_false_part_is_refused_and_its_holder_named(
    key: ThresholdKey, column: PackedColumn, partials: dict[str, PartialDecryption], what: str
):
    change, says = FALSE[what]
    false = change(partials["b"], partials, key)
    with pytest.raises(PartialDecryptionError, match=says) as refused:
        open_column_together(Quorum(key, (false, partials["a"])), column)
    assert refused.value.party == "b"
    assert "b" in str(refused.value)


def test_without_the_proof_a_false_part_is_added(
    key: ThresholdKey,
    column: PackedColumn,
    partials: dict[str, PartialDecryption],
    monkeypatch: pytest.MonkeyPatch,
):
    # c_i * (1 + n)^x shifts every sum of the ciphertext by what its holder likes.
    n = key.public.n
    shift = 4 * key.delta**2 * pow(2 * key.coefficients([1, 2])[1], -1, n)
    value = partials["b"].parts[0].value * (1 + shift * 5 * n) % n**2
    false = Quorum(key, (partials["a"], with_part(partials["b"], value=value)))
    with pytest.raises(PartialDecryptionError, match="false"):
        combine(false, column.ciphertexts)
    monkeypatch.setattr("privacy.paillier.threshold._proves", lambda *_: True)
    right = combine(Quorum(key, (partials["a"], partials["b"])), column.ciphertexts)
    assert combine(false, column.ciphertexts) == [right[0] + 5, *right[1:]]


def test_a_partial_decryption_of_another_sum_is_refused(
    key: ThresholdKey, shares: tuple[KeyShare, ...], partials: dict[str, PartialDecryption]
):
    other = summed(key)
    quorum = Quorum(key, (partials["a"], partials["b"]))
    with pytest.raises(PartialDecryptionError, match="false"):
        open_column_together(quorum, other)
    again = tuple(decrypt_partially(share, other.ciphertexts) for share in shares[:2])
    assert (open_column_together(Quorum(key, again), other) == WORDS + WORDS).all()


def test_a_share_of_another_sharing_opens_nothing(
    key: ThresholdKey, column: PackedColumn, partials: dict[str, PartialDecryption]
):
    # The same modulus even: only the polynomial and the base are others.
    other = share_fixed(HOLDERS)[1]
    foreign = decrypt_partially(other, column.ciphertexts)
    with pytest.raises(PartialDecryptionError, match="false"):
        open_column_together(Quorum(key, (partials["a"], foreign)), column)


def test_two_of_one_holder_are_one_too_few(
    key: ThresholdKey,
    shares: tuple[KeyShare, ...],
    column: PackedColumn,
    partials: dict[str, PartialDecryption],
):
    again = decrypt_partially(shares[0], column.ciphertexts)
    assert again != partials["a"]
    with pytest.raises(PartialDecryptionError, match="the same holder a"):
        Quorum(key, (partials["a"], again))
    with pytest.raises(PartialDecryptionError, match="no holder"):
        Quorum(key, (partials["a"], replace(partials["b"], holder="d")))
    with pytest.raises(PartialDecryptionError, match="no holder"):
        verify_partial(key, column.ciphertexts, replace(partials["b"], holder="d"))
    assert verify_partial(key, column.ciphertexts, again)


def test_what_is_no_ciphertext_is_not_raised(shares: tuple[KeyShare, ...], key: ThresholdKey):
    for bad in (0, key.public.n, key.public.n**2, -1):
        with pytest.raises(CiphertextError):
            decrypt_partially(shares[0], [bad])
    assert decrypt_partially(shares[0], [1]).parts[0].value == 1


def test_an_opened_number_that_is_no_sum_is_refused(
    shares: tuple[KeyShare, ...], key: ThresholdKey, column: PackedColumn
):
    damaged = replace(column, ciphertexts=(2, *column.ciphertexts[1:]))
    partials = tuple(decrypt_partially(share, damaged.ciphertexts) for share in shares[:2])
    with pytest.raises(CiphertextError, match="more than the sum"):
        open_column_together(Quorum(key, partials), damaged)


@pytest.mark.slow
def test_a_column_under_another_key_is_refused(
    key: ThresholdKey, partials: dict[str, PartialDecryption]
):
    public = SecretKey.generate(2048).public
    other = seal(encryptor_for(public), Packing(weight=1), WORDS)
    with pytest.raises(CiphertextError, match="another key"):
        open_column_together(Quorum(key, (partials["a"], partials["b"])), other)


def test_json_goes_there_and_back(key: ThresholdKey, partials: dict[str, PartialDecryption]):
    written = json.loads(json.dumps(partials["a"].to_json()))
    assert PartialDecryption.from_json(written, key.public) == partials["a"]


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"holder": "a"},
        {"holder": 1, "parts": []},
        {"holder": "a", "parts": {}},
        {"holder": "a", "parts": [], "more": 1},
        {"holder": "a", "parts": [{}]},
        {"holder": "a", "parts": [{"value": "1", "challenge": "1"}]},
        {"holder": "a", "parts": [{"value": "1", "challenge": "1", "response": "-1"}]},
        {"holder": "a", "parts": [{"value": "1", "challenge": "1", "response": 1}]},
        {"holder": "a", "parts": [{"value": "1" * 9999, "challenge": "1", "response": "1"}]},
    ],
)
def test_what_is_no_partial_decryption_is_refused(key: ThresholdKey, value: object):
    with pytest.raises(PartialDecryptionError):
        PartialDecryption.from_json(value, key.public)
    right = {"holder": "a", "parts": [{"value": "1", "challenge": "1", "response": "1"}]}
    assert PartialDecryption.from_json(right, key.public).parts == (Part(1, 1, 1),)


def test_progress_is_told(shares: tuple[KeyShare, ...], column: PackedColumn):
    told: list[tuple[int, int]] = []
    decrypt_partially(shares[0], column.ciphertexts, lambda *at: told.append(at))
    assert told == [(1, 2), (2, 2)]


@pytest.mark.slow
def test_a_fresh_key_opens_what_its_public_half_sealed():
    shares = deal(HOLDERS, bits=2048)
    column = summed(shares[0].key)
    partials = tuple(decrypt_partially(share, column.ciphertexts) for share in shares[1:])
    opened = open_column_together(Quorum(shares[0].key, partials), column)
    assert (opened == WORDS + WORDS).all()
    with pytest.raises(WeakKeyError):
        shares[0].key.place("d")
