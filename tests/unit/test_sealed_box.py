"""A box opens for its receiver, its sender, its kind and its use, and for nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import BoxError, UnopenedError
from privacy.sealed_box import OVERHEAD_BYTES, BoxKey, Ends, open_, seal

NAME = "rongshu/test/v1"
ENDS = Ends("asset:a", "asset:b", b"job 1, round 1")
KEYS = {name: BoxKey.generate() for name in ("asset:a", "asset:b", "asset:c")}


def box(plain: bytes = b"ids", name: str = NAME) -> bytes:
    return seal(name, plain, ENDS, KEYS["asset:a"], KEYS["asset:b"].public)


def opened(sealed: bytes, ends: Ends = ENDS, name: str = NAME, own: str = "asset:b") -> bytes:
    return open_(name, sealed, ends, KEYS[own], KEYS[ends.sender].public)


@given(st.binary(max_size=300))
def test_what_was_sealed_opens(plain: bytes):
    sealed = box(plain)
    assert opened(sealed) == plain
    assert len(sealed) == len(plain) + OVERHEAD_BYTES


def test_two_boxes_of_the_same_differ():
    assert box() != box()


@pytest.mark.parametrize("at", range(OVERHEAD_BYTES + 3))
def test_every_changed_byte_is_refused(at: int):
    changed = bytearray(box())
    changed[at] ^= 1
    with pytest.raises(UnopenedError, match="'asset:a'") as refused:
        opened(bytes(changed))
    assert refused.value.party == "asset:a"


@pytest.mark.parametrize("length", [0, 1, 11, 12, OVERHEAD_BYTES - 1])
def test_a_box_too_short_to_be_one_is_refused(length: int):
    with pytest.raises(UnopenedError):
        opened(box()[:length])


@pytest.mark.parametrize(
    "ends",
    [
        Ends("asset:a", "asset:b", b"job 1, round 2"),
        Ends("asset:a", "asset:c", b"job 1, round 1"),
        Ends("asset:c", "asset:b", b"job 1, round 1"),
    ],
)
def test_a_box_of_another_use_or_party_is_refused(ends: Ends):
    with pytest.raises(UnopenedError):
        opened(box(), ends)


def test_a_box_for_another_is_refused_with_the_right_names():
    with pytest.raises(UnopenedError):
        opened(box(), own="asset:c")


def test_a_box_of_one_kind_is_none_of_another():
    with pytest.raises(UnopenedError):
        opened(box(name="rongshu/other/v1"))


@pytest.mark.parametrize("public", [bytes(32), b"\1" + bytes(31), b"short"])
def test_keys_of_small_order_are_refused(public: bytes):
    with pytest.raises(BoxError, match="'asset:b' sent a key that is malformed or of small order"):
        seal(NAME, b"ids", ENDS, KEYS["asset:a"], public)


def test_nobody_seals_for_himself_or_for_no_use():
    with pytest.raises(BoxError, match="for itself"):
        Ends("asset:a", "asset:a", b"x")
    with pytest.raises(BoxError, match="needs a context"):
        Ends("asset:a", "asset:b", b"")
    with pytest.raises(BoxError, match="own key"):
        seal(NAME, b"ids", ENDS, KEYS["asset:a"], KEYS["asset:a"].public)
