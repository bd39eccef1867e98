import copy
import pickle

import pytest

from privacy.errors import BoxError, MaskError, SealedShareError, ShareError
from privacy.masking import MaskKey, mask_context
from privacy.sealed_shares import BOX_BYTES, ShareKey, SharePair, open_, seal
from privacy.shamir import SHARE_BYTES

IDS = ("asset:a", "asset:b", "asset:c")
CONTEXT = mask_context("job:1", 1, 1, IDS)
PAIR = SharePair(mask_key=b"\x01" * SHARE_BYTES, seed=b"\x02" * SHARE_BYTES)


@pytest.fixture(scope="module")
def keys() -> dict[str, ShareKey]:
    return {party: ShareKey.generate() for party in IDS}


def sealed(keys: dict[str, ShareKey], **change: object) -> bytes:
    arguments: dict[str, object] = {
        "sender": IDS[0],
        "own": keys[IDS[0]],
        "receiver": IDS[1],
        "peer_public": keys[IDS[1]].public,
        "context": CONTEXT,
    }
    return seal(PAIR, **(arguments | change))


def opened(keys: dict[str, ShareKey], box: bytes, **change: object) -> SharePair:
    arguments: dict[str, object] = {
        "sender": IDS[0],
        "peer_public": keys[IDS[0]].public,
        "receiver": IDS[1],
        "own": keys[IDS[1]],
        "context": CONTEXT,
    }
    return open_(box, **(arguments | change))


def test_the_receiver_opens_what_was_sealed_and_each_share_in_its_place(keys: dict[str, ShareKey]):
    box = sealed(keys)
    assert len(box) == BOX_BYTES == 164
    assert opened(keys, box) == PAIR
    assert PAIR.mask_key not in box
    assert PAIR.seed not in box


def test_two_boxes_of_one_pair_have_nothing_in_common(keys: dict[str, ShareKey]):
    first, second = sealed(keys), sealed(keys)
    assert first[:12] != second[:12]
    assert sum(one == other for one, other in zip(first, second, strict=True)) < 20


@pytest.mark.parametrize("at", [0, 11, 12, 100, BOX_BYTES - 1])
def test_a_changed_box_is_refused(keys: dict[str, ShareKey], at: int):
    box = bytearray(sealed(keys))
    box[at] ^= 1
    with pytest.raises(SealedShareError, match="shares from 'asset:a' do not open") as refused:
        opened(keys, bytes(box))
    assert refused.value.party == "asset:a"


@pytest.mark.parametrize("length", [0, BOX_BYTES - 1, BOX_BYTES + 1])
def test_a_box_of_another_length_is_refused(keys: dict[str, ShareKey], length: int):
    box = (sealed(keys) + b"\0")[:length]
    with pytest.raises(SealedShareError, match=f"'asset:a' sent a box of {length} bytes"):
        opened(keys, box)


def test_a_box_for_another_receiver_is_refused(keys: dict[str, ShareKey]):
    box = sealed(keys, receiver=IDS[2], peer_public=keys[IDS[2]].public)
    with pytest.raises(SealedShareError, match="'asset:a'"):
        opened(keys, box)
    assert opened(keys, box, receiver=IDS[2], own=keys[IDS[2]]) == PAIR


def test_a_box_for_one_name_is_refused_under_another_with_the_same_key(keys: dict[str, ShareKey]):
    box = sealed(keys)
    with pytest.raises(SealedShareError):
        opened(keys, box, receiver=IDS[2])
    with pytest.raises(SealedShareError, match="'asset:c'"):
        opened(keys, box, sender=IDS[2])


def test_a_box_of_another_sender_is_refused(keys: dict[str, ShareKey]):
    box = sealed(keys, sender=IDS[2], own=keys[IDS[2]])
    with pytest.raises(SealedShareError, match="'asset:a'"):
        opened(keys, box)
    assert opened(keys, box, sender=IDS[2], peer_public=keys[IDS[2]].public) == PAIR


def test_a_box_sent_back_to_its_sender_is_refused(keys: dict[str, ShareKey]):
    box = sealed(keys)
    with pytest.raises(SealedShareError, match="'asset:b'"):
        opened(
            keys,
            box,
            sender=IDS[1],
            peer_public=keys[IDS[1]].public,
            receiver=IDS[0],
            own=keys[IDS[0]],
        )


@pytest.mark.parametrize(
    "context",
    [
        mask_context("job:1", 1, 2, IDS),
        mask_context("job:1", 2, 1, IDS),
        mask_context("job:2", 1, 1, IDS),
        mask_context("job:1", 1, 1, IDS[:2]),
    ],
)
def test_a_box_of_another_round_is_refused(keys: dict[str, ShareKey], context: bytes):
    box = sealed(keys, context=context)
    with pytest.raises(SealedShareError, match="another round"):
        opened(keys, box)
    assert opened(keys, box, context=context) == PAIR


@pytest.mark.parametrize(
    "public", [b"", bytes(31), bytes(33), bytes(32), b"\x01" + bytes(31), b"own"]
)
def test_a_bad_peer_key_is_refused_at_both_ends(keys: dict[str, ShareKey], public: bytes):
    box = sealed(keys)
    to = keys[IDS[0]].public if public == b"own" else public
    with pytest.raises(SealedShareError, match="'asset:b' sent") as refused:
        sealed(keys, peer_public=to)
    assert refused.value.party == "asset:b"
    by = keys[IDS[1]].public if public == b"own" else public
    with pytest.raises(SealedShareError, match="'asset:a' sent") as refused:
        opened(keys, box, peer_public=by)
    assert refused.value.party == "asset:a"


def test_a_box_for_oneself_is_refused(keys: dict[str, ShareKey]):
    with pytest.raises(ShareError, match="'asset:b' seals nothing for itself"):
        sealed(keys, sender=IDS[1])


def test_an_empty_context_or_id_is_refused(keys: dict[str, ShareKey]):
    with pytest.raises(ShareError, match="needs a context"):
        sealed(keys, context=b"")
    with pytest.raises(ShareError, match="needs a context"):
        opened(keys, sealed(keys), context=b"")
    with pytest.raises(MaskError, match="empty"):
        sealed(keys, sender="")


@pytest.mark.parametrize("length", [0, SHARE_BYTES - 1, SHARE_BYTES + 1])
def test_shares_of_another_length_make_no_pair(length: int):
    with pytest.raises(ShareError, match=f"a share of {length} bytes"):
        SharePair(mask_key=bytes(length), seed=PAIR.seed)
    with pytest.raises(ShareError, match=f"a share of {length} bytes"):
        SharePair(mask_key=PAIR.mask_key, seed=bytes(length))


def test_secrets_stay_out_of_repr_copies_and_pickles(keys: dict[str, ShareKey]):
    key = keys[IDS[0]]
    assert repr(key) == f"ShareKey(public={key.public!r})"
    assert repr(PAIR) == "SharePair()"
    with pytest.raises(BoxError, match="cannot be copied"):
        pickle.dumps(key)
    with pytest.raises(BoxError, match="cannot be copied"):
        copy.copy(key)


def test_a_recovered_mask_key_opens_no_box_and_would_if_boxes_were_made_with_it(
    keys: dict[str, ShareKey],
):
    mask_key = MaskKey.generate()
    recovered = MaskKey.from_secret(mask_key.raw_secret_bytes())
    attacker = ShareKey(recovered.public, recovered._secret)
    with pytest.raises(SealedShareError):
        opened(keys, sealed(keys), own=attacker)
    # The twin: one key for both purposes.
    box = sealed(keys, peer_public=mask_key.public)
    assert opened(keys, box, own=attacker) == PAIR
