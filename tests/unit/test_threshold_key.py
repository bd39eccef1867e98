"""Keys that holders share: how they are dealt, written and refused."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gmpy2
import pytest

from privacy.errors import KeyFileError, WeakKeyError
from privacy.paillier import PublicKey, SecretKey
from privacy.paillier.safe_primes import is_safe_prime
from privacy.paillier.threshold_key import (
    KeyShare,
    ThresholdKey,
    deal,
    is_shared,
    named_holders,
    public_half,
    share_out,
)
from tests.dealt import fixed_primes, fixed_secret, share_fixed

HOLDERS = ["a", "b", "c"]


@pytest.fixture(scope="module", name="shares")
def _shares() -> tuple[KeyShare, ...]:
    return share_fixed(HOLDERS)


@pytest.fixture(scope="module", name="key")
def _key(shares: tuple[KeyShare, ...]) -> ThresholdKey:
    return shares[0].key


def test_the_public_half_is_an_ordinary_key_of_the_form(key: ThresholdKey):
    assert key.public == fixed_secret().public
    assert key.public.blum
    assert all(is_safe_prime(prime) for prime in fixed_primes())


def test_json_goes_there_and_back(key: ThresholdKey):
    written = json.loads(json.dumps(key.to_json()))
    assert set(written) == {"n", "primes", "base", "threshold", "holders"}
    assert [each["holder"] for each in written["holders"]] == HOLDERS
    assert ThresholdKey.from_json(written) == key


def test_the_public_half_is_read_from_either_kind_of_key(key: ThresholdKey):
    old = PublicKey(key.public.n).to_json()
    assert public_half(key.to_json()) == key.public
    assert public_half(key.public.to_json()) == key.public
    assert public_half(old) == PublicKey(key.public.n)
    assert is_shared(key.to_json())
    assert not is_shared(old)
    with pytest.raises(WeakKeyError):
        public_half({**old, "threshold": 2})


def changed_holder(value: dict[str, Any], **changes: Any) -> dict[str, Any]:
    first, *rest = value["holders"]
    return {**value, "holders": [first | changes, *rest]}


def without(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {field: each for field, each in value.items() if field != name}


def next_number(text: str) -> str:
    return f"{int(text, 16) + 1:x}"


WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda value: [value],
    "no base": lambda value: without(value, "base"),
    "no claim of the form": lambda value: without(value, "primes"),
    "another field": lambda value: {**value, "dealer": "d"},
    "threshold 1": lambda value: {**value, "threshold": 1},
    "threshold above the holders": lambda value: {**value, "threshold": 4},
    "threshold true": lambda value: {**value, "threshold": True},
    "threshold as text": lambda value: {**value, "threshold": "2"},
    "another base": lambda value: {**value, "base": "0"},
    "base in capitals": lambda value: {**value, "base": "AB"},
    "a base too long": lambda value: {**value, "base": "1" * 1025},
    "a base that shares a factor": lambda value: {**value, "base": value["n"]},
    "no holder": lambda value: {**value, "holders": []},
    "holders as text": lambda value: {**value, "holders": "abc"},
    "seventeen holders": lambda value: {**value, "holders": value["holders"] * 6},
    "one holder twice": lambda value: changed_holder(value, holder="b"),
    "a holder without name": lambda value: changed_holder(value, holder=""),
    "a holder that is a number": lambda value: changed_holder(value, holder=7),
    "a holder with more": lambda value: changed_holder(value, place=1),
    "another verification key": lambda value: changed_holder(
        value, key=next_number(value["holders"][0]["key"])
    ),
    "two verification keys swapped": lambda value: {
        **value,
        "holders": [
            {"holder": name, "key": each["key"]}
            for name, each in zip("abc", reversed(value["holders"]), strict=True)
        ],
    },
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_shared_key_is_refused(key: ThresholdKey, what: str):
    with pytest.raises(WeakKeyError):
        ThresholdKey.from_json(WRONG[what](key.to_json()))


def test_a_dealer_whose_shares_open_nothing_is_seen(key: ThresholdKey):
    square = key.public.n**2
    # f(x) + 1 in place of f(x): on one polynomial of the same degree, with another value at 0.
    shifted = tuple(
        int(each * gmpy2.powmod(key.base, key.delta, square) % square) for each in key.verification
    )
    with pytest.raises(WeakKeyError, match="open nothing"):
        replace(key, verification=shifted)
    # The twin: f(x) + x, another sharing of the same secret.
    other = tuple(
        int(each * gmpy2.powmod(key.base, key.delta * place, square) % square)
        for place, each in enumerate(key.verification, 1)
    )
    assert replace(key, verification=other).base == key.base


def test_a_dealer_who_gives_one_holder_a_share_off_the_polynomial_is_seen(key: ThresholdKey):
    square = key.public.n**2
    third = int(key.verification[2] * gmpy2.powmod(key.base, key.delta, square) % square)
    with pytest.raises(WeakKeyError, match="one polynomial"):
        replace(key, verification=(*key.verification[:2], third))
    assert replace(key, verification=key.verification) == key


def test_two_sharings_of_one_key_have_nothing_in_common(shares: tuple[KeyShare, ...]):
    others = share_fixed(HOLDERS)
    assert others[0].key.base != shares[0].key.base
    assert {each.raw_share() for each in others}.isdisjoint(each.raw_share() for each in shares)


def test_primes_that_are_not_safe_are_refused():
    p, q = SecretKey.generate(2048).raw_primes()
    with pytest.raises(WeakKeyError, match="safe"):
        share_out(p, q, HOLDERS)
    assert share_out(*fixed_primes(), HOLDERS)


@pytest.mark.parametrize(
    ("holders", "threshold", "bits"),
    [
        (["a"], 1, 2048),
        (["a", "b"], 3, 2048),
        (["a", "b"], 1, 2048),
        (["a", "b"], 2, 2046),
        (["a", "b"], 2, 2049),
        (["a", "b"], 2, 8194),
        ([str(at) for at in range(17)], 2, 2048),
    ],
)
def test_a_key_that_cannot_be_is_refused_before_primes_are_sought(
    holders: list[str], threshold: int, bits: int
):
    with pytest.raises(WeakKeyError):
        deal(holders, threshold=threshold, bits=bits, tries=pytest.fail)


def test_a_share_goes_to_a_file_for_its_owner_alone_and_back(
    shares: tuple[KeyShare, ...], tmp_path: Path
):
    path = tmp_path / "a.share"
    shares[0].save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    found = KeyShare.load(path)
    assert (found.key, found.holder) == (shares[0].key, "a")
    assert found.raw_share() == shares[0].raw_share()
    with pytest.raises(KeyFileError, match="exists"):
        shares[1].save(path)
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod"):
        KeyShare.load(path)


@pytest.mark.parametrize("cut", [b"", b"{}", b"[]", b"\xff", b'{"key":1}'])
def test_a_file_that_is_no_share_is_refused(tmp_path: Path, cut: bytes):
    path = tmp_path / "a.share"
    path.touch(0o600)
    path.write_bytes(cut)
    with pytest.raises((KeyFileError, WeakKeyError)):
        KeyShare.load(path)


@pytest.mark.parametrize("end", [-1, -2, -40])
def test_a_file_that_was_cut_short_is_refused(
    shares: tuple[KeyShare, ...], tmp_path: Path, end: int
):
    path = tmp_path / "a.share"
    shares[0].save(path)
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(KeyFileError):
        KeyShare.load(path)


def test_another_holders_share_is_refused(shares: tuple[KeyShare, ...], key: ThresholdKey):
    with pytest.raises(WeakKeyError, match="not the share of this holder"):
        KeyShare(key, "a", shares[1].raw_share())
    with pytest.raises(WeakKeyError, match="no such holder"):
        KeyShare(key, "d", shares[0].raw_share())
    assert KeyShare(key, "a", shares[0].raw_share()).holder == "a"


def test_a_share_hides_itself_and_is_neither_copied_nor_pickled(shares: tuple[KeyShare, ...]):
    share = shares[0]
    assert str(share.raw_share()) not in repr(share)
    assert f"{share.raw_share():x}" not in repr(share)
    with pytest.raises(WeakKeyError, match="pickled"):
        pickle.dumps(share)
    with pytest.raises(WeakKeyError, match="copied"):
        copy.copy(share)


@pytest.mark.slow
def test_a_dealer_makes_a_fresh_key():
    tried: list[int] = []
    shares = deal(HOLDERS, bits=2048, tries=tried.append)
    assert len(shares) == 3
    assert tried
    assert shares[0].key.public.bits == 2048
    assert shares[0].key.public.blum


def test_the_names_of_holders_are_read_without_trusting_the_key(key: ThresholdKey):
    assert named_holders(key.to_json()) == {"a", "b", "c"}
    nobody = [None, {}, key.public.to_json(), {"holders": 7}, {"holders": [1, {}, {"holder": 2}]}]
    assert [named_holders(value) for value in nobody] == [frozenset()] * len(nobody)
