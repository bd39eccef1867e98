r"""Signed notes: a text, a blank line, and one line for each signature (C2SP signed-note).

    Ognuno sta solo sul cuor della terra

    — quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrM…

Decides whether a text was signed by a key that the caller already holds. Does not decide what the
text means, or which keys deserve trust. Signatures by unknown keys are ignored, as the format
demands, so that others can add theirs; one by a known key that does not verify spoils the note.

    >>> note = open_note(sign("hello\n", [key]), [key.verify_key])
    >>> note.text
    'hello\n'
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.encoding import b64decode, b64encode
from ledger.errors import EncodingError, NoteError, TrustError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.keys import SigningKey, VerifyKey

MAX_BYTES = 1_000_000
"""Longest note that is looked at, signatures included."""

MAX_SIGNATURES = 100
"""Most signatures on one note; the format asks for at least 16."""

_SEPARATOR = "\n\n"
_DASH = "\u2014 "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True)
class Signature:
    """One signature line, not verified.

    Attributes:
        name: key name as written.
        key_id: 4 bytes, a hint at the key.
        signature: the bytes after the key id; 64 for Ed25519, any number for other kinds.
    """

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True)
class Note:
    """A text that at least one known key has signed.

    Attributes:
        text: what was signed, with its final newline.
        verified: the known keys that signed, each once, in the order of the lines.
        signatures: all lines, those of unknown keys included.
    """

    text: str
    verified: tuple[VerifyKey, ...]
    signatures: tuple[Signature, ...]


def sign(text: str, keys: Sequence[SigningKey]) -> bytes:
    """Sign a text with each key and return the whole note.

    Args:
        text: non-empty, ending in a newline, without control characters other than newlines.
        keys: 1 to `MAX_SIGNATURES` keys, each once.

    Raises:
        NoteError: when the text or the number of keys does not fit the format.
    """
    if not text.endswith("\n"):
        raise NoteError("the text of a note must end in a newline")
    _check_characters(text)
    if not 1 <= len(keys) <= MAX_SIGNATURES:
        raise NoteError(f"a note needs 1 to {MAX_SIGNATURES} signatures, not {len(keys)}")
    if len({key.verify_key for key in keys}) != len(keys):
        raise NoteError("a note is signed by the same key twice")
    try:
        message = text.encode("utf-8")
    except UnicodeEncodeError:
        raise NoteError("the text of a note holds a lone surrogate") from None
    lines = [
        f"{_DASH}{key.name} {b64encode(key.verify_key.key_id + key.sign(message))}\n"
        for key in keys
    ]
    note = message + b"\n" + "".join(lines).encode("utf-8")
    if len(note) > MAX_BYTES:
        raise NoteError(f"a note of {len(note)} bytes is longer than the {MAX_BYTES} allowed")
    return note


def open_note(data: bytes, keys: Sequence[VerifyKey]) -> Note:
    """Return the text only if a known key signed it.

    Args:
        data: the whole note.
        keys: the keys known to the caller.

    Raises:
        NoteError: when the bytes are not a note, or two of the keys share name and key id.
        SignatureError: when a known key is named and any signature in its name does not verify.
        TrustError: when no known key is named.
    """
    known = _index(keys)
    text, signatures = split_unverified(data)
    message = text.encode("utf-8")
    verified: dict[VerifyKey, None] = {}
    for line in signatures:
        key = known.get((line.name, line.key_id))
        if key is not None:
            key.verify(message, line.signature)
            verified[key] = None
    if not verified:
        named = ", ".join(sorted({repr(line.name[:80]) for line in signatures})[:5])
        raise TrustError(f"no known key signed this note; it is signed in the name of {named}")
    return Note(text, tuple(verified), signatures)


def split_unverified(data: bytes) -> tuple[str, tuple[Signature, ...]]:
    """Take a note apart without checking any signature: the text may be anybody's.

    Raises:
        NoteError: when the bytes are not a note.
    """
    if len(data) > MAX_BYTES:
        raise NoteError(f"a note of {len(data)} bytes is longer than the {MAX_BYTES} allowed")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NoteError(f"the note is not UTF-8 at byte {error.start}") from None
    _check_characters(whole)
    # The last blank line separates: the text may hold blank lines, signature lines cannot.
    text, separator, tail = whole.rpartition(_SEPARATOR)
    if not separator or not tail:
        raise NoteError("the note has no blank line followed by signatures")
    if not tail.endswith("\n"):
        raise NoteError("the note does not end in a newline")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise NoteError(f"the note has {len(lines)} signatures, more than {MAX_SIGNATURES}")
    numbered = enumerate(lines, start=1)
    return text + "\n", tuple(_read_signature(line, number) for number, line in numbered)


def _read_signature(line: str, number: int) -> Signature:
    where = f"signature line {number} of the note"
    if not line.startswith(_DASH):
        raise NoteError(f"{where} does not start with an em dash and a space")
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not space or not name or "+" in name or any(c.isspace() for c in name):
        raise NoteError(f"{where} does not read name, space, base64")
    try:
        raw = b64decode(encoded)
    except EncodingError as error:
        raise NoteError(f"{where}: {error}") from None
    if len(raw) < 5:
        raise NoteError(f"{where} is too short for a key id and a signature")
    return Signature(name, raw[:4], raw[4:])


def _index(keys: Sequence[VerifyKey]) -> dict[tuple[str, bytes], VerifyKey]:
    known: dict[tuple[str, bytes], VerifyKey] = {}
    for key in keys:
        # A key id has 32 bits: somebody can make a second key that shares it.
        if known.setdefault((key.name, key.key_id), key) != key:
            raise NoteError(f"two known keys of {key.name!r} share the id {key.key_id.hex()}")
    return known


def _check_characters(text: str) -> None:
    match = _CONTROL.search(text)
    if match is not None:
        raise NoteError(f"the note holds a control character at character {match.start()}")
