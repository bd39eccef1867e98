"""Signed envelopes: DSSE over canonical JSON.

Decides whether named keys signed exactly these bytes for exactly this purpose (the payload type).
Does not decide whether those keys were the right ones to sign: `ledger.rules` does.

Format: https://github.com/secure-systems-lab/dsse/blob/v1.0.0/envelope.md, canonical JSON
(RFC 8785) for the envelope and for the payload inside, signatures ordered by key id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ledger.encoding import b64decode, b64decode_ascii, b64encode, canonical, parse
from ledger.errors import EncodingError, SignatureError, StatementError
from ledger.keys import SigningKey, VerifyKey

MAX_ENVELOPE = 1 << 20
MAX_SIGNATURES = 8

# What nearly every envelope looks like: nothing in it needs an escape.
_SIGNATURE = rb'\{"keyid":"([A-Za-z0-9+/:]*)","sig":"([A-Za-z0-9+/]*={0,2})"\}'
_PLAIN_SIGNATURE = re.compile(_SIGNATURE)
_PLAIN = re.compile(
    rb'\{"payload":"([A-Za-z0-9+/]*={0,2})","payloadType":"([A-Za-z0-9./+_-]*)","signatures":\[('
    + _SIGNATURE.replace(rb"(", rb"(?:")
    + rb"(?:,"
    + _SIGNATURE.replace(rb"(", rb"(?:")
    + rb")*+)\]\}"
)


@dataclass(frozen=True)
class RawEnvelope:
    """An envelope that is well formed and *not verified*."""

    payload_type: str
    body: bytes
    payload: dict[str, Any]
    signatures: tuple[tuple[str, bytes], ...]


def payload_type(kind: str, version: int = 1) -> str:
    """Return the media type that separates one kind of signed payload from every other."""
    return f"application/vnd.rongshu.{kind}.v{version}+json"


def sign(media_type: str, payload: dict[str, Any], *keys: SigningKey) -> bytes:
    """Sign a payload with every key given.

    Raises:
        EncodingError: the payload has no canonical form.
    """
    body = canonical(payload)
    return _assemble(
        media_type, body, {_key_id(key.verify_key): _sign(media_type, body, key) for key in keys}
    )


def countersign(data: bytes, key: SigningKey) -> bytes:
    """Add one signature to an envelope that others signed already.

    Raises:
        StatementError: the envelope is malformed.
    """
    raw = raw_open(data)
    signatures = dict(raw.signatures)
    signatures[_key_id(key.verify_key)] = _sign(raw.payload_type, raw.body, key)
    return _assemble(raw.payload_type, raw.body, signatures)


def open_(data: bytes, media_type: str, *keys: VerifyKey) -> dict[str, Any]:
    """Verify an envelope and return its payload.

    It must carry the signatures of all the keys given and no others.

    Raises:
        StatementError: malformed, or of another payload type.
        SignatureError: a signature is missing, surplus or wrong.
    """
    raw = raw_open(data)
    if raw.payload_type != media_type:
        raise StatementError(f"signed as {raw.payload_type}, expected {media_type}")
    verify_raw(raw, *keys)
    return raw.payload


def verify_raw(raw: RawEnvelope, *keys: VerifyKey) -> None:
    """Return only if an envelope carries the signatures of all these keys and no others.

    Raises:
        SignatureError: a signature is missing, surplus or wrong.
    """
    expected = {_key_id(key): key for key in keys}
    present = {key_id for key_id, _ in raw.signatures}
    if not expected or present != set(expected):
        raise SignatureError(f"signed by {_names(present)}, expected {_names(set(expected))}")
    message = _pre_authentication(raw.payload_type, raw.body)
    for key_id, signature in raw.signatures:
        expected[key_id].verify(message, signature)


def raw_open(data: bytes) -> RawEnvelope:
    """Read an envelope without verifying any signature.

    Raises:
        StatementError: not one canonical envelope.
    """
    match = _PLAIN.fullmatch(data) if len(data) <= MAX_ENVELOPE else None
    try:
        if match is not None:
            # Such bytes are canonical JSON; what is left to check is what they hold.
            body = b64decode_ascii(match[1])
            signatures = _in_order(
                [
                    (key_id.decode(), b64decode_ascii(signature))
                    for key_id, signature in _PLAIN_SIGNATURE.findall(match[3])
                ]
            )
            return RawEnvelope(match[2].decode(), body, _payload(body), signatures)
        value = parse(data, limit=MAX_ENVELOPE)
        if not isinstance(value, dict) or set(value) != {"payload", "payloadType", "signatures"}:
            raise StatementError("an envelope has payload, payloadType and signatures, no more")
        body = b64decode(_text(value["payload"]))
        signatures = _signatures(value["signatures"])
        return RawEnvelope(_text(value["payloadType"]), body, _payload(body), signatures)
    except EncodingError as error:
        raise StatementError(f"malformed envelope: {error}") from error


def _payload(body: bytes) -> dict[str, Any]:
    payload = parse(body, limit=MAX_ENVELOPE)
    if not isinstance(payload, dict):
        raise StatementError("the payload is not an object")
    return payload


def _signatures(value: Any) -> tuple[tuple[str, bytes], ...]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_SIGNATURES:
        raise StatementError(f"an envelope has 1 to {MAX_SIGNATURES} signatures")
    found = []
    for item in value:
        if not isinstance(item, dict) or set(item) != {"keyid", "sig"}:
            raise StatementError("a signature has keyid and sig, no more")
        found.append((_text(item["keyid"]), b64decode(_text(item["sig"]))))
    return _in_order(found)


def _in_order(found: list[tuple[str, bytes]]) -> tuple[tuple[str, bytes], ...]:
    if len(found) > MAX_SIGNATURES:
        raise StatementError(f"an envelope has 1 to {MAX_SIGNATURES} signatures")
    order = [key_id for key_id, _ in found]
    if order != sorted(set(order)):
        raise StatementError("signatures are not in order of key id, each once")
    return tuple(found)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise StatementError("expected text in the envelope")
    return value


def _assemble(media_type: str, body: bytes, signatures: dict[str, bytes]) -> bytes:
    return canonical(
        {
            "payload": b64encode(body),
            "payloadType": media_type,
            "signatures": [
                {"keyid": key_id, "sig": b64encode(signature)}
                for key_id, signature in sorted(signatures.items())
            ],
        }
    )


def _sign(media_type: str, body: bytes, key: SigningKey) -> bytes:
    return key.sign(_pre_authentication(media_type, body))


def _pre_authentication(media_type: str, body: bytes) -> bytes:
    name = media_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(body), body)


def _key_id(key: VerifyKey) -> str:
    return key.fingerprint


def _names(key_ids: set[str]) -> str:
    return ", ".join(sorted(key_ids)) or "nobody"


def as_json(raw: RawEnvelope) -> dict[str, Any]:
    """Return an envelope as a JSON object, to be carried inside another statement."""
    data = _assemble(raw.payload_type, raw.body, dict(raw.signatures))
    value: dict[str, Any] = parse(data, limit=MAX_ENVELOPE)
    return value


def from_json(value: dict[str, Any]) -> bytes:
    """Return the bytes of an envelope that was carried as a JSON object; not verified.

    Raises:
        StatementError: it has no canonical form.
    """
    try:
        return canonical(value)
    except EncodingError as error:
        raise StatementError(f"malformed envelope: {error}") from error
