"""Cosignatures of both kinds, against vectors from elsewhere, and the keys that make them."""

import hashlib
import importlib
import importlib.util
import os
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.exceptions import UnsupportedAlgorithm

from ledger import key_files, keys, note
from ledger.checkpoint import Checkpoint, open_checkpoint, sign
from ledger.cosignature import MAX_TIME, attach, cosign, verify_cosignature
from ledger.encoding import b64decode, b64encode
from ledger.errors import InvalidKeyError, NoteError, SignatureError, UnsupportedKeyError
from ledger.keys import (
    COSIGNATURE_ED25519,
    COSIGNATURE_MLDSA,
    CosignatureKey,
    CosigningKey,
    SigningKey,
    VerifyKey,
)
from ledger.note import Signature, split_unverified

VECTORS = Path(__file__).parents[1] / "vectors/ledger/tlog-cosignature"
KINDS = (COSIGNATURE_ED25519, COSIGNATURE_MLDSA)
SEED = bytes(range(32))
LOG = SigningKey.from_seed("log.example", bytes(32))
TIME = 1_679_315_147
SIGNED = sign(Checkpoint("log.example", 7, bytes(range(32)), ("extension",)), LOG)
TEXT = split_unverified(SIGNED)[0]


def cosigner(kind: bytes, name: str = "witness.example/w1") -> CosigningKey:
    return CosigningKey.from_seed(name, SEED, kind)


def line_of(kind: bytes, time: int = TIME) -> Signature:
    note = attach(SIGNED, [cosign(SIGNED, cosigner(kind), time)])
    return split_unverified(note)[1][-1]


# --- vectors


def test_the_mldsa_vector_of_another_implementation_verifies():
    key = CosignatureKey.from_text((VECTORS / "mldsa-log.vkey").read_text().rstrip("\n"))
    text, lines = split_unverified((VECTORS / "mldsa-log.checkpoint").read_bytes())
    assert (key.algorithm, key.key_id.hex()) == (COSIGNATURE_MLDSA, "b5df45c5")
    assert verify_cosignature(text, lines[0], key) == 0
    with pytest.raises(SignatureError):
        verify_cosignature(text.replace("\n1\n", "\n2\n"), lines[0], key)


def test_the_example_of_the_page_is_read_as_the_page_says():
    example = (VECTORS / "c2sp-example.note").read_bytes()
    text, (_, line) = split_unverified(example)
    assert text.startswith("example.com/behind-the-sofa\n20852163\n")
    assert line.key_id.hex() == "8d66cf3f"
    assert (int.from_bytes(line.signature[:8], "big"), len(line.signature)) == (1679315147, 72)


def test_what_an_ed25519_cosigner_signs_is_spelled_out():
    line = line_of(COSIGNATURE_ED25519)
    message = (
        b"cosignature/v1\ntime 1679315147\nlog.example\n7\n"
        + b64encode(bytes(range(32))).encode()
        + b"\nextension\n"
    )
    cosigner(COSIGNATURE_ED25519).verify_key.verify(message, line.signature[8:])
    assert line.signature[:8] == bytes.fromhex("00000000641850cb")


def test_what_an_mldsa_cosigner_signs_is_spelled_out():
    line = line_of(COSIGNATURE_MLDSA)
    message = (
        b"subtree/v1\n\x00\x12witness.example/w1"
        + bytes.fromhex("00000000641850cb")
        + b"\x0blog.example"
        + bytes(8)
        + bytes.fromhex("0000000000000007")
        + bytes(range(32))
    )
    cosigner(COSIGNATURE_MLDSA).verify_key.verify(message, line.signature[8:])


# --- cosignatures


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("time", [0, TIME, MAX_TIME])
def test_a_cosignature_gives_back_its_time(kind: bytes, time: int):
    assert verify_cosignature(TEXT, line_of(kind, time), cosigner(kind).verify_key) == time


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["size", "root", "origin"])
def test_a_cosignature_of_another_head_is_refused(kind: bytes, what: str):
    changes = {"size": ("\n7\n", "\n8\n"), "root": ("AAEC", "AAED"), "origin": ("log.", "lag.")}
    text = TEXT.replace(*changes[what])
    assert text != TEXT
    with pytest.raises(SignatureError):
        verify_cosignature(text, line_of(kind), cosigner(kind).verify_key)


