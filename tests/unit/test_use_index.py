"""Tags: one a key, an asset and an epoch; the order and the root depend on nothing else."""

import hashlib
import hmac
from dataclasses import replace

import pytest

from ledger.errors import EncodingError, ProofError
from ledger.merkle import EMPTY_ROOT, leaf_hash, node_hash, root
from ledger.use_index import (
    EPOCHS,
    EpochKey,
    commit,
    disclose,
    read_tag_keys,
    root_of,
    sorted_tags,
    tag,
    write_tag_keys,
)

KEY = bytes(range(32))
ASSET = "asset:" + 64 * "a"


COMMITMENT = commit(KEY)


def hmac_of(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def test_a_tag_is_an_hmac_over_asset_and_epoch_under_the_key_of_that_epoch():
    key = hmac_of(KEY, b"rongshu/epoch-key/v1\x007")
    assert tag(KEY, ASSET, 7) == hmac_of(key, b"rongshu/use-tag/v1\0" + ASSET.encode() + b"\x007")


def test_another_key_asset_or_epoch_gives_another_tag():
    others = {
        tag(KEY, ASSET, 7),
        tag(KEY, ASSET, 8),
        tag(KEY, ASSET.replace("a", "b", 1), 7),
        tag(bytes(32), ASSET, 7),
    }
    assert len(others) == 4


def test_the_commitment_is_the_root_over_the_keys_of_all_epochs():
    keys = (hmac_of(KEY, b"rongshu/epoch-key/v1\0%d" % number) for number in range(EPOCHS))
    assert commit(KEY) == f"sha256:{root(leaf_hash(key) for key in keys).hex()}"


@pytest.mark.parametrize("number", [0, 7, EPOCHS - 1])
def test_the_key_of_one_epoch_is_shown_with_its_proof_and_gives_its_tag(number: int):
    shown = disclose(KEY, number)
    assert shown.verify(COMMITMENT).tag(ASSET) == tag(KEY, ASSET, number)


@pytest.mark.parametrize("change", ["number", "key", "path", "commitment"])
def test_another_key_epoch_or_commitment_is_refused(change: str):
    shown, commitment = disclose(KEY, 7), COMMITMENT
    if change == "number":
        shown = replace(shown, number=8)
    elif change == "key":
        shown = replace(shown, key=disclose(KEY, 8).key)
    elif change == "path":
        shown = replace(shown, path=shown.path[:-1])
    else:
        commitment = commit(bytes(32))
    with pytest.raises(ProofError, match="is not the key of epoch"):
        shown.verify(commitment)


def test_the_key_of_one_epoch_does_not_give_the_tag_of_another():
    shown = disclose(KEY, 7)
    assert EpochKey(8, shown.key, shown.path).tag(ASSET) != tag(KEY, ASSET, 8)
    assert shown.key.hex() not in repr(shown)


@pytest.mark.parametrize("number", [-1, EPOCHS])
def test_epochs_that_no_commitment_covers_have_a_tag_and_no_proof(number: int):
    assert len(tag(KEY, ASSET, EPOCHS)) == 32
    with pytest.raises(EncodingError, match="covers epochs 0 to"):
        disclose(KEY, number)


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
def test_a_key_of_another_length_is_refused(key: bytes):
    with pytest.raises(EncodingError, match="32 bytes"):
        tag(key, ASSET, 0)
    with pytest.raises(EncodingError, match="32 bytes"):
        commit(key)


def test_tag_keys_are_read_back_as_they_were_written():
    keys = {"asset:" + 64 * "b": bytes(32), ASSET: KEY}
    assert read_tag_keys(write_tag_keys(keys)) == keys
    assert read_tag_keys(b"") == {}


LINES = write_tag_keys({ASSET: KEY, "asset:" + 64 * "b": bytes(32)})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (LINES[:-1], "does not end"),
        (LINES + LINES, "line 3 of the tag keys is out of order"),
        (LINES.replace(b"a" * 64, b"c" * 64), "line 2 of the tag keys is out of order"),
        (LINES.replace(b"asset:", b"offer:"), "line 1 of the tag keys: expected the id"),
        (LINES.replace(b'"key":"', b'"key":["', 1), "line 1"),
        (LINES.replace(b"AAECAwQF", b""), "line 1 of the tag keys: a tag key has 32 bytes"),
        (LINES.replace(b"AAECAwQF", b"!AECAwQF"), "line 1 of the tag keys: not standard base64"),
        (b'{"asset":1,"key":"AAAA"}\n', "line 1 of the tag keys: expected the id"),
        (b'{"asset":"a"}\n', "line 1 of the tag keys: expected asset and key"),
        (b"\n", "line 1"),
    ],
)
def test_malformed_tag_keys_are_refused_without_telling_one(data: bytes, message: str):
    with pytest.raises(EncodingError, match=message) as caught:
        read_tag_keys(data)
    assert "AwQF" not in str(caught.value)


def test_the_root_is_that_of_the_sorted_tags_each_once():
    low, high = bytes(32), b"\xff" * 32
    assert sorted_tags([high, low, high]) == (low, high)
    root = node_hash(leaf_hash(low), leaf_hash(high))
    assert root_of(sorted_tags([high, low])) == f"sha256:{root.hex()}"
    assert root_of(()) == f"sha256:{EMPTY_ROOT.hex()}"
