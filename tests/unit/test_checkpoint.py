"""Checkpoints, and a real log that nobody here wrote."""

from pathlib import Path

import pytest

from ledger import checkpoint as checkpoints
from ledger import note
from ledger.checkpoint import Checkpoint, open_checkpoint, parse
from ledger.errors import NoteError, SignatureError, TrustError
from ledger.keys import SigningKey, VerifyKey
from ledger.merkle import EMPTY_ROOT, Tree, leaf_hash, root, verify_consistency, verify_inclusion

LOG = Path(__file__).parents[1] / "vectors/ledger/tlog-tiles-tessera"
KEY = SigningKey.from_seed("log.example/rongshu", b"l" * 32)
ROOT = leaf_hash(b"entry")
HEAD = Checkpoint("log.example/rongshu", 1, ROOT)
TEXT = HEAD.text()
ROOT_LINE = TEXT.split("\n")[2]


def tessera_head(size: int) -> Checkpoint:
    key = VerifyKey.from_text((LOG / "log.vkey.txt").read_text().strip())
    return open_checkpoint((LOG / f"checkpoint.{size}").read_bytes(), key)


def tessera_tile(size: int) -> list[bytes]:
    data = (LOG / f"tile/0/000.p/{size}").read_bytes()
    return [data[at : at + 32] for at in range(0, len(data), 32)]


def tessera_entries(size: int) -> list[bytes]:
    """Split a bundle: each entry follows its length in two bytes, big end first."""
    data = (LOG / f"tile/entries/000.p/{size}").read_bytes()
    entries = []
    while data:
        stop = 2 + int.from_bytes(data[:2], "big")
        entries.append(data[2:stop])
        data = data[stop:]
    return entries


@pytest.mark.parametrize("size", range(1, 9))
def test_tessera_root_follows_from_tile_and_from_entries(size: int):
    head = tessera_head(size)
    assert head.size == size
    assert len(tessera_tile(size)) == len(tessera_entries(size)) == size
    assert head.root == root(tessera_tile(size))
    assert head.root == root(leaf_hash(entry) for entry in tessera_entries(size))


def test_tessera_empty_log():
    assert tessera_head(0) == Checkpoint("example.com/log/testdata", 0, EMPTY_ROOT)


def test_tessera_history_is_one():
    tree = Tree.from_leaf_hashes(tessera_tile(8))
    for new in range(1, 9):
        head = tessera_head(new)
        for old in range(1, new + 1):
            proof = tree.consistency(old, new)
            verify_consistency(old, new, proof, tessera_head(old).root, head.root)
        for index in range(new):
            leaf = leaf_hash(tessera_entries(new)[index])
            verify_inclusion(leaf, index, new, tree.inclusion(index, new), head.root)


def test_a_checkpoint_of_another_key_is_not_trusted():
    data = (LOG / "checkpoint.8").read_bytes()
    with pytest.raises(TrustError):
        open_checkpoint(data, KEY.verify_key)
    same_name = SigningKey.from_seed("example.com/log/testdata", b"x" * 32)
    with pytest.raises(TrustError):
        open_checkpoint(data, same_name.verify_key)


@pytest.mark.parametrize("extensions", [(), ("one",), ("one", "two words 蓉")], ids=repr)
def test_round_trip_keeps_every_line(extensions: tuple[str, ...]):
    head = Checkpoint(KEY.name, 2**63 - 1, ROOT, extensions)
    assert parse(head.text()) == head
    assert open_checkpoint(checkpoints.sign(head, KEY), KEY.verify_key) == head


@pytest.mark.parametrize(
    "size",
    ["", "+1", "-1", "01", "00", " 1", "1 ", "1.0", "1e3", "0x1", "1_0", "١", "9" * 19, "9" * 30],
)
def test_sizes_in_another_form_are_refused(size: str):
    assert parse(TEXT)
    with pytest.raises(NoteError, match="size"):
        parse(f"{KEY.name}\n{size}\n{ROOT_LINE}\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        TEXT[:-1],
        TEXT.split("\n", 1)[1],
        f"\n1\n{ROOT_LINE}\n",
        f"{KEY.name}\n1\n\n",
        f"{KEY.name}\n1\n{ROOT_LINE} \n",
        f"{KEY.name}\n1\n{ROOT_LINE[:-1]}\n",
        f"{KEY.name}\n1\n{'A' * 40}\n",
        f"{KEY.name}\n1\n{'A' * 44}\n",
        f"{KEY.name}\n0\n{ROOT_LINE}\n",
        TEXT + "\n",
        TEXT + "one\n\ntwo\n",
        TEXT + "one",
        TEXT.replace("\n", "\r\n"),
    ],
    ids=repr,
)
def test_other_texts_are_refused(text: str):
    with pytest.raises(NoteError):
        parse(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ("", 1, ROOT),
        ("two\nlines", 1, ROOT),
        ("log", -1, ROOT),
        ("log", 2**63, ROOT),
        ("log", 1, ROOT[:31]),
        ("log", 0, ROOT),
        ("log", 1, ROOT, ("",)),
        ("log", 1, ROOT, ("a\nb",)),
    ],
    ids=repr,
)
def test_a_head_that_cannot_be_written_is_refused(arguments: tuple[object, ...]):
    with pytest.raises(NoteError):
        Checkpoint(*arguments)


def test_origin_must_be_the_name_of_the_key():
    other = Checkpoint("log.example/other", 1, ROOT)
    with pytest.raises(NoteError, match="origin"):
        checkpoints.sign(other, KEY)
    # The same key, tricked into signing the text of another log, is still refused on reading.
    with pytest.raises(NoteError, match="origin"):
        open_checkpoint(note.sign(other.text(), [KEY]), KEY.verify_key)


def test_a_changed_head_is_refused():
    data = checkpoints.sign(HEAD, KEY)
    assert open_checkpoint(data, KEY.verify_key) == HEAD
    with pytest.raises(SignatureError):
        open_checkpoint(data.replace(b"\n1\n", b"\n2\n", 1), KEY.verify_key)


def test_a_note_that_is_no_checkpoint_is_refused():
    with pytest.raises(NoteError):
        open_checkpoint(note.sign("hello\n", [KEY]), KEY.verify_key)
