"""Signed envelopes: exactly these bytes, exactly these keys, exactly this purpose."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.encoding import canonical
from ledger.errors import SignatureError, StatementError
from ledger.statements import envelope
from tests.drafts import key_of

KEY, SECOND, STRANGER = (key_of(f"{name}.example") for name in ("one", "two", "three"))
TYPE = envelope.payload_type("offer")
PAYLOAD = {"price_cents": 5, "words": "蓉数"}
SIGNED = envelope.sign(TYPE, PAYLOAD, KEY)
BOTH = envelope.sign(TYPE, PAYLOAD, KEY, SECOND)


def test_what_was_signed_is_what_is_opened():
    assert envelope.open_(SIGNED, TYPE, KEY.verify_key) == PAYLOAD
    assert envelope.open_(BOTH, TYPE, SECOND.verify_key, KEY.verify_key) == PAYLOAD


def test_the_format_is_dsse():
    # https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md, worked by hand.
    value = json.loads(SIGNED)
    body = base64.b64decode(value["payload"])
    message = b"DSSEv1 %d %s %d %s" % (len(TYPE), TYPE.encode(), len(body), body)
    KEY.verify_key.verify(message, base64.b64decode(value["signatures"][0]["sig"]))
    assert body == canonical(PAYLOAD)
    assert value["signatures"][0]["keyid"] == KEY.verify_key.fingerprint


def test_missing_surplus_and_strange_signatures_are_refused():
    for data, keys in (
        (SIGNED, (KEY, SECOND)),
        (BOTH, (KEY,)),
        (SIGNED, (STRANGER,)),
        (SIGNED, ()),
    ):
        with pytest.raises(SignatureError, match="expected"):
            envelope.open_(data, TYPE, *(key.verify_key for key in keys))


def test_a_signature_for_one_purpose_does_not_serve_another():
    other = envelope.payload_type("agreement")
    with pytest.raises(StatementError, match="signed as"):
        envelope.open_(SIGNED, other, KEY.verify_key)
    moved = SIGNED.replace(TYPE.encode(), other.encode())
    with pytest.raises(SignatureError, match="does not verify"):
        envelope.open_(moved, other, KEY.verify_key)


def test_countersigning_adds_one_signature_and_changes_nothing_else():
    assert envelope.countersign(SIGNED, SECOND) == BOTH
    assert envelope.countersign(BOTH, SECOND) == BOTH
    with pytest.raises(StatementError):
        envelope.countersign(b"{}", SECOND)


def test_an_envelope_travels_inside_json_and_comes_back_as_the_same_bytes():
    value = envelope.as_json(envelope.raw_open(BOTH))
    assert envelope.from_json(json.loads(json.dumps(value))) == BOTH
    with pytest.raises(StatementError, match="malformed"):
        envelope.from_json({"x": float("nan")})


def rewritten(change: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(BOTH)
    change(value)
    return canonical(value)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        SIGNED + b"\n",
        b" " + SIGNED,
        SIGNED[:-1],
        SIGNED.replace(b'":"', b'": "', 1),
        b"[" * 500_000,
        b'{"a":' * 100_000,
        b"x" * (envelope.MAX_ENVELOPE + 1),
        rewritten(lambda value: value.update(extra=1)),
        rewritten(lambda value: value.pop("payloadType")),
        rewritten(lambda value: value.update(payloadType=5)),
        rewritten(lambda value: value.update(payload="!")),
        rewritten(lambda value: value.update(payload=value["payload"][:-1])),
        rewritten(lambda value: value.update(payload=encoded(b"[1]"))),
        rewritten(lambda value: value.update(payload=encoded(b'{"a": 1}'))),
        rewritten(lambda value: value.update(payload=encoded(b'{"a":1,"a":1}'))),
        rewritten(lambda value: value.update(payload=encoded(b"[" * 500_000))),
        rewritten(lambda value: value.update(signatures=[])),
        rewritten(lambda value: value.update(signatures={})),
        rewritten(lambda value: value.update(signatures=value["signatures"] * 5)),
        rewritten(lambda value: value["signatures"].reverse()),
        rewritten(lambda value: value.update(signatures=value["signatures"][:1] * 2)),
        rewritten(lambda value: value["signatures"][0].update(more=1)),
        rewritten(lambda value: value["signatures"][0].update(keyid=None)),
        rewritten(lambda value: value["signatures"][0].update(sig="====")),
    ],
)
def test_what_is_no_envelope_is_refused(data: bytes):
    with pytest.raises(StatementError):
        envelope.raw_open(data)


@given(st.integers(0, len(BOTH) - 1), st.integers(1, 255))
def test_no_changed_byte_is_accepted(place: int, step: int):
    damaged = bytearray(BOTH)
    damaged[place] = (damaged[place] + step) % 256
    with pytest.raises((StatementError, SignatureError)):
        envelope.open_(bytes(damaged), TYPE, KEY.verify_key, SECOND.verify_key)


def test_a_signature_of_another_length_is_refused():
    short = rewritten(lambda value: value["signatures"][0].update(sig=encoded(b"short")))
    with pytest.raises(SignatureError):
        envelope.open_(short, TYPE, KEY.verify_key, SECOND.verify_key)
