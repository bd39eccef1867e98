"""Bytes that carry ciphertexts or keys: a digest first, then a strict form, SEAL last of all.

What it decides: that bytes are exactly those somebody named by their SHA-256 (a signed statement
does, elsewhere), that they are short enough, and that they have one canonical form. SEAL and
TenSEAL load damaged ciphertexts and contexts without complaint, so no byte reaches them before.
What it does not do: know who signed the digest.

    rongshu/ckks-columns/v1
    {"bodies":[54691,54688],"rows":3,...}
    (the bodies, one after the other)
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from privacy.errors import SealedBytesError

MAX_BYTES = 1 << 29
"""Longest container that is opened at all: 512 MiB."""

_MAX_HEADER = 1 << 21
_MAX_BODIES = 1 << 17


def digest(data: bytes) -> str:
    """SHA-256 as 64 lower-case hexadecimal digits: the name under which bytes are opened."""
    return hashlib.sha256(data).hexdigest()


def pack(namespace: str, fields: Mapping[str, Any], bodies: Sequence[bytes]) -> bytes:
    """Writes a container.

    Args:
        namespace: What it is, and in which version.
        fields: Plain JSON without floats; "bodies" is added.
        bodies: What SEAL wrote.
    """
    header = _canonical({**fields, "bodies": [len(body) for body in bodies]})
    return b"".join([namespace.encode(), b"\n", header, b"\n", *bodies])


def unpack(
    namespace: str, data: bytes, *, sha256: str, longest: int = MAX_BYTES
) -> tuple[dict[str, Any], list[bytes]]:
    """Opens what `pack` wrote, if it is the very one that was named.

    Args:
        namespace: What it must be.
        data: Unverified bytes.
        sha256: The digest it must have, from a source that is trusted.
        longest: Most bytes.

    Returns:
        The fields, without "bodies", and the bodies.

    Raises:
        SealedBytesError: If it is too long, has another digest, or another form. In this order.
    """
    if len(data) > longest:
        raise SealedBytesError(f"{len(data)} bytes are more than the {longest} that are opened")
    if not hmac.compare_digest(digest(data).encode(), sha256.encode()):
        raise SealedBytesError("these are not the bytes whose digest was named")
    first, _, rest = data[: len(namespace) + 2 + _MAX_HEADER].partition(b"\n")
    header, found, _ = rest.partition(b"\n")
    if first != namespace.encode() or not found:
        raise SealedBytesError(f"these bytes are not of {namespace}")
    fields = _parse(header)
    start = len(first) + 1 + len(header) + 1
    return fields, _cut(data, start, fields.pop("bodies", None))


def _canonical(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _parse(header: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(header)
        canonical = isinstance(fields, dict) and _canonical(fields) == header
    except (ValueError, RecursionError):
        raise SealedBytesError("the header is not JSON") from None
    if not isinstance(fields, dict) or not canonical:
        raise SealedBytesError("the header is not one canonical JSON object")
    return fields


def _cut(data: bytes, start: int, lengths: Any) -> list[bytes]:
    if (
        not isinstance(lengths, list)
        or len(lengths) > _MAX_BODIES
        or any(type(length) is not int or length < 1 for length in lengths)
        or start + sum(lengths) != len(data)
    ):
        raise SealedBytesError("the header does not say how the bytes after it are divided")
    bodies = []
    for length in lengths:
        bodies.append(data[start : start + length])
        start += length
    return bodies
