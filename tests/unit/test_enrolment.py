"""A node's enrolment and its key towards the SuperLink: each accepted once, then changed."""

import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, verify_signature

from federated.enrolment import ENROLMENT_TYPE, NodeEnrolment, code_digest, open_enrolment
from federated.errors import NodeError, PresenceError
from federated.fleet_key import FleetKey
from ledger.statements import envelope
from tests.drafts import key_of

KEY = key_of("node")
ASSET = "asset:" + "1" * 64
CODE = "rsn_" + "0" * 64
FLEET = FleetKey.generate().public
SIGNED = NodeEnrolment(ASSET, code_digest(CODE), FLEET).sign(KEY)


def test_an_enrolment_names_asset_code_and_key():
    found = open_enrolment(SIGNED, KEY.verify_key, asset=ASSET, code=CODE)
    assert found == NodeEnrolment(ASSET, code_digest(CODE), FLEET)
    # A code is as good as a key until it is used: the signed text does not hold it.
    assert CODE.encode() not in SIGNED


def test_with_another_code_it_is_refused():
    with pytest.raises(PresenceError, match="another node or code"):
        open_enrolment(SIGNED, KEY.verify_key, asset=ASSET, code="rsn_" + "1" * 64)


def test_for_another_asset_it_is_refused():
    with pytest.raises(PresenceError, match="another node or code"):
        open_enrolment(SIGNED, KEY.verify_key, asset="asset:" + "2" * 64, code=CODE)


def test_signed_by_another_node_it_is_refused():
    with pytest.raises(PresenceError):
        open_enrolment(SIGNED, key_of("other").verify_key, asset=ASSET, code=CODE)


def test_a_signature_for_another_purpose_is_refused():
    payload = envelope.open_(SIGNED, ENROLMENT_TYPE, KEY.verify_key)
    signed = envelope.sign("application/vnd.rongshu.other", payload, KEY)
    with pytest.raises(PresenceError):
        open_enrolment(signed, KEY.verify_key, asset=ASSET, code=CODE)


@pytest.mark.parametrize("change", [{"fleet_key": "?"}, {"fleet_key": None}, {"more": ""}], ids=str)
def test_a_malformed_one_is_refused(change: dict[str, object]):
    payload = envelope.open_(SIGNED, ENROLMENT_TYPE, KEY.verify_key)
    signed = envelope.sign(ENROLMENT_TYPE, payload | change, KEY)
    with pytest.raises(PresenceError):
        open_enrolment(signed, KEY.verify_key, asset=ASSET, code=CODE)


def test_a_fleet_key_signs_as_flower_verifies():
    key = FleetKey.generate()
    public = bytes_to_public_key(key.public)
    signature = key.sign(b"the time")
    assert verify_signature(public, b"the time", signature)
    assert not verify_signature(public, b"another time", signature)
    other = bytes_to_public_key(FleetKey.generate().public)
    assert not verify_signature(other, b"the time", signature)


def test_a_fleet_key_is_kept_for_its_owner_alone(tmp_path: Path):
    key, path = FleetKey.generate(), tmp_path / "fleet.key"
    before = os.umask(0)
    try:
        key.save(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert FleetKey.load(path).public == key.public
    assert "PRIVATE" not in repr(key)
    with pytest.raises(FileExistsError):
        FleetKey.generate().save(path)
    assert FleetKey.load(path).public == key.public


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _public(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, **form: Any) -> bytes:
    as_flower = {
        "encoding": serialization.Encoding.PEM,
        "format": serialization.PublicFormat.SubjectPublicKeyInfo,
    }
    return key.public_key().public_bytes(**(as_flower | form))


@pytest.mark.parametrize(
    "public",
    [
        b"",
        FLEET + b"\n",
        _public(rsa.generate_private_key(65537, 2048)),
        _public(ec.generate_private_key(ec.SECP256R1())),
        _public(ec.generate_private_key(ec.SECP384R1()), encoding=serialization.Encoding.DER),
    ],
    ids=["nothing", "one byte more", "another kind", "another curve", "another form"],
)
def test_what_is_no_key_of_the_kind_is_refused(public: bytes):
    signed = NodeEnrolment(ASSET, code_digest(CODE), public).sign(KEY)
    with pytest.raises(PresenceError, match="key"):
        open_enrolment(signed, KEY.verify_key, asset=ASSET, code=CODE)


@pytest.mark.parametrize("held", ["nothing", "text", "another kind", "another curve"])
def test_a_file_that_holds_another_thing_is_refused(tmp_path: Path, held: str):
    path = tmp_path / "fleet.key"
    if held == "text":
        path.write_text("no key")
    if held == "another kind":
        path.write_bytes(_pem(rsa.generate_private_key(65537, 2048)))
    if held == "another curve":
        path.write_bytes(_pem(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(NodeError, match=r"fleet\.key"):
        FleetKey.load(path)
