"""Tags of used assets: what an index shows of an asset to whoever holds the asset's tag key.

The provider draws a tag key and commits to it in its asset statement. For each epoch the tag key
gives an epoch key, and that the asset's tag, which looks random to everybody without the key. The
operator logs the root of the tree over the sorted tags of all assets that were used in the epoch.
So one asset's absence can be shown (two neighbours with nothing in between, see `ledger.non_use`)
without telling what else was used, or what this asset did in another epoch.

    commitment = commit(key)
    tags = sorted_tags([tag(key, asset, number), …])
    root_of(tags)
    disclose(key, number).verify(commitment)     # the key of one epoch, and of no other

Format: FORMATS.md, section "Use index".
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger.encoding import b64decode, b64encode, canonical, parse
from ledger.errors import EncodingError, ProofError
from ledger.ids import parse_id
from ledger.merkle import Tree, leaf_hash, verify_inclusion

EPOCH_NAMESPACE = "rongshu/epoch-key/v1"
TAG_NAMESPACE = "rongshu/use-tag/v1"
KEY_BYTES = 32
TAG_BYTES = 32
EPOCHS = 1 << 14
"""Epochs that a commitment covers: their keys can be shown one by one. Later epochs have tags all
the same; to show their absence the asset is listed anew."""
_PREFIX = "sha256:"


@dataclass(frozen=True)
class EpochKey:
    """The key of one asset's tag in one epoch, with the proof that the asset committed to it.

    Attributes:
        number: which epoch.
        key: 32 bytes.
        path: inclusion proof in the tree of the commitment; 32 bytes each.
    """

    number: int
    key: bytes = field(repr=False)
    path: tuple[bytes, ...] = field(repr=False)

    def verify(self, commitment: str) -> EpochKey:
        """Return this key only if an asset's commitment covers it.

        Raises:
            ProofError: it does not.
        """
        leaf, root = leaf_hash(self.key), bytes.fromhex(commitment.removeprefix(_PREFIX))
        try:
            verify_inclusion(leaf, self.number, EPOCHS, self.path, root)
        except ProofError as error:
            raise ProofError(
                f"this is not the key of epoch {self.number} that the asset committed to"
            ) from error
        return self

    def tag(self, asset: str) -> bytes:
        """Return the asset's tag in this epoch, 32 bytes."""
        message = "\0".join((TAG_NAMESPACE, asset, str(self.number)))
        return hmac.digest(self.key, message.encode(), hashlib.sha256)


@functools.lru_cache(maxsize=256)  # an auditor holds the same keys at each look
def commit(key: bytes) -> str:
    """Return what an asset statement says of its tag key, `sha256:` and hex.

    Hashes the keys of all `EPOCHS`, some 0.05 s, and remembers what came of it.

    Raises:
        EncodingError: the key has another length.
    """
    return _PREFIX + _key_tree(key).root().hex()


def disclose(key: bytes, number: int) -> EpochKey:
    """Return the key of one epoch, which tells nothing about any other, with its proof.

    Raises:
        EncodingError: the key has another length, or the commitment does not cover the epoch.
    """
    if not 0 <= number < EPOCHS:
        raise EncodingError(f"a tag key covers epochs 0 to {EPOCHS - 1}, not {number}")
    tree = _key_tree(key)
    return EpochKey(number, _epoch_key(key, number), tree.inclusion(number, EPOCHS))


def tag(key: bytes, asset: str, number: int) -> bytes:
    """Return an asset's tag in one epoch: HMAC-SHA256 (RFC 2104), 32 bytes.

    Raises:
        EncodingError: the key has another length.
    """
    return EpochKey(number, _epoch_key(key, number), ()).tag(asset)


def sorted_tags(tags: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return tags in the order of the index, each once."""
    return tuple(sorted(set(tags)))


def tree_of(tags: Sequence[bytes]) -> Tree:
    """Return the tree whose leaves are these sorted tags."""
    return Tree.from_leaf_hashes(leaf_hash(item) for item in tags)


def root_of(tags: Sequence[bytes]) -> str:
    """Return what a use index says of its root, `sha256:` and hex."""
    return "sha256:" + tree_of(tags).root().hex()


def write_tag_keys(keys: Mapping[str, bytes]) -> bytes:
    """Return the file `tag-keys`: one line of canonical JSON for each asset, by asset."""
    lines = (canonical({"asset": asset, "key": b64encode(keys[asset])}) for asset in sorted(keys))
    return b"".join(line + b"\n" for line in lines)


def read_tag_keys(data: bytes) -> dict[str, bytes]:
    """Read the file `tag-keys` strictly; whether the keys are the right ones is not checked.

    Raises:
        EncodingError: outside the format; names the line, never a key.
    """
    *lines, rest = data.split(b"\n")
    if rest:
        raise EncodingError("the last line of the tag keys does not end")
    keys: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        try:
            asset, key = _tag_key(parse(line, limit=1024))
        except EncodingError as error:
            raise EncodingError(f"line {number} of the tag keys: {error}") from None
        if keys and asset <= next(reversed(keys)):
            raise EncodingError(f"line {number} of the tag keys is out of order, or stands twice")
        keys[asset] = key
    return keys


def _tag_key(value: Any) -> tuple[str, bytes]:
    if not isinstance(value, dict) or set(value) != {"asset", "key"}:
        raise EncodingError("expected asset and key, no more")
    asset, text = value["asset"], value["key"]
    if not isinstance(asset, str) or not isinstance(text, str) or parse_id(asset)[0] != "asset":
        raise EncodingError("expected the id of an asset and base64")
    key = b64decode(text)
    _check_key(key)
    return asset, key


def _key_tree(key: bytes) -> Tree:
    return Tree.from_leaf_hashes(map(leaf_hash, _epoch_keys(key, range(EPOCHS))))


def _epoch_key(key: bytes, number: int) -> bytes:
    (found,) = _epoch_keys(key, [number])
    return found


def _epoch_keys(key: bytes, numbers: Iterable[int]) -> Iterator[bytes]:
    _check_key(key)
    # The messages differ at their end alone: their beginning is hashed once.
    begun = hmac.new(key, f"{EPOCH_NAMESPACE}\0".encode(), hashlib.sha256)
    for number in numbers:
        one = begun.copy()
        one.update(str(number).encode())
        yield one.digest()


def _check_key(key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise EncodingError(f"a tag key has {KEY_BYTES} bytes, this one {len(key)}")
