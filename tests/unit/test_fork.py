"""Two views of one log, and the file that proves them to anybody."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import checkpoint as checkpoints
from ledger import note
from ledger.checkpoint import Checkpoint
from ledger.encoding import b64encode
from ledger.errors import (
    EvidenceError,
    LedgerError,
    NoteError,
    ProofError,
    SignatureError,
    TrustError,
    UnprovenForkError,
)
from ledger.fork import MAX_BYTES, Fork, View, compare, open_fork
from ledger.keys import SigningKey
from ledger.merkle import Tree, leaf_hash
from ledger.tile_tree import TileTree
from ledger.tiles import tile_bytes

KEY = SigningKey.from_seed("log.example/rongshu", b"l" * 32)
THIEF = SigningKey.from_seed("log.example/rongshu", b"t" * 32)
OTHER = SigningKey.from_seed("log.example/other", b"o" * 32)
TRUE = [b"entry %d" % number for number in range(700)]


def lied(at: int, size: int = 700) -> list[bytes]:
    """Entries that differ from the true ones from `at` on."""
    return [*TRUE[:at], *(b"other " + entry for entry in TRUE[at:size])]


def view(entries: list[bytes], key: SigningKey = KEY) -> tuple[bytes, TileTree]:
    tree = Tree.from_leaf_hashes(map(leaf_hash, entries))
    signed = checkpoints.sign(Checkpoint(key.name, tree.size, tree.root()), key)
    return signed, TileTree(tree.size, lambda tile: tile_bytes(tree, tile, lambda _a, _b: ()))


def fork_of(one: list[bytes], other: list[bytes]) -> Fork:
    found = compare(view(one), view(other))
    assert found is not None
    return found


EQUAL = fork_of(TRUE[:18], lied(3, 18))
UNEQUAL = fork_of(TRUE[:18], lied(3, 30))


@pytest.mark.parametrize("fork", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
def test_a_fork_is_proven_with_the_logs_key_alone(fork: Fork):
    data = fork.to_bytes()
    assert Fork.from_bytes(data) == fork
    shown = open_fork(data, KEY.verify_key)
    assert shown.origin == KEY.name
    assert shown.keys == (KEY.verify_key, KEY.verify_key)
    assert shown.index == (None if fork is EQUAL else 3)
    assert [head.size for head in shown.heads] == ([18, 18] if fork is EQUAL else [18, 30])


@pytest.mark.parametrize("fork", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
def test_a_forger_without_the_key_accuses_nobody(fork: Fork):
    with pytest.raises(TrustError):
        open_fork(fork.to_bytes(), THIEF.verify_key)
    with pytest.raises(TrustError):
        open_fork(fork.to_bytes(), OTHER.verify_key)
    first, second = fork.views
    head = second.head
    forged = replace(second, checkpoint=checkpoints.sign(head, THIEF))
    mixed = Fork((first, forged), fork.index).to_bytes()
    with pytest.raises(TrustError):
        open_fork(mixed, KEY.verify_key)
    # A log that changed its key answers for both of them.
    assert open_fork(mixed, KEY.verify_key, THIEF.verify_key).keys[1] == THIEF.verify_key
    unsigned = replace(second, checkpoint=second.checkpoint[:-20] + b"AAAAAAAAAAAAAAAAAAA\n")
    with pytest.raises((SignatureError, NoteError)):
        open_fork(Fork((first, unsigned), fork.index).to_bytes(), KEY.verify_key)


def test_a_key_of_another_log_is_no_witness():
    first, second = (View(note.sign(item.head.text(), [OTHER])) for item in EQUAL.views)
    with pytest.raises(NoteError, match="not of the log"):
        open_fork(Fork((first, second)).to_bytes(), OTHER.verify_key)


@pytest.mark.parametrize("fork", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
def test_no_byte_of_a_fork_proof_can_change(fork: Fork):
    data = fork.to_bytes()
    assert open_fork(data, KEY.verify_key)
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises(LedgerError):
            open_fork(bytes(damaged), KEY.verify_key)


def test_two_honest_views_are_no_fork():
    for one, other in itertools.product((0, 1, 17, 18, 256, 700), repeat=2):
        assert compare(view(TRUE[:one]), view(TRUE[:other])) is None
    assert compare(view([]), view(lied(0))) is None


@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 699))
def test_the_first_difference_is_found(one: int, other: int, at: int):
    found = compare(view(TRUE[:one]), view(lied(at, other)))
    if at >= min(one, other):
        assert found is None
        return
    assert found is not None
    assert found.index == (None if one == other else at)
    assert open_fork(found.to_bytes(), KEY.verify_key)
    assert compare(view(lied(at, other)), view(TRUE[:one])) == found


def test_checkpoints_of_one_size_need_no_trees():
    one, other = view(TRUE[:18]), view(lied(3, 18))
    assert compare((one[0], None), (other[0], None)) == EQUAL
    assert compare((one[0], None), (one[0], None)) is None


def test_checkpoints_of_two_sizes_need_what_is_behind_them():
    small, large = view(TRUE[:18]), view(lied(3, 30))
    assert compare((small[0], None), view(TRUE[:30])) is None
    with pytest.raises(UnprovenForkError, match="two histories"):
        compare((small[0], None), large)
    with pytest.raises(EvidenceError, match="cannot be told"):
        compare(small, (large[0], None))
    assert compare(small, large)


def test_a_damaged_folder_is_no_fork():
    damaged = view(lied(3, 18))[1]
    with pytest.raises(ProofError, match="damaged"):
        compare((view(TRUE[:18])[0], damaged), view(lied(3, 30)))
    with pytest.raises(ProofError, match="damaged"):
        compare(view(TRUE[:18]), (view(lied(3, 30))[0], view(TRUE[:30])[1]))
    assert compare(view(TRUE[:18]), view(lied(3, 30)))


def test_two_logs_are_not_compared():
    with pytest.raises(ProofError, match="two logs"):
        compare(view(TRUE[:18]), view(lied(3, 18), OTHER))


def test_what_shows_no_fork_cannot_be_made():
    first, second = UNEQUAL.views
    honest = view(TRUE[:30])
    same = View(honest[0], leaf_hash(TRUE[3]), honest[1].inclusion(3, 30))
    bare = tuple(replace(item, leaf=None, hashes=()) for item in UNEQUAL.views)
    for views, index in (
        (EQUAL.views[::-1], None),
        (UNEQUAL.views[::-1], 3),
        ((EQUAL.views[0], EQUAL.views[0]), None),
        ((first, same), 3),
        ((first, second), 4),
        ((first, second), 18),
        ((first, second), None),
        (bare, None),
        (bare, 3),
        ((first, replace(second, leaf=first.leaf)), 3),
        ((first, replace(second, hashes=())), 3),
        ((replace(EQUAL.views[0], leaf=bytes(32)), EQUAL.views[1]), None),
        (EQUAL.views, 3),
        ((EQUAL.views[0], View(view(lied(3, 18), OTHER)[0])), None),
    ):
        with pytest.raises(ProofError):
            Fork(views, index)
    assert Fork((first, second), 3) == UNEQUAL


TEXT = UNEQUAL.to_bytes().decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT[:-1],
        TEXT + "\n",
        TEXT.replace("v1", "v2", 1),
        TEXT.replace("index 3", "index 03"),
        TEXT.replace("index 3", "index "),
        TEXT.replace("index 3\n", ""),
        TEXT.replace("leaf ", "Leaf ", 1),
        TEXT.replace("leaf ", "leaf  ", 1),
        TEXT.replace("leaf ", f"leaf YQ==\n{b64encode(bytes(32))}", 1),
        TEXT.replace("leaf ", "leaf YQ==\n", 1),
        TEXT.replace("\n\nleaf ", "\n" + f"{b64encode(bytes(32))}\n" * 64 + "\nleaf ", 1),
        TEXT.replace("index 3\n\n", "index 3\n\n\n"),
        TEXT + TEXT,
    ],
)
def test_another_text_is_no_fork_proof(text: str):
    assert Fork.from_bytes(TEXT.encode())
    with pytest.raises(LedgerError):
        Fork.from_bytes(text.encode())


def test_more_is_not_read_than_belongs():
    with pytest.raises(ProofError, match="longer than"):
        Fork.from_bytes(bytes(MAX_BYTES + 1))
    with pytest.raises(ProofError, match="UTF-8"):
        Fork.from_bytes(b"rongshu/fork-proof/v1\n\n\xff")