def test_extension_lines_are_covered_by_ed25519_alone():
    other = TEXT.replace("extension", "another")
    with pytest.raises(SignatureError):
        verify_cosignature(
            other, line_of(COSIGNATURE_ED25519), cosigner(COSIGNATURE_ED25519).verify_key
        )
    # The page says so: no statement is made about them.
    key = cosigner(COSIGNATURE_MLDSA).verify_key
    assert verify_cosignature(other, line_of(COSIGNATURE_MLDSA), key) == TIME


@pytest.mark.parametrize("kind", KINDS)
def test_every_changed_byte_of_the_time_and_some_of_the_signature_are_refused(kind: bytes):
    line, key = line_of(kind), cosigner(kind).verify_key
    for position in [*range(16), *range(16, len(line.signature), 97), len(line.signature) - 1]:
        changed = bytearray(line.signature)
        changed[position] ^= 1
        with pytest.raises(SignatureError):
            verify_cosignature(TEXT, Signature(line.name, line.key_id, bytes(changed)), key)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [0, 8, -1, 1])
def test_a_cosignature_of_another_length_is_refused(kind: bytes, length: int):
    line = line_of(kind)
    whole = line.signature + b"\0"
    cut = whole[: len(line.signature) + length] if length in (-1, 1) else whole[:length]
    with pytest.raises(SignatureError, match="length"):
        verify_cosignature(TEXT, Signature(line.name, line.key_id, cut), cosigner(kind).verify_key)


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_in_another_name_is_refused(kind: bytes):
    line, key = line_of(kind), cosigner(kind).verify_key
    for other in (
        Signature("witness.example/w2", line.key_id, line.signature),
        Signature(line.name, bytes(4), line.signature),
    ):
        with pytest.raises(SignatureError, match="not in the name"):
            verify_cosignature(TEXT, other, key)


@pytest.mark.parametrize("kind", KINDS)
def test_a_time_beyond_the_largest_is_neither_written_nor_read(kind: bytes):
    for time in (-1, MAX_TIME + 1):
        with pytest.raises(NoteError, match="time"):
            cosign(SIGNED, cosigner(kind), time)
    line = line_of(kind)
    late = Signature(line.name, line.key_id, b"\x80" + line.signature[1:])
    with pytest.raises(SignatureError, match="time"):
        verify_cosignature(TEXT, late, cosigner(kind).verify_key)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_checkpoint_is_not_cosigned(kind: bytes):
    letter = note.sign("Data stays.\n", [LOG])
    for data in (b"", b"nonsense", SIGNED[:-1], letter):
        with pytest.raises(NoteError):
            cosign(data, cosigner(kind), TIME)


def test_names_longer_than_mldsa_takes_are_refused():
    origin = sign(Checkpoint("o" * 256, 7, bytes(32)), SigningKey.generate("o" * 256))
    with pytest.raises(NoteError, match="origin has 256 bytes"):
        cosign(origin, cosigner(COSIGNATURE_MLDSA), TIME)
    with pytest.raises(NoteError, match="name has 256 bytes"):
        cosign(SIGNED, cosigner(COSIGNATURE_MLDSA, "w" * 256), TIME)
    assert cosign(origin, cosigner(COSIGNATURE_ED25519), TIME)


def test_a_log_signs_with_a_second_key_under_its_own_name():
    second = cosigner(COSIGNATURE_MLDSA, "log.example")
    whole = attach(SIGNED, [cosign(SIGNED, second, 0)])
    assert open_checkpoint(whole, LOG.verify_key).size == 7
    text, lines = split_unverified(whole)
    assert verify_cosignature(text, lines[1], second.verify_key) == 0


