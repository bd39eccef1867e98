"""Vectors from elsewhere: each folder is run by some test, and logs of others are read whole."""

from pathlib import Path

import pytest

from ledger import proof as proofs
from ledger.errors import NoteError, ProofError, SignatureError, TrustError
from ledger.keys import VerifyKey
from ledger.merkle import leaf_hash
from ledger.note import open_note
from ledger.tile_tree import TileTree
from ledger.tiles import Tile
from ledger.trust import Policy

TESTS = Path(__file__).resolve().parents[1]
VECTORS = TESTS / "vectors" / "ledger"
TESSERA = VECTORS / "tlog-tiles-tessera"
SUMDB = VECTORS / "go-sumdb"
# Which test runs the vectors of a folder, all of them.
RUN_BY = {
    "export-v1": "conformance/test_golden_exports.py",
    "go-sumdb": "conformance/test_vectors.py",
    "jcs": "unit/test_encoding.py",
    "rfc6962-merkle": "unit/test_merkle.py",
    "signed-note": "unit/test_note.py",
    "tlog-cosignature": "unit/test_cosignature.py",
    "tlog-tiles-tessera": "unit/test_checkpoint.py",
    "wycheproof": "unit/test_keys.py",
}


def test_every_folder_of_vectors_is_run():
    assert {path.name for path in VECTORS.iterdir() if path.is_dir()} == set(RUN_BY)
    for name, test in RUN_BY.items():
        assert name in (TESTS / test).read_text()
    listed = (VECTORS / "PROVENANCE.md").read_text()
    for name in RUN_BY:
        assert f"`{name}" in listed


def tessera_key() -> VerifyKey:
    return VerifyKey.from_text((TESSERA / "log.vkey.txt").read_text().strip())


def read(tile: Tile) -> bytes:
    return (TESSERA / tile.path).read_bytes()


@pytest.mark.parametrize("size", range(1, 9))
def test_a_log_of_others_is_trusted_by_policy_and_proven_from_its_tiles(size: int):
    policy = Policy.of(tessera_key())
    signed = (TESSERA / f"checkpoint.{size}").read_bytes()
    head = policy.open_checkpoint(signed).checkpoint
    tree = TileTree(head.size, read)
    assert tree.root() == head.root
    for smaller in range(1, size + 1):
        older = policy.open_checkpoint((TESSERA / f"checkpoint.{smaller}").read_bytes())
        assert tree.root(smaller) == older.checkpoint.root
    for index in range(size):
        entry = tree.entry(index)
        proof = proofs.Proof(index, tree.inclusion(index, size), signed)
        read_back = proofs.Proof.from_bytes(proof.to_bytes())
        assert read_back.verify(entry, policy).checkpoint == head
        with pytest.raises(ProofError):
            read_back.verify(entry + b" ", policy)
        if size > 1:
            other = proofs.Proof((index + 1) % size, proof.hashes, signed)
            with pytest.raises(ProofError):
                other.verify(entry, policy)


def test_a_checkpoint_of_the_empty_log_is_trusted():
    signed = (TESSERA / "checkpoint.0").read_bytes()
    head = Policy.of(tessera_key()).open_checkpoint(signed).checkpoint
    assert TileTree(0, read).root() == head.root
    with pytest.raises(ProofError):
        proofs.Proof(0, (), signed).verify(leaf_hash(b""), Policy.of(tessera_key()))


def test_a_tree_head_of_the_go_checksum_database_verifies():
    key = VerifyKey.from_text((SUMDB / "key.vkey").read_text().strip())
    data = (SUMDB / "6476701.note").read_bytes()
    assert open_note(data, [key]).text.startswith("go.sum database tree\n6476701\n")
    with pytest.raises(SignatureError):
        open_note(data.replace(b"6476701", b"6476702"), [key])
    with pytest.raises(TrustError):
        open_note(data, [tessera_key()])
    # Its origin is not its key's name: not a log that a policy could name.
    with pytest.raises(NoteError, match="is not the name of the key"):
        Policy.of(key).open_checkpoint(data)
