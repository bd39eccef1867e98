"""Ed25519 keys: which may exist, how they are written, how they rest on disk."""

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.encoding import b64encode
from ledger.errors import InvalidKeyError, SignatureError
from ledger.keys import SigningKey, VerifyKey

WYCHEPROOF = Path(__file__).parents[1] / "vectors/ledger/wycheproof/ed25519_test.json"
KEY = SigningKey.from_seed("clinic.example/node", bytes(range(32)))
P = 2**255 - 19
ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
SMALL_ORDER_Y = [0, 1, P - 1, ORDER_8, P - ORDER_8]


def wycheproof_cases() -> list[tuple[str, dict[str, str]]]:
    groups = json.loads(WYCHEPROOF.read_bytes())["testGroups"]
    return [(group["publicKey"]["pk"], case) for group in groups for case in group["tests"]]


def test_wycheproof():
    # This version of the vectors marks no case "acceptable": each one has a single right verdict.
    counts = {"valid": 0, "invalid": 0}
    for public, case in wycheproof_cases():
        message, signature = bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])
        try:
            VerifyKey("wycheproof", bytes.fromhex(public)).verify(message, signature)
            verdict = "valid"
        except (SignatureError, InvalidKeyError):
            verdict = "invalid"
        assert verdict == case["result"], case
        counts[verdict] += 1
    assert counts == {"valid": 88, "invalid": 63}


def test_a_signature_verifies_and_a_changed_one_does_not():
    signature = KEY.sign(b"message")
    KEY.verify_key.verify(b"message", signature)
    with pytest.raises(SignatureError, match=r"clinic\.example/node"):
        KEY.verify_key.verify(b"massage", signature)
    for position in range(64):
        damaged = bytearray(signature)
        damaged[position] ^= 1
        with pytest.raises(SignatureError):
            KEY.verify_key.verify(b"message", bytes(damaged))


@pytest.mark.parametrize("length", [0, 63, 65, 128])
def test_a_signature_of_another_length_is_refused(length: int):
    with pytest.raises(SignatureError):
        KEY.verify_key.verify(b"message", (KEY.sign(b"message") * 2)[:length])


@pytest.mark.parametrize("sign_bit", [0, 1 << 255])
@pytest.mark.parametrize("y", SMALL_ORDER_Y)
def test_small_order_keys_are_refused(y: int, sign_bit: int):
    public = (y | sign_bit).to_bytes(32, "little")
    with pytest.raises(InvalidKeyError, match="small order"):
        VerifyKey("weak", public)
    with pytest.raises(InvalidKeyError, match="small order"):
        VerifyKey.from_text(vkey_text("weak", public))


def test_the_library_alone_lets_one_signature_fit_every_message():
    # The twin: under the identity as public key, R = identity and S = 0 "sign" anything.
    identity = (1).to_bytes(32, "little")
    library_key = Ed25519PublicKey.from_public_bytes(identity)
    for message in (b"pay 1 cent", b"pay 1000000 euros"):
        library_key.verify(identity + bytes(32), message)
    with pytest.raises(InvalidSignature):
        library_key.verify(identity + bytes(31) + b"\1", b"pay 1 cent")


@pytest.mark.parametrize("sign_bit", [0, 1 << 255])
@pytest.mark.parametrize("excess", range(19))
def test_keys_with_a_second_spelling_are_refused(excess: int, sign_bit: int):
    public = (P + excess | sign_bit).to_bytes(32, "little")
    with pytest.raises(InvalidKeyError, match="not canonical"):
        VerifyKey("weak", public)
    with pytest.raises(InvalidKeyError, match="not canonical"):
        VerifyKey.from_text(vkey_text("weak", public))


def test_a_key_off_the_curve_is_refused():
    with pytest.raises(InvalidKeyError, match="not a point"):
        VerifyKey("weak", (2).to_bytes(32, "little"))
    VerifyKey("fine", (3).to_bytes(32, "little"))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_length_is_refused(length: int):
    with pytest.raises(InvalidKeyError, match="32 bytes"):
        VerifyKey("short", bytes(length))
    with pytest.raises(InvalidKeyError, match="32 bytes"):
        SigningKey.from_seed("short", bytes(length))


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a+b", "a\tb", "a\nb", "a\u00a0b", "a\u2028b", "a\x00b", "\ud800", "é" * 129],
)
def test_bad_names_are_refused(name: str):
    with pytest.raises(InvalidKeyError, match="name"):
        VerifyKey(name, KEY.verify_key.public)
    with pytest.raises(InvalidKeyError, match="name"):
        SigningKey.generate(name)


