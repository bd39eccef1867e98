r"""A proof that one entry is in the log: one text file, verified offline (C2SP tlog-proof).

    c2sp.org/tlog-proof@v1
    extra eyJlbnRyeSI6eyJjb21taXRtZW50Ijoi…
    index 4
    3Rtl0u8YQPXa…
    IcYqFO6v2yWq…

    rongshu.example/log
    18
    2iJdLqU34Kx3dISbDuYkFq7Jh/Z2tz4hikXITRiwMcs=

    — rongshu.example/log 13RTZtOf…

Decides whether an entry is in a log that a policy trusts, and which statement stands behind it
where the file opens it. Does not decide whether the statement was allowed: that takes the entries
before it (`ledger.verify`). Nor who signed it, unless the caller has the keys:
`Proven.statement.verify`.

    >>> proven = verify(Path("use.tlog-proof").read_bytes(), Policy.of(key))
    >>> proven.entry.kind, proven.trusted.checkpoint.size
    ('receipt', 18)

The format leaves `extra` to the application. Here it carries the entry, and the opening where it is
disclosed: whoever gets the file reads the statement. Both are checked against the proof; nothing in
`extra` is believed. Format: FORMATS.md, section "Proof".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from ledger import checkpoint as checkpoints
from ledger import note, proof_file
from ledger.encoding import b64decode, b64encode, canonical, parse
from ledger.entry import Entry, Opening
from ledger.errors import (
    EncodingError,
    EntryError,
    EvidenceError,
    NoteError,
    ProofError,
    StatementError,
)
from ledger.merkle import HASH_BYTES, MAX_SIZE, leaf_hash, verify_inclusion
from ledger.statements import Unverified
from ledger.trust import Policy, Trusted

HEADING = "c2sp.org/tlog-proof@v1"

MAX_BYTES = 5_000_000
"""Longest proof that is read; an opened statement of the largest size fits."""

MAX_HASHES = 63
"""Most hashes of an inclusion proof, for sizes up to 2^63-1."""

_MAX_EXTRA = 3_000_000
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


class Hashes(Protocol):
    """A tree that can prove: `ledger.merkle.Tree` or `ledger.tile_tree.TileTree`."""

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first `size` leaves."""

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Prove that a leaf is in the tree of `size` leaves."""


@dataclass(frozen=True)
class Proof:
    """A proof as the file holds it, not verified.

    Attributes:
        index: position of the entry in the log.
        hashes: inclusion proof, from the leaf's sibling up; 32 bytes each.
        checkpoint: the signed note with its cosignatures.
        extra: bytes that nobody signed, or None.

    Raises:
        ProofError: a field that cannot be written.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.index < MAX_SIZE:
            raise ProofError(f"index {self.index} of the proof is not between 0 and 2^63-2")
        if len(self.hashes) > MAX_HASHES:
            raise ProofError(f"the proof has {len(self.hashes)} hashes, more than {MAX_HASHES}")
        if any(len(item) != HASH_BYTES for item in self.hashes):
            raise ProofError(f"a hash of the proof has not {HASH_BYTES} bytes")
        if self.extra == b"":
            raise ProofError("the extra data of the proof are empty; leave them out")
        try:
            checkpoints.parse(note.split_unverified(self.checkpoint)[0])
        except NoteError as error:
            raise ProofError(f"the checkpoint of the proof: {error}") from None

    def to_bytes(self) -> bytes:
        """Write the proof as a file.

        Raises:
            ProofError: it would be longer than `MAX_BYTES`.
        """
        lines = [] if self.extra is None else [f"extra {b64encode(self.extra)}"]
        lines.append(f"index {self.index}")
        lines.extend(b64encode(item) for item in self.hashes)
        return proof_file.write(HEADING, map(str.encode, lines), self.checkpoint, MAX_BYTES)

    @classmethod
    def from_bytes(cls, data: bytes) -> Proof:
        """Read a proof strictly.

        Raises:
            ProofError: outside the format; the message names the line.
        """
        found, checkpoint = proof_file.read(data, HEADING, MAX_BYTES)
        lines = [_ascii(line, number) for number, line in enumerate(found, 1)]
        extra = None
        at = 1
        if len(lines) > at and lines[at].startswith("extra "):
            extra = _base64(lines[at].removeprefix("extra "), at)
            at += 1
        if len(lines) <= at or not lines[at].startswith("index "):
            raise ProofError(f"line {at + 1} of the proof does not read: index NUMBER")
        index = lines[at].removeprefix("index ")
        if not _DECIMAL.fullmatch(index):
            raise ProofError(f"line {at + 1}: the index is not a decimal without leading zeros")
        if len(lines) - at - 1 > MAX_HASHES:
            raise ProofError(f"the proof has more than {MAX_HASHES} hashes")
        hashes = tuple(_base64(lines[here], here) for here in range(at + 1, len(lines)))
        return cls(int(index), hashes, checkpoint, extra)

    def verify(self, entry: bytes, policy: Policy, successions: Iterable[bytes] = ()) -> Trusted:
        """Return the checkpoint only if these bytes are the entry, in a log that is trusted.

        Args:
            entry: the leaf's bytes.
            policy: the log's key and the witnesses, from elsewhere.
            successions: signed changes of the log's key.

        Raises:
            ProofError: the proof does not lead from the entry to the root.
            NoteError, SignatureError, TrustError: as `Policy.open_checkpoint`.
        """
        trusted = policy.open_checkpoint(self.checkpoint, successions)
        head = trusted.checkpoint
        verify_inclusion(leaf_hash(entry), self.index, head.size, self.hashes, head.root)
        return trusted


