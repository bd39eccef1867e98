"""Signed notes."""

import base64
import json
from pathlib import Path

import pytest

from ledger.errors import NoteError, SignatureError, TrustError
from ledger.keys import SigningKey, VerifyKey
from ledger.note import MAX_BYTES, MAX_SIGNATURES, open_note, sign, split_unverified

CASES = json.loads(
    (Path(__file__).parents[1] / "vectors/ledger/signed-note/signed_note_cases.json").read_bytes()
)
ALICE = SigningKey.from_seed("alice.example", b"a" * 32)
BOB = SigningKey.from_seed("bob.example", b"b" * 32)
TEXT = "first line\n\nafter a blank line: 蓉\n"
NOTE = sign(TEXT, [ALICE, BOB])
REFUSALS = {
    "unverified": TrustError,
    "invalid-signature": SignatureError,
    "malformed": NoteError,
}


def test_all_fourteen_cases_are_here():
    assert len(CASES) == 14


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_case_from_elsewhere(case: dict[str, object]):
    data = base64.b64decode(str(case["note_b64"]))
    keys = [VerifyKey.from_text(text) for text in case["verifier_keys"]]
    if case["verdict"] == "verified":
        note = open_note(data, keys)
        assert len(note.verified) == case["verified_signatures"]
        assert data.startswith(note.text.encode() + b"\n")
    else:
        with pytest.raises(REFUSALS[str(case["verdict"])]):
            open_note(data, keys)


def test_a_note_gives_its_text_and_who_signed():
    note = open_note(NOTE, [BOB.verify_key, ALICE.verify_key])
    assert note.text == TEXT
    assert note.verified == (ALICE.verify_key, BOB.verify_key)
    assert [line.name for line in note.signatures] == ["alice.example", "bob.example"]
    assert open_note(NOTE, [BOB.verify_key]).verified == (BOB.verify_key,)


def test_no_byte_of_a_note_can_change():
    keys = [ALICE.verify_key, BOB.verify_key]
    for position in range(len(NOTE)):
        damaged = bytearray(NOTE)
        damaged[position] ^= 1
        try:
            note = open_note(bytes(damaged), keys)
        except (NoteError, SignatureError, TrustError):
            continue
        # A changed name or key id makes one signature unknown; the other still vouches.
        assert note.text == TEXT
        assert len(note.verified) == 1


def test_every_truncation_is_refused():
    one = sign(TEXT, [ALICE])
    assert open_note(one, [ALICE.verify_key])
    for length in range(len(one)):
        with pytest.raises((NoteError, TrustError)):
            open_note(one[:length], [ALICE.verify_key])


def test_a_key_that_shares_only_the_name_is_unknown():
    impostor = SigningKey.from_seed(ALICE.name, b"i" * 32)
    with pytest.raises(TrustError, match=r"alice\.example"):
        open_note(sign(TEXT, [impostor]), [ALICE.verify_key])
    assert open_note(sign(TEXT, [impostor, ALICE]), [ALICE.verify_key])


def test_a_later_bad_signature_of_a_known_key_spoils_the_note():
    good = sign(TEXT, [ALICE])
    line = good.decode().splitlines()[-1]
    bad_line = sign("another\n", [ALICE]).decode().splitlines()[-1]
    assert open_note(good + line.encode() + b"\n", [ALICE.verify_key]).verified == (
        ALICE.verify_key,
    )
    with pytest.raises(SignatureError):
        open_note(good + bad_line.encode() + b"\n", [ALICE.verify_key])


def test_keys_that_share_name_and_id_are_refused():
    # A 32-bit id can be met by search; that the two differ is what matters here.
    twin = VerifyKey(ALICE.name, BOB.verify_key.public)
    twin.__dict__["key_id"] = ALICE.verify_key.key_id
    with pytest.raises(NoteError, match="share the id"):
        open_note(NOTE, [ALICE.verify_key, twin])
    assert open_note(NOTE, [ALICE.verify_key, ALICE.verify_key])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("— alice", "- alice"),
        ("— alice", "—  alice"),
        ("— alice", "—\u00a0alice"),
        ("— alice", "— al+ice"),
        ("— alice", "— al\u2003ice"),
        ("— alice.example", "— "),
        ("— alice.example", "—"),
        ("— alice", "\n— alice"),
        ("— bob", "\r— bob"),
        ("— bob", "— bob.example AAAA\n— bob"),
        ("— bob", "— bob.example AAAAAA==\n— bob"),
        ("— bob", "— bob.example \n— bob"),
        ("first", "fi\trst"),
        ("first", "fi\x00rst"),
        ("=\n", "\n"),
        ("=\n", "==\n"),
        ("\n\n— ", "\n— "),
    ],
)
def test_other_forms_are_refused(old: str, new: str):
    whole = NOTE.decode()
    assert old in whole
    with pytest.raises((NoteError, TrustError, SignatureError)):
        open_note(whole.replace(old, new, 1).encode(), [ALICE.verify_key])


def test_sizes_are_bounded():
    line = NOTE.decode().splitlines()[-1] + "\n"
    head = "text\n\n"
    assert len(split_unverified((head + line * MAX_SIGNATURES).encode())[1]) == MAX_SIGNATURES
    with pytest.raises(NoteError, match="signatures"):
        split_unverified((head + line * (MAX_SIGNATURES + 1)).encode())
    with pytest.raises(NoteError, match="longer"):
        split_unverified(b"x" * (MAX_BYTES + 1))
    with pytest.raises(NoteError, match="longer"):
        sign("x" * MAX_BYTES + "\n", [ALICE])


@pytest.mark.parametrize("text", ["", "no newline", "tab\t\n", "nul\0\n", "return\r\n", "\ud800\n"])
def test_texts_that_no_note_can_hold_are_not_signed(text: str):
    with pytest.raises(NoteError):
        sign(text, [ALICE])


def test_a_note_needs_different_keys():
    for keys in ([], [ALICE, ALICE], [ALICE] * (MAX_SIGNATURES + 1)):
        with pytest.raises(NoteError):
            sign(TEXT, keys)


def test_a_note_without_known_keys_is_not_trusted():
    with pytest.raises(TrustError):
        open_note(NOTE, [])
