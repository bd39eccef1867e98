"""Tags of used assets: what an index shows of an asset to whoever holds the asset's tag key.

The provider draws a tag key and commits to it in its asset statement. For each epoch an asset has
one tag, which looks random to everybody without the key. The operator logs the root of the tree
over the sorted tags of all assets that were used in the epoch. So one asset's absence can be shown
(two neighbours with nothing in between, see `ledger.non_use`) without telling what else was used.

    commitment = commit(key)
    tags = sorted_tags([tag(key, asset, number), …])
    root_of(tags)

Format: FORMATS.md, section "Use index".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence

from ledger.encoding import digest
from ledger.errors import EncodingError
from ledger.merkle import Tree, leaf_hash

KEY_NAMESPACE = "rongshu/tag-key/v1"
TAG_NAMESPACE = "rongshu/use-tag/v1"
KEY_BYTES = 32
TAG_BYTES = 32


def commit(key: bytes) -> str:
    """Return what an asset statement says of its tag key, `sha256:` and hex.

    Raises:
        EncodingError: the key has another length.
    """
    _check_key(key)
    return "sha256:" + digest(KEY_NAMESPACE, key).hex()


def tag(key: bytes, asset: str, number: int) -> bytes:
    """Return an asset's tag in one epoch: HMAC-SHA256 (RFC 2104), 32 bytes.

    Raises:
        EncodingError: the key has another length.
    """
    _check_key(key)
    message = b"\0".join((TAG_NAMESPACE.encode(), asset.encode(), str(number).encode()))
    return hmac.digest(key, message, hashlib.sha256)


def sorted_tags(tags: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return tags in the order of the index, each once."""
    return tuple(sorted(set(tags)))


def tree_of(tags: Sequence[bytes]) -> Tree:
    """Return the tree whose leaves are these sorted tags."""
    return Tree.from_leaf_hashes(leaf_hash(item) for item in tags)


def root_of(tags: Sequence[bytes]) -> str:
    """Return what a use index says of its root, `sha256:` and hex."""
    return "sha256:" + tree_of(tags).root().hex()


def _check_key(key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise EncodingError(f"a tag key has {KEY_BYTES} bytes, this one {len(key)}")
