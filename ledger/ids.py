"""Content ids: a statement is named by what it says and who signed it.

    receipt:6b1d…   the kind, a colon, and 64 hex digits of the hash of the signed envelope

Two different envelopes never share an id, so an id in one statement fixes the other for good.
Whether a statement with that id exists, or is valid, is decided elsewhere.
"""

from __future__ import annotations

import re

from ledger.encoding import digest
from ledger.errors import EncodingError

NAMESPACE = "rongshu/statement-id/v1"

_KIND = re.compile(r"[a-z][a-z_]{0,31}")
_ID = re.compile(r"([a-z][a-z_]{0,31}):([0-9a-f]{64})")


def statement_id(kind: str, envelope: bytes) -> str:
    """Name a signed envelope.

    Args:
        kind: kind of statement, lower-case letters and underscores.
        envelope: the canonical bytes of the whole envelope, signatures included.

    Raises:
        EncodingError: for a kind that could not be read back from the id.
    """
    if not _KIND.fullmatch(kind):
        raise EncodingError(f"{kind[:80]!r} is no kind of statement")
    return f"{kind}:{digest(NAMESPACE, envelope).hex()}"


def parse_id(text: str) -> tuple[str, str]:
    """Split an id into its kind and its 64 hex digits.

    Raises:
        EncodingError: for anything that `statement_id` would not have written.
    """
    match = _ID.fullmatch(text)
    if match is None:
        raise EncodingError(f"{text[:80]!r} is no statement id (kind:64 lower-case hex digits)")
    return match[1], match[2]


def short(text: str) -> str:
    """Shorten an id to its kind and 12 hex digits, for people; never compare short forms.

    Raises:
        EncodingError: as `parse_id`.
    """
    kind, hexadecimal = parse_id(text)
    return f"{kind}:{hexadecimal[:12]}"