@dataclass(frozen=True)
class Proven:
    """An entry that is in the log.

    Attributes:
        trusted: the checkpoint, who signed it and which witnesses saw it.
        entry: the entry.
        statement: what stands behind it, its signatures unverified; None where it stays sealed.
    """

    trusted: Trusted
    entry: Entry
    statement: Unverified | None


def make(
    tree: Hashes, index: int, entry: bytes, signed: bytes, opening: Opening | None = None
) -> Proof:
    """Prove one entry of a log.

    Args:
        tree: the log's tree; it may have grown beyond the checkpoint.
        index: position of the entry.
        entry: its bytes.
        signed: a checkpoint of the log with its cosignatures; signatures are not looked at here.
        opening: the statement behind the entry, to disclose it to whoever gets the proof.

    Raises:
        ProofError: the checkpoint does not cover the entry, or tree, entry, opening and checkpoint
            do not belong together.
        NoteError: the checkpoint is malformed.
    """
    head = checkpoints.parse(note.split_unverified(signed)[0])
    if not 0 <= index < head.size:
        raise ProofError(f"the checkpoint covers entries 0 to {head.size - 1}, not {index}")
    hashes = tree.inclusion(index, head.size)
    verify_inclusion(leaf_hash(entry), index, head.size, hashes, head.root)
    proof = Proof(index, hashes, signed, _extra(entry, opening))
    _reveal(proof, entry, opening)
    return proof


def verify(
    data: bytes,
    policy: Policy,
    *,
    entry: bytes | None = None,
    opening: Opening | None = None,
    successions: Iterable[bytes] = (),
) -> Proven:
    """Return an entry, and the statement behind it, only if they are proven.

    Args:
        data: the proof.
        policy: the log's key and the witnesses, from elsewhere.
        entry: the entry's bytes, for a proof that does not carry them.
        opening: the statement, for a proof that does not carry it.
        successions: signed changes of the log's key.

    Raises:
        ProofError: malformed, or it does not show what it claims.
        EvidenceError: the entry is neither in the proof nor given.
        NoteError, SignatureError, TrustError: as `Policy.open_checkpoint`.
    """
    proof = Proof.from_bytes(data)
    carried, inside = (None, None) if proof.extra is None else _read_extra(proof.extra)
    if entry is not None and carried is not None and entry != carried:
        raise ProofError("the proof carries another entry than the one given beside it")
    shown = entry if entry is not None else carried
    if shown is None:
        raise EvidenceError("the proof does not carry the entry; give it beside the proof")
    trusted = proof.verify(shown, policy, successions)
    return Proven(trusted, *_reveal(proof, shown, opening or inside))


def _reveal(proof: Proof, data: bytes, opening: Opening | None) -> tuple[Entry, Unverified | None]:
    try:
        entry = Entry.from_bytes(data)
        if entry.index != proof.index:
            raise ProofError(f"the proof is of entry {proof.index}, this one is {entry.index}")
        return entry, None if opening is None else opening.reveal(entry)
    except (EntryError, StatementError) as error:
        raise ProofError(f"entry {proof.index}: {error}") from error


def _extra(entry: bytes, opening: Opening | None) -> bytes:
    try:
        shown = parse(entry)
    except EncodingError as error:
        raise ProofError(f"the entry is malformed: {error}") from error
    return canonical({"entry": shown, "opening": None if opening is None else opening.to_json()})


def _read_extra(data: bytes) -> tuple[bytes | None, Opening | None]:
    """Return entry and opening; nothing where another application wrote its own."""
    try:
        value: Any = parse(data, limit=_MAX_EXTRA)
    except EncodingError:
        return None, None
    if not isinstance(value, dict) or set(value) != {"entry", "opening"}:
        return None, None
    try:
        opening = None if value["opening"] is None else Opening.from_json(value["opening"])
    except EntryError as error:
        raise ProofError(f"the extra data of the proof: {error}") from error
    return canonical(value["entry"]), opening


def _ascii(line: bytes, number: int) -> str:
    try:
        return line.decode("ascii")
    except UnicodeDecodeError:
        raise ProofError(f"line {number} of the proof is not ASCII") from None


def _base64(text: str, line: int) -> bytes:
    try:
        return b64decode(text)
    except EncodingError as error:
        raise ProofError(f"line {line + 1} of the proof: {error}") from None
