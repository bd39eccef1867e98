"""Tags: one a key, an asset and an epoch; the order and the root depend on nothing else."""

import hashlib
import hmac

import pytest

from ledger.encoding import digest
from ledger.errors import EncodingError
from ledger.merkle import EMPTY_ROOT, leaf_hash, node_hash
from ledger.use_index import commit, root_of, sorted_tags, tag

KEY = bytes(range(32))
ASSET = "asset:" + 64 * "a"


def test_a_tag_is_an_hmac_over_purpose_asset_and_epoch():
    message = b"rongshu/use-tag/v1\0" + ASSET.encode() + b"\x007"
    assert tag(KEY, ASSET, 7) == hmac.new(KEY, message, hashlib.sha256).digest()


def test_another_key_asset_or_epoch_gives_another_tag():
    others = {
        tag(KEY, ASSET, 7),
        tag(KEY, ASSET, 8),
        tag(KEY, ASSET.replace("a", "b", 1), 7),
        tag(bytes(32), ASSET, 7),
    }
    assert len(others) == 4


def test_the_commitment_is_a_hash_for_this_purpose_alone():
    assert commit(KEY) == "sha256:" + digest("rongshu/tag-key/v1", KEY).hex()


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
def test_a_key_of_another_length_is_refused(key: bytes):
    with pytest.raises(EncodingError, match="32 bytes"):
        tag(key, ASSET, 0)
    with pytest.raises(EncodingError, match="32 bytes"):
        commit(key)


def test_the_root_is_that_of_the_sorted_tags_each_once():
    low, high = bytes(32), b"\xff" * 32
    assert sorted_tags([high, low, high]) == (low, high)
    root = node_hash(leaf_hash(low), leaf_hash(high))
    assert root_of(sorted_tags([high, low])) == f"sha256:{root.hex()}"
    assert root_of(()) == f"sha256:{EMPTY_ROOT.hex()}"