def vkey_text(name: str, public: bytes) -> str:
    key_id = hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]
    return f"{name}+{key_id.hex()}+{b64encode(b'%c' % 1 + public)}"


def test_text_forms_round_trip():
    key = KEY.verify_key
    assert key.text == vkey_text(key.name, key.public)
    assert VerifyKey.from_text(key.text) == key
    assert hash(VerifyKey.from_text(key.text)) == hash(key)
    assert VerifyKey("another", key.public) != key
    again = SigningKey.from_text(KEY.to_text())
    assert again.verify_key == key
    assert again.to_text() == KEY.to_text()


def test_the_key_of_the_c2sp_example_is_read():
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    key = VerifyKey.from_text(text)
    assert (key.name, key.key_id.hex(), key.text) == ("PeterNeumann", "c74f20a3", text)


def test_the_fingerprint_covers_name_and_key():
    key = KEY.verify_key
    assert key.fingerprint.startswith("SHA256:")
    assert len(key.fingerprint) == len("SHA256:") + 43
    assert VerifyKey("another", key.public).fingerprint != key.fingerprint


def damaged_texts(text: str) -> list[str]:
    name, key_id, encoded = text.split("+", 2)
    other = "0" if key_id[0] != "0" else "1"
    return [
        "",
        name,
        f"{name}+{key_id}",
        f"{name}+{other}{key_id[1:]}+{encoded}",
        f"{name}+{key_id.upper()}+{encoded}".replace(key_id, key_id.upper() + "!"),
        f"{name}x+{key_id}+{encoded}",
        f"{name}+{key_id}+{encoded} ",
        f"{name}+{key_id}+{encoded}\n",
        f"{name}+{key_id}+{encoded[:-4]}",
        f"{name}+{key_id}+B{encoded[1:]}",
        f"{name}+{key_id}+{encoded}AAAA",
        f"{name}+{key_id}+é",
    ]


@pytest.mark.parametrize("index", range(12))
def test_damaged_key_text_is_refused(index: int):
    with pytest.raises(InvalidKeyError):
        VerifyKey.from_text(damaged_texts(KEY.verify_key.text)[index])
    secret = KEY.to_text().removeprefix("PRIVATE+KEY+")
    with pytest.raises(InvalidKeyError):
        SigningKey.from_text("PRIVATE+KEY+" + damaged_texts(secret)[index])
    with pytest.raises(InvalidKeyError):
        SigningKey.from_text(secret)


def test_no_message_and_no_repr_shows_the_secret(tmp_path: Path):
    text = KEY.to_text()
    secret = text.split("+", 4)[4]
    assert secret not in repr(KEY)
    assert repr(KEY) == "SigningKey(name='clinic.example/node')"
    path = tmp_path / "key"
    path.write_text(text.replace("+" + KEY.verify_key.key_id.hex(), "+00000000"))
    path.chmod(0o600)
    with pytest.raises(InvalidKeyError, match="key id") as caught:
        SigningKey.load(path)
    assert secret[4:40] not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_saved_key_is_private_and_comes_back(tmp_path: Path):
    path = tmp_path / "key"
    old = os.umask(0)
    try:
        KEY.save(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SigningKey.load(path).verify_key == KEY.verify_key


def test_a_key_file_is_never_overwritten(tmp_path: Path):
    path = tmp_path / "key"
    path.write_text("precious")
    with pytest.raises(InvalidKeyError, match="never overwritten"):
        KEY.save(path)
    assert path.read_text() == "precious"


def test_a_key_in_a_missing_folder_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "missing" / "key"
    with pytest.raises(InvalidKeyError, match=str(path)):
        KEY.save(path)
    with pytest.raises(InvalidKeyError, match=str(path)):
        SigningKey.load(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o777])
def test_a_key_file_open_to_others_is_refused_with_the_remedy(tmp_path: Path, mode: int):
    path = tmp_path / "key"
    KEY.save(path)
    path.chmod(mode)
    with pytest.raises(InvalidKeyError, match=f"chmod 600 {path}"):
        SigningKey.load(path)
    path.chmod(0o400)
    SigningKey.load(path)


def test_what_is_no_key_file_is_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(0o700)
    for name, data in {"binary": b"\xff\xfe", "long": b"x" * 5000, "empty": b""}.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o600)
    for name in ("pipe", "folder", "binary", "long", "empty"):
        with pytest.raises(InvalidKeyError, match=name):
            SigningKey.load(tmp_path / name)
