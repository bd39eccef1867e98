r"""A fork proof: a log signed two histories, shown by one file and the log's key alone.

    rongshu/fork-proof/v1

    rongshu.example/log
    18
    2iJdLqU34Kx3dISbDuYkFq7Jh/Z2tz4hikXITRiwMcs=

    — rongshu.example/log 13RTZtOf…

    rongshu.example/log
    18
    gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=

    — rongshu.example/log 13RTZq8A…

Two signed checkpoints of one size with different roots; or of different sizes, each with an
inclusion proof of a leaf at the same index, the leaves being different. An honest log signs
neither, so whoever holds this file holds the signature of a log, or of a thief of its key, under a
split view.

Decides whether a file is such a proof, and whether two views of a log fork. Does not decide which
of the two histories is the true one: nobody can. Witnesses are not asked, for the log's own word is
enough. Format: FORMATS.md, section "Fork proof".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ledger import checkpoint as checkpoints
from ledger import note
from ledger.checkpoint import Checkpoint
from ledger.encoding import b64decode, b64encode
from ledger.errors import EncodingError, EvidenceError, NoteError, ProofError, UnprovenForkError
from ledger.keys import VerifyKey
from ledger.merkle import HASH_BYTES, split, verify_inclusion
from ledger.proof import MAX_HASHES

HEADING = "rongshu/fork-proof/v1"

MAX_BYTES = 2 * note.MAX_BYTES + 10_000
"""Longest fork proof that is read: two notes and two inclusion proofs."""

_INDEX = re.compile(r"0|[1-9][0-9]{0,18}")


class Leaves(Protocol):
    """A tree that shows its leaves and proves them (`ledger.tile_tree.TileTree`)."""

    size: int

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first `size` leaves."""

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Prove that a leaf is in the tree of `size` leaves."""

    def range_hash(self, start: int, stop: int) -> bytes:
        """Hash leaves start to stop."""


@dataclass(frozen=True)
class View:
    """One side of a fork.

    Attributes:
        checkpoint: the signed note.
        leaf: leaf hash at the fork's index; None where the roots alone tell.
        hashes: inclusion proof of that leaf.
    """

    checkpoint: bytes
    leaf: bytes | None = None
    hashes: tuple[bytes, ...] = ()

    @property
    def head(self) -> Checkpoint:
        """The tree head, its signature not verified.

        Raises:
            NoteError: the note is no checkpoint.
        """
        return checkpoints.parse(note.split_unverified(self.checkpoint)[0])


@dataclass(frozen=True)
class Fork:
    """A fork proof as the file holds it; its signatures are not verified.

    Attributes:
        views: of the smaller tree first; of one size, the smaller root first.
        index: the leaf that differs; None for two roots of one size.

    Raises:
        ProofError: it shows no fork, whoever signed it; or it is not in this order.
        NoteError: a checkpoint is malformed.
    """

    views: tuple[View, View]
    index: int | None = None

    def __post_init__(self) -> None:
        first, second = (view.head for view in self.views)
        if first.origin != second.origin:
            raise ProofError("the checkpoints of the fork proof are of two different logs")
        if (first.size, first.root) >= (second.size, second.root):
            raise ProofError("the checkpoints of the fork proof are the same, or not in order")
        if (self.index is None) != (first.size == second.size):
            raise ProofError("a fork proof has an index exactly where the sizes differ")
        if self.index is not None:
            self._check_leaves(self.index)
        elif any(view.leaf is not None or view.hashes for view in self.views):
            raise ProofError("a fork proof of one size has no leaves")

    def _check_leaves(self, index: int) -> None:
        leaves = set()
        for view in self.views:
            if view.leaf is None:
                raise ProofError("a fork proof of two sizes lacks a leaf")
            head = view.head
            verify_inclusion(view.leaf, index, head.size, view.hashes, head.root)
            leaves.add(view.leaf)
        if len(leaves) != 2:
            raise ProofError(f"both sides of the fork proof have the same leaf {index}")

    def to_bytes(self) -> bytes:
        """Write the proof as a file."""
        parts = [HEADING if self.index is None else f"{HEADING}\nindex {self.index}"]
        for view in self.views:
            if view.leaf is not None:
                lines = (f"leaf {b64encode(view.leaf)}", *map(b64encode, view.hashes))
                parts.append("\n".join(lines))
            parts.append(view.checkpoint.decode().removesuffix("\n"))
        return ("\n\n".join(parts) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Fork:
        """Read a fork proof strictly.

        Raises:
            ProofError: outside the format, or it shows no fork.
            NoteError: a checkpoint in it is malformed.
        """
        if len(data) > MAX_BYTES:
            raise ProofError(f"a fork proof of {len(data)} bytes is longer than {MAX_BYTES}")
        try:
            parts = data.decode("utf-8").removesuffix("\n").split("\n\n")
        except UnicodeDecodeError as error:
            raise ProofError(f"the fork proof is not UTF-8 at byte {error.start}") from None
        heading, _, index = parts.pop(0).partition("\nindex ")
        if heading != HEADING or (index and not _INDEX.fullmatch(index)):
            raise ProofError(f"the fork proof does not begin with {HEADING}")
        width = 3 if index else 2
        if len(parts) != 2 * width:
            raise ProofError("a fork proof has two checkpoints, each in its place")
        first, second = (_view(parts[at : at + width]) for at in (0, width))
        fork = cls((first, second), int(index) if index else None)
        if fork.to_bytes() != data:
            raise ProofError("the fork proof is not written as it should be")
        return fork


@dataclass(frozen=True)
class Forked:
    """What a verified fork proof shows.

    Attributes:
        origin: the log.
        heads: both tree heads, the smaller first.
        keys: the key of the log that signed each.
        index: the first leaf shown to differ; None for two roots of one size.
    """

    origin: str
    heads: tuple[Checkpoint, Checkpoint]
    keys: tuple[VerifyKey, VerifyKey]
    index: int | None


def open_fork(data: bytes, *keys: VerifyKey) -> Forked:
    """Return what a fork proof shows, only if the log's own key signed both sides.

    Args:
        data: the file.
        keys: the log's key from elsewhere; several for a log that changed it.

    Raises:
        ProofError: malformed, or no fork.
        NoteError: a checkpoint is malformed, or of another log than its key's.
        SignatureError: a signature in the name of a key does not verify.
        TrustError: none of the keys signed.
    """
    fork = Fork.from_bytes(data)
    first, second = (_opened(view, keys) for view in fork.views)
    heads = (fork.views[0].head, fork.views[1].head)
    return Forked(heads[0].origin, heads, (first, second), fork.index)


def compare(one: tuple[bytes, Leaves | None], other: tuple[bytes, Leaves | None]) -> Fork | None:
    """Compare two views of one log and return the fork, None where one extends the other.

    Args:
        one: a signed checkpoint, and the tree that belongs to it. The tree may be missing where
            the other is of the same size. Signatures are not looked at.
        other: the same of the other view.

    Raises:
        ProofError: the views are of two logs, or a tree does not have the root that its checkpoint
            says (the folder is damaged).
        EvidenceError: the tree of the larger view is missing.
        UnprovenForkError: they fork, but the tree of the smaller view is missing.
        NoteError: a checkpoint is malformed.
        EncodingError: a tile is damaged.
    """
    pairs = sorted((one, other), key=lambda pair: _order(pair[0]))
    (first, small), (second, large) = pairs
    heads = View(first).head, View(second).head
    if heads[0].origin != heads[1].origin:
        raise ProofError(
            f"two logs, not one: {heads[0].origin[:80]!r} and {heads[1].origin[:80]!r}"
        )
    if heads[0].size == heads[1].size:
        return None if heads[0].root == heads[1].root else Fork((View(first), View(second)))
    if heads[0].size == 0:
        return None
    if large is None:
        raise EvidenceError(
            f"whether {heads[1].size} entries begin with these {heads[0].size} cannot be told from "
            "two checkpoints: give the exported folder of the larger"
        )
    _check_tree(heads[1], large)
    if large.root(heads[0].size) == heads[0].root:
        return None
    if small is None:
        raise UnprovenForkError(
            f"the log of {heads[1].size} entries does not extend its checkpoint of "
            f"{heads[0].size}: two histories. A proof for others takes the tiles behind both: give "
            "the exported folder of the smaller too"
        )
    _check_tree(heads[0], small)
    index = _first_difference(small, large, heads[0].size)
    sides = ((first, small, heads[0].size), (second, large, heads[1].size))
    views = [_side(signed, tree, size, index) for signed, tree, size in sides]
    return Fork((views[0], views[1]), index)


def _side(signed: bytes, tree: Leaves, size: int, index: int) -> View:
    return View(signed, tree.range_hash(index, index + 1), tree.inclusion(index, size))


def _order(signed: bytes) -> tuple[int, bytes]:
    head = View(signed).head
    return head.size, head.root


def _check_tree(head: Checkpoint, tree: Leaves) -> None:
    if tree.root(head.size) != head.root:
        raise ProofError(
            f"the tiles of the view of {head.size} entries do not have the root that its "
            "checkpoint says: it is damaged, so it shows nothing about the log"
        )


def _first_difference(small: Leaves, large: Leaves, size: int) -> int:
    """Return the first leaf that differs, knowing that one of the first `size` does."""
    start, stop = 0, size
    while stop - start > 1:
        middle = start + split(stop - start)
        if small.range_hash(start, middle) != large.range_hash(start, middle):
            stop = middle
        else:
            start = middle
    return start


def _opened(view: View, keys: Sequence[VerifyKey]) -> VerifyKey:
    """Return the log's key that signed a view's checkpoint."""
    named = view.head.origin
    own = [key for key in note.open_note(view.checkpoint, keys).verified if key.name == named]
    if not own:
        raise NoteError(f"the key that signed is not of the log {named[:80]!r}")
    return own[0]


def _view(parts: list[str]) -> View:
    signed = "\n\n".join(parts[-2:]) + "\n"
    if len(parts) == 2:
        return View(signed.encode())
    leaf, *hashes = parts[0].split("\n")
    if not leaf.startswith("leaf ") or len(hashes) > MAX_HASHES:
        raise ProofError("a leaf of the fork proof and its hashes are not in their place")
    decoded = list(_hashes([leaf.removeprefix("leaf "), *hashes]))
    return View(signed.encode(), decoded[0], tuple(decoded[1:]))


def _hashes(lines: Sequence[str]) -> Iterator[bytes]:
    for line in lines:
        try:
            data = b64decode(line)
        except EncodingError as error:
            raise ProofError(f"a hash of the fork proof: {error}") from None
        if len(data) != HASH_BYTES:
            raise ProofError(f"a hash of the fork proof has not {HASH_BYTES} bytes")
        yield data