def test_only_lines_are_attached():
    line = cosign(SIGNED, cosigner(COSIGNATURE_ED25519), TIME)
    assert attach(SIGNED, []) == SIGNED
    assert attach(SIGNED, [line, line]) == SIGNED + line + line
    for bad in (b"\n", line[:-1], b"text\n", b"\n" + line, b"more\n\n" + line, b"\xff\n"):
        with pytest.raises(NoteError):
            attach(SIGNED, [bad])


# --- keys


@pytest.mark.parametrize("kind", KINDS)
def test_text_forms_round_trip_and_are_those_of_the_page(kind: bytes):
    key = cosigner(kind)
    public = key.verify_key
    name, key_id, encoded = public.text.split("+", 2)
    hashed = hashlib.sha256(name.encode() + b"\n" + kind + public.public).digest()
    assert (key_id, b64decode(encoded)) == (hashed[:4].hex(), kind + public.public)
    assert CosignatureKey.from_text(public.text) == public
    assert CosigningKey.from_text(key.to_text()).verify_key == public
    assert public.fingerprint.startswith("SHA256:")
    assert CosigningKey.generate(name, kind).verify_key != public


def test_keys_of_one_use_are_not_taken_for_another():
    cosigning, signing = cosigner(COSIGNATURE_ED25519), SigningKey.from_seed("w", SEED)
    with pytest.raises(InvalidKeyError, match="0x01"):
        VerifyKey.from_text(cosigning.verify_key.text)
    with pytest.raises(InvalidKeyError, match="0x01"):
        SigningKey.from_text(cosigning.to_text())
    with pytest.raises(InvalidKeyError, match=r"0x04 and 32 bytes.*0x06 and 1312 bytes"):
        CosignatureKey.from_text(signing.verify_key.text)
    with pytest.raises(InvalidKeyError, match="0x06 and 32 bytes"):
        CosigningKey.from_text(signing.to_text())
    for kind in (b"", b"\x01", b"\x05"):
        with pytest.raises(InvalidKeyError, match="algorithm"):
            CosignatureKey("w", kind, signing.verify_key.public)
        with pytest.raises(InvalidKeyError, match="algorithm"):
            CosigningKey.from_seed("w", SEED, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_key_text_is_refused(kind: bytes):
    key = cosigner(kind)
    for read, text in (
        (CosignatureKey.from_text, key.verify_key.text),
        (CosigningKey.from_text, key.to_text()),
    ):
        marked = f"+{key.verify_key.key_id.hex()}+"
        for bad in (
            "",
            text[:-1],
            text + "\n",
            text + "AAAA",
            text.replace(marked, "+00000000+"),
            text.replace(marked, "+0000000+"),
            text.replace("witness.", "another."),
        ):
            with pytest.raises(InvalidKeyError):
                read(bad)


def test_weak_ed25519_cosigners_are_refused():
    for y in (0, 1, 2, 2**255 - 19):
        with pytest.raises(InvalidKeyError):
            CosignatureKey("weak", COSIGNATURE_ED25519, y.to_bytes(32, "little"))


def packed(coefficients: list[int]) -> bytes:
    total = sum(each << (10 * at) for at, each in enumerate(coefficients))
    return bytes(32) + total.to_bytes(1280, "little")


@pytest.mark.parametrize("value", [0, 1023])
def test_degenerate_mldsa_keys_are_refused(value: int):
    key = cosigner(COSIGNATURE_MLDSA).verify_key
    for coefficients in ([value] * 1024, [value] * 1000 + [512] * 24):
        with pytest.raises(InvalidKeyError, match="degenerate"):
            CosignatureKey("weak", COSIGNATURE_MLDSA, packed(coefficients))
    CosignatureKey("fine", COSIGNATURE_MLDSA, packed([value] * 512 + [512] * 512))
    for length in (0, 1311, 1313):
        with pytest.raises(InvalidKeyError, match="1312"):
            CosignatureKey("short", COSIGNATURE_MLDSA, (key.public + b"\0")[:length])


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\n"])
@pytest.mark.parametrize("kind", KINDS)
def test_bad_names_and_seeds_are_refused(kind: bytes, name: str):
    with pytest.raises(InvalidKeyError, match="name"):
        CosigningKey.generate(name, kind)
    with pytest.raises(InvalidKeyError, match="32 bytes"):
        CosigningKey.from_seed("w", SEED[1:], kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_key_is_private_and_comes_back(tmp_path: Path, kind: bytes):
    path, key = tmp_path / "key", cosigner(kind)
    old = os.umask(0)
    try:
        key.save(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert CosigningKey.load(path).verify_key == key.verify_key
    with pytest.raises(InvalidKeyError, match="never overwritten"):
        key.save(path)
    path.chmod(0o640)
    with pytest.raises(InvalidKeyError, match="chmod 600"):
        CosigningKey.load(path)


@pytest.mark.parametrize("kind", KINDS)
def test_no_message_and_no_repr_shows_the_secret(tmp_path: Path, kind: bytes):
    key = cosigner(kind)
    text = key.to_text()
    secret = text.split("+", 4)[4]
    assert secret not in repr(key)
    path = tmp_path / "key"
    path.write_text(text.replace(f"+{key.verify_key.key_id.hex()}+", "+00000000+"))
    path.chmod(0o600)
    with pytest.raises(InvalidKeyError, match="key id") as caught:
        CosigningKey.load(path)
    assert secret[4:40] not in str(caught.value)
    assert str(path) in str(caught.value)


class Without:
    """A library that has the names, and no ML-DSA-44 behind them."""

    @staticmethod
    def from_public_bytes(_data: bytes) -> None:
        raise UnsupportedAlgorithm("no")

    from_seed_bytes = from_public_bytes


@pytest.mark.parametrize(
    "library",
    [None, SimpleNamespace(), SimpleNamespace(MLDSA44PublicKey=Without, MLDSA44PrivateKey=Without)],
    ids=["too old", "other names", "not built in"],
)
def test_a_library_without_mldsa_is_told_apart_from_a_bad_signature(
    monkeypatch: pytest.MonkeyPatch, library: object
):
    line, key = line_of(COSIGNATURE_MLDSA), cosigner(COSIGNATURE_MLDSA)
    monkeypatch.setattr(keys, "mldsa", library)
    public = CosignatureKey.from_text(key.verify_key.text)
    with pytest.raises(UnsupportedKeyError, match="install cryptography"):
        verify_cosignature(TEXT, line, public)
    with pytest.raises(UnsupportedKeyError):
        CosigningKey.from_text(key.to_text())
    # All that Ed25519 keys signed is checked as ever.
    ed25519 = cosigner(COSIGNATURE_ED25519).verify_key
    assert verify_cosignature(TEXT, line_of(COSIGNATURE_ED25519), ed25519) == TIME


def test_keys_are_read_where_the_library_has_no_mldsa_at_all(monkeypatch: pytest.MonkeyPatch):
    package = importlib.import_module("cryptography.hazmat.primitives.asymmetric")
    monkeypatch.delattr(package, "mldsa")
    monkeypatch.setitem(sys.modules, f"{package.__name__}.mldsa", None)
    spec = importlib.util.spec_from_file_location("keys_of_an_older_library", keys.__file__)
    assert spec is not None
    assert spec.loader is not None
    older = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, older)
    spec.loader.exec_module(older)
    text = cosigner(COSIGNATURE_MLDSA).verify_key.text
    with pytest.raises(UnsupportedKeyError, match="install cryptography"):
        older.CosignatureKey.from_text(text).verify(b"", b"")
    assert older.VerifyKey.from_text(LOG.verify_key.text).name == "log.example"


@pytest.mark.parametrize("step", ["fsync", "fdopen"])
def test_a_disk_that_refuses_leaves_no_half_written_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
):
    key, path = cosigner(COSIGNATURE_ED25519), tmp_path / "key"
    if step == "fdopen":
        key.save(path)

    def refuse(*_args: object, **_named: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(key_files.os, step, refuse)
    with pytest.raises(InvalidKeyError, match=r"key file .*: Input/output error"):
        CosigningKey.load(path) if step == "fdopen" else key.save(path)
    monkeypatch.undo()
    assert path.exists() == (step == "fdopen")
