"""Checkpoints: a log's signed word for its size and root (C2SP tlog-checkpoint).

    example.com/behind-the-sofa
    20852163
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhc…

Decides whether a log's key signed a tree head for its own origin. Does not decide whether the head
is consistent with an earlier one (`ledger.merkle`) or fresh.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger import note
from ledger.encoding import b64decode, b64encode
from ledger.errors import EncodingError, NoteError
from ledger.merkle import EMPTY_ROOT, HASH_BYTES, MAX_SIZE

if TYPE_CHECKING:
    from ledger.keys import SigningKey, VerifyKey

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")
_CONTROL = re.compile(r"[\x00-\x1f]")


@dataclass(frozen=True)
class Checkpoint:
    """A tree head.

    Attributes:
        origin: the log's unique name, one non-empty line.
        size: number of entries, 0 to 2^63-1.
        root: 32-byte root of the tree of that size (RFC 6962).
        extensions: further non-empty lines, kept as they are and given no meaning.

    Raises:
        NoteError: when a field cannot be written on its line.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_line(self.origin, "origin")
        for number, line in enumerate(self.extensions, start=4):
            _check_line(line, f"line {number}")
        if not 0 <= self.size <= MAX_SIZE:
            raise NoteError(f"checkpoint size {self.size} is not between 0 and 2^63-1")
        if len(self.root) != HASH_BYTES:
            raise NoteError(f"checkpoint root has {len(self.root)} bytes, not 32")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise NoteError("checkpoint of size 0 does not have the root of the empty tree")

    def text(self) -> str:
        """Write the tree head as the text of a note."""
        lines = (self.origin, str(self.size), b64encode(self.root), *self.extensions)
        return "".join(line + "\n" for line in lines)


def parse(text: str) -> Checkpoint:
    """Read the text of a checkpoint, as `Checkpoint.text` writes it.

    Raises:
        NoteError: for any other text; the message names the line.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1]:
        raise NoteError("a checkpoint has at least three lines, each ending in a newline")
    origin, size, root, *extensions = lines[:-1]
    if not _DECIMAL.fullmatch(size):
        raise NoteError("checkpoint size (line 2) is not a decimal without sign or leading zeros")
    try:
        root_hash = b64decode(root)
    except EncodingError as error:
        raise NoteError(f"checkpoint root (line 3): {error}") from None
    return Checkpoint(origin, int(size), root_hash, tuple(extensions))


def sign(checkpoint: Checkpoint, key: SigningKey) -> bytes:
    """Sign a tree head and return the whole note.

    The caller must know that the tree is durable and consistent with every head signed before: a
    signature cannot be taken back.

    Raises:
        NoteError: when the origin is not the name of the key.
    """
    _check_origin(checkpoint, key.name)
    return note.sign(checkpoint.text(), [key])


def open_checkpoint(data: bytes, key: VerifyKey) -> Checkpoint:
    """Return the tree head only if the log's key signed it for the log's own origin.

    Raises:
        NoteError: when the bytes are not a checkpoint, or the origin is not the name of the key.
        SignatureError: when the signature in the name of the key does not verify.
        TrustError: when the key did not sign.
    """
    checkpoint = parse(note.open_note(data, [key]).text)
    _check_origin(checkpoint, key.name)
    return checkpoint


def _check_origin(checkpoint: Checkpoint, name: str) -> None:
    # One key signing for two origins could present one log as the other.
    if checkpoint.origin != name:
        raise NoteError(
            f"checkpoint origin {checkpoint.origin[:80]!r} is not the key's name {name[:80]!r}"
        )


def _check_line(line: str, what: str) -> None:
    if not line:
        raise NoteError(f"checkpoint {what} is empty")
    if _CONTROL.search(line):
        raise NoteError(f"checkpoint {what} holds a newline or another control character")
