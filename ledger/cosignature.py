"""Cosignatures: a witness's word that it saw a checkpoint, and when (C2SP tlog-cosignature).

    — witness.example/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2o…

Decides whether a cosigner's key signed this tree head at this time. Does not decide which cosigners
count, or how many (`ledger.trust`), or when a witness may sign at all (`ledger.witness`).

    >>> line = cosign(signed_checkpoint, key, 1_767_225_600)
    >>> note = attach(signed_checkpoint, [line])
    >>> text, lines = split_unverified(note)
    >>> verify_cosignature(text, lines[-1], key.verify_key)
    1767225600

A time of 0 is no time: the cosigner then says that the head is consistent with all it saw, and not
that it was the newest.
"""

from __future__ import annotations

from collections.abc import Iterable

from ledger import checkpoint as checkpoints
from ledger.encoding import b64encode
from ledger.errors import NoteError, SignatureError
from ledger.keys import COSIGNATURE_ED25519, COSIGNATURE_MLDSA, CosignatureKey, CosigningKey
from ledger.note import Signature, split_unverified

MAX_TIME = 2**63 - 1
"""Latest time that may be written, Unix seconds."""

_TIME_BYTES = 8
_ED25519_HEADER = "cosignature/v1\n"
_MLDSA_LABEL = b"subtree/v1\n\x00"
_SIGNATURE_BYTES = {COSIGNATURE_ED25519: 64, COSIGNATURE_MLDSA: 2420}


def cosign(signed: bytes, key: CosigningKey, time: int) -> bytes:
    """Return a cosignature of a checkpoint as one line of a note.

    The caller must know that the tree extends every one it cosigned before, and must have that on
    disk: a signature cannot be taken back.

    Args:
        signed: a checkpoint with any signatures; they are not looked at.
        key: the cosigner's.
        time: Unix seconds.

    Raises:
        NoteError: the bytes are no checkpoint, or name or origin are too long for ML-DSA-44.
    """
    text, _ = split_unverified(signed)
    if not 0 <= time <= MAX_TIME:
        raise NoteError(f"the time of a cosignature is not between 0 and 2^63-1: {time}")
    signature = key.sign(_message(text, key.verify_key, time))
    raw = key.verify_key.key_id + time.to_bytes(_TIME_BYTES, "big") + signature
    return f"\u2014 {key.name} {b64encode(raw)}\n".encode()


def verify_cosignature(text: str, line: Signature, key: CosignatureKey) -> int:
    """Return the time of a cosignature, Unix seconds, only if the key signed this text at it.

    Args:
        text: the text of a checkpoint, with its final newline, as `split_unverified` returns it.
        line: a signature line of the same note.
        key: a cosigner's.

    Raises:
        SignatureError: the line is another key's, or was not made for this text and time.
        NoteError: the text is no checkpoint.
        UnsupportedKeyError: the library here knows no ML-DSA-44.
    """
    if (line.name, line.key_id) != (key.name, key.key_id):
        raise SignatureError(f"the cosignature is not in the name of the key of {key.name!r}")
    if len(line.signature) != _TIME_BYTES + _SIGNATURE_BYTES[key.algorithm]:
        raise SignatureError(f"the cosignature of {key.name!r} has another length than its kind")
    time = int.from_bytes(line.signature[:_TIME_BYTES], "big")
    if time > MAX_TIME:
        raise SignatureError(f"the cosignature of {key.name!r} has a time beyond 2^63-1")
    key.verify(_message(text, key, time), line.signature[_TIME_BYTES:])
    return time


def attach(signed: bytes, lines: Iterable[bytes]) -> bytes:
    """Return a note with more signature lines after its own.

    Raises:
        NoteError: the note or a line is outside the format, or the whole grows too long.
    """
    whole = signed + b"".join(lines)
    before, after = split_unverified(signed), split_unverified(whole)
    if before[0] != after[0] or before[1] != after[1][: len(before[1])]:
        raise NoteError("a cosignature is not a line of a note")
    return whole


def _message(text: str, key: CosignatureKey, time: int) -> bytes:
    """Return what a cosigner signs: the text itself, or origin, size and root alone."""
    head = checkpoints.parse(text)
    if key.algorithm == COSIGNATURE_ED25519:
        return f"{_ED25519_HEADER}time {time}\n{text}".encode()
    return b"".join(
        (
            _MLDSA_LABEL,
            _short(key.name, "the cosigner's name"),
            time.to_bytes(8, "big"),
            _short(head.origin, "the log's origin"),
            # A checkpoint is the subtree from leaf 0 to its size.
            (0).to_bytes(8, "big"),
            head.size.to_bytes(8, "big"),
            head.root,
        )
    )


def _short(value: str, what: str) -> bytes:
    data = value.encode("utf-8")
    if not 1 <= len(data) <= 255:
        raise NoteError(f"{what} has {len(data)} bytes; an ML-DSA-44 cosignature takes 1 to 255")
    return bytes([len(data)]) + data
