"""What a log notes of its own entries, and what it believes of such notes."""

from pathlib import Path

import pytest

from ledger import note, verified
from ledger.checkpoint import Checkpoint
from ledger.errors import LogError
from ledger.keys import SigningKey
from ledger.merkle import Tree, leaf_hash
from ledger.verified import FILE, HEADING, Record, Verified

KEY = SigningKey.generate("log.example")


def tree_of(*leaves: bytes) -> Tree:
    return Tree.from_leaf_hashes(leaf_hash(leaf) for leaf in leaves)


TREE = tree_of(b"a", b"b", b"c")


def test_what_was_noted_is_read(tmp_path: Path):
    record = Record(tmp_path, KEY)
    assert record.read() == Verified()
    record.note(TREE, 2, ())
    assert record.read() == Verified(Checkpoint("log.example", 2, TREE.root(2)))
    record.note(TREE, 3, (0, 2))
    known = record.read()
    assert known == Verified(Checkpoint("log.example", 3, TREE.root(3)), frozenset({0, 2}))
    assert [known.vouches_for(index) for index in range(4)] == [False, True, False, False]


def test_more_findings_than_are_noted_leave_the_older_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(verified, "MAX_BROKEN", 1)
    record = Record(tmp_path, KEY)
    record.note(TREE, 2, (1,))
    record.note(TREE, 3, (1, 2))
    assert (record.read().size, record.read().broken) == (2, {1})


def test_the_most_findings_that_are_noted_fit_into_a_note(tmp_path: Path):
    record = Record(tmp_path, KEY)
    broken = range(2**53 - 1 - verified.MAX_BROKEN, 2**53 - 1)
    record.note(TREE, 3, broken)
    assert record.read().broken == frozenset(broken)


HEAD = Checkpoint("log.example", 3, TREE.root()).text()


@pytest.mark.parametrize(
    "text",
    [
        HEAD,
        f"rongshu/verified/v2\n{HEAD}",
        f"{HEADING}\n{HEAD}\n",
        f"{HEADING}\n{HEAD}1,2\n",
        f"{HEADING}\n{HEAD} 1\n",
        f"{HEADING}\n{HEAD}1\n2\n",
        f"{HEADING}\nlog.example\n3\nnonsense\n",
    ],
)
def test_other_notes_of_the_log_say_nothing(tmp_path: Path, text: str):
    path, record = tmp_path / FILE, Record(tmp_path, KEY)
    path.write_bytes(note.sign(text, [KEY]))
    assert record.read() == Verified()
    # The twin.
    path.write_bytes(note.sign(f"{HEADING}\n{HEAD}1 2\n", [KEY]))
    assert record.read().broken == {1, 2}


def test_only_the_log_itself_is_believed(tmp_path: Path):
    record = Record(tmp_path, KEY)
    Record(tmp_path, SigningKey.generate("log.example")).note(TREE, 3, ())
    assert record.read() == Verified()
    record.note(TREE, 3, (1,))
    written = (tmp_path / FILE).read_bytes()
    assert record.read().size == 3
    (tmp_path / FILE).write_bytes(written.replace(b"\n1\n", b"\n2\n"))
    assert record.read() == Verified()


def test_a_note_is_of_one_history(tmp_path: Path):
    record = Record(tmp_path, KEY)
    record.note(TREE, 2, ())
    known = record.read()
    for tree in (tree_of(b"a", b"b"), TREE):
        known.check(tree)
    for tree in (tree_of(), tree_of(b"a"), tree_of(b"a", b"x", b"c")):
        with pytest.raises(LogError, match=r"does not match the 2 entries.*Restore the newest"):
            known.check(tree)
        # The twin: nothing known, nothing contradicted.
        Verified().check(tree)
